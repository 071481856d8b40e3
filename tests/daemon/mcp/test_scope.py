from __future__ import annotations

import pytest

from skilld.mcp.scope import Scope
from skilld.mcp.tools import TOOLS

READING = {
    *("agents", "await", "await_all", "status", "result", "info", "history", "cost", "budget", "board"),
    *("store_get", "store_keys", "events", "schedule_list", "workflow_list", "workflow_status"),
}


def test_every_tool_has_a_name_of_its_own_and_a_schema_that_takes_nothing_else() -> None:
    assert len({each.name for each in TOOLS}) == len(TOOLS)
    for each in TOOLS:
        schema = each.schema()
        assert (schema["type"], schema["additionalProperties"]) == ("object", False), each.name


def test_only_what_changes_nothing_is_left_where_only_reading_is_allowed() -> None:
    assert set(Scope.of(TOOLS, read_only=True).tools) == READING


def test_only_what_is_allowed_by_name_is_found() -> None:
    scope = Scope.of(TOOLS, allow=["ask", "agents"])
    assert set(scope.tools) == {"ask", "agents"}
    assert scope.find("dismiss") is None
    assert "did you mean 'agents'?" in scope.unknown("agent")


@pytest.mark.parametrize(
    ("allow", "read_only", "why"),
    [(["aks"], False, "did you mean 'ask'"), (["ask"], True, "no tool is left"), ([""], False, "there is no tool ''")],
)
def test_a_scope_without_sense_is_refused(allow: list[str], read_only: bool, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Scope.of(TOOLS, allow=allow, read_only=read_only)
