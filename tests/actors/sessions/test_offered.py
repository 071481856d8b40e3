"""Which skills a conversation gets: its own choice, its owner's roles, its project."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.sessions.table import Viewer
from skill_actors.skills.projects import Projects
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run

Permits = Callable[[int], Awaitable[Callable[[str], bool] | None]]


def put(folder: Path, description: str = "Does things") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text(f"---\nname: {folder.name}\ndescription: {description}\n---\n\nBody\n")
    return folder


def surround(kit: Kit, **changes: Any) -> None:
    """Change what the conversations of this kit find around them."""
    env = replace(kit.manager._env, **changes)
    kit.manager._env = kit.manager._intake._env = kit.manager._making._env = env


async def names(kit: Kit, session: str) -> list[str]:
    return list((await kit.manager.skills(session, ME)).skills)


def in_kit(tmp_path: Path, check: Callable[[Kit], Awaitable[None]]) -> None:
    skills = [put(tmp_path / "all" / name) for name in ("pdf", "pdf-forms", "tides")]

    async def main() -> None:
        async with open_kit(tmp_path / "state", ScriptedModel([]), skills=skills) as kit:
            await check(kit)

    (tmp_path / "state").mkdir()
    run(main)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, ["pdf", "pdf-forms", "tides"]),
        ([], []),
        (["tides"], ["tides"]),
        (["pdf*"], ["pdf", "pdf-forms"]),
        (["\uff50df"], ["pdf"]),  # a look-alike of the name is the name
        (["none-yet-*"], []),
        ({"deny": ["pdf"]}, ["pdf-forms", "tides"]),
        ({"deny": ["unknown"]}, ["pdf", "pdf-forms", "tides"]),
        ({"allow": ["pdf*"], "deny": ["*-forms"]}, ["pdf"]),
        ({"allow": None, "deny": ["*"]}, []),
    ],
)
def test_session_has_the_skills_that_it_allows_and_does_not_deny(
    tmp_path: Path, setting: Any, expected: list[str]
) -> None:
    async def check(kit: Kit) -> None:
        session = await kit.session(skills=setting)
        assert await names(kit, session) == expected
        assert (await kit.manager.get(session, ME))["skills"] == setting

    in_kit(tmp_path, check)


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("pdf", "bad_request"),
        ({}, "bad_request"),
        ({"allow": ["pdf"], "alow": []}, "bad_request"),
        ({"allow": "pdf"}, "bad_request"),
        ({"deny": [""]}, "bad_request"),
        ({"deny": [1]}, "bad_request"),
        (["x" * 201], "bad_request"),
        (["pdf"] * 1001, "bad_request"),
        ({"deny": ["x*"] * 101}, "bad_request"),
        (["*?[a]*?[b]*?[c]"], "bad_request"),
        (["unknown"], "invalid_skill_spec"),
        ({"allow": ["pdf", "unknown"]}, "invalid_skill_spec"),
        (["anthropic:xlsx@latest"], "invalid_skill_spec"),
    ],
)
def test_bad_choice_is_refused_when_the_session_is_made(tmp_path: Path, setting: Any, code: str) -> None:
    async def check(kit: Kit) -> None:
        with pytest.raises(Refused) as caught:
            await kit.session(skills=setting)
        assert caught.value.code == code

    in_kit(tmp_path, check)


async def only_tides(uid: int) -> Callable[[str], bool] | None:
    return (lambda name: name == "tides") if uid == ME.uid else None


def test_roles_bind_whatever_the_session_chose_and_say_so(tmp_path: Path) -> None:
    async def check(kit: Kit) -> None:
        before = await kit.session(skills=["pdf", "tides"])
        surround(kit, role_permits=only_tides)
        assert await names(kit, before) == ["tides"]
        left_out = (await kit.manager.skills(before, ME)).failures
        assert [(failure.path.name, failure.diagnostics[0].code) for failure in left_out] == [
            ("pdf", "denied"),
            ("pdf-forms", "denied"),
        ]
        with pytest.raises(Refused, match="no skill 'pdf'"):
            await kit.session(skills=["pdf"])
        other = (await kit.manager.create(ME.uid + 1, {"skills": ["pdf"]}))["id"]
        assert list((await kit.manager.skills(other, Viewer(uid=ME.uid + 1))).skills) == ["pdf"]

    in_kit(tmp_path, check)


def test_command_of_a_skill_that_is_not_offered_is_an_ordinary_message(tmp_path: Path) -> None:
    async def check(kit: Kit) -> None:
        with pytest.raises(Refused) as caught:
            await kit.manager.submit(await kit.session(), ME, "/tides now")
        assert caught.value.code == "no_entry_command"
        await kit.manager.submit(await kit.session(skills={"deny": ["tides"]}), ME, "/tides now")

    in_kit(tmp_path, check)


def test_skills_of_the_project_come_first_and_follow_every_edit(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    put(repo / ".agents/skills/tides", "Of the project")

    async def check(kit: Kit) -> None:
        surround(kit, projects=Projects([repo], ME.uid))
        session = await kit.session(cwd=f"{tmp_path}/./repo/../repo", skills={"deny": ["pdf*"]})
        assert (await kit.manager.get(session, ME))["cwd"] == str(repo)
        offered = await kit.manager.skills(session, ME)
        assert {name: skill.description for name, skill in offered.skills.items()} == {"tides": "Of the project"}
        assert [failure.diagnostics[0].code for failure in offered.failures] == ["duplicate_name"]
        put(repo / ".claude/skills/moon")
        assert await names(kit, session) == ["moon", "tides"]
        assert await names(kit, await kit.session()) == ["pdf", "pdf-forms", "tides"]
        assert await names(kit, await kit.session(cwd=str(repo), skills=["moon"])) == ["moon"]

    in_kit(tmp_path, check)


def test_project_that_is_gone_brings_no_skills_and_ends_nothing(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    put(repo / ".agents/skills/moon")

    async def check(kit: Kit) -> None:
        surround(kit, projects=Projects([repo], ME.uid))
        session = await kit.session(cwd=str(repo))
        assert "moon" in await names(kit, session)
        repo.rename(tmp_path / "elsewhere")
        offered = await kit.manager.skills(session, ME)
        assert list(offered.skills) == ["pdf", "pdf-forms", "tides"]
        assert [failure.diagnostics[0].code for failure in offered.failures] == ["project_refused"]
        surround(kit, projects=None)
        assert await names(kit, session) == ["pdf", "pdf-forms", "tides"]

    in_kit(tmp_path, check)


@pytest.mark.parametrize("uid", [ME.uid + 1, 0])
def test_only_the_user_who_runs_the_daemon_has_projects(tmp_path: Path, uid: int) -> None:
    async def check(kit: Kit) -> None:
        with pytest.raises(Refused) as caught:
            await kit.session(cwd=str(tmp_path))
        assert caught.value.code == "cwd_not_allowed"
        surround(kit, projects=Projects([tmp_path], ME.uid))
        with pytest.raises(Refused) as caught:
            await kit.manager.create(uid, {"cwd": str(tmp_path)})
        assert (caught.value.code, "another" in caught.value.message) == ("cwd_not_allowed", True)

    in_kit(tmp_path, check)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"cwd": 5}, "bad_request"),
        ({"cwd": "/" * 5000}, "bad_request"),
        ({"cwd": "relative"}, "cwd_not_allowed"),
        ({"cwd": "/"}, "cwd_not_allowed"),
    ],
)
def test_bad_project_is_refused_when_the_session_is_made(
    tmp_path: Path, settings: Mapping[str, Any], code: str
) -> None:
    async def check(kit: Kit) -> None:
        surround(kit, projects=Projects([tmp_path], ME.uid))
        with pytest.raises(Refused) as caught:
            await kit.session(**settings)
        assert caught.value.code == code

    in_kit(tmp_path, check)


def test_fork_keeps_the_project_and_an_import_does_not(tmp_path: Path) -> None:
    put(tmp_path / "repo/.agents/skills/moon")

    async def check(kit: Kit) -> None:
        surround(kit, projects=Projects([tmp_path], ME.uid))
        session = await kit.session(cwd=str(tmp_path / "repo"))
        fork = await kit.manager.fork(session, ME)
        assert fork["cwd"] == str(tmp_path / "repo")
        assert "moon" in await names(kit, fork["id"])
        async with kit.manager.export(session, ME) as lines:
            raw = "".join([f"{line}\n" async for line in lines]).encode()
        imported = await kit.manager.import_session(ME.uid, raw)
        assert imported["cwd"] is None
        assert "moon" not in await names(kit, imported["id"])

    in_kit(tmp_path, check)


def test_turn_has_the_skills_that_are_offered_and_is_told_of_the_project(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    put(repo / ".agents/skills/moon", "Knows the moon")
    model = ScriptedModel([Reply([Text("hello")])])

    async def main() -> None:
        around = {"projects": Projects([repo], ME.uid)}
        async with open_kit(tmp_path, model, skills=[put(tmp_path / "all/tides")], around=around) as kit:
            session = await kit.session(cwd=str(repo), skills={"deny": ["tides"]})
            turn = await kit.ask(session, "hello")
            assert turn["status"] == "finished"
            (started,) = [event for event in await kit.events(session) if event.type == "turn.started"]
            assert started.data["skills"] == 1

    run(main)
    (request,) = model.requests
    assert "Knows the moon" in request.system
    assert f"project is the folder {repo}" in request.system
    assert "tides" not in request.system
