"""Agent backends of ours keep their contract, and the kit sees it where one does not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.backends.agents.base import AgentCapabilities, AgentRequest, Said
from skill_actors.backends.agents.command import open_command
from skill_actors.backends.workers import Host
from skill_actors.testing.agents import (
    AgentFinding,
    Die,
    Hang,
    Say,
    ScriptedAgents,
    Step,
    Tell,
    UseTool,
    echo,
    measure_agents,
)

SLOW = "take your time"
_PROGRAM = """
import json, sys, time
prompt = sys.stdin.read()
if "take your time" in prompt:
    print("on it", flush=True)
    time.sleep(600)
if sys.argv[1:] and sys.argv[1] != "s-1":
    sys.exit("no such session")
print(json.dumps({"result": "ready", "id": "s-1"}) if "--json" in sys.argv or sys.argv[1:] else "ready")
"""


def by_title(findings: Sequence[AgentFinding]) -> Mapping[str, AgentFinding]:
    return {finding.title: finding for finding in findings}


def scripted(request: AgentRequest) -> Sequence[Step]:
    return [Say("on it"), Hang()] if request.prompt == SLOW else echo(request)


def test_scripted_agents_keep_the_contract(tmp_path: Path) -> None:
    async def main() -> None:
        findings = await measure_agents(ScriptedAgents(otherwise=scripted), tmp_path, slow_prompt=SLOW)
        assert [finding for finding in findings if finding.outcome != "passed"] == []

    trio.run(main)


def test_a_command_keeps_the_contract(tmp_path: Path) -> None:
    async def main() -> None:
        script = tmp_path / "agent.py"
        script.write_text(_PROGRAM)
        async with open_command("mine", {"argv": [sys.executable, str(script)]}, Host(folder=tmp_path)) as backend:
            findings = await measure_agents(backend, tmp_path / "work", slow_prompt=SLOW)
        assert [finding for finding in findings if finding.outcome == "failed"] == []
        skipped = {finding.capability for finding in findings if finding.outcome == "skipped"}
        assert skipped == {"resume"}

    trio.run(main)


class _Forgets(ScriptedAgents):
    """Takes every option, and any id for a session of its own."""

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def _begin(self, spec: Any) -> str:
        return "always-the-same"


@pytest.mark.parametrize(
    ("backend", "title"),
    [
        (ScriptedAgents(otherwise=lambda _r: [Die()]), "a message is answered, and remembered"),
        (ScriptedAgents(otherwise=lambda _r: [Say("")]), "a message is answered, and remembered"),
        (_Forgets(), "an unknown option is refused by name"),
        (_Forgets(), "a session that is unknown is told as lost"),
        (
            ScriptedAgents(otherwise=lambda _r: [Tell(Said([{"type": "text", "text": "at once"}]))]),
            "text comes while it is written",
        ),
        (
            ScriptedAgents(otherwise=lambda _r: [UseTool("Bash", id="a"), Hang()], capabilities=AgentCapabilities()),
            "a message is answered, and remembered",
        ),
    ],
)
def test_a_backend_that_breaks_a_promise_is_found(
    tmp_path: Path, backend: ScriptedAgents, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.testing.agents.conformance._TURN_S", 0.2)

    async def main() -> None:
        assert by_title(await measure_agents(backend, tmp_path))[title].outcome == "failed"

    trio.run(main)
