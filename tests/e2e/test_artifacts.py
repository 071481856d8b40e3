"""Artifacts of a conversation of the real daemon: named by a client, used by a tool, refused where they lead inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

SHOW = "import pathlib, sys\nprint(pathlib.Path(sys.argv[1]).read_text())\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("artifacts")
    skill = write_skill(folder / "skills", "show", SHOW)
    (skill / "assets").mkdir()
    (skill / "assets/table.csv").write_text("high,low")
    with running(folder, skills=[skill.parent]) as daemon:
        yield daemon


def said(daemon: Daemon, session: str, text: str) -> str:
    turn = daemon.ask(session, text)
    return str(turn["result"]["text"])


def test_inline_content_and_assets_are_used_by_reference(daemon: Daemon) -> None:
    artifacts = [
        {"name": "note.txt", "content": "remember the milk"},
        {"name": "table", "uri": "skill://show/assets/table.csv"},
    ]
    session = daemon.create(artifacts=artifacts)
    assert "remember the milk" in said(daemon, session, "/show file://note.txt")
    assert "high,low" in said(daemon, session, "/show file://table")
    assert "high,low" in said(daemon, session, "/show skill://show/assets/table.csv")
    created = [event["data"]["name"] for event in daemon.events(session) if event["type"] == "file.created"]
    assert created == ["artifacts/note.txt", "artifacts/table"]


def test_artifacts_come_with_a_message_and_last(daemon: Daemon) -> None:
    session = daemon.create()
    body = {"text": "/show file://more.txt", "artifacts": [{"name": "more.txt", "content": "first"}]}
    with daemon.http() as http:
        accepted = http.post(f"/v1/sessions/{session}/messages", json=body)
        assert accepted.status_code == 202, accepted.text
    assert "first" in daemon.wait(accepted.json()["turn"])["result"]["text"]
    assert "first" in said(daemon, session, "/show file://more.txt")


@pytest.mark.parametrize(
    ("artifact", "status", "code"),
    [
        ({"name": "a", "uri": "http://example.com/"}, 400, "artifact_blocked"),
        ({"name": "a", "uri": "file:///etc/passwd"}, 400, "artifact_invalid"),
        ({"name": "a", "uri": "skill://show/assets/../SKILL.md"}, 400, "artifact_invalid"),
        ({"name": "../a", "content": "x"}, 400, "artifact_invalid"),
        ({"name": "a", "content": "x" * (1 << 20) + "x"}, 413, "artifact_too_large"),
    ],
)
def test_what_cannot_be_one_is_refused_when_it_is_named(
    daemon: Daemon, artifact: dict[str, Any], status: int, code: str
) -> None:
    with daemon.http() as http:
        answer = http.post("/v1/sessions", json={"artifacts": [artifact]})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["details"]["artifact_error"] == code


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("file://nothing", "artifact_not_found"),
        ("file://meta", "artifact_blocked"),
        ("skill://other/assets/x", "artifact_not_found"),
        ("skill://show/assets/none", "artifact_not_found"),
        ("skill://show/SKILL.md", "artifact_invalid"),
    ],
)
def test_a_call_with_a_reference_that_cannot_be_had_is_not_run_and_says_why(
    daemon: Daemon, reference: str, code: str
) -> None:
    session = daemon.create(artifacts=[{"name": "meta", "uri": "https://169.254.169.254/latest/meta-data"}])
    daemon.ask(session, f"/show {reference}")
    finished = [event["data"] for event in daemon.events(session) if event["type"] == "tool.finished"]
    assert finished[-1]["is_error"], json.dumps(finished)
    assert code in finished[-1]["content"]


def test_artifacts_survive_a_restart(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills", "show", SHOW)
    with running(tmp_path, skills=[skill.parent]) as daemon:
        session = daemon.create(artifacts=[{"name": "a.txt", "content": "still here"}])
        daemon.kill()
        daemon.start()
        assert "still here" in said(daemon, session, "/show file://a.txt")
