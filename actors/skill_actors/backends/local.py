"""The local backend: tools run on this host, as the user of the daemon, with that user's rights.

File tools run in worker threads. Commands run through a resident runner (`runner.py`), one process per workspace,
started with the first command, stopped after `idle_s` without one: an idle conversation has no process, no task
and no descriptor. All tasks live in the nursery that `open_local` opens.

What it protects: file tools stay in the workspace, commands see a clean environment and leave no process behind.
What it does not without its `sandbox` option: a command may read and write what the daemon's user may. See `sandbox`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import trio

from . import files, tools
from .base import BackendUnavailable, Capabilities, Image, ToolCall, ToolContext, ToolResult, WorkspaceSpec
from .call_environment import BASIC
from .images import picture
from .link import Done, Limits, Link, Request, RunnerBroken
from .output import NOTE_CHARS, OWN_FOLDER, clean, compose, file_name, file_of_output, hide, outcome_of
from .paths import PathRefused
from .processes import MARK
from .resident import Nest, Resident, find_nest
from .sandbox import Fence, SandboxKind, make_fence

__all__ = ["LocalExecutor", "LocalOptions", "LocalWorkspace", "open_local"]

_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STOP_S: Final = 5.0  # for a runner to end its calls and itself
_BACKSTOP_S: Final = 8.0  # beyond a call's timeout: its runner hangs
_FILE_THREADS: Final = 8
_LEVELS: Final[Mapping[SandboxKind, Literal["none", "landlock", "namespace"]]] = {
    "none": "none",
    "landlock": "landlock",
    "bwrap": "namespace",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """How commands are run.

    Args:
        path: PATH of commands; by default the daemon's own. In a sandbox, what of it is shown there.
        environment: added to the clean environment of every command.
        inherit: variables of the daemon's own environment that commands get as well, where they are set.
        limits: resource limits of every process, and of every call.
        sandbox: what commands are kept in: "none", "landlock", "bwrap".
        network: whether commands in a sandbox have the host's; None: not in bwrap, else yes.
        readable: absolute paths that commands in a sandbox may read besides programs, libraries and skills.
        idle_s: a workspace's runner is stopped after this many seconds without a command.

    """

    path: str = field(default_factory=lambda: os.environ.get("PATH") or _DEFAULT_PATH)
    environment: Mapping[str, str] = field(default_factory=dict)
    inherit: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    sandbox: SandboxKind = "none"
    network: Literal["host", "none"] | None = None
    readable: Sequence[str] = ()
    idle_s: float = 60.0


@contextlib.asynccontextmanager
async def open_local(
    options: LocalOptions | None = None, *, owner: str | None = None, private: Sequence[Path] = ()
) -> AsyncIterator[LocalExecutor]:
    """The local executor, with a nursery for its runners. Leaving it kills what still runs.

    Args:
        options: how commands are run.
        owner: whose processes these are, in letters and digits; what an earlier life of the same owner left behind is
            killed first, so there must be one of a name at a time. By default nobody's.
        private: folders that commands in a sandbox must not see, but for their workspace and skills.

    Raises:
        BackendUnavailable: the sandbox cannot be had here. Nothing weaker is used.

    """
    options = options or LocalOptions()
    fence = await trio.to_thread.run_sync(make_fence, options.sandbox, options.network, options.readable, private)
    options = replace(options, path=fence.path(options.path))
    nest = await trio.to_thread.run_sync(find_nest, owner)
    async with trio.open_nursery() as nursery:
        executor = LocalExecutor(nursery, options, nest, fence)
        try:
            yield executor
        finally:
            with trio.CancelScope(shield=True):
                await executor.aclose()


class LocalExecutor:
    """Serves all conversations. Made by `open_local`."""

    def __init__(self, nursery: trio.Nursery, options: LocalOptions, nest: Nest, fence: Fence) -> None:
        self._nursery = nursery
        self._nest = nest
        self._options = options
        self._fence = fence
        self._threads = trio.CapacityLimiter(_FILE_THREADS)
        self._open: set[LocalWorkspace] = set()
        self._closed = False

    @property
    def name(self) -> str:
        return "local"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            stream=True,
            cancel=True,
            sandbox=_LEVELS[self._fence.kind],
            network=self._fence.network,
            files=True,
            parallel=True,
            images=True,
            resume=True,
            partial=self._fence.missing,
        )

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions for the model."""
        return tools.TOOLS

    async def check(self) -> None:
        """Raise BackendUnavailable if commands cannot be run here."""
        if not sys.platform.startswith("linux"):
            raise BackendUnavailable(f"the local backend needs Linux, not {sys.platform}; choose another backend")
        bash = await trio.to_thread.run_sync(partial(shutil.which, "bash", path=self._options.path))
        if bash is None:
            raise BackendUnavailable(
                f"the local backend found no bash in PATH {self._options.path!r}; install bash or set its path option"
            )
        if not await trio.Path("/proc/self/stat").exists():
            raise BackendUnavailable("the local backend needs /proc to find the processes of a command; mount it")

    async def open(self, spec: WorkspaceSpec) -> LocalWorkspace:
        """Open a workspace, making its folder if it is missing. Raises BackendUnavailable."""
        if self._closed:
            raise BackendUnavailable("the local backend is closed; the daemon is stopping")
        try:
            root = await trio.to_thread.run_sync(_make_root, spec.root, limiter=self._threads)
        except OSError as error:
            raise BackendUnavailable(
                f"the workspace {spec.root} cannot be used: {error.strerror}; make it writable for the daemon"
            ) from error
        workspace = LocalWorkspace(
            root, self._options, self._nest, self._fence, self._nursery, self._threads, self._open.discard
        )
        self._open.add(workspace)
        return workspace

    async def aclose(self) -> None:
        """Close all workspaces. May be called twice."""
        self._closed = True
        async with trio.open_nursery() as nursery:
            for workspace in list(self._open):
                nursery.start_soon(workspace.aclose)


