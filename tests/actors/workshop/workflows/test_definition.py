"""What is a workflow, and what is none: everything is looked at before anything runs."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from skill_actors.errors import Refused
from skill_actors.workshop.workflows.conditions import Condition, at_pointer
from skill_actors.workshop.workflows.definition import read_workflow
from skill_actors.workshop.workflows.room import kept, size_bytes
from workflow_kit import stage

RELEASE = """
description = "From a plan to a release"
timeout_s = 3600
usd = 5

[parameters.version]
description = "what is released"

[parameters.branch]
default = "main"

[[stage]]
name = "plan"
agent = "planner"
prompt = "Plan {version} on {branch}."

[[stage]]
name = "code"
profile = "coder"
prompt = "Do this: {plan}"
after = ["plan"]
retries = 2
until = { rounds = 3, judge = "reviewer", prompt = "Is it good? {result}", contains = "APPROVED" }

[[stage]]
name = "ship"
type = "deploy"
prompt = "Ship {version}: {code}"
after = ["code"]
when = { stage = "plan", lacks = "do not ship" }
"""


def test_a_definition_in_toml_is_taken_and_written_back_as_it_was() -> None:
    given = tomllib.loads(RELEASE)
    workflow = read_workflow(given)
    assert [each.name for each in workflow.ordered] == ["plan", "code", "ship"]
    assert workflow["ship"].waits_for == {"code", "plan"}
    assert workflow.arguments({"version": "2"}) == {"version": "2", "branch": "main"}
    written = workflow.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == {**given, "stage": written["stage"]}
    assert read_workflow(written) == workflow


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "stage: Field required"),
        ({"stage": []}, "at least 1 item"),
        ({"stage": "x"}, "stage"),
        ({"stage": [3]}, "stage number 1"),
        ({"stage": [stage("a")], "stages": []}, "stages: there is no such field"),
        ({"stage": [stage("a", promt="x")]}, "stage 'a'.promt: there is no such field"),
        ({"stage": [stage("A")]}, "stage 'A'.name"),
        ({"stage": [stage("a", prompt="")]}, "stage 'a'.prompt"),
        ({"stage": [stage("a"), stage("a")]}, "stage 'a' is there more than once"),
        (
            {"stage": [stage("a", agent="w", profile="p")]},
            "exactly one of agent, profile and type, not agent and profile",
        ),
        ({"stage": [{"name": "a", "prompt": "x"}]}, "exactly one of agent, profile and type, not none"),
        (
            {"stage": [stage("plan"), stage("b", after=["pln"])]},
            "waits for 'pln', which there is not; did you mean 'plan'",
        ),
        ({"stage": [stage("a", after=["b"]), stage("b", after=["a"])]}, "stages wait for each other: a -> b -> a"),
        ({"stage": [stage("a", after=["a"])]}, "wait for each other: a -> a"),
        ({"stage": [stage("a", prompt="{b}"), stage("b")]}, "a place {b} in a prompt"),
        ({"stage": [stage("a", prompt="{versoin}")], "parameters": {"version": {}}}, "did you mean 'version'"),
        ({"stage": [stage("run")]}, "'run' names two things"),
        ({"stage": [stage("a")], "parameters": {"a": {}}}, "'a' names two things"),
        ({"stage": [stage("a", until={"rounds": 3})]}, "give at least one of is, contains, lacks"),
        ({"stage": [stage("a", until={"contains": "x", "rounds": 0})]}, "stage 'a'.until.rounds"),
        ({"stage": [stage("a", until={"contains": "x", "judge": "j"})]}, "judge and prompt belong together"),
        ({"stage": [stage("a", until={"contains": "x", "judge": "j", "prompt": "ok?"})]}, "no place {result}"),
        ({"stage": [stage("a", until={"is": "done"})]}, "'is' says nothing here"),
        ({"stage": [stage("a", when={"stage": "a", "is": "done"})]}, "wait for each other"),
        ({"stage": [stage("a"), stage("b", when={"stage": "a", "is": "perhaps"})]}, "stage 'b'.when.is"),
        ({"stage": [stage("a"), stage("b", when={"stage": "a", "field": "/x"})]}, "field and equals belong together"),
        ({"stage": [stage("a", retries=1000)]}, "stage 'a'.retries"),
        ({"stage": [stage("a", timeout_s=0)]}, "stage 'a'.timeout_s"),
        ({"stage": [stage("a", timeout_s=float("nan"))]}, "stage 'a'.timeout_s"),
        ({"stage": [stage("a", usd=-1)]}, "stage 'a'.usd"),
        ({"stage": [stage("a", type="code", usd=1)]}, "usd and until are not for stages of the board"),
        ({"stage": [stage(f"s{n}") for n in range(101)]}, "at most 100"),
        ({"stage": [stage("a", prompt="x" * 300_000)]}, "takes 3"),
    ],
)
def test_what_is_no_workflow_is_refused_with_the_place_and_the_way_out(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(Refused) as refused:
        read_workflow(given)
    assert expected in refused.value.message
    assert refused.value.code in ("bad_request", "too_large")


def test_arguments_are_checked_against_the_parameters() -> None:
    workflow = read_workflow(tomllib.loads(RELEASE))
    for given, expected in [({}, "version: no value"), ({"version": "1", "brnch": "x"}, "did you mean 'branch'")]:
        with pytest.raises(Refused, match=expected):
            workflow.arguments(given)
    with pytest.raises(Refused, match="parameters take"):
        workflow.arguments({"version": "x" * 100_000})


@pytest.mark.parametrize(
    ("condition", "outcome", "result", "expected"),
    [
        ({"is": "done"}, "done", "", True),
        ({"is": "done"}, "failed", "", False),
        ({"contains": "LGTM"}, "done", "LGTM!", True),
        ({"contains": "LGTM"}, "done", "lgtm", False),
        ({"lacks": "error"}, "done", "fine", True),
        ({"contains": "a", "lacks": "b"}, "done", "ab", False),
        ({"field": "/verdict", "equals": "pass"}, "done", '{"verdict": "pass"}', True),
        ({"field": "/verdict", "equals": "pass"}, "done", "pass", False),
        ({"field": "/a~1b/0", "equals": 3}, "done", '{"a/b": [3]}', True),
        ({"field": "/missing", "equals": None}, "done", "{}", False),
        ({"field": "/there", "equals": None}, "done", '{"there": null}', True),
        ({"field": "", "equals": [1]}, "done", "[1]", True),
        ({"field": "/0", "equals": 1}, "done", "[" * 100_000, False),
    ],
)
def test_conditions_are_about_words_and_places_and_nothing_is_run(
    condition: dict[str, Any], outcome: str, result: str, expected: bool
) -> None:
    assert Condition.model_validate(condition).holds(outcome, result) is expected


def test_a_place_in_a_list_is_a_number_that_is_there() -> None:
    assert at_pointer("[1, 2]", "/1") == (True, 2)
    for pointer in ("/2", "/-1", "/x", "/٣", "/99999999999999999999"):
        assert at_pointer("[1, 2]", pointer) == (False, None), pointer


@pytest.mark.parametrize(
    "text", ["x" * 10_000, "\0" * 10_000, "\U0001f600" * 10_000, "\ud800" * 10_000, "a" * 5_000 + "\0" * 5_000]
)
def test_what_is_kept_of_a_text_fits_whatever_it_is_made_of(text: str) -> None:
    short = kept(text, 1_000)
    assert size_bytes(short) <= 1_000
    assert "characters are left out here" in short
    assert kept("short", 1_000) == "short"
