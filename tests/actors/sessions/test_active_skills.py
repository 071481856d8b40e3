"""Skills in a conversation: loaded once, told when they change, active to the end of the turn."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy_kit import ruled
from session_kit import ME, Kit, open_kit
from skill_actors.backends.base import ToolCall, ToolContext, ToolResult
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.history import History
from skill_actors.sessions.surroundings import PinnedSkill, SessionDefaults, SkillUses
from skill_actors.skills import Skill, load_skill
from skill_actors.skills.activation import content_key
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

BODY = "Tides come twice a day."


def make(folder: Path, name: str = "tides", *, body: str = BODY, extra: str = "", script: str = "print(1)") -> Path:
    root = folder / name
    (root / "scripts").mkdir(parents=True, exist_ok=True)
    (root / "SKILL.md").write_text(f"---\nname: {name}\ndescription: d of {name}\n{extra}---\n{body}\n")
    (root / "scripts/run.py").write_text(script)
    return root


def serve(kit: Kit, *folders: Path, trusted: bool = True) -> None:
    """The skills that the next turn gets."""
    skills = [skill for folder in folders if isinstance(skill := load_skill(folder, trusted=trusted), Skill)]
    assert len(skills) == len(folders)
    by_name = {skill.name: skill for skill in skills}
    kit.snapshot = replace(kit.snapshot, generation=kit.snapshot.generation + 1, skills=by_name)


def load(name: str = "tides") -> ToolUse:
    return ToolUse("load_skill", {"name": name})


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


class Talk:
    """One conversation with a model that makes the calls it is told to make."""

    def __init__(self, kit: Kit, model: ScriptedModel, session: str) -> None:
        self.kit = kit
        self.model = model
        self.session = session

    async def calls(self, *rounds: Sequence[ToolUse], text: str = "go") -> list[str]:
        """A turn in which the model makes these calls, message by message; the results of the last message's."""
        self.model.enqueue(*(Reply(calls) for calls in rounds), Reply([Text("done")]))
        turn = await self.kit.ask(self.session, text)
        assert turn["status"] == "finished", turn
        return [block["content"] for block in self.last_message() if block["type"] == "tool_result"]

    def last_message(self) -> list[dict[str, Any]]:
        content = self.model.requests[-1].messages[-1]["content"]
        assert isinstance(content, list)
        return content

    def notes(self) -> list[str]:
        """What was added to the user's message of the latest turn."""
        users = [m for m in self.model.requests[-1].messages if m["role"] == "user"]
        texts = [block["text"] for m in users for block in m["content"] if block["type"] == "text"]
        last = max(index for index, text in enumerate(texts) if not text.startswith("["))
        return [text for text in texts[last:] if text.startswith("[skilld:") and "the skill '" in text]

    def shown(self, text: str = BODY) -> int:
        """How often the model's latest request holds the text."""
        return json.dumps(list(self.model.requests[-1].messages)).count(text)

    async def root(self, name: str = "tides") -> str:
        """Where tools see the skill."""
        finished = [e for e in await self.kit.events(self.session) if "skill_loaded" in e.data]
        return str([e.data["skill_loaded"]["folder"] for e in finished if e.data["skill_loaded"]["name"] == name][-1])


def talk(
    tmp_path: Path,
    story: Callable[[Talk], Awaitable[None]],
    *folders: Path,
    defaults: SessionDefaults | None = None,
    trusted: bool = True,
    **settings: Any,
) -> None:
    """Play the story with these skills."""

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model, defaults=defaults) as kit:
            serve(kit, *folders, trusted=trusted)
            await story(Talk(kit, model, await kit.session(**settings)))

    run(main)


def test_load_skill_gives_the_instructions_and_marks_the_result(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load()])
        assert result.startswith('<skill_content name="tides" folder="')
        assert BODY in result
        assert "scripts/run.py" in result
        events = await talk.kit.events(talk.session)
        (finished,) = [e.data for e in events if e.type == "tool.finished"]
        skill = talk.kit.snapshot.skills["tides"]
        folder = str(tmp_path / "skills" / skill.digest)
        assert finished["skill_loaded"] == {"name": "tides", "content": content_key(skill), "folder": folder}
        (started,) = [e.data for e in events if e.type == "tool.started"]
        assert started["skill"] == {"name": "tides", "digest": skill.digest}
        assert started["read_only"] is True

    talk(tmp_path, story, make(tmp_path / "live"))