class LocalWorkspace:
    """A conversation's folder, and at times a runner beside it. Small while idle: there may be many thousands."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_edit_lock",
        "_fence",
        "_forget",
        "_gone",
        "_link",
        "_nest",
        "_nursery",
        "_options",
        "_root",
        "_start_lock",
        "_threads",
    )

    def __init__(
        self,
        root: Path,
        options: LocalOptions,
        nest: Nest,
        fence: Fence,
        nursery: trio.Nursery,
        threads: trio.CapacityLimiter,
        forget: Callable[[LocalWorkspace], None],
    ) -> None:
        self._root = root
        self._options = options
        self._nest = nest
        self._fence = fence
        self._nursery = nursery
        self._threads = threads
        self._forget = forget
        self._link: Link | None = None
        self._start_lock: trio.Lock | None = None
        self._edit_lock: trio.Lock | None = None
        self._gone: trio.Event | None = None  # of the runner
        self._closed = False

    @property
    def root(self) -> Path:
        return self._root

    @property
    def _starting(self) -> trio.Lock:
        if self._start_lock is None:
            self._start_lock = trio.Lock()
        return self._start_lock

    @property
    def _editing(self) -> trio.Lock:
        """Two edits of one file at the same time would lose one of them."""
        if self._edit_lock is None:
            self._edit_lock = trio.Lock()
        return self._edit_lock

    def path_of_skill(self, copy: Path) -> str:
        """The copy itself: tools run on the same host."""
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run one call. Cancelling it kills every process it started before it returns."""
        started = trio.current_time()
        if self._closed:
            return ToolResult(content="the workspace is closed", outcome="cancelled")
        try:
            result = await self._perform(tools.parse(call), call, context)
        except (tools.BadInput, PathRefused) as refusal:
            result = ToolResult(content=clean(str(refusal))[: context.max_output_chars], outcome="error")
        return replace(result, duration_ms=round((trio.current_time() - started) * 1000))

    async def aclose(self) -> None:
        """Kill what still runs and let go. The files stay. May be called twice."""
        self._closed = True
        self._forget(self)
        if self._start_lock is None:
            return  # no command was ever run
        async with self._starting:
            if self._link is not None:
                self._link.cancel_all()
                with trio.move_on_after(_STOP_S):
                    await self._link.wait_quiet()
                self._link.stop()
            if self._gone is not None:
                await self._gone.wait()

    async def _perform(self, request: tools.ToolInput, call: ToolCall, context: ToolContext) -> ToolResult:
        root = str(self._root)
        match request:
            case tools.View():
                show = partial(_show, request, root, context)
                text, image = await trio.to_thread.run_sync(show, limiter=self._threads)
                return ToolResult(content=clean(text), outcome="ok", images=() if image is None else (image,))
            case tools.CreateFile():
                return await self._edit(partial(files.create_file, request, workspace=root))
            case tools.StrReplace():
                return await self._edit(partial(files.str_replace, request, workspace=root))
            case tools.Bash():
                return await self._run(["bash", "--noprofile", "--norc", "-c", request.command], call, context)
            case tools.Run():
                return await self._run(request.argv, call, context)

    async def _edit(self, edit: partial[files.Written]) -> ToolResult:
        async with self._editing:
            written = await trio.to_thread.run_sync(edit, limiter=self._threads)
        return ToolResult(content=clean(written.message), outcome="ok", files=(written.path,))

    # Commands

    async def _run(self, argv: Sequence[str], call: ToolCall, context: ToolContext) -> ToolResult:
        spill = file_of_output(call.id).split("/")
        try:
            request = self._request(argv, call, context, spill)
        except ValueError as error:
            return ToolResult(content=f"the command was not started: {error}", outcome="error")
        done = await self._call(request, context)
        if self._fence.kind == "bwrap":
            done = replace(done, ended=0)  # bubblewrap's own; what a command left is gone with the process namespace
        if context.hidden:
            done = hide(done, context.hidden)
        output_file = "/".join(spill) if done.spill is not None else None
        content = compose(
            done, timeout_s=context.timeout_s, max_chars=context.max_output_chars, output_file=output_file
        )
        written = done.spill is not None and done.spill.bytes > 0
        return ToolResult(
            content=content,
            outcome=outcome_of(done),
            exit_code=None if done.error is not None else done.code,
            output_file=output_file if written else None,
            files=(output_file,) if written and output_file is not None else (),
        )

    async def _call(self, request: Request, context: ToolContext) -> Done:
        with trio.move_on_after(request.timeout_s + _BACKSTOP_S):
            link = await self._runner()
            if link is None:
                return Done(outcome="cancelled")
            return await link.call(request, context.emit)
        return Done(outcome="timeout")

    @property
    def variables(self) -> Sequence[str]:
        """Names of what every command finds in its environment."""
        return [*self._environment(""), "SKILLD_CALL", MARK]

    def _environment(self, temporary: str) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in self._options.inherit if name in os.environ},
            "PATH": self._options.path,
            "HOME": str(self._root),
            **BASIC,
            "TMPDIR": temporary,
            **self._options.environment,
        }

    def _request(self, argv: Sequence[str], call: ToolCall, context: ToolContext, spill: Sequence[str]) -> Request:
        root, fence = str(self._root), self._fence
        temporary = fence.temporary(f"{root}/{OWN_FOLDER}/tmp")
        environment = {
            **self._environment(temporary),
            **context.environment,
            "SKILLD_CALL": file_name(call.id),
        }
        for name, value in environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"the environment variable {name!r} is not one the system allows")
        return Request(
            argv=fence.argv(argv, root, context.readable),
            cwd=root,
            env=environment,
            timeout_s=context.timeout_s,
            max_chars=context.max_output_chars,
            spill=spill,
            may_spill=not (context.hidden and context.environment),
            spill_after_chars=max(0, context.max_output_chars - NOTE_CHARS),
            folders=(root,) if fence.kind == "bwrap" else (root, f"{root}/{OWN_FOLDER}", temporary),
            confine=fence.confine(root, context.readable),
            scoped=fence.scopes,
            program=argv[0] if fence.kind == "bwrap" else None,
            limits=self._options.limits,
            stream=context.emit is not None,
        )

    async def _runner(self) -> Link | None:
        """The runner's link, started if there is none; None if the workspace was closed meanwhile."""
        async with self._starting:
            if self._closed:
                return None
            if self._link is None or self._link.closed:
                if self._gone is not None:
                    await self._gone.wait()
                self._link = await self._nursery.start(self._keep_runner)
            return self._link

    async def _keep_runner(self, *, task_status: trio.TaskStatus[Link] = trio.TASK_STATUS_IGNORED) -> None:
        """One runner's life. When this returns, nothing that it started lives."""
        gone = self._gone = trio.Event()
        try:
            resident = await Resident.start(self._nest)
            try:
                await resident.link.serve(idle_s=self._options.idle_s, task_status=task_status)
            except RunnerBroken as error:
                raise BackendUnavailable(f"no commands can be run in the workspace {self._root}: {error}") from error
            finally:
                with trio.CancelScope(shield=True):
                    await resident.end()
                    resident.link.fail_all()
        finally:
            gone.set()


def _show(request: tools.View, root: str, context: ToolContext) -> tuple[str, Image | None]:
    found = picture(request, workspace=root, readable=context.readable)
    if found is not None:
        return found
    text = files.view(request, workspace=root, readable=context.readable, max_chars=context.max_output_chars)
    return text, None


def _make_root(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root.resolve(strict=True)
