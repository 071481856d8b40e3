"""Damage to documents and events: it is noticed, it costs nothing but what it hit, and a backup has them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from document_kit import ME, change, event, hurt, hurt_index, open_documents
from skill_actors.store import SqliteJournal
from skill_actors.store.copying import check_copy
from skill_actors.store.documents import DocumentDamaged
from skill_actors.store.documents.writes import line_of
from skill_actors.store.schema import SCHEMA_VERSION
from support import run


async def fill(path: Path) -> None:
    """Three documents, three events."""
    async with open_documents(path) as documents:
        for number, name in enumerate("abc"):
            await documents.apply([change(name, {"n": number})], [event(number)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "journal.db"
    run(fill, path)
    return path


def test_the_first_event_of_all_that_comes_while_the_line_is_read_is_no_damage(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_documents(tmp_path / "journal.db") as documents:
            await documents.apply([], [event()])
        with closing(apsw.Connection(str(tmp_path / "journal.db"))) as other:
            (line, *_) = other.execute("SELECT id, first_seq, last_seq, sum FROM workshop_line").fetchall()
            (first, *_) = other.execute("SELECT seq, time, owner_uid, topic, name, sum, data FROM workshop_event")
            other.execute("DELETE FROM workshop_line; DELETE FROM workshop_event")
            with closing(apsw.Connection(str(tmp_path / "journal.db"))) as reader:
                seen: list[str] = []

                def before(_cursor: apsw.Cursor, sql: str, _given: apsw.Bindings | None) -> bool:
                    seen.append(sql)
                    if len(seen) == 2:  # of a second statement
                        other.execute("INSERT INTO workshop_event VALUES (?, ?, ?, ?, ?, ?, ?)", first)
                        other.execute("INSERT INTO workshop_line VALUES (?, ?, ?, ?)", line)
                    return True

                reader.exec_trace = before
                assert line_of(reader) == (1, 0)

    run(main)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE document SET data = '{\"n\":7}' WHERE id LIKE '%/b'", f"item {ME}/b"),
        ("UPDATE document SET version = 9 WHERE id LIKE '%/b'", f"item {ME}/b"),
        ("UPDATE document SET owner_uid = 0 WHERE id LIKE '%/b'", f"item {ME}/b"),
        ("UPDATE document SET expires = '2020' WHERE id LIKE '%/b'", f"item {ME}/b"),
        ("UPDATE document SET id = '1000/d' WHERE id LIKE '%/b'", "item 1000/d"),
        ("DELETE FROM document WHERE id LIKE '%/b'", "2 documents of the kind item of uid 1000 are there, 3 were"),
        ("DELETE FROM document_count", "3 documents of the kind item of uid 1000 are there, 0 were"),
        ("UPDATE workshop_event SET name = 'f' WHERE seq = 2", "workshop event 2"),
        ("UPDATE workshop_event SET data = '{}' WHERE seq = 2", "workshop event 2"),
        ("DELETE FROM workshop_event WHERE seq = 2", "2 workshop events are there, and 1 to 3 were stored"),
        ("DELETE FROM workshop_event WHERE seq = 3", "2 workshop events are there, and 1 to 3 were stored"),
        ("DELETE FROM workshop_line", "number line"),
        ("UPDATE workshop_line SET last_seq = 2", "number line"),
    ],
)
def test_reading_all_of_it_finds_what_is_wrong(path: Path, sql: str, named: str) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            assert await documents.verify() == ()
        hurt(path, sql)
        async with open_documents(path) as documents:
            faults = await documents.verify()
            assert any(named in fault for fault in faults), faults

    run(main)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        (f"item{ME}/b".encode(), f"an index does not lead to item {ME}/b"),
        (b"custom.xe", "does not lead to workshop event"),
    ],
)
def test_what_an_index_has_lost_is_found_and_the_index_made_anew(path: Path, key: bytes, named: str) -> None:
    async def main() -> None:
        hurt_index(path, key)
        async with open_documents(path) as documents:
            if key.startswith(b"item"):
                assert await documents.get("item", f"{ME}/b") is None  # what the look at all of it is for
            faults = await documents.verify()
            assert any(named in fault for fault in faults), faults
            assert await documents.verify() == ()
            found = await documents.get("item", f"{ME}/b")
            assert found is not None
            assert found.data == {"n": 1}

    run(main)


def test_a_loss_is_told_once_and_numbers_are_never_given_out_again(path: Path) -> None:
    async def main() -> None:
        hurt(path, "DELETE FROM document WHERE id LIKE '%/b'; DELETE FROM workshop_line")
        async with open_documents(path) as documents:
            assert len(await documents.verify()) == 2
            assert await documents.verify() == ()
            assert [told.seq for told in (await documents.apply([], [event(4)])).events] == [4]

    run(main)


def test_a_number_line_that_cannot_be_believed_takes_no_event_until_it_is_made_anew(path: Path) -> None:
    async def main() -> None:
        hurt(path, "UPDATE workshop_line SET last_seq = 1")
        async with open_documents(path) as documents:
            with pytest.raises(DocumentDamaged, match="number line"):
                await documents.apply([change("d", {})], [event(4)])
            assert await documents.get("item", f"{ME}/d") is None
            await documents.verify()
            assert [told.seq for told in (await documents.apply([], [event(4)])).events] == [4]

    run(main)


@pytest.mark.parametrize("column", ["data = '{}'", "version = 7", "data = CAST(x'ff' AS TEXT)"])
def test_a_damaged_document_is_refused_costs_no_other_and_can_be_written_anew(
    path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        hurt(path, f"UPDATE document SET {column} WHERE id LIKE '%/b'")
        async with open_documents(path) as documents:
            with pytest.raises(DocumentDamaged):
                await documents.get("item", f"{ME}/b")
            assert [document.name for document in await documents.list("item")] == ["a", "c"]
            assert f"{ME}/b" in caplog.text
            await documents.apply([change("b", {"new": True})])
            found = await documents.get("item", f"{ME}/b")
            assert found is not None
            assert found.data == {"new": True}
            assert await documents.verify() == ()

    run(main)


def test_a_damaged_head_refuses_whoever_expects_a_version(path: Path) -> None:
    async def main() -> None:
        hurt(path, "UPDATE document SET version = 7 WHERE id LIKE '%/b'")
        async with open_documents(path) as documents:
            for expected in (0, 1, 7):
                with pytest.raises(DocumentDamaged):
                    await documents.apply([change("b", {}, expected=expected)])
            assert (await documents.apply([change("b")])).removed == 1
            assert await documents.verify() == ()

    run(main)


def test_a_damaged_event_is_left_out_and_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hurt(path, "UPDATE workshop_event SET data = '{}' WHERE seq <= 2")
        async with open_documents(path) as documents:
            for options in ({}, {"limit": 1}, {"newest": True}):
                found = await documents.events(after=0, **options)
                assert [told.seq for told in found] == [3]
            assert "workshop event 1" in caplog.text

    run(main)


def test_a_copy_has_them_and_its_damage_is_logged(path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        hurt(path, "UPDATE document SET data = '{}' WHERE id LIKE '%/b'")
        async with await SqliteJournal.open(path, reserve_bytes=0) as journal:
            await journal.copy_to(tmp_path / "copy.db")
        assert check_copy(tmp_path / "copy.db") == (SCHEMA_VERSION, [])
        assert f"item {ME}/b" in caplog.text
        async with open_documents(tmp_path / "copy.db") as documents:
            assert [document.name for document in await documents.list("item")] == ["a", "c"]
            assert await documents.last_event() == 3

    run(main)
