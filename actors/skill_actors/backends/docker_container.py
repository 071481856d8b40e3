"""One container while it lives, and those that wait for a conversation."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import trio

from .base import BackendUnavailable
from .container_runner import OP, WORKSPACE
from .docker_engine import Engine
from .docker_stream import AttachedStream
from .link import Done, Link, Request, RunnerBroken
from .paths import PathRefused

__all__ = ["Container", "ContainerLost", "Pool"]

_log = logging.getLogger(__name__)

_OPERATION_S: Final = 60.0
_BACKSTOP_S: Final = 10.0  # beyond it: the runner hangs, or its container is frozen
_ANSWER_CHARS: Final = 12 << 20
_PAUSE_S: Final = 0.5  # before the pool is filled: who only looks whether the engine is there wants no containers
_RETRY_S: Final = 5.0


class ContainerLost(Exception):
    """The container ended while, or before, it was asked for something; or it was ended since it gave no answer."""


class Container:
    """Started by `start`; it has ended for good when `gone` is set."""

    def __init__(self, engine: Engine, id: str, stream: AttachedStream) -> None:
        self.id = id
        self.link = Link(stream, stream)
        self.gone = trio.Event()
        self._engine = engine
        self._stream = stream

    @classmethod
    async def start(cls, engine: Engine, nursery: trio.Nursery) -> Container:
        """A container whose runner answers. Raises BackendUnavailable."""
        made = cls(engine, *await engine.launch())
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
            self.link.fail_all()
            self.gone.set()

    async def end(self) -> None:
        """Kill it with all that runs in it, and wait until it is gone. May be called twice."""
        self.link.stop()
        await self.gone.wait()

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """One of the runner's operations on files. Raises PathRefused, in words for the model, and ContainerLost."""
        request = Request(
            argv=(OP, name, json.dumps(arguments)),
            cwd=WORKSPACE,
            env={},
            timeout_s=_OPERATION_S,
            max_chars=_ANSWER_CHARS,
            spill=("none",),
            spill_after_chars=_ANSWER_CHARS,
            may_spill=False,
        )
        done = Done(outcome="lost")
        with trio.move_on_after(_OPERATION_S + _BACKSTOP_S):
            done = await self.link.call(request, None)
        if done.outcome == "lost":
            self.link.stop()
            raise ContainerLost
        if done.error is not None or done.outcome != "exited" or done.code != 0:
            raise PathRefused(done.error or f"the operation ended with {done.outcome}, code {done.code}")
        try:
            answer = json.loads(done.stdout.head)
            if "refused" not in answer:
                return answer["value"]
            refusal = str(answer["refused"])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            _log.error("container %.12s is ended: its answer makes no sense: %r", self.id, error)
            self.link.stop()
            raise ContainerLost from error
        raise PathRefused(refusal)


class _Greeting:
    """Passes on that the runner has said hello, and remembers it: from then on nobody waits for an error."""

    def __init__(self, status: trio.TaskStatus[Link]) -> None:
        self.heard = False
        self._status = status

    def started(self, value: Any = None) -> None:
        self.heard = True
        self._status.started(value)


class Pool:
    """Containers that no conversation has used. Each goes to one, and never comes back."""

    def __init__(self, engine: Engine, nursery: trio.Nursery, size: int) -> None:
        self._engine = engine
        self._nursery = nursery
        self._size = size
        self._ready: list[Container] = []
        self._taken = trio.Event()

    @property
    def ready(self) -> int:
        return sum(not container.link.closed for container in self._ready)

    async def take(self) -> Container:
        """One that waits, or a new one. Raises BackendUnavailable."""
        while self._ready:
            container = self._ready.pop(0)
            self._taken.set()
            if not container.link.closed:
                return container
        return await Container.start(self._engine, self._nursery)

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
                continue
            try:
                self._ready.append(await Container.start(self._engine, self._nursery))
            except Exception as error:  # the nursery is that of all containers
                expected = isinstance(error, BackendUnavailable)
                _log.warning("no container could be made ready: %s", error, exc_info=None if expected else error)
                await trio.sleep(_RETRY_S)

    async def aclose(self) -> None:
        async with trio.open_nursery() as nursery:
            while self._ready:
                with suppress(IndexError):
                    nursery.start_soon(self._ready.pop().end)
