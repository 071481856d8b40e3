"""The front of all conversations: accepts messages durably, starts Session actors, answers questions about them.

It belongs to the trio thread and has no task of its own. A message is acknowledged after its commit; only then is
the session's actor told. Sessions are loaded when first needed and let go when idle.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, Literal

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.account import NO_LINEAGE, Lineage, check_budget, keep_budget
from skill_actors.sessions.branching import Branching, workspaces_in
from skill_actors.sessions.cancelling import BY_REQUEST, Cancelling
from skill_actors.sessions.events import Event, Position
from skill_actors.sessions.file_desk import FileDesk
from skill_actors.sessions.hand_over_desk import HandOverDesk
from skill_actors.sessions.hosted_files import HostedFetch
from skill_actors.sessions.intake import Accepted, Intake, Mode, NewMessage, StartSession, refusal
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.making import Making
from skill_actors.sessions.offered import check_project, offered_skills
from skill_actors.sessions.pause import is_paused
from skill_actors.sessions.place_folders import session_of_folder
from skill_actors.sessions.session import LiveSession
from skill_actors.sessions.session_artifacts import give_artifacts
from skill_actors.sessions.settings import CHANGEABLE, check_settings
from skill_actors.sessions.steering import Steering
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable, Viewer, not_found
from skill_actors.sessions.take_up import TakeUp
from skill_actors.sessions.uploads import remove_workspace
from skill_actors.sessions.views import session_view, turn_view
from skill_actors.sessions.wanted import Wanted
from skill_actors.skills.base import SkillSnapshot
from skill_actors.store.base import JournalClosed, SessionMissing, SessionRecord, StorageFull
from skill_actors.store.faults import DamagedRow

__all__ = ["Accepted", "SessionManager", "Viewer"]

_log = logging.getLogger(__name__)
_END_WAIT_S: Final = 10.0  # for a cancelled turn to end: its processes may be slow to die, its disk full
_LOOK_AGAIN_S: Final = 0.25  # at turns that may have begun to wait


class SessionManager:
    """All conversations of this daemon.

    Args:
        env: what sessions need.
        start: starts a Session actor under the sessions' supervisor and returns its ref.

    """

    def __init__(self, env: Surroundings, start: StartSession) -> None:
        self._env = env
        self._table = SessionTable(env.journal, env.approvals)
        self._intake = Intake(env, start)
        self._branching = Branching(env)
        self._making = Making(self._branching, self._table, self._intake, env)
        self._cancelling = Cancelling(self._table, self._intake, env)
        self._steering = Steering(self._intake, env)
        self._take_up = TakeUp(self._table, self._intake, env)
        self.files = FileDesk(self._table, env)
        if env.hosted is not None:
            self.files.hosted = HostedFetch(env.hosted, env.defaults.hand_over_bytes)
        self.hand_overs = HandOverDesk(self._table, self.files, env)
        self.approvals = env.approvals
        if self.approvals is not None:
            self.approvals.open_log = self._open_log

    @property
    def draining(self) -> bool:
        """Whether the daemon is stopping and takes no more messages."""
        return self._intake.draining

    def owner_of(self, session: str) -> int | None:
        """The uid that owns a session in memory; None if there is no such one. Costs a look-up."""
        return self._table.owner_of(session)

    # -- sessions ------------------------------------------------------------------------------------------------

    async def create(
        self,
        owner_uid: int,
        settings: Mapping[str, Any],
        idempotency_key: str | None = None,
        *,
        agent: str | None = None,
        lineage: Lineage = NO_LINEAGE,
        workshop_tools: bool | Sequence[str] = False,
    ) -> dict[str, Any]:
        """Make a session; with a key that was used before, give that one back.

        Args:
            settings: as a client gives them; `parent` among them is the id of a session of the same owner that the new
                one works for: it is charged with all that the new one uses, and its caps bind it.
            agent: as which agent it works, for the ledger; nothing that a client chooses.
            lineage: for whom it works besides; likewise.
            workshop_tools: whether its agent has the workshop's tools, or which of them; likewise.

        Raises:
            Refused: bad_request, not_found (the parent), backend_unavailable, idempotency_conflict, draining,
                storage_full.

        """
        made = await self._making.create(
            owner_uid, settings, idempotency_key, agent=agent, lineage=lineage, workshop_tools=workshop_tools
        )
        return self._view(made)

    async def lineage_below(self, session: str, owner_uid: int) -> Lineage:
        """For whom a session works that this one makes. Raises Refused: bad_request, not_found."""
        return await self._making.lineage_below(session, owner_uid)

    async def check(self, owner_uid: int, settings: Mapping[str, Any]) -> None:
        """Make nothing, and raise as `create` where such settings would be refused; `parent` is not looked at."""
        await self._making.check(owner_uid, {name: value for name, value in settings.items() if name != "parent"})

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
        return self._view(await self._making.fork(session, viewer, after=after, title=title, key=idempotency_key))

    async def import_session(self, owner_uid: int, raw: bytes, idempotency_key: str | None = None) -> dict[str, Any]:
        """Make a session from an exported one: see `transcript`. Nothing of it runs.

        Raises:
            Refused: bad_request naming the line, and what `create` raises.

        """
        return self._view(await self._making.take_in(owner_uid, raw, idempotency_key))

    @asynccontextmanager
    async def export(self, session: str, viewer: Viewer) -> AsyncIterator[AsyncIterator[str]]:
        """A session's settings and stored events as lines of JSON: see `transcript`. Raises Refused("not_found")."""
        record = await self._table.record(session, viewer)
        async with aclosing(self._branching.lines(record)) as lines:
            yield lines

    async def get(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """A session's JSON form. Raises Refused("not_found")."""
        return self._view(await self._table.record(session, viewer))

    async def skills(self, session: str, viewer: Viewer) -> SkillSnapshot:
        """The skills that the session's next turn may use, and what kept others out. Raises Refused("not_found")."""
        record = await self._table.record(session, viewer)
        return await offered_skills(self._env, record.owner_uid, record.settings)

    async def offered(self, owner_uid: int, settings: Mapping[str, Any]) -> SkillSnapshot:
        """The skills that a session with these settings would be offered now."""
        return await offered_skills(self._env, owner_uid, settings)

    async def project(self, owner_uid: int, cwd: str) -> str:
        """The real path of a folder that this owner's sessions may have. Raises Refused("cwd_not_allowed")."""
        return await check_project(self._env, owner_uid, cwd)

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
        check_budget(self._env.ledger, checked)
        async with self._table.use(session, viewer) as live:
            try:
                await live.log.change_settings({**dict.fromkeys(changes), **checked})
                if "budget" in changes and self._env.ledger is not None:
                    await keep_budget(self._env.ledger, live.log.record)
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
            await self._cancelling.all_of(live, queued=True, reason="the session is being reset")
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
            if self.approvals is not None:
                self.approvals.forget(session)
            await remove_workspace(self._env.workspaces, session)
            return
        live.deleting = True  # nobody finds it from here on
        try:
            async with live.taking_in():  # a message that was being taken in is in by now, and is cancelled
                await self._cancelling.all_of(live, queued=True, reason="the session is being deleted")
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
        if self.approvals is not None:
            self.approvals.forget(live.id)
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
        schema: Mapping[str, Any] | Literal[False] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        mode: Mode = "follow_up",
        compact: bool = False,
        pinned: bool = False,
        note: str = "",
        most_waiting: int | None = None,
    ) -> Accepted:
        """Take a message, and with it artifacts for this turn and later ones; see `NewMessage`.

        Args:
            mode: "steer" gives it to the turn that runs, if one can be reached; see `Steering.steer`.

        Raises: as `Intake.submit`.
        """
        if mode == "steer" and artifacts:
            raise Refused("bad_request", "artifacts: a message to a running turn cannot have them")
        message = NewMessage(text, files, idempotency_key, schema, options, mode, compact, pinned, note, most_waiting)
        async with self._table.use(session, viewer) as live:
            if artifacts:
                await give_artifacts(live.log, artifacts, self._env.artifacts)
            take = self._steering.steer if mode == "steer" else self._intake.submit
            accepted = await take(live, message)
            if files:
                await self.files.note_uploads(live, accepted.turn, [name for name, _ in files])
            return accepted

    async def get_turn(self, turn: str, viewer: Viewer, *, wait_s: float = 0.0) -> dict[str, Any]:
        """A turn's JSON form, at once or when it has ended, whichever `wait_s` allows. Raises Refused("not_found").

        Who waited finds the session done with the turn: an end may be read before who stored it knows that it is.
        """
        record, _ = await self._table.turn(turn, viewer)
        if wait_s > 0:
            with trio.move_on_after(wait_s):
                if record.result is None:
                    await self._take_up.wait(turn)  # or nobody could say whether it waits, runs or has ended
                await self._wait_ended(record.session, turn)
            if record.result is None:
                record = await self._env.journal.get_turn(turn) or record
        return turn_view(record)

    async def _wait_ended(self, session: str, turn: str) -> None:
        live = self._table.get(session)
        if live is not None:
            with self._table.held(live):
                while live.is_open(turn):
                    await live.wait_turn_ended()

    async def pause(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """Hold a session still until it is resumed, over every restart; its JSON form.

        Messages are taken, and wait. A turn that runs finishes the step it is at. Raises Refused: not_found,
        storage_full, draining.
        """
        async with self._table.use(session, viewer) as live:
            await self._steering.pause(live)
            return self._view(live.log.record)

    async def resume(self, session: str, viewer: Viewer) -> dict[str, Any]:
        """Let a paused session go on; its JSON form. Raises as `pause`."""
        async with self._table.use(session, viewer) as live:
            await self._steering.resume(live)
            return self._view(live.log.record)

    async def cancel(self, session: str, viewer: Viewer, *, queued: bool = False) -> dict[str, Any]:
        """Cancel the running turn, and with `queued` those that wait: {"cancelled": [turn ids]}."""
        return await self._cancelling.session(session, viewer, queued=queued)

    async def cancel_turn(self, turn: str, viewer: Viewer, *, reason: str = BY_REQUEST) -> dict[str, Any]:
        """Cancel one turn, running or waiting; one that has ended stays as it is."""
        return await self._cancelling.turn(turn, viewer, reason=reason)

    def open_turns(self, session: str) -> Sequence[str]:
        """Ids of the turn that runs, then of those that wait, in their order. Costs a look-up."""
        live = self._table.get(session)
        if live is None:
            return ()
        return (*(() if live.turn is None else (live.turn.id,)), *live.closing, *live.pending)

    def rest_until(self, session: str, time: float) -> None:
        """Let no turn of the session begin before this time of trio's clock; one that is over takes a rest back."""
        now, resting = trio.current_time(), self._env.resting
        resting[session] = time
        for over in [other for other, until in resting.items() if until <= now]:
            del resting[over]

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
        if self.approvals is None:
            return await self._take_up.first()
        await self.approvals.load()
        left = await self._take_up.first()
        await self.approvals.recover()
        return left

    @asynccontextmanager
    async def _open_log(self, session: str) -> AsyncIterator[SessionLog]:
        async with self._table.use(session, None) as live:
            yield live.log

    async def recover_again(self, turns: Sequence[str]) -> Sequence[str]:
        """Try those that were left; what is still left."""
        return await self._take_up.again(turns)

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
        """Take no more messages and wait for running turns; whether all ended in time. Queued ones stay queued.

        Turns that do nothing but wait for people are not waited for: that may be hours.
        """
        self._intake.draining = True
        for live in self._table:
            if live.ref is not None and live.pending:
                live.pending.clear()  # they are on disk and run after the next start
        with trio.move_on_after(timeout_s) as scope:
            for live in self._table:
                while live.turn is not None and not live.turn.waits:
                    with trio.move_on_after(_LOOK_AGAIN_S):
                        await live.wait_turn_ended()
        return not scope.cancelled_caught

    async def unload_idle(self, idle_s: float) -> int:
        """Let go of sessions that nobody used for `idle_s`; how many."""
        return await self._table.unload_idle(idle_s)

    # -- helpers -------------------------------------------------------------------------------------------------

    def _view(self, record: SessionRecord) -> dict[str, Any]:
        live = self._table.get(record.id)
        crashed = self._intake.crashes.facts(record.id)
        asleep = "paused" if is_paused(record) else "idle"
        return session_view(record, asleep if live is None else live.status, self._env.default_backends, crashed)
