"""Actors that hold the daemon's resources: made when the actor starts, let go when it ends."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import trio

from skill_actors.backends.agents.base import AgentBackend
from skill_actors.backends.base import BackendUnavailable
from skill_actors.backends.registry import factory
from skill_actors.backends.workers import Host, WorkersRef
from skill_actors.models.base import ModelError
from skill_actors.runtime import TrioActor
from skilld.agents import open_agents
from skilld.parts import Parts
from skilld.private_folders import private_folders

__all__ = ["AgentKeeper", "ExecutorKeeper", "ModelKeeper", "owner_of"]

_log = logging.getLogger(__name__)


class ExecutorKeeper(TrioActor):
    """Keeps one backend open and publishes it."""

    def __init__(self, parts: Parts, name: str) -> None:
        super().__init__()
        self._parts = parts
        self._backend = name

    async def setup(self) -> None:
        """See whether it can be opened at all: what cannot be is a failed start, not a crash that comes later."""
        unavailable: BackendUnavailable | None = None
        async with (await factory(self._backend))(self._options(), self._host()) as executor:
            try:
                await executor.check()
            except BackendUnavailable as error:  # outside of whatever nursery the executor has
                unavailable = error
        if unavailable is not None:
            self._parts.executors[self._backend].why = str(unavailable)
            raise unavailable
        self.spawn(self._keep)

    def _options(self) -> dict[str, Any]:
        return self._parts.config.backends.options_of(self._backend)

    def _host(self) -> Host:
        names = self.directory
        return Host(
            find_workers=lambda: cast("WorkersRef", names.ref("workers")),
            folder=_state_dir(self._parts) / "backends" / self._backend,
            private=private_folders(self._parts.config, self._parts.environ),
            owner=owner_of(self._parts),
        )

    async def _keep(self) -> None:
        slot = self._parts.executors[self._backend]
        async with (await factory(self._backend))(self._options(), self._host()) as executor:
            slot.put(executor)
            try:
                await trio.sleep_forever()
            finally:
                slot.clear()


class AgentKeeper(TrioActor):
    """Keeps one backend that is a whole agent open and publishes it."""

    def __init__(self, parts: Parts, name: str) -> None:
        super().__init__()
        self._parts = parts
        self._backend = name

    async def setup(self) -> None:
        """See whether it can be opened at all, as `ExecutorKeeper` does."""
        unavailable: BackendUnavailable | None = None
        async with await self._opened() as agents:
            try:
                await agents.check()
            except BackendUnavailable as error:
                unavailable = error
        if unavailable is not None:
            self._parts.agents[self._backend].why = str(unavailable)
            raise unavailable
        self.spawn(self._keep)

    async def _opened(self) -> AbstractAsyncContextManager[AgentBackend]:
        parts = self._parts
        host = Host(
            folder=_state_dir(parts) / "agents" / self._backend,  # where programs keep the sessions that are resumed
            private=private_folders(parts.config, parts.environ),
            owner=owner_of(parts),
            programs=parts.programs,
        )
        config = parts.config.backends
        return await open_agents(config, self._backend, host, parts.environ, parts.prices, bus=parts.bus)

    async def _keep(self) -> None:
        slot = self._parts.agents[self._backend]
        async with await self._opened() as agents:
            slot.put(agents)
            try:
                await trio.sleep_forever()
            finally:
                slot.clear()


def _state_dir(parts: Parts) -> Path:
    return Path(os.path.realpath(parts.config.daemon.state_dir))


def owner_of(parts: Parts) -> str:
    """Of one state directory there is one daemon."""
    return hashlib.sha256(os.fsencode(_state_dir(parts))).hexdigest()[:16]


class ModelKeeper(TrioActor):
    """Imports the model's SDK once the daemon serves, so that the first call need not wait for it."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        self.spawn(self._prepare)

    async def _prepare(self) -> None:
        model = self._parts.models.anthropic
        if model is None:
            return
        await self._parts.ready.wait()
        try:
            await model.prepare()
        except ModelError as error:
            _log.warning("the model client could not be prepared, calls will try again: %s", error)
