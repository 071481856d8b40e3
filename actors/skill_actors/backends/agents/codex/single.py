"""A turn that is a program of its own: `codex exec --json`, with what holds for it in a profile that goes with it."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import trio

from skill_actors.backends.agents.base import AgentError, AgentRequest, AgentSpec, Watch
from skill_actors.backends.agents.codex.arguments import exec_arguments
from skill_actors.backends.agents.codex.configuration import as_toml, configuration, provider, sandbox_of
from skill_actors.backends.agents.codex.options import SessionChoice
from skill_actors.backends.agents.codex.program import Program
from skill_actors.backends.agents.codex.reading import Reading, parse
from skill_actors.backends.agents.codex.server import why_ended
from skill_actors.backends.agents.codex.shop import Shop
from skill_actors.backends.agents.codex.turns import Turn
from skill_actors.backends.agents.codex.usage import Meter
from skill_actors.backends.agents.codex.warm import printable

__all__ = ["SingleTurn"]


class SingleTurn(Turn):
    """One turn, and one program."""

    counts = False

    def __init__(
        self,
        shop: Shop,
        spec: AgentSpec,
        choice: SessionChoice,
        meter: Meter,
        request: AgentRequest,
        watch: Watch,
    ) -> None:
        self._name = f"skilld-{secrets.token_hex(8)}"
        super().__init__(Reading(meter, spec.session_id, prefix=f"{self._name[-8:]}_"), request, watch)
        self._shop = shop
        self._spec = spec
        self._choice = choice
        self._program: Program | None = None

    async def _perform(self) -> None:
        files = self._files()
        try:
            await trio.to_thread.run_sync(partial(_write, files))
            program = await self._unless_given_up(self._start)
            self._program = program
            try:
                await self._hear(program)
            finally:
                with trio.CancelScope(shield=True):
                    await program.stop()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(_remove, files))

    async def _start(self) -> Program:
        spec, request = self._spec, self.request
        argv = exec_arguments(
            await self._shop.find(),
            profile=self._name,
            folder=spec.folder,
            sandbox=sandbox_of(self._choice, self._shop.options),
            model=self.reading.meter.model or "",
            schema=self._beside("schema.json") if request.schema is not None else None,
            images=[self._beside(f"{number}.image") for number in range(len(request.images))],
            resume=spec.session_id,
            fork=spec.fork,
        )
        return await self._shop.start(argv, agent=spec.agent, folder=spec.folder)

    async def _hear(self, program: Program) -> None:
        process = program.process
        # It may end without reading all of it, and says why by itself.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_give, program, printable(self.request.prompt).encode())
            failure = await self._read(program)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        code = await process.wait()
        if not self.reading.done or (code != 0 and self.reading.failure is None):
            raise await why_ended(program)

    async def _read(self, program: Program) -> Exception | None:
        """Tell what it says until it says no more; what went wrong, so that it does not come as a group."""
        try:
            while (line := await program.process.next_line()) is not None:
                message = parse(line)
                if message is not None:
                    await self._tell(self.reading.line(message))
        except Exception as error:
            return error
        return None

    async def _ask_end(self) -> None:
        if self._program is not None:
            await self._program.process.signal(signal.SIGINT)

    async def _end(self) -> None:
        if self._program is not None:
            await self._program.stop()

    def _files(self) -> Mapping[Path, bytes]:
        """What the program reads besides its prompt."""
        operator, request = self._shop.options, self.request
        settings = {
            **provider(operator),
            **configuration(self._spec, self._choice, operator),
            "approval_policy": "never",
        }
        if request.effort is not None:
            settings["model_reasoning_effort"] = request.effort
        files = {self._shop.settings / f"{self._name}.config.toml": printable(as_toml(settings)).encode()}
        if request.schema is not None:
            files[self._beside("schema.json")] = json.dumps(request.schema).encode()
        for number, image in enumerate(request.images):
            files[self._beside(f"{number}.image")] = image.data
        return files

    def _beside(self, name: str) -> Path:
        return self._shop.settings / f"{self._name}.{name}"


async def _give(program: Program, data: bytes) -> None:
    """The prompt, and the end of it: a program whose input stays open waits for ever."""
    try:
        await program.process.send(data)
    except AgentError:  # it reads no more: its end says why
        return
    await program.process.close_stdin()


def _write(files: Mapping[Path, bytes]) -> None:
    for path, data in files.items():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)


def _remove(files: Mapping[Path, bytes]) -> None:
    for path in files:
        path.unlink(missing_ok=True)
