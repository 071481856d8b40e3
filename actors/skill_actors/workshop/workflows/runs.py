"""Workflows and their runs, as they are stored: each change durable before anything relies on it.

A run that has ended is another document than one that goes on, and has a time from which it is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.ids import id_of, new_id
from skill_actors.store.base import StoreError
from skill_actors.store.documents import (
    Change,
    Document,
    DocumentConflict,
    DocumentHead,
    DocumentStore,
    NewEvent,
    Room,
)
from skill_actors.workshop.events import Feed
from skill_actors.workshop.names import check_name, document_id
from skill_actors.workshop.refusals import refusal, refusing
from skill_actors.workshop.workflows.definition import Workflow, read_workflow
from skill_actors.workshop.workflows.room import MAX_ERROR_BYTES, kept
from skill_actors.workshop.workflows.run import Run, StageState, summary_of

__all__ = ["Changed", "Runs", "stamp_now"]

_WORKFLOW: Final = "workflow"
_OPEN: Final = "run"
_ENDED: Final = "ended_run"
_TOPIC: Final = "workflow"
_MAX_WORKFLOWS: Final = 1_000
_MAX_GOING_ON: Final = 1_000
_MAX_BYTES: Final = 1 << 30
_SWEPT_AT_ONCE: Final = 500

_log = logging.getLogger(__name__)


def stamp_now() -> str:
    """The time now, as it is stored."""
    return _stamp(datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Changed:
    """A run as it is to be, and the event that tells of it."""

    run: Run
    event: str
    data: Mapping[str, Any]


class Runs:
    """The workflows of all owners, and their runs. Belongs to the trio thread; nobody else writes these documents.

    Runs that go on are in memory; those that have ended are read when somebody asks.

    Args:
        now: the time of the day, as it is stored.
        keep_days: so long a run is kept once it has ended; 0: for ever. Asked at its end.

    """

    def __init__(
        self,
        documents: DocumentStore,
        feed: Feed,
        *,
        now: Callable[[], str] = stamp_now,
        keep_days: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._documents = documents
        self._feed = feed
        self._now = now
        self._keep_days = keep_days
        self._open: dict[str, Run] = {}
        self._changed: dict[str, trio.Event] = {}
        self._changing: dict[str, trio.Lock] = {}
        self._begun = trio.Event()

    async def open(self) -> None:
        """Read the runs that had not ended. One that this program does not understand stays where it is, and rests."""
        after = ""
        while page := await self._documents.list(_OPEN, after=after):
            for document in page:
                try:
                    self._open[document.id] = _run_of(document)
                except (Refused, KeyError, TypeError) as error:
                    _log.error("the run %s does not go on: %s", document.id, error)
            after = page[-1].id
        self._tell_begun()

    # -- workflows ------------------------------------------------------------------------------------------------

    async def define(
        self, owner_uid: int, name: str, given: Mapping[str, Any], *, replace_it: bool = True
    ) -> dict[str, Any]:
        """Keep a workflow; runs that go on are not changed. Its JSON form.

        Raises:
            Refused: bad_request with all that is wrong; conflict, if there is one and it is not to be replaced.

        """
        change, told = self.defining(owner_uid, name, given, expected=None if replace_it else 0)
        try:
            await self._feed.apply([change], [told], room=[self.room(owner_uid)])
        except DocumentConflict as error:
            raise Refused("conflict", f"there is a workflow {name!r} already; replace it, or take another") from error
        except StoreError as error:
            raise refusal(error) from error
        return {"name": name, **(change.data or {})}

    @staticmethod
    def defining(
        owner_uid: int, name: str, given: Mapping[str, Any], *, expected: int | None = None
    ) -> tuple[Change, NewEvent]:
        """What keeps a workflow, in place of the one of this name and version. Raises Refused("bad_request")."""
        check_name(name, "workflow")
        data = read_workflow(given).model_dump(mode="json", by_alias=True, exclude_unset=True)
        id = document_id(owner_uid, name)
        change = Change(kind=_WORKFLOW, id=id, owner_uid=owner_uid, data=data, expected=expected)
        return change, _event(owner_uid, "defined", {"workflow": name})

    @staticmethod
    def removing(owner_uid: int, name: str, *, expected: int | None = None) -> tuple[Change, NewEvent]:
        """What forgets a workflow."""
        id = document_id(owner_uid, name)
        gone = Change(kind=_WORKFLOW, id=id, owner_uid=owner_uid, data=None, expected=expected)
        return gone, _event(owner_uid, "removed", {"workflow": name})

    @staticmethod
    def room(owner_uid: int) -> Room:
        """How many workflows an owner may have."""
        return Room(kind=_WORKFLOW, owner_uid=owner_uid, documents=_MAX_WORKFLOWS, size_bytes=_MAX_BYTES)

    async def definitions(self, owner_uid: int) -> Sequence[Document]:
        """All workflows of an owner as they are stored, by name."""
        found: list[Document] = []
        after = ""
        while page := await self._documents.list(_WORKFLOW, owner_uid=owner_uid, after=after):
            found += page
            after = page[-1].id
        return found

    async def workflow(self, owner_uid: int, name: str) -> Workflow:
        """Raises Refused("not_found")."""
        return read_workflow((await self._stored(owner_uid, name)).data)

    async def workflow_view(self, owner_uid: int, name: str) -> dict[str, Any]:
        """A workflow's JSON form. Raises Refused("not_found")."""
        return {"name": name, **(await self._stored(owner_uid, name)).data}

    async def workflows(self, owner_uid: int) -> Sequence[dict[str, Any]]:
        """All of an owner, by name, without their stages' texts."""
        return [
            {
                "name": document.name,
                "description": document.data.get("description", ""),
                "stages": [stage["name"] for stage in document.data["stage"]],
                "updated": document.updated,
            }
            for document in await self.definitions(owner_uid)
        ]

    async def remove(self, owner_uid: int, name: str) -> None:
        """Forget a workflow; its runs are kept, and those that go on go on. Raises Refused("not_found")."""
        stored = await self._stored(owner_uid, name)
        gone, told = self.removing(owner_uid, stored.name)
        with refusing():
            await self._feed.apply([gone], [told])

    # -- runs -----------------------------------------------------------------------------------------------------

    async def begin(self, owner_uid: int, name: str, arguments: Mapping[str, str], *, key: str | None = None) -> Run:
        """Store a run that nobody has begun to perform; with a key that was used before, that run.

        Raises:
            Refused: not_found, bad_request, storage_full, too_large where too many go on; idempotency_conflict, if the
                key was used for another.

        """
        if key is None:
            return await self._begin(owner_uid, name, arguments, new_id("run"))
        id = id_of("run", owner_uid, key)
        whole = document_id(owner_uid, id)
        async with self._changing.setdefault(whole, trio.Lock()):
            try:
                old = await self._find(owner_uid, id)  # whatever has become of the workflow since
                if old is None:
                    return await self._begin(owner_uid, name, arguments, id)
            finally:
                if whole not in self._open:
                    self._changing.pop(whole, None)
        if not _is_repeated(old, name, arguments):
            raise Refused("idempotency_conflict", f"the key {key!r:.80} was used for another run: {old.id}")
        return old

    async def _begin(self, owner_uid: int, name: str, arguments: Mapping[str, str], id: str) -> Run:
        workflow = await self.workflow(owner_uid, name)
        values = workflow.arguments(arguments)
        created = self._now()
        run = Run(
            id=id,
            owner_uid=owner_uid,
            workflow=name,
            definition=workflow,
            arguments=values,
            stages={stage.name: StageState() for stage in workflow.ordered},
            created=created,
            deadline=None if workflow.timeout_s is None else _later(created, seconds=workflow.timeout_s),
        )
        run = await self._save(run, "started", {})
        self._tell_begun()
        return run

    async def change(self, key: str, how: Callable[[Run], Changed | None]) -> Run | None:
        """Change a run that goes on, and store it; one that has ended by that leaves the memory.

        Args:
            how: pure: from the run as it is to the run as it is to be; None leaves it so.

        Returns: the run as it is then; None if it had ended before.

        Raises:
            Refused: storage_full, too_large; the run is as it was.

        """
        if key not in self._open:
            return None
        async with self._changing.setdefault(key, trio.Lock()):
            run = self._open.get(key)
            changed = None if run is None else how(run)
            if changed is None:
                return run
            return await self._save(changed.run, changed.event, changed.data)

    def going_on(self) -> Sequence[Run]:
        """All that have not ended."""
        return tuple(self._open.values())

    def now(self, key: str) -> Run | None:
        """A run that has not ended."""
        return self._open.get(key)

    async def get(self, owner_uid: int, id: str) -> Run:
        """A run of an owner. Raises Refused("not_found")."""
        found = await self._find(owner_uid, id)
        if found is None:
            raise Refused("not_found", f"there is no run {id!r:.80}")
        return found

    async def runs(
        self, owner_uid: int | None, *, workflow: str | None = None, limit: int = 100
    ) -> Sequence[dict[str, Any]]:
        """The newest runs of an owner, or of all, those that go on first, in the form in which they are listed."""
        going = [run for run in self._open.values() if owner_uid in (None, run.owner_uid)]
        heads: list[DocumentHead] = []
        after = ""
        while page := await self._documents.heads(_ENDED, owner_uid=owner_uid, after=after):
            heads += page
            after = page[-1].id
        newest = sorted(going, key=lambda run: run.created, reverse=True)
        found = [{**run.summary(), "owner_uid": run.owner_uid} for run in newest if workflow in (None, run.workflow)][
            :limit
        ]
        now = self._now()
        for head in sorted(heads, key=lambda head: head.created, reverse=True):
            if len(found) >= limit:
                break
            if _is_over(head, now):
                continue
            document = await self._ended(head.id)
            if document is not None and workflow in (None, document.data["workflow"]):
                found.append({**summary_of(document.data), "owner_uid": document.owner_uid})
        return found

    async def forget_ended(self, owner_uid: int, workflow: str) -> int:
        """Forget the runs of a workflow that have ended; how many. Raises Refused: storage_full, draining."""
        removed, after = 0, ""
        with refusing():
            while page := await self._documents.list(_ENDED, owner_uid=owner_uid, after=after, limit=_SWEPT_AT_ONCE):
                changes = [
                    Change(kind=_ENDED, id=each.id, owner_uid=owner_uid, data=None, expected=None)
                    for each in page
                    if each.data["workflow"] == workflow
                ]
                after = page[-1].id
                removed += (await self._documents.apply(changes)).removed if changes else 0
        return removed

    async def sweep(self) -> int:
        """Remove runs that ended so long ago that they are forgotten; how many. Raises StorageFull, JournalClosed."""
        removed = 0
        while heads := await self._documents.expired(_ENDED, now=self._now(), limit=_SWEPT_AT_ONCE):
            changes = [
                Change(kind=_ENDED, id=head.id, owner_uid=head.owner_uid, data=None, expected=None) for head in heads
            ]
            removed += (await self._documents.apply(changes)).removed
        return removed

    async def wait_changed(self, key: str) -> None:
        """Wait until this run changes."""
        await self._changed.setdefault(key, trio.Event()).wait()

    async def wait_begun(self) -> None:
        """Wait until some run is begun."""
        await self._begun.wait()

    async def wait_ended(self, owner_uid: int, id: str, wait_s: float) -> Run:
        """The run once it has ended, or after so many seconds as it is. Raises Refused("not_found")."""
        run = await self.get(owner_uid, id)
        with trio.move_on_after(wait_s):
            while run.status == "running":
                await self.wait_changed(run.key)
                run = await self.get(owner_uid, id)
        return run

    async def _find(self, owner_uid: int, id: str) -> Run | None:
        key = document_id(owner_uid, id)
        if key in self._open:
            return self._open[key]
        document = await self._ended(key)
        return None if document is None else _run_of(document)

    async def _ended(self, key: str) -> Document | None:
        with refusing():
            document = await self._documents.get(_ENDED, key)
        return None if document is None or _is_over(document, self._now()) else document

    async def _save(self, run: Run, event: str, data: Mapping[str, Any]) -> Run:
        ended = run.status != "running"
        keep_days = self._keep_days()
        document = Change(
            kind=_ENDED if ended else _OPEN,
            id=run.key,
            owner_uid=run.owner_uid,
            data=run.to_json(),
            expected=0 if ended else run.version,
            expires=_later(self._now(), days=keep_days) if ended and keep_days else None,
        )
        changes = [document]
        if ended:
            changes.append(Change(kind=_OPEN, id=run.key, owner_uid=run.owner_uid, data=None, expected=run.version))
        told = {"workflow": run.workflow, "run": run.id, **data}
        if "error" in told:
            told["error"] = kept(str(told["error"]), MAX_ERROR_BYTES)  # what a judge said may be long
        room = Room(kind=_OPEN, owner_uid=run.owner_uid, documents=_MAX_GOING_ON, size_bytes=_MAX_BYTES)
        with trio.CancelScope(shield=True), refusing():  # what is in memory is what is stored
            applied = await self._feed.apply(
                changes, [_event(run.owner_uid, event, told)], opens_work=not run.version, room=[room]
            )
            run = replace(run, version=applied.documents[0].version)
            if ended:
                del self._open[run.key]
                self._changing.pop(run.key, None)
            else:
                self._open[run.key] = run
        self._changed.pop(run.key, trio.Event()).set()
        return run

    async def _stored(self, owner_uid: int, name: str) -> Document:
        with refusing():
            found = await self._documents.get(_WORKFLOW, document_id(owner_uid, name))
        if found is not None:
            return found
        names = [head.name for head in await self._documents.heads(_WORKFLOW, owner_uid=owner_uid)]
        near = get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Refused("not_found", f"there is no workflow {name!r:.80}{hint}")

    def _tell_begun(self) -> None:
        self._begun.set()
        self._begun = trio.Event()


def _event(owner_uid: int, name: str, data: Mapping[str, Any]) -> NewEvent:
    return NewEvent(owner_uid=owner_uid, topic=_TOPIC, name=name, data=data)


def _is_repeated(old: Run, name: str, arguments: Mapping[str, str]) -> bool:
    """Whether it is what was asked for, by the definition that it was begun with."""
    try:
        return (old.workflow, old.arguments) == (name, old.definition.arguments(arguments))
    except Refused:
        return False


def _is_over(document: Document | DocumentHead, now: str) -> bool:
    return document.expires is not None and document.expires <= now


def _later(stamp: str, *, seconds: float = 0.0, days: float = 0.0) -> str:
    return _stamp(datetime.fromisoformat(stamp) + timedelta(seconds=seconds, days=days))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _run_of(document: Document) -> Run:
    return Run.of(document.data, owner_uid=document.owner_uid, version=document.version)
