"""Good, odd and hostile skills in one folder: the good one works, and each other one says what is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

HEAD = b"---\nname: x\ndescription: d\n"
HOSTILE = {
    "unclosed": (HEAD, "front_matter_open"),
    "latin": (HEAD + b"license: \xe9\n---\n", "not_utf8"),
    "nul": (b"---\nname: x\ndescription: a\0b\n---\n", "yaml_syntax"),
    "alias": (b"---\nname: &n x\ndescription: *n\n---\n", "yaml_alias"),
    "laughs": (HEAD + b"metadata:\n  a: &a [x, x]\n  b: &b [*a, *a]\n---\n", "yaml_alias"),
    "merge": (HEAD + b"metadata:\n  <<: {a: b}\n---\n", "yaml_merge_key"),
    "exec": (HEAD + b"metadata: !!python/object/apply:os.system [id]\n---\n", "yaml_tag"),
    "deep": (HEAD + b"metadata: " + b"[" * 50_000 + b"\n---\n", "yaml_too_deep"),
    "wide": (HEAD + b"metadata: [" + b"x," * 50_000 + b"]\n---\n", "yaml_too_many"),
    "huge": (HEAD + b"---\n" + b"x" * 11_000_000, "file_too_large"),
    "blank": (b"---\nname: x\n---\n", "description_missing"),
    "path": (b"---\nname: ../../etc/cron\ndescription: d\n---\n", "name_unsafe"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    skills = tmp_path / "skills"
    write_skill(skills, "greeter", "print('hello')\n")
    for name, (content, _) in HOSTILE.items():
        (skills / name).mkdir()
        (skills / name / "SKILL.md").write_bytes(content)
    for name in ("fifo", "device"):
        (skills / name).mkdir()
    os.mkfifo(skills / "fifo/SKILL.md")
    (skills / "device/SKILL.md").symlink_to("/dev/zero")
    (skills / "colon").mkdir()
    (skills / "colon/SKILL.md").write_text("---\nname: colon\ndescription: Use when: asked\nversion: 1\n---\n")
    return skills


@pytest.fixture
def daemon(tmp_path: Path, folder: Path) -> Iterator[Daemon]:
    home = tmp_path / "daemon"
    home.mkdir()
    with running(home, skills=[folder]) as started:
        yield started


def test_one_bad_file_never_hurts_another(daemon: Daemon, folder: Path) -> None:
    done = daemon.skillctl("skills", "status", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    status = json.loads(done.stdout)
    failed = {Path(failure["path"]).name: failure["diagnostics"] for failure in status["failures"]}
    expected = {name: code for name, (_, code) in HOSTILE.items()}
    assert {name: found[0]["code"] for name, found in failed.items()} == {
        **expected,
        "fifo": "not_regular",
        "device": "link_leaves_root",
    }
    assert all(item["message"] and item["remedy"] for found in failed.values() for item in found)
    assert failed["alias"][0]["line"] == 3
    assert [item["code"] for item in status["findings"]["colon"]] == ["yaml_repaired", "unknown_field"]
    shown = daemon.skillctl("skills", "status").stdout
    assert "(line 3). Put the value in quotes. [yaml_repaired]" in shown
    assert daemon.ask(daemon.create(), "/greeter")["result"]["text"].strip() == "hello"


def test_a_mended_file_is_taken_and_its_diagnostics_are_gone(daemon: Daemon, folder: Path) -> None:
    (folder / "blank/SKILL.md").write_text("---\nname: blank\ndescription: d\n---\n")
    assert daemon.skillctl("skills", "reload").returncode == 0
    status = json.loads(daemon.skillctl("skills", "status", "--json").stdout)
    assert "blank" not in {Path(failure["path"]).name for failure in status["failures"]} | set(status["findings"])


def test_the_validator_judges_the_same_folder_without_a_daemon(tmp_path: Path, folder: Path) -> None:
    stopped = Daemon(tmp_path)
    done = stopped.skillctl("skills", "validate", "--json", *map(str, sorted(folder.iterdir())))
    assert (done.returncode, done.stderr) == (1, "")
    assert [Path(item["path"]).name for item in json.loads(done.stdout) if item["valid"]] == ["greeter"]
