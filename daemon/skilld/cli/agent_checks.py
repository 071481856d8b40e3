"""What doctor looks at of backends that are whole agents: the program, its version, its flags, its key."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from skilld.cli.check import Check

if TYPE_CHECKING:
    from skilld.config import Config

__all__ = ["check_agent_backends"]

_WITHIN_S: Final = 30.0


def check_agent_backends(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    """Whether each agent backend could perform a turn now: looked at as the daemon does, in a folder of its own."""
    for name in config.backends.agent_names:
        found, problem = _looked_at(config, name, environ)
        if problem is not None:
            yield Check(name="agent", level="fail", message=f"{name}: {problem}", remedy="see docs/agents.md")
            continue
        said = ", ".join(f"{key} {value}" for key, value in found.items() if value not in (None, "", [], {}))
        yield Check(name="agent", level="ok", message=f"{name}: {said}")


def _looked_at(config: Config, name: str, environ: Mapping[str, str]) -> tuple[Mapping[str, Any], str | None]:
    """Facts of the backend, and why it would perform no turn now."""
    import trio

    from skill_actors.backends.base import BackendUnavailable
    from skill_actors.backends.workers import Host
    from skill_actors.models.prices import PriceError, load_prices
    from skilld.agents import open_agents

    async def look(folder: Path) -> Mapping[str, Any]:
        with trio.fail_after(_WITHIN_S):
            prices = load_prices(config.model.price_file)
            async with await open_agents(config.backends, name, Host(folder=folder), environ, prices) as agents:
                refused: BackendUnavailable | None = None
                try:
                    await agents.check()
                except BackendUnavailable as error:  # raised outside of whatever nursery the backend has
                    refused = error
                facts = await agents.facts()
        if refused is not None:
            raise refused
        return facts

    with tempfile.TemporaryDirectory(prefix="skillctl-") as folder:
        try:
            return trio.run(look, Path(folder)), None
        except (BackendUnavailable, PriceError) as error:
            return {}, str(error)
        except trio.TooSlowError:
            return {}, f"it did not answer within {_WITHIN_S:g} s"
