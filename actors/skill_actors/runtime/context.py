"""What all actors of one system share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from skill_actors.runtime.deadlines import Deadlines
from skill_actors.runtime.directory import Directory
from skill_actors.runtime.report import Reports
from skill_actors.runtime.tally import Tally

__all__ = ["Context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One per system. `abort(error)` asks for an ordered shutdown that ends with `error`, such as a SystemExit."""

    directory: Directory
    reports: Reports
    token: trio.lowlevel.TrioToken
    thread_id: int
    abort: Callable[[BaseException], None]
    deadlines: Deadlines = field(default_factory=Deadlines)
    tally: Tally = field(default_factory=Tally)
