"""Tests that skills declare: what may be declared, how it is run, and what counts as failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import processes_with
from skill_actors.authoring.folder import open_skill
from skill_actors.authoring.trial_file import BadTrial, Trial, read_trials
from skill_actors.authoring.trials import TrialResult, run_trials
from skill_actors.backends import BackendUnavailable

Author = Callable[..., Path]
ECHO = "#!/bin/bash\nprintf '%s\\n' \"$@\"\n"


def trials(author: Author, root: Path, cases: str, script: str = ECHO, **more: str) -> list[TrialResult]:
    author(root, {"+scripts/run.sh": script, "tests/a.toml": cases, **more})
    return run_trials(open_skill(root))


def failures(*arguments: object) -> list[tuple[str, ...]]:
    return [result.failures for result in trials(*arguments)]  # type: ignore[arg-type]


def test_case_passes_when_everything_declared_is_so(tmp_path: Path, author: Author) -> None:
    script = (
        '#!/bin/bash\necho "$1,$2,$TZ,$(cat in/a.txt)"; echo trouble >&2; mkdir out; echo made > out/b.txt; exit 3\n'
    )
    cases = """
[[case]]
name = "all of it"
arguments = ["a b", "c"]
files = {"in/a.txt" = "content"}
environment = {TZ = "UTC"}
timeout_s = 20
exit_code = 3
stdout = "a b,c,UTC,content\\n"
stdout_contains = ["UTC", "content"]
stderr = "trouble\\n"
stderr_contains = ["rouble"]
creates = {"out/b.txt" = "made\\n"}
creates_containing = {"out/b.txt" = ["ma", "de"]}
"""
    (result,) = trials(author, tmp_path / "a", cases, script)
    assert (result.failures, result.exit_code, result.stdout) == ((), 3, "a b,c,UTC,content\n")


def test_each_difference_is_named(tmp_path: Path, author: Author) -> None:
    cases = """
[[case]]
name = "wrong"
arguments = ["x"]
exit_code = 2
stdout = "y\\n"
stdout_contains = ["z"]
stderr = "e"
creates = {"out.txt" = ""}
"""
    (found,) = failures(author, tmp_path / "a", cases)
    assert found == (
        "exit code 0 instead of 2",
        "stdout is 'x\\n' instead of 'y\\n'",
        "stdout lacks 'z'",
        "stderr is '' instead of 'e'",
        "out.txt was not made: No such file or directory",
    )


def test_run_names_another_script_or_program(tmp_path: Path, author: Author) -> None:
    cases = """
