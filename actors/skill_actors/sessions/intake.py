"""How a message gets in: checked, written to disk, acknowledged, and only then told to the session's actor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

import trio

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.runtime import ActorDeadError, ExitReason, TrioActor, TrioActorRef
from skill_actors.sessions.answer_schema import check_schema
from skill_actors.sessions.commands import SlashCommand, parse_command
from skill_actors.sessions.crashes import Crashes
from skill_actors.sessions.dialogue import MAX_PINNED_BYTES
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.lineage import first_title
from skill_actors.sessions.log import Draft
from skill_actors.sessions.message_files import shown_files
from skill_actors.sessions.offered import offered_skills
from skill_actors.sessions.room import WaitingRoom
from skill_actors.sessions.session import LiveSession, QueuedTurn, RunTurn
from skill_actors.sessions.steered_keys import steered_under
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import not_found
from skill_actors.sessions.turn_options import TurnOptions, check_turn_options
from skill_actors.sessions.uploads import check_files, write_files
from skill_actors.skills.entry import entry_argv
from skill_actors.store.base import JournalClosed, SessionFull, SessionMissing, StorageFull, TurnRecord

__all__ = ["Accepted", "Intake", "Mode", "NewMessage", "StartSession", "check_key", "digest_of", "refusal"]

_MAX_KEY_BYTES: Final = 255

Mode = Literal["follow_up", "steer", "interrupt"]

_PLAIN: Final[Mapping[str, Any]] = {"options": None, "mode": "follow_up", "compact": False, "pinned": False}

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


@dataclass(frozen=True)
class NewMessage:
    """What somebody says.

    Args:
        files: (name, content) put into the workspace before the turn.
        key: the same key gives the same turn for as long as the turn is kept.
        schema: a JSON schema that the answer has to keep to, else the turn fails; None for that of the session, if it
            has one; False for text in any case.
        options: what differs in this turn from the rest of the session; see `turn_options`.
        mode: "interrupt" cancels the turn that runs, and has this one go before those that wait.
        compact: the turn makes the conversation shorter, and the text may be empty.
        pinned: the message stays whole when the conversation is made shorter.
        note: stands below the text for the model, and makes no other message of it under the same key.
        known_as: the digest of what was said, where the text is another by now.
        most_waiting: refused if so many messages wait behind the turn that runs, where fewer may than in others.

    """

    text: str
    files: Sequence[tuple[str, bytes]] = ()
    key: str | None = None
    schema: Mapping[str, Any] | Literal[False] | None = None
    options: Mapping[str, Any] | None = None
    mode: Mode = "follow_up"
    compact: bool = False
    pinned: bool = False
    note: str = ""
    most_waiting: int | None = None
    known_as: str | None = None

    @property
    def text_and_note(self) -> str:
        """What the model is told."""
        return f"{self.text}\n\n{self.note}" if self.note else self.text

    @property
    def asked_schema(self) -> Mapping[str, Any] | None:
        """The schema that the message itself asks for."""
        return None if self.schema is False else self.schema

    @property
    def named_files(self) -> Sequence[Mapping[str, Any]]:
        """The files as events name them."""
        return [{"name": name, "size": len(content)} for name, content in self.files]

    @cached_property
    def digest(self) -> str:
        """Tells a retry from other content under the same key; messages that ask for nothing have one of old."""
        if self.known_as is not None:
            return self.known_as
        content: list[Any] = [self.text, [[name, hashlib.sha256(raw).hexdigest()] for name, raw in self.files]]
        if self.schema is not None:
            content.append(self.schema)
        asked = {name: value for name in _PLAIN if (value := getattr(self, name)) != _PLAIN[name]}
        return digest_of([*content, asked] if asked else content)


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

    async def submit(self, live: LiveSession, message: NewMessage) -> Accepted:
        """Take a message; when this returns it is on disk and will be answered, also after a crash.

        Raises:
            Refused: bad_request, not_found, idempotency_conflict, overloaded, no_entry_command, too_large, draining,
                storage_full, policy_denied, internal (the session crashed too often), backend_unavailable (no such
                model). Nothing was stored then.

        """
        self.check_key(message)
        async with live.taking_in():
            return await self.known(live, message) or await self.take(live, message)

    def check_key(self, message: NewMessage) -> None:
        """Raises Refused: bad_request, or draining."""
        if message.key is not None:
            check_key(message.key)
        self.refuse_if_draining()

    async def known(self, live: LiveSession, message: NewMessage) -> Accepted | None:
        """What the message's key stands for already; None if for nothing. Raises Refused("idempotency_conflict").

        To be asked first of all: a retry gets its turn also when the same message would be refused by now.
        """
        if message.key is None:
            return None
        turn = await self._env.journal.find_turn(live.id, message.key)
        return _steered(live, message.key, message.digest) if turn is None else _same_turn(turn, message.digest)

    async def take(self, live: LiveSession, message: NewMessage) -> Accepted:
        """Take a message whose key is new, for whoever takes in messages of the session now. Raises as `submit`."""
        message = await self.screened(live, message)
        options = await self._check_message(live, message)
        self.check_session(live)
        self._check_queue(live, message.most_waiting)
        with self._room.place(live.log.record.owner_uid):
            return await self._queue(live, message, options)

    async def screened(self, live: LiveSession, message: NewMessage) -> NewMessage:
        """The message, and its files, as they may be said.

        Raises:
            Refused: policy_denied, or bad_request for files that cannot be any; it is stored nowhere then.

        """
        if self._env.screen is None:
            return message
        owner_uid, screen, files = live.log.record.owner_uid, self._env.screen, message.files
        text = await screen.message(owner_uid, live.id, message.text)
        if files:
            check_files(files)  # too many are not worth the time
            files = await screen.files(owner_uid, live.id, files)
        if text == message.text and files is message.files:
            return message
        return replace(message, text=text, files=files, known_as=message.digest)

    def check_text(self, text: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Raise Refused unless this can be said: bad_request, too_large."""
        limit = self._env.defaults.max_message_chars
        if len(text) > limit:
            raise Refused("too_large", f"the text has {len(text)} characters; at most {limit}. Put it into a file")
        if "\0" in text:
            raise Refused("bad_request", "text: contains a NUL character")
        check_files(files)

    async def command_in(self, live: LiveSession, text: str) -> SlashCommand | None:
        """The skill's command that the text asks for, if it does. Raises Refused("no_entry_command")."""
        if not text.startswith("/"):
            return None
        record = live.log.record
        allowed = (await offered_skills(self._env, record.owner_uid, record.settings)).skills
        command = parse_command(text, allowed)
        if command is not None:
            entry_argv(allowed[command.skill], "", command.arguments)
        return command

    async def _check_message(self, live: LiveSession, message: NewMessage) -> TurnOptions | None:
        self.check_text(message.text, message.files)
        if not message.text.strip() and not message.files and not message.compact:
            raise Refused("bad_request", "text: the message is empty")
        if message.pinned and len(message.text.encode("utf-8", "replace")) > MAX_PINNED_BYTES:
            raise Refused("bad_request", f"pinned: at most {MAX_PINNED_BYTES} bytes can stay whole; pin what matters")
        if message.asked_schema is not None:
            check_schema(message.asked_schema)
        command = await self.command_in(live, message.text)
        if command is not None and message.asked_schema is not None:
            raise Refused("bad_request", f"schema: /{command.skill} runs a command; only models keep to one")
        return await check_turn_options(self._env, live.log.record, message.options)

    def check_session(self, live: LiveSession) -> None:
        """Raise Refused unless the session takes messages: not_found, internal."""
        if live.deleting:
            raise not_found("session", live.id)
        self.crashes.refuse_if_poisoned(live.id)

    def _check_queue(self, live: LiveSession, most_waiting: int | None) -> None:
        bound = self._env.defaults.queued_messages
        waits = len(live.pending)
        if most_waiting is not None and most_waiting < bound:
            bound = most_waiting
            waits -= live.turn is None  # the first of them is about to run
        if waits >= bound:
            raise Refused(
                "overloaded",
                f"session {live.id} has {bound} messages waiting already; send again when a turn has ended",
                details={"reason": "queue_full", "queued": bound},
                retry_after_s=5,
            )

    async def _queue(self, live: LiveSession, message: NewMessage, options: TurnOptions | None) -> Accepted:
        now = utc_now()
        turn = TurnRecord(
            id=new_id("trn"),
            session=live.id,
            seq=0,
            status="queued",
            created=now,
            updated=now,
            idempotency_key=message.key,
            digest=message.digest,
        )
        data = await self._data(live, message, options)
        try:
            if message.files:
                await write_files(self._env.workspaces / live.id, message.files)
            await self.tell_restarted(live)
            title = first_title(message.text, [name for name, _ in message.files])
            event = await live.log.queue(Draft("turn.queued", turn.id, data), turn, title=title)
        except (StorageFull, SessionFull, JournalClosed, SessionMissing) as error:
            raise refusal(error) from error
        self._env.bus.emit("turn.queued", {"count": 1}, {"session": live.id})
        if message.mode == "interrupt" and live.turn is not None:
            live.turn.cancel("interrupted by a newer message")
        self.run(live, QueuedTurn.of(replace(turn, seq=event.seq), data))
        return Accepted(turn=turn.id, session=live.id, seq=event.seq, status="queued", duplicate=False)

    async def _data(self, live: LiveSession, message: NewMessage, options: TurnOptions | None) -> dict[str, Any]:
        """Of the turn.queued event."""
        data: dict[str, Any] = {"text": message.text_and_note, "files": message.named_files}
        schema = message.asked_schema
        if message.schema is None and await self.command_in(live, message.text) is None:  # only models keep to one
            schema = live.log.record.settings.get("schema")
        if schema is not None and not message.compact:
            data["schema"] = dict(schema)
        if options is not None:
            data["options"] = options.to_json()
        if message.mode == "interrupt":
            data["mode"] = message.mode
        if message.files:
            data |= await trio.to_thread.run_sync(shown_files, message.files)
        return {**data, **{name: True for name in ("compact", "pinned") if getattr(message, name)}}

    async def tell_restarted(self, live: LiveSession) -> None:
        """The first message since this daemon was started says so, where there was a conversation before."""
        if live.restarted:
            await live.log.append([Draft("session.restarted", None)])
            live.restarted = False

    def run(self, live: LiveSession, queued: QueuedTurn) -> None:
        """Have a durable turn run, starting the session's actor if there is none."""
        self.put(live, queued)
        self.wake(live, queued.record.id)

    def put(self, live: LiveSession, queued: QueuedTurn) -> None:
        """Have a durable turn wait, without telling anybody."""
        live.put(queued)
        self._room.note(live)

    def wake(self, live: LiveSession, *turns: str) -> None:
        """Tell the session's actor of turns that wait (all without names); once too often does no harm.

        Where that cannot be now they stay pending, and on disk. A new actor is told of all that wait.
        """
        if self.draining or live.deleting or live.paused:
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


def _same_turn(known: TurnRecord, digest: str) -> Accepted:
    if known.digest != digest:
        raise Refused(
            "idempotency_conflict",
            f"key {known.idempotency_key!r} belongs to turn {known.id}, which has other content; use a new key",
        )
    return Accepted(turn=known.id, session=known.session, seq=known.seq, status=known.status, duplicate=True)


def _steered(live: LiveSession, key: str, digest: str) -> Accepted | None:
    """What was steered under a key. Raises Refused("idempotency_conflict")."""
    found = steered_under(live.log.record.settings, key)
    if found is None:
        return None
    if found["digest"] != digest:
        raise Refused(
            "idempotency_conflict",
            f"key {key!r} belongs to a message to turn {found['turn']}, which has other content; use a new key",
        )
    return Accepted(turn=found["turn"], session=live.id, seq=found["seq"], status="steered", duplicate=True)


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
