"""The page for readers who come from Cylestio Monitor: nothing is left out, and what it names is there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import pytest

import skilld_monitor
import skilld_monitor.compat
from doc_kit import ROOT, blocks
from monitor_kit import Collector
from skilld_monitor.aliases import _DEBUG, _RENAMED, REPLACED
from skilld_monitor.settings import _REPLACED, _VARIABLES

PAGE = ROOT / "docs/cylestio.md"
COMPAT = "skilld_monitor.compat"

# What the two generations have in public, as their manuals and their modules name it.
GENERATION_A = {
    *("enable_monitoring", "disable_monitoring", "log_event", "get_database_path", "cleanup_old_events"),
    *("log_to_file_and_db", "SecurityException"),
    *(f"events_listener.{name}" for name in ("monitor_call", "monitor_llm_call", "EventsListener")),
    *(
        f"events_processor.{name}"
        for name in (
            *("log_event", "get_event_history", "normalize_text", "contains_suspicious", "contains_dangerous"),
            *("pre_monitor_llm", "post_monitor_llm", "pre_monitor_call", "post_monitor_call"),
            *("pre_monitor_mcp_tool", "post_monitor_mcp_tool"),
        )
    ),
    *(
        f"db.utils.{name}"
        for name in (
            *("log_to_db", "get_recent_events", "get_events_by_type", "get_events_by_channel", "get_events_by_level"),
            *("get_events_by_timeframe", "get_events_last_hours", "get_events_last_days", "search_events"),
            *("get_agent_stats", "get_event_type_distribution", "get_channel_distribution", "get_level_distribution"),
            *("cleanup_old_events", "optimize_database", "get_db_path"),
        )
    ),
    "db.db_manager.DBManager",
    *("patchers.AnthropicPatcher", "patchers.MCPPatcher"),
}
GENERATION_B = {
    *("start_monitoring", "stop_monitoring", "log_error", "log_info", "log_warning", "get_api_endpoint"),
    *(f"utils.event_logging.{name}" for name in ("log_event", "log_error", "log_info", "log_warning")),
    "utils.trace_context.TraceContext",
    *(f"utils.instrumentation.{name}" for name in ("Span", "instrument_function", "instrument_method")),
    *(
        f"utils.event_context.{name}"
        for name in (
            *("set_context", "get_context", "set_global_context", "set_session_id", "get_session_id"),
            *("clear_context", "ContextManager"),
        )
    ),
    *(
        f"utils.event_utils.{name}"
        for name in (
            *("get_utc_timestamp", "format_timestamp", "parse_timestamp", "validate_iso8601", "create_event_dict"),
        )
    ),
    *(
        f"utils.schema.{name}"
        for name in (
            *("validate_event_schema", "migrate_event_to_current_version", "get_schema_version"),
            *("CURRENT_SCHEMA_VERSION", "get_schema_guidelines"),
        )
    ),
    *(
        f"events.factories.create_{name}_event"
        for name in (
            *("llm_request", "llm_response", "tool_call", "tool_result", "system", "agent_startup"),
            *("agent_shutdown", "error"),
        )
    ),
    *("events.converters.EventConverterFactory", "events.standardized_event.StandardizedEvent"),
    *(
        f"api_client.{name}"
        for name in (
            *("ApiClient", "get_api_client", "send_event_to_api", "send_event_to_api_legacy"),
            "stop_background_thread",
        )
    ),
    *(f"config.{name}" for name in ("ConfigManager", "get_config_dir", "get_config_path", "get_data_dir")),
    *("security_detection.SecurityScanner", "security_detection.PatternRegistry"),
    *("patchers.ToolMonitorCallbackHandler", "patchers.get_callback_handler"),
    *(
        f"patchers.{verb}_{name}"
        for verb in ("patch", "unpatch")
        for name in (
            *("anthropic_module", "openai_module", "langchain", "langgraph", "mcp", "tool_decorator"),
            "decorated_tools",
        )
    ),
    *("exceptions.ApiError", "exceptions.MonitoringError"),
}
CONFIG_KEYS = {
    *("events_output_file", "log_file", "debug_mode", "debug_log_file", "debug_level", "telemetry_endpoint"),
    *("access_key", "development_mode", "enable_framework_patching", "safe_tool_patching", "api_endpoint"),
}
METHODS = {"initialize_trace", "start_span", "end_span", "get_current_context", "get_parent_span_id", "reset"}

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="reads the manual, and this is a copy of the tests")


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads."""
    text = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ") and not re.search(r"\| here \|$", line)]
    assert lines, heading
    return [re.split(r" \| ", line.strip("| ")) for line in lines]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def found(path: str) -> Any:
    """What there is at a dotted path, modules being loaded on the way; AttributeError if there is nothing."""
    module, _dot, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise AttributeError(path) from error


def table() -> dict[str, tuple[str, str]]:
    """By name there, its generation and what stands in the column of ours."""
    return {
        name: (generation, here) for generation, names, here in rows("Names") if PAGE.is_file() for name in code(names)
    }


def test_no_name_of_either_generation_is_without_a_row_and_none_has_two() -> None:
    named = [name for _generation, names, _here in rows("Names") for name in code(names)]
    assert len(named) == len(set(named))
    by_generation = {"A": set[str](), "B": set[str]()}
    for name, (generation, _here) in table().items():
        by_generation[generation].add(name)
    assert by_generation == {"A": GENERATION_A, "B": GENERATION_B}


@pytest.mark.parametrize("name", sorted(GENERATION_A | GENERATION_B))
def test_a_name_is_where_the_page_says_or_has_another_way(name: str) -> None:
    _generation, here = table()[name]
    if here.startswith("replaced by "):
        with pytest.raises(AttributeError):
            found(f"{COMPAT}.{name}")
        return
    assert here.startswith("same")
    assert found(f"{COMPAT}.{name}") is not None


def test_what_is_named_in_its_place_is_there() -> None:
    for _generation, _names, here in rows("Names"):
        for name in code(here):
            if re.fullmatch(r"skilld_monitor(\.\w+)+", name) and name != COMPAT:
                assert importlib.util.find_spec(name.rpartition(".")[0]) is not None
                try:
                    found(name)
                except AttributeError:
                    importlib.import_module(name)


def test_nothing_of_the_package_is_missing_from_the_page() -> None:
    package = skilld_monitor.compat
    modules = [COMPAT, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{COMPAT}."))]
    names = {
        f"{module}.{name}".removeprefix(f"{COMPAT}.")
        for module in modules
        for name in importlib.import_module(module).__all__
        if f"{module}.{name}" not in modules
    }
    own = {"security_detection.alert_of", "events_processor.log_to_file_and_db"}
    assert names - own <= GENERATION_A | GENERATION_B


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
