"""The page about monitoring says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skilld_monitor
from skilld_monitor.delivery import MAX_BATCH_BYTES
from skilld_monitor.records import MAX_RECORD_BYTES
from skilld_monitor.settings import _DEFAULTS, _VARIABLES, CONTENT_FIELDS
from skilld_monitor.values import MAX_DEPTH, MAX_ITEMS, MAX_TEXT_CHARS, MAX_VALUES

PAGE = Path(__file__).parents[3] / "docs/monitoring.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the manual is in the repository; this is a copy")


def test_every_setting_has_its_row_with_its_variables() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (`[A-Z].*?|in Python alone) \|", PAGE.read_text(), re.MULTILINE))
    assert rows.keys() == _DEFAULTS.keys()
    assert {name for name, variables in rows.items() if variables == "in Python alone"} == _DEFAULTS.keys() - _VARIABLES
    for name, variables in _VARIABLES.items():
        assert re.findall(r"`(\w+)`", rows[name]) == list(variables)


def test_every_public_function_is_named() -> None:
    text = PAGE.read_text()
    assert [name for name in skilld_monitor.__all__ if not re.search(rf"[`@ .]{name}\b", text)] == ["Report"]


def test_figures_are_those_of_the_program() -> None:
    text = PAGE.read_text()
    assert f"{MAX_TEXT_CHARS:,} characters, lists at {MAX_ITEMS} items, nesting at {MAX_DEPTH} levels" in text
    assert f"an event at {MAX_VALUES:,} values" in text
    assert MAX_RECORD_BYTES == 64 << 10
    assert MAX_BATCH_BYTES < 1 << 20, "the least that monitor.max_batch_bytes can be"
    assert all(f"`{field}`" in text for field in CONTENT_FIELDS)
    assert _DEFAULTS["max_spool_bytes"] == 32 << 20
