"""What comes of looking into a batch before it is stored: the batch, masked, and what was found in it. No I/O.

Who looks is passed in, so that store and socket know nothing of rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from skilld.monitor.batch import Batch

__all__ = ["NO_POLICY", "Finding", "Found", "Inspected", "Inspection", "NoInspection", "Origin", "policy_line"]

NO_POLICY: Final[Mapping[str, Any]] = {
    "version": "none",
    "mode": "observe",
    "fail": "open",
    "dry_run": False,
    "rules": [],
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent it, by the kernel's word."""

    uid: int
    pid: int


class Finding(Protocol):
    """What a rule found, as `skilld_monitor.scanning.Finding` says it."""

    @property
    def rule(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def alert(self) -> str: ...
    @property
    def confidence(self) -> float: ...
    @property
    def direction(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A finding in a batch.

    Args:
        index: in the batch's events.
        sample: of the text around it, with everything that any rule masks masked; it is stored and shown.

    """

    index: int
    finding: Finding
    sample: str = ""


class Inspected(NamedTuple):
    """A batch that may be stored, with what was found in it."""

    batch: Batch
    findings: tuple[Found, ...] = ()


class Inspection(Protocol):
    """Who looks into what programs report."""

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        """Look into a batch, and mask it. Runs in a thread; what it raises puts aside the events that it raises for."""
        ...

    def policy_for(self, agent: str) -> Mapping[str, Any]:
        """What this program has to do itself before its calls: version, mode, fail, dry_run, rules. Does not wait."""
        ...

    def policy_line(self, agent: str) -> bytes:
        """The same as it is sent, made once: it may have all rules in it. Does not wait."""
        ...


class NoInspection:
    """Looks at nothing and asks for nothing."""

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        return Inspected(batch)

    def policy_for(self, agent: str) -> Mapping[str, Any]:
        return NO_POLICY

    def policy_line(self, agent: str) -> bytes:
        return policy_line(NO_POLICY)


def policy_line(policy: Mapping[str, Any]) -> bytes:
    """A policy as it is sent to a program."""
    return json.dumps({"policy": policy}).encode() + b"\n"
