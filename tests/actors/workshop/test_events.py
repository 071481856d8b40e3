"""The feed: what happened and what happens, to each who may see it, whole and in order, and never in anybody's way."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from document_kit import ME, OTHER, change, event, open_documents
from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skill_actors.store.documents import NewEvent, SqliteDocuments
from skill_actors.telemetry import Bus
from skill_actors.workshop.event_names import EVENT_NAMES
from skill_actors.workshop.events import FORGOTTEN, Choice, Feed, Follower
from support import run

MINE, ADMIN = Viewer(ME), Viewer(0, admin=True)
SOURCES = Path(__file__).parents[3] / "actors/skill_actors/workshop"


@asynccontextmanager
async def open_feed(path: Path, **options: Any) -> AsyncIterator[tuple[Feed, SqliteDocuments]]:
    async with open_documents(path / "journal.db", **options) as documents:
        yield Feed(documents, Bus()), documents


async def take(follower: Follower, count: int) -> list[int]:
    """The numbers of the next so many."""
    with trio.fail_after(25):
        return [(await anext(follower)).seq for _ in range(count)]


async def rest(follower: Follower) -> list[int]:
    return [event.seq async for event in follower]


def test_a_follower_gets_what_was_and_then_what_comes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            await feed.apply([change("a", {})], [event(1), event(2)])
            with feed.follow(MINE) as follower:
                assert await take(follower, 2) == [1, 2]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(feed.apply, [], [event(3)])
                    assert await take(follower, 1) == [3]
            with feed.follow(MINE, after=1, live=False) as stored:
                assert await rest(stored) == [2, 3]
            with feed.follow(MINE, limit=2) as some:
                assert await rest(some) == [1, 2]

    run(main)


@pytest.mark.parametrize(("newest", "expected"), [(0, []), (1, [4]), (3, [1, 3, 4]), (9, [1, 3, 4])])
def test_one_can_begin_with_the_last(tmp_path: Path, newest: int, expected: list[int]) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            await feed.apply([], [event(1), event(2, owner=OTHER), event(3), event(4)])
            with feed.follow(MINE, newest=newest, live=False) as follower:
                assert await rest(follower) == expected
            with feed.follow(MINE, newest=0) as live:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take, live, 1)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    await feed.apply([], [event(5)])

    run(main)


def test_others_events_are_invisible_and_an_admin_sees_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            await feed.apply([], [event(1), event(2, owner=OTHER), event(3)])
            for viewer, expected in ((MINE, [1, 3]), (Viewer(OTHER), [2]), (Viewer(7), []), (ADMIN, [1, 2, 3])):
                with feed.follow(viewer, live=False) as follower:
                    assert await rest(follower) == expected

    run(main)


def test_events_that_are_not_of_the_choice_wake_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, documents):
            reads = 0
            ask = documents.events

            async def counted(**options: Any) -> Any:
                nonlocal reads
                reads += 1
                return await ask(**options)

            documents.events = counted  # type: ignore[method-assign]
            with feed.follow(MINE, Choice.parse(["work"])) as follower:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take, follower, 1)
                    for number in range(50):
                        await feed.apply([], [event(number), event(number, owner=OTHER, topic="work", name="added")])
                    before = reads
                    await feed.apply([], [event(topic="work", name="added")])
                assert before <= 2

    run(main)


def test_a_slow_follower_holds_nobody_up_holds_one_page_and_misses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            with feed.follow(MINE) as slow, feed.follow(MINE) as quick:
                assert slow.buffered == 0
                await feed.apply([], [event(0)])
                assert await take(slow, 1) == [1]
                for start in range(1, 1_001, 100):
                    await feed.apply([], [event(number) for number in range(start, start + 100)])
                assert await take(quick, 1_001) == list(range(1, 1_002))
                assert await take(slow, 1) == [2]
                assert slow.buffered < 100
                assert await take(slow, 999) == list(range(3, 1_002))

    run(main)


def test_many_who_tell_and_many_who_listen(tmp_path: Path) -> None:
    """20 writers of 20 transactions, 10 followers that begin at any time: each sees every event once and in order."""

    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            seen: list[list[int]] = []

            async def tell() -> None:
                for number in range(20):
                    await feed.apply([], [event(number)])

            async def listen(begin: trio.Event) -> None:
                await begin.wait()
                with feed.follow(MINE) as follower:
                    seen.append(await take(follower, 400))

            async with trio.open_nursery() as nursery:
                begins = [trio.Event() for _ in range(10)]
                for begin in begins:
                    nursery.start_soon(listen, begin)
                for _ in range(20):
                    nursery.start_soon(tell)
                for begin in begins:
                    begin.set()
                    await trio.sleep(0.005)
            assert seen == [list(range(1, 401))] * 10

    run(main)


def test_who_comes_back_too_late_is_told_what_is_forgotten(tmp_path: Path) -> None:
    now = "2026-01-01"

    async def main() -> None:
        nonlocal now
        async with open_feed(tmp_path, clock=lambda: now) as (feed, _):
            await feed.apply([], [event(number) for number in range(5)])
            now = "2026-01-02"
            await feed.apply([], [event(6)])
            with feed.follow(MINE) as slow, feed.follow(MINE) as current:
                assert await take(slow, 1) == [1]
                assert await take(current, 6) == [1, 2, 3, 4, 5, 6]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take, current, 1)
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    assert await feed.forget("2026-01-02") == 5
                    await feed.apply([], [event(7)])
            for after, types in ((0, ["custom.x.e"] * 2), (2, [FORGOTTEN, "custom.x.e", "custom.x.e"]), (5, 2), (6, 1)):
                with feed.follow(MINE, after=after, live=False) as late:
                    found = [event.type async for event in late]
                assert found == (types if isinstance(types, list) else ["custom.x.e"] * types)
            with feed.follow(MINE, after=2, live=False) as late:
                gone = await anext(late)
                assert (gone.seq, gone.data, gone.owner_uid) == (5, {"after": 2, "through": 5}, ME)
                assert await rest(late) == [6, 7]

    run(main)


def test_a_follower_that_fell_behind_what_is_forgotten_is_told_so(tmp_path: Path) -> None:
    now = "2026-01-01"

    async def main() -> None:
        nonlocal now
        async with open_feed(tmp_path, clock=lambda: now) as (feed, _):
            await feed.apply([], [event(number) for number in range(300)])
            now = "2026-01-02"
            await feed.apply([], [event(301)])
            with feed.follow(MINE, live=False) as slow:
                assert await take(slow, 1) == [1]
                await feed.forget("2026-01-02")
                found = [(event.seq, event.type) async for event in slow]
                assert [seq for seq, _ in found] == [*range(2, 101), 300, 301]
                assert found[99] == (300, FORGOTTEN)

    run(main)


def test_an_event_on_the_wire(tmp_path: Path) -> None:
    session, turn = "ses_" + "a" * 26, "trn_" + "b" * 26

    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            data = {"agent": "coder", "session": session, "turn": turn, "text": "\ud800"}
            told = NewEvent(owner_uid=ME, topic="agent", name="error", data=data)
            await feed.apply([], [told, event(session=session[:-1], turn=7)])
            with feed.follow(MINE, live=False) as follower:
                one, other = [event async for event in follower]
            assert one.to_dict() == {
                "seq": 1, "type": "agent.error", "time": one.time, "session": session, "turn": turn, "owner_uid": ME,
                "data": data,
            }  # fmt: skip
            assert one.to_json().encode()
            assert (other.session, other.turn, str(other.position)) == ("", None, "2")

    run(main)


def test_the_bus_hears_of_everything_once_without_what_it_says(tmp_path: Path) -> None:
    async def main() -> None:
        heard = []
        async with open_documents(tmp_path / "journal.db") as documents:
            bus = Bus()
            bus.attach("test", ["workshop.*"], lambda name, numbers, facts: heard.append((name, numbers, facts)))
            feed = Feed(documents, bus)
            await feed.apply([], [event(topic="agent", name="ask_complete", duration_ms=1500, cost_usd=0.25, text="x")])
            await documents.apply([], [event(topic="work", name="added"), event(topic="custom.secret", name="word")])
            await documents.apply([], [event(topic="work", name="added", duration_ms=True, cost_usd="much")])
        assert heard == [
            ("workshop.agent.ask_complete", {"duration": 1.5, "cost_usd": 0.25}, {}),
            ("workshop.work.added", {}, {}),
            ("workshop.custom", {}, {}),
            ("workshop.work.added", {}, {}),
        ]

    run(main)


@pytest.mark.parametrize("topic", ["agent", "custom", "custom.", "custom..x", "custom.A", "custom.x.", "Custom.x", ""])
def test_users_publish_under_custom_alone(tmp_path: Path, topic: str) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, documents):
            with pytest.raises(Refused) as refused:
                await feed.publish_custom(ME, topic, "done", {})
            assert refused.value.code == "bad_request"
            assert await documents.last_event() == 0

    run(main)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("done", {}, None),
        ("done", {"x": "y" * 65_000}, None),
        ("done", {"x": "y" * 70_000}, "too_large"),
        ("do.ne", {}, "bad_request"),
        ("1", {}, "bad_request"),
        ("", {}, "bad_request"),
        ("Fertig", {}, "bad_request"),
        ("a\nb", {}, "bad_request"),
    ],
)
def test_what_users_publish_is_checked(tmp_path: Path, name: str, data: dict[str, str], code: str | None) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            if code is None:
                assert (await feed.publish_custom(ME, "custom.a_b.c-d", name, data)).type == "custom.a_b.c-d.done"
                return
            with pytest.raises(Refused) as refused:
                await feed.publish_custom(ME, "custom.a", name, data)
            assert refused.value.code == code

    run(main)


def test_an_event_that_the_list_does_not_have_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_feed(tmp_path) as (feed, _):
            with pytest.raises(ValueError, match=r"agent\.exploded"):
                await feed.apply([], [event(topic="agent", name="exploded")])

    run(main)


@pytest.mark.parametrize(
    ("topics", "names", "words"),
    [
        (["agnet"], [], "did you mean 'agent'"),
        (["custom.*"], [], None),
        (["custom.x.*", "work", "all", "custom"], ["failed", "x"], None),
        (["custom*"], [], "did you mean 'custom'"),
        (["*"], [], "known are"),
        ([""], [], "known are"),
        (["custom.x\0"], [], "topic"),
        (["custom." + "x" * 200], [], "topic"),
        (["work"], ["complete"], "did you mean 'completed'"),
        (["work"], ["failed"], None),
        ([], ["anything"], None),
        (["work"] * 51, [], "at most 50"),
    ],
)
def test_a_choice_of_what_never_happens_is_refused(topics: list[str], names: list[str], words: str | None) -> None:
    if words is None:
        Choice.parse(topics, names)
        return
    with pytest.raises(Refused, match=re.escape(words)):
        Choice.parse(topics, names)


@pytest.mark.parametrize("topic", EVENT_NAMES)
def test_every_event_that_the_list_has_is_told_by_a_module_of_its_topic(topic: str) -> None:
    """Nothing is documented that never happens: who takes a name out of the code takes it out of the list."""
    texts = {path: path.read_text("utf-8") for path in SOURCES.rglob("*.py") if path.name != "event_names.py"}
    places = {path.parent for path, text in texts.items() if f'"{topic}"' in text}
    told = "".join(text for path, text in texts.items() if path.parent in places)
    assert [name for name in EVENT_NAMES[topic] if f'"{name}"' not in told] == []


@pytest.mark.parametrize("module", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.stem)
def test_modules_tell_only_of_what_the_list_has(module: Path) -> None:
    """Whoever applies events past the feed is held to the list here."""
    text = module.read_text(encoding="utf-8")
    for topic, name in re.findall(r'NewEvent\([^)]*?topic="(\w+)",\s*name="(\w+)"', text):
        assert name in EVENT_NAMES.get(topic, {}), f"{topic}.{name}"
    for topic in re.findall(r'topic="(\w+)"', text):
        assert topic in EVENT_NAMES, topic
