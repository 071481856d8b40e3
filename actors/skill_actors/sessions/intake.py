"""How a message gets in: checked, written to disk, acknowledged, and only then told to the session's actor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.runtime import ActorDeadError, ExitReason, TrioActor, TrioActorRef
from skill_actors.sessions.answer_schema import check_schema
from skill_actors.sessions.commands import parse_command
from skill_actors.sessions.crashes import Crashes
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.lineage import first_title
from skill_actors.sessions.log import Draft
from skill_actors.sessions.offered import offered_skills
from skill_actors.sessions.room import WaitingRoom
from skill_actors.sessions.session import LiveSession, QueuedTurn, RunTurn
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import not_found
from skill_actors.sessions.uploads import check_files, write_files
from skill_actors.skills.entry import entry_argv
from skill_actors.store.base import JournalClosed, SessionFull, SessionMissing, StorageFull, TurnRecord

__all__ = ["Accepted", "Intake", "StartSession", "check_key", "digest_of", "refusal"]

_MAX_KEY_BYTES: Final = 255

StartSession = Callable[[Callable[[], TrioActor], str], TrioActorRef[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A message that will not be lost. `seq` is that of its turn.queued event."""

    turn: str
    session: str
    seq: int
    status: str
    duplicate: bool

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("turn", "session", "seq", "status", "duplicate")}


