"""Exit statuses stand in three places, since lower layers do not import the daemon; they mean the same."""

from __future__ import annotations

import re
from pathlib import Path

from skill_actors import runtime
from skill_actors.store import commit
from skilld import exits

DOCS = Path(__file__).parents[2] / "docs/install.md"


def test_the_layers_below_end_a_process_with_the_same_statuses() -> None:
    assert exits.EXIT_FAILED == runtime.EXIT_FAILED
    assert exits.EXIT_IO == commit.EXIT_MEDIA


def test_every_status_is_in_the_manual() -> None:
    listed = {int(status) for status in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE)}
    assert listed == {0, *(getattr(exits, name) for name in exits.__all__)}
