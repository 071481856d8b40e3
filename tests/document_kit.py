"""Documents over a real journal, and damage to the file they are in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw

from skill_actors.store import SqliteJournal
from skill_actors.store.documents import Change, NewEvent, SqliteDocuments

ME, OTHER = 1000, 1001
_PAGE, _INDEX_LEAF = 4096, 10


def change(name: str, data: Any = None, *, expected: int | None = None, owner: int = ME, **fields: Any) -> Change:
    """A change of the document `name` of the kind "item"; without data it is removed."""
    values: dict[str, Any] = {"kind": "item", "id": f"{owner}/{name}", "owner_uid": owner}
    return Change(data=data, expected=expected, **(values | fields))


def event(number: int = 0, *, owner: int = ME, topic: str = "custom.x", name: str = "e", **data: Any) -> NewEvent:
    return NewEvent(owner_uid=owner, topic=topic, name=name, data={"n": number, **data})


@asynccontextmanager
async def open_documents(path: Path, clock: Callable[[], str] | None = None) -> AsyncIterator[SqliteDocuments]:
    options: dict[str, Any] = {} if clock is None else {"clock": clock}
    async with await SqliteJournal.open(path, reserve_bytes=0, **options) as journal:
        yield journal.documents


def hurt(path: Path, sql: str) -> None:
    """Change the closed file behind everybody's back."""
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()


def hurt_index(path: Path, key: bytes) -> None:
    """Flip a bit in the key of an entry of an index in the closed file, of which the first that has it is taken."""
    data = bytearray(path.read_bytes())
    for page in range(_PAGE, len(data), _PAGE):
        place = data.find(key, page, page + _PAGE)
        if data[page] == _INDEX_LEAF and place >= 0:
            data[place + len(key) - 1] ^= 1
            path.write_bytes(data)
            return
    raise AssertionError(f"no index has {key!r}")
