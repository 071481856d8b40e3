"""Approvals of versions: what is taken from the others, and what a file of approvals cannot do to us."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native_kit import write_native
from skill_actors.native import BadSkill, Description, NativeCode, tool_name
from skill_actors.skills import Skill, SkillSnapshot, Source
from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import NativePart
from skill_actors.skills.library import Library
from skill_actors.skills.native import NATIVE_KEY, NativeLoader
from skill_actors.skills.projects import Projects
from skill_actors.skills.secrets import SecretSource, SkillSecrets
from support import run

ONE, TWO = "1" * 64, "2" * 64
Make = Callable[..., Path]


def tides(digest: str = ONE, *, tools: str = "Bash", trusted: bool = True, native: bool = False) -> Skill:
    code = NativeCode(skill="tides", version=digest, class_name="Skill", root="/s", file="native.py", paths=())
    return Skill(
        name="tides",
        description="d",
        root=Path("/s/tides"),
        digest=digest,
        allowed_tools=tuple(tools.split()),
        trusted=trusted,
        metadata={NATIVE_KEY: "native.py:Skill"} if native else {},
        native=NativePart(code=code, tools={}) if native else None,
    )


def snapshot(*skills: Skill) -> SkillSnapshot:
    return SkillSnapshot(generation=1, skills={skill.name: skill for skill in skills})


def judged(approvals: Approvals, skill: Skill) -> Skill:
    return approvals.judge(snapshot(skill)).skills[skill.name]


def codes(skill: Skill) -> list[str]:
    return [found.code for found in skill.diagnostics]


def opened(file: Path) -> Approvals:
    approvals = Approvals(file)
    approvals.read()
    return approvals


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "approvals.json"


# -- what a version is without its approval -----------------------------------------------------------------------


@pytest.mark.parametrize("skill", [tides(), tides(native=True), tides(trusted=False, native=True, tools="")])
def test_only_the_approved_version_has_what_it_asks_for(file: Path, skill: Skill) -> None:
    approvals = opened(file)
    bare = judged(approvals, skill)
    assert (bare.trusted, bare.native, codes(bare)) == (False, None, ["not_approved"])
    assert "skillctl skills approve tides" in bare.diagnostics[0].remedy
    assert (bare.digest, bare.allowed_tools, bare.description) == (skill.digest, skill.allowed_tools, "d")
    assert approvals.approve("tides", TWO) is None
    assert codes(judged(approvals, skill)) == ["changed_since_approved"]
    assert approvals.approve("tides", ONE) == TWO
    assert judged(approvals, skill) is skill
    assert approvals.revoke("tides") == ONE
    assert codes(judged(approvals, skill)) == ["not_approved"]
    assert approvals.revoke("tides") is None


@pytest.mark.parametrize("skill", [tides(tools=""), tides(trusted=False), tides(trusted=False, tools="")])
def test_what_asks_for_nothing_that_it_would_get_needs_no_approval(file: Path, skill: Skill) -> None:
    of = snapshot(skill)
    assert opened(file).judge(of) is of


def test_secrets_are_for_the_approved_version(file: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t-token")
    (tmp_path / "token").chmod(0o600)
    secrets = SkillSecrets({"tides": {"TOKEN": SecretSource(path=tmp_path / "token")}})
    approvals = Approvals(file, secrets.concern)
    skill = tides(tools="")
    bare = judged(approvals, skill)
    assert codes(bare) == ["not_approved"]
    assert secrets.of(bare) == {}
    assert "not in this version" in secrets.given(bare)[1]["TOKEN"]
    approvals.approve("tides", ONE)
    assert secrets.of(judged(approvals, skill)) == {"TOKEN": "s3cr3t-token"}


def test_skill_of_a_project_has_it_only_as_the_content_that_was_approved(
    file: Path, tmp_path: Path, make_skill: Make
) -> None:
    make_skill(tmp_path / "repo/.agents/skills/tides", extra="allowed-tools: Bash")
    approvals = opened(file)
    projects = Projects([tmp_path], 7, approvals=approvals)

    def found() -> Skill:
        return run(projects.load, str(tmp_path / "repo"), 7).skills["tides"]

    bare = found()
    assert (bare.trusted, codes(bare)) == (False, ["not_approved"])
    assert "skillctl" not in bare.diagnostics[0].remedy
    approvals.approve("tides", bare.digest)
    assert (found().trusted, codes(found())) == (True, [])


def test_native_code_is_not_even_looked_at_before_its_version_is_approved(file: Path, tmp_path: Path) -> None:
    approvals, source = opened(file), tmp_path / "skills"
    seen: list[str] = []

    def look(code: NativeCode, timeout_s: float) -> Description:
        seen.append(code.version)
        if "BROKEN" in (source / "one/native.py").read_text():
            raise BadSkill("native_import_failed", "it is broken", "")
        tool = {"name": tool_name(code.skill, "execute"), "description": "d", "input_schema": {"type": "object"}}
        return Description(name=code.skill, description="d", tools={"execute": tool})

    loader = NativeLoader([source], look, approved=approvals.covers)
    library = Library([Source(path=source)], natives=loader)
    now = SkillSnapshot()

    def load() -> Skill:
        nonlocal now
        now = library.load(now)
        return now.skills["one"]

    write_native(source, "one", "A = 1\n")
    first = load()
    assert (seen, first.native, now.failures) == ([], None, ())
    approvals.approve("one", first.digest)
    assert load().native is not None
    assert load().native is not None
    assert seen == [first.digest], "one look is enough"
    write_native(source, "one", "A = 2  # BROKEN\n")
    second = load()
    assert (seen, second.native) == ([first.digest], None)
    assert second.digest != first.digest, "its instructions are those of now"
    approvals.approve("one", second.digest)
    assert load().native is None
    assert [found.code for found in now.failures[0].diagnostics] == ["native_import_failed"]


# -- the file -----------------------------------------------------------------------------------------------------


def test_approvals_outlive_the_process_and_whatever_a_killed_one_left(file: Path) -> None:
    opened(file).approve("tides", ONE)
    (file.parent / ".building-approvals.json").write_text('{"half')
    again = opened(file)
    assert dict(again.approved) == {"tides": ONE}
    again.approve("möwe\udcff\n", TWO)
    assert dict(opened(file).approved) == {"tides": ONE, "möwe\udcff\n": TWO}
    assert sorted(path.name for path in file.parent.iterdir()) == ["approvals.json"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_approved_already_is_not_written_again(file: Path) -> None:
    approvals = opened(file)
    approvals.approve("tides", ONE)
    before = approvals.approved
    file.unlink()
    assert approvals.approve("tides", ONE) == ONE
    assert not file.exists()
    assert approvals.approved is before


HOSTILE = [
    b"",
    b"\xff",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"format": 2, "approved": {}}',
    b'{"format": 1}',
    b'{"format": 1, "approved": [], "more": 1}',
    b'{"format": 1, "approved": null}',
    b'{"format": 1, "approved": {"tides": null}}',
    b'{"format": 1, "approved": {"tides": {"digest": "' + ONE.encode() + b'"}}}',
    b'{"format": 1, "approved": {"tides": "' + ONE.encode() + b'0"}}',
    b'{"format": 1, "approved": {"tides": "' + ONE.encode() + b'\\n"}}',
    b'{"format": 1, "approved": {"tides": "' + ONE.encode() + b'", "tides": "' + TWO.encode() + b'"}}',
    b'{"format": 1, "approved": {"tides": "' + ONE.encode() + b'", "other": 7}}',
    b'{"format": 1, "approved": {"tides": "' + ONE.encode() + b'"}',
    b" " * (16 << 20) + b" {}",
]


@pytest.mark.parametrize("raw", HOSTILE, ids=lambda raw: repr(raw[:60]))
def test_file_that_cannot_be_understood_approves_nothing_says_so_and_is_replaced(
    file: Path, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_bytes(raw)
    approvals = opened(file)
    assert dict(approvals.approved) == {}
    assert approvals.failure is not None
    assert (approvals.failure.path, approvals.failure.diagnostics[0].code) == (file, "approvals_damaged")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert codes(judged(approvals, tides())) == ["not_approved"]
    approvals.approve("tides", ONE)
    assert approvals.failure is None
    assert dict(opened(file).approved) == {"tides": ONE}


def test_odd_things_in_its_place_approve_nothing_and_hang_nobody(file: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    opened(good).approve("tides", ONE)

    def open_to_all() -> None:
        file.write_bytes(good.read_bytes())
        file.chmod(0o666)

    makers: list[Callable[[], None]] = [
        lambda: file.symlink_to(good),
        lambda: os.mkfifo(file),
        lambda: file.symlink_to(file),
        open_to_all,
    ]
    for make in makers:
        make()
        approvals = opened(file)
        assert (dict(approvals.approved), approvals.failure is None) == ({}, False)
        approvals.approve("other", TWO)
        assert dict(opened(file).approved) == {"other": TWO}
        file.unlink()
    assert dict(opened(good).approved) == {"tides": ONE}, "what a link led to was not written to"


def test_what_cannot_be_written_is_not_approved(file: Path) -> None:
    approvals = opened(file)
    file.mkdir()
    for _ in range(2):
        with pytest.raises(OSError, match="Is a directory"):
            approvals.approve("tides", ONE)
    assert not approvals.covers(tides())
    assert list(file.parent.iterdir()) == [file]
    file.rmdir()
    with pytest.raises(OSError, match="too many"):
        approvals.approve("x" * (16 << 20), ONE)
    assert not file.exists()
    assert opened(file).failure is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(ONE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "approved", "a"]), inner),
    max_leaves=8,
)


@given(raw=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_content_of_the_file_raises_or_approves_what_is_no_digest(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "approvals-property.json"
    file.write_bytes(raw)
    file.chmod(0o600)
    approvals = opened(file)
    assert all(len(digest) == 64 for digest in approvals.approved.values())
    assert (approvals.failure is None) or not approvals.approved
