"""Files from one place of a conversation to another, by name: what the model's tool `hand_over` does, and the API.

A file is whole in its new place or not there at all. Between executors it is copied from folder to folder on the
host; to the hosted place it is uploaded, and the model's next request names it; from there it is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio

from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.base import ToolCall, ToolContext, ToolResult
from skill_actors.backends.routing import HandOver, hand_over_of
from skill_actors.backends.tools import BadInput
from skill_actors.errors import Refused
from skill_actors.files.content import NewFile, open_file
from skill_actors.files.names import content_type_of
from skill_actors.sessions.history import History
from skill_actors.sessions.hosted import Hosted
from skill_actors.sessions.hosted_files import fetch_hosted
from skill_actors.sessions.log import Draft, SessionLog

__all__ = ["HandOverRoom", "HandOvers", "copy_file"]

_PIECE_BYTES: Final = 1 << 20

Moved = tuple[int, str]  # size in bytes, checksum


def copy_file(source: Path, target: Path, name: str, *, max_bytes: int) -> Moved:
    """Copy a file to another folder under the same name, in one step and durably. Blocks.

    Raises:
        Refused: bad_request, not_found, conflict, storage_full as `files.content` does; too_large.

    """
    with open_file(source, name) as original, NewFile(target, name) as copy:
        offset = 0
        while piece := original.read_at(offset, _PIECE_BYTES):
            offset += len(piece)
            if offset > max_bytes:
                raise Refused("too_large", f"{name[:200]} is larger than the {max_bytes} bytes that are handed over")
            copy.write(piece)
        copy.commit()
        return copy.size, copy.checksum


def _size(folder: Path, name: str) -> int:
    with open_file(folder, name) as file:
        return file.mark.size


class HandOvers:
    """Hands files over in one conversation.

    Args:
        folders: of the places with files, by name.
        hosted: the name of the hosted place; None if there is none.
        services: what the hosted place needs; None if it is not available.
        max_bytes: of one file.
        check_room: raises Refused if so many bytes more do not fit into the session's folders.

    """

    def __init__(
        self,
        log: SessionLog,
        folders: Mapping[str, Path],
        *,
        hosted: str | None,
        services: Hosted | None,
        max_bytes: int,
        check_room: Callable[[int], None],
    ) -> None:
        self._check_room = check_room
        self._log = log
        self._folders = folders
        self._hosted = hosted
        self._services = services
        self._max_bytes = max_bytes

    async def perform(self, asked: HandOver, turn: str | None) -> Moved:
        """Hand one file over; its size and checksum.

        Raises:
            Refused: bad_request, not_found, conflict, too_large, storage_full, backend_unavailable.
            HostedError: the API did not take or give the file.

        """
        if self._hosted not in (asked.source, asked.target):
            return await self._copy(asked)
        if self._services is None:
            raise Refused("backend_unavailable", f"the place {self._hosted} is not available")
        if asked.target == self._hosted:
            return await self.send(asked.name, self._folders[asked.source], turn)
        history: History = await self._log.load_history()
        known = history.hosted_files.get(asked.name)
        if known is None:
            raise Refused("not_found", f"there is no file {asked.name[:200]!r} in the place {self._hosted}")
        self._check_room(int(known.get("size") or 0))
        cache = self._folders[asked.source]  # no tool works there
        await fetch_hosted(self._services, known, cache, max_bytes=self._max_bytes)
        return await self._copy(asked)

    async def _copy(self, asked: HandOver) -> Moved:
        source, target = self._folders[asked.source], self._folders[asked.target]
        self._check_room(await trio.to_thread.run_sync(_size, source, asked.name))
        copy = partial(copy_file, source, target, asked.name, max_bytes=self._max_bytes)
        return await trio.to_thread.run_sync(copy)

    async def send(self, name: str, folder: Path, turn: str | None) -> Moved:
        """Upload a file of that folder; the model's next request gives it to the container. Raises as `perform`."""
        assert self._services is not None
        file_id, size, checksum = await self._services.upload(folder, name, max_bytes=self._max_bytes)
        data = {
            "name": name,
            "size": size,
            "checksum": checksum,
            "content_type": content_type_of(name),
            "source": self._hosted,
            "file_id": file_id,
            "uploaded": True,
        }
        with trio.CancelScope(shield=True):  # it is there: who asks for it later has to know its id
            await self._log.append([Draft("file.created", turn, data)])
        return size, checksum


class HandOverRoom:
    """Takes calls of `hand_over`. A Workspace for the runner of calls, though nothing is executed in it."""

    def __init__(self, hand_overs: HandOvers, folders: Mapping[str, Path], turn: str) -> None:
        self._hand_overs = hand_overs
        self._folders = folders
        self._turn = turn

    @property
    def root(self) -> Path:
        return Path("/")

    def path_of_skill(self, copy: Path) -> str:
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Hand a file over; what cannot be is an error that says why."""
        result: list[ToolResult] = []
        with trio.move_on_after(context.timeout_s):
            result.append(await self._execute(call))
        if result:
            return result[0]
        return ToolResult(content=f"[timed out after {context.timeout_s:g} s]", outcome="timeout")

    async def _execute(self, call: ToolCall) -> ToolResult:
        try:
            asked = hand_over_of(call.input, self._folders)
            size, _ = await self._hand_overs.perform(asked, self._turn)
        except (BadInput, Refused) as error:
            return ToolResult(content=str(error), outcome="error")
        except HostedError as error:
            return ToolResult(content=f"The file was not handed over: {error.message}", outcome="error")
        return ToolResult(
            content=f"{asked.name} ({size} bytes) is in the place {asked.target} now, as it is in {asked.source}.",
            outcome="ok",
        )

    async def aclose(self) -> None:
        """Nothing is held open."""
