"""Backends that are whole agents: opened with what the operator says, and told of."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.agents import AgentFactory, agent_factory
from skill_actors.backends.agents.base import AgentBackend
from skill_actors.backends.agents.command import open_command
from skill_actors.backends.agents.guarded import GuardedAgents
from skill_actors.backends.base import BackendUnavailable
from skill_actors.backends.workers import Host
from skill_actors.models.breaker import CircuitState
from skill_actors.models.prices import PriceTable
from skill_actors.sessions.surroundings import AgentAllowance
from skill_actors.telemetry import Bus
from skilld.config import BackendsConfig, ConfigError
from skilld.slot import Slot

__all__ = ["agents_facts", "allowance_of", "check_agents", "open_agents"]

_log = logging.getLogger(__name__)

_PRICED: Final = "codex_cli"  # tells tokens, and is told what they cost


async def open_agents(
    config: BackendsConfig,
    name: str,
    host: Host,
    environ: Mapping[str, str],
    prices: PriceTable,
    *,
    bus: Bus | None = None,
) -> AbstractAsyncContextManager[AgentBackend]:
    """The backend of this name behind a circuit breaker, to be entered. Raises BackendUnavailable.

    Args:
        bus: is told when the circuit changes.

    """
    options = options_of(config, name, environ)
    if name == _PRICED:
        options["prices"] = prices
    return _guarded((await _factory(config, name))(options, host), bus)


@asynccontextmanager
async def _guarded(opened: AbstractAsyncContextManager[AgentBackend], bus: Bus | None) -> AsyncIterator[AgentBackend]:
    async with opened as agents:

        def tell(state: CircuitState) -> None:
            _log.warning("the circuit of the agent backend %s is %s", agents.name, state.value)
            if bus is not None:
                bus.emit("agent.circuit", {"count": 1}, {"backend": agents.name, "state": state.value})

        yield GuardedAgents(agents, on_change=tell)


def options_of(config: BackendsConfig, name: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What the factory of the backend is called with: the operator's options, and where its key is."""
    section = config.agent_section(name)
    options = section.options()
    credential = getattr(section, "api_key_credential", None)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if credential is not None and folder and "api_key_file" not in options and Path(folder, credential).is_file():
        options["api_key_file"] = str(Path(folder, credential))
    return options


def allowance_of(config: BackendsConfig, name: str) -> AgentAllowance:
    """What a turn of the backend may set aside where a cap bounds it."""
    section = config.agent_section(name)
    return AgentAllowance(
        turn_usd=section.turn_budget_usd,
        turn_tokens=section.turn_budget_tokens,
        answer_usd=section.answer_budget_usd or None,
        model=getattr(section, "model", ""),
    )


async def check_agents(config: BackendsConfig) -> None:
    """Raise ConfigError unless there are such backends, and they could be opened with their options."""
    for name in config.agent_names:
        try:
            await _factory(config, name)
        except BackendUnavailable as error:
            raise ConfigError(f"backends.agents: {error}") from error
    for name in ("claude_cli", "codex_cli"):
        if name in config.default and name not in config.agents:
            raise ConfigError(f"backends.default: {name} is a whole agent: name it in backends.agents as well")


async def agents_facts(
    slots: Mapping[str, Slot[AgentBackend]], default: Collection[str], *, within_s: float
) -> list[dict[str, Any]]:
    """Facts for GET /v1/backends: what each claims, and whether it would run a turn now.

    Args:
        within_s: after so many seconds without an answer it would not.

    """
    found = [{"name": name, "kind": "agent", "default": name in default} for name in slots]

    async def look(facts: dict[str, Any], slot: Slot[AgentBackend]) -> None:
        facts |= await _looked_at(slot, within_s)

    async with trio.open_nursery() as nursery:
        for facts in found:
            nursery.start_soon(look, facts, slots[str(facts["name"])])
    return found


async def _looked_at(slot: Slot[AgentBackend], within_s: float) -> dict[str, Any]:
    agents = slot.peek()
    nothing: dict[str, Any] = {"fidelity": {}, "notes": {}}
    if agents is None:
        return {"available": False, "problem": slot.why or "it is starting", "capabilities": {}, **nothing}
    problem: str | None = f"it has not answered within {within_s:g} s"
    facts: Mapping[str, Any] = {}
    with trio.move_on_after(within_s):
        try:
            await agents.check()
            facts, problem = await agents.facts(), None
        except BackendUnavailable as error:
            problem = str(error)
    found = {"problem": problem, "capabilities": agents.capabilities.facts(), "facts": dict(facts), **nothing}
    if isinstance(agents, GuardedAgents):
        found["circuit"] = agents.circuit()
    return {"available": problem is None, **found}


async def _factory(config: BackendsConfig, name: str) -> AgentFactory:
    return partial(open_command, name) if name in config.command else await agent_factory(name)
