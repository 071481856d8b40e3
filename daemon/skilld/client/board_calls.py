"""What the clients say about the board: items, claims of them, and the workers that do them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from skilld.client import wire
from skilld.client.wire import REQUEST_TIMEOUT_S, Call, Json

__all__ = ["AsyncBoardCalls", "BoardCalls"]

T = TypeVar("T")

_BOARD: Final = "/v1/workshop/board"
_GIVE_BACK_S: Final = 30.0  # for the turns of a worker to be cancelled


class BoardCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def items(self, *, page_size: int = 200, **wanted: Any) -> Iterator[Json]:
        """Items of the board in the order in which they are taken; pages are fetched as needed.

        Args:
            wanted: status, type (texts, or several), claimed_by, agent, label (NAME=VALUE), depends_on, overdue.

        """
        cursor: str | None = None
        while True:
            page = self._do(_items(wanted, page_size, cursor))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def item(self, id: str) -> Json:
        """One item, with its history and what it waits for."""
        return self._do(wire.get(_item(id)))

    def add_item(self, title: str, **draft: Any) -> Json:
        """Put an item on the board and return it.

        Args:
            draft: id, spec, type, priority, depends_on, agent, max_attempts, due, labels, verify, meta, and from_agent:
                what this agent has answered last is added to `spec`.

        """
        return self._do(wire.write("POST", f"{_BOARD}/items", {"title": title, **draft}))

    def edit_item(self, id: str, **changes: Any) -> Json:
        """Change an item and return it; `expected_updated`: only if it was not changed since."""
        return self._do(wire.write("PATCH", _item(id), changes))

    def remove_item(self, id: str) -> None:
        """Take an item off the board."""
        self._do(wire.write("DELETE", _item(id)))

    def cancel_item(self, id: str, reason: str = "") -> Json:
        """Say that an item is not wanted any more."""
        return self._do(wire.write("POST", _item(id, "/cancel"), {"reason": reason}))

    def retry_item(self, id: str) -> Json:
        """Want a failed or cancelled item again."""
        return self._do(wire.write("POST", _item(id, "/retry")))

    def claim_item(
        self,
        id: str | None = None,
        *,
        holder: str | None = None,
        types: Sequence[str] | None = None,
        names: Sequence[str] = (),
        lease_s: float | None = None,
        wait_s: float = 0.0,
    ) -> Json:
        """Take an item: {"item", "token"}, both None where none is ready. The token says later what became of it.

        Args:
            id: this one; None: the best that is ready.
            holder: who takes it.
            types: only of these types.
            names: of agents and profiles that the taker goes by.
            lease_s: it is taken back after so long without a heartbeat.
            wait_s: how long to wait for one, at most 60 s.

        """
        return self._do(_claim(id, holder, types, names, lease_s, wait_s))

    def start_item(self, id: str, token: str, *, turn: str | None = None) -> Json:
        """Say that the work on a claimed item begins."""
        return self._do(_said(id, "/start", token, turn=turn))

    def renew_item(self, id: str, token: str) -> Json:
        """Let the lease run anew; SkilldError (`conflict`) where it was lost."""
        return self._do(_said(id, "/heartbeat", token))

    def complete_item(
        self,
        id: str,
        token: str,
        result: str | None = None,
        *,
        structured: Any = None,
        waive: str | None = None,
    ) -> Json:
        """Say that an item is done. `waive`: why it counts although it was not verified."""
        return self._do(_said(id, "/complete", token, result=result, structured=structured, waive=waive))

    def fail_item(self, id: str, token: str, error: str, *, final: bool = False) -> Json:
        """Say that an item could not be done; `final`: it is not to be tried again."""
        return self._do(_said(id, "/fail", token, error=error, final=final or None))

    def release_item(self, id: str, token: str, note: str | None = None) -> Json:
        """Give an item back as if it had not been taken."""
        return self._do(_said(id, "/release", token, note=note))

    def board_summary(self) -> Json:
        """How many items there are: `total`, `by_status`, `by_type`."""
        return self._do(wire.get(f"{_BOARD}/summary"))

    def board_workers(self) -> list[Json]:
        """The workers, and what each of their agents does now."""
        return list(self._do(wire.get(_WORKERS))["items"])

    def start_worker(self, name: str, types: Sequence[str], **given: Any) -> Json:
        """Start a worker and return it.

        Args:
            types: of the items that its agents do.
            given: count, profile, settings, lease_s, worktree, merge.

        """
        return self._do(wire.write("POST", _WORKERS, {"name": name, "types": list(types), **given}))

    def stop_worker(self, name: str, *, drain_s: float = 30.0) -> Json:
        """Stop a worker: what its agents have is finished, or given back after `drain_s`."""
        return self._do(_stop(name, drain_s))


class AsyncBoardCalls:
    """A part of `AsyncClient`, which brings the connection. The same calls as `BoardCalls`, to be awaited."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def items(self, *, limit: int = 100, cursor: str | None = None, **wanted: Any) -> Json:
        """A page of items of the board: {"items", "next"}. See `Client.items`."""
        return await self._do(_items(wanted, limit, cursor))

    async def item(self, id: str) -> Json:
        """One item, with its history and what it waits for."""
        return await self._do(wire.get(_item(id)))

    async def add_item(self, title: str, **draft: Any) -> Json:
        """Put an item on the board and return it. See `Client.add_item`."""
        return await self._do(wire.write("POST", f"{_BOARD}/items", {"title": title, **draft}))

    async def edit_item(self, id: str, **changes: Any) -> Json:
        """Change an item and return it; `expected_updated`: only if it was not changed since."""
        return await self._do(wire.write("PATCH", _item(id), changes))

    async def remove_item(self, id: str) -> None:
        """Take an item off the board."""
        await self._do(wire.write("DELETE", _item(id)))

    async def cancel_item(self, id: str, reason: str = "") -> Json:
        """Say that an item is not wanted any more."""
        return await self._do(wire.write("POST", _item(id, "/cancel"), {"reason": reason}))

    async def retry_item(self, id: str) -> Json:
        """Want a failed or cancelled item again."""
        return await self._do(wire.write("POST", _item(id, "/retry")))

    async def claim_item(
        self,
        id: str | None = None,
        *,
        holder: str | None = None,
        types: Sequence[str] | None = None,
        names: Sequence[str] = (),
        lease_s: float | None = None,
        wait_s: float = 0.0,
    ) -> Json:
        """Take an item. See `Client.claim_item`."""
        return await self._do(_claim(id, holder, types, names, lease_s, wait_s))

    async def start_item(self, id: str, token: str, *, turn: str | None = None) -> Json:
        """Say that the work on a claimed item begins."""
        return await self._do(_said(id, "/start", token, turn=turn))

    async def renew_item(self, id: str, token: str) -> Json:
        """Let the lease run anew; SkilldError (`conflict`) where it was lost."""
        return await self._do(_said(id, "/heartbeat", token))

    async def complete_item(
        self,
        id: str,
        token: str,
        result: str | None = None,
        *,
        structured: Any = None,
        waive: str | None = None,
    ) -> Json:
        """Say that an item is done. `waive`: why it counts although it was not verified."""
        return await self._do(_said(id, "/complete", token, result=result, structured=structured, waive=waive))

    async def fail_item(self, id: str, token: str, error: str, *, final: bool = False) -> Json:
        """Say that an item could not be done; `final`: it is not to be tried again."""
        return await self._do(_said(id, "/fail", token, error=error, final=final or None))

    async def release_item(self, id: str, token: str, note: str | None = None) -> Json:
        """Give an item back as if it had not been taken."""
        return await self._do(_said(id, "/release", token, note=note))

    async def board_summary(self) -> Json:
        """How many items there are: `total`, `by_status`, `by_type`."""
        return await self._do(wire.get(f"{_BOARD}/summary"))

    async def board_workers(self) -> list[Json]:
        """The workers, and what each of their agents does now."""
        return list((await self._do(wire.get(_WORKERS)))["items"])

    async def start_worker(self, name: str, types: Sequence[str], **given: Any) -> Json:
        """Start a worker and return it. See `Client.start_worker`."""
        return await self._do(wire.write("POST", _WORKERS, {"name": name, "types": list(types), **given}))

    async def stop_worker(self, name: str, *, drain_s: float = 30.0) -> Json:
        """Stop a worker: what its agents have is finished, or given back after `drain_s`."""
        return await self._do(_stop(name, drain_s))


