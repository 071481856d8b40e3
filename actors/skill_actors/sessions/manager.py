"""The front of all conversations: accepts messages durably, starts Session actors, answers questions about them.

It belongs to the trio thread and has no task of its own. A message is acknowledged after its commit; only then is
the session's actor told. Sessions are loaded when first needed and let go when idle.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.models.base import Usage
from skill_actors.sessions.branching import Branching, workspaces_in
from skill_actors.sessions.chosen_backends import check_backends, check_options_again
from skill_actors.sessions.events import Event, Position, utc_now
from skill_actors.sessions.file_desk import FileDesk
from skill_actors.sessions.hand_over_desk import HandOverDesk
from skill_actors.sessions.hosted_files import HostedFetch
from skill_actors.sessions.intake import Accepted, Intake, StartSession, check_key, digest_of, refusal
from skill_actors.sessions.log import Draft
from skill_actors.sessions.offered import check_project, check_skill_choice, offered_skills
from skill_actors.sessions.place_check import check_places, known_backends
from skill_actors.sessions.place_folders import session_of_folder
from skill_actors.sessions.poison import try_again
from skill_actors.sessions.recovery import close_interrupted, close_poisoned
from skill_actors.sessions.session import LiveSession, QueuedTurn
from skill_actors.sessions.session_artifacts import give_artifacts, given_now, merged_artifacts
from skill_actors.sessions.session_files import check_quota
from skill_actors.sessions.settings import CHANGEABLE, check_settings
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable, Viewer, not_found
from skill_actors.sessions.transcript import read_transcript
from skill_actors.sessions.uploads import remove_workspace
from skill_actors.sessions.views import ending_view, session_view, tell_turn_stop, turn_view
from skill_actors.sessions.wanted import Wanted
from skill_actors.skills.base import SkillSnapshot
from skill_actors.store.base import (
    JournalClosed,
    SessionExists,
    SessionMissing,
    SessionRecord,
    StorageFull,
    StoreError,
    TurnRecord,
)
from skill_actors.store.faults import DamagedRow

__all__ = ["Accepted", "SessionManager", "Viewer"]

_log = logging.getLogger(__name__)
_END_WAIT_S: Final = 10.0  # for a cancelled turn to end: its processes may be slow to die, its disk full

_Make = Callable[[str, Mapping[str, Any]], Awaitable[SessionRecord]]


class SessionManager:
    """All conversations of this daemon.

    Args:
        env: what sessions need.
        start: starts a Session actor under the sessions' supervisor and returns its ref.

    """

    def __init__(self, env: Surroundings, start: StartSession) -> None:
        self._env = env
        self._table = SessionTable(env.journal)
        self._intake = Intake(env, start)
        self._branching = Branching(env)
        self.files = FileDesk(self._table, env)
        if env.hosted is not None:
            self.files.hosted = HostedFetch(env.hosted, env.defaults.hand_over_bytes)
        self.hand_overs = HandOverDesk(self._table, self.files, env)

    @property
    def draining(self) -> bool:
        """Whether the daemon is stopping and takes no more messages."""
        return self._intake.draining

    def owner_of(self, session: str) -> int | None:
        """The uid that owns a session in memory; None if there is no such one. Costs a look-up."""
        return self._table.owner_of(session)

    # -- sessions ------------------------------------------------------------------------------------------------

    async def create(
        self, owner_uid: int, settings: Mapping[str, Any], idempotency_key: str | None = None
    ) -> dict[str, Any]:
        """Make a session; with a key that was used before, give that one back.

        Raises:
            Refused: bad_request, backend_unavailable, idempotency_conflict, draining, storage_full.

        """

        async def make(id: str, chosen: Mapping[str, Any]) -> SessionRecord:
            checked = await self._check_choices(settings, owner_uid)
            now = utc_now()
            record = SessionRecord(id=id, owner_uid=owner_uid, created=now, updated=now, settings={**chosen, **checked})
            await self._env.journal.create_session(record)
            return record

        return await self._make(owner_uid, idempotency_key, digest_of(settings), make)

    async def fork(
        self,
        session: str,
        viewer: Viewer,
        *,
        after: int | None = None,
        title: str | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Make a session that goes on from a copy of this one's history and files; its owner is the same.

        Args:
            after: go on from behind this event, or rather from behind the last turn that had ended by then.

        Raises:
            Refused: not_found, bad_request, idempotency_conflict, draining, storage_full.

        """
        check_settings({"title": title}, allowed=CHANGEABLE)
        source = await self._table.record(session, viewer)

        async def make(id: str, chosen: Mapping[str, Any]) -> SessionRecord:
            check_options_again(self._env, source.settings.get("backends"))
            return await self._branching.fork(source, id, chosen, after=after, title=title)

        digest = digest_of(["fork", session, after, title])
        return await self._make(source.owner_uid, idempotency_key, digest, make)

    async def import_session(self, owner_uid: int, raw: bytes, idempotency_key: str | None = None) -> dict[str, Any]:
        """Make a session from an exported one: see `transcript`. Nothing of it runs.

        Raises:
            Refused: bad_request naming the line, and what `create` raises.

        """

        async def make(id: str, chosen: Mapping[str, Any]) -> SessionRecord:
            transcript = await trio.to_thread.run_sync(read_transcript, raw)
            elsewhere = {name: value for name, value in transcript.settings.items() if name != "cwd"}
            checked = await self._check_choices(elsewhere, owner_uid)
            return await self._branching.take_in(transcript, owner_uid, id, {**chosen, **checked})

        return await self._make(owner_uid, idempotency_key, hashlib.sha256(raw).hexdigest(), make)

    @asynccontextmanager
    async def export(self, session: str, viewer: Viewer) -> AsyncIterator[AsyncIterator[str]]:
        """A session's settings and stored events as lines of JSON: see `transcript`. Raises Refused("not_found")."""
        record = await self._table.record(session, viewer)
        async with aclosing(self._branching.lines(record)) as lines:
            yield lines

    async def _make(self, owner_uid: int, key: str | None, digest: str, make: _Make) -> dict[str, Any]:
        """Make a session, or give back the one that was made under the same key with the same content."""
        self._intake.refuse_if_draining()
        if key is not None:
            check_key(key)
        id = new_id("ses") if key is None else _keyed_session_id(owner_uid, key)
        async with self._branching.alone(id):
            existing = await self._env.journal.get_session(id) if key is not None else None
            if existing is not None:
                return self._same_session(existing, digest, key or "")
            try:
                record = await make(id, {} if key is None else {"key_digest": digest})
            except (StorageFull, JournalClosed) as error:
                raise refusal(error) from error
            except SessionExists as error:  # the one that had the key was deleted, and goes chunk by chunk
                raise Refused("overloaded", f"{error}, or the same in a moment", retry_after_s=1) from error
        self._table.made(id)
        self._env.bus.emit("session.created", {"count": 1}, {"session": id})
        return self._view(record)

    async def _check_choices(self, settings: Mapping[str, Any], owner_uid: int) -> dict[str, Any]:
        checked = check_settings(settings, backends=known_backends(self._env))
        chosen = check_backends(self._env, checked.get("backends"))
        if "backends" in checked:
            checked["backends"] = chosen
        check_quota(checked.get("limits", {}), self._env.defaults.workspace_bytes)
        if "artifacts" in checked:
            limits = self._env.artifacts
            checked["artifacts"] = merged_artifacts((), given_now(checked["artifacts"], limits), limits.lifetime_s)
        model, _ = self._env.resolve_model(checked.get("model"))
        check_places(self._env, checked, model)
        if "cwd" in checked:
            checked["cwd"] = await check_project(self._env, owner_uid, checked["cwd"])
        await check_skill_choice(self._env, owner_uid, checked)
        return checked

    def _same_session(self, record: SessionRecord, digest: str, key: str) -> dict[str, Any]:
        if record.settings.get("key_digest") != digest:
            raise Refused(
                "idempotency_conflict", f"key {key!r} made session {record.id} with other settings; use a new key"
            )
        return self._view(record)

    async def get(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """A session's JSON form. Raises Refused("not_found")."""
        return self._view(await self._table.record(session, viewer))

    async def skills(self, session: str, viewer: Viewer) -> SkillSnapshot:
        """The skills that the session's next turn may use, and what kept others out. Raises Refused("not_found")."""
        record = await self._table.record(session, viewer)
        return await offered_skills(self._env, record.owner_uid, record.settings)

    async def list(
        self, viewer: Viewer, *, limit: int = 100, cursor: str | None = None, wanted: Wanted | None = None
    ) -> dict[str, Any]:
        """A page of sessions, newest first: {"items", "next"}.

        With `wanted` a page may be short and have a next one all the same. Raises Refused("bad_request") on a bad
        cursor.
        """
        owner = None if viewer.admin else viewer.uid
        choice = None if wanted is None else wanted.choice({live.id: live.status for live in self._table})
        try:
            page = await self._env.journal.list_sessions(owner_uid=owner, limit=limit, cursor=cursor, choice=choice)
        except ValueError as error:
            raise Refused("bad_request", str(error)) from error
        return {"items": [self._view(self._table.newest(record)) for record in page.items], "next": page.next}

    async def latest(self, viewer: Viewer) -> dict[str, Any] | None:
        """The viewer's own session that was used last."""
        page = await self._env.journal.list_sessions(owner_uid=viewer.uid, limit=1)
        return self._view(self._table.newest(page.items[0])) if page.items else None

    async def update(self, session: str, viewer: Viewer, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change title or labels; null takes one away. Raises Refused: bad_request, not_found, storage_full."""
        checked = check_settings(changes, allowed=CHANGEABLE)
        async with self._table.use(session, viewer) as live:
            try:
                await live.log.change_settings({**dict.fromkeys(changes), **checked})
            except (StorageFull, JournalClosed, SessionMissing) as error:
                raise refusal(error) from error
            return self._view(live.log.record)

    async def reset(self, session: str, viewer: Viewer, *, workspace: bool = False) -> dict[str, Any]:
        """Cancel what runs and begin the conversation anew; its id, its settings and what happened so far are kept.

        Args:
            workspace: also remove its files.

        Raises:
            Refused: not_found, draining, storage_full; overloaded: what ran was cancelled and has not ended yet.

        """
        self._intake.refuse_if_draining()
        async with self._table.use(session, viewer) as live, live.taking_in():
            await self._cancel(live, queued=True, reason="the session is being reset")
            with trio.move_on_after(_END_WAIT_S) as scope:
                while live.turn is not None:
                    await live.wait_turn_ended()
            if scope.cancelled_caught:
                raise Refused(
                    "overloaded",
                    f"the turns of session {session} were cancelled, and one has not ended yet; reset it in a moment",
                    retry_after_s=5,
                )
            if live.deleting:
                raise not_found("session", session)
            try:
                await live.log.reset(Draft("session.reset", None, {"workspace": workspace}))
            except (StorageFull, JournalClosed, SessionMissing) as error:
                raise refusal(error) from error
            live.restarted = False
            if workspace:
                with trio.CancelScope(shield=True):
                    await self._stop_actor(live)
                    await remove_workspace(self._env.workspaces, live.id)
                    await self.files.emptied(live)
            return self._view(live.log.record)

    async def delete(self, session: str, viewer: Viewer) -> None:
        """Cancel what runs, then remove the session, its events and its files.

        Raises:
            Refused: not_found; storage_full or draining: the session is still there, its turns may be cancelled.
            DamagedRow: it cannot be read; only an admin may delete it then, since its owner is in doubt.

        """
        async with self._branching.alone(session):  # or its files would go after those of the next one under its key
            await self._delete(session, viewer)

    async def _delete(self, session: str, viewer: Viewer) -> None:
        try:
            live = await self._table.load(session, viewer)
        except DamagedRow:
            if not viewer.admin or not await self._env.journal.delete_session(session):
                raise
            await remove_workspace(self._env.workspaces, session)
            return
        live.deleting = True  # nobody finds it from here on
        try:
            async with live.taking_in():  # a message that was being taken in is in by now, and is cancelled
                await self._cancel(live, queued=True, reason="the session is being deleted")
                with trio.move_on_after(_END_WAIT_S):
                    while live.turn is not None:
                        await live.wait_turn_ended()
                await self.files.flush(live)
                await self._env.journal.delete_session(session)
        except BaseException as error:
            live.deleting = False
            self._intake.wake(live)
            if isinstance(error, StorageFull | JournalClosed):
                raise refusal(error) from error
            raise
        with trio.CancelScope(shield=True):  # it is gone from the store: what is left must go too
            await self._forget(live)
        self._env.bus.emit("session.deleted", {"count": 1}, {"session": session})

    async def _forget(self, live: LiveSession) -> None:
        live.log.mark_deleted()
        await self._stop_actor(live)
        self._intake.crashes.forget(live.id)
        self._table.drop(live.id)
        await remove_workspace(self._env.workspaces, live.id)

    async def _stop_actor(self, live: LiveSession) -> None:
        """End the session's actor, and with it every process and container that works in its files."""
        if live.ref is not None:
            live.ref.stop(block=False)
            await live.ref.wait_stopped()

    # -- messages and turns --------------------------------------------------------------------------------------

    async def submit(
        self,
        session: str,
        viewer: Viewer,
        text: str,
        files: Sequence[tuple[str, bytes]] = (),
        idempotency_key: str | None = None,
        artifacts: Sequence[Mapping[str, Any]] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Accepted:
        """Take a message, and with it artifacts for this turn and later ones; see `Intake.submit`.

        Raises also Refused("not_found").
        """
        async with self._table.use(session, viewer) as live:
            if artifacts:
                await give_artifacts(live.log, artifacts, self._env.artifacts)
            accepted = await self._intake.submit(live, text, files, idempotency_key, schema)
            if files:
                await self.files.note_uploads(live, accepted.turn, [name for name, _ in files])
            return accepted

    async def get_turn(self, turn: str, viewer: Viewer, *, wait_s: float = 0.0) -> dict[str, Any]:
        """A turn's JSON form, at once or when it has ended, whichever `wait_s` allows. Raises Refused("not_found")."""
        record, live = await self._table.turn(turn, viewer)
        if live is not None and wait_s > 0:
            with trio.move_on_after(wait_s), self._table.held(live):
                while live.is_open(turn):
                    await live.wait_turn_ended()
            record = await self._env.journal.get_turn(turn) or record
        return turn_view(record)

    async def cancel(self, session: str, viewer: Viewer, *, queued: bool = False) -> dict[str, Any]:
        """Cancel the running turn, and with `queued` those that wait: {"cancelled": [turn ids]}."""
        async with self._table.use(session, viewer) as live:
            return {"cancelled": await self._cancel(live, queued=queued, reason="cancelled by request")}

    async def cancel_turn(self, turn: str, viewer: Viewer) -> dict[str, Any]:
        """Cancel one turn, running or waiting; one that has ended stays as it is."""
        _, live = await self._table.turn(turn, viewer)
        if live is None or not live.is_open(turn):
            return {"cancelled": []}
        if turn in live.pending:
            await self._cancel_pending(live, turn, "cancelled by request")
        elif live.turn is not None:
            live.turn.cancel("cancelled by request")
        return {"cancelled": [turn]}

    async def _cancel(self, live: LiveSession, *, queued: bool, reason: str) -> Sequence[str]:
        cancelled = []
        if queued:
            for turn in list(live.pending):
                await self._cancel_pending(live, turn, reason)
                cancelled.append(turn)
        if live.turn is not None:
            live.turn.cancel(reason)
            cancelled.insert(0, live.turn.id)
        return cancelled

    async def _cancel_pending(self, live: LiveSession, turn: str, reason: str) -> None:
        waiting = live.pending.pop(turn, None)
        if waiting is None:
            return
        data = ending_view(
            stop_reason="cancelled",
            usage=Usage(),
            cost_usd=0.0,
            duration_ms=0,
            error={"code": "cancelled", "message": reason},
        )
        ended = replace(waiting.record, status="cancelled", updated=utc_now(), result=data)
        try:
            await live.log.append([Draft("turn.cancelled", turn, data)], turns=[ended])
        except BaseException as error:
            live.pending = {turn: waiting, **live.pending}
            self._intake.wake(live)
            if isinstance(error, StorageFull | JournalClosed | SessionMissing):
                raise refusal(error) from error
            raise
        tell_turn_stop(self._env.bus, ended, data)
        live.tell_turn_ended()

    # -- reading -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def follow(
        self, session: str, viewer: Viewer, *, after: Position, turn: str | None = None, live: bool = True
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Events behind a position; see `SessionLog.follow`. Raises Refused("not_found")."""
        async with (
            self._table.use(session, viewer) as loaded,
            loaded.log.follow(after, turn=turn, live=live) as events,
        ):
            yield events

    def status(self) -> dict[str, Any]:
        """Counts of what is going on now."""
        return {
            "sessions_live": len(self._table),
            "actors": sum(live.ref is not None for live in self._table),
            "turns_running": sum(live.turn is not None for live in self._table),
            "turns_queued": sum(len(live.pending) for live in self._table),
            "draining": self.draining,
        }

    # -- life ----------------------------------------------------------------------------------------------------

    async def recover(self) -> Sequence[str]:
        """After a start: close turns that were running as interrupted, then run those that wait.

        A turn that cannot be read is logged and left alone: it must not keep the others from starting. Those that
        cannot be closed because the disk is full are returned, and with them the later ones of their sessions: give
        them to `recover_again` until none is left.
        """
        self._first_recovery = True
        left = await self._recover(await self._env.journal.unfinished_turns())
        self._first_recovery = False
        return [turn.id for turn in left]

    async def recover_again(self, turns: Sequence[str]) -> Sequence[str]:
        """Try those that were left; what is still left."""
        found = [await self._env.journal.get_turn(turn) for turn in turns]
        unfinished = [turn for turn in found if turn is not None and turn.status in ("queued", "running")]
        return [turn.id for turn in await self._recover(unfinished)]

    async def _recover(self, unfinished: Sequence[TurnRecord]) -> Sequence[TurnRecord]:
        left: list[TurnRecord] = []
        for turn in unfinished:
            try:
                if any(before.session == turn.session for before in left):
                    raise StorageFull("an earlier turn of the session is not closed yet")
                async with self._table.use(turn.session, None) as live:
                    await self._recover_turn(live, turn)
            except StorageFull as error:
                _log.error("turn %s cannot be taken up again yet: %s", turn.id, error)
                left.append(turn)
            except (StoreError, Refused, ValueError) as error:
                _log.error("turn %s of session %s is left as it is: %s", turn.id, turn.session, error)
        return left

    async def _recover_turn(self, live: LiveSession, turn: TurnRecord) -> None:
        if turn.status == "running":
            # Counted once a start: while a disk is full this is tried every second.
            if not self._first_recovery or await try_again(live.log, turn.id):
                await close_interrupted(live.log, turn, self._env)
            else:
                await close_poisoned(live.log, turn, self._env)
            live.restarted = False
            return
        message = await self._message_of(turn)
        queued = QueuedTurn(turn, str(message["text"]), message.get("schema"), again=True)
        if turn.seq > 1:
            await self._intake.tell_restarted(live)
        self._intake.run(live, queued)

    async def _message_of(self, turn: TurnRecord) -> Mapping[str, Any]:
        (event,) = await self._env.journal.read_events(turn.session, after=turn.seq - 1, through=turn.seq)
        return event.data

    async def workspaces(self) -> Sequence[str]:
        """Whose files there are, for `sweep_workspaces`. To be asked before sessions are made."""
        return await trio.to_thread.run_sync(workspaces_in, self._env.workspaces)

    async def ownerless_workspaces(self) -> Sequence[str]:
        """Those whose session is not in the store; some of them may be sessions that are just being made."""
        there = {session_of_folder(name) for name in await self.workspaces()}
        after = ""
        while there and (ids := await self._env.journal.session_ids(after=after)):
            there.difference_update(ids)
            after = ids[-1]
        return sorted(name for name in there if name is not None)

    async def retire(self, session: str) -> bool:
        """Delete a session that has outlived its time, unless somebody uses it or a turn waits; whether it was deleted.

        Raises: as `delete`.
        """
        async with self._branching.alone(session):
            with suppress(DamagedRow):
                if (await self._table.load(session, None)).busy:
                    return False
            await self._delete(session, Viewer(uid=0, admin=True))  # looks at what is loaded, without a pause
        return True

    async def sweep_workspaces(self, names: Sequence[str]) -> None:
        """Remove those of these workspaces whose session is not there: left by a crash between two steps."""
        removed = await self._branching.sweep(names)
        if removed:
            _log.warning("removed the files of %d sessions that do not exist", removed)

    async def drain(self, timeout_s: float) -> bool:
        """Take no more messages and wait for running turns; whether all ended in time. Queued ones stay queued."""
        self._intake.draining = True
        for live in self._table:
            if live.ref is not None and live.pending:
                live.pending.clear()  # they are on disk and run after the next start
        with trio.move_on_after(timeout_s) as scope:
            for live in self._table:
                while live.turn is not None:
                    await live.wait_turn_ended()
        return not scope.cancelled_caught

    async def unload_idle(self, idle_s: float) -> int:
        """Let go of sessions that nobody used for `idle_s`; how many."""
        return await self._table.unload_idle(idle_s)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _view(self, record: SessionRecord) -> dict[str, Any]:
        live = self._table.get(record.id)
        crashed = self._intake.crashes.facts(record.id)
        return session_view(record, "idle" if live is None else live.status, self._env.default_backends, crashed)


def _keyed_session_id(owner_uid: int, key: str) -> str:
    """The session a key stands for: the key is thereby remembered as long as the session, without an index."""
    digest = hashlib.sha256(f"{owner_uid}\0{key}".encode("utf-8", "surrogateescape")).digest()[:16]
    return f"ses_{base64.b32encode(digest).decode('ascii').rstrip('=').lower()}"
