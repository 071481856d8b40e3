"""The docker backend: tools run in a container of the conversation's own, for code that is not trusted.

Calls go to a resident runner inside (`container_runner`), over the container's stdin and stdout; the engine is asked
only when a container is made or removed. File tools run inside as well, with the rights of a call. The workspace is in
the container's memory; `mirror` keeps it and the conversation's folder on disk the same, before and after each call.

A container is made when a conversation first calls a tool, and goes when the workspace is closed, when the daemon ends
in whatever way, or to make room. It may be lost at any time: then the next call gets another one, with the files.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from . import tools
from .base import BackendUnavailable, Capabilities, ToolCall, ToolContext, ToolResult, WorkspaceSpec
from .call_environment import BASIC
from .container_forward import ADDRESS
from .container_runner import WORKSPACE
from .container_skills import ContainerSkills
from .docker_container import Container, ContainerLost, Pool
from .docker_engine import BOOT, OWNER, Engine
from .docker_limits import checked_options, resolved
from .docker_options import DockerOptions
from .docker_proxies import Proxies
from .link import Done, Limits, Request
from .mirror import Mirror
from .output import NOTE_CHARS, clean, compose, file_name, file_of_output, hide, outcome_of
from .paths import PathRefused

__all__ = ["DockerExecutor", "DockerWorkspace", "open_docker"]

_log = logging.getLogger(__name__)

_SWEEP_EVERY_S: Final = 60.0
_BACKSTOP_S: Final = 8.0  # beyond a call's timeout: its runner hangs
_CANCELLED_S: Final = 5.0  # to bring out the files of a call that was cancelled
_EVERY_S: Final = 2.0  # the files of a call that takes long are brought out meanwhile
_FILE_THREADS: Final = 8
_OVER: Final = ""  # in place of a digest, for the mirror: the call is over, and its digest is not known
_REPLACED: Final = (
    "[this conversation has got a new container, since the earlier one is gone; the files of the workspace are there, "
    "as the last call left them; processes, /tmp and what was installed elsewhere are not]"
)
_REPLACED_IN_PART: Final = (
    "[this conversation has got a new container, since the earlier one is gone; the files of the workspace are there, "
    "but what the last calls changed may be missing: look before you rely on it; processes, /tmp and what was "
    "installed elsewhere are gone]"
)
_PROXIED: Final = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://{}:{}".format(*ADDRESS)),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1"),
}
_CLOSED: Final = ToolResult(content="the workspace is closed", outcome="cancelled")
_LOST: Final = ToolResult(
    content="[the container ended during this call; how far it came is unknown; the next call gets a new one]",
    outcome="error",
)


@contextlib.asynccontextmanager
async def open_docker(
    options: DockerOptions | None = None,
    *,
    owner: str | None = None,
    private: Sequence[Path] = (),
    folder: Path | None = None,
) -> AsyncIterator[DockerExecutor]:
    """The docker executor, with a nursery for its containers. Leaving it removes them.

    Args:
        options: how containers are made.
        owner: whose they are, in letters and digits; what an earlier life of the same owner left is removed by `check`,
            so there must be one of a name at a time. By default nobody's.
        private: folders and files of this host that no mount may show.
        folder: where the executor may keep sockets while it is open, and nobody else does; a temporary one by default.

    """
    chosen = options or DockerOptions()
    labels = {OWNER: owner or secrets.token_hex(8), BOOT: secrets.token_hex(8)}
    engine = Engine(chosen, labels, private)
    proxies = Proxies(None if folder is None else folder / "proxies")
    try:
        async with trio.open_nursery() as nursery:
            pool = Pool(engine, nursery, chosen, proxies)
            executor = DockerExecutor(chosen, engine, pool, proxies)
            filling = await nursery.start(pool.keep_full)
            sweeping = await nursery.start(_keep_swept, engine)
            try:
                yield executor
            finally:
                filling.cancel()
                sweeping.cancel()
                with trio.CancelScope(shield=True):
                    await executor.aclose()
    finally:
        with trio.CancelScope(shield=True):
            await engine.aclose()
            await proxies.aclose()


async def _keep_swept(
    engine: Engine, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    """Remove containers that could not be removed when they should have been, once the engine lets us."""
    with trio.CancelScope() as scope:
        task_status.started(scope)
        while True:
            await trio.sleep(_SWEEP_EVERY_S)
            try:
                removed = await engine.sweep()
            except BackendUnavailable as error:  # it is looked at by whoever wants a container
                _log.debug("containers that may be left over are not looked for: %s", error)
                continue
            if removed:
                _log.warning("removed %d containers that were left over", removed)


class DockerExecutor:
    """Serves all conversations. Made by `open_docker`."""

    def __init__(self, options: DockerOptions, engine: Engine, pool: Pool, proxies: Proxies) -> None:
        self._options = options
        self._engine = engine
        self._pool = pool
        self._proxies = proxies
        self._threads = trio.CapacityLimiter(_FILE_THREADS)
        self._open: set[DockerWorkspace] = set()
        self._closed = False

    @property
    def name(self) -> str:
        return "docker"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            stream=True,
            cancel=True,
            sandbox="container",
            network="configurable" if self._networks - {"none"} else "none",
            files=True,
            parallel=True,
            images=True,
            resume=True,
        )

    @property
    def _networks(self) -> set[str]:
        return {self._options.network, *self._options.session.networks}

    @property
    def pool(self) -> Pool:
        return self._pool

    @property
    def proxies(self) -> Proxies:
        return self._proxies

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a session has chosen, written in one way: see `docker_limits`. Raises OptionRefused."""
        return checked_options(self._options, options)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions for the model."""
        return tools.TOOLS

    async def check(self) -> None:
        """Raise BackendUnavailable if no container can be made here; remove what an earlier life has left."""
        await self._engine.check()
        await self._engine.sweep()

    async def open(self, spec: WorkspaceSpec) -> DockerWorkspace:
        """Open a workspace, making its folder if it is missing. Raises BackendUnavailable."""
        if self._closed:
            raise BackendUnavailable("the docker backend is closed; the daemon is stopping")
        options = resolved(self._options, spec.options) if spec.options else self._options
        await self._engine.check(options)
        try:
            await trio.to_thread.run_sync(partial(spec.root.mkdir, parents=True, exist_ok=True, mode=0o700))
        except OSError as error:
            raise BackendUnavailable(
                f"the workspace {spec.root} cannot be used: {error.strerror}; make it writable for the daemon"
            ) from error
        mirror = Mirror(spec.root, options.workspace_bytes, self._threads)
        new_container = partial(self._container, options)
        workspace = DockerWorkspace(options, new_container, mirror, self._threads, self._open.discard)
        self._open.add(workspace)
        return workspace

    async def aclose(self) -> None:
        """Close all workspaces and remove all containers. May be called twice."""
        self._closed = True
        async with trio.open_nursery() as nursery:
            for workspace in list(self._open):
                nursery.start_soon(workspace.aclose)
            nursery.start_soon(self._pool.aclose)

    async def _container(self, options: DockerOptions) -> Container:
        """A container for a conversation that has claimed one. Raises BackendUnavailable."""
        # Again after each: who claims one meanwhile counts on the same one that is idle.
        while len(holding := self._holding) > self._options.max_containers:
            idle = [workspace for workspace in holding if not workspace.busy]
            if not idle:
                raise BackendUnavailable(
                    f"all {self._options.max_containers} containers are at work; send again later, or raise "
                    "max_containers"
                )
            await min(idle, key=lambda workspace: workspace.used_at).release()
        return await self._pool.take(options)

    @property
    def _holding(self) -> list[DockerWorkspace]:
        return [workspace for workspace in self._open if workspace.holds_container]


class DockerWorkspace:
    """A conversation's folder on disk and, from its first call on, a container."""

    def __init__(
        self,
        options: DockerOptions,
        new_container: Callable[[], Awaitable[Container]],
        mirror: Mirror,
        threads: trio.CapacityLimiter,
        forget: Callable[[DockerWorkspace], None],
    ) -> None:
        self.used_at = 0.0
        self._options = options
        self._new_container = new_container
        self._mirror = mirror
        self._threads = threads
        self._forget = forget
        self._container: Container | None = None
        self._claims = False
        self._starting = trio.Lock()
        self._editing = trio.Lock()
        self._kept = True  # whether all that the last calls have changed is on disk
        self._news = ""  # of a new container: until a result has told it
        self._skills = ContainerSkills(threads)
        self._calls = 0
        self._quiet = trio.Event()
        self._closed = False

    @property
    def root(self) -> Path:
        """Where tools see the workspace."""
        return Path(WORKSPACE)

    @property
    def holds_container(self) -> bool:
        """Whether it has one, or is getting one."""
        return self._claims or (self._container is not None and not self._container.gone.is_set())

    @property
    def busy(self) -> bool:
        return self._calls > 0

    def path_of_skill(self, copy: Path) -> str:
        """A folder inside, to which the copy is taken before the first call that may use it."""
        return self._skills.path_of(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run one call. Cancelling it kills every process it started before it returns. Raises BackendUnavailable."""
        started = trio.current_time()
        self._calls += 1
        self._quiet = trio.Event()
        try:
            result = await self._perform(tools.parse(call), call, context)
        except (tools.BadInput, PathRefused) as refusal:
            result = ToolResult(content=clean(str(refusal))[: context.max_output_chars], outcome="error")
        except ContainerLost:
            result = _CLOSED if self._closed else _LOST
        finally:
            self._calls -= 1
            self.used_at = trio.current_time()
            if not self._calls:
                self._quiet.set()
        news, self._news = self._news, ""
        result = _with_notes(result, [news], context.max_output_chars)
        return replace(result, duration_ms=round((trio.current_time() - started) * 1000))

    async def aclose(self) -> None:
        """Kill what still runs and remove the container. The files stay. May be called twice."""
        self._closed = True
        self._forget(self)
        await self.release()

    async def release(self) -> None:
        """Let go of the container; a later call gets another."""
        container = self._container
        if container is None:
            return
        container.link.cancel_all()
        if self._calls:
            with trio.move_on_after(_CANCELLED_S):
                await self._quiet.wait()
        await container.end()

    async def _perform(self, request: tools.ToolInput, call: ToolCall, context: ToolContext) -> ToolResult:
        if self._closed:
            return _CLOSED
        container, notes = await self._prepared(context)
        match request:
            case tools.View():
                text, image = await container.operate(
                    "view",
                    {
                        "request": asdict(request),
                        "readable": [self.path_of_skill(copy) for copy in context.readable],
                        "max_chars": context.max_output_chars,
                    },
                )
                images = [] if image is None else [image]
                result = ToolResult(content=clean(text)[: context.max_output_chars], outcome="ok", images=images)
            case tools.CreateFile():
                result = await self._edit(container, "create_file", request)
            case tools.StrReplace():
                result = await self._edit(container, "str_replace", request)
            case tools.Bash():
                argv = ["bash", "--noprofile", "--norc", "-c", request.command]
                result = await self._run(container, argv, call, context)
            case tools.Run():
                result = await self._run(container, request.argv, call, context)
        return _with_notes(result, notes, context.max_output_chars)

    async def _edit(self, container: Container, name: str, request: tools.CreateFile | tools.StrReplace) -> ToolResult:
        async with self._editing:
            message, path = await container.operate(name, {"request": asdict(request)})
        result = ToolResult(content=clean(message), outcome="ok", files=(path,))
        return await self._with_files(result, container, _OVER)

    # Commands

    async def _run(self, container: Container, argv: Sequence[str], call: ToolCall, context: ToolContext) -> ToolResult:
        spill = file_of_output(call.id).split("/")
        try:
            request = self._request(argv, call, context, spill)
        except ValueError as error:
            return ToolResult(content=f"the command was not started: {error}", outcome="error")
        done = await self._call(container, request, context)
        if context.hidden:
            done = hide(done, context.hidden)
        output_file = "/".join(spill) if done.spill is not None else None
        content = compose(
            done, timeout_s=context.timeout_s, max_chars=context.max_output_chars, output_file=output_file
        )
        written = done.spill is not None and done.spill.bytes > 0
        result = ToolResult(
            content=content,
            outcome="cancelled" if self._closed and done.outcome == "lost" else outcome_of(done),
            exit_code=None if done.error is not None else done.code,
            output_file=output_file if written else None,
            files=(output_file,) if written and output_file is not None else (),
        )
        # The file of the output may have come to be after the digest was taken.
        digest = (done.tree or _OVER) if done.spill is None else _OVER
        return await self._with_files(result, container, digest, context.max_output_chars)

    async def _with_files(
        self, result: ToolResult, container: Container, digest: str, max_chars: int | None = None
    ) -> ToolResult:
        """Bring out the files of a call that is over. Where that fails the result says so, and is no success."""
        note, failed = await self._bring_out(container, digest)
        if failed:
            outcome = "error" if result.outcome == "ok" else result.outcome
            result = replace(result, outcome=outcome, output_file=None, files=())
        return _with_notes(result, [note], max_chars)

    async def _call(self, container: Container, request: Request, context: ToolContext) -> Done:
        """Run it, bringing out its files now and then; if it is cancelled, also at its end."""
        try:
            with trio.move_on_after(request.timeout_s + _BACKSTOP_S):
                return await self._call_and_bring_out(container, request, context)
        except BaseException:
            with trio.move_on_after(_CANCELLED_S, shield=True):
                await self._bring_out(container, _OVER)
            raise
        return Done(outcome="timeout")

    async def _call_and_bring_out(self, container: Container, request: Request, context: ToolContext) -> Done:
        failure: Exception | None = None
        done = Done(outcome="lost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._bring_out_often, container)
            try:
                done = await container.link.call(request, context.emit)
            except Exception as error:  # of the consumer: it is raised as it is, not in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return done

    async def _bring_out_often(self, container: Container) -> None:
        while True:
            await trio.sleep(_EVERY_S)
            await self._bring_out(container, None)

    async def _bring_out(self, container: Container, digest: str | None) -> tuple[str, bool]:
        """What the model has to know of it; and whether it failed."""
        self._kept = False
        try:
            note = await self._mirror.pull(container.operate, digest)
        except ContainerLost:
            return "[files of this call may not be kept: its container ended before they were brought out]", True
        except PathRefused as refusal:
            return f"[files of this call may not be kept: {clean(str(refusal))[:200]}]", True
        self._kept = not note
        return note, False

    @property
    def variables(self) -> Sequence[str]:
        """Names of what every command finds in its environment."""
        return [*self._environment(), "SKILLD_CALL"]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": self._options.path,
            "HOME": WORKSPACE,
            **BASIC,
            "TMPDIR": "/tmp",
            **(_PROXIED if self._options.network == "allow" else {}),
            **self._options.environment,
        }

    def _request(self, argv: Sequence[str], call: ToolCall, context: ToolContext, spill: Sequence[str]) -> Request:
        environment = {**self._environment(), **context.environment, "SKILLD_CALL": file_name(call.id)}
        for name, value in environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"the environment variable {name!r} is not one the system allows")
        return Request(
            argv=argv,
            cwd=WORKSPACE,
            env=environment,
            timeout_s=context.timeout_s,
            max_chars=context.max_output_chars,
            spill=spill,
            may_spill=not (context.hidden and context.environment),
            spill_after_chars=max(0, context.max_output_chars - NOTE_CHARS),
            limits=Limits(processes=self._options.processes_of_a_call),
            stream=context.emit is not None,
        )

    # The container

    async def _prepared(self, context: ToolContext) -> tuple[Container, list[str]]:
        """The container, with the files and the skills in it; what the model has to know of it."""
        async with self._starting:
            container = self._container
            if container is None or container.link.closed:
                if container is not None:
                    await container.gone.wait()
                replaces = container is not None
                self._mirror.forget()
                self._skills.forget()
                self._claims = True
                try:
                    container = self._container = await self._new_container()
                finally:
                    self._claims = False
                if replaces:
                    self._news = (self._news or _REPLACED) if self._kept else _REPLACED_IN_PART
                    self._kept = True
            notes = [await self._mirror.push(container.operate)]
            await self._skills.arrange(container.operate, context.readable, alone=self._calls == 1)
            return container, notes


def _with_notes(result: ToolResult, notes: Sequence[str], max_chars: int | None = None) -> ToolResult:
    """Notes go first, so that a cut takes none of them."""
    said = [note for note in notes if note]
    return replace(result, content="\n".join([*said, result.content])[:max_chars]) if said else result
