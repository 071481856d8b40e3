"""Native skills at load: whose code may run, what is refused and why, and what stays in use meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from native_kit import OFFENDER, open_processes, write_native
from package_kit import packed
from skill_actors.native import BadSkill, Description, NativeCode, import_folders, tool_name
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.choice import SkillRules
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.library import Library
from skill_actors.skills.native import NativeLoader
from skill_actors.skills.packages import PackageCache
from support import run

GOOD = """
class Skill(NativeSkill):
    skill_info = SkillInfo(name="{name}", description="d", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        return command
"""


class Looks:
    """Looks at classes without a process: it finds what it is told, and counts."""

    def __init__(self) -> None:
        self.seen: list[NativeCode] = []
        self.timeouts_s: list[float] = []
        self.now_s = 1000.0
        self.takes_s = 0.0
        self.fail: BadSkill | None = None

    def __call__(self, code: NativeCode, timeout_s: float) -> Description:
        self.seen.append(code)
        self.timeouts_s.append(timeout_s)
        self.now_s += self.takes_s
        if self.fail is not None:
            raise self.fail
        tool = {"name": tool_name(code.skill, "execute"), "description": "d", "input_schema": {"type": "object"}}
        return Description(name=code.skill, description="d", tools={"execute": tool})


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "skills").mkdir()
    return tmp_path / "skills"


def library(
    source: Path, looks: Looks, *, trusted: list[Path] | None = None, rules: SkillRules | None = None
) -> Library:
    natives = NativeLoader([source] if trusted is None else trusted, looks)
    return Library([Source(path=source)], natives=natives, rules=rules)


def codes(snapshot: SkillSnapshot) -> list[tuple[str, str]]:
    return [(failure.path.name, found.code) for failure in snapshot.failures for found in failure.diagnostics]


def test_a_trusted_native_skill_is_loaded_with_its_tools_and_looked_at_once(source: Path, looks: Looks) -> None:
    write_native(source, "one", GOOD)
    loads = library(source, looks)
    first = loads.load(SkillSnapshot())
    native = first.skills["one"].native
    assert native is not None
    assert (native.code.file, native.code.class_name, list(native.tools)) == ("native.py", "Skill", ["execute"])
    (source / "one" / "SKILL.md").touch()
    assert loads.load(first) is first
    assert len(looks.seen) == 1
    (source / "one" / "native.py").write_text(GOOD + "# changed\n")
    second = loads.load(first)
    assert second.skills["one"].native != native
    assert [code.version for code in looks.seen] == [first.skills["one"].digest, second.skills["one"].digest]


def test_the_code_is_looked_at_in_the_copy_that_will_run(source: Path, looks: Looks, tmp_path: Path) -> None:
    write_native(source, "one", GOOD)
    copies = SkillCopies(tmp_path / "copies")
    loads = Library([Source(path=source)], copies=copies, natives=NativeLoader([source], looks))
    digest = loads.load(SkillSnapshot()).skills["one"].digest
    assert [code.root for code in looks.seen] == [str(copies.path_of(digest))]


@pytest.mark.parametrize("where", ["nowhere", "elsewhere"])
def test_code_from_elsewhere_is_refused_and_never_run(source: Path, looks: Looks, tmp_path: Path, where: str) -> None:
    root = write_native(source, "one", GOOD)
    (root / "native.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "skills2").mkdir()  # begins with the same letters as the source
    trusted = [] if where == "nowhere" else [tmp_path / "skills2", tmp_path / "ski", source / "one" / "deeper"]
    snapshot = library(source, looks, trusted=trusted).load(SkillSnapshot())
    assert (dict(snapshot.skills), codes(snapshot)) == ({}, [("one", "native_not_trusted")])
    assert looks.seen == []
    assert not (tmp_path / "ran").exists()


def test_a_link_into_a_trusted_folder_lends_no_trust_to_what_it_leads_to(
    source: Path, looks: Looks, tmp_path: Path
) -> None:
    root = write_native(tmp_path / "elsewhere", "one", GOOD)
    (source / "one").symlink_to(root)
    snapshot = library(source, looks).load(SkillSnapshot())
    assert codes(snapshot) == [("one", "native_not_trusted")]
    assert looks.seen == []


@pytest.mark.parametrize("open_place", ["skills", "skills/one", "skills/one/native.py"])
def test_a_place_that_everybody_may_write_to_is_trusted_by_nobody(
    source: Path, looks: Looks, tmp_path: Path, open_place: str
) -> None:
    write_native(source, "one", GOOD)
    os.chmod(tmp_path / open_place, 0o777)
    snapshot = library(source, looks).load(SkillSnapshot())
    assert codes(snapshot) == [("one", "native_not_trusted")]
    assert looks.seen == []


def test_a_skill_that_may_not_be_used_is_not_even_looked_at(source: Path, looks: Looks) -> None:
    write_native(source, "one", GOOD)
    snapshot = library(source, looks, rules=SkillRules(deny=("one",))).load(SkillSnapshot())
    assert codes(snapshot) == [("one", "denied")]
    assert looks.seen == []


def test_a_skill_of_use_without_its_native_part_is_taken_without_it(source: Path, looks: Looks) -> None:
    write_native(source, "one", GOOD)
    write_native(source.parent / "others", "two", GOOD)
    sources = [Source(path=source), Source(path=source.parent / "others")]
    plain = Library(sources, natives=NativeLoader([], looks, plain=[source])).load(SkillSnapshot())
    assert [(skill.name, skill.native) for skill in plain.skills.values()] == [("one", None)]
    assert codes(plain) == [("two", "native_not_trusted")]
    assert looks.seen == []
    trusted = Library(sources, natives=NativeLoader([source], looks, plain=[source])).load(SkillSnapshot())
    assert trusted.skills["one"].native is not None


def test_a_loader_of_nobody_refuses_all(source: Path) -> None:
    write_native(source, "one", GOOD)
    snapshot = Library([Source(path=source)], natives=NativeLoader.of_nobody()).load(SkillSnapshot())
    assert codes(snapshot) == [("one", "native_not_trusted")]


def test_without_a_loader_the_instructions_are_read_and_nothing_runs(source: Path) -> None:
    write_native(source, "one", GOOD)
    assert Library([Source(path=source)]).load(SkillSnapshot()).skills["one"].native is None


@pytest.mark.parametrize("written", ["native.py", "gone.py:Skill", "../native.py:Skill", "native.py:a.b", "SKILL.md:X"])
def test_what_names_no_class_in_a_file_of_the_skill_is_refused(source: Path, looks: Looks, written: str) -> None:
    root = write_native(source, "one", GOOD)
    text = (root / "SKILL.md").read_text().replace("native.py:Skill", written)
    (root / "SKILL.md").write_text(text)
    snapshot = library(source, looks).load(SkillSnapshot())
    assert codes(snapshot) == [("one", "native_malformed")]
    assert looks.seen == []


@pytest.mark.parametrize("name", ["naïve", "a.b", "x" * 101])
def test_a_name_that_no_tool_can_have_is_refused(source: Path, looks: Looks, name: str) -> None:
    write_native(source, name, GOOD)
    assert codes(library(source, looks).load(SkillSnapshot())) == [(name, "native_name")]


def test_both_of_two_colliding_names_are_refused_until_one_goes(source: Path, looks: Looks) -> None:
    for name in ("a-b", "a_b", "a"):
        write_native(source, name, GOOD)
    loads = library(source, looks)
    both = loads.load(SkillSnapshot())
    assert list(both.skills) == ["a"]
    assert sorted(codes(both)) == [("a-b", "native_name_collision"), ("a_b", "native_name_collision")]
    (source / "a_b" / "SKILL.md").unlink()
    one = loads.load(both)
    assert list(one.skills) == ["a", "a-b"]
    write_native(source, "a_b", GOOD)
    again = loads.load(one)
    assert (list(again.skills), codes(again)) == (["a"], codes(both)), "the last good one would offer the tools of both"


def test_a_package_is_native_where_its_folder_is_trusted(source: Path, looks: Looks, tmp_path: Path) -> None:
    root = write_native(tmp_path / "made", "one", GOOD)
    files = [(f"one/{file.name}", file.read_text()) for file in root.iterdir()]
    (source / "one.skill").write_bytes(packed(*files))
    cache = PackageCache(tmp_path / "cache")
    for trusted, found in (([source], ["one"]), ([tmp_path / "cache"], [])):
        natives = NativeLoader(trusted, looks)
        snapshot = Library([Source(path=source)], packages=cache, natives=natives).load(SkillSnapshot())
        assert list(snapshot.skills) == found
        assert codes(snapshot) == ([] if found else [("one.skill", "native_not_trusted")])
    native = looks.seen[0]
    assert (Path(native.root, native.file or "").read_text(), len(looks.seen)) == ((root / "native.py").read_text(), 1)


def test_a_bad_edit_keeps_the_last_good_version_and_is_tried_again_when_asked(source: Path, looks: Looks) -> None:
    write_native(source, "one", GOOD)
    write_native(source, "two", GOOD)
    loads = library(source, looks)
    good = loads.load(SkillSnapshot())
    looks.fail = BadSkill("native_import_failed", "no", "Mend it.")
    (source / "one" / "native.py").write_text(GOOD + "# broken\n")
    bad = loads.load(good)
    assert bad.skills["one"] == good.skills["one"]
    assert [failure.kept for failure in bad.failures] == ["one"]
    assert codes(bad) == [("one", "native_import_failed")]
    tries = len(looks.seen)
    looks.fail = None
    assert loads.load(bad, [source / "two" / "SKILL.md"]).failures == bad.failures
    assert len(looks.seen) == tries, "an edit of another skill waits for no code of this one"
    mended = loads.load(bad, [source / "one"])
    assert (mended.failures, mended.skills["one"] != good.skills["one"]) == ((), True)


def test_modules_that_hang_get_less_and_less_time_until_some_has_passed(source: Path, looks: Looks) -> None:
    for number in range(6):
        write_native(source, f"s{number}", GOOD)
    looks.takes_s, looks.fail = 4.0, BadSkill("native_import_failed", "too slow", "Mend it.")
    loads = Library([Source(path=source)], natives=NativeLoader([source], looks, clock=lambda: looks.now_s))
    snapshot = loads.load(SkillSnapshot())
    assert looks.timeouts_s == [10.0, 6.0, 2.0, 2.0, 2.0, 2.0]
    looks.now_s += 60
    looks.fail = None
    assert len(loads.load(snapshot).skills) == 6
    assert looks.timeouts_s[6:] == [10.0] * 6


def test_the_name_of_the_class_is_that_of_the_skill(source: Path) -> None:
    write_native(source, "one", GOOD)

    def other(code: NativeCode, _timeout_s: float) -> Description:
        return Description(name="two", description="d", tools={})

    snapshot = Library([Source(path=source)], natives=NativeLoader([source], other)).load(SkillSnapshot())
    assert codes(snapshot) == [("one", "native_name")]


def test_equal_files_under_two_names_are_judged_each_by_its_own(source: Path) -> None:
    for name in ("one", "two"):  # which have their names of their folders
        root = write_native(source, name, GOOD)
        text = (root / "SKILL.md").read_text().replace(f"name: {name}\n", "").replace(f"skill {name}", "skill")
        (root / "SKILL.md").write_text(text)

    def describe(code: NativeCode, _timeout_s: float) -> Description:
        return Description(name="one", description="d", tools={"execute": {"name": "one_execute"}})

    snapshot = Library([Source(path=source)], natives=NativeLoader([source], describe)).load(SkillSnapshot())
    assert (list(snapshot.skills), codes(snapshot)) == (["one"], [("two", "native_name")])


def test_what_code_says_is_shown_without_what_does_not_show(source: Path, looks: Looks) -> None:
    write_native(source, "one", GOOD)
    loads = library(source, looks)
    said = "a\udcff\x1b[31m\u202eb \0 c"
    tool = {"name": "one_execute", "description": said, "input_schema": {"properties": {"x": {"enum": [1, said]}}}}
    natives = NativeLoader([source], lambda code, _s: Description(name="one", description="d", tools={"execute": tool}))
    native = Library([Source(path=source)], natives=natives).load(SkillSnapshot()).skills["one"].native
    assert native is not None
    shown = "a[31mb  c"
    schema = {"properties": {"x": {"enum": [1, shown]}}}
    assert native.tools == {"execute": {"name": "one_execute", "description": shown, "input_schema": schema}}
    looks.fail = BadSkill("native_import_failed", said, said)
    (failure,) = loads.load(SkillSnapshot()).failures
    assert [(found.message, found.remedy) for found in failure.diagnostics] == [(shown, shown)]


def test_what_a_real_class_declares_is_refused_or_offered(source: Path) -> None:
    """As the daemon does it: the library in a thread, the class in a process."""
    write_native(source, "good", GOOD.format(name="good"))
    write_native(source, "offender", OFFENDER.format(name="offender"))
    write_native(source, "missing", GOOD.format(name="missing").replace('["execute"]', '["execute", "write"]'))
    write_native(source, "renamed", GOOD.format(name="another"))

    async def main() -> None:
        async with open_processes() as processes:

            def describe(code: NativeCode, timeout_s: float) -> Description:
                return trio.from_thread.run(processes.describe, code, timeout_s)

            loads = Library([Source(path=source)], natives=NativeLoader([source], describe, paths=import_folders()))
            load: Callable[[SkillSnapshot], SkillSnapshot] = loads.load
            snapshot = await trio.to_thread.run_sync(load, SkillSnapshot())
        natives = {name: skill.native for name, skill in snapshot.skills.items()}
        assert {name: list(native.tools) for name, native in natives.items() if native is not None} == {
            "good": ["execute"],
            "offender": ["execute", "read"],
        }
        assert sorted(codes(snapshot)) == [("missing", "native_missing_callback"), ("renamed", "native_name")]

    run(main)
