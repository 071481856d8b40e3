"""Documents: versions, all or nothing, owners apart, what is refused, and what is there after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from document_kit import ME, OTHER, change, event, open_documents
from skill_actors.store import SqliteJournal, StorageFull
from skill_actors.store.documents import (
    MAX_DOCUMENT_BYTES,
    MAX_EVENT_BYTES,
    Change,
    Counted,
    DocumentConflict,
    DocumentsFull,
    DocumentTooLarge,
    NewEvent,
    Room,
    WorkshopEvent,
)
from support import run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def test_a_document_is_there_with_its_version_and_times_also_after_a_restart(path: Path) -> None:
    times = iter(f"2026-01-01T00:00:0{second}.000Z" for second in range(9))

    async def main() -> None:
        async with open_documents(path, lambda: next(times)) as documents:
            applied = await documents.apply([change("a", {"x": "Grüße \u2028 \0"}, expected=0)])
            assert applied.documents[0].version == 1
            await documents.apply([change("a", {"x": 2}, expected=1, expires="2027-01-01T00:00:00.000Z")])
            before = await documents.get("item", f"{ME}/a")
        async with open_documents(path) as documents:
            found = await documents.get("item", f"{ME}/a")
            assert found is not None
            assert found == before
            assert (found.version, found.data, found.name, found.size_bytes) == (2, {"x": 2}, "a", 7)
            assert found.created < found.updated
            assert found.expires == "2027-01-01T00:00:00.000Z"
            assert await documents.get("profile", f"{ME}/a") is None
            removed = await documents.apply([change("a", expected=2)])
            assert (removed.removed, removed.documents) == (1, ())
            assert await documents.get("item", f"{ME}/a") is None
            assert (await documents.apply([change("a")])).removed == 0
            assert await documents.verify() == ()

    run(main)


@pytest.mark.parametrize(("expected", "found"), [(0, 1), (2, 1), (7, 1)])
@pytest.mark.parametrize("data", [{"x": 2}, None])
def test_a_change_for_another_version_is_refused_with_all_that_came_with_it(
    path: Path, expected: int, found: int, data: dict[str, Any] | None
) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            await documents.apply([change("a", {"x": 1})])
            with pytest.raises(DocumentConflict) as refused:
                await documents.apply(
                    [change("b", {}), change("a", data, expected=expected), change("c", {})], [event()]
                )
            assert (refused.value.id, refused.value.expected, refused.value.found) == (f"{ME}/a", expected, found)
            assert [document.name for document in await documents.list("item")] == ["a"]
            assert await documents.last_event() == 0
            assert await documents.verify() == ()

    run(main)


def test_of_many_who_change_one_version_one_succeeds(path: Path) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            await documents.apply([change("a", {"by": -1})])
            won: list[int] = []

            async def take(number: int) -> None:
                try:
                    await documents.apply([change("a", {"by": number}, expected=1)], [event(number)])
                except DocumentConflict:
                    return
                won.append(number)

            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(take, number)
            assert len(won) == 1
            found = await documents.get("item", f"{ME}/a")
            assert found is not None
            assert found.data == {"by": won[0]}
            assert [event.data["n"] for event in await documents.events(after=0)] == won

    run(main)


def test_owners_never_meet(path: Path) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            for owner in (1, 10, 100, ME):
                await documents.apply([change("a", {"of": owner}, owner=owner)])
            assert [found.owner_uid for found in await documents.list("item", owner_uid=1)] == [1]
            assert len(await documents.list("item")) == 4
            assert await documents.list("item", owner_uid=1, prefix="10/") == ()
            assert await documents.heads("item", owner_uid=OTHER) == ()
            with pytest.raises(ValueError, match="not one of the owner"):
                await documents.apply([Change(kind="item", id=f"{ME}/a", owner_uid=OTHER, data={}, expected=None)])

    run(main)


def test_lists_are_in_order_and_in_pages(path: Path) -> None:
    async def main() -> None:
        names = ["a", "a/b", "a0", "b\U0001f600", "z"]
        async with open_documents(path) as documents:
            await documents.apply([change(name, {"name": name}) for name in reversed(names)])
            found, after = [], ""
            while page := await documents.list("item", owner_uid=ME, after=after, limit=2):
                found += [document.name for document in page]
                after = page[-1].id
            assert found == names
            assert [head.name for head in await documents.heads("item", prefix=f"{ME}/a")] == ["a", "a/b", "a0"]
            for limit in (0, 10_001):
                with pytest.raises(ValueError, match="limit"):
                    await documents.list("item", limit=limit)

    run(main)


def test_a_list_of_large_documents_comes_in_pages_that_fit_the_memory(path: Path) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            for number in range(40):
                await documents.apply([change(f"{number:02}", {"x": "x" * 1_000_000})])
            page = await documents.list("item", owner_uid=ME)
            assert 30 <= len(page) < 40
            rest = await documents.list("item", owner_uid=ME, after=page[-1].id)
            assert len(page) + len(rest) == 40
            assert await documents.list("item", owner_uid=ME, after=rest[-1].id) == ()

    run(main)


def test_what_has_expired_does_not_exist_for_changes_and_can_be_found_by_that(path: Path) -> None:
    now = "2026-01-01T00:00:00.000Z"

    async def main() -> None:
        nonlocal now
        async with open_documents(path, lambda: now) as documents:
            for name, second in (("a", 5), ("b", 3), ("c", 9)):
                await documents.apply([change(name, {}, expires=f"2026-01-01T00:00:0{second}.000Z")])
            now = "2026-01-01T00:00:05.000Z"
            assert [head.name for head in await documents.expired("item", now=now)] == ["b", "a"]
            with pytest.raises(DocumentConflict) as refused:
                await documents.apply([change("a", {}, expected=1)])
            assert refused.value.found == 0
            anew = (await documents.apply([change("a", {"new": True}, expected=0)])).documents[0]
            assert (anew.version, anew.created) == (1, now)
            assert [head.name for head in await documents.expired("item", now=now)] == ["b"]
            assert await documents.count("item", ME) == Counted(3, 2 + 2 + 12)
            assert await documents.verify() == ()

    run(main)


def test_an_owner_may_have_no_more_than_there_is_room_for_but_can_always_have_less(path: Path) -> None:
    room = Room(kind="item", owner_uid=ME, documents=2, size_bytes=100)

    async def main() -> None:
        async with open_documents(path) as documents:
            for name in "ab":
                await documents.apply([change(name, {"x": "y" * 20})], room=[room])
            await documents.apply([change(name, {}, owner=OTHER) for name in "abc"])  # another's do not count
            with pytest.raises(DocumentsFull, match=r"2 documents.*may have 2"):
                await documents.apply([change("c", {})], room=[room])
            with pytest.raises(DocumentsFull, match="bytes"):
                await documents.apply([change("a", {"x": "y" * 80})], room=[room])
            tight = Room(kind="item", owner_uid=ME, documents=1, size_bytes=1)
            await documents.apply([change("a", {})], room=[tight])
            await documents.apply([change("a")], room=[tight])
            assert await documents.count("item", ME) == Counted(1, 28)
            assert await documents.count("item", 7) == Counted()

    run(main)


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


def _round() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["x"] = [value]
    return value


def _wide() -> dict[str, Any]:
    """Few objects, and 10^12 values once it is written out."""
    inner = ["x"] * 1_000
    return {"x": [[inner] * 1_000] * 1_000}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"x": "y" * (MAX_DOCUMENT_BYTES - 8)}, None),
        ({"x": "y" * (MAX_DOCUMENT_BYTES - 7)}, DocumentTooLarge),
        ({"x": "ü" * (MAX_DOCUMENT_BYTES // 2 - 4)}, None),
        ({"x": "ü" * (MAX_DOCUMENT_BYTES // 2)}, DocumentTooLarge),
        ({"x": "\0" * MAX_DOCUMENT_BYTES}, DocumentTooLarge),
        ({"x": "y" * (1 << 26)}, DocumentTooLarge),
        (_wide(), DocumentTooLarge),
        (_nested(100), None),
        (_nested(101), ValueError),
        (_round(), ValueError),
        ({"x": float("nan")}, ValueError),
        ({"x": float("inf")}, ValueError),
        ({1: 2}, TypeError),
        ({"x": {(1, 2): 3}}, TypeError),
        ({"x": {1, 2}}, TypeError),
        ({"x": b"bytes"}, TypeError),
        ({"\ud800": "\udfff"}, None),
    ],
    ids=range(17),
)
def test_data_is_stored_as_it_is_or_refused(path: Path, data: Any, error: type[Exception] | None) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            if error is not None:
                with pytest.raises(error):
                    await documents.apply([change("a", data)])
            else:
                await documents.apply([change("a", data)])
            found = await documents.get("item", f"{ME}/a")
            assert (None if found is None else found.data) == (None if error is not None else data)
            assert await documents.verify() == ()

    run(main)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "1000/"},
        {"id": "1000"},
        {"id": "01000/a"},
        {"id": "-1/a", "owner_uid": -1},
        {"id": "1000/a\0b"},
        {"id": "1000/\ud800"},
        {"id": f"1000/{'x' * 520}"},
        {"kind": "Item"},
        {"kind": ""},
        {"kind": "x'; DROP TABLE document; --"},
        {"expected": -1},
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(path: Path, fields: dict[str, Any]) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            values: dict[str, Any] = {"kind": "item", "id": "1000/a", "owner_uid": 1000, "data": {}, "expected": None}
            with pytest.raises(ValueError):  # noqa: PT011  # each says it in words of its own
                await documents.apply([Change(**(values | fields))])
            assert await documents.list("item") == ()

    run(main)


@pytest.mark.parametrize(
    "events",
    [
        [NewEvent(owner_uid=1, topic="Agent", name="x")],
        [NewEvent(owner_uid=1, topic="agent", name="x y")],
        [NewEvent(owner_uid=1, topic="", name="x")],
        [NewEvent(owner_uid=1, topic="agent", name="x\n")],
        [NewEvent(owner_uid=1, topic="agent", name="x")] * 1_001,
    ],
)
def test_an_event_that_can_be_none_is_refused(path: Path, events: list[NewEvent]) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            with pytest.raises(ValueError):  # noqa: PT011
                await documents.apply([], events)
            with pytest.raises(ValueError, match="twice"):
                await documents.apply([change("a", {}), change("a", {})])
            with pytest.raises(DocumentTooLarge):
                await documents.apply([], [event(text="x" * MAX_EVENT_BYTES)])
            assert await documents.last_event() == 0

    run(main)


def test_a_caller_that_was_cancelled_may_have_changed_something_and_then_it_is_told(path: Path) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            heard: list[WorkshopEvent] = []
            documents.listen(heard.extend)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    for number in range(20):
                        nursery.start_soon(documents.apply, [change(f"{number}", {})], [event(number)])
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
            await documents.apply([change("last", {})], [event(99)])
            stored = await documents.events(after=0)
            assert [(event.seq, event.data) for event in heard] == [(event.seq, event.data) for event in stored]
            assert [event.seq for event in heard] == list(range(1, len(heard) + 1))
            made = [document.name for document in await documents.list("item")]
            assert sorted(made) == sorted(["last", *(str(event.data["n"]) for event in heard[:-1])])

    run(main)


def test_a_full_disk_takes_no_new_documents_and_lets_go_of_old_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.store.reserve.Reserve.fill", lambda self: False)

    async def main() -> None:
        async with await SqliteJournal.open(path, reserve_bytes=1 << 40) as journal:  # more than there is
            assert journal.stats().full
            documents = journal.documents
            for new in (change("a", {}), change("a", {}, expected=0)):
                with pytest.raises(StorageFull):
                    await documents.apply([new], [event()])
            with pytest.raises(StorageFull):
                await documents.apply([], [event()], opens_work=True)
            await documents.apply([], [event()])
            await documents.apply([change("a", {}, expected=0)], opens_work=False)
            await documents.apply([change("a", {"done": True}, expected=1)])
            await documents.apply([change("a", expected=2)])
            assert await documents.list("item") == ()

    run(main)
