"""A backend as somebody else may write one: each command is a process of this program, and claims no more than that."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends import (
    BackendUnavailable,
    Capabilities,
    Host,
    OutputChunk,
    ToolCall,
    ToolContext,
    ToolResult,
    WorkspaceSpec,
    files,
)
from skill_actors.backends.paths import PathRefused
from skill_actors.backends.redaction import Redactor
from skill_actors.backends.tools import TOOLS, BadInput, Bash, CreateFile, Run, StrReplace, View, parse

KEPT_BYTES: Final = 1 << 20


class Somebodys:
    name = "somebodys"
    capabilities = Capabilities(
        stream=True, cancel=False, sandbox="none", network="host", files=True, parallel=True, resume=True
    )

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return TOOLS

    async def check(self) -> None:
        if not await trio.Path("/bin/bash").exists():
            raise BackendUnavailable("there is no /bin/bash here; install bash")

    async def open(self, spec: WorkspaceSpec) -> Room:
        await trio.Path(spec.root).mkdir(parents=True, exist_ok=True)
        return Room(spec.root)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class Room:
    def __init__(self, root: Path) -> None:
        self.root = root
        self._closed = False

    def path_of_skill(self, copy: Path) -> str:
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        if self._closed:
            return ToolResult(content="the workspace is closed", outcome="cancelled")
        try:
            with trio.move_on_after(context.timeout_s):
                result = await self._perform(call, context)
                text = Redactor(context.hidden).text(result.content)
                return replace(result, content=_fit(text, context.max_output_chars))
        except (BadInput, PathRefused) as refused:
            return ToolResult(content=str(refused)[: context.max_output_chars], outcome="error")
        return ToolResult(content=f"took more than {context.timeout_s:g} s", outcome="timeout")

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()

    async def _perform(self, call: ToolCall, context: ToolContext) -> ToolResult:
        root = str(self.root)
        match parse(call):
            case View() as asked:
                show = partial(
                    files.view, workspace=root, readable=context.readable, max_chars=context.max_output_chars
                )
                return ToolResult(content=await trio.to_thread.run_sync(show, asked), outcome="ok")
            case CreateFile() as asked:
                made = await trio.to_thread.run_sync(partial(files.create_file, asked, workspace=root))
                return ToolResult(content=made.message, outcome="ok", files=(made.path,))
            case StrReplace() as asked:
                made = await trio.to_thread.run_sync(partial(files.str_replace, asked, workspace=root))
                return ToolResult(content=made.message, outcome="ok", files=(made.path,))
            case Bash(command=command):
                return await self._run(["bash", "-c", command], context)
            case Run(argv=argv):
                return await self._run(argv, context)

    async def _run(self, argv: Sequence[str], context: ToolContext) -> ToolResult:
        process = await trio.lowlevel.open_process(
            argv,
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **context.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        output = b""
        try:
            while data := bytes(await process.stdout.receive_some(65_536)):
                output = output[:KEPT_BYTES] + (output[KEPT_BYTES:] + data)[-KEPT_BYTES:]
                if context.emit is not None:
                    await context.emit(OutputChunk("stdout", data.decode(errors="replace")))
            code = await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
                await process.stdout.aclose()
        text = output.decode(errors="replace").replace("\0", "\ufffd").removesuffix("\n")
        return ToolResult(content=text or "(no output)", outcome="error" if code else "ok", exit_code=code)


def _fit(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room // 2 - 5]}\n[...]\n{text[len(text) - room // 2 + 5 :]}"


@contextlib.asynccontextmanager
async def open_somebodys(options: Mapping[str, Any], host: Host) -> AsyncIterator[Somebodys]:
    """The factory that a package offers under the entry point group `skilld.backends`."""
    yield Somebodys()
