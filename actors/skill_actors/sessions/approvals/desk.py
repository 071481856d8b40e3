"""Who asks here waits for somebody's word: written down first, so that it outlives the daemon.

Rules.
- An approval is pending until one commit of its session's log resolves it. Whether it is still pending is looked at
  under the lock of that log, so of all who decide, time included, exactly one is the first.
- An ending of a turn resolves what the turn waits for in its own commit (`closing`): nothing outlives its turn,
  whatever ended that. A turn that is left without an ending, because the daemon stops, leaves its approvals pending.
- An answer is for one run: that it was used is stored with the event that says so (`used`), and a call of the same id
  that comes later is asked for anew.
- Who is not sure denies: without anybody who could decide, beyond the bounds, and when the time is over.

It belongs to the trio thread and has no task of its own.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import trio

from skill_actors.errors import Refused
from skill_actors.ids import is_id, new_id
from skill_actors.sessions.approvals.decisions import Approver, Decision, read_decision
from skill_actors.sessions.approvals.outcomes import (
    Answer,
    answer_of,
    by_of,
    cancelled,
    conflict,
    decided,
    expired,
    moment_of,
    not_found,
    taken_back,
    time_of,
)
from skill_actors.sessions.approvals.request import ApprovalRequest, canonical
from skill_actors.sessions.approvals.standing import Standing, is_standing, standing_key
from skill_actors.sessions.approvals.stored import stored_approvals
from skill_actors.sessions.approvals.views import resolved_data, view_of
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.log import Change, Draft, SessionLog
from skill_actors.store.base import ApprovalRecord, Journal, JournalClosed, SessionMissing, StorageFull
from skill_actors.telemetry import Bus

__all__ = ["Answer", "ApprovalDesk", "DeskLimits", "Edit", "OpenLog"]

_log = logging.getLogger(__name__)
_MAX_REQUEST_BYTES: Final = 2 << 20

OpenLog = Callable[[str], AbstractAsyncContextManager[SessionLog]]
Edit = Callable[[Mapping[str, Any]], Awaitable[ApprovalRequest]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskLimits:
    """How many may be pending, of one session and in all; and how many answers may hold for one session."""

    session: int = 32
    total: int = 1_024
    standing: int = 200


class _Waiter:
    """Somebody who waits for an approval."""

    __slots__ = ("edit", "log", "record", "resolved")

    def __init__(self, log: SessionLog, edit: Edit | None) -> None:
        self.log = log
        self.edit = edit
        self.record: ApprovalRecord | None = None
        self.resolved = trio.Event()


class ApprovalDesk:
    """All approvals of this daemon.

    Args:
        bus: told of each approval that is requested (`approval.requested`) and resolved (`approval.resolved`).
        limits: how many may be pending.
        can_approve: whether there is anybody who could decide.
        now: the time of the day, with its zone: expiry is counted by it across restarts.

    """

    def __init__(
        self,
        journal: Journal,
        bus: Bus,
        *,
        limits: DeskLimits | None = None,
        can_approve: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.can_approve = can_approve
        self.open_log: OpenLog | None = None  # of sessions in which nobody waits; set by who has the sessions
        self._journal = journal
        self._bus = bus
        self._limits = limits or DeskLimits()
        self._now = now
        self._pending: dict[str, ApprovalRecord] = {}
        self._touched: set[str] | None = set()  # resolved while those of the store were not read; None afterwards
        self._loading = trio.Lock()
        self._waiters: dict[str, _Waiter] = {}
        self._standing = Standing(journal)

    # -- calls that need an approval -----------------------------------------------------------------------------

    async def ask(
        self,
        log: SessionLog,
        turn: str,
        request: ApprovalRequest,
        *,
        timeout_s: float,
        edit: Edit | None = None,
        resting: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> Answer:
        """Ask for an approval, durably, and wait for the answer. What was asked before a restart is taken up again.

        Cancelled, the approval stays pending: the ending of the turn resolves it.

        Args:
            timeout_s: after it, counted by the clock, the answer is no; for one that is taken up, what it has left.
            edit: what the call would be with another input. Raises Refused if it may not be made like that.
            resting: entered for as long as there is nothing to do but to wait.

        Raises: what `SessionLog.append` and reading the store raise.
        """
        await self.load()
        log.approvals = self
        record = await self._asked_before(log, request)
        if record is None:
            standing = (await self._standing_of(log)).get(standing_key(request))
            if standing is not None:
                return Answer(allowed=True, digest=request.digest, by=by_of(standing), record=standing, standing=True)
            refusal = self._refusal(log, request)
            if refusal is not None:
                return Answer(allowed=False, reason=refusal)
            record = await self._write(log, turn, request, timeout_s)
        if record.status == "pending":
            record = await self._wait(log, record, _Waiter(log, edit), resting)
        return answer_of(record)

    def used(self, answer: Answer) -> Sequence[ApprovalRecord]:
        """What has to be stored with the event that says that the call was begun: its answer is no other run's."""
        if answer.record is None or answer.standing:
            return ()
        decision = {**(answer.record.decision or {}), "used": True}
        return (replace(answer.record, decision=decision, updated=utc_now()),)

    async def withdraw(self, log: SessionLog, turn: str, call: str, why: str) -> None:
        """Resolve what is pending about a call, since it does not run whatever anybody says.

        Raises: what `SessionLog.append` raises.
        """
        for record in [record for record in self._pending.values() if (record.turn, record.call) == (turn, call)]:
            await self._resolve(log, record.id, lambda now: cancelled(now, why))

    # -- who decides ---------------------------------------------------------------------------------------------

    async def list(
        self,
        viewer_uid: int | None,
        *,
        status: str | None = "pending",
        session: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of approvals, newest first: {"items", "next"}; those of one user's sessions, or with None of all.

        Raises: Refused("bad_request") on a bad cursor.
        """
        await self.load()
        await self._expire_overdue()
        try:
            page = await self._journal.list_approvals(
                status=status, session=session, owner_uid=viewer_uid, limit=limit, cursor=cursor
            )
        except ValueError as error:
            raise Refused("bad_request", str(error)) from error
        return {"items": [view_of(record) for record in page.items], "next": page.next}

    async def get(self, id: str, viewer_uid: int | None) -> dict[str, Any]:
        """One approval; another user's does not exist for a viewer. Raises Refused("not_found")."""
        await self.load()
        await self._expire_overdue(id)
        record = await self._stored_record(id)
        if viewer_uid is not None and viewer_uid != record.owner_uid:
            raise not_found(id)
        return view_of(record)

    async def decide(self, id: str, by: Approver, decision: Mapping[str, Any]) -> dict[str, Any]:
        """Answer; the approval as it is then. Whether this approver may at all is for the caller to know.

        Args:
            decision: {"decision": "allow" | "deny" | "edit", "scope": "once" | "session", "input", "reason"}.

        Raises:
            Refused: bad_request; not_found; conflict: somebody, or the time, was first: says who and what; forbidden:
                the policy denies the call as edited; overloaded: the call cannot be edited just now; storage_full.

        """
        said = read_decision(decision)
        await self.load()
        record = await self._stored_record(id)
        async with self._log_of(record) as log:
            edited = await self._edited(id, said) if said.input is not None else None
            if said.scope == "session" and len(await self._standing_of(log)) >= self._limits.standing:
                why = f"scope: {self._limits.standing} answers hold for this session already; take some back first"
                raise Refused("bad_request", why)
            resolving = self._resolve(log, id, lambda now: decided(now, said, by, edited, log.record.last_seq + 1))
            resolved = await _stored(resolving)
        if resolved is None or (resolved.decision or {}).get("by_uid") is None:
            raise conflict(await self._stored_record(id))
        return view_of(resolved)

    async def revoke(self, id: str, by: Approver) -> dict[str, Any]:
        """Take back what was allowed for a session: later calls are asked for again. The approval as it is then.

        Raises:
            Refused: not_found; conflict: it does not hold for a session, or not any more; storage_full.

        """
        await self.load()
        while (after := await self._revoke(id, by)) is None:
            pass
        return view_of(after)

    async def _revoke(self, id: str, by: Approver) -> ApprovalRecord | None:
        """The approval taken back; None if some answer for a session was given or taken back meanwhile."""
        before = self._standing.changes
        record = await self._stored_record(id)
        if not is_standing(record):
            raise Refused("conflict", f"approval {id} is not one that holds for its session: it is {record.status}")
        after, done = taken_back(record, by), False

        def change() -> Change:
            nonlocal done
            done = self._standing.changes == before
            return Change(approvals=(after,)) if done else Change()

        async with self._log_of(record) as log:
            await _stored(log.change(change))
        return after if done else None

    # -- life ----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what is pending in the store. Done once, before anything else; may be called again."""
        if self._touched is None:
            return
        async with self._loading:
            found = [record async for record in stored_approvals(self._journal, status="pending")]
            if self._touched is not None:
                self._pending |= {record.id: record for record in found if record.id not in self._touched}
            self._touched = None

    async def recover(self) -> None:
        """After a start, when turns have been recovered: resolve what is overdue, or whose turn has ended.

        What cannot be resolved yet is logged, and stays pending: it is resolved when somebody decides or lists.
        """
        await self.load()
        for record in tuple(self._pending.values()):
            turn = await self._journal.get_turn(record.turn)
            if turn is not None and turn.status in ("queued", "running"):
                continue
            try:
                await self._resolve_unattended(record, lambda now: cancelled(now, "its turn has ended"))
            except Refused as refused:
                _log.warning("approval %s stays pending: %s", record.id, refused.message)
        await self._expire_overdue()

    def forget(self, session: str) -> None:
        """The session was deleted, and its approvals with it."""
        for record in [record for record in self._pending.values() if record.session == session]:
            del self._pending[record.id]
            waiter = self._waiters.pop(record.id, None)
            if waiter is not None:
                waiter.record = cancelled(record, "the session was deleted")
                waiter.resolved.set()
        self._standing.changed(session)

    def closing(self, turn: str) -> Change:
        """What an ending of the turn has to store besides. Called by the log, under its lock."""
        ended = [cancelled(record, "its turn has ended") for record in self._pending.values() if record.turn == turn]
        return Change(tuple(Draft("approval.resolved", turn, resolved_data(record)) for record in ended), tuple(ended))

    def stored(self, records: Sequence[ApprovalRecord]) -> None:
        """These are durable now. Called by the log, under its lock."""
        for record in records:
            if self._touched is not None:
                self._touched.add(record.id)
            if (record.decision or {}).get("scope") == "session":
                self._standing.changed(record.session)
            if record.status == "pending":
                self._pending[record.id] = record
                self._tell("approval.requested", record)
            elif self._pending.pop(record.id, None) is not None or "revoked" in (record.decision or {}):
                waiter = self._waiters.pop(record.id, None)
                if waiter is not None:
                    waiter.record = record
                    waiter.resolved.set()
                self._tell("approval.resolved", record)

    # -- steps ---------------------------------------------------------------------------------------------------

    async def _asked_before(self, log: SessionLog, request: ApprovalRequest) -> ApprovalRecord | None:
        """The latest answer, or question, about this call as it is now. One about another form of it is cancelled."""
        latest = await self._latest(log.record.id, request)
        if latest is None or latest.status == "cancelled" or (latest.decision or {}).get("used"):
            return None
        if latest.request.get("digest") == request.digest:
            return latest
        if latest.status == "pending":
            await self._resolve(log, latest.id, lambda now: cancelled(now, "what would run is not what was asked for"))
        return None

    async def _latest(self, session: str, request: ApprovalRequest) -> ApprovalRecord | None:
        """The one that was asked last about this call, by the number of its event: the clock may have been set."""
        asked = stored_approvals(self._journal, status=None, session=session, turn=request.turn)
        found = [self._pending.get(record.id, record) async for record in asked if record.call == request.call]
        return max(found, key=lambda record: int(record.request["seq"]), default=None)

    def _refusal(self, log: SessionLog, request: ApprovalRequest) -> str | None:
        """Why nobody is asked; None if somebody is."""
        session = log.record.id
        policy = log.record.settings.get("policy")
        if isinstance(policy, Mapping) and policy.get("on_ask") == "deny":
            return "Not run: it needs an approval, and this session is unattended (policy.on_ask is deny). Do without."
        if len(canonical(request.to_dict())) > _MAX_REQUEST_BYTES:
            return "Not run: it needs an approval, and is too large to be shown to anybody. Do it in smaller parts."
        if not self.can_approve():
            return "Not run: it needs an approval, and nobody here has the role to give one. Do without it."
        mine = sum(record.session == session for record in self._pending.values())
        if mine >= self._limits.session or len(self._pending) >= self._limits.total:
            return (
                f"Not run: it needs an approval, and {mine} calls of this conversation ({len(self._pending)} in all) "
                "wait for one already. Call it again when these are decided."
            )
        return None

    async def _write(self, log: SessionLog, turn: str, request: ApprovalRequest, timeout_s: float) -> ApprovalRecord:
        now = self._now()
        made: list[ApprovalRecord] = []

        def change() -> Change:
            record = ApprovalRecord(
                id=new_id("apr"),
                session=log.record.id,
                turn=turn,
                call=request.call,
                owner_uid=log.record.owner_uid,
                status="pending",
                created=time_of(now),
                expires=time_of(now + timedelta(seconds=timeout_s)),
                updated=time_of(now),
                request={**request.to_dict(), "seq": log.record.last_seq + 1},
            )
            made.append(record)
            return Change((Draft("approval.requested", turn, view_of(record)),), (record,))

        await log.change(change)
        return made[0]

    async def _wait(
        self,
        log: SessionLog,
        record: ApprovalRecord,
        waiter: _Waiter,
        resting: Callable[[], AbstractAsyncContextManager[None]],
    ) -> ApprovalRecord:
        if record.id not in self._pending:  # decided while it was being written or looked for
            return await self._stored_record(record.id)
        self._waiters[record.id] = waiter
        try:
            async with resting():
                with trio.move_on_after(max(0.0, self._left_s(record))):
                    await waiter.resolved.wait()
            if waiter.record is None:
                await self._resolve(log, record.id, expired)
        finally:
            if self._waiters.get(record.id) is waiter:
                del self._waiters[record.id]
        return waiter.record or await self._stored_record(record.id)

    async def _resolve(
        self, log: SessionLog, id: str, how: Callable[[ApprovalRecord], ApprovalRecord]
    ) -> ApprovalRecord | None:
        """Resolve an approval if it is pending still; None if it is not. What is overdue is expired instead.

        Raises: what `SessionLog.append` and `how` raise.
        """
        done: ApprovalRecord | None = None

        def change() -> Change:
            nonlocal done
            now = self._pending.get(id)
            if now is None:
                return Change()
            done = expired(now) if self._left_s(now) <= 0 else how(now)
            return Change((Draft("approval.resolved", done.turn, resolved_data(done)),), (done,))

        await log.change(change)
        return done

    async def _edited(self, id: str, said: Decision) -> ApprovalRequest:
        """What the call would be as edited. Raises Refused."""
        assert said.input is not None
        if id not in self._pending and (record := await self._stored_record(id)).status != "pending":
            raise conflict(record)
        waiter = self._waiters.get(id)  # none, too, for one that is stored while its turn does not know it yet
        if waiter is None or waiter.edit is None:
            why = f"the turn that approval {id} belongs to is not running yet, so an edit cannot be checked; try again"
            raise Refused("overloaded", why, retry_after_s=1)
        return await waiter.edit(said.input)

    async def _expire_overdue(self, id: str | None = None) -> None:
        """Those for which nobody waits; who waits does it without being asked."""
        records = [self._pending[id]] if id in self._pending else [] if id is not None else [*self._pending.values()]
        for record in records:
            if record.id not in self._waiters and self._left_s(record) <= 0:
                try:
                    await self._resolve_unattended(record, expired)
                except Refused as refused:
                    _log.warning("approval %s stays pending: %s", record.id, refused.message)

    async def _resolve_unattended(
        self, record: ApprovalRecord, how: Callable[[ApprovalRecord], ApprovalRecord]
    ) -> None:
        async with self._log_of(record) as log:
            await _stored(self._resolve(log, record.id, how))

    @asynccontextmanager
    async def _log_of(self, record: ApprovalRecord) -> AsyncIterator[SessionLog]:
        """The log of its session. Raises Refused("not_found")."""
        waiter = self._waiters.get(record.id)
        if waiter is not None:
            yield waiter.log
        elif self.open_log is None:
            raise not_found(record.id)
        else:
            async with self.open_log(record.session) as log:
                log.approvals = self
                yield log

    async def _standing_of(self, log: SessionLog) -> Mapping[str, ApprovalRecord]:
        """Answers that hold for the session since it was last reset."""
        return await self._standing.of(log.record.id, after_seq=log.reset_seq)

    async def _stored_record(self, id: str) -> ApprovalRecord:
        record = self._pending.get(id)
        if record is None and is_id(id, "apr"):
            record = await self._journal.get_approval(id)
        if record is None:
            raise not_found(id)
        return record

    def _left_s(self, record: ApprovalRecord) -> float:
        return (moment_of(record.expires) - self._now()).total_seconds()

    def _tell(self, event: str, record: ApprovalRecord) -> None:
        meta = {
            "id": record.id,
            "session": record.session,
            "turn": record.turn,
            "call": record.call,
            "tool": record.request.get("tool"),
            "place": record.request.get("place"),
            "status": record.status,
        }
        self._bus.emit(event, {"count": 1}, meta)


async def _stored(writing: Awaitable[T]) -> T:
    """What is awaited; errors of the store are the client's to try again. Raises Refused."""
    try:
        return await writing
    except StorageFull as error:
        raise Refused("storage_full", "the disk that holds the state is full", retry_after_s=10) from error
    except JournalClosed as error:
        raise Refused("draining", "the daemon is stopping; try again in a moment", retry_after_s=5) from error
    except SessionMissing as error:
        raise Refused("not_found", str(error)) from error
