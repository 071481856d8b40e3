"""Names that stand in two places are the same in both."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill_actors.sessions import events as stored
from skilld.client import events as read

# The sixteen events that Conjure emits, and those that its tutorials only announce.
CONJURE = [
    "conversation.iteration",
    "conversation.tool_call",
    "conversation.anthropic.iteration",
    "backend.native.iteration",
    "backend.native.tool_call",
    "executor.init",
    "executor.cleanup",
    "executor.bash",
    "executor.view",
    "executor.create_file",
    "executor.str_replace",
    "storage.init",
    "storage.cleanup",
    "storage.write",
    "storage.read",
    "storage.delete",
    "skill.reloaded",
    "execute.start",
    "execute.stop",
    "execute.exception",
]


def test_the_client_knows_the_same_endings_as_the_daemon() -> None:
    """It has a list of its own, so that skillctl imports little."""
    assert frozenset(read.TURN_ENDINGS) == stored.TURN_ENDINGS


@pytest.mark.parametrize("name", CONJURE)
def test_every_name_of_conjure_has_its_place_in_the_table(name: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "telemetry.md"
    table = page.read_text(encoding="utf-8").partition("## Names of Conjure")[2]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    assert any(name in first.replace(",", " ").split() for first in firsts)
