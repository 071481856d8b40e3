"""When a conversation is made shorter, and by whom."""

from __future__ import annotations

import pytest

from skill_actors.models.facts import ModelFacts
from skill_actors.sessions.compaction import (
    CompactionMode,
    CompactionSettings,
    compact_at_tokens,
    compacts_there,
    compacts_when_full,
    needs_compaction,
)

PLAIN = ModelFacts(context_tokens=100_000)
OFFERED = ModelFacts(context_tokens=100_000, compaction=True)


@pytest.mark.parametrize(
    ("facts", "mode", "ours", "theirs"),
    [
        (PLAIN, "auto", True, False),
        (OFFERED, "auto", False, True),
        (PLAIN, "server", False, False),
        (OFFERED, "server", False, True),
        (OFFERED, "own", True, False),
        (OFFERED, "off", False, False),
        (PLAIN, "off", False, False),
    ],
)
def test_who_does_it(facts: ModelFacts, mode: CompactionMode, ours: bool, theirs: bool) -> None:
    settings = CompactionSettings(mode=mode)
    assert needs_compaction(80_000, facts, settings) is ours
    assert compacts_there(facts, settings) is theirs


@pytest.mark.parametrize(("used", "due"), [(0, False), (49_999, False), (50_000, True), (200_000, True)])
def test_it_is_due_from_the_share_of_the_window_on(used: int, due: bool) -> None:
    settings = CompactionSettings(compact_at=0.5)
    assert compact_at_tokens(PLAIN, settings) == 50_000
    assert needs_compaction(used, PLAIN, settings) is due


def test_a_share_of_nothing_is_never() -> None:
    settings = CompactionSettings(compact_at=0.0)
    assert compact_at_tokens(OFFERED, settings) is None
    assert not needs_compaction(10**9, PLAIN, settings)
    assert not compacts_there(OFFERED, settings)


@pytest.mark.parametrize(("mode", "does"), [("auto", True), ("own", True), ("server", False), ("off", False)])
def test_a_full_window_is_ours_to_empty_unless_the_operator_says_otherwise(mode: CompactionMode, does: bool) -> None:
    assert compacts_when_full(CompactionSettings(mode=mode, compact_at=0.0)) is does
