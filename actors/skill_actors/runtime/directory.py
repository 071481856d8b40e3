"""Names of actors. A name outlives the incarnations that hold it, so keep names, not refs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pykka
import trio

from skill_actors.runtime.errors import NameNotRegistered
from skill_actors.runtime.messages import Ask
from skill_actors.runtime.ref import DEFAULT_CALL_TIMEOUT_S

if TYPE_CHECKING:
    from skill_actors.runtime.ref import TrioActorRef

__all__ = ["Directory", "NamedRef"]

R = TypeVar("R")


class Directory:
    """Name -> living actor. Supervisors keep it: a child whose spec has a `name` holds it while it serves."""

    def __init__(self) -> None:
        self._refs: dict[str, TrioActorRef[Any]] = {}
        self._changed = trio.Event()

    def register(self, name: str, ref: TrioActorRef[Any]) -> None:
        """Give `name` to `ref`.

        Raises:
            ValueError: if another living actor holds it.

        """
        held = self._refs.get(name)
        if held is not None and held is not ref and held.is_alive():
            raise ValueError(f"name {name!r} is held by {held}; names are unique within a system")
        self._refs[name] = ref
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def unregister(self, name: str, ref: TrioActorRef[Any]) -> bool:
        """Take `name` from `ref`; False, and nothing done, if `ref` does not hold it."""
        if self._refs.get(name) is not ref:
            return False
        del self._refs[name]
        return True

    def whereis(self, name: str) -> TrioActorRef[Any] | None:
        """Who holds the name now; None if nobody alive does."""
        ref = self._refs.get(name)
        return ref if ref is not None and ref.is_alive() else None

    def ref(self, name: str) -> TrioActorRef[Any]:
        """Who holds the name now.

        Raises:
            NameNotRegistered: if nobody alive does.

        """
        ref = self.whereis(name)
        if ref is None:
            known = ", ".join(sorted(self._refs)) or "none"
            raise NameNotRegistered(f"no living actor is named {name!r} (names: {known}); wait() waits for it")
        return ref

    async def wait(self, name: str, *, timeout: float | None = DEFAULT_CALL_TIMEOUT_S) -> TrioActorRef[Any]:
        """Wait until somebody alive holds the name, at most `timeout` seconds (None: for ever).

        Raises:
            pykka.Timeout: if nobody does in time.

        """
        with trio.CancelScope(deadline=trio.current_time() + (float("inf") if timeout is None else timeout)):
            while (ref := self.whereis(name)) is None:
                await self._changed.wait()
            return ref
        raise pykka.Timeout(f"nobody was named {name!r} within {timeout} s")

    def named(self, name: str) -> NamedRef:
        """A handle that looks the name up at each use."""
        return NamedRef(self, name)

    def names(self) -> Mapping[str, TrioActorRef[Any]]:
        """A copy of the table."""
        return dict(self._refs)


class NamedRef:
    """Speaks to whoever holds a name at the moment.

    `wait_s` of `call` and `send` bounds in seconds how long they wait for somebody to hold it (a restart, say); with 0
    they raise NameNotRegistered at once.
    """

    __slots__ = ("_directory", "name")

    def __init__(self, directory: Directory, name: str) -> None:
        self._directory = directory
        self.name = name

    async def call(self, message: Ask[R], *, timeout: float | None = DEFAULT_CALL_TIMEOUT_S, wait_s: float = 0.0) -> R:
        """As `TrioActorRef.call`."""
        return await (await self._find(wait_s)).call(message, timeout=timeout)

    async def send(self, message: object, *, wait_s: float = 0.0) -> None:
        """As `TrioActorRef.send`."""
        await (await self._find(wait_s)).send(message)

    def tell(self, message: object) -> None:
        """As `ActorRef.tell`."""
        self._directory.ref(self.name).tell(message)

    async def _find(self, wait_s: float) -> TrioActorRef[Any]:
        if wait_s <= 0:
            return self._directory.ref(self.name)
        return await self._directory.wait(self.name, timeout=wait_s)
