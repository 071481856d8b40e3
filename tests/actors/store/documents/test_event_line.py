"""Workshop events: one line of numbers without gaps, chosen by owner, topic and name, forgotten from its beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from document_kit import ME, OTHER, event, open_documents
from support import run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def test_numbers_go_on_after_a_restart_and_after_everything_was_forgotten(path: Path) -> None:
    now = "2026-01-01T00:00:00.000Z"

    async def main() -> None:
        nonlocal now
        async with open_documents(path, lambda: now) as documents:
            assert (await documents.first_event(), await documents.last_event()) == (1, 0)
            applied = await documents.apply([], [event(1), event(2)])
            assert [told.seq for told in applied.events] == [1, 2]
        async with open_documents(path, lambda: now) as documents:
            now = "2026-01-02T00:00:00.000Z"
            assert [told.seq for told in (await documents.apply([], [event(3)])).events] == [3]
            assert await documents.forget_events("2026-01-01T12:00:00.000Z") == 2
            assert (await documents.first_event(), await documents.last_event()) == (3, 3)
            assert await documents.forget_events("2027") == 1
            assert (await documents.first_event(), await documents.last_event()) == (4, 3)
            assert await documents.forget_events("2027") == 0
            assert await documents.verify() == ()
        async with open_documents(path, lambda: now) as documents:
            assert [told.seq for told in (await documents.apply([], [event(4)])).events] == [4]
            assert [(told.seq, told.time, told.data) for told in await documents.events(after=0)] == [
                (4, now, {"n": 4})
            ]
            assert await documents.verify() == ()

    run(main)


def test_a_clock_that_was_set_back_makes_no_hole(path: Path) -> None:
    times = ["2026-01-03", "2026-01-01", "2026-01-04"]

    async def main() -> None:
        clock = iter([times[0], *times])  # the first is for opening
        async with open_documents(path, lambda: next(clock, "2026-02-01")) as documents:
            for number in range(3):
                await documents.apply([], [event(number)])
            assert await documents.forget_events("2026-01-02") == 0
            assert await documents.forget_events("2026-01-03T12") == 2
            assert [told.seq for told in await documents.events(after=0)] == [3]
            assert await documents.verify() == ()

    run(main)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"owner_uid": ME}, [1, 3, 4, 5, 6]),
        ({"owner_uid": 7}, []),
        ({"topics": ["agent"]}, [1, 2]),
        ({"topics": ["agent", "work"]}, [1, 2, 3]),
        ({"topics": ["custom.*"]}, [4, 5, 6]),
        ({"topics": ["custom.build.*"]}, [5]),
        ({"topics": ["custom.build"]}, [4]),
        ({"topics": ["work", "custom.build.*"], "owner_uid": ME}, [3, 5]),
        ({"names": ["error"]}, [2, 3]),
        ({"names": ["error"], "topics": ["work"]}, [3]),
        ({"topics": ["' OR 1=1 --"]}, []),
        ({"limit": 2}, [1, 2]),
        ({"limit": 2, "newest": True}, [5, 6]),
        ({"limit": 1, "newest": True, "topics": ["agent"]}, [2]),
        ({"after": 4}, [5, 6]),
        ({"after": 6}, []),
        ({"after": 4, "limit": 9, "newest": True}, [5, 6]),
    ],
    ids=str,
)
def test_events_are_chosen(path: Path, choice: dict[str, Any], expected: list[int]) -> None:
    async def main() -> None:
        async with open_documents(path) as documents:
            await documents.apply(
                [],
                [
                    event(topic="agent", name="created"),
                    event(topic="agent", name="error", owner=OTHER),
                    event(topic="work", name="error"),
                    event(topic="custom.build"),
                    event(topic="custom.build.linux"),
                    event(topic="custom.builder"),
                ],
            )
            found = await documents.events(**({"after": 0} | choice))
            assert [told.seq for told in found] == expected

    run(main)


def test_many_events_are_forgotten_some_at_a_time_and_no_later_one_with_them(path: Path) -> None:
    now = "2026-01-01"

    async def main() -> None:
        nonlocal now
        async with open_documents(path, lambda: now) as documents:
            for _ in range(2):
                await documents.apply([], [event(number) for number in range(700)])
            now = "2026-01-02"
            await documents.apply([], [event(1)])
            assert await documents.forget_events("2026-01-02") == 1_400
            assert [told.seq for told in await documents.events(after=0)] == [1_401]
            assert await documents.verify() == ()

    run(main)
