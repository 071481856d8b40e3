"""Which calls of a conversation get a skill's secrets, and that nothing of them is left in its history."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from session_kit import ME, Kit, open_kit
from skill_actors.backends.base import ToolCall
from skill_actors.sessions.grants import Grants, plain_argv
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills import Skill, load_skill
from skill_actors.skills.allowed_tools import MAX_LINE_CHARS
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.secrets import SecretSource, SkillSecrets
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run

VALUE = "s3cr3t-token-of-weather"
SHOW = 'import os\nprint("token", os.environ.get("TOKEN"), os.environ.get("PYTHONNOUSERSITE"))\n'


def write(folder: Path, script: str = SHOW) -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: d\n---\n\nBody\n")
    (folder / "scripts" / "run.py").write_text(script)
    return folder


def secrets(folder: Path, name: str = "weather", value: str = VALUE) -> SkillSecrets:
    (folder / "token").write_text(value)
    (folder / "token").chmod(0o600)
    return SkillSecrets({name: {"TOKEN": SecretSource(path=folder / "token")}})


class FakeWorkspace:
    def path_of_skill(self, copy: Path) -> str:
        return str(copy)


def pinned(name: str, copy: str, *, trusted: bool = True) -> PinnedSkill:
    skill = Skill(
        name=name, description="d", root=Path("/s") / name, digest=copy, files=("SKILL.md", "run.py"), trusted=trusted
    )
    return PinnedSkill(skill, Path(copy))


def environment(folder: Path, call: ToolCall, *pins: PinnedSkill, entry: PinnedSkill | None = None) -> dict[str, str]:
    """What the call gets, without the guard."""

    async def main() -> dict[str, str]:
        grants = Grants(secrets(folder), pins, FakeWorkspace(), entry=entry)  # type: ignore[arg-type]
        granted = await grants.judge(call)
        assert granted.hidden or not granted.environment
        if granted.environment:
            assert granted.call.argv is not None
        return {name: value for name, value in granted.environment.items() if name != "PYTHONNOUSERSITE"}

    return run(main)


def bash(command: str) -> ToolCall:
    return ToolCall(id="t", name="bash_tool", input={"command": command, "description": "d"})


def test_what_gets_a_secret_is_known_before_it_is_given(tmp_path: Path) -> None:
    weather, other = pinned("weather", "/w"), pinned("other", "/o")
    grants = Grants(secrets(tmp_path), [weather, other], FakeWorkspace(), tools={"w": "weather", "o": "other"})  # type: ignore[arg-type]
    calls = [
        bash("/w/run.py x"),
        bash("python3 /w/run.py"),
        bash("/w/run.py; id"),
        bash("cat /w/run.py"),
        bash("/o/run.py"),
    ]
    assert [grants.gets_secrets(call) for call in calls] == [True, True, False, False, False]
    assert [grants.gets_secrets(ToolCall(id="t", name=name, input={})) for name in ("w", "o", "view")] == [
        True,
        False,
        False,
    ]


WEATHER, OTHER = pinned("weather", "/c/1"), pinned("other", "/c/2")


@pytest.mark.parametrize(
    "command",
    [
        "/c/1/run.py",
        "/c/1/run.py a 'b c' --d=e",
        "python3 /c/1/run.py x",
        "bash /c/1/run.py",
        '"python3" "/c/1/run.py"',
    ],
)
def test_plain_command_of_the_skills_own_file_gets_its_secrets(tmp_path: Path, command: str) -> None:
    assert environment(tmp_path, bash(command), WEATHER, OTHER) == {"TOKEN": VALUE}


@pytest.mark.parametrize(
    "command",
    [
        "env",
        "python3 -c 'import os' /c/1/run.py",
        "python3 -i /c/1/run.py",
        "cat /c/1/run.py",
        "python3 /c/1/../2/run.py",
        "python3 /c/1/./run.py",
        "python3 /c/1/none.py",
        "python3 /c/2/run.py",
        "python3 own.py /c/1/run.py",
        "/c/1/run.py; env",
        "/c/1/run.py && env",
        "/c/1/run.py | tee x",
        "/c/1/run.py > x",
        "/c/1/run.py $(env)",
        "/c/1/run.py `env`",
        "/c/1/run.py $TOKEN",
        "/c/1/run.py *",
        "/c/1/run.py & env",
        "/c/1/run.py\nenv",
        "LD_PRELOAD=x /c/1/run.py",
        "PATH=/tmp python3 /c/1/run.py",
        "/tmp/python3 /c/1/run.py",
        "./python3 /c/1/run.py",
        "time python3 /c/1/run.py",
        "strace /c/1/run.py",
        "/c/1/run.py 'unclosed",
        "/c/1/run.py \\",
        "",
        "# /c/1/run.py",
    ],
)
def test_command_that_could_be_anything_else_gets_nothing(tmp_path: Path, command: str) -> None:
    assert environment(tmp_path, bash(command), WEATHER, OTHER) == {}


def test_entry_command_gets_the_secrets_of_its_own_skill_only(tmp_path: Path) -> None:
    call = replace(bash(""), argv=("gh", "issue", "/c/1/run.py"))
    assert environment(tmp_path, call, WEATHER, OTHER, entry=WEATHER) == {"TOKEN": VALUE}
    assert environment(tmp_path, call, WEATHER, OTHER, entry=OTHER) == {}
    assert environment(tmp_path, call, WEATHER, OTHER) == {}


def test_other_tools_and_odd_inputs_get_nothing(tmp_path: Path) -> None:
    for given_input in ({"command": ["/c/1/run.py"]}, {"path": "/c/1/run.py"}, {}):
        assert environment(tmp_path, ToolCall(id="t", name="bash_tool", input=given_input), WEATHER) == {}
    assert environment(tmp_path, ToolCall(id="t", name="view", input={"command": "/c/1/run.py"}), WEATHER) == {}


def test_skill_that_is_not_trusted_gets_nothing_under_that_name(tmp_path: Path) -> None:
    untrusted = pinned("weather", "/c/1", trusted=False)
    assert environment(tmp_path, bash("/c/1/run.py"), untrusted) == {}
    assert environment(tmp_path, replace(bash(""), argv=("/c/1/run.py",)), untrusted, entry=untrusted) == {}


def test_one_content_under_two_names_is_nobodys(tmp_path: Path) -> None:
    assert environment(tmp_path, bash("/c/1/run.py"), WEATHER, pinned("twin", "/c/1")) == {}


@given(st.text(st.sampled_from("ab '\"=-/.,:@%+^"), max_size=30))
def test_words_that_are_judged_are_those_that_a_shell_would_run(command: str) -> None:
    argv = plain_argv(command)
    if not argv or "=" in argv[0]:
        return
    asked = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", f"printf '%s\\0' {command}"],
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert asked.stdout.decode().split("\0")[:-1] == list(argv)


def test_a_command_too_long_to_be_judged_at_once_is_not_plain() -> None:
    assert plain_argv("x" * MAX_LINE_CHARS) == ("x" * MAX_LINE_CHARS,)
    assert plain_argv("x" * (MAX_LINE_CHARS + 1)) == ()


# With a real conversation


def test_call_that_gets_nothing_hides_what_others_get(tmp_path: Path) -> None:
    async def main() -> None:
        grants = Grants(secrets(tmp_path), [WEATHER], FakeWorkspace())  # type: ignore[arg-type]
        granted = await grants.judge(bash("cat what-a-script-has-written"))
        assert (granted.environment, granted.hidden) == ({}, (VALUE,))

    run(main)


async def stored(kit: Kit, session: str) -> str:
    """Everything that the journal has of the conversation."""
    return "\n".join(json.dumps([event.type, dict(event.data)]) for event in await kit.events(session))


def take(kit: Kit, *roots: Path) -> None:
    loaded = [load_skill(root, trusted=True) for root in roots]
    kit.snapshot = SkillSnapshot(generation=2, skills={s.name: s for s in loaded if isinstance(s, Skill)})


def results(kit: Kit, model: ScriptedModel) -> list[str]:
    """Contents of the tool results that the model has seen, the latest last."""
    blocks = [block for message in model.requests[-1].messages for block in message["content"]]
    return [str(block["content"]) for block in blocks if isinstance(block, dict) and block["type"] == "tool_result"]


def test_entry_command_has_the_secret_and_the_history_does_not(tmp_path: Path) -> None:
    root, other = write(tmp_path / "weather"), write(tmp_path / "other")

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path / "kit", model, around={"secrets": secrets(tmp_path)}) as kit:
            take(kit, root, other)
            session = await kit.session()
            told = await kit.ask(session, "/weather now")
            assert told["result"]["text"] == "token *** 1"
            told = await kit.ask(session, "/other now")
            assert told["result"]["text"] == "token None None"
            history = await stored(kit, session)
            assert "token ***" in history
            assert VALUE not in history

    run(main)


def test_model_that_runs_the_skills_script_gets_its_answer_redacted(tmp_path: Path) -> None:
    root = write(tmp_path / "weather")

    async def main() -> None:
        model = ScriptedModel()
        async with open_kit(tmp_path / "kit", model, around={"secrets": secrets(tmp_path)}) as kit:
            take(kit, root)
            script = tmp_path / "kit" / "skills" / kit.snapshot.skills["weather"].digest / "scripts" / "run.py"

            def use(command: str) -> Reply:
                return Reply([ToolUse("bash_tool", {"command": command, "description": "d"})])

            model.enqueue(
                use(f"python3 {script}"),
                use(f"python3 {script}; env"),
                use(f"cat {tmp_path / 'token'}"),
                Reply([Text("done")]),
            )
            session = await kit.session()
            await kit.ask(session, "go")
            assert results(kit, model) == ["token *** 1", results(kit, model)[1], "***"]
            assert results(kit, model)[1].startswith("token None None")
            assert "TOKEN=" not in results(kit, model)[1]
            assert VALUE not in await stored(kit, session)

    run(main)


def test_flood_that_holds_the_secret_leaves_no_file_and_no_part_of_it(tmp_path: Path) -> None:
    # What is kept of the beginning ends, and what is kept of the end begins, within a secret.
    flood = 'import os\nprint("x" * 12 + os.environ["TOKEN"] * 9999 + "x" * 12, end="")\n'
    root = write(tmp_path / "weather", flood)

    async def main() -> None:
        async with open_kit(tmp_path / "kit", ScriptedModel(), around={"secrets": secrets(tmp_path)}) as kit:
            take(kit, root)
            session = await kit.session()
            told = await kit.ask(session, "/weather")
            assert told["status"] == "finished"
            history = await stored(kit, session)
            assert "the output is cut" in history
            parts = {VALUE[at : at + 6] for at in range(len(VALUE) - 5)}
            assert not [part for part in parts if part in history.replace("weather", "")]
            workspace = tmp_path / "kit" / "workspaces" / session
            left = [path for path in workspace.rglob("*") if path.is_file() and VALUE in path.read_text()]
            assert left == []

    run(main)


def test_secret_that_breaks_off_with_a_cancelled_call_is_hidden(tmp_path: Path) -> None:
    script = (
        'import os, time\nprint(os.environ["TOKEN"][:-3], end="", flush=True)\n'
        'open("started", "w").close()\ntime.sleep(60)\n'
    )
    root = write(tmp_path / "weather", script)

    async def main() -> None:
        async with open_kit(tmp_path / "kit", ScriptedModel(), around={"secrets": secrets(tmp_path)}) as kit:
            take(kit, root)
            session = await kit.session()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.ask, session, "/weather")
                started = trio.Path(tmp_path / "kit" / "workspaces" / session / "started")
                while not await started.exists():  # noqa: ASYNC110  # another process makes it
                    await trio.sleep(0.01)
                await kit.manager.cancel(session, ME)
            history = await stored(kit, session)
            assert "Cancelled while it ran" in history
            assert VALUE[:8] not in history

    run(main)


def test_unreadable_secret_is_a_result_and_the_command_does_not_run(tmp_path: Path) -> None:
    root = write(tmp_path / "weather", 'open("ran", "w").close()\n')

    async def main() -> None:
        kept = secrets(tmp_path)
        async with open_kit(tmp_path / "kit", ScriptedModel(), around={"secrets": kept}) as kit:
            take(kit, root)
            (tmp_path / "token").unlink()
            session = await kit.session()
            told = await kit.ask(session, "/weather")
            assert "a secret of its skill cannot be had" in told["result"]["text"]
            assert not (tmp_path / "kit" / "workspaces" / session / "ran").exists()
            assert str(tmp_path / "token") not in await stored(kit, session)

    run(main)


def test_modules_that_a_conversation_has_put_into_its_home_are_not_loaded(tmp_path: Path) -> None:
    """The home of commands is the workspace: python3 would load usercustomize from there, with the secret at hand."""
    root = write(tmp_path / "weather")

    async def main() -> None:
        async with open_kit(tmp_path / "kit", ScriptedModel(), around={"secrets": secrets(tmp_path)}) as kit:
            take(kit, root)
            session = await kit.session()
            model_home = tmp_path / "kit" / "workspaces" / session
            code = "import site; print(site.getusersitepackages())"
            asked = await trio.run_process(
                ["python3", "-c", code], capture_stdout=True, env={"HOME": str(model_home), "PATH": "/usr/bin:/bin"}
            )
            packages = Path(asked.stdout.decode().strip())
            await trio.Path(packages).mkdir(parents=True)
            stolen = tmp_path / "stolen"
            theft = f"import os\nopen({str(stolen)!r}, 'w').write(os.environ.get('TOKEN', ''))\n"
            (packages / "usercustomize.py").write_text(theft)
            told = await kit.ask(session, "/weather")
            assert not stolen.exists()
            assert told["result"]["text"] == "token *** 1"

    run(main)


def test_arguments_of_users_are_words_however_they_look(tmp_path: Path) -> None:
    root = write(tmp_path / "weather", "import sys\nprint(sys.argv[1:])\n")

    async def main() -> None:
        async with open_kit(tmp_path / "kit", ScriptedModel(), around={"secrets": secrets(tmp_path)}) as kit:
            take(kit, root)
            session = await kit.session()
            told = await kit.ask(session, f"/weather {shlex.quote('$(env); `env`')} $TOKEN")
            assert told["result"]["text"] == "['$(env); `env`', '$TOKEN']"

    run(main)
