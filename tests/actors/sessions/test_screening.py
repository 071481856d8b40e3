"""Whoever looks into messages and calls of tools may change or refuse them, and each does so where it has to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_kit import AGENT, open_agents
from session_kit import ME, open_kit
from skill_actors.errors import Refused
from skill_actors.sessions.screening import Blocked
from skill_actors.testing import Reply, ScriptedModel, Text
from skill_actors.testing.agents import Say, ScriptedAgents, UseTool
from steering_kit import bash, begun, ended, refused, steer
from support import run


class NoApples:
    """Makes apples pears, and lets nothing pass that names a bomb."""

    async def message(self, owner_uid: int, session: str, text: str) -> str:
        assert (owner_uid, session[:4]) == (ME.uid, "ses_")
        if "bomb" in text:
            raise Refused("policy_denied", "no bombs")
        return text.replace("apple", "pear")

    async def files(
        self, owner_uid: int, session: str, files: Sequence[tuple[str, bytes]]
    ) -> Sequence[tuple[str, bytes]]:
        if any(b"bomb" in content for _, content in files):
            raise Refused("policy_denied", "no bombs")
        if not any(b"apple" in content for _, content in files):
            return files
        return [(name, content.replace(b"apple", b"pear")) for name, content in files]

    async def call(
        self, owner_uid: int, session: str, tool: str, given: Mapping[str, Any]
    ) -> Mapping[str, Any] | Blocked:
        if "bomb" in repr(given):
            return Blocked("Not run: no bombs.")
        if "apple" not in repr(given):
            return given
        return {name: str(value).replace("apple", "pear") for name, value in given.items()}


AROUND = {"screen": NoApples()}


def test_a_message_is_taken_in_as_it_may_be_or_not_at_all(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("a")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, around=AROUND) as kit:
            session = await kit.session()
            with refused("policy_denied", "no bombs"):
                await kit.manager.submit(session, ME, "a bomb")
            assert await kit.types(session) == [], "it is stored nowhere"
            first = await kit.manager.submit(session, ME, "an apple", (), "key")
            again = await kit.manager.submit(session, ME, "an apple", (), "key")
            assert (again.turn, again.duplicate) == (first.turn, True), "what was said is known by what was said"
            with refused("idempotency_conflict"):
                await kit.manager.submit(session, ME, "an pear", (), "key")
            (queued, *_) = await kit.events(session)
            assert queued.data["text"] == "an pear"

    run(main)


def test_the_files_of_a_message_are_put_down_as_they_may_be_or_not_at_all(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("a")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, around=AROUND) as kit:
            session = await kit.session()
            with refused("policy_denied", "no bombs"):
                await kit.manager.submit(session, ME, "see", [("a.txt", b"fine"), ("b.txt", b"a bomb")])
            with refused("bad_request", "plain file name"):
                await kit.manager.submit(session, ME, "see", [("../b.txt", b"a bomb")])
            assert await kit.types(session) == [], "it is stored nowhere"
            assert not (tmp_path / "workspaces" / session / "a.txt").exists()
            files = [("a.txt", b"an apple")]
            first = await kit.manager.submit(session, ME, "see", files, "key")
            again = await kit.manager.submit(session, ME, "see", files, "key")
            assert (again.turn, again.duplicate) == (first.turn, True)
            assert (tmp_path / "workspaces" / session / "a.txt").read_bytes() == b"an pear"
            (queued, *_) = await kit.events(session)
            assert queued.data["files"] == [{"name": "a.txt", "size": 7}]

    run(main)


def test_a_message_to_a_turn_that_runs_is_looked_into_too(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("while [ ! -e go ]; do sleep 0.05; done")]), Reply([Text("done")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, around=AROUND) as kit:
            session, turn = await begun(kit, until="tool.started")
            with refused("policy_denied"):
                await steer(kit, session, "a bomb")
            accepted = await steer(kit, session, "an apple")
            (stored,) = await kit.journal.read_events(session, after=accepted.seq - 1, through=accepted.seq)
            assert (stored.type, stored.data["text"]) == ("turn.steered", "an pear")
            (tmp_path / "workspaces" / session / "go").touch()
            await ended(kit, turn)

    run(main)


def test_a_tool_is_called_with_what_may_be_or_not_at_all(tmp_path: Path) -> None:
    calls = [bash("echo one"), bash("echo apple"), bash("echo bomb > ran")]
    model = ScriptedModel([*(Reply([call]) for call in calls), Reply([Text("done")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, around=AROUND) as kit:
            session = await kit.session()
            await kit.ask(session, "do it")
            done = [
                event.data["content"].strip() for event in await kit.events(session) if event.type == "tool.finished"
            ]
            assert done == ["one", "pear", "Not run: no bombs."]
            assert not (tmp_path / "workspaces" / session / "ran").exists()

    run(main)


def test_the_command_of_a_skill_is_not_changed_but_not_run(tmp_path: Path) -> None:
    """Its words are what runs: what would have to be another input is another command."""

    class Late(NoApples):
        async def message(self, owner_uid: int, session: str, text: str) -> str:
            return text

    skill = tmp_path / "skill" / "fruit"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: fruit\ndescription: Says a fruit.\n---\n")
    (skill / "scripts/say.sh").write_text('#!/bin/sh\necho "$@"\n')
    (skill / "scripts/say.sh").chmod(0o755)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([]), skills=[skill], around={"screen": Late()}) as kit:
            session = await kit.session()
            for said, expected in (
                ("pear", "pear"),
                ("apple", "names what must not be passed on"),
                ("bomb", "no bombs"),
            ):
                await kit.ask(session, f"/fruit {said}")
                finished = [event for event in await kit.events(session) if event.type == "tool.finished"]
                assert expected in finished[-1].data["content"]

    run(main)


def test_the_tools_of_an_agent_are_looked_into_before_it_is_permitted(tmp_path: Path) -> None:
    asks = [UseTool("Bash", {"command": command}, ask=True, id=command) for command in ("make apple", "make bomb")]

    async def main() -> None:
        agents = ScriptedAgents([[*asks, Say("ok")]])
        async with open_agents(tmp_path, agents, around=AROUND) as kit:
            session = await kit.session(**AGENT, policy={"preset": "full"})
            await kit.ask(session, "build")
            done = {e.data["id"]: e.data for e in await kit.events(session) if e.type == "tool.finished"}
            assert "no bombs" in done["make bomb"]["content"]
            assert not done["make apple"]["is_error"]

    run(main)
