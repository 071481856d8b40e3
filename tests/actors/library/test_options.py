"""What a program chooses for a conversation, one test for each that no other file has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, says
from skill_actors.backends import Host
from skill_actors.library import Registry, SkillError, load_skills, new_local, new_native
from skill_actors.models.base import Message
from skill_actors.native import Context, NativeSkill, SkillInfo
from skill_actors.runtime import ChildSpec, TrioActor, open_system
from skill_actors.skills.copies import SkillCopies
from support import run, run_virtual


def make_skill(folder: Path, description: str = "Looks up tides.") -> Path:
    root = folder / "skills/tides"
    root.mkdir(parents=True, exist_ok=True)
    (root / "SKILL.md").write_text(f"---\nname: tides\ndescription: {description}\n---\nBody\n")
    return root


def test_commands_see_what_is_given_and_nothing_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_PROGRAM", "x")

    async def main() -> None:
        async with new_local(environment={"GIVEN": "yes"}) as session:
            result = await session.run("bash_tool", command="echo $GIVEN-$SECRET_OF_THE_PROGRAM", description="d")
            assert result.content == "yes-"

    run(main)


def test_a_result_is_no_longer_than_was_agreed() -> None:
    async def main() -> None:
        async with new_local(max_output_chars=1_000) as session:
            result = await session.run("bash_tool", command="yes | head -c 100000", description="d")
            assert len(result.content) <= 1_000

    run(main)


def test_a_skill_that_is_edited_stays_as_it_was_where_copies_are_used(tmp_path: Path) -> None:
    root = make_skill(tmp_path)
    skills = load_skills(tmp_path / "skills")

    async def main() -> None:
        async with new_local(skills.values(), copies=SkillCopies(tmp_path / "copies")) as session:
            make_skill(tmp_path, "Edited.")
            location = session.system_prompt.partition("<location>")[2].partition("</location>")[0]
            assert "Looks up tides." in (await session.run("view", path=location)).content
        async with new_local(skills.values()) as live:
            assert str(root) in live.system_prompt
            assert "Edited." in (await live.run("view", path=str(root / "SKILL.md"))).content

    run(main)


def test_a_turn_has_the_time_of_its_conversation() -> None:
    async def never(messages: Sequence[Message]) -> object:
        await trio.sleep_forever()

    async def main() -> None:
        async with new_local(executor=MemoryExecutor(), turn_timeout_s=7) as session:
            began = trio.current_time()
            with pytest.raises(SkillError, match="turn_timeout"):
                await session.chat("hi", never)
            assert trio.current_time() - began == pytest.approx(7)

    run_virtual(main)


def test_what_is_chosen_for_the_model_is_in_the_request_and_one_turn_may_choose_again() -> None:
    seen: list[Mapping[str, Any]] = []

    async def ask(request: Mapping[str, Any]) -> object:
        seen.append(request)
        return says("ok")

    async def main() -> None:
        chosen: Any = {"model_name": "large", "max_tokens": 100, "system": "Be brief."}
        async with new_local(executor=MemoryExecutor(), **chosen) as session:
            await session.chat("hi", ask)
            await session.chat("hi", ask, model_name="small", max_tokens=5, system="Be long.")
            await session.chat("hi", ask)

    run(main)
    assert [(each["model"], each["max_tokens"], each["system"]) for each in seen] == [
        ("large", 100, "Be brief."),
        ("small", 5, "Be long."),
        ("large", 100, "Be brief."),
    ]


class Who(NativeSkill):
    skill_info = SkillInfo(name="who", description="Asks the program.", allowed_tools=("execute",))

    def execute(self, command: str, context: Context) -> str:
        return str(context.ask("answers", command))


class Answers(TrioActor):
    async def on_receive(self, message: Any) -> Any:
        return f"{message}: the program"


def test_native_skills_ask_the_actors_that_are_exposed_and_no_others() -> None:
    async def main() -> None:
        async with open_system([ChildSpec(id="answers", name="answers", factory=Answers)]) as system:
            host = Host(expose={"answers": system.directory.named("answers")})
            async with new_native([Who], host=host) as session:
                assert (await session.run("who_execute", command="you")).content == "you: the program"
        async with new_native([Who]) as alone:
            with pytest.raises(SkillError, match="may not ask the actor") as refused:
                await alone.run("who_execute", command="you")
            assert refused.value.code == "native_execution_failed"

    run(main)


def test_a_registry_looks_again_by_itself_where_that_is_wanted(tmp_path: Path) -> None:
    make_skill(tmp_path)

    async def main() -> None:
        changed = trio.Event()
        async with Registry("mine", [tmp_path / "skills"], reload_s=0.05) as registry:
            registry.subscribe(lambda _change: changed.set())
            make_skill(tmp_path, "Edited.")
            await changed.wait()
            assert registry.get("tides").description == "Edited."

    run(main)


NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


def test_a_schema_is_asked_for_and_held_to_unless_a_turn_has_another() -> None:
    bodies: list[Mapping[str, Any]] = []
    answers = iter(['{"n": 1}', "text", '["a"]', '{"n": "one"}'])

    async def model(request: Mapping[str, Any]) -> object:
        await trio.lowlevel.checkpoint()
        bodies.append(request)
        return says(next(answers))

    async def main() -> None:
        async with new_local(executor=MemoryExecutor(), model_name="m", schema=NUMBER) as session:
            assert (await session.chat("a", model))[0].text == '{"n": 1}'
            assert (await session.chat("b", model, schema=None))[0].text == "text"
            assert (await session.chat("c", model, schema={"type": "array"}))[0].text == '["a"]'
            with pytest.raises(SkillError, match="not what was asked for") as raised:
                await session.chat("d", model)
            assert (raised.value.code, raised.value.details["text"]) == ("schema_mismatch", '{"n": "one"}')
            assert session.messages[-1]["content"] == [{"type": "text", "text": '{"n": "one"}'}]
            with pytest.raises(ValueError, match="schema: expected"):
                await session.chat("e", model, schema={})
        asked = [body.get("output_config", {}).get("format", {}).get("schema") for body in bodies]
        assert asked == [NUMBER, None, {"type": "array"}, NUMBER]
        with pytest.raises(ValueError, match="schema: expected"):
            async with new_local(schema="x"):  # type: ignore[arg-type]
                raise AssertionError("it was opened")

    run(main)
