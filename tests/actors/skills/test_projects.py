"""Skills of projects: where they are looked for, what is trusted, and what a repository cannot make us read."""

import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from package_kit import tides
from skill_actors.skills import SkillCopies, SkillSnapshot, Source
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.library import Library
from skill_actors.skills.packages import PackageCache
from skill_actors.skills.projects import ProjectRefused, Projects, lay_over, project_place
from support import run

ME = 1000
Make = Callable[..., Path]


def codes(snapshot: SkillSnapshot) -> list[tuple[str, str]]:
    return [(failure.path.name, failure.diagnostics[0].code) for failure in snapshot.failures]


def load(projects: Projects, cwd: Path, times: int = 1) -> SkillSnapshot:
    async def main() -> SkillSnapshot:
        for _ in range(times):
            found = await projects.load(str(cwd), ME)
        return found

    return run(main)


def repository(folder: Path) -> Path:
    (folder / ".git").mkdir(parents=True)
    return folder


def test_folders_up_to_the_repository_are_looked_at_nearest_first(tmp_path: Path) -> None:
    top = repository(tmp_path / "work/repo")
    cwd = top / "apps/web"
    place = project_place(cwd, tmp_path)
    near = [str(folder.relative_to(top)) for folder in place.folders]
    assert near == [
        *("apps/web/.agents/skills", "apps/web/.claude/skills", "apps/.agents/skills", "apps/.claude/skills"),
        *(".agents/skills", ".claude/skills"),
    ]
    assert place.repository == top


def test_without_a_repository_only_the_folder_itself_counts(tmp_path: Path) -> None:
    place = project_place(tmp_path / "a/b", tmp_path)
    assert (place.repository, len(place.folders)) == (tmp_path / "a/b", 2)


def test_nothing_above_what_is_trusted_is_looked_at(tmp_path: Path) -> None:
    repository(tmp_path / "repo")
    place = project_place(tmp_path / "repo/mine/sub", tmp_path / "repo/mine")
    assert (place.repository, len(place.folders)) == (tmp_path / "repo/mine/sub", 2)
    (tmp_path / "repo/mine").mkdir()
    (tmp_path / "repo/mine/.git").write_text("gitdir: elsewhere\n")  # a work tree
    place = project_place(tmp_path / "repo/mine/sub", tmp_path / "repo/mine")
    assert (place.repository, len(place.folders)) == (tmp_path / "repo/mine", 4)


def test_skills_of_a_project_are_trusted_and_the_nearest_of_a_name_holds(tmp_path: Path, make_skill: Make) -> None:
    top = repository(tmp_path / "repo")
    near = make_skill(top / "web/.claude/skills/deploy", description="near")
    make_skill(top / ".agents/skills/deploy", description="far")
    make_skill(top / ".agents/skills/tides")
    (top / ".claude/skills").mkdir(parents=True)
    (top / ".claude/skills/tides.skill").write_bytes(tides())
    projects = Projects([tmp_path], ME, packages=PackageCache(tmp_path / "cache"))
    found = load(projects, top / "web")
    assert {name: skill.trusted for name, skill in found.skills.items()} == {"deploy": True, "tides": True}
    assert found.skills["deploy"].root == near
    assert codes(found) == [("deploy", "duplicate_name"), ("tides.skill", "duplicate_name")]
    assert [root.name for root in projects.packaged()] == ["tides"]
    assert projects.digests() == {skill.digest for skill in found.skills.values()}


def test_edits_are_seen_by_the_next_look_and_what_is_gone_is_gone(tmp_path: Path, make_skill: Make) -> None:
    top = repository(tmp_path / "repo")
    skill = make_skill(top / ".agents/skills/deploy")
    projects = Projects([tmp_path], ME, copies=SkillCopies(tmp_path / "copies"))
    first = load(projects, top)
    assert load(projects, top).skills == first.skills
    make_skill(skill, description="Another")
    assert load(projects, top).skills["deploy"].description == "Another"
    (top / ".agents").rename(top / ".elsewhere")
    gone = load(projects, top)
    assert (dict(gone.skills), gone.failures) == ({}, ())


def test_rules_of_the_configuration_hold_for_projects_too(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / ".agents/skills/deploy")
    found = load(Projects([tmp_path], ME, rules=SkillRules(deny=("dep*",))), tmp_path)
    assert (dict(found.skills), codes(found)) == ({}, [("deploy", "denied")])


def refusal(call: Awaitable[object]) -> str:
    async def main() -> str:
        with pytest.raises(ProjectRefused) as caught:
            await call
        return str(caught.value)

    return run(main)


@pytest.mark.parametrize("cwd", ["relative", "", "~", "a\0b", "/\0", "/tmp/\ud800"])
def test_what_is_no_absolute_path_is_refused(tmp_path: Path, cwd: str) -> None:
    assert "absolute" in refusal(Projects([Path("/")], ME).resolve(cwd, ME))


def test_folder_that_is_not_trusted_is_refused_however_it_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "trusted/sub").mkdir(parents=True)
    (tmp_path / "trusted-not").mkdir()
    (tmp_path / "trusted/out").symlink_to(tmp_path / "trusted-not")
    projects = Projects([tmp_path / "trusted"], ME)
    for cwd in ("trusted-not", "trusted/../trusted-not", "trusted/out", ""):
        assert "skills.projects" in refusal(projects.resolve(f"{tmp_path}/{cwd}", ME))
    assert "skills.projects" in refusal(Projects([], ME).resolve(str(tmp_path), ME))
    for cwd in ("missing", "a" * 300, "a/" * 2_000):
        assert "no folder" in refusal(projects.resolve(f"{tmp_path}/trusted/{cwd}", ME))
    assert "shown" in refusal(projects.resolve(f"{tmp_path}/trusted/a\nb", ME))


