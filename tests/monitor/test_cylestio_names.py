"""The names of both generations of Cylestio Monitor: each is where it was there and does the same, or has its row."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

import skilld_monitor
import skilld_monitor.compat
from cylestio_kit import COMPAT, IN_MANUALS, KEPT, PAGE, PUBLIC, TABLE, TAKES, cell_of, code, found, rows

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="reads the manual, and this is a copy of the tests")


def test_no_name_of_either_generation_is_without_a_row_and_none_has_two() -> None:
    named = [name for _generation, names, _here in rows("Names") for name in code(names)]
    assert len(named) == len(set(named))
    cells = {name: cell_of(name) for _generation, name in PUBLIC}
    assert [name for name, cell in cells.items() if cell is None] == []
    generations: dict[str | None, set[str]] = {}
    for generation, name in PUBLIC:
        generations.setdefault(cells[name], set()).add(generation)
    assert generations == {cell: where for cell, (where, _here) in TABLE.items()}


@pytest.mark.parametrize("name", sorted({name for _generation, name in PUBLIC}))
def test_a_name_is_where_the_page_says_or_has_another_way(name: str) -> None:
    cell = cell_of(name)
    assert cell is not None
    if TABLE[cell][1].startswith("replaced "):
        with pytest.raises(AttributeError):
            found(f"{COMPAT}.{name}")
        return
    assert TABLE[cell][1].startswith("same")
    assert found(f"{COMPAT}.{name}") is not None
    here: Any = skilld_monitor.compat
    for part in name.split("."):  # also where only the package has been imported
        here = getattr(here, part)


@pytest.mark.parametrize(("generation", "name"), KEPT)
def test_what_is_kept_takes_what_it_took_there(generation: str, name: str) -> None:
    ours = found(f"{COMPAT}.{name}")
    if not callable(ours) or (generation, name) in IN_MANUALS:
        return
    parameters = inspect.signature(ours).parameters
    if next(iter(parameters), None) == "self":  # of a class's method
        ours = functools.partial(ours, None)
    given = [word for word in TAKES[generation, name] if "*" not in word]
    if generation == "B" and name.endswith("log_event"):  # the fourth argument is a level in generation A's form
        inspect.signature(ours).bind(**{word: word for word in given})
    elif inspect.isclass(ours) and ours.__init__ is object.__init__:
        assert given == []
    else:
        assert inspect.signature(ours).bind(*given).arguments == {word: word for word in given}
    if any(word.startswith("**") for word in TAKES[generation, name]):
        assert any(each.kind is each.VAR_KEYWORD for each in parameters.values())


EVENT = {"schema_version": "1.0", "timestamp": "2026-01-02T03:04:05Z", "name": "x", "level": "INFO"}
SECRET = "the key is AKIAIOSFODNN7EXAMPLE"

# By the last part of its name, how what is kept is called, and the kind of what it gives, there as here.
CALLS: dict[str, tuple[Callable[[Any], object], type | tuple[type, ...]]] = {
    "create_llm_response_event": (lambda call: call("a", "p", "m", "x"), dict),
    "create_tool_call_event": (lambda call: call("a", "t", {}), dict),
    "create_tool_result_event": (lambda call: call("a", "t", {}, "x"), dict),
    "create_system_event": (lambda call: call("a", "x", {}), dict),
    "create_agent_startup_event": (lambda call: call("a", "1", {}), dict),
    "create_agent_shutdown_event": (lambda call: call("a", "done", {}), dict),
    "create_llm_request_event": (lambda call: call("a", "p", "m", "x", None, None, "1" * 32, {"n": 1}), dict),
    "create_error_event": (lambda call: call("a", "KeyError", "no", "a stack"), dict),
    "create_event_dict": (lambda call: call("x", {"n": 1}), dict),
    "ApiClient": (lambda call: call("http://x", "POST"), object),
    "send_event": (lambda call: call(EVENT), bool),
    "get_api_client": (lambda call: call(), object),
    "send_event_to_api": (lambda call: call(EVENT), bool),
    "send_event_to_api_legacy": (lambda call: call("a", "x", {}), bool),
    "stop_background_thread": (lambda call: call(), type(None)),
    "ContextManager": (lambda call: call(n=1), object),
    "clear_context": (lambda call: call(), type(None)),
    "enrich_event_with_context": (lambda call: call({}), dict),
    "get_context": (lambda call: call(), dict),
    "get_session_id": (lambda call: call(), str),
    "initialize_context": (lambda call: call(), type(None)),
    "set_context": (lambda call: call("n", 1), type(None)),
    "set_global_context": (lambda call: call("n", 1), type(None)),
    "set_session_id": (lambda call: call("s"), type(None)),
    "get_utc_timestamp": (lambda call: call(), datetime),
    "format_timestamp": (lambda call: call(), str),
    "parse_timestamp": (lambda call: call("2026-01-02T03:04:05Z"), datetime),
    "validate_iso8601": (lambda call: call("2026-01-02T03:04:05Z"), bool),
    "validate_event_schema": (lambda call: call({}), bool),
    "validate_schema_version": (lambda call: call("1.0"), bool),
    "migrate_event_to_current_version": (lambda call: call({}), dict),
    "get_current_schema_version": (lambda call: call(), str),
    "get_schema_evolution_history": (lambda call: call(), dict),
    "generate_trace_id": (lambda call: call(), str),
    "generate_span_id": (lambda call: call(), str),
    "generate_trace_context": (lambda call: call("1" * 16), dict),
    "TraceContext": (lambda call: call(), object),
    "initialize_trace": (lambda call: call("a"), str),
    "start_span": (lambda call: call("x"), dict),
    "end_span": (lambda call: call(), (str, type(None))),
    "get_current_context": (lambda call: call(), dict),
    "get_parent_span_id": (lambda call: call("1" * 16), (str, type(None))),
    "reset": (lambda call: call(), type(None)),
    "Span": (lambda call: call("x", {"n": 1}).__enter__(), dict),
    "instrument_function": (lambda call: call(len)([]), int),
    "instrument_method": (lambda call: call("x")(len)([]), int),
    "monitor_call": (lambda call: call(len, "X")([]), int),
    "monitor_llm_call": (lambda call: call(len)([]), int),
    "log_event": (lambda call: call("x", {"n": 1}), dict),
    "log_error": (lambda call: call("x", KeyError("no"), {"n": 1}, "1" * 32), dict),
    "log_info": (lambda call: call("x", {"n": 1}), dict),
    "log_warning": (lambda call: call("x", {"n": 1}), dict),
    "log_to_db": (lambda call: call("a", "x", {"n": 1}), type(None)),
    "log_to_file_and_db": (lambda call: call("x", {"n": 1}), type(None)),
    "enable_monitoring": (lambda call: call("a"), object),
    "disable_monitoring": (lambda call: call(), object),
    "start_monitoring": (lambda call: call("a", {}), object),
    "stop_monitoring": (lambda call: call(), object),
    "normalize_text": (lambda call: call("x"), str),
    "contains_suspicious": (lambda call: call("x"), bool),
    "contains_dangerous": (lambda call: call("x"), bool),
    "get_alert_level": (lambda call: call("x"), str),
    "mask_sensitive_data": (lambda call: call({"said": [SECRET]}), dict),
    "check_security_concerns": (lambda call: call({"said": [SECRET]}), str),
    "SecurityScanner": (lambda call: call(None), object),
    "PatternRegistry": (lambda call: call(None), object),
    "get_instance": (lambda call: call(None), object),
    "reload_config": (lambda call: call(), type(None)),
    "SecurityScanner.scan_text": (lambda call: call(SECRET), dict),
    "PatternRegistry.scan_text": (lambda call: call(SECRET, False), list),
    "scan_event": (lambda call: call({"said": SECRET}), dict),
    "mask_event": (lambda call: call({"said": SECRET}), dict),
    "mask_text_in_place": (lambda call: call(SECRET), str),
    "ToolMonitorCallbackHandler": (lambda call: call(), object),
    "get_callback_handler": (lambda call: call(), object),
}
ASKS_THE_DAEMON = re.compile(r"db\.utils\.(?!log_to_db)|get_event_history|get_database_path|cleanup_old_events")
NEEDED = {"hours": 1, "days": 1, "start_time": datetime(2026, 1, 2), "end_time": datetime(2026, 1, 3)}


@pytest.mark.parametrize("name", sorted({name for _generation, name in KEPT}))
def test_what_is_kept_can_be_called_and_gives_what_it_gave_there(name: str, made: skilld_monitor.Monitoring) -> None:
    owner, _dot, last = name.rpartition(".")
    ours = found(f"{COMPAT}.{name}")
    if owner and inspect.isclass(found(f"{COMPAT}.{owner}")):
        ours = getattr(found(f"{COMPAT}.{owner}")(), last)
    if not callable(ours):
        return
    if ASKS_THE_DAEMON.search(name):  # of which there is none; tests/e2e/test_monitor_queries.py has one
        needed = [each.name for each in inspect.signature(ours).parameters.values() if each.default is each.empty]
        with pytest.raises(skilld_monitor.QueryError):
            ours(*(NEEDED.get(word, "x") for word in needed))
        return
    last_two = ".".join(name.split(".")[-2:])
    call, kind = CALLS[last_two if last_two in CALLS else last]
    assert isinstance(call(ours), kind)


def test_what_raised_whenever_it_was_called_has_another_way() -> None:
    raised = [name for _generation, name in PUBLIC if re.search(r"_hook$|hook_decorator|log_mcp_|EventProcessor", name)]
    assert len(raised) > 50
    for name in raised:
        cell = cell_of(name)
        assert cell is not None
        assert TABLE[cell][1].startswith("replaced ")
    for name in ("monitor_call", "monitor_llm_call", "Span", "log_event"):
        assert callable(getattr(skilld_monitor, name))


def test_nothing_of_the_package_is_missing_from_the_page() -> None:
    package = skilld_monitor.compat
    modules = [COMPAT, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{COMPAT}."))]
    names = {
        f"{module}.{name}".removeprefix(f"{COMPAT}.")
        for module in modules
        for name in importlib.import_module(module).__all__
        if f"{module}.{name}" not in modules and not module.endswith("._places")
    }
    own = {f"security_detection.scanner.{name}" for name in ("BuiltIn", "alert_of", "described", "shown")}
    assert names - own - {"events_processor.log_to_file_and_db"} <= {name for _generation, name in PUBLIC}


def test_a_module_is_found_by_the_package_that_it_is_in() -> None:
    for info in pkgutil.walk_packages(skilld_monitor.compat.__path__, f"{COMPAT}."):
        package, _dot, name = info.name.rpartition(".")
        if not name.startswith("_"):
            assert name in dir(importlib.import_module(package))


def test_to_import_it_loads_none_of_what_it_offers() -> None:
    text = (
        "import sys, skilld_monitor\n"
        "assert not any('compat' in name for name in sys.modules)\n"
        "before = set(sys.modules)\n"
        "import skilld_monitor.compat as c\n"
        "assert set(sys.modules) - before == {'skilld_monitor.compat', 'skilld_monitor.compat._places'}\n"
        "assert c.api_client.get_api_client().send_event({}) is False\n"
        "assert c.utils.otel.generate_span_id() and c.monitor.stop_monitoring() is None\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)
