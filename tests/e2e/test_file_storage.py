"""Files of a conversation in a real S3-compatible bucket: stored behind the turn, fetched by another daemon."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.harness import Daemon, running, write_skill
from s3_kit import BUCKET, KEYS, bucket_server, raw_client

pytestmark = pytest.mark.e2e

TOKEN = "temporary-token-of-a-session"
WRITER = "import pathlib\npathlib.Path('report.txt').write_text('figures')\nprint('done')\n"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with bucket_server() as url:
        yield url


def config(folder: Path, url: str) -> str:
    keys = folder / "keys"
    keys.write_text(
        f"AWS_ACCESS_KEY_ID={KEYS.access_key_id}\nAWS_SECRET_ACCESS_KEY={KEYS.secret_access_key}\n"
        f"AWS_SESSION_TOKEN={TOKEN}\n"
    )
    return (
        f'[daemon]\nlog_level = "debug"\n[files]\nstorage = "s3"\nstyle = "path"\n'
        f'bucket = "{BUCKET}"\nendpoint = "{url}"\n'
        f'credentials_file = "{keys}"\n'
    )


def ref_of(daemon: Daemon, session: str, name: str) -> dict[str, Any]:
    with daemon.http() as http:
        items = http.get(f"/v1/sessions/{session}/files").json()["items"]
    return next(item for item in items if item["path"] == name)


def wait_stored(daemon: Daemon, session: str, name: str) -> str:
    """Until the file has its storage_url; the sync is behind the turn, so somebody has to look."""
    deadline = time.monotonic() + 60
    while (found := ref_of(daemon, session, name)["storage_url"]) is None:
        assert time.monotonic() < deadline, daemon.log.read_text()[-2000:]
        time.sleep(0.05)
    return str(found)


def test_files_are_stored_behind_the_turn_and_another_daemon_goes_on_with_them(tmp_path: Path, url: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    skill = write_skill(tmp_path / "skills", "writer", WRITER)
    with running(one, skills=[skill.parent], config=config(one, url)) as daemon:
        session = daemon.create()
        daemon.ask(session, "/writer")
        assert wait_stored(daemon, session, "report.txt") == f"s3://{BUCKET}/sessions/{session}/report.txt"
        with daemon.http() as http:
            status = http.get("/v1/status").json()["file_storage"]
            assert (status["storage"], status["waiting"], status["synced_files"]) == ("s3", 0, 1)
            signed = http.get(f"/v1/sessions/{session}/stored-files/report.txt", params={"expires_s": 60}).json()
            assert http.get(f"/v1/sessions/{session}/stored-files/nothing").status_code == 404
        assert httpx.get(signed["url"], trust_env=False, timeout=30).text == "figures"
        shown = daemon.skillctl("files", "url", session, "report.txt")
        assert (shown.returncode, shown.stdout.startswith(url)) == (0, True), shown.stderr
        last = daemon.create()
        with daemon.http() as http:
            http.put(f"/v1/sessions/{last}/files/kept.txt", content=b"kept")
            assert http.delete(f"/v1/sessions/{last}").status_code == 204  # stored before it goes
        said = daemon.log.read_text()
        assert "DEBUG" in said.upper()
        assert KEYS.secret_access_key not in said
        assert TOKEN not in said
    with running(two, config=config(two, url)) as daemon:
        here = daemon.create()
        done = daemon.skillctl("files", "fetch", here, "--from", session)
        assert done.returncode == 0, done.stderr
        with daemon.http() as http:
            assert http.get(f"/v1/sessions/{here}/files/report.txt").text == "figures"
        told = [event["data"]["name"] for event in daemon.events(here) if event["type"] == "file.created"]
        assert told == ["report.txt"]
        again = daemon.skillctl("files", "fetch", here, "--from", last, "--json")
        assert json.loads(again.stdout)["files"] == ["kept.txt"]
        wait_stored(daemon, here, "kept.txt")
        for _ in range(2):
            assert daemon.skillctl("files", "purge", session).returncode == 0
        assert ref_of(daemon, here, "report.txt")["size"] == 7
    client = raw_client(url)
    stored = [client.list_objects_v2(Bucket=BUCKET, Prefix=f"sessions/{id}/") for id in (session, here, last)]
    keys = [item["Key"] for page in stored for item in page.get("Contents", ())]
    client.close()
    assert keys == [f"sessions/{here}/kept.txt", f"sessions/{here}/report.txt", f"sessions/{last}/kept.txt"]


def test_a_storage_that_cannot_be_reached_holds_up_nothing_and_is_shown(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills", "writer", WRITER)
    with running(tmp_path, skills=[skill.parent], config=config(tmp_path, "http://127.0.0.1:9")) as daemon:
        session = daemon.create()
        assert daemon.ask(session, "/writer")["result"]["stop_reason"] == "end_turn"
        assert ref_of(daemon, session, "report.txt")["storage_url"] is None
        with daemon.http() as http:
            assert http.get("/v1/status").json()["file_storage"]["waiting"] == 1
            refused = http.post(f"/v1/sessions/{session}/stored-files/fetch")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "backend_unavailable")


def test_keys_that_are_missing_are_told_and_the_daemon_serves_without_a_storage(tmp_path: Path) -> None:
    text = f'[files]\nstorage = "s3"\nbucket = "b"\ncredentials_file = "{tmp_path}/none"\n'
    with running(tmp_path, config=text) as daemon:
        session = daemon.create()
        with daemon.http() as http:
            problem = http.get("/v1/status").json()["file_storage"]["problem"]
            assert "none" in problem
            refused = http.delete(f"/v1/sessions/{session}/stored-files").json()["error"]
        assert refused["code"] == "backend_unavailable"


def test_without_a_storage_the_routes_say_who_can_name_one(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        session = daemon.create()
        with daemon.http() as http:
            assert http.get("/v1/status").json()["file_storage"] is None
            refused = http.post(f"/v1/sessions/{session}/stored-files/fetch").json()["error"]
        assert "[files]" in refused["message"]


def test_what_is_stored_survives_the_loss_of_the_workspace_and_goes_only_on_purpose(tmp_path: Path) -> None:
    there = tmp_path / "there"
    text = f'[files]\nstorage = "local"\nfolder = "{there}"\n'
    with running(tmp_path, config=text) as daemon:
        session = daemon.create()
        with daemon.http() as http:
            path = f"/v1/sessions/{session}/files"
            http.put(f"{path}/a.txt", content=b"a")
            daemon.kill()  # perhaps before it was stored: the next one finds it
        daemon.start()
        wait_stored(daemon, session, "a.txt")
        assert (there / session / "a.txt").read_text() == "a"
        daemon.kill()
        shutil.rmtree(daemon.state / "workspaces" / session)
        daemon.start()
        with daemon.http() as http:
            assert http.get(path).json()["items"] == []  # told as deleted
            http.put(f"{path}/b.txt", content=b"b")
            wait_stored(daemon, session, "b.txt")
            assert sorted(file.name for file in (there / session).iterdir()) == ["a.txt", "b.txt"]
            assert http.post(f"/v1/sessions/{session}/stored-files/fetch").json()["files"] == ["a.txt"]
            assert http.get(f"{path}/a.txt").text == "a"
            wait_stored(daemon, session, "a.txt")
            assert http.post(f"/v1/sessions/{session}/reset", json={"workspace": True}).status_code == 200
        deadline = time.monotonic() + 60
        while any((there / session).iterdir()):
            assert time.monotonic() < deadline, daemon.log.read_text()[-2000:]
            time.sleep(0.05)
