"""How a Supervisor is spoken to: its four messages (and `messages.Ping`), and a ref with a method for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from skill_actors.runtime.messages import Ask
from skill_actors.runtime.ref import TrioActorRef
from skill_actors.runtime.spec import ChildInfo, ChildSpec

if TYPE_CHECKING:
    from skill_actors.runtime.supervisor import Supervisor

__all__ = ["DeleteChild", "RestartChild", "StartChild", "SupervisorRef", "TerminateChild"]

S = TypeVar("S", bound="Supervisor")
AnyRef = TrioActorRef[Any]


@dataclass(frozen=True, slots=True)
class StartChild(Ask[AnyRef]):
    """Add a child and start it."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild(Ask[None]):
    """End a child; its spec stays, unless it is TEMPORARY."""

    id: str


@dataclass(frozen=True, slots=True)
class RestartChild(Ask[AnyRef]):
    """Start a child that is not running."""

    id: str


@dataclass(frozen=True, slots=True)
class DeleteChild(Ask[None]):
    """Forget a child that is not running."""

    id: str


class SupervisorRef(TrioActorRef[S]):
    """Address of a Supervisor. The methods wait as long as the supervisor takes; bound them with a cancel scope."""

    async def start_child(self, spec: ChildSpec) -> AnyRef:
        """Add a child after the others and start it.

        Raises:
            ChildError: if the id is taken, or it is significant and the supervisor's `auto_shutdown` is NEVER.
            StartFailed: if it does not start; it is then not added.
            pykka.ActorDeadError: if the supervisor has ended or ends meanwhile; so for all methods here.

        """
        return await self.call(StartChild(spec), timeout=None)

    async def terminate_child(self, id: str) -> None:
        """End a child for good; its spec stays for `restart_child`, unless it is TEMPORARY.

        Ending one that waits for its restart starts the siblings that were ended with it.

        Raises:
            ChildError: if there is no such child.

        """
        await self.call(TerminateChild(id), timeout=None)

    async def restart_child(self, id: str) -> AnyRef:
        """Start a child that is not running.

        Raises:
            ChildError: if there is no such child, or it runs or waits for a restart.
            StartFailed: if it does not start.

        """
        return await self.call(RestartChild(id), timeout=None)

    async def delete_child(self, id: str) -> None:
        """Forget a child that is not running.

        Raises:
            ChildError: if there is no such child, or it runs or waits for a restart.

        """
        await self.call(DeleteChild(id), timeout=None)

    def interrupt(self, only: Callable[[Any], bool] | None = None) -> bool:
        """A supervisor is not interrupted: a child would be left half started."""
        return False

    def which_children(self) -> tuple[ChildInfo, ...]:
        """The children as they are now, in start order; empty if the supervisor has ended. Asks nobody."""
        actor = self._actor_weakref()
        return () if actor is None else actor.child_infos()

    def child(self, id: str) -> AnyRef | None:
        """The living child of this id, if any. Asks nobody."""
        actor = self._actor_weakref()
        return None if actor is None else actor._ref_of(id)
