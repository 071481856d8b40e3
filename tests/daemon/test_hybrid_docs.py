"""What docs/hybrid.md claims, against the program."""

from __future__ import annotations

import json
import re
from pathlib import Path

from skill_actors.backends.routing import HAND_OVER, hand_over_of, hand_over_tool
from skill_actors.backends.tools import TOOLS
from skill_actors.sessions.backend_choice import choices_of
from skilld.config import Config

PAGE = (Path(__file__).parents[2] / "docs/hybrid.md").read_text()


def test_the_places_shown_are_places() -> None:
    [block] = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    choices = choices_of(json.loads(block)["backends"])
    assert [choice.name for choice in choices] == ["local", "build", "small", "anthropic"]
    assert choices[2].options == {"memory_bytes": 256 << 20}


def test_the_tools_of_a_place_are_named() -> None:
    row = next(line for line in PAGE.splitlines() if "the *main* place" in line)
    named = row.rpartition(" | ")[2]
    assert re.findall(r"`(\w+)`", named) == [tool["name"] for tool in TOOLS]


def test_the_call_that_hands_a_file_over_is_one() -> None:
    [call] = re.findall(rf"tool `{HAND_OVER}`, `(\{{.*?\}})`", PAGE)
    wanted = hand_over_of(json.loads(call), ["local", "anthropic"])
    assert (wanted.name, wanted.source, wanted.target) == ("found.txt", "local", "anthropic")
    assert set(json.loads(call)) == set(hand_over_tool(["local", "anthropic"])["input_schema"]["properties"])


def test_the_keys_that_are_named_are_there() -> None:
    config = Config()
    assert config.limits.hand_over_bytes == 100 << 20
    assert config.backends.anthropic.free_containers is False
    for key in ("limits.hand_over_bytes", "backends.anthropic.free_containers"):
        assert f"`{key}`" in PAGE
