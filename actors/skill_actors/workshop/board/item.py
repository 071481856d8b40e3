"""One piece of work on a board: what is to be done, how far it is, who has it, and all that became of it.

    new (waits for others) -> ready -> claimed -> in_progress -> done
    failed, cancelled: ended without being done; retried they are new, ready or blocked again
    blocked: something it waits for, however far away, has failed or was cancelled

Values only; `rules` says what may become of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

__all__ = [
    "DEFAULT_TYPES",
    "ENDED",
    "HELD",
    "STATUSES",
    "WAITING",
    "Item",
    "Lease",
    "Status",
    "Step",
    "Verification",
    "item_from_dict",
]

Status = Literal["new", "ready", "claimed", "in_progress", "done", "failed", "blocked", "cancelled"]

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
WAITING: Final[frozenset[Status]] = frozenset({"new", "ready", "blocked"})
HELD: Final[frozenset[Status]] = frozenset({"claimed", "in_progress"})
ENDED: Final[frozenset[Status]] = frozenset({"done", "failed", "cancelled"})
DEFAULT_TYPES: Final = ("code", "review", "test", "docs", "deploy", "triage", "custom")

_MAX_STEPS: Final = 50
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Somebody's right to work on an item, for as long as it is renewed.

    Args:
        token: known to the holder alone; who shows it may say what became of the work.
        holder: a name, for people.
        lease_s: seconds from the claim, or from the last heartbeat, until it is taken back.
        worker: whether it is a board worker's: that takes its item up again after a restart.

    """

    token: str = field(repr=False)
    holder: str
    lease_s: float
    worker: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of state. `attempt` counts the claims; `note` is a reason, a holder, or empty."""

    time: str
    status: Status
    attempt: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What has to hold before an item is done. Both, where both are given.

    Args:
        argv: a command that must end with 0, run as it is and without a shell where the work was done.
        timeout_s: seconds that it may take.
        schema: what the answer has to be, as JSON.

    """

    argv: tuple[str, ...] = ()
    timeout_s: float = 300.0
    schema: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As a client gives it."""
        command = {"argv": list(self.argv), "timeout_s": self.timeout_s} if self.argv else {}
        return command if self.schema is None else {**command, "schema": dict(self.schema)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A piece of work as it is stored.

    Args:
        id: unique on its owner's board.
        spec: what is to be done, in full.
        priority: 1 (first) to 5.
        depends_on: ids of those that must be done before.
        agent: who alone takes it unasked, by the name of an agent, a worker or a profile; None: anybody.
        attempts: claims so far, since it was added or last retried.
        max_attempts: after so many that did not succeed it has failed.
        due: until when it should be done, RFC 3339; nothing happens then, but lists tell.
        verify: None: what its holder says counts.
        meta: of whoever added it; the board does not look inside.
        result: what its holder answered, and `structured` the same as JSON where it is.
        error: why the last attempt, or the whole item, did not succeed.
        turn: of the last attempt, where that is a turn of an agent.
        worktree: the folder that this attempt works in, where it has one of its own.
        steps: changes of its state, the last 50.

    """

    id: str
    title: str
    spec: str = ""
    type: str = "custom"
    priority: int = 3
    status: Status = "new"
    depends_on: tuple[str, ...] = ()
    agent: str | None = None
    attempts: int = 0
    max_attempts: int = 3
    due: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    verify: Verification | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    updated: str = ""
    claimed: str | None = None
    started: str | None = None
    ended: str | None = None
    lease: Lease | None = None
    result: str | None = None
    structured: Any = None
    error: str | None = None
    turn: str | None = None
    worktree: str | None = None
    steps: tuple[Step, ...] = ()

    @property
    def rank(self) -> tuple[int, str, str]:
        """Lower ones are taken first."""
        return self.priority, self.created, self.id

    @property
    def size_chars(self) -> int:
        """Roughly what it takes to keep."""
        texts = (self.title, self.spec, self.result or "", self.error or "")
        return 1000 + sum(map(len, texts)) + (len(str(self.meta)) if self.meta else 0)

    def to_dict(self) -> dict[str, Any]:
        """As it is stored, without what is empty; the token of its lease is in it."""
        stored = {name: value for name, value in self.view().items() if value not in _EMPTY}
        del stored["history"]
        stored.pop("claimed_by", None)
        stored["steps"] = [[step.time, step.status, step.attempt, step.note] for step in self.steps]
        if self.structured is not None:
            stored["structured"] = self.structured  # also an empty one
        if self.lease is not None:
            stored["lease"] = {**stored["lease"], "token": self.lease.token, "worker": self.lease.worker}
        return stored

    def view(self) -> dict[str, Any]:
        """As a client sees it."""
        lease = None if self.lease is None else {"holder": self.lease.holder, "lease_s": self.lease.lease_s}
        return {
            "id": self.id,
            "title": self.title,
            "spec": self.spec,
            "type": self.type,
            "priority": self.priority,
            "status": self.status,
            "depends_on": list(self.depends_on),
            "agent": self.agent,
            "attempts": self.attempts,
            "max_attempts": self.max_attempts,
            "due": self.due,
            "labels": dict(self.labels),
            "verify": None if self.verify is None else self.verify.to_dict(),
            "meta": dict(self.meta),
            "created": self.created,
            "updated": self.updated,
            "claimed": self.claimed,
            "started": self.started,
            "ended": self.ended,
            "claimed_by": None if self.lease is None else self.lease.holder,
            "lease": lease,
            "result": self.result,
            "structured": self.structured,
            "error": self.error,
            "turn": self.turn,
            "worktree": self.worktree,
            "history": [
                {"time": step.time, "status": step.status, "attempt": step.attempt, "note": step.note}
                for step in self.steps
            ],
        }

    def stepped(self, status: Status, now: str, note: str = "") -> tuple[Step, ...]:
        """Its steps and this one."""
        return (*self.steps, Step(time=now, status=status, attempt=self.attempts, note=note))[-_MAX_STEPS:]


def item_from_dict(data: Mapping[str, Any]) -> Item:
    """What `to_dict` gave. Raises KeyError, TypeError or ValueError if it cannot be that."""
    if data["status"] not in STATUSES:
        raise ValueError(f"item {data['id']!r} has the status {data['status']!r}")
    lease, verify = data.get("lease"), data.get("verify")
    read = {
        "depends_on": tuple(data.get("depends_on", ())),
        "lease": None if lease is None else Lease(**lease),
        "verify": None if verify is None else Verification(**{**verify, "argv": tuple(verify.get("argv", ()))}),
        "steps": tuple(
            Step(time=time, status=status, attempt=attempt, note=note) for time, status, attempt, note in data["steps"]
        ),
    }
    return Item(**{**data, **read})
