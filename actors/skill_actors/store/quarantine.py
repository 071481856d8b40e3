"""Evidence of damage: what is still readable of a damaged session, copied aside, with a report beside it.

`STATE/quarantine/<time>-<session>/` holds `report.json` (what is damaged, when it was found, what to do) and
`rows.jsonl`, the session's rows as the file gives them: text that is not UTF-8 as {"base64": ...}, and a last line
{"error": ...} where SQLite can read no further. Nothing is removed from the journal. The same damage is written once.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from skill_actors.durable import sync_directory, write_file
from skill_actors.ids import is_id
from skill_actors.store.faults import DamagedRow

__all__ = ["Damage", "Quarantine"]

_MAX_FOLDERS: Final = 100  # a dying disk must not fill itself with copies
_MAX_ROWS_BYTES: Final = 64 << 20
_REMEDY: Final = (
    "Other conversations are not concerned. Restore a backup, or delete this conversation; rows.jsonl holds what can "
    "still be read of it."
)
_ROWS: Final = {
    "session": "SELECT id, owner_uid, created, updated, last_seq, CAST(totals AS BLOB) FROM session WHERE id = ?",
    "settings": "SELECT session, CAST(data AS BLOB), sum FROM settings WHERE session = ?",
    "turn": (
        "SELECT seq, id, status, created, updated, CAST(idempotency_key AS BLOB), digest, CAST(result AS BLOB), sum"
        " FROM turn WHERE session = ?"
    ),
    "event": (
        "SELECT seq, CAST(type AS BLOB), CAST(time AS BLOB), CAST(turn AS BLOB), offset, CAST(data AS BLOB), sum"
        " FROM event WHERE session = ?"
    ),
    "approval": (
        "SELECT id, turn, call, status, created, expires, updated, CAST(request AS BLOB), CAST(decision AS BLOB), sum"
        " FROM approval WHERE session = ?"
    ),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One finding. `session` is "(any)" or "(unknown)" where the damage hides it; `found` is a time."""

    session: str
    what: str
    seq: int | None
    cause: str
    found: str


class Quarantine:
    """The findings of one life of the journal, and their folders. Safe to use from several threads; blocks.

    Args:
        folder: made with the first finding.
        clock: the time as it is reported.

    """

    def __init__(self, folder: Path, clock: Callable[[], str]) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, int | None], Damage] = {}

    def findings(self) -> Sequence[Damage]:
        """What was found since the journal was opened, in that order."""
        with self._lock:
            return tuple(self._known.values())

    def forget(self, session: str) -> None:
        """The session is deleted; its folders stay."""
        with self._lock:
            self._known = {key: damage for key, damage in self._known.items() if damage.session != session}

    def add(self, error: DamagedRow, db: apsw.Connection) -> None:
        """Log the finding and copy what is left of the session, unless this damage is known. Does not raise."""
        damage = Damage(session=error.session, what=error.what, seq=error.seq, cause=error.cause, found=self._clock())
        key = (damage.session, damage.what, damage.seq)
        with self._lock:
            if key in self._known:
                return
            self._known[key] = damage
        _log.error("%s", error)
        try:
            self._keep(damage, db)
        except OSError as failure:
            _log.error("the damage of session %s cannot be recorded: %s", damage.session, failure.strerror)

    def keep_log(self, log: Path, frames: int, commits: int) -> None:
        """Copy the write-ahead log, of which only the first `frames` can be read. Does not raise.

        `commits` transactions behind them cannot. If the process died, or the power went, in mid-write, nobody was told
        that they were stored; if the file was damaged later, they are lost.
        """
        found = self._clock()
        cause = (
            f"{commits} transactions at the end of {log.name} cannot be read, behind {frames} pages that can. "
            "If the last process was killed, or the machine lost power, in mid-write they had not been acknowledged; "
            "otherwise restore a backup"
        )
        _log.error("%s", cause)
        folder = self._folder / f"{found.replace(':', '')}-log"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with log.open("rb") as source:
                write_file(folder / log.name, iter(lambda: source.read(1 << 20), b""))
            report = json.dumps({"what": "log", "cause": cause, "found": found}, indent=2)
            write_file(folder / "report.json", [report.encode()])
        except OSError as failure:
            _log.error("%s cannot be copied: %s", log.name, failure.strerror)

    def _keep(self, damage: Damage, db: apsw.Connection) -> None:
        name = damage.session if is_id(damage.session, "ses") else "unknown"
        folders = sorted(self._folder.glob("*-*")) if self._folder.is_dir() else []
        if any(_reports(folder, damage) for folder in folders if folder.name.endswith(name)):
            return
        if len(folders) >= _MAX_FOLDERS:
            _log.error("%s holds %d findings already: no copy of this one is made", self._folder, len(folders))
            return
        folder = self._folder / f"{damage.found.replace(':', '')}-{damage.what}{damage.seq or ''}-{name}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(folder / "rows.jsonl", _bounded(_dump(db, damage.session)))
        report = json.dumps({**asdict(damage), "remedy": _REMEDY}, indent=2)
        write_file(folder / "report.json", [report.encode()])
        sync_directory(self._folder)
        _log.error("what can be read of session %s was copied to %s", damage.session, folder)


def _reports(folder: Path, damage: Damage) -> bool:
    """Whether this folder is of the same damage, found in an earlier life."""
    try:
        report = json.loads((folder / "report.json").read_bytes())
        return all(report[name] == getattr(damage, name) for name in ("session", "what", "seq", "cause"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _dump(db: apsw.Connection, session: str) -> Iterator[bytes]:
    for table, sql in _ROWS.items():
        try:
            for row in db.execute(sql, (session,)):
                yield _line({"table": table, "row": [_plain(value) for value in row]})
        except (apsw.Error, UnicodeDecodeError) as error:
            yield _line({"table": table, "error": str(error)})


def _bounded(lines: Iterator[bytes]) -> Iterator[bytes]:
    left_bytes = _MAX_ROWS_BYTES
    for line in lines:
        left_bytes -= len(line)
        if left_bytes < 0:
            yield _line({"error": f"cut at {_MAX_ROWS_BYTES} bytes"})
            return
        yield line


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
