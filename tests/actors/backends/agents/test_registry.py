"""Agent backends by name: ours, those of other packages, and plain words where there is none."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import trio

from skill_actors.backends.agents import agent_factory, known_agents, registry
from skill_actors.backends.agents.claude import open_claude
from skill_actors.backends.agents.codex import open_codex
from skill_actors.backends.base import BackendUnavailable


def offer(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Have packages offer these."""
    points = [EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points)


def test_ours_are_found_by_their_names() -> None:
    assert trio.run(agent_factory, "claude_cli") is open_claude
    assert trio.run(agent_factory, "codex_cli") is open_codex


def test_a_name_that_is_unknown_is_told_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, theirs="skill_actors.backends.agents.command:open_command")
    with pytest.raises(BackendUnavailable, match="no agent backend 'claude'; there are claude_cli, codex_cli, theirs"):
        trio.run(agent_factory, "claude")
    assert trio.run(known_agents) == ("claude_cli", "codex_cli", "theirs")


@pytest.mark.parametrize("value", ["no_such_module:x", "skill_actors.ids:no_such_name", "skill_actors.ids:__doc__"])
def test_a_package_that_cannot_be_loaded_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    offer(monkeypatch, theirs=value)
    with pytest.raises(BackendUnavailable, match="mend or remove its package"):
        trio.run(agent_factory, "theirs")


def test_no_package_takes_the_place_of_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, claude_cli="no_such_module:x")
    assert trio.run(agent_factory, "claude_cli") is open_claude
