"""Which tools a model is offered."""

from __future__ import annotations

import pytest

from skill_actors.backends.tools import TOOLS
from skill_actors.loop import tool_definitions

ALL = ["view", "bash_tool", "create_file", "str_replace"]


def names(**filters: list[str]) -> list[str]:
    return [tool["name"] for tool in tool_definitions(**filters)]  # type: ignore[arg-type]


def test_there_are_four_tools() -> None:
    assert names() == ALL
    assert all({"name", "description", "input_schema"} == tool.keys() for tool in tool_definitions())


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"only": ["view", "bash_tool"]}, ["view", "bash_tool"]),
        ({"only": []}, []),
        ({"except_": ["bash_tool"]}, ["view", "create_file", "str_replace"]),
        ({"only": ["view", "bash_tool"], "except_": ["view"]}, ["bash_tool"]),
    ],
)
def test_filters_choose_and_leave_out(filters: dict[str, list[str]], left: list[str]) -> None:
    assert names(**filters) == left


@pytest.mark.parametrize("filter", ["only", "except_"])
def test_a_filter_of_an_unknown_tool_is_an_error(filter: str) -> None:
    """`except_=["bash"]` would offer bash_tool otherwise."""
    with pytest.raises(ValueError, match=r"no tool 'bash'; there are view, bash_tool"):
        names(**{filter: ["bash"]})


def test_definitions_are_the_callers_to_change() -> None:
    mine = tool_definitions()
    mine[0]["cache_control"] = {"type": "ephemeral"}
    mine[0]["input_schema"]["properties"].clear()
    assert TOOLS[0]["input_schema"]["properties"]
    assert "cache_control" not in TOOLS[0]


def test_the_tools_of_another_executor_are_chosen_from_in_the_same_way() -> None:
    tools = [{"name": "dig", "description": "Digs.", "input_schema": {"type": "object"}}]
    assert tool_definitions(tools=tools, except_=["dig"]) == []
    assert tool_definitions(tools=tools) == tools
