"""What all conversations of the codex backend share: the program, its folders, its key, and who may run at once."""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from skill_actors.backends.agents.base import AgentError
from skill_actors.backends.agents.codex.arguments import environment
from skill_actors.backends.agents.codex.options import NAME, CodexOptions
from skill_actors.backends.agents.codex.program import Program, Start, keep
from skill_actors.backends.agents.process import ProcessLimits
from skill_actors.backends.agents.slots import Slots
from skill_actors.backends.resident import Nest
from skill_actors.models.credentials import CredentialError, KeyFile
from skill_actors.models.prices import PriceTable

__all__ = ["Shop", "find_program", "prepare"]

_TARGETS: Final[Mapping[str, tuple[str, str]]] = {
    "aarch64": ("linux-arm64", "aarch64-unknown-linux-musl"),
    "x86_64": ("linux-x64", "x86_64-unknown-linux-musl"),
}


class Shop:
    """Made by the backend.

    Args:
        nursery: in which programs are kept.
        home: the folder of the backend; with `codex`, `home` and `tmp` in it.

    """

    def __init__(
        self, options: CodexOptions, nursery: trio.Nursery, nest: Nest, home: Path, prices: PriceTable
    ) -> None:
        self.options = options
        self.home = home
        self.prices = prices
        self.slots = Slots(options.max_processes)
        self._checks = Slots(1)  # a look at the program waits for no conversation
        self._nursery = nursery
        self._nest = nest
        self._key = KeyFile(options.api_key_file) if options.api_key_file is not None else None

    @property
    def settings(self) -> Path:
        """CODEX_HOME of the program: its threads, and what `codex login` has left."""
        return self.home / "codex"

    def key(self) -> str | None:
        """The API key; None where the program is logged in by itself. Reads a file. Raises CredentialError."""
        return self._key() if self._key is not None else self.options.api_key or None

    async def find(self) -> str:
        """Path of the program. Raises AgentError "binary_not_found"."""
        return await trio.to_thread.run_sync(find_program, self.options.program, self.options.path)

    async def start(self, argv: Sequence[str], *, agent: str, folder: Path, checking: bool = False) -> Program:
        """Start a program, once it may run; it is kept until it ends or is to end.

        Raises:
            AgentError: it cannot be started, or there is no key for it.

        """
        try:
            key = await trio.to_thread.run_sync(self.key)
        except CredentialError as error:
            raise AgentError("auth", str(error)) from error
        temporary = self.home / "tmp" / f"{hashlib.sha256(agent.encode()).hexdigest()[:16]}{secrets.token_hex(4)}"
        start = Start(
            argv=argv,
            folder=folder,
            environment=environment(self.options, home=self.home, temporary=temporary, key=key),
            temporary=temporary,
            limits=ProcessLimits(memory_bytes=self.options.memory_bytes or None),
            idle_close_s=self.options.idle_close_s,
            nest=self._nest,
            agent=agent,
        )
        program: Program = await self._nursery.start(partial(keep, self._checks if checking else self.slots, start))
        return program


def prepare(home: Path) -> None:
    """Make the folders of the backend; what programs left in the last one is of nobody any more. Blocks."""
    shutil.rmtree(home / "tmp", ignore_errors=True)
    for name in ("codex", "home", "tmp"):
        (home / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def find_program(program: str, path: str) -> str:
    """The native program behind a name or a path. Blocks.

    An npm package has a script in front of it, which starts it as a child and outlives it badly.

    Raises:
        AgentError: "binary_not_found", with the remedy.

    """
    found = shutil.which(program, path=path)
    if found is None:
        raise AgentError(
            "binary_not_found",
            f"there is no program {program!r} in {path}: install codex and name its path in backends.{NAME}.program",
        )
    real = Path(found).resolve()
    return next((str(native) for native in _natives(real) if os.access(native, os.X_OK)), found)


def _natives(script: Path) -> Sequence[Path]:
    """Where the npm package that the script is of has the native program."""
    target = _TARGETS.get(platform.machine())
    if script.name != "codex.js" or target is None:
        return ()
    package = script.parent.parent
    short, triple = target
    rest = Path("vendor") / triple / "bin" / "codex"
    return (
        package / "node_modules" / "@openai" / f"codex-{short}" / rest,
        package.parent / f"codex-{short}" / rest,
        package / rest,
    )
