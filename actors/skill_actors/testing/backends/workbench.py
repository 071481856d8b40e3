"""Native skills that do what the four tools do, so that the native backend can be measured like any other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final

import trio

from skill_actors.native import Context, NativeSkill, SkillInfo

__all__ = ["AsyncWorkbench", "Workbench"]

_SHOWN_BYTES: Final = 4 << 20
_KEPT_BYTES: Final = 1 << 20
_INFO: Final = SkillInfo(
    name="workbench",
    description="Runs commands and keeps files in the workspace.",
    allowed_tools=("execute", "read", "write", "modify"),
)


class _Files(NativeSkill):
    skill_info: ClassVar[SkillInfo] = _INFO
    parallel: ClassVar[bool] = True

    def read(self, path: str, context: Context) -> str:
        """Show a file, its first 4 MiB."""
        with context.resolve(path).open("rb") as file:
            return file.read(_SHOWN_BYTES).decode(errors="replace")

    def write(self, path: str, content: str, context: Context) -> str:
        """Write a file."""
        file = context.resolve(path, write=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())
        return f"wrote {path}"

    def modify(self, path: str, old_content: str, new_content: str, context: Context) -> str:
        """Replace the one place in a file that has this text."""
        file = context.resolve(path, write=True)
        text = file.read_bytes().decode()
        if text.count(old_content) != 1:
            raise ValueError(f"{path} has that text {text.count(old_content)} times, not once")
        file.write_bytes(text.replace(old_content, new_content).encode())
        return f"changed {path}"


class Workbench(_Files):
    """With plain functions, for worker processes."""

    def execute(self, command: str, context: Context) -> str:
        """Run a command in the workspace."""
        with subprocess.Popen(
            ["bash", "-c", command],
            cwd=context.workspace,
            env=_environment(context),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            output = _Output()
            while piece := os.read(process.stdout.fileno(), 65_536):
                context.emit(piece.decode(errors="replace"))
                output.add(piece)
        return output.answer(process.returncode)


class AsyncWorkbench(_Files):
    """With an asynchronous `execute`, for the process of a program: a command ends with its call."""

    async def execute(self, command: str, context: Context) -> str:
        """Run a command in the workspace."""
        async with trio.open_nursery() as nursery:
            start = partial(
                trio.run_process,
                ["bash", "-c", command],
                cwd=context.workspace,
                env=_environment(context),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            process: trio.Process = await nursery.start(start)
            assert process.stdout is not None
            output = _Output()
            while piece := bytes(await process.stdout.receive_some(65_536)):
                context.emit(piece.decode(errors="replace"))
                output.add(piece)
            await process.wait()
        return output.answer(process.returncode)


def _environment(context: Context) -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **context.environment}


class _Output:
    """What a command has printed: the begin and the end, where it is more than a tool may answer."""

    def __init__(self) -> None:
        self._begin = b""
        self._end = b""

    def add(self, piece: bytes) -> None:
        """Take a piece."""
        if len(self._begin) < _KEPT_BYTES:
            self._begin += piece
        else:
            self._end = (self._end + piece)[-_KEPT_BYTES:]

    def answer(self, code: int | None) -> str:
        """For the model; raises RuntimeError with it where the command failed."""
        text = (self._begin + self._end).decode(errors="replace").replace("\0", "\ufffd")
        if code == 0:
            return text.removesuffix("\n") or "(no output)"
        raise RuntimeError(f"{text}[exit code {code}]")
