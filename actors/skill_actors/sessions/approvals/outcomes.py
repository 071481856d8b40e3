"""What can become of an approval, as it is stored, and as the model and later approvers are told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from skill_actors.errors import Refused
from skill_actors.sessions.approvals.decisions import Approver, Decision, told_reason
from skill_actors.sessions.approvals.request import ApprovalRequest
from skill_actors.sessions.approvals.standing import standing_key
from skill_actors.sessions.events import utc_now
from skill_actors.store.base import ApprovalRecord

__all__ = [
    "Answer",
    "answer_of",
    "by_of",
    "cancelled",
    "conflict",
    "decided",
    "expired",
    "moment_of",
    "not_found",
    "taken_back",
    "time_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a question.

    Args:
        allowed: whether the call may run.
        reason: if not, in words for the model.
        digest: of what may run.
        input: with which the call may run instead of its own; None: with its own.
        edited: what was decided with that.
        by: who decided, in words.
        record: as stored; None if nobody was asked.
        standing: whether it was allowed earlier, for the session.

    """

    allowed: bool
    reason: str = ""
    digest: str = ""
    input: Mapping[str, Any] | None = None
    edited: ApprovalRequest | None = None
    by: str = ""
    record: ApprovalRecord | None = None
    standing: bool = False


def decided(
    record: ApprovalRecord, said: Decision, by: Approver, edited: ApprovalRequest | None, seq: int
) -> ApprovalRecord:
    """With this answer, which is told by the event of this number; `edited` is what an edited call would be."""
    decision: dict[str, Any] = {
        "decision": said.kind,
        "scope": said.scope,
        "reason": said.reason,
        "by_uid": by.uid,
        "by": str(by),
        "at": utc_now(),
        "seq": seq,
        "digest": record.request["digest"],
    }
    if said.scope == "session":
        decision["covers"] = standing_key(ApprovalRequest.from_dict(record.request))
    if edited is not None:
        decision |= {"input": dict(said.input or {}), "digest": edited.digest, "request": edited.to_dict()}
    status: Literal["allowed", "denied"] = "denied" if said.kind == "deny" else "allowed"
    return replace(record, status=status, updated=utc_now(), decision=decision)


def answer_of(record: ApprovalRecord) -> Answer:
    """A resolved approval, as whoever asked for it goes on."""
    decision = record.decision or {}
    if record.status == "allowed":
        digest, by = str(decision["digest"]), by_of(record)
        if decision.get("decision") != "edit":
            return Answer(allowed=True, digest=digest, by=by, record=record)
        edited = ApprovalRequest.from_dict(decision["request"])
        return Answer(allowed=True, digest=digest, input=decision["input"], edited=edited, by=by, record=record)
    reason = told_reason(str(decision.get("reason", "")))
    match record.status:
        case "denied":
            said = f" Reason: {reason}" if reason else ""
            text = f"Not run: {by_of(record)} was asked to approve it, and denied it.{said}"
        case "expired":
            text = "Not run: it needs an approval, and nobody gave one in time. Do without it, or ask the user."
        case _:
            text = f"Not run: the approval that it needs was withdrawn: {reason}."
    return Answer(allowed=False, reason=text, by=by_of(record), record=record)


def by_of(record: ApprovalRecord) -> str:
    return str((record.decision or {}).get("by") or "nobody")


def expired(record: ApprovalRecord) -> ApprovalRecord:
    decision = {"decision": "deny", "reason": "nobody decided in time"}
    return replace(record, status="expired", updated=utc_now(), decision=decision)


def cancelled(record: ApprovalRecord, why: str) -> ApprovalRecord:
    return replace(record, status="cancelled", updated=utc_now(), decision={"reason": why})


def taken_back(record: ApprovalRecord, by: Approver) -> ApprovalRecord:
    decision = {**(record.decision or {}), "revoked": {"by_uid": by.uid, "by": str(by), "at": utc_now()}}
    return replace(record, status="cancelled", updated=utc_now(), decision=decision)


def conflict(record: ApprovalRecord) -> Refused:
    """Somebody was first: who, and with what."""
    what = {"allowed": "allowed", "denied": "denied", "expired": "denied, as its time was over", "pending": "pending"}
    told = what.get(record.status, "cancelled")
    who = f" by {by_of(record)}" if (record.decision or {}).get("by") else ""
    details = {"status": record.status, "by_uid": (record.decision or {}).get("by_uid")}
    return Refused("conflict", f"approval {record.id} was {told}{who} at {record.updated}", details=details)


def not_found(id: str) -> Refused:
    return Refused("not_found", f"there is no approval {id[:80]!a}")


def time_of(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(text: str) -> datetime:
    """What `time_of` wrote."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