[[case]]
name = "other"
run = "scripts/other.py --flag"
arguments = ["x"]
stdout = "--flag x\\n"
[[case]]
name = "program"
run = "cat SKILL.md"
stdout_contains = ["name: a"]
"""
    other = "import sys\nprint(*sys.argv[1:])\n"
    results = trials(author, tmp_path / "a", cases, **{"scripts/other.py": other})
    assert [result.failures for result in results] == [(), ()]


def test_cases_share_nothing_and_the_skill_stays_as_it_is(tmp_path: Path, author: Author) -> None:
    script = '#!/bin/bash\nls -A | grep -v skilld; touch left; echo x > "${0%/*}/new" || echo sealed\n'
    one = '[[case]]\nname = "{}"\nstdout_contains = []\ncreates = {{left = ""}}\n'
    before = None
    for number in range(2):
        results = trials(author, tmp_path / "a", one.format(1) + one.format(2), script)
        assert [result.failures for result in results] == [(), ()]
        assert all("left" not in result.stdout for result in results)
        digest = open_skill(tmp_path / "a").inventory.digest
        assert before in (None, digest), number
        before = digest


def test_environment_is_clean(tmp_path: Path, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-for-skills")
    (result,) = trials(author, tmp_path / "a", '[[case]]\nname = "env"\nrun = "env"\n')
    assert result.passed
    assert "sk-not-for-skills" not in result.stdout
    assert "TMPDIR=" in result.stdout


def test_case_that_takes_too_long_is_killed_with_all_it_started(tmp_path: Path, author: Author) -> None:
    script = "#!/bin/bash\nsetsid sleep 8301 & disown\nsleep 8302\n"
    began = time.monotonic()
    (found,) = failures(author, tmp_path / "a", '[[case]]\nname = "slow"\ntimeout_s = 0.5\n', script)
    assert found == ("it took longer than 0.5 s and was killed",)
    assert time.monotonic() - began < 20
    assert processes_with("sleep\x008301") + processes_with("sleep\x008302") == []


def test_caller_may_allow_less_time_than_the_case(tmp_path: Path, author: Author) -> None:
    root = author(
        tmp_path / "a", {"+scripts/run.sh": "#!/bin/sh\nsleep 60\n", "tests/a.toml": '[[case]]\nname = "s"\n'}
    )
    (result,) = run_trials(open_skill(root), timeout_s=0.3)
    assert result.failures == ("it took longer than 0.3 s and was killed",)


def test_only_cases_of_a_name_are_run_and_each_is_told_at_once(tmp_path: Path, author: Author) -> None:
    cases = '[[case]]\nname = "one"\n[[case]]\nname = "two"\n'
    root = author(tmp_path / "a", {"+scripts/run.sh": ECHO, "tests/a.toml": cases})
    told: list[str] = []
    run_trials(open_skill(root), only="tw", on_result=lambda result: told.append(result.name))
    assert told == ["two"]
    assert run_trials(open_skill(root), only="three") == []


def test_flood_of_output_ends_with_the_case(tmp_path: Path, author: Author) -> None:
    script = "#!/bin/bash\nhead -c 20000000 /dev/zero | tr '\\0' '\\1'\n"
    (result,) = trials(author, tmp_path / "a", '[[case]]\nname = "f"\nstdout = "x"\n', script)
    assert len(result.failures[0]) < 400
    assert len(result.stdout) < 3_000


@pytest.mark.parametrize("make", ["mkfifo", "mkdir", "ln -s /dev/ptmx", "ln -s /dev/zero"])
def test_what_is_no_file_is_none_that_was_made(tmp_path: Path, author: Author, make: str) -> None:
    cases = '[[case]]\nname = "f"\ncreates = {"out.txt" = ""}\n'
    (found,) = failures(author, tmp_path / "a", cases, f"#!/bin/bash\n{make} out.txt\n")
    assert found == ("out.txt was not made: it is no regular file",)


def test_script_that_cannot_be_started_is_a_failure(tmp_path: Path, author: Author) -> None:
    (found,) = failures(author, tmp_path / "a", '[[case]]\nname = "n"\n', "#!/no/such/interpreter\n")
    assert found[0].startswith("it was not run: [the command could not be started")


def test_skill_that_cannot_be_loaded_and_a_file_that_cannot_be_read_are_failures(
    tmp_path: Path, author: Author
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "SKILL.md").write_text("x")
    (result,) = run_trials(open_skill(tmp_path / "b"))
    assert result.failures[0].startswith("the skill cannot be loaded")
    root = author(
        tmp_path / "a", {"+scripts/run.sh": ECHO, "tests/a.toml": "[", "tests/b.toml": '[[case]]\nname="b"\n'}
    )
    assert [result.passed for result in run_trials(open_skill(root))] == [False, True]


def test_skill_edited_meanwhile_is_a_failure(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "a", {"+scripts/run.sh": ECHO, "tests/a.toml": '[[case]]\nname = "a"\n'})
    folder = open_skill(root)
    (root / "scripts/run.sh").write_text("#!/bin/sh\nexit 1\n")
    (result,) = run_trials(folder)
    assert "changed on disk" in result.failures[0]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("", "needs a name"),
        ('name = " "', "needs a name"),
        ('name = "a"\nstout = "x"', "'stout' that is not known"),
        ('name = "a"\narguments = "x"', "arguments must be a list of texts"),
        ('name = "a"\narguments = [1]', "arguments must be a list of texts"),
        ('name = "a"\nexit_code = 256', "from 0 to 255"),
        ('name = "a"\nexit_code = true', "from 0 to 255"),
        ('name = "a"\ntimeout_s = 0', "more than 0"),
        ('name = "a"\ntimeout_s = 601', "at most 600"),
        (f'name = "a"\ntimeout_s = {"9" * 400}', "at most 600"),
        (f'name = "a"\ntimeout_s = {"9" * 5000}', "no TOML"),
        ('name = "a"\ntimeout_s = nan', "number of seconds"),
        ('name = "a"\nstdout = 1', "stdout must be text"),
        ('name = "a"\nfiles = {"../x" = ""}', "no path in the workspace"),
        ('name = "a"\nfiles = {"/x" = ""}', "no path in the workspace"),
        ('name = "a"\nfiles = {x = 1}', "content as text"),
        ('name = "a"\ncreates = []', "must be a table"),
        ('name = "a"\ncreates_containing = {x = "y"}', "list of texts"),
        ('name = "a"\nenvironment = {"A=B" = "x"}', "no variable"),
        ('name = "a"\nrun = "../x.sh"', "leads out of the skill"),
        ('name = "a"\nrun = "scripts/none.sh"', "no file of the skill"),
        ('name = "a"\n[[case]]\nname = "a"', "two cases are named"),
    ],
)
def test_declaration_that_cannot_be_meant_is_refused(tmp_path: Path, author: Author, case: str, says: str) -> None:
    root = author(tmp_path / "a", {"+scripts/run.sh": ECHO, "tests/a.toml": f"[[case]]\n{case}\n"})
    with pytest.raises(BadTrial) as caught:
        read_trials(open_skill(root), "tests/a.toml")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "case = 1", "case = []", "x = 1", "[case]\nname = 'a'", "[[case]\n", "a = " + "[" * 9999]
)
def test_file_that_declares_no_cases_is_refused(tmp_path: Path, author: Author, text: str) -> None:
    root = author(tmp_path / "a", {"+scripts/run.sh": ECHO, "tests/a.toml": text})
    with pytest.raises(BadTrial):
        read_trials(open_skill(root), "tests/a.toml")


def test_case_without_run_needs_an_entry_command(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "a", {"tests/a.toml": '[[case]]\nname = "a"\n'})
    with pytest.raises(BadTrial, match="no entry command"):
        read_trials(open_skill(root), "tests/a.toml")


def test_every_key_of_a_case_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "skills.md").read_text(encoding="utf-8")
    keys = {name for name in Trial.__dataclass_fields__ if name not in ("argv", "file")} | {"run"}
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_folders_of_finished_runs_are_gone(tmp_path: Path, author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    trials(author, tmp_path / "a", '[[case]]\nname = "a"\n')
    assert os.listdir(place) == []


def test_bundled_skill_passes_its_tests() -> None:
    results = run_trials(open_skill(Path(__file__).parents[3] / "skills" / "echo"))
    assert [result.failures for result in results] == [(), ()]


def test_host_that_can_run_nothing_is_told_by_itself(
    tmp_path: Path, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="no bash"):
        trials(author, tmp_path / "a", '[[case]]\nname = "a"\n')
