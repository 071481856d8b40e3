"""The daemon's own tree in this process: real parts in a folder, reached over its socket and actor by actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from session_kit import ME
from skill_actors.models.base import Model
from skill_actors.models.prices import load_prices
from skill_actors.runtime import ActorSystem, Strategy, TrioActorRef, open_system
from skill_actors.sessions.manager import SessionManager
from skill_actors.skills.copies import SkillCopies
from skill_actors.store import StateLock
from skilld.app import _metrics
from skilld.config import Config, ModelConfig, load_config
from skilld.model_choice import ModelChoice
from skilld.notify import Notifier
from skilld.parts import Parts, Slot
from skilld.tree import build_tree

BACK_S = 15.0


@dataclass(kw_only=True)
class Tree:
    """A running tree and its parts."""

    parts: Parts
    system: ActorSystem

    @property
    def sessions(self) -> SessionManager:
        return self.parts.sessions.get()

    def find(self, actor_class: str) -> TrioActorRef[Any]:
        """The actor of a class that has only one; it may be ending."""
        (found,) = [info.ref for info in self.system.walk() if info.actor_class == actor_class]
        ref: TrioActorRef[Any] = found
        return ref

    async def kill(self, actor_class: str) -> None:
        """Kill the actor and wait until it has been made again and the socket says that the daemon is ready."""
        victim = self.find(actor_class)
        victim._cell.kill()
        await victim.wait_stopped()
        await self.wait_back(actor_class)

    async def wait_back(self, actor_class: str) -> None:
        """Wait until an actor of this class runs, backends are open, and the socket says that the daemon is ready."""
        with trio.fail_after(BACK_S):
            while not (self._runs(actor_class) and self._are_backends_open() and await self.is_ready()):  # noqa: ASYNC110  # over a real socket
                await trio.sleep(0.01)

    def _runs(self, actor_class: str) -> bool:
        return any(info.actor_class == actor_class and info.phase == "running" for info in self.system.walk())

    def _are_backends_open(self) -> bool:
        """Whether all that can be are: their actors run for a moment before."""
        return all(slot.why or slot.peek() is not None for slot in self.parts.executors.values())

    async def is_ready(self) -> bool:
        try:
            async with self.http() as http:
                return (await http.get("/v1/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    def http(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.parts.config.daemon.socket), verify=False, trust_env=False)
        return httpx.AsyncClient(transport=transport, base_url="http://skilld", timeout=20, trust_env=False)

    async def ask(self, text: str, session: str | None = None) -> dict[str, Any]:
        """Send over the socket, to a new session without one, and wait for the ending; the turn."""
        async with self.http() as http:
            if session is None:
                session = (await http.post("/v1/sessions", json={})).json()["id"]
            accepted = await http.post(f"/v1/sessions/{session}/messages", json={"text": text})
            assert accepted.status_code == 202, accepted.text
            path = f"/v1/turns/{accepted.json()['turn']}"
            turn: dict[str, Any] = (await http.get(path, params={"wait": 15})).json()
        return turn

    async def session(self) -> str:
        return str((await self.sessions.create(ME.uid, {}))["id"])


class _Fixed(ModelChoice):
    """One model, whatever is asked for."""

    def __init__(self, config: ModelConfig, model: Model) -> None:
        super().__init__(config, {})
        self._model = model

    def resolve(self, name: str | None) -> tuple[Model, str]:
        return self._model, name or self.default


@asynccontextmanager
async def open_tree(
    folder: Path, environ: Mapping[str, str] | None = None, *, model: Model | None = None, **overrides: Any
) -> AsyncIterator[Tree]:
    """Start the daemon's tree in a folder.

    Args:
        model: answers instead of the configured one.
        overrides: configuration by key, such as skills_paths for skills.paths, or as it is written.

    """
    environ = environ or {}
    flags = {name if "." in name else name.replace("_", ".", 1): value for name, value in overrides.items()}
    flags |= {"daemon.socket": folder / "s.sock", "daemon.state_dir": folder / "state"}
    config = load_config(None, environ, flags)
    models = ModelChoice(config.model, environ) if model is None else _Fixed(config.model, model)

    async def reread() -> Config:
        return load_config(None, environ, flags)

    with StateLock.take(config.daemon.state_dir) as lock:
        parts = Parts(
            config=config,
            environ=environ,
            version="0",
            lock=lock,
            notifier=Notifier(environ),
            models=models,
            prices=load_prices(),
            copies=SkillCopies(folder / "state" / "skills"),
            executors={name: Slot(name) for name in config.backends.default},
            reread=reread,
        )
        specs = build_tree(parts, _metrics(parts), lambda: None)
        try:
            async with open_system(specs, strategy=Strategy.REST_FOR_ONE, reports=parts.reports) as system:
                parts.system.put(system)
                yield Tree(parts=parts, system=system)
        finally:
            await models.aclose()
            parts.notifier.close()
