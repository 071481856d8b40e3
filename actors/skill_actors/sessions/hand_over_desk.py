"""Files handed from one place of a conversation to another because a client asks, not the model."""

from __future__ import annotations

from functools import partial
from typing import Any

from skill_actors.backends.anthropic import HostedError
from skill_actors.backends.routing import hand_over_of
from skill_actors.backends.tools import BadInput
from skill_actors.errors import Refused
from skill_actors.files.names import check_name
from skill_actors.sessions.backend_choice import choices_of
from skill_actors.sessions.file_desk import FileDesk
from skill_actors.sessions.hand_over import HandOvers
from skill_actors.sessions.intake import refusal
from skill_actors.sessions.places import HOSTED
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable, Viewer
from skill_actors.store.base import JournalClosed, SessionFull, SessionMissing, StorageFull

__all__ = ["HandOverDesk"]


class HandOverDesk:
    """Hands files over in any session."""

    def __init__(self, table: SessionTable, files: FileDesk, env: Surroundings) -> None:
        self._table = table
        self._files = files
        self._env = env

    async def hand_over(self, session: str, viewer: Viewer, asked: dict[str, Any]) -> dict[str, Any]:
        """Copy a file to another place: {"name", "place", "size", "checksum"}. Once more does no harm.

        Args:
            asked: {"name", "from", "to"}.

        Raises:
            Refused: not_found, bad_request, conflict, too_large, storage_full, backend_unavailable.

        """
        async with self._table.use(session, viewer) as live:
            files = self._files.of(live)
            settings = live.log.record.settings
            hosted = _hosted_place(settings.get("backends") or self._env.default_backends)
            try:
                wanted = hand_over_of(asked, files.folders)
            except BadInput as error:
                raise Refused("bad_request", str(error)) from error
            check_name(wanted.name)
            if hosted in (wanted.source, wanted.target) and self._env.hosted is not None:
                self._env.hosted.check()
            hand_overs = HandOvers(
                live.log,
                files.folders,
                hosted=hosted,
                services=self._env.hosted,
                max_bytes=self._env.defaults.hand_over_bytes,
                check_room=partial(files.check_upload, replaced=0),
            )
            await files.look()
            try:
                size, checksum = await hand_overs.perform(wanted, None)
                if wanted.target != hosted:
                    await files.append(lambda: (), None, place=wanted.target, only={wanted.name})
            except HostedError as error:
                raise Refused("backend_unavailable", error.message, details=error.to_dict()) from error
            except (StorageFull, SessionFull, JournalClosed, SessionMissing) as error:
                raise refusal(error) from error
            return {"name": wanted.name, "place": wanted.target, "size": size, "checksum": checksum}


def _hosted_place(setting: Any) -> str | None:
    return next((choice.name for choice in choices_of(setting) if choice.backend == HOSTED), None)
