"""The codex backend: OpenAI's `codex` program as a whole agent, with threads and an environment of its own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import AgentCapabilities, AgentError, AgentSession, AgentSpec
from skill_actors.backends.agents.codex.configuration import configuration
from skill_actors.backends.agents.codex.options import NAME, CodexOptions, checked, chosen
from skill_actors.backends.agents.codex.session import CodexSession
from skill_actors.backends.agents.codex.shop import Shop, prepare
from skill_actors.backends.agents.process import open_nest
from skill_actors.backends.base import BackendUnavailable
from skill_actors.backends.workers import Host
from skill_actors.models.credentials import CredentialError
from skill_actors.models.prices import load_prices

__all__ = ["MIN_VERSION", "CodexBackend", "open_codex"]

MIN_VERSION: Final = (0, 169, 0)
_VERSION: Final = re.compile(r"\b(\d+)\.(\d+)\.(\d+)")
_ASK_S: Final = 10.0  # for the program to say what it is
_EXEC_FLAGS: Final = ("--json", "--skip-git-repo-check", "--profile", "--sandbox", "--cd", "--output-schema", "--image")


class CodexBackend:
    """`AgentBackend` over the program. Made by `open_codex`."""

    name = NAME

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._sessions: set[CodexSession] = set()
        self._closed = False

    @property
    def capabilities(self) -> AgentCapabilities:
        warm = self._shop.options.warm
        return AgentCapabilities(
            stream=warm,
            interrupt=True,
            resume=True,
            fork=True,
            approvals=warm,
            budget="tokens" if warm else "none",
            structured_output=True,
            images=True,
            mcp=True,
        )

    async def check(self) -> None:
        try:
            path = await self._shop.find()
            version = await self._version(path)
        except AgentError as error:
            raise BackendUnavailable(f"{NAME}: {error.message}") from error
        if version is None or version < MIN_VERSION:
            told, least = (".".join(map(str, each)) for each in (version or (), MIN_VERSION))
            known = f"codex {told}" if told else "of no known version"
            raise BackendUnavailable(f"{NAME}: {path} is {known}; install {least} or later")
        await self._check_flags(path)
        await trio.to_thread.run_sync(self._check_login)

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        choice = chosen(options, self._shop.options)
        return {name: getattr(choice, name) for name in sorted(options)}

    async def facts(self) -> Mapping[str, Any]:
        options = self._shop.options
        known: dict[str, Any] = {"folder": str(self._shop.home), "login": "key" if options.has_key else "codex login"}
        try:
            path = await self._shop.find()
            version = await self._version(path)
        except AgentError as error:
            return {**known, "problem": error.message}
        return {**known, "program": path, "version": ".".join(map(str, version)) if version else None}

    async def start_session(self, spec: AgentSpec) -> AgentSession:
        if self._closed:
            raise AgentError("closed", f"the {NAME} backend is closed")
        choice = chosen(spec.options, self._shop.options)
        # As the program will call it: what is said of the folder has to meet that name.
        spec = replace(spec, folder=Path(await trio.Path(spec.folder).resolve()))
        configuration(spec, choice, self._shop.options)  # what cannot be said to the program is said now
        session = CodexSession(self._shop, spec, choice, forget=self._sessions.discard)
        self._sessions.add(session)
        return session

    async def aclose(self) -> None:
        self._closed = True
        async with trio.open_nursery() as nursery:
            for session in tuple(self._sessions):
                nursery.start_soon(session.stop_session)

    async def _version(self, path: str) -> tuple[int, ...] | None:
        said = await self._say(path, "--version")
        found = _VERSION.search(said)
        return tuple(int(part) for part in found.groups()) if found else None

    async def _check_flags(self, path: str) -> None:
        try:
            said = await self._say(path, "exec", "--help")
            served = not self._shop.options.warm or "--listen" in await self._say(path, "app-server", "--help")
        except AgentError as error:
            raise BackendUnavailable(f"{NAME}: {error.message}") from error
        lacking = [flag for flag in _EXEC_FLAGS if flag not in said]
        if lacking or not served:
            what = ", ".join(lacking) or "app-server"
            raise BackendUnavailable(f"{NAME}: {path} has no {what}; install the version that the manual names")

    def _check_login(self) -> None:
        try:
            if self._shop.key() is not None:
                return
        except CredentialError as error:
            raise BackendUnavailable(f"{NAME}: {error}") from error
        if not (self._shop.settings / "auth.json").is_file():
            raise BackendUnavailable(
                f"{NAME}: there is no credential: name a file with an API key in backends.{NAME}.api_key_file, or log "
                f"in with CODEX_HOME={self._shop.settings} codex login, as the user of the daemon"
            )

    async def _say(self, path: str, *arguments: str) -> str:
        """What the program prints for these arguments. Raises AgentError."""
        with trio.move_on_after(_ASK_S):
            program = await self._shop.start([path, *arguments], agent="", folder=self._shop.home, checking=True)
            try:
                await program.process.close_stdin()
                lines = [line async for line in program.process.lines()]
                await program.process.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await program.stop()
            return b"\n".join(lines).decode(errors="replace")
        raise AgentError("timeout", f"{path} {' '.join(arguments)} said nothing within {_ASK_S:g} s")


@asynccontextmanager
async def open_codex(options: Mapping[str, Any], host: Host) -> AsyncIterator[CodexBackend]:
    """Open the backend; leaving the block stops all its sessions.

    Raises:
        BackendUnavailable: the options make no sense, or there is no folder for it.

    """
    made = checked(options)
    home = _home(made, host)
    try:
        await trio.to_thread.run_sync(prepare, home)
    except OSError as error:
        raise BackendUnavailable(f"{NAME}: the folder {home} cannot be used: {error}") from error
    nest = await open_nest(host.owner, "codex", host.programs)
    prices = made.prices if made.prices is not None else await trio.to_thread.run_sync(load_prices)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        backend = CodexBackend(Shop(made, nursery, nest, home, prices))
        try:
            yield backend
        except Exception as error:
            failure = error  # raised outside, so that it does not come as a group
        finally:
            with trio.CancelScope(shield=True):
                await backend.aclose()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _home(options: CodexOptions, host: Host) -> Path:
    if options.folder is not None:
        return options.folder
    if host.folder is None:
        raise BackendUnavailable(f"{NAME}: it needs a folder for its threads: name one in backends.{NAME}.folder")
    return host.folder / NAME
