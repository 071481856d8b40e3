"""Running git: bounded in time and output, and with nothing of the host's or the user's configuration.

A repository's own configuration holds: its filters run when files are compared, as they do for whoever works in it.
What it could start besides does not: no hooks, no file system monitor, no pager, no external diff, no questions.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import trio

__all__ = ["Git", "GitError", "GitOutput"]

_CHUNK: Final = 65_536
_MAX_ERROR_BYTES: Final = 8_192
_ALWAYS: Final = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.untrackedCache=false"),
    *("-c", "core.quotePath=false"),
    *("-c", "color.ui=false"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "log.showSignature=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "protocol.allow=never"),
)
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "false",
    "GIT_PAGER": "cat",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
}


class GitError(Exception):
    """Git could not do it; the message is what it said, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitOutput:
    """What git wrote, and its exit code. `cut`: there was more."""

    code: int
    out: bytes
    error: str
    cut: bool = False

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Git:
    """Runs the git program.

    Args:
        program: by name, found by `path`, or absolute.
        path: PATH of it and of what the repository's filters need.
        timeout_s: for each run; then it is killed with all that it has started.
        max_output_bytes: of its standard output.

    """

    program: str = "git"
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    timeout_s: float = 10.0
    max_output_bytes: int = 1 << 20

    async def run(
        self, folder: Path, *args: str, environment: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
    ) -> GitOutput:
        """Run git in a folder.

        Args:
            environment: added to the clean one.
            ok: exit codes that are no failure.

        Raises:
            GitError: there is no git or no such folder, it took too long, or it failed.

        """
        output = await self._output(folder, [self.program, *_ALWAYS, *args], environment or {})
        if output.code not in ok and not output.cut:
            raise GitError(f"git {_verb(args)}: {output.error or f'exit code {output.code}'}")
        return output

    async def _output(self, folder: Path, argv: Sequence[str], environment: Mapping[str, str]) -> GitOutput:
        env = {**_ENVIRONMENT, "PATH": self.path, **environment}
        try:
            process = await trio.lowlevel.open_process(
                argv, cwd=folder, env=env, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
        except OSError as error:
            raise GitError(f"git cannot be run in {folder}: {error.strerror}") from error
        try:
            with trio.fail_after(self.timeout_s):
                return await _read(process, self.max_output_bytes)
        except trio.TooSlowError as error:
            raise GitError(f"git took longer than {self.timeout_s:g} s in {folder}") from error
        finally:
            await _end(process)


def _verb(args: Sequence[str]) -> str:
    """The command among the arguments, of which settings may come before."""
    return next((arg for arg in args if not arg.startswith("-") and "=" not in arg), "")


async def _read(process: trio.Process, max_bytes: int) -> GitOutput:
    found, errors = bytearray(), bytearray()

    async def drain() -> None:
        assert process.stderr is not None
        async for chunk in process.stderr:
            errors.extend(chunk[: _MAX_ERROR_BYTES - len(errors)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        assert process.stdout is not None
        while len(found) <= max_bytes and (chunk := await process.stdout.receive_some(_CHUNK)):
            found.extend(chunk)
        cut = len(found) > max_bytes
        if cut:
            _kill(process)
    code = await process.wait()
    said = " ".join(errors.decode("utf-8", "replace").split())[:500]
    return GitOutput(code=code, out=bytes(found[:max_bytes]), error=said, cut=cut)


async def _end(process: trio.Process) -> None:
    """Nothing of it is left, filters and other children included."""
    _kill(process)
    with trio.CancelScope(shield=True):
        await process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()


def _kill(process: trio.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
