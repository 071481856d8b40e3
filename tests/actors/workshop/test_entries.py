"""The store of values: versions, owners apart, times to live, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from document_kit import ME, OTHER, open_documents
from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec
from skill_actors.store import SqliteJournal, StorageFull
from skill_actors.store.documents import Change, SqliteDocuments
from skill_actors.telemetry import Bus
from skill_actors.workshop.entries import MAX_TTL_S, MAX_VALUE_BYTES, Entries, check_key
from skill_actors.workshop.events import Feed
from skill_actors.workshop.sweeping import Sweeper
from supervisor_kit import tree
from support import run


@dataclass
class Kit:
    """`now` may be changed; the journal goes by it too."""

    documents: SqliteDocuments
    entries: Entries

    async def told(self) -> list[tuple[str, Any]]:
        """Names of the events, and the keys they are of."""
        found = await self.documents.events(after=0, topics=["store"])
        return [(event.name, event.data.get("key", event.data.get("keys"))) for event in found]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def text(self) -> str:
        return self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@asynccontextmanager
async def open_entries(path: Path, clock: Clock, room: tuple[int, int] = (1_000, 1 << 30)) -> AsyncIterator[Kit]:
    async with open_documents(path / "journal.db", clock.text) as documents:
        yield Kit(documents, Entries(documents, Feed(documents, Bus()), now=lambda: clock.now, room=lambda: room))


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def refused(code: str, call: Any) -> Refused:
    with pytest.raises(Refused) as error:
        await call
    assert error.value.code == code
    return error.value


@pytest.mark.parametrize("value", [None, 0, "", "text \0 \u2028", [], {"a": [1, {"b": None}]}, 1.5, True])
def test_a_value_is_there_as_it_was_put_also_after_a_restart(tmp_path: Path, clock: Clock, value: Any) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            put = await kit.entries.put(ME, "notes", "2026/Grüße 😀", value)
            assert (put.version, put.value, put.owner_uid, put.expires) == (1, value, ME, None)
        async with open_entries(tmp_path, clock) as kit:
            found = await kit.entries.get(ME, "notes", "2026/Grüße 😀")
            assert found == put
            assert found.to_dict()["value"] == value
            assert await kit.told() == [("put", "2026/Grüße 😀")]

    run(main)


def test_versions_tell_who_was_first(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            entries = kit.entries
            won: list[int] = []
            lost: list[tuple[str, dict[str, Any]]] = []

            async def add_one(number: int) -> None:
                try:
                    await entries.put(ME, "n", "k", number, expected=1)
                except Refused as error:
                    lost.append((error.code, error.details))
                    return
                won.append(number)

            await entries.put(ME, "n", "k", -1, expected=0)
            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(add_one, number)
            assert len(won) == 1
            assert lost == [("conflict", {"expected": 1, "found": 2})] * 29
            assert (await entries.get(ME, "n", "k")).value == won[0]
            error = await refused("conflict", entries.put(ME, "n", "k", 0, expected=0))
            assert "1000" not in error.message
            assert "n/k is at version 2" in error.message
            assert (await entries.put(ME, "n", "k", 0)).version == 3
            await refused("conflict", entries.delete(ME, "n", "k", expected=2))
            await entries.delete(ME, "n", "k", expected=3)
            await refused("not_found", entries.get(ME, "n", "k"))
            await refused("not_found", entries.delete(ME, "n", "k"))
            await refused("conflict", entries.put(ME, "n", "k", 0, expected=3))
            assert (await entries.put(ME, "n", "k", 0, expected=0)).version == 1
            assert [name for name, _ in await kit.told()] == ["put", "put", "put", "delete", "put"]

    run(main)


def test_a_counter_that_many_raise_by_compare_and_set_loses_none(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            await kit.entries.put(ME, "n", "count", 0)

            async def raise_it() -> None:
                for _ in range(10):
                    while True:
                        seen = await kit.entries.get(ME, "n", "count")
                        try:
                            await kit.entries.put(ME, "n", "count", seen.value + 1, expected=seen.version)
                        except Refused:
                            continue
                        break

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(raise_it)
            found = await kit.entries.get(ME, "n", "count")
            assert (found.value, found.version) == (80, 81)

    run(main)


def test_owners_and_namespaces_never_meet(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            entries = kit.entries
            for owner in (ME, OTHER, 1):
                for namespace in ("a", "a.b", "b"):
                    await entries.put(owner, namespace, "k", [owner, namespace])
            assert (await entries.get(OTHER, "a", "k")).value == [OTHER, "a"]
            await refused("not_found", entries.get(7, "a", "k"))
            await refused("not_found", entries.delete(7, "a", "k"))
            assert await entries.clear(OTHER, "a") == 1
            assert (await entries.get(ME, "a", "k")).value == [ME, "a"]
            page = await entries.keys(OTHER)
            assert [(entry.namespace, entry.key) for entry in page.items] == [("a.b", "k"), ("b", "k")]
            assert page.next is None
            assert "value" not in page.items[0].to_dict()
            assert (await entries.keys(7)).items == []

    run(main)


def test_keys_come_in_pages_and_by_prefix(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            names = ["a", "a/b", "ab", "b", "😀"]
            for name in names:
                await kit.entries.put(ME, "n", name, name)
            await kit.entries.put(ME, "m", "a", 1)
            found, after = [], ""
            while True:
                page = await kit.entries.keys(ME, "n", after=after, limit=2)
                found += [entry.key for entry in page.items]
                if page.next is None:
                    break
                after = page.next
            assert found == names
            assert [entry.key for entry in (await kit.entries.keys(ME, "n", prefix="a")).items] == ["a", "a/b", "ab"]
            assert [entry.key for entry in (await kit.entries.keys(ME, prefix="m/")).items] == ["a"]
            await refused("bad_request", kit.entries.keys(ME, "n", prefix="\0"))

    run(main)


def test_a_value_is_gone_when_its_time_is_over_and_swept_later(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            entries = kit.entries
            await entries.put(ME, "n", "short", 1, ttl_s=10)
            await entries.put(ME, "n", "long", 1, ttl_s=100)
            await entries.put(ME, "n", "ever", 1)
            assert (await entries.get(ME, "n", "short")).expires == "2026-01-01T00:00:10.000Z"
            clock.pass_s(10)
            await refused("not_found", entries.get(ME, "n", "short"))
            await refused("not_found", entries.delete(ME, "n", "short"))
            await refused("conflict", entries.put(ME, "n", "short", 2, expected=1))
            assert [entry.key for entry in (await entries.keys(ME, "n")).items] == ["ever", "long"]
            assert await entries.sweep() == 1
            assert await entries.sweep() == 0
            clock.pass_s(100)
            assert (await entries.put(ME, "n", "long", 2, expected=0)).version == 1  # before it was swept
            assert await entries.sweep() == 0
            assert (await entries.put(ME, "n", "long", 3, ttl_s=5)).version == 2
            assert (await entries.put(ME, "n", "long", 4)).expires is None
            assert [name for name, key in await kit.told() if key == "short"] == ["put", "expire"]
            assert await kit.documents.verify() == ()

    run(main)


def test_what_is_put_anew_while_it_is_swept_stays(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            for number in range(5):
                await kit.entries.put(ME, "n", f"{number}", 1, ttl_s=1)
            clock.pass_s(2)
            heads = await kit.documents.expired("entry", now=clock.text())
            ask = kit.documents.expired
            found = iter([heads])

            async def stale(kind: str, **options: Any) -> Any:
                if (first := next(found, None)) is not None:
                    await kit.entries.put(ME, "n", "3", "anew")
                    return first
                return await ask(kind, **options)

            kit.documents.expired = stale  # type: ignore[method-assign]
            assert await kit.entries.sweep() == 4
            assert (await kit.entries.get(ME, "n", "3")).value == "anew"
            assert [key for name, key in await kit.told() if name == "expire"] == ["0", "1", "2", "4"]

    run(main)


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), MAX_TTL_S * 2])
def test_a_time_to_live_is_one(tmp_path: Path, clock: Clock, ttl_s: float) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            await refused("bad_request", kit.entries.put(ME, "n", "k", 1, ttl_s=ttl_s))

    run(main)


@pytest.mark.parametrize(
    "key",
    [
        *("", "a\0b", "a\nb", "\x1b[2J", "\x7f", "\x85", "\ud800", "x" * 256, "ü" * 128),
        *(".", "..", "a/../b", "./a", "a\U0010ffff"),
    ],
)
def test_a_key_that_nobody_could_name_again_is_refused(tmp_path: Path, clock: Clock, key: str) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            await refused("bad_request", kit.entries.put(ME, "n", key, 1))
            await refused("bad_request", kit.entries.get(ME, "n", key))
            await refused("bad_request", kit.entries.delete(ME, "n", key))
            assert await kit.told() == []

    run(main)


@pytest.mark.parametrize("key", ["x" * 255, "ü" * 127, "...", "a/.b/c", "/", "a//b", " ", "%2e%2e", "a?b#c"])
def test_other_keys_are_taken_as_they_are(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("namespace", ["", "A", "a/b", "..", "ü", "a" * 65, "a b", "\0"])
def test_a_namespace_is_a_name(tmp_path: Path, clock: Clock, namespace: str) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            for call in (kit.entries.put(ME, namespace, "k", 1), kit.entries.get(ME, namespace, "k")):
                await refused("bad_request", call)
            await refused("bad_request", kit.entries.keys(ME, namespace))
            await refused("bad_request", kit.entries.clear(ME, namespace))

    run(main)


def test_a_value_may_have_a_megabyte_and_no_more(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            text = "x" * (MAX_VALUE_BYTES - 2)
            assert (await kit.entries.put(ME, "n", "k", text)).size_bytes == MAX_VALUE_BYTES
            assert (await kit.entries.get(ME, "n", "k")).value == text
            await refused("too_large", kit.entries.put(ME, "n", "k", text + "x"))
            for bad in (float("nan"), {1: 2}, {"x": b""}):
                await refused("bad_request", kit.entries.put(ME, "n", "k", bad))
            assert (await kit.entries.get(ME, "n", "k")).version == 1

    run(main)


def test_an_owner_has_room_for_so_much(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock, (2, 1_000)) as kit:
            await kit.entries.put(ME, "n", "a", 1)
            await kit.entries.put(ME, "m", "a", 1)
            assert "may have 2" in (await refused("too_large", kit.entries.put(ME, "n", "b", 1))).message
            await refused("too_large", kit.entries.put(ME, "n", "a", "x" * 1_000))
            await kit.entries.put(OTHER, "n", "b", 1)
            await kit.entries.delete(ME, "m", "a")
            await kit.entries.put(ME, "n", "b", 1)

    run(main)


def test_a_namespace_of_many_keys_is_cleared_whole(tmp_path: Path, clock: Clock) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            async with trio.open_nursery() as nursery:
                for number in range(450):
                    nursery.start_soon(kit.entries.put, ME, "n", f"{number}", number)
            await kit.entries.put(ME, "nn", "k", 1)
            assert await kit.entries.clear(ME, "n") == 450
            assert await kit.entries.clear(ME, "n") == 0
            assert [entry.namespace for entry in (await kit.entries.keys(ME)).items] == ["nn"]
            assert [keys for name, keys in await kit.told() if name == "clear"] == [200, 200, 50]

    run(main)


def test_a_full_disk_takes_no_value_and_lets_go_of_those_there_are(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with open_entries(tmp_path, clock) as kit:
            await kit.entries.put(ME, "n", "old", 1)
        monkeypatch.setattr("skill_actors.store.reserve.Reserve.fill", lambda self: False)
        async with await SqliteJournal.open(tmp_path / "journal.db", reserve_bytes=1 << 40) as journal:
            feed = Feed(journal.documents, Bus())
            entries = Entries(journal.documents, feed)
            await refused("storage_full", entries.put(ME, "n", "new", 1))
            await refused("storage_full", entries.put(ME, "n", "old", 2, expected=1))
            await refused("storage_full", feed.publish_custom(ME, "custom.x", "done", {}))
            assert (await entries.get(ME, "n", "old")).value == 1
            await entries.delete(ME, "n", "old")

    run(main)


@pytest.mark.deep
def test_a_hundred_thousand_keys_are_listed_bounded_and_cleared_while_others_are_served(
    tmp_path: Path, clock: Clock
) -> None:
    async def fill(kit: Kit) -> None:
        for part in range(100):
            changes = [
                Change(kind="entry", id=f"{ME}/many/{part:02}/{number:03}", owner_uid=ME, data={"value": 1}, expected=0)
                for number in range(1_000)
            ]
            await kit.documents.apply(changes)

    async def main() -> None:
        async with open_entries(tmp_path, clock, (100_000, 1 << 40)) as kit:
            await fill(kit)
            await kit.entries.put(OTHER, "n", "k", 1)
            await refused("too_large", kit.entries.put(ME, "many", "more", 1))
            keys, after = 0, ""
            while True:
                page = await kit.entries.keys(ME, "many", after=after)
                keys += len(page.items)
                if page.next is None:
                    break
                after = page.next
            assert keys == 100_000
            assert len((await kit.entries.keys(ME, "many", prefix="03/01")).items) == 10
            slowest_s, cleared = 0.0, trio.Event()

            async def others() -> None:
                nonlocal slowest_s
                while not cleared.is_set():
                    began = trio.current_time()
                    await kit.entries.put(OTHER, "n", "k", (await kit.entries.get(OTHER, "n", "k")).version)
                    slowest_s = max(slowest_s, trio.current_time() - began)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                assert await kit.entries.clear(ME, "many") == 100_000
                cleared.set()
            assert slowest_s < 5  # figure: 0.1
            await kit.entries.put(ME, "many", "more", 1)
            assert await kit.documents.verify() == ()

    run(main)


class _Flaky(Entries):
    """The first sweep finds no room on the disk; `swept` is set by the first that removes something."""

    def __init__(self, documents: SqliteDocuments) -> None:
        super().__init__(documents, Feed(documents, Bus()))
        self.rounds = 0
        self.swept = trio.Event()

    async def sweep(self) -> int:
        self.rounds += 1
        if self.rounds == 1:
            raise StorageFull("no room")
        removed = await super().sweep()
        if removed:
            self.swept.set()
        return removed


def test_the_sweeper_goes_on_after_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with open_documents(tmp_path / "journal.db") as documents:
            entries = _Flaky(documents)
            await entries.put(ME, "n", "k", 1, ttl_s=0.001)
            spec = ChildSpec(id="sweeper", factory=lambda: Sweeper(entries, every_s=0.01))
            async with tree(spec, log=[]):
                await entries.swept.wait()
            assert await documents.heads("entry") == ()
            assert entries.rounds >= 2
        assert "no room" in caplog.text

    run(main)
