"""The page for readers who come from Cylestio Monitor: nothing is left out, and what it names is there."""

from __future__ import annotations

import importlib
import re

import pytest

import skilld_monitor
from cylestio_kit import COMPAT, PAGE, code, found, rows
from doc_kit import ROOT, blocks
from monitor_kit import Collector
from skilld_monitor.aliases import _DEBUG, _RENAMED, REPLACED
from skilld_monitor.settings import _REPLACED, _VARIABLES

CONFIG_KEYS = {
    *("events_output_file", "log_file", "debug_mode", "debug_log_file", "debug_level", "telemetry_endpoint"),
    *("access_key", "development_mode", "enable_framework_patching", "safe_tool_patching", "api_endpoint"),
}
METHODS = {"initialize_trace", "start_span", "end_span", "get_current_context", "get_parent_span_id", "reset"}

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="reads the manual, and this is a copy of the tests")


def test_what_is_named_in_its_place_is_there() -> None:
    for _generation, _names, here in rows("Names"):
        for name in code(here):
            if re.fullmatch(r"skilld_monitor(\.\w+)+", name) and name != COMPAT:
                assert importlib.util.find_spec(name.rpartition(".")[0]) is not None
                try:
                    found(name)
                except AttributeError:
                    importlib.import_module(name)


def test_what_is_there_no_more_says_where_to_look() -> None:
    for module in (COMPAT, f"{COMPAT}.patchers"):
        with pytest.raises(AttributeError, match=r"docs/cylestio\.md"):
            _ = importlib.import_module(module).no_such


def test_the_trace_context_is_whole() -> None:
    assert all(callable(getattr(skilld_monitor.TraceContext, name)) for name in METHODS)


def test_every_key_and_variable_has_its_row() -> None:
    cells = [cell for cell, _here in rows("Settings")]
    keys = {name for cell in cells for name in code(cell) if name.islower()}
    assert keys == CONFIG_KEYS == {*REPLACED, *_RENAMED, *_DEBUG}
    variables = {name for cell in cells for name in code(cell) if name.isupper()}
    read = {name for names in _VARIABLES.values() for name in names if not name.startswith(("SKILLD_", "OTEL_"))}
    assert variables == {*_REPLACED, *read, "CYLESTIO_DEVELOPMENT_MODE"}
    for cell, here in rows("Settings"):
        does_nothing = all(name in REPLACED or name in _REPLACED for name in code(cell))
        assert does_nothing == here.startswith(("does nothing", "do nothing"))


def test_every_test_that_the_page_names_is_there() -> None:
    for row in rows("What went wrong there"):
        links = re.findall(r"\[([^\]]+)\]\(\.\./(tests/[\w/]+\.py)\)", row[-1])
        assert links, row
        for said, file in links:
            name = re.escape(said.replace(" ", "_"))
            assert re.search(rf"^def test_{name}\(", (ROOT / file).read_text(), re.MULTILINE), said


def test_the_program_of_the_page_runs(collector: Collector, capfd: pytest.CaptureFixture[str]) -> None:
    (block,) = (block for block in blocks("docs/cylestio.md") if block.kind == "python")
    exec(compile(block.text, "docs/cylestio.md", "exec"), {"__name__": "page"})
    skilld_monitor.disable_monitoring()
    names = [event["name"] for event in collector.events()]
    assert names == ["monitoring_enabled", "order_checked", "checks", "process_order", "monitoring_disabled"]
    assert capfd.readouterr() == ("", "")
