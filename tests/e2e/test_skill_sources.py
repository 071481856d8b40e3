"""Skills from everywhere at once, through the real daemon: precedence, packages, projects, what is denied."""

from __future__ import annotations

import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import JSON, Daemon, running, write_skill
from package_kit import packed

pytestmark = pytest.mark.e2e


def says(text: str) -> str:
    return f"print('it is {text}')\n"


def pack(folder: Path, target: Path) -> Path:
    """The folder as a package, which appears whole, as a careful author's would."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target.with_name("half"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
    return target.with_name("half").rename(target)


def skills(daemon: Daemon, path: str = "/v1/skills") -> JSON:
    with daemon.http() as http:
        answer: JSON = http.get(path).json()
    return answer


def until(daemon: Daemon, holds: Callable[[JSON], bool]) -> JSON:
    deadline = time.monotonic() + 20
    while not holds(found := skills(daemon)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def path_of(found: JSON, name: str) -> str:
    return next((str(skill["path"]) for skill in found["items"] if skill["name"] == name), "")


def codes(found: JSON) -> set[tuple[str, str]]:
    return {(Path(failure["path"]).name, failure["diagnostics"][0]["code"]) for failure in found["failures"]}


def output(daemon: Daemon, text: str, session: str | None = None) -> str:
    return str(daemon.ask(session or daemon.create(), text)["result"]["text"])


def test_first_source_holds_a_name_and_the_next_takes_over_when_it_is_gone(tmp_path: Path) -> None:
    first = write_skill(tmp_path / "first", "who", says("first"))
    pack(write_skill(tmp_path / "made", "who", says("second")), tmp_path / "second/deep/who.skill")
    write_skill(tmp_path / "home/.claude/skills", "who", says("home"))
    config = "[skills]\npaths = ['first', 'second']\nuser = true\nsystem = false\n"
    with running(tmp_path, config=config, env={"HOME": str(tmp_path / "home")}) as daemon:
        found = skills(daemon)
        assert path_of(found, "who") == str(first)
        assert path_of(found, "echo")  # came with the program
        assert codes(found) == {("who.skill", "duplicate_name"), ("who", "duplicate_name")}
        assert "it is first" in output(daemon, "/who")
        shutil.rmtree(first)
        found = until(daemon, lambda found: "packages" in path_of(found, "who"))
        (who,) = [skill for skill in found["items"] if skill["name"] == "who"]
        assert who["package"] == str(tmp_path / "second/deep/who.skill")
        assert "it is second" in output(daemon, "/who")
        (tmp_path / "second/deep/who.skill").unlink()
        until(daemon, lambda found: "home" in path_of(found, "who"))
        assert "it is home" in output(daemon, "/who")


def test_package_is_replaced_while_the_daemon_runs_and_a_bad_one_keeps_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "skills"
    made = write_skill(tmp_path / "made", "who", says("one"))
    package = pack(made, folder / "who.skill")
    with running(tmp_path, skills=[folder]) as daemon:
        assert "it is one" in output(daemon, "/who")
        (made / "scripts/run.py").write_text(says("two"))
        before = skills(daemon)["items"][0]["digest"]
        pack(made, package)
        until(daemon, lambda found: bool(found["items"]) and found["items"][0]["digest"] != before)
        assert "it is two" in output(daemon, "/who")
        package.write_bytes(packed(("who/SKILL.md", "x"), ("../../../evil", "x")))
        found = until(daemon, lambda found: bool(found["failures"]))
        assert [(failure["kept"], failure["diagnostics"][0]["code"]) for failure in found["failures"]] == [
            ("who", "package_unsafe")
        ]
        assert "it is two" in output(daemon, "/who")
        daemon.kill()
        package.write_bytes(pack(made, tmp_path / "again.skill").read_bytes())
        daemon.start()
        assert "it is two" in output(daemon, "/who")
    assert list(tmp_path.rglob("evil")) == []


def test_hostile_packages_hurt_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "skills"
    write_skill(folder, "who", says("well"))
    head = ("x/SKILL.md", "---\nname: x\ndescription: y\n---\n")
    hostile: dict[str, bytes] = {
        "bomb": packed(head, ("x/zeros", b"\0" * (64 << 20))),
        "crowd": packed(head, *((f"x/{number}", b"") for number in range(6_000))),
        "up": packed(head, ("x/../../up", "x")),
        "root": packed(head, ("/etc/x", "x")),
        "windows": packed(head, ("x\\..\\..\\y", "x")),
        "case": packed(head, ("x/a", "1"), ("x/A", "2")),
        "half": packed(head)[:-30],
        "text": b"no zip at all",
        "empty": b"",
    }
    for name, raw in hostile.items():
        (folder / f"{name}.skill").write_bytes(raw)
    (folder / "fifo.skill").symlink_to("/dev/zero")
    with running(tmp_path, skills=[folder]) as daemon:
        found = skills(daemon)
        assert [skill["name"] for skill in found["items"]] == ["who"]
        assert {name for name, _ in codes(found)} == {f"{name}.skill" for name in hostile}
        assert {code for _, code in codes(found)} <= {"package_unsafe", "package_too_large", "package_damaged"}
        assert "it is well" in output(daemon, "/who")
    assert list((tmp_path / "state/packages").iterdir()) == []


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "work/repo"
    (folder / ".git").mkdir(parents=True)
    write_skill(folder / ".agents/skills", "who", says("project"))
    return folder


def send(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    return daemon.skillctl("send", *arguments)


PROJECTS = "[skills]\npaths = ['skills']\nprojects = ['work']\nsystem = false\nbundled = false\n"


def test_project_brings_its_skills_into_the_sessions_that_name_it(tmp_path: Path, repo: Path) -> None:
    write_skill(tmp_path / "skills", "who", says("everybody"))
    (repo / "web").mkdir()
    with running(tmp_path, config=PROJECTS) as daemon:
        assert "it is everybody" in send(daemon, "/who").stdout
        assert "it is project" in send(daemon, "--cwd", str(repo / "web"), "/who").stdout
        session = daemon.create(cwd=str(repo))
        found = skills(daemon, f"/v1/sessions/{session}/skills")
        assert [(skill["name"], skill["trusted"]) for skill in found["items"]] == [("who", True)]
        assert codes(found) == {("who", "duplicate_name")}
        assert path_of(skills(daemon), "who") == str(tmp_path / "skills/who")
        (repo / ".agents/skills/who/scripts/run.py").chmod(0o666)
        found = skills(daemon, f"/v1/sessions/{session}/skills")
        assert [(skill["name"], skill["trusted"]) for skill in found["items"]] == [("who", False)]
        assert [problem["code"] for problem in found["items"][0]["diagnostics"]] == ["open_to_all"]


def test_edit_in_a_project_is_in_the_next_turn_also_after_a_crash_and_when_it_is_gone(
    tmp_path: Path, repo: Path
) -> None:
    write_skill(tmp_path / "skills", "who", says("everybody"))
    with running(tmp_path, config=PROJECTS) as daemon:
        session = daemon.create(cwd=str(repo))
        assert "it is project" in output(daemon, "/who", session)
        write_skill(repo / ".agents/skills", "who", says("edited"))
        assert "it is edited" in output(daemon, "/who", session)
        daemon.kill()
        daemon.start()
        assert "it is edited" in output(daemon, "/who", session)
        (repo / ".agents").rename(repo / ".gone")
        assert "it is everybody" in output(daemon, "/who", session)


@pytest.mark.parametrize("projects", [[], ["work/other"], ["work/rep"]])
def test_project_that_is_not_trusted_is_refused(tmp_path: Path, repo: Path, projects: list[str]) -> None:
    with running(tmp_path, config=f"[skills]\nprojects = {projects}\n") as daemon:
        refused = send(daemon, "--cwd", str(repo), "hello")
        assert refused.returncode == 1
        assert "skills.projects" in refused.stderr
        with daemon.http() as http:
            answer = http.post("/v1/sessions", json={"cwd": str(repo)})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cwd_not_allowed")


def test_what_configuration_role_or_session_deny_is_not_used(tmp_path: Path) -> None:
    for name in ("one", "two", "three", "four"):
        write_skill(tmp_path / "skills", name, says(name))
    config = (
        "[skills]\npaths = ['skills']\nsystem = false\nbundled = false\ndeny = ['o*']\n"
        "[roles.admin]\nskills_deny = ['tw*']\n"
    )
    with running(tmp_path, config=config) as daemon:
        everybody = skills(daemon)
        assert [skill["name"] for skill in everybody["items"]] == ["four", "three", "two"]
        assert codes(everybody) == {("one", "denied")}
        session = daemon.create(skills={"deny": ["three"]})
        found = skills(daemon, f"/v1/sessions/{session}/skills")
        assert [skill["name"] for skill in found["items"]] == ["four"]
        assert codes(found) == {("one", "denied"), ("two", "denied")}
        for name in ("one", "two", "three"):
            assert f"it is {name}" not in output(daemon, f"/{name}", session)
        assert "it is four" in output(daemon, "/four", session)
        assert "no skill 'two'" in send(daemon, "--skill", "two", "hello").stderr
        assert "it is three" in send(daemon, "--skill", "t*", "--no-skill", "two", "/three").stdout
