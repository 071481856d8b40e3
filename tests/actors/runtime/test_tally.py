"""Bounded counters."""

from __future__ import annotations

import threading

from skill_actors.runtime import Tally
from skill_actors.runtime.tally import MAX_CLASSES, OTHER_CLASSES


def test_it_counts_by_kind_and_class() -> None:
    tally = Tally()
    tally.add("ask_timeouts", "Session")
    tally.add("ask_timeouts", "Session")
    tally.add("threads_leaked", "Docker")
    assert tally.count("ask_timeouts", "Session") == 2
    assert tally.count("ask_timeouts", "Docker") == 0
    assert tally.snapshot() == {
        "mailbox_rejected": {},
        "mailbox_dropped": {},
        "ask_timeouts": {"Session": 2},
        "ask_abandoned": {},
        "threads_leaked": {"Docker": 1},
    }


def test_a_snapshot_is_a_copy() -> None:
    tally = Tally()
    tally.snapshot()["ask_timeouts"]["Session"] = 5
    assert tally.count("ask_timeouts", "Session") == 0


def test_classes_beyond_the_bound_share_one_name() -> None:
    tally = Tally()
    for number in range(MAX_CLASSES + 10):
        tally.add("mailbox_dropped", f"Made{number}")
    tally.add("mailbox_dropped", "Made0")
    assert len(tally.snapshot()["mailbox_dropped"]) == MAX_CLASSES + 1
    assert tally.count("mailbox_dropped", OTHER_CLASSES) == 10
    assert tally.count("mailbox_dropped", "Made0") == 2


def test_no_count_of_any_thread_is_lost() -> None:
    tally = Tally()

    def count() -> None:
        for _ in range(2000):
            tally.add("mailbox_rejected", "Session")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.count("mailbox_rejected", "Session") == 8000
