"""Approvals of every kind of call: entry commands, skills, native tools, further places, what is handed over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from approval_kit import ANN, bash, conversation, defaults
from session_kit import ME, Kit
from skill_actors.backends import Host
from skill_actors.backends.native_inline import InlineNatives
from skill_actors.errors import Refused
from skill_actors.native import NativeCode
from skill_actors.skills import Skill, load_skill
from skill_actors.skills.base import NativePart
from skill_actors.skills.secrets import SecretSource, SkillSecrets
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

TWO: list[Any] = ["local", {"backend": "local", "name": "second"}]


def make_skill(folder: Path, says: str = "tide", *, allowed: str = "") -> Path:
    root = folder / "tides"
    (root / "scripts").mkdir(parents=True, exist_ok=True)
    extra = f"allowed-tools: {allowed}\n" if allowed else ""
    (root / "SKILL.md").write_text(f"---\nname: tides\ndescription: Tells tides.\n{extra}---\nTwice a day.\n")
    script = root / "scripts/run.py"
    script.write_text(f"#!/usr/bin/env python3\nimport os, sys\nprint('{says}', *sys.argv[1:])\n")
    script.chmod(0o755)
    return root


def trust(kit: Kit, folder: Path, **changes: Any) -> Skill:
    """Have the skill served as one of a trusted source."""
    skill = load_skill(folder, trusted=True)
    assert isinstance(skill, Skill)
    skill = replace(skill, **changes)
    kit.snapshot = replace(kit.snapshot, skills={skill.name: skill})
    return skill


def test_an_entry_command_is_asked_for_by_its_words_and_names_its_skill_and_secrets(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("spring-tide")
    (tmp_path / "token").chmod(0o600)
    secrets = SkillSecrets({"tides": {"TIDE": SecretSource(path=tmp_path / "token")}})

    async def main() -> None:
        async with conversation(tmp_path, around={"secrets": secrets}) as talk:
            skill = trust(talk.kit, make_skill(tmp_path / "src"))
            turn = await talk.send("/tides now 'and then'")
            (asked,) = await talk.asked()
            assert asked["argv"][-2:] == ["now", "and then"]
            assert asked["command"].endswith("/scripts/run.py now 'and then'")
            assert asked["skill"] == {"name": "tides", "digest": skill.digest}
            assert {"TIDE", "PATH", "HOME"} <= set(asked["environment"])
            assert "spring-tide" not in str(asked)
            assert [file["path"].rpartition("/")[2] for file in asked["files"]] == ["run.py"]
            with pytest.raises(Refused, match="entry command"):
                await talk.desk.decide(
                    asked["id"], ANN, {"decision": "edit", "input": {"command": "env", "description": "d"}}
                )
            await talk.allow(asked["id"])
            assert (await talk.end(turn))["result"]["text"] == "tide now and then"

    run(main)


def test_a_skill_that_is_another_version_after_a_restart_is_asked_for_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path) as talk:
            trust(talk.kit, make_skill(tmp_path / "src"))
            turn = await talk.send("/tides")
            (old,) = await talk.asked()
        make_skill(tmp_path / "src", says="flood")
        async with conversation(tmp_path, session=talk.session, skills=[tmp_path / "src/tides"]) as again:

            async def is_asked_anew() -> bool:
                return [item["id"] for item in (await again.desk.list(None))["items"]] not in ([], [old["id"]])

            await again.news.until(is_asked_anew)
            (new,) = await again.asked()
            assert new["skill"]["digest"] != old["skill"]["digest"]
            with pytest.raises(Refused, match="was cancelled"):
                await again.allow(old["id"])
            await again.allow(new["id"])
            assert (await again.end(turn))["result"]["text"] == "flood"

    run(main)


def test_instructions_of_a_skill_can_need_an_approval(tmp_path: Path) -> None:
    async def main() -> None:
        load = [ToolUse("load_skill", {"name": "tides"})]
        rules = [{"effect": "ask", "tool": "load_skill"}]
        async with conversation(tmp_path, load, load, defaults=defaults(rules)) as talk:
            trust(talk.kit, make_skill(tmp_path / "src"))
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert (asked["tool"], asked["command"], asked["cwd"]) == ("load_skill", None, None)
            await talk.allow(asked["id"], scope="session")
            await talk.end(turn)
            assert "Twice a day." in (await talk.results())[0]
            assert len(await talk.results()) == 2

    run(main)


def test_an_edit_of_which_instructions_are_given_is_told_with_them(tmp_path: Path) -> None:
    async def main() -> None:
        load = [ToolUse("load_skill", {"name": "tide"})]
        async with conversation(tmp_path, load, defaults=defaults([{"effect": "ask", "tool": "load_skill"}])) as talk:
            trust(talk.kit, make_skill(tmp_path / "src"))
            turn = await talk.send()
            (asked,) = await talk.asked()
            await talk.desk.decide(asked["id"], ANN, {"decision": "edit", "input": {"name": "tides"}})
            await talk.end(turn)
            (result,) = await talk.results()
            assert result.startswith("[skilld: ann (uid 1001) edited this call")
            assert "Twice a day." in result

    run(main)


def test_the_variables_that_are_named_are_those_that_the_command_finds(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path, [bash("env -0 | cut -z -d= -f1 | tr '\\0' ' '")]) as talk:
            turn = await talk.send()
            (asked,) = await talk.asked()
            await talk.allow(asked["id"])
            await talk.end(turn)
            (found,) = await talk.results()
            assert set(asked["environment"]) == set(found.split()) - {"PWD", "OLDPWD", "SHLVL", "_"}  # bash's own

    run(main)


def test_what_a_trusted_skill_lists_needs_no_approval_while_it_is_active(tmp_path: Path) -> None:
    async def main() -> None:
        calls = [[ToolUse("load_skill", {"name": "tides"})], [bash("echo free"), bash("date")]]
        async with conversation(tmp_path, *calls) as talk:
            trust(talk.kit, make_skill(tmp_path / "src", allowed="Bash(echo:*)"))
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert asked["command"] == "date"
            await talk.desk.decide(asked["id"], ANN, {"decision": "deny"})
            await talk.end(turn)
            assert "free" in await talk.results()

    run(main)


class Notes:
    """A native skill."""

    parallel = True

    def execute(self, command: str, context: Any) -> str:
        return f"noted {command}"


def test_a_native_tool_is_asked_for_with_its_whole_input(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    }
    code = NativeCode(skill="tides", version="1", class_name="Skill", root="/live", file="native.py")
    tools = {"execute": {"name": "tides_execute", "description": "d", "input_schema": schema}}

    async def main() -> None:
        natives = InlineNatives(Host())
        natives.offer(code, Notes())
        calls = [ToolUse("tides_execute", {"command": "a.txt"})]
        rules = [{"effect": "ask", "tool": "tides_execute"}]
        async with conversation(tmp_path, calls, defaults=defaults(rules), around={"natives": natives}) as talk:
            trust(talk.kit, make_skill(tmp_path / "src"), native=NativePart(code=code, tools=tools))
            talk.folder.mkdir(parents=True)
            (talk.folder / "a.txt").write_text("x")
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert (asked["backend"], asked["input"]) == ("native", {"command": "a.txt"})
            assert asked["skill"]["name"] == "tides"
            assert [file["path"] for file in asked["files"]] == ["a.txt"]
            edit = {"command": "b", "more": 1}
            with pytest.raises(Refused, match="unknown field 'more'"):
                await talk.desk.decide(asked["id"], ANN, {"decision": "edit", "input": edit})
            await talk.desk.decide(asked["id"], ANN, {"decision": "edit", "input": {"command": "b"}})
            await talk.end(turn)
            assert (await talk.results())[0].endswith("\nnoted b")

    run(main)


def test_a_call_in_a_further_place_is_bound_to_the_files_there(tmp_path: Path) -> None:
    async def main() -> None:
        calls = [ToolUse("second_bash_tool", {"command": "sh job.sh", "description": "d"})]
        async with conversation(tmp_path, calls, settings={"backends": TWO}) as talk:
            second = talk.folder.parent / f"{talk.session}.second"
            for folder, text in ((talk.folder, "echo main"), (second, "echo second")):
                folder.mkdir(parents=True)
                (folder / "job.sh").write_text(text)
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert (asked["place"], asked["tool"], asked["cwd"]) == ("second", "bash_tool", str(second.resolve()))
            (talk.folder / "job.sh").write_text("another of the same name in another place")
            await talk.allow(asked["id"])
            await talk.end(turn)
            assert await talk.results() == ["second"]

    run(main)


@pytest.mark.parametrize("changed", [True, False])
def test_what_is_handed_over_is_the_file_as_it_was_shown(changed: bool, tmp_path: Path) -> None:
    async def main() -> None:
        calls = [ToolUse("hand_over", {"name": "a", "from": "local", "to": "second"})]
        rules = [{"effect": "ask", "tool": "hand_over"}]
        async with conversation(tmp_path, calls, settings={"backends": TWO}, defaults=defaults(rules)) as talk:
            talk.folder.mkdir(parents=True)
            (talk.folder / "a").write_text("as shown")
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert [file["path"] for file in asked["files"]] == ["a"]
            if changed:
                (talk.folder / "a").write_text("something else")
            await talk.allow(asked["id"])
            await talk.end(turn)
            there = talk.folder.parent / f"{talk.session}.second" / "a"
            if changed:
                assert "the file a" in (await talk.results())[0]
                assert not there.exists()
            else:
                assert there.read_text() == "as shown"

    run(main)


def test_a_tool_that_writes_shows_the_file_it_replaces_and_is_refused_if_that_is_another(tmp_path: Path) -> None:
    async def main() -> None:
        write = ToolUse("create_file", {"path": "a", "file_text": "new", "description": "d"})
        async with conversation(tmp_path, [write], [write]) as talk:
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert asked["files"] == []
            talk.folder.mkdir(parents=True, exist_ok=True)
            (talk.folder / "a").write_text("somebody's work")
            await talk.allow(asked["id"])
            (again,) = await _next(talk, asked["id"])
            assert [file["path"] for file in again["files"]] == ["a"]
            assert (talk.folder / "a").read_text() == "somebody's work"
            await talk.allow(again["id"])
            await talk.end(turn)
            assert (talk.folder / "a").read_text() == "new"

    run(main)


async def _next(talk: Any, before: str) -> list[dict[str, Any]]:
    async def is_next() -> bool:
        return [item["id"] for item in (await talk.desk.list(None))["items"]] not in ([], [before])

    await talk.news.until(is_next)
    return list(await talk.asked())


def test_a_fork_and_an_import_have_none_of_what_was_allowed(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel()
        async with conversation(tmp_path, model=model) as talk:
            model.enqueue(Reply([bash("echo 1")]), Reply([Text("done")]))
            turn = await talk.send()
            (asked,) = await talk.asked()
            await talk.allow(asked["id"], scope="session")
            await talk.end(turn)
            async with talk.kit.manager.export(talk.session, ME) as lines:
                raw = "".join([f"{line}\n" if not line.endswith("\n") else line async for line in lines]).encode()
            copies = [await talk.kit.manager.fork(talk.session, ME), await talk.kit.manager.import_session(1000, raw)]
            for copy in copies:
                model.enqueue(Reply([bash("echo 1")]), Reply([Text("done")]))
                await talk.kit.manager.submit(str(copy["id"]), ME, "again")
                (there,) = await talk.asked()
                assert there["session"] == copy["id"]
                await talk.desk.decide(there["id"], ANN, {"decision": "deny"})

    run(main)


def test_what_models_write_that_is_no_text_is_stored_and_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with conversation(tmp_path, [bash("echo '\ud800\x00\x1b'")]) as talk:
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert asked["shown"] == "bash_tool: echo '\\ud800\\x00\\x1b'"
            await talk.desk.decide(asked["id"], ANN, {"decision": "deny", "reason": "\ud800"})
            await talk.end(turn)
            assert "Reason: \\ud800" in (await talk.results())[0]

    run(main)


def test_nobody_is_asked_about_a_call_that_could_not_run(tmp_path: Path) -> None:
    async def main() -> None:
        calls = [bash("cat a b c")]
        async with conversation(tmp_path, calls) as talk:
            talk.folder.mkdir(parents=True)
            with (talk.folder / "a").open("wb") as large:
                large.truncate(300 * 1024 * 1024)
            await talk.end(await talk.send())
            assert "too large to be hashed" in (await talk.results())[0]
            assert (await talk.desk.list(None, status=None))["items"] == []

    run(main)


def test_an_artifact_is_bound_by_its_content(tmp_path: Path) -> None:
    async def main() -> None:
        artifacts = [{"name": "plan.sh", "content": "echo shown"}]
        async with conversation(tmp_path, [bash("sh file://plan.sh")], settings={"artifacts": artifacts}) as talk:
            turn = await talk.send()
            (asked,) = await talk.asked()
            assert [file["path"] for file in asked["files"]] == ["artifacts/plan.sh"]
            (talk.folder / "artifacts" / "plan.sh").write_text("echo another")  # put back before it is looked at again
            await talk.allow(asked["id"])
            await talk.end(turn)
            assert await talk.results() == ["shown"]

    run(main)
