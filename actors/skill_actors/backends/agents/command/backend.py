"""The agent backend of a command: a program is started for each turn and ends with it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import (
    AgentCapabilities,
    AgentError,
    AgentErrorCode,
    AgentRequest,
    AgentResult,
    AgentSpec,
    Said,
    SessionKnown,
    TextDelta,
    Watch,
)
from skill_actors.backends.agents.command.answer import Answer, answer_of
from skill_actors.backends.agents.command.options import CommandOptions, argv_of, command_options, takes
from skill_actors.backends.agents.process import AgentProcess, ProcessLimits, open_nest, open_process
from skill_actors.backends.agents.slots import Slots
from skill_actors.backends.agents.turns_kept import KeepsTurns
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.backends.resident import Nest
from skill_actors.backends.workers import Host

__all__ = ["CommandBackend", "open_command"]

_GRACE_S: Final = 0.5
_SHOWN_STDERR: Final = 500


@asynccontextmanager
async def open_command(name: str, options: Mapping[str, Any], host: Host) -> AsyncIterator[CommandBackend]:
    """The backend of this name. Leaving it ends every program of it.

    Args:
        options: as `CommandOptions`, from a configuration.
        host: its folder is the programs' home; without one they have one until the backend is closed.

    Raises:
        BackendUnavailable: the options make no sense, or the folder cannot be used.

    """
    operator = command_options(name, options)
    made = None if host.folder is not None else await trio.to_thread.run_sync(tempfile.mkdtemp)
    folder = Path(made) if host.folder is None and made is not None else Path(str(host.folder))
    try:
        await trio.to_thread.run_sync(_make_folders, folder)
    except OSError as error:
        raise BackendUnavailable(f"the folder {folder} of {name} cannot be used: {error.strerror}") from error
    # Of its own name: a nest ends what an earlier life of it has left, and there may be several such backends.
    nest = await open_nest(host.owner, f"command{hashlib.sha256(name.encode()).hexdigest()[:16]}", host.programs)
    backend = CommandBackend(name, operator, folder, nest)
    try:
        yield backend
    finally:
        with trio.CancelScope(shield=True):
            await backend.aclose()
            if made is not None:
                await trio.to_thread.run_sync(partial(shutil.rmtree, made, ignore_errors=True))


class CommandBackend:
    """Serves all conversations. Made by `open_command`."""

    def __init__(self, name: str, options: CommandOptions, folder: Path, nest: Nest) -> None:
        self.name = name
        self.options = options
        self.folder = folder
        self.nest = nest
        self.slots = Slots(options.max_processes)
        self._sessions: list[CommandSession] = []

    @property
    def capabilities(self) -> AgentCapabilities:
        """What a program that is only started and read can do."""
        streams = self.options.output == "text"
        return AgentCapabilities(stream=streams, interrupt=True, resume=bool(self.options.resume))

    async def check(self) -> None:
        """Raise BackendUnavailable if the program is not there."""
        await trio.to_thread.run_sync(self._program)

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sessions choose nothing of it. Raises OptionRefused."""
        for name, value in options.items():
            raise OptionRefused(self.name, name, value, "this backend takes no options from sessions")
        return {}

    async def facts(self) -> Mapping[str, Any]:
        """The program's path, and the model it is told to use."""
        try:
            program = await trio.to_thread.run_sync(self._program)
        except BackendUnavailable:
            program = None
        return {"program": program, "model": self.options.model or None}

    async def start_session(self, spec: AgentSpec) -> CommandSession:
        """Starts no program yet."""
        self._sessions = [session for session in self._sessions if not session.stopped]
        session = CommandSession(self, spec)
        self._sessions.append(session)
        await trio.lowlevel.checkpoint()
        return session

    async def aclose(self) -> None:
        """Stop all sessions."""
        for session in self._sessions:
            await session.stop_session()

    def environment(self) -> dict[str, str]:
        """All of a program's environment."""
        base = {"PATH": self.options.path, "HOME": str(self.folder / "home"), "LANG": "C.UTF-8"}
        return {**base, "TMPDIR": str(self.folder / "tmp"), **self.options.environment}

    def _program(self) -> str:
        found = shutil.which(self.options.argv[0], path=self.options.path)
        if found is None:
            raise BackendUnavailable(
                f"the program {self.options.argv[0]!r} of the agent backend {self.name} is not there: install it, or "
                f"correct backends.command.{self.name}.argv or path"
            )
        return found


