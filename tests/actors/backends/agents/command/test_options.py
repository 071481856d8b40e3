"""How an operator describes a program that is to be an agent, and how its output is read."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.backends.agents.base import AgentError
from skill_actors.backends.agents.command.answer import answer_of, is_pointer
from skill_actors.backends.agents.command.options import argv_of, command_options
from skill_actors.backends.base import BackendUnavailable


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "it must be the program and its arguments"),
        ({"argv": "tool"}, "it must be a list of texts"),
        ({"argv": ["{model}"]}, "must not be a placeholder"),
        ({"argv": ["tool", "{prompt}"]}, "is no placeholder there"),
        ({"argv": ["tool", "{session}"]}, "is no placeholder there"),
        ({"argv": ["tool"], "resume": ["tool", "{session}"]}, "it goes with session"),
        ({"argv": ["tool"], "resume": ["tool"], "session": "/id"}, "it needs output"),
        ({"argv": ["tool"], "output": "xml"}, "it must be one of json, lines, text"),
        ({"argv": ["tool"], "result": "result"}, "it must be a JSON pointer"),
        ({"argv": ["tool"], "max_processes": 0}, "a number of at least 1"),
        ({"argv": ["tool"], "environment": {"A B": "x"}}, "it must have variables by name"),
        ({"argv": ["tool"], "shell": True}, "there is none such"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(BackendUnavailable, match=says):
        command_options("mine", options)


def test_what_is_put_in_for_a_placeholder_is_no_placeholder_again() -> None:
    words = argv_of(["tool", "--model={model}", "{session}"], {"model": "{session}", "session": "a b; rm"})
    assert words == ["tool", "--model={session}", "a b; rm"]


READ = {"result": "/result", "session": "/id", "cost": "/cost", "failed": "/failed"}


def test_text_is_the_answer_as_it_is() -> None:
    assert answer_of("two\nlines\n\n", "text", **READ).text == "two\nlines"


def test_the_last_line_may_hold_the_value() -> None:
    answer = answer_of('log\n{"result": "yes", "id": "s-1", "cost": 0.5}\n\n', "lines", **READ)
    assert (answer.text, answer.session_id, answer.cost_usd, answer.failed) == ("yes", "s-1", 0.5, False)


def test_pointers_reach_into_lists_and_escaped_names() -> None:
    pointers = {**READ, "result": "/a~1b/1/~0"}
    assert answer_of('{"a/b": [0, {"~": "deep"}]}', "json", **pointers).text == "deep"
    assert not is_pointer("/a~2")


@pytest.mark.parametrize("printed", ["", "not json", "[" * 100_000, '{"other": 1}'])
def test_output_without_an_answer_is_an_error_with_what_was_printed(printed: str) -> None:
    with pytest.raises(AgentError) as caught:
        answer_of(printed, "json", **READ)
    assert (caught.value.code, caught.value.partial, caught.value.acted) == ("protocol", printed, True)


@pytest.mark.parametrize("id", ["--dangerous", "", "x" * 501, "a\\u0000b", "a\\nb"])
def test_an_id_that_could_be_something_else_in_a_command_line_is_none(id: str) -> None:
    assert answer_of(f'{{"result": "", "id": "{id}"}}', "json", **READ).session_id is None


@pytest.mark.parametrize("cost", ["-1", "NaN", "Infinity", "true", '"0.1"'])
def test_a_cost_that_is_no_amount_is_unknown_and_never_0(cost: str) -> None:
    assert answer_of(f'{{"result": "", "cost": {cost}}}', "json", **READ).cost_usd is None
