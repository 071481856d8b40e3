"""The programs that report: an actor for each agent of each user, which takes its batches one after another.

    connection -> Source (its mailbox is bounded: who sends faster waits) -> Monitor -> acknowledged

Sources is their supervisor. Rules:
- a source is made when its first batch comes, and retires when none has come for a while, or when there are too many
  and it is the one that was silent longest;
- its crash is the end of no other: what it had not acknowledged its program sends again, to the next one of its name;
- what its programs tell of their own monitoring it adds up, and remembers of each run how far, for as long as it lives.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import apsw
import trio
from pykka import ActorDeadError

from skill_actors.errors import Refused
from skill_actors.runtime import (
    Ask,
    ChildError,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Reject,
    StartFailed,
    TrioActor,
    TrioActorRef,
)
from skilld.monitor.batch import Batch
from skilld.monitor.clients import Runs
from skilld.monitor.inspected import Origin
from skilld.monitor.store import Written

__all__ = ["Report", "Source", "Sources", "SourcesRef"]

Write = Callable[[Batch, Origin], Awaitable[Written]]
OnTold = Callable[[Mapping[str, int]], object]

_IDLE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Report(Ask[Written]):
    """A batch to be kept."""

    batch: Batch
    origin: Origin


class Source(TrioActor):
    """One agent of one user.

    Args:
        write: keeps a batch. What it raises of the store's or refuses is told to who sent it, and ends nobody.
        idle_s: how long it lives without anything to do.
        on_told: told by how much what programs say of their monitoring has grown, see `clients`.

    """

    mailbox_capacity: ClassVar[int] = 8

    def __init__(
        self, uid: int, agent: str, write: Write, idle_s: float = _IDLE_S, on_told: OnTold | None = None
    ) -> None:
        super().__init__()
        self.uid: Final = uid
        self.agent: Final = agent
        self.used_at = trio.current_time()
        self.began_at = self.used_at
        self.busy = False
        self.batches = 0
        self.stored = 0
        self.duplicates = 0
        self.refused = 0
        self.quarantined = 0
        self._write = write
        self._idle_s = idle_s
        self._on_told = on_told
        self._runs = Runs()

    async def setup(self) -> None:
        self.spawn(self._retire)

    @property
    def waiting(self) -> int:
        """Batches that wait, the one that is written included."""
        return self.actor_ref.depth + self.busy

    async def on_receive(self, message: Any) -> Any:
        if not isinstance(message, Report):
            raise Reject(f"a source does not understand {type(message).__name__}")
        self.busy = True
        try:
            written = await self._write(message.batch, message.origin)
        except (apsw.Error, OSError, Refused) as error:
            raise Reject(f"{type(error).__name__}: {error}") from error
        finally:
            self.busy, self.used_at = False, trio.current_time()
        self.batches += 1
        self.stored += written.stored
        self.duplicates += written.duplicates
        self.refused += message.batch.refused
        self.quarantined += written.quarantined
        self._hear(message.batch, written)
        return written

    def _hear(self, batch: Batch, written: Written) -> None:
        """Add up what is new. What was put aside has moved the others' places: then it is as if all were lost."""
        if not written.stored or written.quarantined:
            return
        kept = written.kept
        new = batch.events if kept is None else [event for n, event in enumerate(batch.events) if n in kept]
        grown = self._runs.hear(batch.run, new)
        if grown and self._on_told is not None:
            self._on_told(grown)

    def spool_bytes(self, now_us: int) -> int:
        """What waits in the files of its programs."""
        return self._runs.spool_bytes(now_us)

    async def _retire(self) -> None:
        while (left_s := self.used_at + self._idle_s - trio.current_time()) > 0 or self.waiting:  # noqa: ASYNC110
            await trio.sleep(max(left_s, 1.0))  # not woken for each batch
        self.stop()

    def facts(self) -> dict[str, Any]:
        """JSON-ready."""
        counts = ("batches", "stored", "duplicates", "refused", "quarantined", "waiting")
        now = trio.current_time()
        return {
            "agent": self.agent,
            "uid": self.uid,
            **{name: getattr(self, name) for name in counts},
            "age_s": round(now - self.began_at, 3),
            "silent_s": round(now - self.used_at, 3),
        }


class SourcesRef(DynamicSupervisorRef["Sources"]):
    """Address of the sources. For the trio thread."""

    async def write(self, batch: Batch, origin: Origin) -> Written:
        """Have a batch kept by its source, made if there is none.

        Raises:
            Refused: overloaded, if there are as many busy sources as there may be.
            pykka.ActorDeadError: if the source ended before it was done; whether the batch is kept is not known.
            Reject: if it could not be kept.

        """
        source = await self._source(batch.agent, origin.uid)
        return await source.call(Report(batch, origin), timeout=None)

    async def _source(self, agent: str, uid: int) -> TrioActorRef[Source]:
        supervisor, id = self._supervisor(), f"{uid}/{agent}"
        while self.child(id) is None and supervisor.full:
            silent = supervisor.longest_silent()
            if silent is None:
                raise Refused("overloaded", "as many programs report at once as may; try again later", retry_after_s=1)
            await self.terminate_child(silent)
        try:
            return await self.ensure(id, lambda: Source(uid, agent, supervisor.write, on_told=supervisor.on_told))
        except (ChildError, StartFailed) as error:
            raise Refused("overloaded", f"no source could be made: {error}", retry_after_s=1) from error

    def gauges(self) -> Mapping[str, float]:
        """How many batches wait to be kept, and how many bytes in files of programs, as they said last."""
        try:
            sources = self._supervisor().sources()
        except ActorDeadError:
            sources = []
        now_us = time.time_ns() // 1000
        return {
            "waiting_batches": sum(source.waiting for source in sources),
            "client_spool_bytes": sum(source.spool_bytes(now_us) for source in sources),
        }

    def facts(self, uid: int | None) -> list[dict[str, Any]]:
        """What each source did, the busiest first; of one user or of everybody."""
        try:
            sources = self._supervisor().sources()
        except ActorDeadError:
            return []
        found = [source.facts() for source in sources if uid is None or source.uid == uid]
        return sorted(found, key=lambda facts: -int(facts["stored"]))


class Sources(DynamicSupervisor):
    """Supervisor of the sources.

    Args:
        write: keeps a batch.
        max_sources: at once.
        publish: told where it is, once it runs.
        on_told: as of a source.

    """

    def __init__(
        self,
        write: Write,
        *,
        max_sources: int,
        publish: Callable[[SourcesRef], object],
        on_told: OnTold | None = None,
    ) -> None:
        super().__init__("source", shutdown_s=5.0, max_children=max_sources)
        self.write: Final = write
        self.on_told: Final = on_told
        self._most = max_sources
        self._publish = publish

    async def setup(self) -> None:
        self._publish(self.actor_ref)

    def _runtime_ref(self) -> Any:
        return SourcesRef(self)

    @property
    def actor_ref(self) -> SourcesRef:
        """This supervisor's address."""
        return cast("SourcesRef", self._actor_ref)

    @property
    def full(self) -> bool:
        """Whether there are as many sources as there may be."""
        return self.children_total() >= self._most

    def sources(self) -> list[Source]:
        """Those that live."""
        actors = [ref._actor_weakref() for ref in self._children.values()]
        return [actor for actor in actors if isinstance(actor, Source)]

    def longest_silent(self) -> str | None:
        """The id of the source that has had nothing to do for the longest; None if all have."""
        idle = [source for source in self.sources() if not source.waiting]
        silent = min(idle, key=lambda source: source.used_at, default=None)
        return None if silent is None else silent.actor_ref.child_id
