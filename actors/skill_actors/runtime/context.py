"""What all actors of one system share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from skill_actors.runtime.directory import Directory
from skill_actors.runtime.report import Reports

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One per system. `abort(error)` asks for an ordered shutdown that ends with `error`, such as a SystemExit."""

    directory: Directory
    reports: Reports
    token: trio.lowlevel.TrioToken
    thread_id: int
    abort: Callable[[BaseException], None]
