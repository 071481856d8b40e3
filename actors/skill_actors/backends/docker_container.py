"""One container while it lives, and those that wait for a conversation."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any, Final

import trio

from . import operations
from .base import BackendUnavailable
from .docker_engine import Engine
from .docker_options import DockerOptions
from .docker_proxies import Proxies, Proxy
from .docker_stream import AttachedStream
from .link import Link, RunnerBroken

__all__ = ["Container", "ContainerLost", "Pool"]

_log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.5  # before the pool is filled: who only looks whether the engine is there wants no containers
_RETRY_S: Final = 5.0


class ContainerLost(Exception):
    """The container ended while, or before, it was asked for something; or it was ended since it gave no answer."""


class Container:
    """Started by `start`; it has ended for good when `gone` is set."""

    def __init__(self, engine: Engine, id: str, stream: AttachedStream, proxy: Proxy | None = None) -> None:
        self.id = id
        self.link = Link(stream, stream, f"the runner of container {id:.12}")
        self.gone = trio.Event()
        self._engine = engine
        self._stream = stream
        self._proxy = proxy
        self._max_entries = 0  # of its workspace

    @classmethod
    async def start(
        cls, engine: Engine, nursery: trio.Nursery, options: DockerOptions, proxies: Proxies | None = None
    ) -> Container:
        """A container whose runner answers. Raises BackendUnavailable.

        Args:
            engine: that makes it.
            nursery: where it lives.
            options: how it is made.
            proxies: makes its proxy, if its network is "allow".

        """
        proxy = None
        try:
            if options.network == "allow" and proxies is not None:
                proxy = await proxies.make(options)
            made = cls(engine, *await engine.launch(options, None if proxy is None else proxy.folder), proxy)
            made._max_entries = options.workspace_files
        except BaseException:
            if proxy is not None:
                await proxy.aclose()
            raise
        if proxy is not None:
            nursery.start_soon(proxy.serve)
        await nursery.start(made._serve)
        return made

    async def _serve(self, *, task_status: trio.TaskStatus[Link] = trio.TASK_STATUS_IGNORED) -> None:
        """Whatever goes wrong ends this container only: the nursery is that of all."""
        greeting = _Greeting(task_status)
        try:
            await self.link.serve(idle_s=math.inf, task_status=greeting)
        except Exception as error:
            if not greeting.heard:
                words = str(error) if isinstance(error, RunnerBroken) else repr(error)
                words += f": {self._stream.noise}" if self._stream.noise else ""
                raise BackendUnavailable(
                    f"a container cannot run calls: {words}; does its image have python3?"
                ) from error
            _log.exception("container %.12s is ended", self.id)
        finally:
            with trio.CancelScope(shield=True):
                await self._remove()

    async def _remove(self) -> None:
        try:
            await self._stream.aclose()
            await self._engine.remove(self.id)
        except Exception:
            _log.exception("container %.12s may not be removed", self.id)
        finally:
            if self._proxy is not None:
                await self._proxy.aclose()
            self.link.fail_all()
            self.gone.set()

    async def end(self) -> None:
        """Kill it with all that runs in it, and wait until it is gone. May be called twice."""
        self.link.stop()
        await self.gone.wait()

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """One of the runner's operations on files. Raises PathRefused, in words for the model, and ContainerLost."""
        try:
            return await operations.ask(self.link, name, arguments, max_entries=self._max_entries)
        except operations.Unanswered as error:
            self.link.stop()
            raise ContainerLost from error
        except operations.Nonsense as error:
            _log.error("container %.12s is ended: its answer to %s makes no sense: %s", self.id, name, error)
            self.link.stop()
            raise ContainerLost from error


class _Greeting:
    """Passes on that the runner has said hello, and remembers it: from then on nobody waits for an error."""

    def __init__(self, status: trio.TaskStatus[Link]) -> None:
        self.heard = False
        self._status = status

    def started(self, value: Any = None) -> None:
        self.heard = True
        self._status.started(value)


class Pool:
    """Containers that no conversation has used. Each goes to one, and never comes back.

    Args:
        engine: that makes them.
        nursery: where they live.
        options: how those that wait are made, and `pool`, how many these are.
        proxies: for those whose network is "allow".

    """

    def __init__(
        self, engine: Engine, nursery: trio.Nursery, options: DockerOptions, proxies: Proxies | None = None
    ) -> None:
        self._engine = engine
        self._nursery = nursery
        self._options = options
        self._proxies = proxies
        self._size = options.pool
        self._ready: list[Container] = []
        self._taken = trio.Event()

    @property
    def ready(self) -> int:
        return sum(not container.link.closed for container in self._ready)

    async def take(self, options: DockerOptions) -> Container:
        """One that waits, if those are made just so; else a new one. Raises BackendUnavailable."""
        while self._ready and options == self._options:
            container = self._ready.pop(0)
            self._taken.set()
            if not container.link.closed:
                return container
        return await self._start(options)

    async def _start(self, options: DockerOptions) -> Container:
        return await Container.start(self._engine, self._nursery, options, self._proxies)

    async def keep_full(self, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED) -> None:
        """Replace what is taken, and what has ended, until the scope that it starts with is cancelled."""
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await trio.sleep(_PAUSE_S)
            await self._fill()

    async def _fill(self) -> None:
        while self._size:
            self._taken = trio.Event()
            self._ready = [container for container in self._ready if not container.link.closed]
            if len(self._ready) >= self._size:
                with trio.move_on_after(_RETRY_S):
                    await self._taken.wait()
                    await trio.sleep(_PAUSE_S)  # to make one takes processors from the call that took this one
                continue
            try:
                self._ready.append(await self._start(self._options))
            except Exception as error:  # the nursery is that of all containers
                expected = isinstance(error, BackendUnavailable)
                _log.warning("no container could be made ready: %s", error, exc_info=None if expected else error)
                await trio.sleep(_RETRY_S)

    async def aclose(self) -> None:
        async with trio.open_nursery() as nursery:
            while self._ready:
                nursery.start_soon(self._ready.pop().end)
