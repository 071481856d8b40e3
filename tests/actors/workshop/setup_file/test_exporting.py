"""Whatever there is, the file that is made of it changes nothing where it was made."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from skill_actors.workshop.agents.settings import DEFAULTS, laid_over
from skill_actors.workshop.agents.setup import Setup
from skill_actors.workshop.board.item import Item
from skill_actors.workshop.setup_file.definition import read_file
from skill_actors.workshop.setup_file.exporting import exported, item_drafts
from skill_actors.workshop.setup_file.present import Present
from skill_actors.workshop.setup_file.steps import Made, steps_of
from skill_actors.workshop.setup_file.toml_text import toml_text

NAMES = st.sampled_from(["a", "b", "c-1", "d.e"])
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "role": st.sampled_from(["", "You write.", 'two\n"""lines\\']),
    "context": st.sampled_from(["", "All."]),
    "backend": st.sampled_from(["local", "docker"]),
    "options": st.dictionaries(st.sampled_from(["image", "network"]), st.sampled_from(["x", "y"]), min_size=1),
    "model": st.sampled_from(["m1", "m2"]),
    "timeout_s": st.sampled_from([5, 5.0, 60.5]),
    "queue": st.integers(0, 3),
    "git_context": st.booleans(),
    "skills": st.lists(st.sampled_from(["s", "t"]), max_size=2),
    "labels": st.dictionaries(st.sampled_from(["k", "a b"]), st.sampled_from(["", "v"]), max_size=2),
}
SETTINGS = st.fixed_dictionaries({}, optional=FIELDS)
DEFAULT = st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in FIELDS if name in DEFAULTS})


@st.composite
def presents(draw: st.DrawFn) -> Present:
    """Agents that were made at any time from any profile: nothing says that they still go together."""
    profiles = draw(st.dictionaries(NAMES, SETTINGS, max_size=3))
    agents: dict[str, dict[str, Any]] = {}
    for name in draw(st.lists(NAMES, unique=True)):
        profile = draw(st.sampled_from([None, *profiles]))
        fields = laid_over(draw(SETTINGS))
        if profile is not None:
            fields = laid_over(profiles[profile] if draw(st.booleans()) else {}, fields, {"profile": profile})
        agents[name] = fields
    setup = Setup(
        context=draw(st.sampled_from(["", "All."])),
        defaults=draw(DEFAULT),
        max_cost_usd=draw(st.sampled_from([None, 0.0, 20.0])),
    )
    return Present(setup=setup, profiles=profiles, agents=agents)


@given(presents())
def test_an_export_changes_nothing_where_it_was_made(present: Present) -> None:
    found = exported(present)
    assert found.left_out == ()
    again = tomllib.loads(toml_text(found.file))
    assert again == found.file
    assert steps_of(read_file(again), present, Made(), Made(), prune=True) == []


@given(presents())
def test_an_export_makes_the_same_from_nothing(present: Present) -> None:
    file = read_file(exported(present).file)
    steps = steps_of(file, Present(), Made(), Made())
    made = {
        (step.kind, step.name): {name: pair["after"] for name, pair in step.fields.items() if "after" in pair}
        for step in steps
        if step.kind != "common"
    }
    wanted = {("profile", name): form for name, form in present.profiles.items()}
    wanted |= {("agent", name): form for name, form in present.agents.items()}
    assert made == wanted


def test_items_are_exported_as_long_as_they_are_to_be_done() -> None:
    def item(id: str, status: Any, *depends_on: str) -> Item:
        return Item(id=id, title=id, status=status, depends_on=depends_on, created="c", updated="u", priority=1)

    items = [
        item("a", "done"),
        item("b", "ready", "a"),
        item("c", "failed"),
        item("d", "new", "a", "b"),
        item("e", "cancelled"),
    ]
    drafts = item_drafts(items)
    assert [draft["id"] for draft in drafts] == ["b", "c", "d"]
    assert drafts[0] == {"id": "b", "title": "b", "priority": 1}
    assert drafts[2]["depends_on"] == ["b"]


def test_what_waits_for_something_that_is_left_out_is_left_out_too() -> None:
    items = [{"id": id, "title": id, "depends_on": [other]} for id, other in (("c", "b"), ("b", "gone"), ("a", "c"))]
    found = exported(Present(), items=[*items, {"id": "z", "title": "z"}])
    assert [item["id"] for item in found.file["board"]["items"]] == ["z"]
    assert len(found.left_out) == 3