@dataclass(slots=True)
class _Running:
    """A turn under way. `ended_by`: why somebody has ended it."""

    process: AgentProcess | None = None
    ended_by: AgentErrorCode | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the program has printed."""
        return "".join(self.lines)

    async def end(self, code: AgentErrorCode, scope: trio.CancelScope) -> None:
        self.ended_by = self.ended_by or code
        if self.process is None:
            scope.cancel()
        else:
            await self.process.stop(_GRACE_S)


class CommandSession(KeepsTurns):
    """An AgentSession. What it remembers of the program is the id of its session, if it tells one."""

    def __init__(self, backend: CommandBackend, spec: AgentSpec) -> None:
        super().__init__(spec.session_id)
        self._backend = backend
        self._spec = spec
        self._running: _Running | None = None
        self._scope = trio.CancelScope()

    @property
    def totals(self) -> Mapping[str, Any]:
        """Such a program counts nothing on."""
        return {}

    async def interrupt(self) -> None:
        """End the program of the turn that runs."""
        if self._running is not None:
            await self._running.end("interrupted", self._scope)

    async def stop_session(self) -> None:
        """Take no more messages, and end the program of the turn that runs."""
        self.stopped = True
        if self._running is not None:
            await self._running.end("closed", self._scope)

    async def _turn_of(self, request: AgentRequest, watch: Watch) -> AgentResult:
        """Run the program once. Raises AgentError."""
        running = self._running = _Running()
        self._scope = trio.CancelScope()
        began_s = trio.current_time()
        answer: Answer | None = None
        try:
            with self._scope:
                answer = await self._perform(request, watch, running)
        except AgentError:
            if running.ended_by is None:
                raise
        finally:
            self._running = None
        if answer is None:
            code = running.ended_by or "terminated"
            raise AgentError(code, f"the program was ended: {code}", partial=running.text, acted=True)
        return self._result(answer, int((trio.current_time() - began_s) * 1000))

    async def _perform(self, request: AgentRequest, watch: Watch, running: _Running) -> Answer:
        options = self._backend.options
        async with self._backend.slots.slot():
            with trio.move_on_after(options.timeout_s or float("inf")) as time:
                folder = self._backend.folder / "tmp"
                async with _papers(folder, self._prompt(request), self._spec.system) as papers:
                    answer = await self._run(request, watch, running, papers)
            if time.cancelled_caught:
                words = f"the program took longer than {options.timeout_s:g} s, its timeout_s"
                raise AgentError("timeout", words, partial=running.text, acted=True)
        if answer.session_id is not None and answer.session_id != self.session_id:
            self.session_id = answer.session_id
            await watch.event(SessionKnown(answer.session_id))
        if answer.text and not answer.failed:
            await watch.event(Said([{"type": "text", "text": answer.text}]))
        return answer

    def _prompt(self, request: AgentRequest) -> str:
        begins = self.session_id is None and bool(self._spec.system) and not takes(self._backend.options, "system_file")
        return f"{self._spec.system}\n\n{request.prompt}" if begins else request.prompt

    async def _run(self, request: AgentRequest, watch: Watch, running: _Running, papers: Mapping[str, str]) -> Answer:
        options = self._backend.options
        values = {**papers, "folder": str(self._spec.folder), "session": self.session_id or ""}
        values["model"] = request.model or self._spec.model or options.model
        words = options.argv if self.session_id is None or not options.resume else options.resume
        limits = ProcessLimits(memory_bytes=options.memory_bytes or None, max_line_bytes=options.output_bytes)
        async with open_process(
            argv_of(words, values),
            cwd=self._spec.folder,
            env=self._backend.environment(),
            limits=limits,
            nest=self._backend.nest,
            agent=self._spec.agent,
        ) as process:
            running.process = process
            failure: Exception | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process, "" if takes(options, "prompt_file") else papers["prompt"])
                try:
                    await self._read(process, watch, running)
                except AgentError as error:  # raised outside, so that it does not come as a group
                    failure = AgentError(error.code, error.message, partial=running.text, acted=True)
                except Exception as error:
                    failure = error
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure
            code = await process.wait()
            if code != 0 or process.limited:
                raise AgentError("command_failed", _why(process, code), partial=running.text, acted=True)
        return answer_of(
            running.text,
            options.output,
            result=options.result,
            session=options.session,
            cost=options.cost,
            failed=options.failed,
        )

    async def _read(self, process: AgentProcess, watch: Watch, running: _Running) -> None:
        most, shown = self._backend.options.output_bytes, self._backend.options.output == "text"
        size = 0
        async with aclosing(process.lines()) as printed:
            async for line in printed:
                text = line.decode(errors="replace").replace("\0", "") + "\n"
                size += len(line) + 1
                if size > most:
                    raise AgentError("protocol", f"the program printed more than {most} bytes")
                running.lines.append(text)
                if shown:
                    await watch.event(TextDelta(text))

    def _result(self, answer: Answer, duration_ms: int) -> AgentResult:
        return AgentResult(
            result=answer.text,
            session_id=self.session_id,
            cost_usd=answer.cost_usd,
            is_error=answer.failed,
            duration_ms=duration_ms,
            num_turns=1,
            model=self._spec.model or self._backend.options.model or None,
            stop_reason=None if answer.failed else "end_turn",
            error="failed" if answer.failed else None,
        )


async def _feed(process: AgentProcess, prompt: str) -> None:
    """Give it the prompt and the end of its input; a program that does not read it may answer all the same."""
    with contextlib.suppress(AgentError):
        if prompt:
            await process.send(prompt.encode("utf-8", "replace"))
        await process.close_stdin()


def _why(process: AgentProcess, code: int) -> str:
    if process.limited:
        return f"the program took too much {process.limited}, and was ended"
    said = process.stderr_tail.strip()[-_SHOWN_STDERR:]
    return f"the program ended with status {code}" + (f": {said}" if said else "")


@asynccontextmanager
async def _papers(folder: Path, prompt: str, system: str) -> AsyncIterator[Mapping[str, str]]:
    """Files with the prompt and the system prompt, for nobody else to read, while the block runs."""
    made = Path(await trio.to_thread.run_sync(partial(tempfile.mkdtemp, dir=folder, prefix="turn-")))
    try:
        found = {"prompt": prompt}
        for name, text in (("prompt_file", prompt), ("system_file", system)):
            path = made / name.removesuffix("_file")
            await trio.to_thread.run_sync(path.write_bytes, text.encode("utf-8", "replace"))
            found[name] = str(path)
        yield found
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(partial(shutil.rmtree, made, ignore_errors=True))


def _make_folders(folder: Path) -> None:
    for name in ("home", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(folder, 0o700)