class Intake:
    """Takes messages for sessions and hands their turns to Session actors.

    Args:
        env: what sessions need.
        start: starts a Session actor under the sessions' supervisor and returns its ref.

    """

    def __init__(self, env: Surroundings, start: StartSession) -> None:
        self._env = env
        self._start = start
        self.crashes = Crashes(env)
        self._room = WaitingRoom(env.defaults.queued_total)
        self.draining = False

    def refuse_if_draining(self) -> None:
        """Raises Refused("draining") once the daemon is stopping."""
        if self.draining:
            raise Refused("draining", "the daemon is stopping; send again in a moment", retry_after_s=5)

    async def submit(
        self,
        live: LiveSession,
        text: str,
        files: Sequence[tuple[str, bytes]] = (),
        idempotency_key: str | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> Accepted:
        """Take a message; when this returns it is on disk and will be answered, also after a crash.

        Args:
            files: (name, content) put into the workspace before the turn.
            idempotency_key: the same key gives the same turn for as long as the turn is kept.
            schema: a JSON schema that the answer has to keep to, else the turn fails.

        Raises:
            Refused: bad_request, not_found, idempotency_conflict, overloaded, no_entry_command, too_large, draining,
                storage_full, internal (the session crashed too often). Nothing was stored then.

        """
        if idempotency_key is not None:
            check_key(idempotency_key)
        self.refuse_if_draining()
        async with live.taking_in():
            content = [text, [[name, hashlib.sha256(content).hexdigest()] for name, content in files]]
            digest = digest_of(content if schema is None else [*content, schema])
            if idempotency_key is not None:
                # First of all: a retry gets its turn also when the same message would be refused by now.
                known = await self._env.journal.find_turn(live.id, idempotency_key)
                if known is not None:
                    return self._same_turn(known, digest)
            await self._check_message(live, text, files, schema)
            self._check_queue(live)
            with self._room.place(live.log.record.owner_uid):
                return await self._queue(live, text, files, idempotency_key, digest, schema)

    async def _check_message(
        self, live: LiveSession, text: str, files: Sequence[tuple[str, bytes]], schema: Mapping[str, Any] | None
    ) -> None:
        limit = self._env.defaults.max_message_chars
        if len(text) > limit:
            raise Refused("too_large", f"the text has {len(text)} characters; at most {limit}. Put it into a file")
        if not text.strip() and not files:
            raise Refused("bad_request", "text: the message is empty")
        if "\0" in text:
            raise Refused("bad_request", "text: contains a NUL character")
        check_files(files)
        if schema is not None:
            check_schema(schema)
        if not text.startswith("/"):
            return
        record = live.log.record
        allowed = (await offered_skills(self._env, record.owner_uid, record.settings)).skills
        command = parse_command(text, allowed)
        if command is not None:
            if schema is not None:
                raise Refused("bad_request", f"schema: /{command.skill} runs a command; only models keep to one")
            entry_argv(allowed[command.skill], "", command.arguments)

    def _check_queue(self, live: LiveSession) -> None:
        if live.deleting:
            raise not_found("session", live.id)
        self.crashes.refuse_if_poisoned(live.id)
        bound = self._env.defaults.queued_messages
        if len(live.pending) >= bound:
            raise Refused(
                "overloaded",
                f"session {live.id} has {bound} messages waiting already; send again when a turn has ended",
                retry_after_s=5,
            )

    def _same_turn(self, known: TurnRecord, digest: str) -> Accepted:
        if known.digest != digest:
            raise Refused(
                "idempotency_conflict",
                f"key {known.idempotency_key!r} belongs to turn {known.id}, which has other content; use a new key",
            )
        return Accepted(turn=known.id, session=known.session, seq=known.seq, status=known.status, duplicate=True)

    async def _queue(
        self,
        live: LiveSession,
        text: str,
        files: Sequence[tuple[str, bytes]],
        key: str | None,
        digest: str,
        schema: Mapping[str, Any] | None,
    ) -> Accepted:
        now = utc_now()
        turn = TurnRecord(
            id=new_id("trn"),
            session=live.id,
            seq=0,
            status="queued",
            created=now,
            updated=now,
            idempotency_key=key,
            digest=digest,
        )
        data: dict[str, Any] = {
            "text": text,
            "files": [{"name": name, "size": len(content)} for name, content in files],
        }
        if schema is not None:
            data["schema"] = dict(schema)
        try:
            if files:
                await write_files(self._env.workspaces / live.id, files)
            await self.tell_restarted(live)
            title = first_title(text, [name for name, _ in files])
            event = await live.log.queue(Draft("turn.queued", turn.id, data), turn, title=title)
        except (StorageFull, SessionFull, JournalClosed, SessionMissing) as error:
            raise refusal(error) from error
        self._env.bus.emit("turn.queued", {"count": 1}, {"session": live.id})
        self.run(live, QueuedTurn(replace(turn, seq=event.seq), text, schema))
        return Accepted(turn=turn.id, session=live.id, seq=event.seq, status="queued", duplicate=False)

    async def tell_restarted(self, live: LiveSession) -> None:
        """The first message since this daemon was started says so, where there was a conversation before."""
        if live.restarted:
            await live.log.append([Draft("session.restarted", None)])
            live.restarted = False

    def run(self, live: LiveSession, queued: QueuedTurn) -> None:
        """Have a durable turn run, starting the session's actor if there is none."""
        live.pending[queued.record.id] = queued
        self._room.note(live)
        self.wake(live, queued.record.id)

    def wake(self, live: LiveSession, *turns: str) -> None:
        """Tell the session's actor of turns that wait (all without names); once too often does no harm.

        Where that cannot be now they stay pending, and on disk. A new actor is told of all that wait.
        """
        if self.draining or live.deleting:
            return
        try:
            if live.ref is None and live.pending:
                self._begin(live)
                turns = ()
            for turn in turns or tuple(live.pending):
                assert live.ref is not None
                live.ref.tell(RunTurn(turn))
        except ActorDeadError:
            return  # the actor is ending: `_on_exit` comes; or its supervisor is: the next manager recovers

    def _begin(self, live: LiveSession) -> None:
        ref = live.ref = self._start(self.crashes.actor_for(live), live.id)
        ref.when_stopped(lambda reason: self._on_exit(live, ref, reason))

    def _on_exit(self, live: LiveSession, ref: TrioActorRef[Any], reason: ExitReason) -> None:
        """A session's actor ended, whatever the reason. If messages wait, a new one goes on with them."""
        if live.ref is ref:
            live.ref = None
            if self.crashes.note_exit(live, ref.actor_class, reason):
                self.wake(live)


def check_key(key: str) -> None:
    """Raises Refused("bad_request") unless this can be an idempotency key."""
    if not key or len(key.encode("utf-8", "surrogateescape")) > _MAX_KEY_BYTES:
        raise Refused("bad_request", f"Idempotency-Key: expected 1 to {_MAX_KEY_BYTES} bytes")


def digest_of(value: object) -> str:
    """Tells a retry from other content under the same key."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def refusal(error: StorageFull | SessionFull | JournalClosed | SessionMissing) -> Refused:
    """What a client is told when the store did not take something."""
    match error:
        case StorageFull():
            return Refused(
                "storage_full",
                "the disk that holds the state is full; free some space and send again",
                retry_after_s=10,
            )
        case SessionFull():
            return Refused("too_large", f"{error}; an operator raises the bound in [retention]")
        case JournalClosed():
            return Refused("draining", "the daemon is stopping; send again in a moment", retry_after_s=5)
        case _:
            return Refused("not_found", str(error))
