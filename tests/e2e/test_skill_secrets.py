"""The real daemon with a skill that needs something: shown before, given to it alone, kept nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.harness import Daemon, processes_with, running, write_skill

pytestmark = pytest.mark.e2e

VALUE = "s3cr3t-token-of-weather-e2e"
SHOW = 'import os, sys\nprint("token", os.environ.get("TOKEN"))\nprint(os.environ.get("TOKEN"), file=sys.stderr)\n'
NEEDY = """---
name: needy
description: A skill for a test.
metadata:
  skilld-binaries: no-such-program sh
  skilld-environment: TOKEN HOME
  skilld-packages: no-such-package-anywhere
---
Body
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "skills").mkdir(mode=0o755)
    write_skill(folder / "skills", "weather", SHOW)
    write_skill(folder / "skills", "other", SHOW)
    (folder / "skills" / "needy").mkdir()
    (folder / "skills" / "needy" / "SKILL.md").write_text(NEEDY)
    (folder / "token").write_text(VALUE + "\n")
    (folder / "token").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Daemon]:
    config = f"""
[daemon]
log_level = "debug"
[skills]
paths = ["{place}/skills"]
trusted = ["{place}/skills"]
bundled = false
system = false
[skills.secrets.weather]
TOKEN = {{ file = "{place}/token" }}
[skills.secrets.other]
OTHER = {{ credential = "never_passed" }}
"""
    (place / "d").mkdir()
    with running(place / "d", config=config) as started:
        yield started


def test_secret_reaches_the_skill_and_is_kept_nowhere(daemon: Daemon, place: Path) -> None:
    session = daemon.create()
    assert daemon.ask(session, "/weather now")["result"]["text"].startswith("token ***\n")
    exported = daemon.skillctl("export", session).stdout
    assert "token ***" in exported
    assert VALUE not in exported
    for path in place.rglob("*"):
        with suppress(FileNotFoundError):  # removed while it is looked for
            assert path.name == "token" or not path.is_file() or VALUE.encode() not in path.read_bytes(), path
    assert processes_with(VALUE) == []


def test_what_is_replaced_counts_at_once(daemon: Daemon, place: Path) -> None:
    session = daemon.create()
    (place / "token").write_text("s3cr3t-token-of-later")
    try:
        answer = daemon.ask(session, "/weather now")["result"]["text"]
    finally:
        (place / "token").write_text(VALUE)
    assert answer.startswith("token ***\n")


def test_skill_whose_secret_cannot_be_had_is_not_run_and_says_where_to_look(daemon: Daemon) -> None:
    answer = daemon.ask(daemon.create(), "/other now")["result"]["text"]
    assert "skillctl skills status" in answer
    assert "token None" not in answer


def test_needs_are_shown_before_anybody_asks_for_the_skill(daemon: Daemon) -> None:
    shown = daemon.skillctl("skills", "status")
    assert shown.returncode == 0, "a need that is not met is no failure to load"
    for line in (
        "unmet: no program no-such-program in the PATH of commands. Install no-such-program.",
        "unmet: its commands get no variable TOKEN. Give it one in the configuration: [skills.secrets.needy]",
        "unmet: python3 finds no package no-such-package-anywhere. ",
        "unmet: the secret OTHER of other is not there: no credential never_passed was passed",
    ):
        assert line in shown.stdout, shown.stdout
    assert "weather" not in shown.stdout
    unmet = json.loads(daemon.skillctl("skills", "status", "--json").stdout)["unmet"]
    assert sorted(unmet) == ["needy", "other"]
    with daemon.http() as http:
        listed = {item["name"]: item["unmet"] for item in http.get("/v1/skills").json()["items"]}
        one = http.get("/v1/skills/needy").json()
    assert listed["weather"] == []
    assert listed["needy"] == one["unmet"] == unmet["needy"]
    assert "unmet: no program no-such-program" in daemon.skillctl("skills", "show", "needy").stdout
