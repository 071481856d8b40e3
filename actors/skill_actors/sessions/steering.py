"""A word to a turn that runs, and holding a conversation still.

A steered message is durable before it is acknowledged: an event of the turn that runs, stored only while that turn is
bound to look at what was said before it ends. From then on it belongs to the conversation: the model is given it with
its next call, once. Where no turn can be reached any more the message becomes an ordinary one. What became of it stays
known under its idempotency key, which is stored in the same commit.

A paused conversation takes messages and runs none of them; a turn that runs holds before its next step. That is
stored too, so that a restart changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.intake import Accepted, Intake, NewMessage, refusal
from skill_actors.sessions.log import Draft
from skill_actors.sessions.message_files import shown_files
from skill_actors.sessions.pause import PAUSED
from skill_actors.sessions.session import LiveSession
from skill_actors.sessions.steered_keys import with_steered
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.uploads import write_files
from skill_actors.store.base import JournalClosed, SessionFull, SessionMissing, StorageFull

__all__ = ["Steering"]

_MAX_STEERED: Final = 64  # messages to one turn


class Steering:
    """Gives messages to turns that run; pauses and resumes sessions. Belongs to the trio thread."""

    def __init__(self, intake: Intake, env: Surroundings) -> None:
        self._intake = intake
        self._env = env

    async def steer(self, live: LiveSession, message: NewMessage) -> Accepted:
        """Give the running turn a message; when this returns it is on disk, and status says what it has become.

        It is "steered" where the running turn has it, and "queued" where it waits for a turn of its own.

        Raises:
            Refused: as `Intake.submit`; bad_request also for what only a turn of its own can have; overloaded also if
                this turn was given too many.

        """
        self._intake.check_key(message)
        _check_plain(message)
        async with live.taking_in():
            known = await self._intake.known(live, message)
            return known or await self._reach(live, message) or await self._intake.take(live, message)

    async def pause(self, live: LiveSession) -> None:
        """Hold the session; durable when this returns. Raises Refused: not_found, storage_full, draining."""
        await self._hold(live, paused=True)
        if live.turn is not None:
            live.turn.pause()

    async def resume(self, live: LiveSession) -> None:
        """Let it go on. Raises as `pause`."""
        await self._hold(live, paused=False)
        if live.turn is not None:
            live.turn.unpause()
        self._intake.wake(live)

    async def _hold(self, live: LiveSession, *, paused: bool) -> None:
        draft = Draft("session.paused" if paused else "session.resumed", None)
        try:
            await live.log.append_if(
                draft, lambda: live.paused is not paused, lambda _settings: {PAUSED: True if paused else None}
            )
        except (StorageFull, SessionFull, JournalClosed, SessionMissing) as error:
            raise refusal(error) from error

    async def _reach(self, live: LiveSession, message: NewMessage) -> Accepted | None:
        """Give it to the turn that runs; None if none can be reached, or it is a command, which is a turn of its own.

        Raises Refused.
        """
        turn = live.turn
        if turn is None or not turn.open or (message.files and not turn.takes_files):
            return None
        message = await self._intake.screened(live, message)
        self._intake.check_text(message.text, message.files)
        if not message.text.strip() and not message.files:
            raise Refused("bad_request", "text: the message is empty")
        if await self._intake.command_in(live, message.text) is not None:
            return None
        self._intake.check_session(live)
        if live.steered >= _MAX_STEERED:
            raise Refused(
                "overloaded",
                f"turn {turn.id} was given {_MAX_STEERED} messages already; send this one as a follow-up",
                retry_after_s=5,
            )
        data: dict[str, Any] = {"text": message.text_and_note, "files": message.named_files}
        if message.files:
            data |= await trio.to_thread.run_sync(shown_files, message.files)

        def remembered(settings: Mapping[str, Any]) -> Mapping[str, Any]:
            if message.key is None:
                return {}
            seq = live.log.record.last_seq + 1
            return with_steered(settings, message.key, turn=turn.id, seq=seq, digest=message.digest)

        def reachable() -> bool:
            return live.turn is turn and turn.open and not turn.cancelled

        try:
            if message.files:
                await write_files(self._env.workspaces / live.id, message.files)
            event = await live.log.append_if(Draft("turn.steered", turn.id, data), reachable, remembered)
        except (StorageFull, SessionFull, JournalClosed, SessionMissing) as error:
            raise refusal(error) from error
        if event is None:
            return None
        live.steered += 1
        self._env.bus.emit("turn.steered", {"count": 1}, {"session": live.id, "turn": turn.id})
        return Accepted(turn=turn.id, session=live.id, seq=event.seq, status="steered", duplicate=False)


def _check_plain(message: NewMessage) -> None:
    for field in ("schema", "options", "pinned", "compact"):
        if getattr(message, field) not in (None, False):
            raise Refused("bad_request", f"{field}: a message to a running turn cannot have it; send it as a follow-up")
