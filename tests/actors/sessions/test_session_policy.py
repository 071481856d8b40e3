"""Rules at work in conversations: the operator's and the session's own, in every place, for skills and native tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from policy_kit import ruled
from session_kit import Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

TWO: Sequence[Any] = ["local", {"backend": "local", "name": "second"}]


def bash(command: str, place: str = "") -> ToolUse:
    name = f"{place}_bash_tool" if place else "bash_tool"
    return ToolUse(name, {"command": command, "description": "d"})


def write(path: str) -> ToolUse:
    return ToolUse("create_file", {"path": path, "file_text": "x", "description": "d"})


async def play(kit: Kit, model: ScriptedModel, session: str, *calls: ToolUse) -> list[str]:
    """What the calls of one message answered."""
    model.enqueue(Reply(list(calls)), Reply([Text("done")]))
    turn = await kit.ask(session, "go")
    assert turn["status"] == "finished", turn
    blocks = model.requests[-1].messages[-1]["content"]
    return [str(block["content"]) for block in blocks if block["type"] == "tool_result"]


def story(tmp_path: Path, tell: Callable[[Kit, ScriptedModel], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model, **more) as kit:
            await tell(kit, model)

    run(main)


def offered(model: ScriptedModel) -> set[str]:
    return {str(tool["name"]) for tool in model.requests[-1].tools}


def test_a_session_may_narrow_what_it_does(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(policy={"preset": "read-only"})
        said = await play(kit, model, session, bash("echo a | wc -c"), bash("touch made"), write("made"))
        assert said[0].split()[0] == "2"
        assert said[1].startswith("The policy of this conversation denies bash_tool (only reading is permitted).")
        assert "denies create_file" in said[2]
        assert not (tmp_path / "workspaces" / session / "made").exists()
        assert offered(model) == {"view", "bash_tool"}
        other = await kit.session()
        await play(kit, model, other, bash("touch made"))
        assert (tmp_path / "workspaces" / other / "made").exists()

    story(tmp_path, tell)


def test_a_session_cannot_widen_what_the_operator_permits(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        rules = [{"effect": "allow", "command": "touch **"}]
        session = await kit.session(policy={"preset": "full", "rules": rules, "on_ask": "deny"})
        said = await play(kit, model, session, bash("touch made"), bash("env touch made"), bash("echo $(touch made)"))
        assert ["The policy of this daemon denies bash_tool" in each for each in said] == [True] * 3
        assert not (tmp_path / "workspaces" / session / "made").exists()

    story(tmp_path, tell, defaults=SessionDefaults(policy=ruled({"effect": "deny", "command": "touch **"})))


def test_a_policy_that_is_wrong_is_refused_when_the_session_is_made(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        with pytest.raises(Refused, match=r"policy.rules\[0\].effect: expected allow, ask or deny") as refused:
            await kit.session(policy={"rules": [{"effect": "alow"}]})
        assert refused.value.code == "bad_request"

    story(tmp_path, tell)


def test_rules_name_places_and_paths_are_those_of_the_place(tmp_path: Path) -> None:
    rules = ruled(
        {"effect": "deny", "place": "second", "tool": "Bash", "command": "touch **"},
        {"effect": "deny", "tool": "Write", "path": "secret/**"},
    )

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        folder = tmp_path / "workspaces" / session
        said = await play(
            kit,
            model,
            session,
            bash("touch a"),
            bash("touch a", "second"),
            write("x/../secret/a"),
            write(f"{folder}/secret/b"),
            write("public"),
        )
        assert ["denies" in each for each in said] == [False, True, True, True, False]
        assert {path.name for path in folder.iterdir()} >= {"a", "public"}
        assert not (folder / "secret").exists()

    story(tmp_path, tell, defaults=SessionDefaults(policy=rules))


def test_the_preset_workspace_asks_where_nothing_confines_commands(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session()
        said = await play(kit, model, session, bash("touch a"), write("b"))
        assert said[0].startswith("Not run")
        assert "commands are not confined here" in said[0]
        assert [path.name for path in (tmp_path / "workspaces" / session).iterdir()] == ["b"]

    story(tmp_path, tell, defaults=SessionDefaults(policy=ruled(preset="workspace")))


def test_new_rules_hold_for_the_next_call(tmp_path: Path) -> None:
    defaults = SessionDefaults()

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session()
        assert "denies" not in (await play(kit, model, session, bash("touch a")))[0]
        defaults.policy = ruled(
            {"effect": "deny", "user": 4242, "tool": "Bash"}, {"effect": "deny", "command": "touch"}
        )
        assert "denies" in (await play(kit, model, session, bash("touch b")))[0]

    story(tmp_path, tell, defaults=defaults)
