"""What a supervisor is told about its children, and the pure decisions of OTP: what restarts, with whom, how often."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from skill_actors.runtime.exit import ExitReason

if TYPE_CHECKING:
    from skill_actors.runtime.actor import TrioActor
    from skill_actors.runtime.thread import ThreadActor

__all__ = [
    "BRUTAL_KILL",
    "AutoShutdown",
    "Backoff",
    "BrutalKill",
    "ChildInfo",
    "ChildSpec",
    "Restart",
    "RestartBudget",
    "Strategy",
    "affected",
    "ends_supervisor",
    "wants_restart",
]

C = TypeVar("C")

DEFAULT_SHUTDOWN_S: Final = 5.0
DEFAULT_START_TIMEOUT_S: Final = 5.0


class Strategy(Enum):
    """Who is restarted when a child ends."""

    ONE_FOR_ONE = "one_for_one"  # the child
    ONE_FOR_ALL = "one_for_all"  # all children
    REST_FOR_ONE = "rest_for_one"  # the child and those started after it


class Restart(Enum):
    """When a child is restarted."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # after an abnormal exit
    TEMPORARY = "temporary"  # never; it is forgotten


class AutoShutdown(Enum):
    """When a supervisor ends because its significant children have ended by themselves."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"  # one of them is enough
    ALL_SIGNIFICANT = "all_significant"  # the last of them


class BrutalKill(Enum):
    """Type of BRUTAL_KILL."""

    BRUTAL_KILL = "brutal_kill"


BRUTAL_KILL: Final = BrutalKill.BRUTAL_KILL
"""As `shutdown_s`: kill at once, without on_stop and teardown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before a restart: `initial_s`, then `factor` times more each time, at most `max_s` seconds.

    A child that has served for `reset_s` seconds begins anew.

    Raises:
        ValueError: if a value is out of range.

    """

    initial_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    reset_s: float = 60.0

    def __post_init__(self) -> None:
        if not (0 < self.initial_s <= self.max_s and self.factor >= 1 and self.reset_s >= 0):
            raise ValueError(f"{self}: needs 0 < initial_s <= max_s, factor >= 1, reset_s >= 0")

    def delay_s(self, attempt: int) -> float:
        """Seconds to wait before restart number `attempt`, counted from 0."""
        try:
            return min(self.max_s, self.initial_s * self.factor**attempt)
        except OverflowError:
            return self.max_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """How a supervisor makes and ends one child.

    Args:
        id: unique within the supervisor; a label of metrics, so it must not grow with use.
        factory: makes a new actor for every start. Called on the trio thread.
        restart: when to make it again.
        shutdown_s: seconds between the request to stop and the kill; inf for no kill; BRUTAL_KILL for nothing but
            the kill. None: 5, and inf for a supervisor.
        start_timeout_s: seconds for `setup`. None: 5, and inf for a supervisor, whose children have their own.
        name: name in the system's Directory while it serves.
        isolated: a child nobody must suffer from: restarted with `backoff` for ever, also when its first start
            fails; never counted, never escalated, and never a reason to restart its siblings.
        required: whether a failed first start of an isolated child is its supervisor's, as with any other child.
        backoff: waits between the restarts of an isolated child.
        significant: its own end, if that is for good, may end its supervisor: see AutoShutdown.

    Raises:
        ValueError: if `id` is empty, a time is negative or NaN, an isolated child is TEMPORARY or significant, a
            significant one is PERMANENT (its end is never for good), or a required one is not isolated.

    """

    id: str
    factory: Callable[[], TrioActor | ThreadActor]
    restart: Restart = Restart.PERMANENT
    shutdown_s: float | BrutalKill | None = None
    start_timeout_s: float | None = None
    name: str | None = None
    isolated: bool = False
    required: bool = False
    backoff: Backoff = Backoff()
    significant: bool = False

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("a child needs an id")
        if self.isolated and self.restart is Restart.TEMPORARY:
            raise ValueError(f"child {self.id!r} is isolated and temporary: isolated means restarted for ever")
        if self.significant and (self.isolated or self.restart is Restart.PERMANENT):
            kind = "isolated" if self.isolated else "permanent"
            raise ValueError(f"child {self.id!r} is significant and {kind}: its end is never for good")
        if self.required and not self.isolated:
            raise ValueError(f"child {self.id!r} is required but not isolated: it is required anyway")
        for field, value in (("shutdown_s", self.shutdown_s), ("start_timeout_s", self.start_timeout_s)):
            if isinstance(value, int | float) and not value >= 0:
                raise ValueError(f"{field} of child {self.id!r} is {value}; it must be 0 or more seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildInfo:
    """A child as it is now.

    Args:
        id: spec id, or the id it was spawned with under a dynamic supervisor.
        template: bounded label: spec id, or the dynamic supervisor's template.
        path: labels from the root, joined by slashes.
        phase: new, starting, running, closing, dead; "waiting" for a restart, "stopped" if there is none.
        restarts: how often it was started again.
        mailbox_depth: messages that wait.
        children: under a supervisor, in start order; None for a worker.
        strategy: a supervisor's Strategy, or "dynamic"; None for a worker.
        restart: its Restart type.
        isolated: whether it is restarted for ever.
        oldest_message_s: seconds for which its oldest message has waited or been handled, at least; 0 if there is none.
        pid: the operating system's process that it keeps, if any.
        children_total: how many children there are, where `children` shows some of them only.

    """

    id: str
    template: str
    path: str
    actor_class: str
    phase: str
    restarts: int
    mailbox_depth: int
    ref: Any = None
    children: tuple[ChildInfo, ...] | None = None
    strategy: str | None = None
    restart: str = Restart.TEMPORARY.value
    isolated: bool = False
    oldest_message_s: float = 0.0
    pid: int | None = None
    children_total: int = 0


def wants_restart(restart: Restart, reason: ExitReason) -> bool:
    """Whether a child of this type that ended so is started again."""
    return restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and reason.abnormal)


def ends_supervisor(mode: AutoShutdown, spec: ChildSpec, others_run: bool) -> bool:
    """Whether a child that has ended by itself, for good, takes its supervisor along.

    Args:
        others_run: whether another significant child is there, or waits for its restart.

    """
    if not spec.significant or mode is AutoShutdown.NEVER:
        return False
    return mode is AutoShutdown.ANY_SIGNIFICANT or not others_run


def affected(strategy: Strategy, children: Sequence[C], child: C) -> Sequence[C]:
    """The children that are restarted together with `child`, itself included, in start order."""
    if strategy is Strategy.ONE_FOR_ONE:
        return (child,)
    return children if strategy is Strategy.ONE_FOR_ALL else children[children.index(child) :]


class RestartBudget:
    """How many restarts a supervisor tolerates, as OTP counts them: those at most `period_s` old, and the new one.

    Raises:
        ValueError: if `max_restarts` is negative or `period_s` not positive.

    """

    def __init__(self, max_restarts: int, period_s: float) -> None:
        if max_restarts < 0 or not 0 < period_s < math.inf:
            raise ValueError(f"max_restarts must be >= 0 and period_s > 0 seconds, not {max_restarts} in {period_s}")
        self.max_restarts = max_restarts
        self.period_s = period_s
        self._times: deque[float] = deque()

    def spend(self, now: float) -> bool:
        """Count a restart at `now` seconds; False if that is one too many."""
        while self._times and self._times[0] < now - self.period_s:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self.max_restarts

    def __str__(self) -> str:
        return f"{self.max_restarts} restarts in {self.period_s:g} s"
