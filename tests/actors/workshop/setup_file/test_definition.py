"""What a setup file may say: every section by its rules, every name there, all faults at once."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.workshop.setup_file.definition import SetupFault, read_file
from skill_actors.workshop.setup_file.references import There, dangling

STAGE = {"name": "one", "agent": "a", "prompt": "do"}


def faults(given: dict[str, Any], **there: Any) -> list[str]:
    """What is wrong, with the file alone or with what is there."""
    try:
        return [str(fault) for fault in dangling(read_file(given), There(**there))]
    except SetupFault as fault:
        return [str(each) for each in fault.faults]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"agent": {}}, "agent: there is no such key; did you mean 'agents'?"),
        ({"budget": {"usdd": 3}}, "budget.usdd: there is no such key; did you mean 'usd'?"),
        ({"board": {"item": []}}, "board.item: there is no such key; did you mean 'items'?"),
        ({"name": "Big Shop"}, "name: name 'Big Shop': 1 to 64"),
        ({"agents": {"a": {"modle": "m"}}}, "agents.a.modle: unknown field 'modle'; did you mean model?"),
        ({"agents": {"a": {"queue": -1}}}, "agents.a.queue: expected a whole number from 0"),
        ({"agents": {"A": {}}}, "agents.A: agent 'A': 1 to 64"),
        ({"agents": {"a": {"without": ["rol"]}}}, "agents.a.without: there is no setting 'rol'; did you mean 'role'?"),
        ({"agents": {"a": {"labels": {"board-worker": "w"}}}}, "agents.a.labels: board-worker is for the agents of"),
        ({"defaults": {"role": "x"}}, "defaults.role: unknown field 'role'"),
        ({"profiles": {"p": {"profile": "q"}}}, "profiles.p.profile: a profile is not made from another one"),
        ({"workers": {"w": {}}}, "workers.w.types: expected a list of types"),
        ({"workers": {"w": {"types": ["code"], "count": 0}}}, "workers.w.count: expected a number from 1 to 64"),
        (
            {"workers": {"w": {"types": ["code"], "cont": 2}}},
            "workers.w.cont: unknown field 'cont'; did you mean 'count'",
        ),
        ({"workers": {"w": {"types": ["code"], "settings": {"profile": "p"}}}}, "workers.w.settings: the profile is"),
        ({"schedules": {"s": {"agent": "a", "prompt": "x"}}}, "schedules.s: a schedule needs one of every_s and cron"),
        ({"schedules": {"s": {"agent": "a", "prompt": 3, "every_s": 9}}}, "schedules.s.prompt: expected text"),
        ({"schedules": {"s": {"prompt": "x", "every_s": 9}}}, "schedules.s.agent: a schedule has one"),
        (
            {"schedules": {"s": {"agent": "a", "prompt": "x", "evry_s": 9}}},
            "unknown field 'evry_s'; did you mean 'every_s'",
        ),
        ({"workflows": {"w": {"stage": []}}}, "workflows.w"),
        ({"workflows": {"w": {"stage": [{**STAGE, "after": ["one"]}]}}}, "stages wait for each other"),
        ({"board": {"items": [{"title": "x"}]}}, "board.items.0.id: an item of a setup file has one"),
        ({"board": {"items": [{"id": "i"}]}}, "board.items.0.title: an item has one"),
        ({"board": {"items": [{"id": "i", "title": "x", "template": "t"}]}}, "board.items.0.template: there is no 't'"),
        ({"board": {"items": [{"id": "i", "title": "x"}] * 2}}, "board.items.1.id: there is an item 'i' already"),
        ({"board": {"templates": {"t": {"prio": 1}}}}, "board.templates.t.prio: unknown field 'prio'; did you mean"),
        ({"store": {"n": {"..": 1}}}, "store.n..."),
        ({"store": {"N": {"k": 1}}}, "store.N: namespace 'N'"),
        ({"context": 3}, "context: expected a valid string"),
        ({"agents": [1]}, "agents: expected a valid dictionary"),
    ],
)
def test_a_fault_names_its_place_and_what_is_meant(given: dict[str, Any], expected: str) -> None:
    assert any(expected in fault for fault in faults(given)), faults(given)


def test_all_faults_are_told_at_once() -> None:
    found = faults({"agents": {"a": {"x": 1}, "b": {"queue": "many"}}, "schedules": {"s": {}}})
    assert len(found) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"agents": {"a": {"profile": "codr"}}, "profiles": {"coder": {}}},
            "agents.a.profile: there is no profile 'codr'; did you mean 'coder'?",
        ),
        (
            {"workers": {"w": {"types": ["code"], "profile": "p"}}},
            "workers.w.profile: there is no profile 'p'; there are none",
        ),
        (
            {"agents": {"w-2": {}}, "workers": {"w": {"types": ["code"], "count": 2}}},
            "agents.w-2: an agent of the worker 'w' has",
        ),
        ({"schedules": {"s": {"agent": "a", "prompt": "x", "every_s": 9}}}, "schedules.s.agent: there is no agent 'a'"),
        ({"workflows": {"w": {"stage": [STAGE]}}}, "workflows.w.stage.0.agent: there is no agent 'a'"),
        (
            {"workflows": {"w": {"stage": [{"name": "one", "profile": "p", "prompt": "x"}]}}},
            "stage.0.profile: there is no profile",
        ),
        (
            {
                "agents": {"a": {}},
                "workflows": {
                    "w": {"stage": [{**STAGE, "until": {"contains": "x", "judge": "j", "prompt": "{result}?"}}]}
                },
            },
            "workflows.w.stage.0.until.judge: there is no agent 'j'",
        ),
        ({"board": {"items": [{"id": "i", "title": "x", "agent": "a"}]}}, "there is no agent, worker or profile 'a'"),
        ({"board": {"items": [{"id": "i", "title": "x", "depends_on": ["j"]}]}}, "there is no item 'j'"),
        (
            {"board": {"items": [{"id": n, "title": "x", "depends_on": [m]} for n, m in (("i", "j"), ("j", "i"))]}},
            "board.items: items wait for each other",
        ),
    ],
)
def test_every_name_is_looked_for(given: dict[str, Any], expected: str) -> None:
    assert any(expected in fault for fault in faults(given)), faults(given)


def test_names_that_are_there_already_are_good_too() -> None:
    given = {
        "agents": {"b": {"profile": "p"}},
        "schedules": {"s": {"agent": "a", "prompt": "x", "every_s": 9}},
        "board": {"items": [{"id": "i", "title": "x", "agent": "w", "depends_on": ["old"]}]},
        "workflows": {"f": {"stage": [{"name": "one", "type": "code", "prompt": "x"}]}},
    }
    there = {"profiles": ["p"], "agents": ["a"], "workers": ["w"], "items": ["old"], "types": ["code"]}
    assert faults(given, **there) == []
    assert "there is no type of items 'code'" in faults(given, **{**there, "types": ["docs"]})[0]


def test_an_agent_of_a_worker_can_be_meant() -> None:
    given = {
        "workers": {"w": {"types": ["code"], "count": 2}},
        "schedules": {"s": {"agent": "w-2", "prompt": "x", "every_s": 9}},
    }
    assert faults(given) == []


def test_a_template_is_laid_under_the_items_that_name_it() -> None:
    templates = {"bug": {"type": "triage", "priority": 1, "labels": {"a": "b"}}}
    items = [{"id": "i", "title": "x", "template": "bug", "priority": 2}]
    found = read_file({"board": {"templates": templates, "items": items}}).items
    assert found == {"i": {"id": "i", "title": "x", "type": "triage", "priority": 2, "labels": {"a": "b"}}}


def test_an_agent_does_without_what_it_says() -> None:
    wish = read_file({"agents": {"a": {"model": "m", "without": ["timeout_s", "options"]}}}).agents["a"]
    below = {"backend": "docker", "options": {"image": "x"}, "timeout_s": 5, "queue": 2}
    assert wish.fields({"context": "c"}, below) == {"context": "c", "backend": "docker", "queue": 2, "model": "m"}


def test_what_is_no_json_is_refused_before_anything_looks_at_it() -> None:
    assert "surrogate" in faults({"context": "\ud800"})[0]
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert "nested" in faults({"store": {"n": {"k": deep}}})[0]
