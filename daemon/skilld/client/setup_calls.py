"""What the clients say about a workshop as a whole: its setup file, how it stands, what it may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from skilld.client import wire
from skilld.client.wire import LONG_S, Call, Json

__all__ = ["AsyncSetupCalls", "SetupCalls"]

T = TypeVar("T")

_SETUP: Final = "/v1/workshop/setup"
_STATUS: Final = "/v1/workshop/status"
_BUDGET: Final = "/v1/workshop/budget"


class SetupCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def apply_setup(
        self,
        file: Mapping[str, Any],
        *,
        dry_run: bool = False,
        prune: bool = False,
        reset: bool = False,
        plan: str | None = None,
    ) -> Json:
        """Make the workshop as a setup file says: {"name", "plan", "steps", "applied", "held"}.

        Args:
            file: as JSON; folders in it are absolute, and workflows stand in it.
            dry_run: change nothing, and say what would be done.
            prune: remove what the file has made and says no more.
            reset: let agents begin anew where a change takes that; else they are left as they are, and `held`.
            plan: of a dry run: SkilldError (`conflict`) if by now something else is to be done.

        """
        return self._do(_apply(file, dry_run, prune, reset, plan))

    def export_setup(self, *, name: str | None = None, board: bool = False, store: Sequence[str] = ()) -> Json:
        """What there is as a setup file: {"file", "left_out"}; with items still to be done, and namespaces."""
        return self._do(_export(name, board, store))

    def workshop_status(self, *, owner: int | None = None) -> Json:
        """Agents, board, workers, schedules, the latest runs and what was spent; an admin's view also of others."""
        return self._do(wire.get(wire.of_owner(_STATUS, owner)))

    def workshop_budget(self, *, owner: int | None = None) -> Json:
        """What agents may cost, have cost and have left: {"since", "total", "agents"}."""
        return self._do(wire.get(wire.of_owner(_BUDGET, owner)))

    def set_workshop_budget(self, usd: float | None, *, agent: str | None = None) -> Json:
        """Cap an agent, or all together, None takes the cap away; the budget then."""
        return self._do(wire.write("PATCH", _BUDGET, {"usd": usd, **({} if agent is None else {"agent": agent})}))

    def reset_workshop_budget(self) -> Json:
        """Let what is shown as spent begin anew; caps stay, and what they count."""
        return self._do(wire.write("POST", f"{_BUDGET}/reset"))


class AsyncSetupCalls:
    """A part of `AsyncClient`, which brings the connection. See `Client` for what each does."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def apply_setup(
        self,
        file: Mapping[str, Any],
        *,
        dry_run: bool = False,
        prune: bool = False,
        reset: bool = False,
        plan: str | None = None,
    ) -> Json:
        """Make the workshop as a setup file says. See `Client.apply_setup`."""
        return await self._do(_apply(file, dry_run, prune, reset, plan))

    async def export_setup(self, *, name: str | None = None, board: bool = False, store: Sequence[str] = ()) -> Json:
        """What there is as a setup file. See `Client.export_setup`."""
        return await self._do(_export(name, board, store))

    async def workshop_status(self, *, owner: int | None = None) -> Json:
        """Agents, board, workers, schedules, the latest runs and what was spent."""
        return await self._do(wire.get(wire.of_owner(_STATUS, owner)))

    async def workshop_budget(self, *, owner: int | None = None) -> Json:
        """What agents may cost, have cost and have left: {"since", "total", "agents"}."""
        return await self._do(wire.get(wire.of_owner(_BUDGET, owner)))

    async def set_workshop_budget(self, usd: float | None, *, agent: str | None = None) -> Json:
        """Cap an agent, or all together, None takes the cap away; the budget then."""
        return await self._do(wire.write("PATCH", _BUDGET, {"usd": usd, **({} if agent is None else {"agent": agent})}))

    async def reset_workshop_budget(self) -> Json:
        """Let what is shown as spent begin anew; caps stay, and what they count."""
        return await self._do(wire.write("POST", f"{_BUDGET}/reset"))


def _apply(file: Mapping[str, Any], dry_run: bool, prune: bool, reset: bool, plan: str | None) -> Call[Json]:
    asked: dict[str, Any] = {"file": file, "dry_run": dry_run, "prune": prune, "reset": reset}
    if plan is not None:
        asked["plan"] = plan
    return wire.write("POST", _SETUP, asked).within(LONG_S)


def _export(name: str | None, board: bool, store: Sequence[str]) -> Call[Json]:
    from urllib.parse import urlencode

    query: dict[str, str] = {} if name is None else {"name": name}
    if board:
        query["board"] = "true"
    if store:
        query["store"] = ",".join(store)
    return wire.get(f"{_SETUP}?{urlencode(query)}" if query else _SETUP, timeout_s=LONG_S)
