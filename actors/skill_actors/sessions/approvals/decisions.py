"""What approvers say, as JSON and as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from skill_actors.errors import Refused
from skill_actors.sessions.approvals.request import canonical
from skill_actors.sessions.policy.shown import shown

__all__ = ["MAX_INPUT_BYTES", "Approver", "Decision", "read_decision", "told_reason"]

MAX_INPUT_BYTES: Final = 1 << 20
_MAX_REASON_CHARS: Final = 2_000
_FIELDS: Final = frozenset({"decision", "scope", "input", "reason"})


@dataclass(frozen=True, slots=True)
class Approver:
    """Who decides, as the kernel knows them."""

    uid: int
    name: str = ""

    def __str__(self) -> str:
        return f"{shown(self.name)} (uid {self.uid})" if self.name else f"uid {self.uid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An answer: allow, deny, or allow it with another input. `scope` "session" allows the same again."""

    kind: Literal["allow", "deny", "edit"]
    scope: Literal["once", "session"] = "once"
    input: Mapping[str, Any] | None = None
    reason: str = ""


def read_decision(value: Mapping[str, Any]) -> Decision:
    """Read what a client says. Raises Refused("bad_request") naming the field."""
    unknown = sorted(str(name) for name in value if name not in _FIELDS)
    if unknown:
        raise Refused("bad_request", f"{unknown[0][:40]!a}: a decision has {', '.join(sorted(_FIELDS))}")
    kind, scope, given, reason = (value.get(name) for name in ("decision", "scope", "input", "reason"))
    if kind not in ("allow", "deny", "edit"):
        raise Refused("bad_request", f"decision: {kind!r:.40} is none of allow, deny, edit")
    if scope not in (None, "once", "session"):
        raise Refused("bad_request", f"scope: {scope!r:.40} is neither once nor session")
    if scope == "session" and kind != "allow":
        raise Refused("bad_request", f"scope: only what is allowed as it is can be allowed for the session, not {kind}")
    return Decision(kind=kind, scope=scope or "once", input=_input(kind, given), reason=_reason(reason))


def _input(kind: str, given: object) -> Mapping[str, Any] | None:
    if kind != "edit":
        if given is not None:
            raise Refused("bad_request", "input: only an edit has one")
        return None
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise Refused("bad_request", "input: an edit needs the whole input of the tool, as an object")
    if len(canonical(given)) > MAX_INPUT_BYTES:
        raise Refused("too_large", f"input: at most {MAX_INPUT_BYTES} bytes as JSON")
    return given


def _reason(given: object) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise Refused("bad_request", "reason: not a text")
    if len(given) > _MAX_REASON_CHARS:
        raise Refused("bad_request", f"reason: {len(given)} characters; at most {_MAX_REASON_CHARS}")
    return given


def told_reason(reason: str) -> str:
    """An approver's reason as the model reads it: one line that can pretend to be nothing else."""
    return shown(reason.strip())[: 2 * _MAX_REASON_CHARS]
