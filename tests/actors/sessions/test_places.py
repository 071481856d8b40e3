"""Conversations of several places: each tool goes where it belongs, and what one lacks keeps no other from work."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from policy_kit import ruled
from session_kit import ME, Kit, open_kit
from skill_actors.backends import Executor, ToolCall, ToolContext, ToolResult, Workspace, WorkspaceSpec
from skill_actors.errors import Refused
from skill_actors.sessions.bill import stored_bill
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.skills import Skill, load_skill
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

SECOND = {"backend": "local", "name": "second"}
TWO: Sequence[Any] = ["local", SECOND]


def bash(command: str, place: str = "") -> ToolUse:
    name = f"{place}_bash_tool" if place else "bash_tool"
    return ToolUse(name, {"command": command, "description": "d"})


def results(model: ScriptedModel) -> list[str]:
    """Of the calls before the last request."""
    blocks = model.requests[-1].messages[-1]["content"]
    return [str(block["content"]) for block in blocks if block["type"] == "tool_result"]


async def play(kit: Kit, model: ScriptedModel, session: str, *calls: ToolUse, text: str = "go") -> list[str]:
    model.enqueue(Reply(list(calls)), Reply([Text("done")]))
    turn = await kit.ask(session, text)
    assert turn["status"] == "finished", turn
    return results(model)


def story(
    tmp_path: Path,
    tell: Callable[[Kit, ScriptedModel], Awaitable[None]],
    *,
    skills: Sequence[Path] = (),
    **more: Any,
) -> None:
    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model, skills=skills, **more) as kit:
            await tell(kit, model)

    run(main)


def make_skill(folder: Path, *, allowed: str = "") -> Path:
    root = folder / "tides"
    (root / "scripts").mkdir(parents=True)
    extra = f"allowed-tools: {allowed}\n" if allowed else ""
    (root / "SKILL.md").write_text(f"---\nname: tides\ndescription: Tells tides.\n{extra}---\nTwice a day.\n")
    (root / "scripts/run.py").write_text("import os\nprint('tide', os.environ.get('TIDE'), *os.sys.argv[1:])\n")
    return root


def test_each_place_has_its_own_files_and_its_calls_say_where_they_ran(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        said = await play(kit, model, session, bash("echo main > a; pwd"), bash("ls; echo two > b; pwd", "second"))
        workspaces = tmp_path / "workspaces"
        assert said[0].splitlines()[0] == str(workspaces / session)
        assert said[1].splitlines()[0] == str(workspaces / f"{session}.second")
        assert (workspaces / session / "a").read_text() == "main\n"
        assert (workspaces / f"{session}.second" / "b").read_text() == "two\n"
        started = {e.data["name"]: e.data for e in await kit.events(session) if e.type == "tool.started"}
        assert (started["bash_tool"]["place"], started["bash_tool"]["backend"]) == ("local", "local")
        assert (started["second_bash_tool"]["place"], started["second_bash_tool"]["backend"]) == ("second", "local")
        names = [tool["name"] for tool in model.requests[-1].tools]
        assert {"view", "bash_tool", "second_view", "second_bash_tool", "hand_over"} <= set(names)
        assert "The place second (local) works in" in model.requests[-1].system

    story(tmp_path, tell)


def test_one_place_is_as_it_ever_was(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=[SECOND])
        await play(kit, model, session, bash("true"))
        assert [tool["name"] for tool in model.requests[-1].tools] == [
            "view", "bash_tool", "create_file", "str_replace"
        ]  # fmt: skip
        assert "The place" not in model.requests[-1].system

    story(tmp_path, tell)


def test_a_file_is_handed_over_by_name_and_a_bad_one_is_an_error(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        over = {"from": "local", "to": "second"}
        await play(kit, model, session, bash("mkdir d; printf x > d/a.txt; ln -s /etc/hostname link; mkfifo pipe"))
        said = await play(
            kit, model, session,
            ToolUse("hand_over", {"name": "d/a.txt", **over}),
            ToolUse("hand_over", {"name": "link", **over}),
            ToolUse("hand_over", {"name": "pipe", **over}),
            ToolUse("hand_over", {"name": "../../journal.db", **over}),
            ToolUse("hand_over", {"name": "gone", **over}),
            ToolUse("hand_over", {"name": "d/a.txt", "from": "local", "to": "moon"}),
        )  # fmt: skip
        assert "is in the place second now" in said[0]
        for text, why in zip(said[1:], ["link", "regular", "'..'", "no file", "no place"], strict=True):
            assert why in text
        there = tmp_path / "workspaces" / f"{session}.second"
        assert sorted(os.listdir(there)) == ["d"]
        assert (there / "d/a.txt").read_text() == "x"
        assert (await play(kit, model, session, bash("cat d/a.txt", "second")))[0].startswith("x")

    story(tmp_path, tell)


def test_what_is_too_large_is_not_handed_over_and_leaves_nothing(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        await play(kit, model, session, bash("head -c 2000 /dev/zero > big"))
        said = await play(kit, model, session, ToolUse("hand_over", {"name": "big", "from": "local", "to": "second"}))
        assert "larger than the 1000 bytes" in said[0]
        assert os.listdir(tmp_path / "workspaces" / f"{session}.second") == []

    story(tmp_path, tell, defaults=SessionDefaults(hand_over_bytes=1000))


@pytest.mark.parametrize("rule", ["bash_tool", "second_bash_tool"])
def test_what_is_denied_is_denied_in_every_place(tmp_path: Path, rule: str) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        said = await play(kit, model, session, bash("echo ran > proof", "second"))
        assert "denies" in said[0]
        assert not (tmp_path / "workspaces" / f"{session}.second" / "proof").exists()
        offered = {tool["name"] for tool in model.requests[-1].tools}
        assert "second_bash_tool" not in offered
        assert ("bash_tool" in offered) == (rule == "second_bash_tool")

    story(tmp_path, tell, defaults=SessionDefaults(policy=ruled(deny=[rule])))


@pytest.mark.parametrize("rule", ["deny", "ask"])
def test_handing_over_can_be_kept_from_the_model(tmp_path: Path, rule: str) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        over = ToolUse("hand_over", {"name": "a", "from": "local", "to": "second"})
        (made, _) = await play(kit, model, session, bash("echo 1 > a"), over)
        assert not (tmp_path / "workspaces" / f"{session}.second" / "a").exists()
        assert made.startswith("(no output)")
        if rule == "deny":
            assert "hand_over" not in {tool["name"] for tool in model.requests[-1].tools}

    rules = ruled({"effect": rule, "tool": "hand_over"})
    story(tmp_path, tell, defaults=SessionDefaults(policy=rules))


def test_allowed_tools_of_an_active_skill_hold_in_every_place(tmp_path: Path) -> None:
    folder = make_skill(tmp_path / "src", allowed="Bash(git:*)")

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        load = ToolUse("load_skill", {"name": "tides"})
        model.enqueue(Reply([load]), Reply([bash("git --version", "second"), bash("id", "second")]), Reply([Text("x")]))
        assert (await kit.ask(session, "go"))["status"] == "finished"
        said = results(model)
        assert "git version" in said[0]
        assert "do not list this call" in said[1]

    story(tmp_path, tell, skills=[folder], defaults=SessionDefaults(restrict_to_allowed_tools=True))


def test_a_skills_folder_is_told_for_each_place_and_viewing_it_anywhere_gives_it_once(tmp_path: Path) -> None:
    folder = make_skill(tmp_path / "src")

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        said = await play(kit, model, session, ToolUse("load_skill", {"name": "tides"}))
        assert "In the place second its folder is " in said[0]
        there = said[0].rpartition("its folder is ")[2].rstrip(".")
        again = await play(kit, model, session, ToolUse("second_view", {"path": f"{there}/SKILL.md"}))
        assert "loaded already" in again[0]
        ran = await play(kit, model, session, bash(f"python3 {there}/scripts/run.py x", "second"))
        assert "tide None x" in ran[0]
        marked = [e.data for e in await kit.events(session) if e.type == "tool.started" and "skill" in e.data]
        assert {data["name"] for data in marked} == {"load_skill", "second_view", "second_bash_tool"}
        assert [data["name"] for data in marked if data.get("read_only")] == ["load_skill", "second_view"]

    story(tmp_path, tell, skills=[folder])


def test_a_command_of_a_skill_runs_in_the_main_place(tmp_path: Path) -> None:
    folder = make_skill(tmp_path / "src")

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        turn = await kit.ask(session, "/tides now")
        assert "tide None now" in turn["result"]["text"]
        started = next(e.data for e in await kit.events(session) if e.type == "tool.started")
        assert started["place"] == "local"

    story(tmp_path, tell, skills=[folder])


class Broken(Mapping[str, Executor]):
    """Two executors, of which one can be taken away."""

    def __init__(self, real: Executor) -> None:
        self.real = real
        self.gone: set[str] = set()

    def __getitem__(self, name: str) -> Executor:
        if name in self.gone:
            raise Refused("backend_unavailable", f"the backend {name!r} is not available: its engine is gone")
        return self.real

    def __iter__(self) -> Iterator[str]:
        return iter(("local", "docker"))

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("gone", ["local", "docker"])
def test_a_place_that_is_not_available_is_an_error_of_its_calls_and_the_others_work(tmp_path: Path, gone: str) -> None:
    made: list[Broken] = []

    def executors(local: Executor) -> Broken:
        made.append(Broken(local))
        return made[0]

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        (broken,) = made
        session = await kit.session(backends=["local", "docker"])
        broken.gone.add(gone)
        said = await play(kit, model, session, bash("echo one"), bash("echo two", "docker"))
        lost, kept = (said[0], said[1]) if gone == "local" else (said[1], said[0])
        assert f"The place {gone} ({gone}) cannot run this: " in lost
        assert "its engine is gone" in lost
        assert kept.startswith("two" if gone == "local" else "one")
        assert "cannot be used now" in model.requests[-1].system
        broken.gone.clear()
        said = await play(kit, model, session, bash("echo one"), bash("echo two", "docker"))
        assert [text.split()[0] for text in said] == ["one", "two"]

    story(tmp_path, tell, executors=executors)


def test_files_of_all_places_go_with_a_fork_and_with_the_session(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        await play(kit, model, session, bash("echo 1 > a"), bash("echo 2 > b", "second"))
        fork = str((await kit.manager.fork(session, ME))["id"])
        workspaces = tmp_path / "workspaces"
        assert (workspaces / f"{fork}.second" / "b").read_text() == "2\n"
        await kit.manager.delete(session, ME)
        assert sorted(p.name for p in workspaces.iterdir()) == [fork, f"{fork}.second"]
        assert (await play(kit, model, fork, bash("cat b", "second")))[0].startswith("2")
        await kit.manager.reset(fork, ME, workspace=True)
        assert list(workspaces.iterdir()) == []

    story(tmp_path, tell)


def test_folders_of_places_whose_session_is_gone_are_swept(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        await play(kit, model, session, bash("echo 2 > b", "second"))
        ghost = "ses_" + "a" * 26
        workspaces = tmp_path / "workspaces"
        (workspaces / f"{ghost}.second").mkdir()
        (workspaces / "other.folder").mkdir()
        assert await kit.manager.ownerless_workspaces() == [ghost]
        await kit.manager.sweep_workspaces(await kit.manager.workspaces())
        assert {p.name for p in workspaces.iterdir()} == {session, f"{session}.second", "other.folder"}

    story(tmp_path, tell)


@pytest.mark.parametrize(
    ("backends", "code", "why"),
    [
        (["local", "local"], "bad_request", "more than once"),
        (["local", {"backend": "local", "name": "Upper"}], "bad_request", "lower case"),
        (["local", "moon"], "backend_unavailable", "moon"),
        (["local", "anthropic"], "backend_unavailable", "no hosted execution"),
        (["anthropic"], "backend_unavailable", "no hosted execution"),
        (["native"], "backend_unavailable", "native"),
    ],
)  # fmt: skip
def test_places_that_cannot_be_had_are_refused_when_the_session_is_made(
    tmp_path: Path, backends: list[Any], code: str, why: str
) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        with pytest.raises(Refused, match=why) as refused:
            await kit.session(backends=backends)
        assert refused.value.code == code

    story(tmp_path, tell)


def test_secrets_go_to_a_skills_own_script_in_every_place(tmp_path: Path) -> None:
    from skill_actors.skills.secrets import SecretSource, SkillSecrets

    folder = make_skill(tmp_path / "src")
    (tmp_path / "token").write_text("spring-tide")
    (tmp_path / "token").chmod(0o600)
    secrets = SkillSecrets({"tides": {"TIDE": SecretSource(path=tmp_path / "token")}})

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path, model, around={"secrets": secrets}) as kit:
            skill = load_skill(folder, trusted=True)
            assert isinstance(skill, Skill)
            kit.snapshot = replace(kit.snapshot, skills={skill.name: skill})
            session = await kit.session(backends=TWO)
            said = await play(kit, model, session, ToolUse("load_skill", {"name": "tides"}))
            there = said[0].rpartition("its folder is ")[2].rstrip(".")
            own = f"python3 {there}/scripts/run.py"
            said = await play(kit, model, session, bash(own, "second"), bash(f"{own}; env", "second"))
            assert said[0].startswith("tide ***")
            assert said[1].startswith("tide None")
            assert "spring-tide" not in json.dumps([e.to_dict() for e in await kit.events(session)])

    run(main)


class Paid:
    """An executor whose calls cost something."""

    def __init__(self, real: Executor) -> None:
        self._real = real
        self.name, self.capabilities = real.name, real.capabilities
        self.tools, self.check, self.aclose = real.tools, real.check, real.aclose

    async def open(self, spec: WorkspaceSpec) -> Workspace:
        workspace = await self._real.open(spec)
        execute = workspace.execute

        async def paid(call: ToolCall, context: ToolContext) -> ToolResult:
            cost_usd = float("nan") if "nonsense" in str(call.input) else 0.25
            return replace(await execute(call, context), cost_usd=cost_usd)

        return cast(
            "Workspace",
            SimpleNamespace(
                root=workspace.root, path_of_skill=workspace.path_of_skill, execute=paid, aclose=workspace.aclose
            ),
        )


def test_what_a_backend_says_that_its_calls_cost_is_in_the_cost_of_the_turn(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session()
        model.enqueue(Reply([bash("true"), bash("true"), bash("echo nonsense")]), Reply([Text("x")]))
        turn = await kit.ask(session, "go")
        assert 0.5 < turn["result"]["cost_usd"] < 0.6
        finished = [e.data.get("cost_usd") for e in await kit.events(session) if e.type == "tool.finished"]
        assert sorted(finished, key=str) == [0.25, 0.25, None]
        bill = stored_bill(await kit.events(session), turn["turn"], lambda _model, _usage, **_more: 0.0)
        assert bill.known_usd == 0.5

    story(tmp_path, tell, executors=lambda local: {"local": Paid(local)})


def test_a_file_for_which_there_is_no_room_is_not_handed_over(tmp_path: Path) -> None:
    async def tell(kit: Kit, model: ScriptedModel) -> None:
        session = await kit.session(backends=TWO)
        await play(kit, model, session, bash("head -c 40000 /dev/zero > big"))
        over = {"name": "big", "from": "local", "to": "second"}
        said = await play(kit, model, session, ToolUse("hand_over", over))
        assert not (tmp_path / "workspaces" / f"{session}.second" / "big").exists(), said
        with pytest.raises(Refused) as refused:
            await kit.manager.hand_overs.hand_over(session, ME, over)
        assert refused.value.code in ("storage_full", "too_large")

    story(tmp_path, tell, defaults=SessionDefaults(workspace_bytes=60_000))


def test_two_tools_that_would_have_one_name_are_refused_when_the_session_is_made(tmp_path: Path) -> None:
    def executors(local: Executor) -> Mapping[str, Executor]:
        clashing = Paid(local)
        named = {**local.tools()[0], "name": "second_view"}
        clashing.tools = lambda: [*local.tools(), named]
        return {"local": clashing}

    async def tell(kit: Kit, model: ScriptedModel) -> None:
        assert await kit.session(backends=["local"])
        with pytest.raises(Refused, match="second_view") as refused:
            await kit.session(backends=TWO)
        assert refused.value.code == "bad_request"

    story(tmp_path, tell, executors=executors)