@pytest.mark.parametrize("view_range", [None, [1, -1], [1, 2], [3, 4]])
def test_viewing_skill_md_gives_the_instructions_as_well(tmp_path: Path, view_range: list[int] | None) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load("other")])
        path = f"{Path(await talk.root('other')).parent}/{talk.kit.snapshot.skills['tides'].digest}/./SKILL.md"
        view = ToolUse("view", {"path": path} if view_range is None else {"path": path, "view_range": view_range})
        (result,) = await talk.calls([view])
        assert result.startswith('<skill_content name="tides"')
        (again,) = await talk.calls([view])
        assert "loaded already" in again
        assert talk.shown() == 1

    talk(tmp_path, story, make(tmp_path / "live"), make(tmp_path / "live", "other", body="Other."))


def test_every_spelling_of_the_location_is_the_location(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        root = await talk.root()
        workspace = (await talk.calls([bash("pwd")]))[0].strip()
        near = "../" * workspace.count("/") + root[1:]
        spellings = [f"/{root}/SKILL.md", f"//{root}/SKILL.md", f"{root}//SKILL.md", f"{root}/scripts/../SKILL.md"]
        for path in (*spellings, f"{near}/SKILL.md", f"./{near}/./SKILL.md"):
            (result,) = await talk.calls([ToolUse("view", {"path": path})])
            assert "loaded already" in result, path
        for path in (f"{root}/scripts/run.py", f"{root}x/SKILL.md", f"{root}/scripts/SKILL.md", root):
            (result,) = await talk.calls([ToolUse("view", {"path": path})])
            assert "loaded already" not in result, path

    talk(tmp_path, story, make(tmp_path / "live"))


def test_a_view_that_makes_no_sense_is_refused_as_always(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        path = f"{await talk.root()}/SKILL.md"
        results = await talk.calls(
            [ToolUse("view", {"path": path, "view_range": [9, 1]}), ToolUse("view", {"path": path, "lines": 3})]
        )
        assert "before its begin" in results[0]
        assert "unknown field lines" in results[1]

    talk(tmp_path, story, make(tmp_path / "live"))


def test_the_same_instructions_are_given_once_whatever_asks_for_them(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        both = await talk.calls([load(), load()])
        assert sorted("<skill_content" in result for result in both) == [False, True]
        view = ToolUse("view", {"path": f"{await talk.root()}/SKILL.md"})
        for result in await talk.calls([load()], [view, load()]):
            assert "loaded already" in result
        assert talk.shown() == 1

    talk(tmp_path, story, make(tmp_path / "live"))


def test_after_a_restart_they_are_known_to_be_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "live")

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model) as kit:
            serve(kit, folder)
            session = await kit.session()
            await Talk(kit, model, session).calls([load()])
        async with open_kit(tmp_path, model) as kit:
            serve(kit, folder)
            again = Talk(kit, model, session)
            assert "loaded already" in (await again.calls([load()]))[0]
            assert (again.shown(), again.notes()) == (1, [])

    run(main)


def test_a_fork_holds_what_its_history_holds(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls()
        before = (await talk.kit.events(talk.session))[-1].seq
        await talk.calls([load()])
        early = await talk.kit.manager.fork(talk.session, ME, after=before)
        late = await talk.kit.manager.fork(talk.session, ME)
        for fork, given in ((early, True), (late, False)):
            copy = Talk(talk.kit, talk.model, fork["id"])
            (result,) = await copy.calls([load()])
            assert ("<skill_content" in result) is given
            assert copy.shown() == 1

    talk(tmp_path, story, make(tmp_path / "live"))


def test_after_a_reset_they_are_given_anew(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        await talk.kit.manager.reset(talk.session, ME)
        (result,) = await talk.calls([load()])
        assert result.startswith("<skill_content")
        assert talk.shown() == 1

    talk(tmp_path, story, make(tmp_path / "live"))


def test_an_imported_conversation_elsewhere_is_told_the_folder_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "live")

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path / "here", model) as kit:
            serve(kit, folder)
            session = await kit.session()
            await Talk(kit, model, session).calls([load()])
            async with kit.manager.export(session, ME) as lines:
                raw = b"".join([f"{line}\n".encode() async for line in lines])
        async with open_kit(tmp_path / "there", model) as kit:
            serve(kit, folder)
            copy = Talk(kit, model, (await kit.manager.import_session(ME.uid, raw))["id"])
            (result,) = await copy.calls([load()])
            assert "loaded already" in result
            there = str(tmp_path / "there" / "skills")
            assert [there in note and "its instructions are as they were" in note for note in copy.notes()] == [True]
            assert there in result
            assert copy.shown() == 1
            await copy.calls()
            assert copy.notes() == []

    run(main)


def test_marks_in_an_import_that_are_not_ours_do_no_harm(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        async with talk.kit.manager.export(talk.session, ME) as lines:
            told = [json.loads(line) async for line in lines]
        marks: list[Any] = [7, [], {}, {"name": 1, "content": None, "folder": []}, {"name": "x" * 9999}]
        for mark in marks:
            for line in told:
                if "skill_loaded" in line.get("data", {}):
                    line["data"]["skill_loaded"] = mark
            raw = b"".join(json.dumps(line).encode() + b"\n" for line in told)
            copy = Talk(talk.kit, talk.model, (await talk.kit.manager.import_session(ME.uid, raw))["id"])
            assert "<skill_content" in (await copy.calls([load()]))[0]

    talk(tmp_path, story, make(tmp_path / "live"))


def test_a_changed_skill_is_told_once_and_given_anew(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        serve(talk.kit, make(tmp_path / "live", body="Tides come three times."))
        await talk.calls(text="two")
        (note,) = talk.notes()
        assert "'tides' was changed since it was loaded above: load it again" in note
        await talk.calls(text="three")
        assert talk.notes() == []
        (result,) = await talk.calls([load()])
        assert result.startswith("These instructions replace")
        assert (talk.shown(), talk.shown("three times")) == (1, 1)
        (result,) = await talk.calls([load()])
        assert "loaded already" in result
        events = await talk.kit.events(talk.session)
        assert [e.data["name"] for e in events if e.type == "skill.changed"] == ["tides"]

    talk(tmp_path, story, make(tmp_path / "live"))


def test_a_change_that_is_taken_back_needs_no_second_copy(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        serve(talk.kit, make(tmp_path / "live", body="For a moment only."))
        await talk.calls()
        serve(talk.kit, make(tmp_path / "live"))
        (result,) = await talk.calls([load()])
        assert "as they were" in talk.notes()[0]
        assert "loaded already" in result
        assert talk.shown() == 1

    talk(tmp_path, story, make(tmp_path / "live"))


def test_where_only_files_changed_the_new_folder_is_told(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        serve(talk.kit, make(tmp_path / "live", script="print(2)"))
        (result,) = await talk.calls([load()])
        (note,) = talk.notes()
        digest = talk.kit.snapshot.skills["tides"].digest
        assert f"Its folder is now {tmp_path / 'skills' / digest}." in note
        assert "loaded already" in result
        assert digest in result

    talk(tmp_path, story, make(tmp_path / "live"))


def test_a_skill_that_is_gone_is_told_and_comes_back_without_a_second_copy(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        serve(talk.kit, make(tmp_path / "live", "other"))
        (result,) = await talk.calls([load()])
        assert "cannot be used any more" in talk.notes()[0]
        assert result == "There is no skill 'tides'. There are: other."
        await talk.calls()
        assert talk.notes() == []
        serve(talk.kit, make(tmp_path / "live"))
        (result,) = await talk.calls([load()])
        assert "Its folder is now" in talk.notes()[0]
        assert "loaded already" in result
        assert talk.shown() == 1

    talk(tmp_path, story, make(tmp_path / "live"))


def test_unknown_names_are_answered_with_near_ones(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        results = await talk.calls([load("tide"), load("../x"), ToolUse("load_skill", {"name": 7}), load("hidden")])
        assert results[0] == "There is no skill 'tide'. Did you mean: tides."
        assert results[1] == "There is no skill '../x'. There are: tides."
        assert 'must be {"name": NAME}' in results[2]
        assert results[3] == "There is no skill 'hidden'. There are: tides."
        assert all(block["is_error"] for block in talk.last_message())

    hidden = make(tmp_path / "live", "hidden", extra="disable-model-invocation: true\n")
    talk(tmp_path, story, make(tmp_path / "live"), hidden)


def test_a_hidden_skill_is_for_users_only(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        turn = await talk.kit.ask(talk.session, "/hidden x")
        assert turn["result"]["text"].strip() == "1"
        await talk.calls()
        assert "<skills>" not in talk.model.requests[-1].system
        assert "load_skill" not in [tool["name"] for tool in talk.model.requests[-1].tools]

    talk(tmp_path, story, make(tmp_path / "live", "hidden", extra="disable-model-invocation: true\n"))


def test_a_hidden_skill_is_not_put_to_use_by_a_model_that_finds_its_file(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.kit.ask(talk.session, "/hidden x")  # the history has its folder now
        skill = talk.kit.snapshot.skills["hidden"]
        view = ToolUse("view", {"path": str(tmp_path / "skills" / skill.digest / "SKILL.md")})
        (result,) = await talk.calls([view], [bash("echo yes")])
        assert result.startswith("Not run")
        assert "skill_loaded" not in str([e.data for e in await talk.kit.events(talk.session)])

    hidden = make(tmp_path / "live", "hidden", extra=f"disable-model-invocation: true\n{GIT}")
    talk(tmp_path, story, hidden, defaults=ASKS)


class _Room:
    """A place where skills lie as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of_skill(self, copy: Path) -> str:
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


def test_among_very_many_skills_a_near_name_is_found_at_once(tmp_path: Path) -> None:
    pins = [
        PinnedSkill(Skill(name=name, description="d", root=Path("/x"), digest=name, body="b"), tmp_path / name)
        for name in (f"skill-number-{number:05}" for number in range(20_000))
    ]
    skills = ActiveSkills(pins, _Room(tmp_path), History(), SkillUses(), max_chars=1000)
    began = time.process_time()
    for _ in range(20):
        call = ToolCall(id="t", name="load_skill", input={"name": "skill-number-05000x"})
        assert "Did you mean: skill-number-05000," in skills.answer(call).result.content
    assert time.process_time() - began < 2.0  # compared with all of them it would take seven seconds


def test_a_skill_that_the_session_may_not_use_cannot_be_loaded(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load()])
        assert result == "There is no skill 'tides'. There are: other."

    talk(tmp_path, story, make(tmp_path / "live"), make(tmp_path / "live", "other"), skills=["other"])


def test_without_skills_there_is_neither_tool_nor_catalogue(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load()])
        assert "There is no tool 'load_skill'" in result
        assert "load_skill" not in [tool["name"] for tool in talk.model.requests[-1].tools]
        assert "<skills>" not in talk.model.requests[-1].system

    talk(tmp_path, story)


def test_long_instructions_are_cut_and_can_be_read_on_and_nothing_is_given_twice(tmp_path: Path) -> None:
    body = "\n".join(f"line {number} of the instructions" for number in range(1, 101))

    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load()])
        assert "[Cut after " in result
        path = f"{await talk.root()}/SKILL.md"
        (rest,) = await talk.calls([ToolUse("view", {"path": path, "view_range": [95, 104]})])
        assert "line 99 of the instructions" in rest
        (whole,) = await talk.calls([ToolUse("view", {"path": path})])
        assert "loaded already" in whole

    talk(tmp_path, story, make(tmp_path / "live", body=body), defaults=SessionDefaults(tool_output_chars=1000))


# What a skill allows.

ASKS = SessionDefaults(policy=ruled(ask=["bash_tool"]))
GIT = "allowed-tools: Bash(echo:*)\n"


def test_an_active_skill_approves_from_the_next_message_to_the_end_of_the_turn(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([bash("echo yes")])
        assert result.startswith("Not run: bash_tool needs an approval")
        assert "load that skill" in result
        together = await talk.calls([load(), bash("echo yes")])
        assert together[1].startswith("Not run")
        (result,) = await talk.calls([load()], [bash("echo yes")])
        assert result.strip() == "yes"
        (result,) = await talk.calls([load()], [bash("echo yes; id")])
        assert result.startswith("Not run")
        (result,) = await talk.calls([bash("echo yes")])
        assert result.startswith("Not run")

    talk(tmp_path, story, make(tmp_path / "live", extra=GIT), defaults=ASKS)


def test_an_approval_is_not_given_by_a_skill_that_is_not_trusted(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load()], [bash("echo yes")])
        assert result.startswith("Not run")

    talk(tmp_path, story, make(tmp_path / "live", extra=GIT), defaults=ASKS, trusted=False)


def test_what_did_not_run_left_no_trace_but_its_result(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([bash("echo x > ran")])
        assert not list((tmp_path / "workspaces").rglob("ran"))
        assert "tool.started" not in await talk.kit.types(talk.session)

    talk(tmp_path, story, defaults=ASKS)


def test_a_denied_tool_is_not_offered_and_not_run_whatever_a_skill_lists(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load()], [bash("echo yes")])
        assert "denies bash_tool" in result
        assert "bash_tool" not in [tool["name"] for tool in talk.model.requests[-1].tools]

    defaults = SessionDefaults(policy=ruled(deny=["bash_tool"]))
    talk(tmp_path, story, make(tmp_path / "live", extra="allowed-tools: '*'\n"), defaults=defaults)


def test_restricted_conversations_do_what_their_active_skills_list(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([bash("id")])
        assert "uid=" in result
        write = ToolUse("create_file", {"path": "a", "file_text": "x", "description": "d"})
        results = await talk.calls([load()], [bash("echo yes"), bash("id"), write])
        assert results[0].strip() == "yes"
        assert all("do not list this call" in result for result in results[1:])
        (result,) = await talk.calls([write])
        assert "do not list" not in result

    defaults = SessionDefaults(restrict_to_allowed_tools=True)
    talk(tmp_path, story, make(tmp_path / "live", extra=GIT), defaults=defaults)


def test_an_entry_command_is_under_the_same_policy(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        refused = await talk.kit.ask(talk.session, "/tides a b")
        assert refused["status"] == "failed"
        assert refused["result"]["error"]["code"] == refused["result"]["stop_reason"] == "policy_denied"
        assert "Not run" in refused["result"]["error"]["message"]
        ran = await talk.kit.ask(talk.session, "/runs a b")
        assert (ran["status"], ran["result"]["text"].strip()) == ("finished", "1")
        await talk.calls([bash("true")])  # the fake API takes the history only if each call in it has its result

    runs = make(tmp_path / "live", "runs", extra="allowed-tools: Bash(python3 scripts/run.py:*)\n")
    talk(tmp_path, story, make(tmp_path / "live"), runs, defaults=ASKS)


# The catalogue of a conversation.


def test_descriptions_of_skills_that_were_used_stay_longest_and_the_order_stays(tmp_path: Path) -> None:
    folders = [make(tmp_path / "live", f"s{number:02}") for number in range(40)]
    for folder in folders:
        text = f"---\nname: {folder.name}\ndescription: {folder.name} {'x' * 300}\n---\n{BODY}\n"
        (folder / "SKILL.md").write_text(text)

    def whole(talk: Talk) -> list[str]:
        system = talk.model.requests[-1].system
        return [f.name for f in folders if f"<description>{f.name} {'x' * 300}</description>" in system]

    async def story(talk: Talk) -> None:
        cut: list[Any] = []
        talk.kit.bus.attach("test", ["skill.catalogue_cut"], lambda name, numbers, meta: cut.append(dict(numbers)))
        await talk.calls([load("s39")])
        assert "s39" not in whole(talk)
        assert "There is not room for everything" in talk.model.requests[-1].system
        first = talk.model.requests[-1].system
        other = Talk(talk.kit, talk.model, await talk.kit.session())
        await other.calls()
        assert "s39" in whole(other)
        names = [part.split("<")[0] for part in other.model.requests[-1].system.split("<name>")[1:]]
        assert names == [folder.name for folder in folders]
        assert cut[0]["shortened"] > 0
        assert first == talk.model.requests[0].system  # within a turn it is the same
        await talk.calls(text="again")
        assert first == talk.model.requests[-1].system  # and in a conversation, whatever is used

    talk(tmp_path, story, *folders, defaults=SessionDefaults(catalogue_tokens=3500))


def test_hundreds_of_skills_are_listed_as_well(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        (result,) = await talk.calls([load("s250")])
        assert result.startswith('<skill_content name="s250"')
        names = [part.split("<")[0] for part in talk.model.requests[-1].system.split("<name>")[1:]]
        assert names == [f"s{number:03}" for number in range(300)]

    folders = [make(tmp_path / "live", f"s{number:03}") for number in range(300)]
    talk(tmp_path, story, *folders, defaults=SessionDefaults(catalogue_tokens=50_000))


def test_locations_are_those_of_the_place_where_tools_run(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls()
        system = talk.model.requests[-1].system
        location = system.split("<location>")[1].split("</location>")[0]
        assert location == str(tmp_path / "skills" / talk.kit.snapshot.skills["tides"].digest / "SKILL.md")
        (result,) = await talk.calls([bash(f"cat {location}")])
        assert BODY in result

    talk(tmp_path, story, make(tmp_path / "live"))


def test_a_call_is_marked_with_the_skill_whose_folder_it_names(tmp_path: Path) -> None:
    async def story(talk: Talk) -> None:
        await talk.calls([load()])
        root = await talk.root()
        commands = [f"ls {root}", f"cd '{root}/scripts'; ls", f"ls {root}x", "ls", f"ls {Path(root).parent}"]
        await talk.calls([bash(command) for command in commands])
        started = [e.data for e in await talk.kit.events(talk.session) if e.type == "tool.started"][1:]
        by_command = {data["input"]["command"]: data.get("skill", {}).get("name") for data in started}
        assert [by_command[command] for command in commands] == ["tides", "tides", None, None, None]

    talk(tmp_path, story, make(tmp_path / "live"))
