"""Tools of several places: names, routes, refusals; what the whole can do."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.backends import Capabilities
from skill_actors.backends.routing import (
    HandOver,
    PlaceTools,
    Route,
    RouteRefused,
    hand_over_of,
    hand_over_tool,
    merged,
    routes,
)
from skill_actors.backends.tools import TOOLS, BadInput


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "description": "Does it.", "input_schema": {"type": "object"}}


def capabilities(**changes: Any) -> Capabilities:
    base: dict[str, Any] = {
        "stream": True, "cancel": True, "sandbox": "container", "network": "none", "files": True, "parallel": True
    }  # fmt: skip
    return Capabilities(**(base | changes))


def test_one_place_is_offered_exactly_as_it_is() -> None:
    found = routes([PlaceTools(name="docker", backend="docker", tools=TOOLS)])
    assert list(found.tools) == list(TOOLS)
    assert found.by_name["view"] == Route("docker", "view")


def test_the_first_place_keeps_plain_names_and_the_others_have_theirs_before_them() -> None:
    tools, by_name = routes(
        [
            PlaceTools(name="local", backend="local", tools=TOOLS),
            PlaceTools(name="build", backend="docker", tools=TOOLS),
            PlaceTools(name="build-2", backend="docker", tools=TOOLS),
        ]
    )
    assert [each["name"] for each in tools][:6] == [
        *("view", "bash_tool", "create_file", "str_replace", "build_view", "build_bash_tool")
    ]
    assert by_name["build-2_bash_tool"] == Route("build-2", "bash_tool")
    assert by_name["bash_tool"] == Route("local", "bash_tool")
    assert len(by_name) == 12


def test_each_definition_says_where_it_runs_and_the_places_own_stay_as_they_are() -> None:
    before = [dict(each) for each in TOOLS]
    tools, _ = routes(
        [
            PlaceTools(name="local", backend="local", tools=TOOLS),
            PlaceTools(name="build", backend="docker", tools=TOOLS),
        ]
    )
    said = {each["name"]: each["description"] for each in tools}
    assert said["view"].startswith("In the place local: ")
    assert said["build_view"].startswith("In the place build (docker): ")
    assert list(TOOLS) == before


def test_a_hosted_place_and_native_tools_leave_the_plain_names_to_the_first_executor() -> None:
    tools, by_name = routes(
        [
            PlaceTools(name="anthropic", backend="anthropic", kind="hosted"),
            PlaceTools(name="native", backend="native", kind="native", tools=[tool("log_fetcher_execute")]),
            PlaceTools(name="docker", backend="docker", tools=TOOLS),
        ]
    )
    assert [each["name"] for each in tools][:2] == ["log_fetcher_execute", "view"]
    assert by_name["log_fetcher_execute"] == Route("native", "log_fetcher_execute")
    assert by_name["view"] == Route("docker", "view")


@pytest.mark.parametrize(
    "places",
    [
        # a further place's prefixed tool is the first one's own
        [
            PlaceTools(name="mine", backend="mine", tools=[tool("docker_view")]),
            PlaceTools(name="docker", backend="docker", tools=[tool("view")]),
        ],
        # a native skill called as the place is
        [
            PlaceTools(name="local", backend="local", tools=[tool("view")]),
            PlaceTools(name="docker", backend="mine", tools=[tool("execute")]),
            PlaceTools(name="native", backend="native", kind="native", tools=[tool("docker_execute")]),
        ],
        # twice in one place
        [PlaceTools(name="local", backend="local", tools=[tool("view"), tool("view")])],
        # the provider's own
        [PlaceTools(name="local", backend="local", tools=[tool("code_execution")])],
        # two places of one name
        [PlaceTools(name="docker", backend="docker"), PlaceTools(name="docker", backend="docker")],
        # names that no API takes
        [PlaceTools(name="local", backend="local", tools=[tool("vïew")])],
        [PlaceTools(name="a", backend="a"), PlaceTools(name="b", backend="b", tools=[tool("x" * 127)] * 1),
         PlaceTools(name="c", backend="c", tools=[tool("x" * 128)])],
        [PlaceTools(name="", backend="docker")],
        [PlaceTools(name="a", backend="a"), PlaceTools(name="b\n", backend="b", tools=[tool("view")])],
        [PlaceTools(name="a", backend="a"), PlaceTools(name="b.c", backend="b", tools=[tool("view")])],
    ],
)  # fmt: skip
def test_a_name_that_two_would_have_or_that_is_none_is_refused(places: list[PlaceTools]) -> None:
    with pytest.raises(RouteRefused):
        routes(places)


def test_names_of_the_conversation_itself_are_taken() -> None:
    with pytest.raises(RouteRefused, match="hand_over"):
        routes([PlaceTools(name="x", backend="x", tools=[tool("hand_over")])], reserved={"hand_over"})


def test_the_whole_claims_the_weakest_of_each_and_lists_each_places_own() -> None:
    places = {
        "local": capabilities(sandbox="landlock", network="host", partial={"sandbox": "paths can be asked for"}),
        "build": capabilities(images=True, partial={"sandbox": "one kernel", "cancel": "slow"}),
    }
    whole = merged(places)
    assert whole.capabilities.sandbox == "landlock"
    assert whole.capabilities.network == "host"
    assert whole.capabilities.images is False
    claim = whole.capabilities.claims()["sandbox"]
    assert claim.fidelity == "partial"
    assert claim.note == "local: paths can be asked for; build: one kernel"
    assert whole.capabilities.claims()["cancel"].note == "build: slow"
    assert whole.places == places


def test_one_place_alone_merges_to_its_own_claims() -> None:
    alone = capabilities(sandbox="cloud", cost=True)
    assert merged({"anthropic": alone}).capabilities == alone
    with pytest.raises(ValueError, match="no place"):
        merged({})


def test_hand_over_is_read_strictly() -> None:
    places = ["local", "build"]
    schema = hand_over_tool(places)["input_schema"]
    assert schema["properties"]["to"]["enum"] == ["build", "local"]
    assert hand_over_of({"name": "a/b.txt", "from": "local", "to": "build"}, places) == HandOver(
        "a/b.txt", "local", "build"
    )


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"name": "a", "from": "local"},
        {"name": "", "from": "local", "to": "build"},
        {"name": 1, "from": "local", "to": "build"},
        {"name": "a", "from": "local", "to": "local"},
        {"name": "a", "from": "local", "to": "host"},
        {"name": "a", "from": ["local"], "to": "build"},
        {"name": "a", "from": "local", "to": "build", "mode": 1},
    ],
)
def test_a_hand_over_that_makes_no_sense_is_refused(given: object) -> None:
    with pytest.raises(BadInput, match="hand_over"):
        hand_over_of(given, ["local", "build"])
