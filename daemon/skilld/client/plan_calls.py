"""What the clients say about what is planned: workflows with their runs, and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar

from skilld.client import wire
from skilld.client.wire import REQUEST_TIMEOUT_S, Call, Json

__all__ = ["AsyncPlanCalls", "PlanCalls"]

T = TypeVar("T")

_WORKFLOWS: Final = "/v1/workshop/workflows"
_RUNS: Final = "/v1/workshop/runs"
_SCHEDULES: Final = "/v1/workshop/schedules"


class PlanCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def workflows(self) -> list[Json]:
        """One's workflows, by name."""
        return list(self._do(wire.get(_WORKFLOWS))["items"])

    def workflow(self, name: str) -> Json:
        """A workflow as it was defined."""
        return self._do(wire.get(_workflow(name)))

    def define_workflow(self, name: str, definition: Mapping[str, Any], *, new: bool = False) -> Json:
        """Keep a workflow; with `new` only if there is none of this name, else SkilldError (`conflict`)."""
        return self._do(_put(_workflow(name), definition, new))

    def remove_workflow(self, name: str) -> None:
        """Forget a workflow; its runs stay."""
        self._do(wire.write("DELETE", _workflow(name)))

    def reset_workflow(self, name: str) -> Json:
        """End the runs of a workflow that go on, and forget those that have ended: {"cancelled", "forgotten"}."""
        return self._do(wire.write("POST", _workflow(name, "/reset")))

    def run_workflow(self, name: str, parameters: Mapping[str, str] | None = None, *, key: str | None = None) -> Json:
        """Begin a run and return it; with a key that was used before, that run."""
        return self._do(_begin(name, parameters, key))

    def runs(
        self, *, workflow: str | None = None, limit: int = 100, owner: int | Literal["all"] | None = None
    ) -> list[Json]:
        """Runs: those that go on, then those that have ended, newest first; of another user, or "all", for admins."""
        return list(self._do(_runs(workflow, limit, owner))["items"])

    def run(self, id: str, *, wait_s: float = 0.0, owner: int | None = None) -> Json:
        """A run, once it has ended or after `wait_s` seconds (at most 600) as it is."""
        return self._do(_run(id, wait_s, owner))

    def cancel_run(self, id: str) -> Json:
        """End a run and what its agents do for it; the run."""
        return self._do(wire.write("POST", _of_run(id, "/cancel")))

    def schedules(self, *, owner: int | Literal["all"] | None = None) -> list[Json]:
        """One's schedules, by name."""
        return list(self._do(wire.get(wire.of_owner(_SCHEDULES, owner)))["items"])

    def schedule(self, name: str, *, owner: int | None = None) -> Json:
        """A schedule, and what became of it so far."""
        return self._do(wire.get(wire.of_owner(_schedule(name), owner)))

    def define_schedule(self, name: str, agent: str, prompt: str, *, new: bool = False, **settings: Any) -> Json:
        """Make a schedule or change it, and return it.

        Args:
            settings: every_s, or cron with timezone; jitter_s, catch_up, when_busy, max_runs, until, enabled.
            new: only if there is none of this name, else SkilldError (`conflict`).

        """
        return self._do(_put(_schedule(name), {"agent": agent, "prompt": prompt, **settings}, new))

    def enable_schedule(self, name: str, on: bool = True) -> Json:
        """Let a schedule run from now on, or keep it from running."""
        return self._do(wire.write("POST", _schedule(name, "/enable" if on else "/disable")))

    def run_schedule(self, name: str, *, key: str | None = None) -> Json:
        """Give the agent its message now: {"schedule", "turn"}."""
        return self._do(wire.write("POST", _schedule(name, "/run"), None, _keyed(key)))

    def remove_schedule(self, name: str) -> None:
        """Remove a schedule; what it began goes on."""
        self._do(wire.write("DELETE", _schedule(name)))


