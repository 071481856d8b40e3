"""What is made of a call's input."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.backends import ToolCall
from skill_actors.backends.tools import TOOLS, BadInput, Bash, CreateFile, Run, StrReplace, ToolInput, View, parse


def call(name: str, /, **input: Any) -> ToolCall:
    return ToolCall(id="c", name=name, input=input)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (call("view", path="a"), View(path="a")),
        (call("view", path="a", view_range=[2, 5]), View(path="a", first=2, last=5)),
        (call("view", path="a", view_range=[2, -1]), View(path="a", first=2, last=None)),
        (call("bash_tool", command="ls", description="look"), Bash(command="ls")),
        (call("bash_tool", command="ls"), Bash(command="ls")),
        (call("create_file", path="a", file_text="", description="d"), CreateFile(path="a", file_text="")),
        (call("str_replace", path="a", old_str="x"), StrReplace(path="a", old_str="x", new_str="")),
        (ToolCall(id="c", name="anything", input={}, argv=("ls", "")), Run(argv=("ls", ""))),
    ],
)
def test_a_good_call_becomes_a_value(made: ToolCall, expected: ToolInput) -> None:
    assert parse(made) == expected


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (call("view"), "view: the field path is missing"),
        (call("view", path=None), "path must be a string, not null"),
        (call("view", path=True), "path must be a string, not a boolean"),
        (call("view", path="a", start=1), "unknown field start; the fields are path, view_range"),
        (call("view", path="a", view_range=[1]), "two integers"),
        (call("view", path="a", view_range=[1, 2, 3]), "two integers"),
        (call("view", path="a", view_range=[1.0, 2]), "two integers"),
        (call("view", path="a", view_range=[True, 2]), "two integers"),
        (call("view", path="a", view_range="12"), "two integers"),
        (call("view", path="a", view_range=None), "two integers"),
        (call("view", path="a", view_range={"a": 1, "b": 2}), "two integers"),
        (call("view", path="a", view_range=[0, 2]), "counted from 1"),
        (call("view", path="a", view_range=[-1, 2]), "counted from 1"),
        (call("view", path="a", view_range=[3, 2]), "before its begin 3"),
        (call("view", path="a", view_range=[3, -2]), "before its begin 3"),
        (call("bash_tool", command=" \n"), "the command is empty"),
        (call("bash_tool", command="a\0"), "NUL"),
        (call("bash_tool", command="\ud800"), "not valid Unicode"),
        (call("bash_tool", command="x" * 131_072), "131072 bytes; the system allows 131071"),
        (call("bash_tool", command=7), "a number"),
        (call("bash_tool", command="ls", description=[]), "description must be a string, not an array"),
        (call("create_file", path="a"), "file_text is missing"),
        (call("create_file", path="a", file_text={}), "file_text must be a string, not an object"),
        (call("str_replace", path="a", old_str="", new_str="x"), "use create_file"),
        (call("str_replace", path="a", old_str="x", new_str="x"), "nothing would change"),
        (call("str_replace", path="a", old_str="x", new_str=None), "new_str must be a string, not null"),
        (call("rm"), "there is no tool 'rm'; there are bash_tool, create_file, str_replace, view"),
        (ToolCall(id="c", name="view", input=[]), "must be an object, not an array"),  # type: ignore[arg-type]
        (ToolCall(id="c", name="x", input={}, argv=()), "empty"),
        (ToolCall(id="c", name="x", input={}, argv=("", "a")), "empty"),
        (ToolCall(id="c", name="x", input={}, argv=("a",) + ("b" * 100_000,) * 20), "pass a file"),
    ],
)
def test_a_bad_call_is_refused_in_words_that_name_what_is_wrong(made: ToolCall, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(made)
    assert words in str(caught.value)


def test_every_tool_has_a_schema_that_admits_nothing_else() -> None:
    assert [tool["name"] for tool in TOOLS] == ["view", "bash_tool", "create_file", "str_replace"]
    for tool in TOOLS:
        schema = tool["input_schema"]
        assert tool["description"]
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(schema["properties"])
