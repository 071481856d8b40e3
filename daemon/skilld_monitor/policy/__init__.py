"""What may not go to a model or a tool: the daemon's rules, applied in the program before the call.

`guard.before_call` and `guard.before_tool` are called where a call begins. They cost a look at one attribute while no
rule redacts or blocks.
"""

from __future__ import annotations

from skilld_monitor.policy.errors import BlockedError

__all__ = ["BlockedError"]
