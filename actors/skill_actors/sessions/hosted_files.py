"""Files that code in the API's containers has made: named when an answer shows them, fetched when somebody asks."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.anthropic.names import fresh_name, safe_name
from skill_actors.errors import Refused
from skill_actors.files.changes import FileChange
from skill_actors.files.names import content_type_of, is_own
from skill_actors.sessions.hosted import Hosted, HostedFacts
from skill_actors.sessions.log import Draft, SessionLog

__all__ = ["HostedFetch", "fetch_hosted", "name_hosted_files"]

_FACTS_S: Final = 10.0  # the turn waits for names no longer than this; the other files have their ids as names then
_ASKED_AT_ONCE: Final = 8

_log = logging.getLogger(__name__)


def _names_in(folder: Path) -> set[str]:
    """What is there already. Blocks."""
    try:
        return {name.casefold() for name in os.listdir(folder)}
    except FileNotFoundError:
        return set()


def _plain(given: str, file_id: str, taken: Collection[str]) -> str:
    """A plain file name for what a server calls its file: never a path, never the daemon's own, never twice."""
    name = safe_name(given)
    return fresh_name(safe_name(file_id) if is_own(name) else name, taken)


async def name_hosted_files(log: SessionLog, services: Hosted, place: str, folder: Path, turn: str) -> None:
    """Tell, in one commit, of every file that the conversation's answers show and that no event has told of yet.

    Args:
        place: the hosted one's name.
        folder: on this host, where files are put that are fetched: none has the name of another one there.

    """
    history = await log.load_history()
    if not history.unnamed_files:
        return
    taken = {name.casefold() for name in history.hosted_files} | await trio.to_thread.run_sync(_names_in, folder)
    ids = tuple(history.unnamed_files)
    known = await _facts_of(services, ids)
    told: list[Draft] = []
    for file_id in ids:
        facts = known.get(file_id, HostedFacts(name=file_id, size_bytes=None, content_type=None))
        name = _plain(facts.name, file_id, taken)
        taken.add(name.casefold())
        data: dict[str, Any] = {
            "name": name,
            "size": facts.size_bytes,
            "checksum": None,
            "content_type": facts.content_type or content_type_of(name),
            "source": place,
            "file_id": file_id,
        }
        told.append(Draft("file.created", turn, data))
    await log.append(told)


async def _facts_of(services: Hosted, ids: Sequence[str]) -> Mapping[str, HostedFacts]:
    """What the API says of these files within the time, a few at once; once the API fails it is asked no more."""
    known: dict[str, HostedFacts] = {}
    waiting = iter(ids)

    async def ask(scope: trio.CancelScope) -> None:
        for file_id in waiting:
            try:
                known[file_id] = await services.facts(file_id)
            except HostedError as error:
                _log.warning("the name of the hosted file %s is not known: %s", file_id, error)
                if error.retryable:
                    scope.cancel()

    with trio.move_on_after(_FACTS_S):
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for _ in range(min(_ASKED_AT_ONCE, len(ids))):
                nursery.start_soon(ask, nursery.cancel_scope)
    return known


class HostedFetch:
    """Fetches files for whoever lists and reads those of conversations.

    Args:
        max_bytes: of one file.

    """

    def __init__(self, services: Hosted, max_bytes: int) -> None:
        self._services = services
        self._max_bytes = max_bytes

    async def fetch(self, session: str, file: FileChange, folder: Path) -> None:
        """Put the file into the folder under its name. Raises Refused."""
        try:
            known = {"name": file.name, "file_id": file.file_id}
            await fetch_hosted(self._services, known, folder, max_bytes=self._max_bytes)
        except HostedError as error:
            raise Refused(
                "backend_unavailable",
                f"{file.name} is at the API and was not fetched: {error.message}",
                details=error.to_dict(),
                retry_after_s=error.retry_after_s,
            ) from error


async def fetch_hosted(services: Hosted, known: Mapping[str, Any], folder: Path, *, max_bytes: int) -> Path:
    """The file of an event on this host, downloaded unless it was before. Raises HostedError."""
    name = str(known["name"])
    path = folder / name
    if not await trio.Path(path).is_file():
        await services.download(str(known["file_id"]), folder, name, max_bytes=max_bytes)
    return path
