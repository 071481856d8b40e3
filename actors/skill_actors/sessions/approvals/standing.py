"""What was allowed for a whole session: which later calls are the same, and which of these answers still hold.

The same is the same tool in the same place with the same words: of a command, also with the same variables, the same
version of its skill and the same content of the files that it names, so that nobody can be led to allow a name and
have another content run. For tools that read or write one file it is that file, whatever is written into it.

They are stored as approvals like any other, so they are found again after a restart, listed, and can be taken back. A
session that is reset begins without them, and a fork has none.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from typing import Any, Final

from skill_actors.sessions.approvals.request import ApprovalRequest, canonical
from skill_actors.sessions.approvals.stored import stored_approvals
from skill_actors.store.base import ApprovalRecord, Journal

__all__ = ["Standing", "is_standing", "standing_key"]

_FILE_TOOLS: Final = frozenset({"view", "create_file", "str_replace"})
_KEPT_SESSIONS: Final = 1_000


def standing_key(request: ApprovalRequest) -> str:
    """The same for all calls that an answer for the session holds for."""
    where = {"tool": request.tool, "place": request.place, "backend": request.backend, "cwd": request.cwd}
    what: dict[str, Any]
    path = request.input.get("path")
    if request.argv is None and request.tool in _FILE_TOOLS and isinstance(path, str):
        links = [file.to_dict() for file in request.files if file.note]  # a file that is there by now is no link
        what = {"path": posixpath.normpath(path), "links": links}
    else:
        words = request.input if request.command is None else request.command
        what = {
            "words": words,
            "argv": request.argv,
            "environment": request.environment,
            "files": [file.to_dict() for file in request.files],
            "skill": request.skill,
        }
    return hashlib.sha256(canonical({**where, **what})).hexdigest()


def is_standing(record: ApprovalRecord) -> bool:
    """Whether it was allowed for the session, and not taken back."""
    return record.status == "allowed" and (record.decision or {}).get("scope") == "session"


class Standing:
    """Answers that hold for sessions, by what they cover; read from the store when first needed."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._known: dict[str, Mapping[str, ApprovalRecord]] = {}
        self.changes = 0  # how often some answer for a session was given or taken back

    async def of(self, session: str, *, after_seq: int = 0) -> Mapping[str, ApprovalRecord]:
        """By key, those that were given behind an event. Raises what reading the store raises."""
        while (known := self._known.get(session)) is None:
            before = self.changes
            read = await self._read(session)
            if before == self.changes:
                if len(self._known) >= _KEPT_SESSIONS:
                    self._known.clear()
                self._known[session] = read
        return {key: record for key, record in known.items() if _given_at(record) > after_seq}

    async def _read(self, session: str) -> dict[str, ApprovalRecord]:
        found: dict[str, ApprovalRecord] = {}
        async for record in stored_approvals(self._journal, status="allowed", session=session):
            if is_standing(record):
                found.setdefault(str((record.decision or {}).get("covers")), record)
        return found

    def changed(self, session: str) -> None:
        """An answer for the session was given or taken back, or the session is gone."""
        self.changes += 1
        self._known.pop(session, None)


def _given_at(record: ApprovalRecord) -> int:
    return int((record.decision or {}).get("seq", 0))
