"""The files of one conversation while it is in use: what has changed becomes events, and too much is refused.

Every place of the conversation has a folder, and each folder a watch. What a watch knows is what the session's own
events have said, so that a change is told once, whatever was restarted meanwhile: a change and the end of the call
that made it are one commit.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.base import ToolCall, ToolResult, Workspace
from skill_actors.backends.native import NATIVE
from skill_actors.errors import Refused
from skill_actors.files.changes import FileChange, Known, hosted_files, known_files
from skill_actors.files.content import NewFile, remove_uploads
from skill_actors.files.quota import Quota
from skill_actors.files.snapshot import Snapshot
from skill_actors.files.watch import Usage, WorkspaceWatch
from skill_actors.runtime.exit import split_cancelled
from skill_actors.sessions.backend_choice import choices_of
from skill_actors.sessions.events import Event
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.place_folders import folder_of_place
from skill_actors.sessions.places import HOSTED, folder_names
from skill_actors.sessions.session_artifacts import SessionArtifacts
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["SessionFiles", "check_quota", "place_folders"]

_log = logging.getLogger(__name__)
_PAGE_EVENTS: Final = 1_000
_WRITING_TOOLS: Final = frozenset({"create_file", "str_replace"})
_LOOK_EVERY_S: Final = 1.0  # while a call runs; less often where a look takes long
_LOOK_SHARE: Final = 20.0


def place_folders(session: str, setting: Sequence[Any], workspaces: Path) -> dict[str, Path]:
    """Where each place with files has its folder on the host, by its name, the main one first."""
    names = folder_names(choices_of(setting))
    ordered = sorted(names, key=lambda name: names[name] is not None)
    return {name: folder_of_place(workspaces, session, names[name]) for name in ordered}


def check_quota(limits: Mapping[str, Any], allowed: int) -> None:
    """Raise Refused("bad_request") if a session asks for more room than the operator gives any."""
    wanted = limits.get("workspace_bytes") or 0
    if wanted > allowed:
        raise Refused(
            "bad_request",
            f"limits.workspace_bytes: {wanted} is more than the operator allows, limits.workspace_bytes = {allowed}",
        )


class SessionFiles:
    """One session's folders. Belongs to the trio thread.

    Args:
        log: takes the events.

    """

    def __init__(self, log: SessionLog, env: Surroundings) -> None:
        self._log = log
        self._env = env
        self._watches: dict[str, WorkspaceWatch] | None = None
        self._opening = trio.Lock()
        self._hosted: Mapping[tuple[str, str], FileChange] = {}
        self._hosted_seq = 0  # read up to here
        self._uploads: list[NewFile] = []  # that are under way
        self.artifacts = SessionArtifacts(env.artifacts)
        settings = log.record.settings
        setting = settings.get("backends") or env.default_backends
        self._folders = place_folders(log.record.id, setting, env.workspaces) or {
            NATIVE: env.workspaces / log.record.id
        }
        self._hosting = {choice.name for choice in choices_of(setting) if choice.backend == HOSTED}

    @property
    def quota(self) -> Quota:
        """What the session may have, if the operator allows as much."""
        limit = self._env.defaults.workspace_bytes
        wanted = self._log.record.settings.get("limits", {}).get("workspace_bytes", limit)
        return Quota(limit_bytes=min(limit, int(wanted)))

    @property
    def session(self) -> str:
        return self._log.record.id

    @property
    def folders(self) -> Mapping[str, Path]:
        """By the name of the place, the main one first."""
        return self._folders

    @property
    def main(self) -> str:
        """The place in which files are that come with messages and uploads."""
        return next(iter(self._folders))

    @property
    def usage(self) -> Usage:
        """All places together, as they were last looked at."""
        watches = (self._watches or {}).values()
        return Usage(
            bytes=sum(watch.usage.bytes for watch in watches),
            files=sum(watch.usage.files for watch in watches),
            complete=all(watch.usage.complete for watch in watches),
            uploads={name: size for watch in watches for name, size in watch.usage.uploads.items()},
        )

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has asked for a file yet, so that another one of this would do as well."""
        return self._watches is None and self._hosted_seq == 0

    async def watches(self) -> Mapping[str, WorkspaceWatch]:
        """By place. The first time this reads the session's events. Raises what reading them raises."""
        async with self._opening:
            if self._watches is None:
                told = await self._told()
                for folder in self._folders.values():
                    await trio.to_thread.run_sync(remove_uploads, folder)
                self._watches = {
                    place: WorkspaceWatch(folder, place, known=known_files(self._of(place, told)))
                    for place, folder in self._folders.items()
                }
        return self._watches

    def known(self, place: str) -> Mapping[str, Known]:
        """What was told of the files of a place; nothing before `watches` was awaited."""
        watch = (self._watches or {}).get(place)
        return {} if watch is None else watch.known

    async def hosted(self) -> Mapping[tuple[str, str], FileChange]:
        """Files that a hosted place has made and keeps, by place and name: the latest of each name."""
        last = self._log.record.last_seq
        if self._hosted_seq < last:
            told = await self._told(self._hosted_seq)
            self._hosted = hosted_files(((event.type, event.data) for event in told), self._hosted)
            self._hosted_seq = last
        return self._hosted

    async def _told(self, after: int = 0) -> list[Event]:
        """Events that speak of files."""
        events: list[Event] = []
        session = self._log.record.id
        while page := await self._env.journal.read_events(session, after=after, limit=_PAGE_EVENTS):
            events += [event for event in page if event.type.startswith("file.") or event.type == "session.reset"]
            after = page[-1].seq
        return events

    def _of(self, place: str, told: Sequence[Event]) -> list[tuple[str, str, Mapping[str, Any]]]:
        """The main place has also what was told under a name that is none of today's: a default may be another now."""
        others = set(self._folders) - {place}
        mine = [
            event
            for event in told
            if (source := event.data.get("source")) is None
            or source == place
            or (place == self.main and source not in others)
        ]
        return [(event.type, event.time, event.data) for event in mine]

    async def append(
        self,
        drafts: Callable[[], Sequence[Draft]],
        turn: str | None,
        *,
        place: str | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        """Store events, and with them, in one commit, what has changed in the place.

        Args:
            drafts: asked for when it is known what the place holds now.
            turn: of the changes.
            place: None for the main one; what has no folder of its own may have changed any.
            only: look at these files alone.

        Raises: what `SessionLog.append` raises; then nothing is told.
        """
        watches = await self.watches()
        named = watches.get(place or self.main)
        first, *rest = [named] if named is not None else list(watches.values())
        await self._report(first, drafts, turn, only)
        for watch in rest:
            await self._report(watch, _nothing, turn, only)

    async def _report(
        self,
        watch: WorkspaceWatch,
        drafts: Callable[[], Sequence[Draft]],
        turn: str | None,
        only: Collection[str] | None,
    ) -> Snapshot:
        async def write(changes: Sequence[FileChange]) -> None:
            if watch.source in self._hosting:  # what was fetched from there was told when it was made
                hosted = await self.hosted()
                changes = [change for change in changes if (change.source, change.name) not in hosted]
            told = [Draft(type, turn, data) for type, data in (change.to_event() for change in changes)]
            if events := [*drafts(), *told]:
                await self._log.append(events)

            if told:
                meta = {"session": self.session, "folder": watch.root.name}
                self._env.bus.emit("files.changed", {"count": len(told)}, meta)

        return await watch.report(write, only=only)

    async def settle(self, turn: str | None) -> Mapping[str, Snapshot]:
        """Tell of what has changed in any place since the last call of a tool; what is there. Raises as `append`."""
        watches = await self.watches()
        return {place: await self._report(watch, _nothing, turn, None) for place, watch in watches.items()}

    async def look(self) -> Mapping[str, Snapshot]:
        """Look at all places anew, and tell nobody."""
        return {place: await watch.look() for place, watch in (await self.watches()).items()}

    def forget(self) -> None:
        """The folders were removed, and an event says so."""
        for watch in (self._watches or {}).values():
            watch.forget()

    # -- calls of tools ------------------------------------------------------------------------------------------

    def refusal(self, tool: str) -> ToolResult | None:
        """The result of a call that may not be made now, by the tool's plain name; None if it may."""
        if tool in _WRITING_TOOLS and self.quota.is_exceeded(self.usage):
            return ToolResult(content=self.quota.refusal(self.usage), outcome="error")
        return None

    async def bounded(self, run: Callable[[], Awaitable[ToolResult]], place: str | None = None) -> ToolResult:
        """Run a call, and end it if it writes more than the workspace may hold."""
        watches = await self.watches()
        watch = watches.get(place or self.main, watches[self.main])
        ended: ToolResult | None = None
        failure: BaseException | None = None
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                call = trio.CancelScope()
                nursery.start_soon(self._guard, watch, call)
                try:
                    with call:
                        ended = await run()
                except BaseException as error:  # raised below: out of the nursery it would come in a group
                    failure = error
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            cancelled, rest = split_cancelled(group)
            if rest is not None:
                raise
            failure = failure or cancelled
        if failure is not None:
            raise failure
        if ended is not None:
            return ended
        return ToolResult(
            content="Ended, with every process it had started: it wrote more than the workspace may hold, "
            "or where nobody can look.",
            outcome="error",
        )

    async def _guard(self, watch: WorkspaceWatch, call: trio.CancelScope) -> None:
        """End the call when it has written too much. Where there was too much before, it may write nothing more.

        So is one that hides what it writes, unless there was something hidden before: it may be bringing that to light.
        """
        allowed = max(self.quota.limit_bytes, self.usage.bytes)
        was_complete = self.usage.complete
        pause_s = _LOOK_EVERY_S
        while True:
            await trio.sleep(pause_s)
            began = trio.current_time()
            await watch.look()
            if self.usage.bytes > allowed or (was_complete and not self.usage.complete):
                call.cancel()
                return
            pause_s = max(_LOOK_EVERY_S, _LOOK_SHARE * (trio.current_time() - began))

    async def placed(self, call: ToolCall, workspace: Workspace, place: str) -> ToolCall:
        """The call with paths for references to artifacts. Raises ArtifactError, Refused."""
        folder = self._folders.get(place, self._folders[self.main])
        return await self.artifacts.placed(call, workspace, folder, self.quota, self.usage)

    def noted(self, result: ToolResult) -> ToolResult:
        """The result, saying so if there is too much in the workspace now."""
        note = self.quota.note(self.usage)
        if not note:
            return result
        return replace(result, content=f"{result.content}\n{note}" if result.content else note)

    def check_upload(self, size: int, replaced: int) -> None:
        """Raise Refused("too_large") or Refused("storage_full") if so many bytes do not fit."""
        self.quota.check_upload(with_uploads(self.usage, self._uploads), size, replaced=replaced)

    @asynccontextmanager
    async def uploading(self, place: str, name: str) -> AsyncIterator[NewFile]:
        """A file that somebody sends to the place. Each upload counts in what the others find there."""
        new = await trio.to_thread.run_sync(NewFile, self._folders[place], name)
        self._uploads.append(new)
        try:
            yield new
        finally:
            if new in self._uploads:
                self._uploads.remove(new)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(new.close)

    def landed(self, place: str, new: NewFile) -> None:
        """An upload has its name: until the next look it counts as a file that was seen."""
        watch = (self._watches or {})[place]
        watch.usage = with_uploads(watch.usage, [new])
        self._uploads.remove(new)

    def check_growth(self, new: NewFile, count: int, replaced: int) -> None:
        """Raise as `check_upload` if so many bytes more of this upload do not fit."""
        others = [upload for upload in self._uploads if upload is not new]
        used = with_uploads(self.usage, others, without=new)
        self.quota.check_upload(used, new.size + count, replaced=replaced)

    def place_called(self, source: str | None) -> str:
        """The place of this name; the main one for None. Raises Refused("not_found")."""
        if source is None:
            return self.main
        if source not in self._folders:
            known = ", ".join(self._folders)
            raise Refused("not_found", f"the session has no place {source[:40]!r}; it has {known}")
        return source


def with_uploads(usage: Usage, uploads: Collection[NewFile], *, without: NewFile | None = None) -> Usage:
    """What there is, with uploads as far as they are now, not as they were at the look."""
    seen = [*uploads, without] if without is not None else [*uploads]
    counted = sum(usage.uploads.get(upload.temporary, 0) for upload in seen)
    return replace(usage, bytes=usage.bytes - counted + sum(upload.size for upload in uploads))


def _nothing() -> Sequence[Draft]:
    return ()