class AsyncPlanCalls:
    """A part of `AsyncClient`, which brings the connection. See `Client` for what each does."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def workflows(self) -> list[Json]:
        """One's workflows, by name."""
        return list((await self._do(wire.get(_WORKFLOWS)))["items"])

    async def workflow(self, name: str) -> Json:
        """A workflow as it was defined."""
        return await self._do(wire.get(_workflow(name)))

    async def define_workflow(self, name: str, definition: Mapping[str, Any], *, new: bool = False) -> Json:
        """Keep a workflow. See `Client.define_workflow`."""
        return await self._do(_put(_workflow(name), definition, new))

    async def remove_workflow(self, name: str) -> None:
        """Forget a workflow; its runs stay."""
        await self._do(wire.write("DELETE", _workflow(name)))

    async def reset_workflow(self, name: str) -> Json:
        """End and forget the runs of a workflow. See `Client.reset_workflow`."""
        return await self._do(wire.write("POST", _workflow(name, "/reset")))

    async def run_workflow(
        self, name: str, parameters: Mapping[str, str] | None = None, *, key: str | None = None
    ) -> Json:
        """Begin a run and return it; with a key that was used before, that run."""
        return await self._do(_begin(name, parameters, key))

    async def runs(
        self, *, workflow: str | None = None, limit: int = 100, owner: int | Literal["all"] | None = None
    ) -> list[Json]:
        """Runs: those that go on, then those that have ended, newest first."""
        return list((await self._do(_runs(workflow, limit, owner)))["items"])

    async def run(self, id: str, *, wait_s: float = 0.0, owner: int | None = None) -> Json:
        """A run, once it has ended or after `wait_s` seconds (at most 600) as it is."""
        return await self._do(_run(id, wait_s, owner))

    async def cancel_run(self, id: str) -> Json:
        """End a run and what its agents do for it; the run."""
        return await self._do(wire.write("POST", _of_run(id, "/cancel")))

    async def schedules(self, *, owner: int | Literal["all"] | None = None) -> list[Json]:
        """One's schedules, by name."""
        return list((await self._do(wire.get(wire.of_owner(_SCHEDULES, owner))))["items"])

    async def schedule(self, name: str, *, owner: int | None = None) -> Json:
        """A schedule, and what became of it so far."""
        return await self._do(wire.get(wire.of_owner(_schedule(name), owner)))

    async def define_schedule(self, name: str, agent: str, prompt: str, *, new: bool = False, **settings: Any) -> Json:
        """Make a schedule or change it. See `Client.define_schedule`."""
        return await self._do(_put(_schedule(name), {"agent": agent, "prompt": prompt, **settings}, new))

    async def enable_schedule(self, name: str, on: bool = True) -> Json:
        """Let a schedule run from now on, or keep it from running."""
        return await self._do(wire.write("POST", _schedule(name, "/enable" if on else "/disable")))

    async def run_schedule(self, name: str, *, key: str | None = None) -> Json:
        """Give the agent its message now: {"schedule", "turn"}."""
        return await self._do(wire.write("POST", _schedule(name, "/run"), None, _keyed(key)))

    async def remove_schedule(self, name: str) -> None:
        """Remove a schedule; what it began goes on."""
        await self._do(wire.write("DELETE", _schedule(name)))


def _workflow(name: str, tail: str = "") -> str:
    return f"{_WORKFLOWS}/{wire.segment('workflow', name)}{tail}"


def _schedule(name: str, tail: str = "") -> str:
    return f"{_SCHEDULES}/{wire.segment('schedule', name)}{tail}"


def _of_run(id: str, tail: str = "") -> str:
    return f"{_RUNS}/{wire.segment('run', id)}{tail}"


def _put(target: str, value: Mapping[str, Any], new: bool) -> Call[Json]:
    return wire.write("PUT", target, value, {"if-none-match": "*"} if new else None)


def _keyed(key: str | None) -> Mapping[str, str]:
    return {"idempotency-key": wire.checked_key(key or wire.new_key())}


def _begin(name: str, parameters: Mapping[str, str] | None, key: str | None) -> Call[Json]:
    return wire.write("POST", _workflow(name, "/run"), {"parameters": dict(parameters or {})}, _keyed(key))


def _runs(workflow: str | None, limit: int, owner: int | Literal["all"] | None) -> Call[Json]:
    from urllib.parse import urlencode

    query = {"limit": str(limit), **({} if workflow is None else {"workflow": workflow})}
    return wire.get(wire.of_owner(f"{_RUNS}?{urlencode(query)}", owner))


def _run(id: str, wait_s: float, owner: int | None) -> Call[Json]:
    return wire.get(wire.of_owner(f"{_of_run(id)}?wait={wait_s:g}", owner), timeout_s=wait_s + REQUEST_TIMEOUT_S)