_WORKERS: Final = f"{_BOARD}/workers"


def _item(id: str, tail: str = "") -> str:
    return f"{_BOARD}/items/{wire.segment('item', id)}{tail}"


def _items(wanted: Mapping[str, Any], limit: int, cursor: str | None) -> Call[Json]:
    from urllib.parse import urlencode

    query = {"limit": str(limit), **{name: _word(value) for name, value in wanted.items() if value is not None}}
    if cursor is not None:
        query["cursor"] = cursor
    return wire.get(f"{_BOARD}/items?{urlencode(query)}")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else ",".join(value)


def _claim(
    id: str | None,
    holder: str | None,
    types: Sequence[str] | None,
    names: Sequence[str],
    lease_s: float | None,
    wait_s: float,
) -> Call[Json]:
    given = {"holder": holder, "lease_s": lease_s}
    body = {name: value for name, value in given.items() if value is not None}
    if id is not None:
        return wire.write("POST", _item(id, "/claim"), body)
    more = {**({} if types is None else {"types": list(types)}), **({"names": list(names)} if names else {})}
    target = f"{_BOARD}/claim?wait={wait_s:g}"
    return wire.write("POST", target, {**body, **more}).within(wait_s + REQUEST_TIMEOUT_S)


def _said(id: str, tail: str, token: str, **said: Any) -> Call[Json]:
    body = {"token": token, **{name: value for name, value in said.items() if value is not None}}
    return wire.write("POST", _item(id, tail), body)


def _stop(name: str, drain_s: float) -> Call[Json]:
    target = f"{_WORKERS}/{wire.segment('worker', name)}?drain_s={drain_s:g}"
    return wire.write("DELETE", target).within(drain_s + _GIVE_BACK_S + REQUEST_TIMEOUT_S)
