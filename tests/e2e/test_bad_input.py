"""What clients get wrong: each a clear error, nothing lost, the daemon alive."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("skills")
    write_skill(folder, "sleeper", "import time\ntime.sleep(600)\n")
    write_skill(folder, "greeter", "print('hello')\n")
    write_skill(folder, "two", "print('x')\n")
    (folder / "two" / "scripts" / "other.py").write_text("print('y')\n")
    with running(tmp_path_factory.mktemp("daemon"), skills=[folder]) as started:
        yield started


def error_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


NOBODY = "ses_" + "a" * 26


@pytest.mark.parametrize(
    ("path", "content", "status", "code", "says"),
    [
        ("/v1/sessions", b'{"titel": "x"}', 400, "bad_request", "title"),
        ("/v1/sessions", b"{not json", 400, "bad_request", "JSON"),
        ("/v1/sessions", b'{"title": "\xff"}', 400, "bad_request", "UTF-8"),
        ("/v1/sessions", b'{"title": ' + b"[" * 100_000, 400, "bad_request", ""),
        ("/v1/sessions", b'{"title": 7}', 400, "bad_request", "title"),
        ("/v1/sessions", b'{"budget": {"usd": -1}}', 400, "bad_request", "budget"),
        ("/v1/sessions", b'{"cwd": "/"}', 403, "cwd_not_allowed", "cwd"),
        ("/v1/sessions", b'{"backends": ["docker"]}', 503, "backend_unavailable", "docker"),
        ("/v1/sessions", b'{"backends": [7]}', 400, "bad_request", "backends"),
        ("/v1/sessions", b'{"backends": []}', 400, "bad_request", "backends"),
        ("/v1/sessions", b'{"backends": [{"backend": "local", "nam": "x"}]}', 400, "bad_request", "nam"),
        ("/v1/sessions", b'{"backends": [{"backend": "local", "name": "X"}]}', 400, "bad_request", "name"),
        ("/v1/sessions", b'{"backends": [{"backend": "local", "options": {"x": 1}}]}', 400, "bad_request", "option x"),
        ("/v1/sessions", b'{"model": "claude-opus-5-5"}', 503, "backend_unavailable", "key"),
        ("/v1/sessions", b'{"skills": ["nope"]}', 422, "invalid_skill_spec", "nope"),
        ("/v1/sessions", b'{"limits": {"iterations": 0}}', 400, "bad_request", "iterations"),
        (f"/v1/sessions/{NOBODY}/messages", b'{"text": "x"}', 404, "not_found", NOBODY),
        ("/v1/sessions/../../etc/messages", b'{"text": "x"}', 404, "not_found", ""),
        ("/v1/nothing", b"{}", 404, "not_found", ""),
    ],
)
def test_a_bad_request_is_named(daemon: Daemon, path: str, content: bytes, status: int, code: str, says: str) -> None:
    with daemon.http() as http:
        answer = http.post(path, content=content, headers={"content-type": "application/json"})
        assert error_of(answer) == (status, code), answer.text
        assert says in answer.json()["error"]["message"]
        assert answer.headers["skilld-version"]
        assert http.get("/v1/health/live").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": ""}, 400, "bad_request"),
        ({"text": "a\0b"}, 400, "bad_request"),
        ({"text": "x", "files": [{"name": "../up", "content_base64": ""}]}, 400, "bad_request"),
        ({"text": "x", "files": [{"name": "a", "content_base64": "%%"}]}, 400, "bad_request"),
        ({"text": "/two"}, 422, "no_entry_command"),
        ({"text": "/greeter 'open"}, 400, "bad_request"),
        ({"text": "x" * (9 << 20)}, 413, "too_large"),
    ],
)
def test_a_bad_message_is_refused_and_nothing_is_stored(
    daemon: Daemon, body: dict[str, Any], status: int, code: str
) -> None:
    session = daemon.create()
    with daemon.http() as http:
        assert error_of(http.post(f"/v1/sessions/{session}/messages", json=body)) == (status, code)
    assert daemon.events(session) == []


def test_files_come_into_the_workspace_with_their_message(daemon: Daemon) -> None:
    session = daemon.create()
    files = [{"name": "data.txt", "content_base64": "aGVsbG8="}]
    with daemon.http() as http:
        turn = http.post(f"/v1/sessions/{session}/messages", json={"text": "/greeter", "files": files}).json()["turn"]
    assert daemon.wait(turn)["status"] == "finished"
    assert (daemon.state / "workspaces" / session / "data.txt").read_text() == "hello"


def test_messages_queue_up_to_the_bound_and_then_are_refused_before_the_commit(daemon: Daemon) -> None:
    session = daemon.create()
    answers = [daemon.post(session, "/sleeper")]
    wait_for_status(daemon, session, "running")
    answers += [daemon.post(session, "/greeter") for _ in range(18)]
    codes = [answer.status_code for answer in answers]
    assert codes == [202] * 17 + [429] * 2
    assert answers[-1].json()["error"]["code"] == "overloaded"
    assert int(answers[-1].headers["retry-after"]) > 0
    assert sum(event["type"] == "turn.queued" for event in daemon.events(session)) == 17
    with daemon.http() as http:
        cancelled = http.post(f"/v1/sessions/{session}/cancel", json={"queued": True}).json()["cancelled"]
    assert len(cancelled) == 17
    assert daemon.ask(session, "/greeter")["result"]["text"] == "hello"


def wait_for_status(daemon: Daemon, session: str, status: str) -> None:
    deadline = time.monotonic() + 60
    with daemon.http() as http:
        while http.get(f"/v1/sessions/{session}").json()["status"] != status:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_session_deleted_during_a_turn_ends_the_turn_and_is_gone(daemon: Daemon) -> None:
    session = daemon.create()
    turn = daemon.post(session, "/sleeper").json()["turn"]
    wait_for_status(daemon, session, "running")
    with daemon.http() as http:
        assert http.delete(f"/v1/sessions/{session}").status_code == 204
        assert http.get(f"/v1/sessions/{session}").status_code == 404
        assert http.get(f"/v1/turns/{turn}").status_code == 404
        assert http.post(f"/v1/sessions/{session}/messages", json={"text": "x"}).status_code == 404
    assert not (daemon.state / "workspaces" / session).exists()
    assert daemon.ask(daemon.create(), "/greeter")["status"] == "finished"


def test_a_full_disk_refuses_messages_and_recovers_by_itself(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "mounting a small tmpfs needs root")
    state = tmp_path / "state"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(state)], check=False)
    require(mounted.returncode == 0, "this machine does not let root mount a tmpfs")
    try:
        with running(tmp_path) as daemon:
            session = daemon.create()
            assert daemon.ask(session, "hello")["status"] == "finished"
            before = daemon.events(session)
            filler = state / "filler"
            fill(filler)
            answers = [daemon.post(session, "x" * 200_000) for _ in range(60)]
            refused = [a for a in answers if a.status_code != 202]
            assert refused, "the disk never filled up"
            assert error_of(refused[-1]) == (507, "storage_full")
            assert daemon.events(session)[: len(before)] == before
            with daemon.http() as http:
                assert http.get("/v1/health/live").status_code == 200
            filler.unlink()
            wait_until_accepted(daemon)
    finally:
        subprocess.run(["umount", "-l", str(state)], check=False)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:  # what a buffer still held would be one more error at the closing
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            pass


def wait_until_accepted(daemon: Daemon) -> None:
    deadline = time.monotonic() + 20
    while True:
        with daemon.http() as http:
            made = http.post("/v1/sessions", json={})
        if made.status_code == 201 and daemon.post(made.json()["id"], "hello").status_code == 202:
            return
        assert time.monotonic() < deadline, made.text
        time.sleep(0.2)
