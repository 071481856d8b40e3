"""The codex backend keeps the contract of agent backends, over the stand-in and over the real program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from codex_kit import open_real, open_stand_in, real_codex
from skill_actors.testing import Reply, Stall, Text
from skill_actors.testing.agents import AgentFinding, measure_agents
from skill_actors.testing.responses_api import open_fake_responses
from support import run

SLOW = "take your time"
BOTH = pytest.mark.parametrize("warm", [True, False], ids=["server", "single"])


def respond(body: Mapping[str, Any]) -> Reply:
    slow = SLOW in str(body["input"][-1])
    return Reply([Text("one word after another")], fail=Stall(after=1) if slow else None)


def unkept(findings: Sequence[AgentFinding], warm: bool) -> list[AgentFinding]:
    """Promises that were not kept; that text comes while it is written is none of single turns."""
    return [finding for finding in findings if finding.outcome != "passed" and (warm or finding.capability != "stream")]


@BOTH
def test_the_stand_in_keeps_the_contract(tmp_path: Path, warm: bool) -> None:
    async def main() -> None:
        async with open_stand_in(tmp_path, warm=warm) as backend:
            found = await measure_agents(backend, tmp_path / "w", prompt="say ready", slow_prompt="stall a while")
        assert unkept(found, warm) == []

    run(main)


@pytest.mark.parametrize("warm", [True, pytest.param(False, marks=pytest.mark.deep)], ids=["server", "single"])
def test_the_program_keeps_the_contract(tmp_path: Path, warm: bool) -> None:
    real_codex()

    async def main() -> None:
        async with open_fake_responses(respond=respond) as api, open_real(tmp_path, api, warm=warm) as backend:
            found = await measure_agents(backend, tmp_path / "w", prompt="say ready", slow_prompt=SLOW)
        assert unkept(found, warm) == []

    run(main)
