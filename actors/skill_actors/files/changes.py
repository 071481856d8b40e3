"""What became of a workspace's files between two looks, as events say it. Pure.

A file is known by its mark and its checksum. Where the mark is another one the content may still be the same
(touched, written again): then it has not changed, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from skill_actors.files.names import content_type_of
from skill_actors.files.snapshot import Mark, Snapshot

__all__ = [
    "Differences",
    "FileChange",
    "Known",
    "differences",
    "hosted_files",
    "is_settled",
    "known_files",
    "nanoseconds_of",
    "time_text",
]

_Kind = Literal["created", "changed", "deleted"]
_TYPES: Final[Mapping[_Kind, str]] = {
    "created": "file.created",
    "changed": "file.changed",
    "deleted": "file.deleted",
}
_GONE: Final = _TYPES["deleted"]
# A file that was written so shortly before a look may be written again without its times telling.
_CLOCK_GRAIN_NS: Final = 20_000_000


class Known(NamedTuple):
    """A file as it was last reported; `created` is RFC 3339, when it was first."""

    mark: Mark
    checksum: str | None
    created: str
    settled: bool = True  # whether the mark alone can be trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file was created, changed or deleted.

    Args:
        name: below the workspace.
        size: in bytes; None where the file is gone or its size is not known.
        checksum: "sha256:..." of the content; None for what is gone, or too large to be read by the way.
        source: the place in which the file is.
        modified: the file's own time, RFC 3339 with nanoseconds; None where there is none.
        file_id: its id on the side that hosts it; None for a file of the workspace.

    """

    kind: _Kind
    name: str
    size: int | None
    checksum: str | None
    source: str
    modified: str | None = None
    file_id: str | None = None

    @property
    def content_type(self) -> str:
        return content_type_of(self.name)

    def to_event(self) -> tuple[str, dict[str, Any]]:
        """Type and data of the event."""
        data: dict[str, Any] = {
            "name": self.name,
            "size": self.size,
            "checksum": self.checksum,
            "content_type": self.content_type,
            "source": self.source,
        }
        if self.modified is not None:
            data["modified"] = self.modified
        if self.file_id is not None:
            data["file_id"] = self.file_id
        return _TYPES[self.kind], data


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Names: new, perhaps changed (their content decides), and gone; each sorted."""

    created: tuple[str, ...]
    suspect: tuple[str, ...]
    deleted: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.created or self.suspect or self.deleted)


def differences(known: Mapping[str, Known], now: Snapshot) -> Differences:
    """What is to be looked at more closely. What could not be seen now is not gone."""
    created = [name for name in now.marks if name not in known]
    suspect = []
    for name, mark in now.marks.items():
        before = known.get(name)
        if before is not None and not _is_same(before, mark):
            suspect.append(name)
    deleted = []
    if len(now.marks) - len(created) < len(known):
        deleted = [name for name in known if name not in now.marks and now.knows(name)]
    return Differences(created=tuple(sorted(created)), suspect=tuple(sorted(suspect)), deleted=tuple(sorted(deleted)))


def _is_same(before: Known, mark: Mark) -> bool:
    if not before.settled:
        return False
    if before.mark.inode == 0:
        return before.mark[:2] == mark[:2]
    return before.mark == mark


def is_settled(mark: Mark, began_ns: int, ended_ns: int) -> bool:
    """Whether a write after a look, from when to when it took, is bound to give the file another mark.

    The ctime alone says so: a tool can set the mtime to anything, and a clock that was set back leaves both ahead.
    """
    return not began_ns - _CLOCK_GRAIN_NS <= mark.ctime_ns <= ended_ns + _CLOCK_GRAIN_NS


def known_files(events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> dict[str, Known]:
    """What the events of a session, oldest first, have said of its workspace: each as (type, time, data).

    Files that are hosted elsewhere are left out, and a reset that removed the workspace's files removes all.
    """
    known: dict[str, Known] = {}
    for type, time, data in events:
        if type == "session.reset" and data.get("workspace"):
            known.clear()
        if type not in _TYPES.values() or data.get("file_id"):
            continue
        name = str(data["name"])
        if type == _GONE:
            known.pop(name, None)
            continue
        before = known.get(name)
        mark = Mark(int(data.get("size") or 0), nanoseconds_of(data.get("modified")))
        known[name] = Known(mark, data.get("checksum"), before.created if before else time)
    return known


def hosted_files(
    events: Iterable[tuple[str, Mapping[str, Any]]], before: Mapping[tuple[str, str], FileChange] | None = None
) -> dict[tuple[str, str], FileChange]:
    """The files that a host made and keeps, by place and name, as events (type, data) after `before` tell of them."""
    hosted = dict(before or {})
    for type, data in events:
        if type not in _TYPES.values() or not data.get("file_id") or data.get("uploaded"):
            continue
        key = (str(data["source"]), str(data["name"]))
        if type == _GONE:
            hosted.pop(key, None)
            continue
        hosted[key] = FileChange(
            kind="created",
            name=key[1],
            size=data.get("size"),
            checksum=data.get("checksum"),
            source=key[0],
            file_id=str(data["file_id"]),
        )
    return hosted


def time_text(ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC, all nine digits kept; the clocks of files go from 0001 to 9999."""
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"@{ns}"
    return f"{text.zfill(19)}.{rest:09d}Z"


def nanoseconds_of(text: object) -> int:
    """The opposite of `time_text`; 0 for what is none."""
    if not isinstance(text, str):
        return 0
    try:
        if text.startswith("@"):
            return int(text[1:])
        whole, _, rest = text.removesuffix("Z").partition(".")
        return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 1_000_000_000 + int(rest or 0)
    except ValueError:
        return 0
