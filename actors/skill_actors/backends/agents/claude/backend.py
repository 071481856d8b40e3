"""The agent backend `claude_cli`: the `claude` program performs the turns of a conversation."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import AgentCapabilities, AgentError, AgentSession, AgentSpec
from skill_actors.backends.agents.claude.arguments import FLAGS, Places, Shape, environment
from skill_actors.backends.agents.claude.options import MIN_VERSION, NAME, checked
from skill_actors.backends.agents.claude.papers import Papers
from skill_actors.backends.agents.claude.running import Surroundings
from skill_actors.backends.agents.claude.session import ClaudeSession
from skill_actors.backends.agents.claude.session_options import SessionOptions, check, is_model
from skill_actors.backends.agents.process import open_nest, open_process
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from skill_actors.backends.workers import Host

__all__ = ["ClaudeBackend", "open_claude"]

_ASK_S: Final = 20.0  # for the program to say its version, or its help
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)")
_FLAG: Final = re.compile(r"--[a-z][A-Za-z-]*")
# Variables by which the program finds a credential of another kind; the operator may set them.
_CREDENTIALS: Final = (
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
)


@asynccontextmanager
async def open_claude(options: Mapping[str, Any], host: Host) -> AsyncIterator[ClaudeBackend]:
    """The backend, with a nursery for its processes. Leaving it ends them all.

    Args:
        options: as `ClaudeOptions`, from a configuration.
        host: its folder keeps the program's sessions; without one they are gone when the backend is closed.

    Raises:
        BackendUnavailable: the options make no sense, or the folder cannot be used.

    """
    operator = checked(options)
    folder = host.folder or Path(await trio.to_thread.run_sync(tempfile.mkdtemp))
    try:
        papers = await trio.to_thread.run_sync(Papers, folder)
    except OSError as error:
        raise BackendUnavailable(f"the folder {folder} of {NAME} cannot be used: {error.strerror}") from error
    nest = await open_nest(host.owner, "claude", host.programs)
    try:
        async with trio.open_nursery() as nursery:
            around = Surroundings(operator, papers, nest, nursery)
            backend = ClaudeBackend(around)
            try:
                yield backend
            finally:
                with trio.CancelScope(shield=True):
                    await backend.aclose()
                nursery.cancel_scope.cancel()
    finally:
        if host.folder is None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))


class ClaudeBackend:
    """Serves all conversations. Made by `open_claude`."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._closed = False
        self._checked: tuple[int, ...] | None = None  # the version that was found to do

    @property
    def name(self) -> str:
        return NAME

    @property
    def capabilities(self) -> AgentCapabilities:
        duplex = self._around.options.duplex
        return AgentCapabilities(
            stream=duplex,
            interrupt=True,
            resume=True,
            fork=True,
            approvals=duplex,
            budget="money",
            structured_output=True,
            images=duplex,
            mcp=True,
        )

    @property
    def running(self) -> int:
        """How many processes there are."""
        return self._around.slots.held

    async def check(self) -> None:
        """Raise BackendUnavailable if the program is missing, too old or other than expected, or has no credential."""
        if self._closed:
            raise BackendUnavailable(f"the backend {NAME} is closed; the daemon is stopping")
        await trio.to_thread.run_sync(self._check_credential)
        version = _version_of(await self._say("--version"))
        if version is None or version < MIN_VERSION:
            found = "no version" if version is None else _dotted(version)
            raise BackendUnavailable(
                f"the program {self._around.options.program} says {found}, and {_dotted(MIN_VERSION)} is needed: "
                "update it, or name another one in backends.claude_cli.program"
            )
        if version != self._checked:
            missing = sorted(FLAGS - set(_FLAG.findall(await self._say("--help"))))
            if missing:
                raise BackendUnavailable(
                    f"the program {self._around.options.program} ({_dotted(version)}) has no option "
                    f"{', '.join(missing)}; install version {_dotted(MIN_VERSION)}"
                )
        self._checked = version

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `SessionOptions`. Raises OptionRefused."""
        return check(options, self._around.options, is_root=os.geteuid() == 0)

    async def facts(self) -> Mapping[str, Any]:
        """The program's path and version (None where it does not run), and how many of it may run and do."""
        options = self._around.options
        find = partial(shutil.which, options.program, path=options.path)
        try:
            version = _version_of(await self._say("--version"))
        except BackendUnavailable:
            version = None
        return {
            "program": await trio.to_thread.run_sync(find),
            "version": None if version is None else _dotted(version),
            "processes": self.running,
            "max_processes": options.max_processes,
        }

    async def start_session(self, spec: AgentSpec) -> AgentSession:
        """Make a session. Raises BackendUnavailable, OptionRefused."""
        if self._closed:
            raise BackendUnavailable(f"the backend {NAME} is closed; the daemon is stopping")
        if spec.model is not None and not is_model(spec.model):
            raise OptionRefused(NAME, "model", spec.model, "it must be a model's name")
        session = ClaudeSession(spec, self._around)
        self._around.sessions.add(session)
        return session

    async def aclose(self) -> None:
        """Stop all sessions. May be called twice."""
        self._closed = True
        async with trio.open_nursery() as nursery:
            for session in list(self._around.sessions):
                nursery.start_soon(session.stop_session)

    def _check_credential(self) -> None:
        options = self._around.options
        if options.api_key_file:
            if not os.access(options.api_key_file, os.R_OK):
                raise BackendUnavailable(
                    f"{options.api_key_file} (backends.claude_cli.api_key_file) cannot be read; make it readable "
                    "for the daemon, or name another file"
                )
            return
        named = any(options.environment.get(name) for name in _CREDENTIALS)
        if not (options.api_key or options.socket or named or self._around.papers.has_login):
            raise BackendUnavailable(
                "the claude program has no credential: put a key of the API in a file that only the daemon can read, "
                "and name it in backends.claude_cli.api_key_file"
            )

    async def _say(self, flag: str) -> str:
        """What the program answers to a flag. Raises BackendUnavailable."""
        around = self._around
        places = Places(home=around.papers.home, config=around.papers.config, temporary=around.papers.temporary)
        env = environment(
            around.options, SessionOptions(), Shape(model=None, effort=None, max_tokens=None, schema=None), places
        )
        env.pop("ANTHROPIC_API_KEY", None)
        said = b""
        try:
            with trio.move_on_after(_ASK_S):
                argv = [around.options.program, flag]
                async with open_process(argv, cwd=Path("/"), env=env, limits=around.limits, nest=around.nest) as asked:
                    await asked.close_stdin()
                    while (line := await asked.next_line()) is not None:
                        said += line + b"\n"
                    if await asked.wait() == 0:
                        return said.decode(errors="replace")
                    why = asked.stderr_tail.strip()[-300:] or f"it ended with {asked.returncode}"
                    raise BackendUnavailable(f"{argv[0]} {flag} failed: {why}; mend its installation")
        except AgentError as error:
            raise BackendUnavailable(
                f"{error}; install the claude program ({_dotted(MIN_VERSION)} or later), or say where it is in "
                "backends.claude_cli.program"
            ) from error
        raise BackendUnavailable(f"{around.options.program} {flag} said nothing for {_ASK_S:g} s")


def _version_of(text: str) -> tuple[int, int, int] | None:
    found = _VERSION.search(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
