"""The agents of board workers: agents like all others, marked as a worker's, with a conversation anew for each item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from skill_actors.errors import Refused
from skill_actors.workshop.board.hand import WorkerAgents

__all__ = ["WORKER_LABEL", "Crew", "KnowsAgents"]

WORKER_LABEL: Final = "board-worker"  # of its agents: the worker that they are of
_LOOK_AGAIN_S: Final = 300.0
_OPEN: Final = frozenset({"queued", "running"})


class _Sent(Protocol):
    @property
    def turn(self) -> str: ...


class _Reads(Protocol):
    async def get(self, owner_uid: int, name: str) -> Mapping[str, Any]: ...
    async def history(self, owner_uid: int, name: str, *, last: int) -> Sequence[Mapping[str, Any]]: ...


class KnowsAgents(Protocol):
    """What a crew needs of the agents."""

    @property
    def agents(self) -> _Reads: ...
    async def define(
        self, owner_uid: int, name: str, settings: Mapping[str, Any], *, replace_it: bool = True
    ) -> Mapping[str, Any]: ...
    async def reset(self, owner_uid: int, name: str, *, folder: str | None = None) -> Mapping[str, Any]: ...
    async def dismiss(self, owner_uid: int, name: str) -> None: ...
    async def cast(
        self, owner_uid: int, name: str, text: str, *, key: str | None = None, schema: Mapping[str, Any] | None = None
    ) -> _Sent: ...
    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]: ...
    async def cancel_turn(self, owner_uid: int, turn: str) -> None: ...


class Crew(WorkerAgents):
    """Agents for the hands of workers."""

    def __init__(self, desk: KnowsAgents) -> None:
        self._desk = desk

    async def prepare(self, owner_uid: int, name: str, settings: Mapping[str, Any], *, worker: str) -> None:
        found = await self._find(owner_uid, name)
        if found is None:
            labels = {**settings.get("labels", {}), WORKER_LABEL: worker}
            await self._desk.define(owner_uid, name, {**settings, "labels": labels}, replace_it=True)
        elif found["settings"].get("labels", {}).get(WORKER_LABEL) != worker:
            raise Refused(
                "conflict", f"there is an agent {name!r} already, which is not the worker's; dismiss it first"
            )

    async def begin(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str,
        schema: Mapping[str, Any] | None,
        folder: str | None = None,
    ) -> str:
        await self._desk.reset(owner_uid, name, folder=folder)
        return (await self._desk.cast(owner_uid, name, text, key=key, schema=schema)).turn

    async def ended(self, owner_uid: int, turn: str) -> Mapping[str, Any]:
        while True:
            found = await self._desk.await_turn(owner_uid, turn, _LOOK_AGAIN_S)
            if found["status"] not in _OPEN:
                return found

    async def cancel(self, owner_uid: int, turn: str) -> None:
        await self._desk.cancel_turn(owner_uid, turn)

    async def dismiss(self, owner_uid: int, name: str) -> None:
        with suppress(Refused):
            await self._desk.dismiss(owner_uid, name)

    async def last_result(self, owner_uid: int, name: str) -> tuple[str, str]:
        ended = await self._desk.agents.history(owner_uid, name, last=1)
        text = str((ended[-1].get("result") or {}).get("text") or "") if ended else ""
        if not text:
            raise Refused("conflict", f"agent {name!r} has answered nothing that could be worked on")
        return text, str(ended[-1]["turn"])

    async def _find(self, owner_uid: int, name: str) -> Mapping[str, Any] | None:
        """The agent, unless it was dismissed or never there."""
        try:
            found = await self._desk.agents.get(owner_uid, name)
        except Refused as refused:
            if refused.code != "not_found":
                raise
            return None
        return None if found["status"] == "dismissed" else found
