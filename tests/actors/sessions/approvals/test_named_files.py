"""Files that calls name: all that are written out are found, none is followed out, and nothing waits."""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skill_actors.sessions.approvals.named_files import FileLimits, NotBound, Roots, named_files, words_of

LIMITS = FileLimits()


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def found(folder: Path, command: str, limits: FileLimits = LIMITS, **others: Path) -> dict[str, str | None]:
    """What a command names, as tools in /w see it."""
    roots = Roots("/w", folder, {f"/skills/{name}": path for name, path in others.items()})
    return {file.path: file.sha256 for file in named_files(words_of({"command": command}, None), roots, limits)}


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("python3 a.py", ["a.py"]),
        ("python3 ./a.py", ["a.py"]),
        ("python3 /w/a.py", ["a.py"]),
        ("python3 /w//sub/./../a.py", ["sub/../a.py"]),
        ("python3 'a.py'", ["a.py"]),
        ('python3 a"."py', ["a.py"]),
        (r"python3 a\.py", ["a.py"]),
        ("cat<a.py>b.txt", ["a.py", "b.txt"]),
        ("tool --file=a.py -ob.txt", ["a.py", "b.txt"]),
        ("PATH=a.py:b.txt x", ["a.py", "b.txt"]),
        ("(a.py;b.txt)&&true|`a.py`", ["a.py", "b.txt"]),
        ("x $(cat a.py)", ["a.py"]),
        ("bash -c 'python3 a.py'", ["a.py"]),
        ("curl -d @a.py x", ["a.py"]),
        ("cd sub && python3 c.py", ["sub/c.py"]),
        ("cd sub; cd deep; sh d.sh", ["sub/deep/d.sh"]),
        ("cd sub && cd .. && cd sub/deep/.. && ./c.py", ["sub/c.py"]),
        ("sh 'with space.sh'", ["with space.sh"]),
        ("echo 'unbalanced a.py", ["a.py"]),
        ("echo nothing here", []),
        ("cat missing.txt", []),
        ("cat sub/\ud800/x sub/missing/x", []),
        ("ls sub", []),
    ],
)
def test_every_way_of_writing_a_name_out_is_found(command: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    contents = {"a.py": "1", "b.txt": "2", "sub/c.py": "3", "sub/deep/d.sh": "4", "with space.sh": "5"}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
    assert set(names) <= found(tmp_path, command).keys()
    assert names or not found(tmp_path, command)


def test_the_content_is_what_counts_and_files_of_skills_are_seen_where_the_tools_see_them(tmp_path: Path) -> None:
    work, copy = tmp_path / "work", tmp_path / "copy"
    (copy / "scripts").mkdir(parents=True)
    work.mkdir()
    (work / "a").write_text("one")
    (copy / "scripts" / "run.py").write_text("two")
    (copy / "scripts" / "more.py").write_text("three")
    command = "python3 /skills/s/scripts/run.py a; cd /skills/s/scripts; ./more.py"
    assert found(work, command, s=copy) == {
        "a": sha("one"),
        "/skills/s/scripts/run.py": sha("two"),
        "/skills/s/scripts/more.py": sha("three"),
    }


def test_links_are_told_and_never_followed_out(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "secret").write_text("not for anybody")
    (work / "real").write_text("x")
    (work / "in").symlink_to("real")
    (work / "out").symlink_to(tmp_path / "secret")
    (work / "up").symlink_to("..")
    (work / "nowhere").symlink_to("gone")
    (work / "loop").symlink_to("loop")
    roots = Roots("/w", work)
    files = named_files(["in", "out", "up/secret", "../secret", "nowhere", "loop"], roots, LIMITS)
    told = {file.path: file for file in files}
    assert told["in"].sha256 == sha("x")
    for path in ("out", "up/secret", "../secret"):
        assert told[path].sha256 is None
        assert str(tmp_path / "secret") in told[path].note


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("cp a out/new", "out/new"),
        ("cp a /w/out/new", "out/new"),
        ("cd sub && cp a on/new", "sub/on/new"),
        ("cp a out/x/y", "out/x/y"),
    ],
)
def test_where_a_file_that_is_not_there_yet_would_come_to_be_is_told(command: str, path: str, tmp_path: Path) -> None:
    """Between the look and the run the folder could become a link to another one."""
    work = tmp_path / "work"
    (work / "sub" / "on").mkdir(parents=True)
    (work / "out").mkdir()
    (work / "hooks").mkdir()
    assert not found(work, command)
    for folder, target in ((work / "out", work / "hooks"), (work / "sub" / "on", tmp_path)):
        folder.rmdir()
        folder.symlink_to(target)
    roots = Roots("/w", work)
    (file,) = [file for file in named_files(words_of({"command": command}, None), roots, LIMITS) if file.path == path]
    assert file.sha256 is None
    assert file.note.startswith(f"would be in {(work / path).parent.resolve()}")


def test_a_link_that_leads_elsewhere_is_another_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    before = None
    for target in ("a", "b", "/bin/sh"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        now = named_files(["link"], Roots("/w", tmp_path), LIMITS)
        assert now != before
        before = now


def test_pipes_sockets_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        began = time.monotonic()
        files = named_files(["pipe", "sock", "zero"], Roots("/w", tmp_path), LIMITS)
    assert time.monotonic() - began < 2
    assert {file.path: file.sha256 for file in files} == {"pipe": None, "sock": None, "zero": None}
    assert all(file.note for file in files)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (FileLimits(total_bytes=5), "more than 5 bytes"),
        (FileLimits(files=1), "more than 1 files"),
        (FileLimits(words=2), "words that could name files"),
        (FileLimits(folders=0), "more than 0 folders"),
        (FileLimits(looks=2), "folders that could name files"),
    ],
)
def test_what_is_too_much_is_refused_and_says_so(limits: FileLimits, says: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).write_text("123")
    with pytest.raises(NotBound, match=says):
        found(tmp_path, "cat a b d", limits)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0)
    with pytest.raises(NotBound, match="Permission denied"):
        found(tmp_path, "cat a")


def test_a_large_text_that_is_written_into_a_file_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    given: Mapping[str, Any] = {"path": "b", "file_text": "a " * 100_000, "description": "a"}
    assert "a" not in words_of(given, None)
    assert list(words_of({"path": "a", "nested": [{"deep": ["b c"]}]}, None)) == ["a", "b c", "b", "c"]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, others=st.lists(NAMES, max_size=3))
def test_whatever_a_file_is_called_a_command_that_quotes_it_names_it(
    tmp_path_factory: pytest.TempPathFactory, name: str, others: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("w")
    (folder / name).write_text("x")
    command = shlex.join(["tool", *others, name])
    assert found(folder, command).get(name) == sha("x")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.text(max_size=200))
def test_no_command_makes_it_fail_or_read_outside(tmp_path: Path, command: str) -> None:
    (tmp_path / "w").mkdir(exist_ok=True)
    (tmp_path / "secret").write_text("outside")
    assert sha("outside") not in found(tmp_path / "w", f"{command} ../secret /w/../secret").values()
