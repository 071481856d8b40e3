"""The entry command of a skill."""

from pathlib import Path

import pytest

from skill_actors.errors import Refused
from skill_actors.skills import Skill, entry_argv
from skill_actors.skills.entry import find_entry

FILES = ("SKILL.md", "scripts/run.py", "scripts/lib/helper.py", "tool", "bin/go")


def declared(text: str, executables: tuple[str, ...] = ()) -> tuple[str, ...] | str | None:
    entry, remarks = find_entry({"skilld-entry": text}, FILES, executables)
    return entry if not remarks else remarks[0].code


def test_only_script_is_the_entry() -> None:
    assert find_entry({}, FILES, ()) == (("python3", "scripts/run.py"), ())


def test_executable_script_needs_no_interpreter() -> None:
    assert find_entry({}, FILES, ("scripts/run.py",)) == (("scripts/run.py",), ())


def test_shell_script_is_run_by_bash() -> None:
    assert find_entry({}, ("scripts/run.sh",), ())[0] == ("bash", "scripts/run.sh")


@pytest.mark.parametrize("files", [("SKILL.md",), ("scripts/a.py", "scripts/b.py"), ("scripts/lib/a.py",)])
def test_no_script_or_several_mean_no_entry(files: tuple[str, ...]) -> None:
    assert find_entry({}, files, ()) == (None, ())


def test_script_that_nothing_can_start_is_reported() -> None:
    entry, remarks = find_entry({}, ("scripts/run.rb",), ())
    assert entry is None
    assert [remark.code for remark in remarks] == ["entry_not_executable"]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("scripts/run.py --fast 'two words'", ("python3", "scripts/run.py", "--fast", "two words")),
        ("./scripts/run.py", ("python3", "scripts/run.py")),
        ("python3 -u scripts/run.py", ("python3", "-u", "scripts/run.py")),
        ("bin/go", "entry_not_executable"),
        ("scripts/none.py", "entry_not_found"),
        ("../other/run.py", "entry_leaves_root"),
        ("/bin/sh -c id", "entry_leaves_root"),
        ("bash ../../run.sh", "entry_leaves_root"),
        ("bash scripts/../../x", "entry_leaves_root"),
        ("run 'open", "entry_malformed"),
        ("", "entry_malformed"),
    ],
)
def test_declared_entry_stays_inside_the_skill(text: str, result: tuple[str, ...] | str) -> None:
    assert declared(text) == result


def test_declared_entry_that_is_wrong_does_not_fall_back_to_the_only_script() -> None:
    assert find_entry({"skilld-entry": "missing/x"}, FILES, ())[0] is None


def skill(entry: tuple[str, ...] | None) -> Skill:
    return Skill(name="tides", description="d", root=Path("/live"), digest="0", files=FILES, entry=entry)


def test_argv_names_files_where_the_tools_see_them() -> None:
    argv = entry_argv(skill(("python3", "-u", "scripts/run.py", "x")), "/mnt/skills/tides", "")
    assert argv == ("python3", "-u", "/mnt/skills/tides/scripts/run.py", "x")


def test_arguments_are_split_but_never_expanded_or_taken_for_files() -> None:
    argv = entry_argv(skill(("tool",)), "/s", "'a b' $HOME *.log $(id) ; tool")
    assert argv == ("/s/tool", "a b", "$HOME", "*.log", "$(id)", ";", "tool")


def test_skill_without_entry_is_refused_by_code() -> None:
    with pytest.raises(Refused, match="tides") as caught:
        entry_argv(skill(None), "/s", "")
    assert caught.value.code == "no_entry_command"


def test_unclosed_quote_in_the_arguments_is_a_bad_request() -> None:
    with pytest.raises(Refused) as caught:
        entry_argv(skill(("tool",)), "/s", "'open")
    assert caught.value.code == "bad_request"
