"""A session of `claude`: turns of one conversation, by a warm process, or by new ones that resume it.

A process is started for a turn and stays for the next ones. It is closed when it is idle for long, when its place is
needed, and when a turn wants something that it has not (model, effort, schema, a cap): the next resumes the session by
its id. A session whose process died while it was idle goes on in a new one.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import AgentError, AgentRequest, AgentResult, AgentSpec, Watch
from skill_actors.backends.agents.claude.arguments import Shape, fits, shape_of
from skill_actors.backends.agents.claude.running import Running, Surroundings
from skill_actors.backends.agents.claude.session_options import SessionOptions
from skill_actors.backends.agents.slots import Slot
from skill_actors.backends.agents.turns_kept import KeepsTurns

__all__ = ["ClaudeSession"]

_INTERRUPT_S: Final = 2.0  # for a turn to end after an interrupt; then its process is stopped
_KILL_S: Final = 0.5  # from SIGTERM to SIGKILL
_DIED: Final = ("command_failed", "terminated")  # how a turn fails whose process has died before it


class ClaudeSession(KeepsTurns):
    """Made by `ClaudeBackend.start_session`."""

    def __init__(self, spec: AgentSpec, around: Surroundings) -> None:
        super().__init__(None if spec.fork else spec.session_id)
        self._spec = spec
        self._around = around
        self._options = SessionOptions.of(spec.options)
        self._is_known = spec.session_id is not None and not spec.fork  # a turn of it has been completed
        self._lock = trio.Lock()  # whoever starts, uses or closes the process
        self._running: Running | None = None
        self._shape: Shape | None = None  # of that process
        self._waiting: trio.CancelScope | None = None  # of a turn whose process is not there yet
        self._over = trio.Event()  # of the turn that runs
        self._interrupted = False

    @property
    def totals(self) -> Mapping[str, Any]:
        """Nothing: the program's counters begin anew in each process."""
        return {}

    async def interrupt(self) -> None:
        """Ask the turn to end; one that has not ended after 2 s is ended with its process."""
        if not self.in_turn:
            return
        self._interrupted, over = True, self._over
        if self._waiting is not None:
            self._waiting.cancel()
            return
        running = self._running
        if running is None:
            return
        with trio.move_on_after(_INTERRUPT_S):
            with suppress(AgentError):  # it has just ended
                await running.talk.interrupt()
            await over.wait()
            return
        await running.process.stop(_KILL_S)

    async def stop_session(self) -> None:
        """End the process, and the turn that runs. May be called twice."""
        self.stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self.in_turn and (running := self._running) is not None:
            running.talk.expect_end()
            await running.process.stop(_KILL_S)
        async with self._lock:
            await self._close()
        self._around.sessions.discard(self)

    async def cool(self) -> None:
        """Close the process, unless a turn runs."""
        if not self.in_turn and not self._lock.locked():
            async with self._lock:
                await self._close()

    # A turn

    async def _turn_of(self, request: AgentRequest, watch: Watch) -> AgentResult:
        self._interrupted, self._over = False, trio.Event()
        try:
            async with self._lock:
                try:
                    result = await self._perform(request, watch)
                finally:
                    with trio.CancelScope(shield=True):
                        await self._settle()
        finally:
            self._over.set()
        self._is_known = (result.session_id or self.session_id) is not None
        return result

    async def _perform(self, request: AgentRequest, watch: Watch) -> AgentResult:
        shape = shape_of(self._around.options, self._options, self._spec, request)
        content = _content(request, commands=self._options.slash_commands)
        was_warm = self._running is not None
        running = await self._ready(shape)
        try:
            return await running.talk.perform(content, watch)
        except AgentError as error:
            died = was_warm and error.code in _DIED and not running.talk.taken_up
            if not died or self._interrupted or self.stopped:
                raise
        await self._close()
        running = await self._ready(shape)
        return await running.talk.perform(content, watch)

    async def _ready(self, shape: Shape) -> Running:
        """A process that will do, the one that is there or a new one. Raises AgentError."""
        try:
            with trio.CancelScope() as self._waiting:
                if self._running is not None and not self._will_do(self._running, shape):
                    await self._close()
                if self._running is None:
                    self._running, self._shape = await self._start(shape), shape
        finally:
            self._waiting = None
        if self.stopped or self._interrupted or self._running is None:
            raise self._not_begun()
        return self._running

    def _will_do(self, running: Running, shape: Shape) -> bool:
        has = self._shape
        stays = running.slot.busy() and running.process.returncode is None
        return stays and running.talk.usable and has is not None and fits(has, shape, running.talk.spent_usd)

    async def _start(self, shape: Shape) -> Running:
        slot = await self._around.slots.take()
        try:
            return await self._start_with(slot, shape)
        except BaseException:
            slot.free()
            raise

    async def _start_with(self, slot: Slot, shape: Shape) -> Running:
        resume = self.session_id or (self._spec.session_id if self._spec.fork else None)
        if resume is not None:
            if self.session_id is None:
                await self._around.settle(resume)
            is_there = await self._around.bring(resume, self._spec.folder)
            if not is_there and not self._is_known and not self._spec.fork:
                resume = None  # its only turns failed before the program had written anything
        fork = self.session_id is None
        return await Running.start(self._around, self._spec, self._options, shape, resume, slot, fork=fork)

    def _not_begun(self) -> AgentError:
        if self.stopped:
            return self._refusal("closed", "the session was stopped")
        return self._refusal("interrupted", "the turn was interrupted before it began")

    async def _settle(self) -> None:
        """After a turn: the process stays, unless it cannot go on."""
        if self._running is None:
            return
        if self.stopped or not self._running.talk.usable:
            await self._close()
        else:
            self._running.slot.idle()

    async def _close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            with trio.CancelScope(shield=True):
                await running.close()


def _content(request: AgentRequest, *, commands: bool) -> list[dict[str, Any]]:
    """The message's blocks. A text that begins with a slash would be a command of the program."""
    is_command = request.prompt.startswith("/") and not commands
    images = [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": image.media_type,
                "data": base64.b64encode(image.data).decode(),
            },
        }
        for image in request.images
    ]
    return [{"type": "text", "text": f"\n{request.prompt}" if is_command else request.prompt}, *images]