def test_trusted_folder_may_be_named_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    real = run(Projects([tmp_path / "link"], ME).resolve, f"{tmp_path}/link/sub", ME)
    assert real == tmp_path / "real/sub"


def test_another_user_has_no_projects(tmp_path: Path) -> None:
    projects = Projects([tmp_path], ME)
    assert "another" in refusal(projects.resolve(str(tmp_path), ME + 1))
    assert "another" in refusal(projects.load(str(tmp_path), 0))


def test_links_lead_anywhere_in_the_repository_and_nowhere_else(tmp_path: Path, make_skill: Make) -> None:
    outside = make_skill(tmp_path / "outside/secret")
    top = repository(tmp_path / "repo")
    make_skill(top / "skills/deploy")
    (top / ".agents/skills").mkdir(parents=True)
    (top / ".agents/skills/deploy").symlink_to("../../skills/deploy")
    (top / ".agents/skills/secret").symlink_to(outside)
    (top / ".claude").mkdir()
    (top / ".claude/skills").symlink_to(outside.parent)
    found = load(Projects([tmp_path], ME), top)
    assert list(found.skills) == ["deploy"]
    assert codes(found) == [("secret", "link_leaves_root"), ("skills", "link_leaves_root")]


def test_folder_of_skills_that_everybody_may_write_to_is_not_read(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / ".agents/skills/deploy")
    make_skill(tmp_path / ".claude/skills/tides")
    (tmp_path / ".agents/skills").chmod(0o777)
    found = load(Projects([tmp_path], ME), tmp_path)
    assert (list(found.skills), codes(found)) == (["tides"], [("skills", "open_to_all")])
    (tmp_path / ".agents/skills").chmod(0o755)
    assert list(load(Projects([tmp_path], ME), tmp_path).skills) == ["deploy", "tides"]


def test_odd_things_in_the_place_of_the_folder_are_failures_and_nothing_more(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / ".claude/skills/tides")
    (tmp_path / ".agents").mkdir()
    os.mkfifo(tmp_path / ".agents/skills")
    found = load(Projects([tmp_path], ME), tmp_path)
    assert (list(found.skills), codes(found)) == (["tides"], [("skills", "source_missing")])


def test_conversations_of_one_project_look_one_after_the_other(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / ".agents/skills/deploy")
    projects = Projects([tmp_path], ME)
    seen: list[SkillSnapshot] = []

    async def look() -> None:
        seen.append(await projects.load(str(tmp_path), ME))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(look)

    run(main)
    assert len(seen) == 20
    assert len({id(snapshot.skills) for snapshot in seen}) == 1


def test_look_that_is_cancelled_leaves_its_library_to_its_thread(
    tmp_path: Path, make_skill: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_skill(tmp_path / ".agents/skills/deploy")
    projects = Projects([tmp_path], ME)
    real, go_on = Library.load, threading.Event()
    used: list[Library] = []
    found: list[SkillSnapshot] = []

    async def main() -> None:
        hangs = trio.Event()

        def first_hangs(self: Library, last: SkillSnapshot) -> SkillSnapshot:
            used.append(self)
            if len(used) == 1:
                trio.from_thread.run_sync(hangs.set)
                go_on.wait(20)
            return real(self, last)

        async def impatient() -> None:
            with impatience:
                await projects.load(str(tmp_path), ME)

        async def patient() -> None:
            found.append(await projects.load(str(tmp_path), ME))

        monkeypatch.setattr(Library, "load", first_hangs)
        impatience = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            await hangs.wait()
            nursery.start_soon(patient)
            await trio.testing.wait_all_tasks_blocked()
            assert len(used) == 1
            impatience.cancel()

    try:
        run(main)
    finally:
        go_on.set()
    assert [list(snapshot.skills) for snapshot in found] == [["deploy"]]
    assert used[0] is not used[1]


def test_only_so_many_projects_are_kept(tmp_path: Path, make_skill: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.skills.projects._KEPT", 2)
    projects = Projects([tmp_path], ME)
    for name in "abc":
        make_skill(tmp_path / name / ".agents/skills" / f"skill-{name}")
        assert list(load(projects, tmp_path / name).skills) == [f"skill-{name}"]
    assert len(projects.digests()) == 2
    assert list(load(projects, tmp_path / "a").skills) == ["skill-a"]


def test_project_holds_against_everybodys_skills_and_the_other_is_reported(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "repo/.agents/skills/deploy", description="project")
    for name in ("deploy", "alpha"):
        make_skill(tmp_path / "all" / name, description="all")
    everybody = Library([Source(path=tmp_path / "all")]).load(SkillSnapshot())
    both = lay_over(load(Projects([tmp_path], ME), tmp_path / "repo"), everybody)
    assert {name: skill.description for name, skill in both.skills.items()} == {"alpha": "all", "deploy": "project"}
    assert list(both.skills) == ["alpha", "deploy"]
    assert both.generation == everybody.generation
    assert [(failure.path, failure.diagnostics[0].code) for failure in both.failures] == [
        (tmp_path / "all/deploy", "duplicate_name")
    ]
