"""Files of a conversation through the real daemon: written, read, listed and deleted over the socket and skillctl."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from docker_kit import engine_with_slim_image
from e2e.harness import Daemon, running, write_skill
from skill_actors.backends.docker_image import SLIM_IMAGE

WRITER = """
import pathlib, sys
out = pathlib.Path("out"); out.mkdir(exist_ok=True)
(out / "report.csv").write_text("a,b\\n1,2\\n")
pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "note.txt").write_text("hello")
print("done")
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("files")
    skill = write_skill(folder / "skills", "writer", WRITER)
    with running(folder, skills=[skill.parent], config="[limits]\nworkspace_bytes = 2000000\n") as daemon:
        yield daemon


def files_of(daemon: Daemon, session: str) -> dict[str, Any]:
    with daemon.http() as http:
        answer = http.get(f"/v1/sessions/{session}/files")
    assert answer.status_code == 200, answer.text
    return {item["path"]: item for item in answer.json()["items"]}


def test_what_a_call_creates_changes_and_deletes_is_told_once_and_can_be_read(daemon: Daemon) -> None:
    session = daemon.create()
    assert daemon.ask(session, "/writer")["result"]["stop_reason"] == "end_turn"
    told = [event for event in daemon.events(session) if event["type"].startswith("file.")]
    assert [(event["type"], event["data"]["name"]) for event in told] == [
        ("file.created", "note.txt"),
        ("file.created", "out/report.csv"),
    ]
    assert told[1]["data"]["content_type"] == "text/csv"
    assert told[1]["data"]["checksum"].startswith("sha256:")
    assert (told[1]["data"]["size"], told[1]["data"]["source"]) == (8, "local")
    listed = files_of(daemon, session)
    assert listed["out/report.csv"]["checksum"] == told[1]["data"]["checksum"]
    assert listed["out/report.csv"]["created_at"] is not None
    with daemon.http() as http:
        got = http.get(f"/v1/sessions/{session}/files/out/report.csv")
        assert got.content == b"a,b\n1,2\n"
        assert got.headers["content-disposition"].startswith('attachment; filename="report.csv"')
        same = http.get(f"/v1/sessions/{session}/files/note.txt", headers={"If-None-Match": "*"})
        assert (same.status_code, same.content) == (304, b"")
        part = http.get(f"/v1/sessions/{session}/files/note.txt", headers={"Range": "bytes=1-2"})
        assert (part.status_code, part.content) == (206, b"el")
    daemon.ask(session, "/writer again.txt")
    told = [event for event in daemon.events(session) if event["type"].startswith("file.")]
    assert [(event["type"], event["data"]["name"]) for event in told[2:]] == [("file.created", "again.txt")]


def test_a_file_goes_in_and_out_whole_by_http_and_its_change_is_an_event(daemon: Daemon) -> None:
    session = daemon.create()
    body = bytes(range(256)) * 2000
    with daemon.http() as http:
        put = http.put(f"/v1/sessions/{session}/files/deep/in/data.bin", content=body)
        assert put.status_code == 201, put.text
        assert put.json()["size"] == len(body)
        assert http.put(f"/v1/sessions/{session}/files/deep/in/data.bin", content=b"x").status_code == 200
        refused = http.put(
            f"/v1/sessions/{session}/files/deep/in/data.bin", content=b"y", headers={"If-None-Match": "*"}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
        assert http.delete(f"/v1/sessions/{session}/files/deep/in/data.bin").status_code == 204
        assert http.get(f"/v1/sessions/{session}/files/deep/in/data.bin").status_code == 404
    told = [(event["type"], event["turn"]) for event in daemon.events(session)]
    assert told == [("file.created", None), ("file.changed", None), ("file.deleted", None)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("..%2f..%2fjournal.db", 400),
        ("%2e%2e/secret", 400),
        ("/etc/passwd", 400),
        ("%2fetc%2fpasswd", 400),
        ("a%00b", 400),
        ("%ff%fe", 400),
        ("a//b", 400),
        (".skilld/x", 400),
        (".upload-1", 400),
        ("%ed%a0%80", 400),
        ("n" * 300, 400),
        ("none", 404),
    ],
)
def test_names_that_lead_elsewhere_are_refused_for_every_method(daemon: Daemon, path: str, status: int) -> None:
    session = daemon.create()
    target = f"http://skilld/v1/sessions/{session}/files/{path}"
    for method, body in (("GET", []), ("DELETE", ["-X", "DELETE"]), ("PUT", ["-X", "PUT", "--data-binary", "x"])):
        code, text = daemon.curl("--path-as-is", *body, target)
        if method == "PUT" and status == 404:
            assert code == 201
        else:
            assert code == status, (method, text)
            assert json.loads(text)["error"]["code"] == ("bad_request" if status == 400 else "not_found")


def test_links_are_not_followed(daemon: Daemon, tmp_path: Path) -> None:
    session = daemon.create()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    workspace = daemon.state / "workspaces" / session
    workspace.mkdir(parents=True)
    (workspace / "link").symlink_to(outside / "secret")
    (workspace / "folder").symlink_to(outside)
    with daemon.http() as http:
        for name in ("link", "folder/secret"):
            got = http.get(f"/v1/sessions/{session}/files/{name}")
            assert (got.status_code, got.json()["error"]["code"]) == (409, "conflict")
        assert http.put(f"/v1/sessions/{session}/files/folder/new", content=b"x").status_code == 409
        assert http.delete(f"/v1/sessions/{session}/files/folder/secret").status_code == 409
        assert http.put(f"/v1/sessions/{session}/files/link", content=b"mine").status_code in (200, 201)
    assert (outside / "secret").read_text() == "secret"
    assert (workspace / "link").read_text() == "mine"
    assert not (workspace / "link").is_symlink()
    assert list(outside.iterdir()) == [outside / "secret"]
    assert set(files_of(daemon, session)) == {"link"}


def test_the_quota_refuses_uploads_before_and_while_they_come_and_leaves_nothing(daemon: Daemon) -> None:
    session = daemon.create(limits={"workspace_bytes": 100_000})
    with daemon.http() as http:
        path = f"/v1/sessions/{session}/files/big"
        large = http.put(path, content=b"x" * 200_000)
        assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")

        def unsaid() -> Iterator[bytes]:
            for _ in range(300):
                yield b"x" * 1000

        assert http.put(path, content=unsaid()).status_code == 413
        assert http.put(f"{path}-1", content=b"x" * 60_000).status_code == 201
        full = http.put(f"{path}-2", content=b"x" * 60_000)
        assert (full.status_code, full.json()["error"]["code"]) == (507, "storage_full")
        listed = http.get(f"/v1/sessions/{session}/files").json()
    assert [item["path"] for item in listed["items"]] == ["big-1"]
    assert (listed["used_bytes"], listed["quota_bytes"]) == (60_000, 100_000)
    assert [path.name for path in (daemon.state / "workspaces" / session).iterdir()] == ["big-1"]


def test_a_session_may_not_have_more_than_the_operator_allows(daemon: Daemon) -> None:
    with daemon.http() as http:
        answer = http.post("/v1/sessions", json={"limits": {"workspace_bytes": 3_000_000}})
    assert answer.status_code == 400
    assert "limits.workspace_bytes" in answer.json()["error"]["message"]


def test_the_list_comes_in_pages(daemon: Daemon) -> None:
    session = daemon.create()
    names = [f"f{number:02}" for number in range(23)]
    with daemon.http() as http:
        for name in names:
            http.put(f"/v1/sessions/{session}/files/{name}", content=b"")
        seen: list[str] = []
        cursor: str | None = None
        while True:
            params: dict[str, Any] = {"limit": 10, **({"cursor": cursor} if cursor else {})}
            page = http.get(f"/v1/sessions/{session}/files", params=params).json()
            seen += [item["path"] for item in page["items"]]
            if (cursor := page["next"]) is None:
                break
        assert http.get(f"/v1/sessions/{session}/files", params={"cursor": "%%"}).status_code == 400
    assert seen == names


def test_skillctl_puts_lists_gets_and_removes(daemon: Daemon, tmp_path: Path) -> None:
    session = daemon.create()
    (tmp_path / "ein bericht.txt").write_text("größe")
    put = daemon.skillctl("files", "put", session, str(tmp_path / "ein bericht.txt"))
    assert (put.returncode, put.stdout) == (0, "ein bericht.txt: 7 B\n"), put.stderr
    piped = daemon.skillctl("files", "put", session, "-", "logs/boot.txt", input="line\n")
    assert piped.returncode == 0, piped.stderr
    again = daemon.skillctl("files", "put", session, str(tmp_path / "ein bericht.txt"))
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert daemon.skillctl("files", "put", session, "--force", str(tmp_path / "ein bericht.txt")).returncode == 0
    listed = daemon.skillctl("files", "list", session, "--json")
    assert [item["path"] for item in json.loads(listed.stdout)["items"]] == ["ein bericht.txt", "logs/boot.txt"]
    assert "logs/boot.txt" in daemon.skillctl("files", "list", session).stdout
    assert daemon.skillctl("files", "get", session, "logs/boot.txt", "-o", "-").stdout == "line\n"
    there = tmp_path / "there"
    there.mkdir()
    got = daemon.skillctl("files", "get", session, "logs/boot.txt", "ein bericht.txt", "-o", str(there))
    assert got.returncode == 0, got.stderr
    assert sorted(path.name for path in there.iterdir()) == ["boot.txt", "ein bericht.txt"]
    refused = daemon.skillctl("files", "get", session, "logs/boot.txt", "-o", str(there))
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert daemon.skillctl("files", "rm", session, "logs/boot.txt", "nothing").returncode == 1
    assert set(files_of(daemon, session)) == {"ein bericht.txt"}
    assert daemon.skillctl("files", "get", session, "nothing").returncode == 1


def test_an_upload_that_is_cut_off_leaves_nothing(daemon: Daemon) -> None:
    session = daemon.create()
    workspace = daemon.state / "workspaces" / session

    def there() -> list[Path]:
        return list(workspace.iterdir()) if workspace.exists() else []

    def pieces() -> Iterator[bytes]:
        yield b"x" * 300_000
        until(lambda: bool(there()))  # before that there would be nothing to leave
        raise RuntimeError("the client dies")

    with daemon.http() as http, pytest.raises(RuntimeError, match="dies"):
        http.put(f"/v1/sessions/{session}/files/half", content=pieces())
    until(lambda: not there())  # until the daemon has noticed, the upload counts
    assert files_of(daemon, session) == {}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_files_of_others_do_not_exist(daemon: Daemon) -> None:
    with daemon.http() as http:
        for call in (http.get, http.delete):
            answer: httpx.Response = call("/v1/sessions/ses_aaaaaaaaaaaaaaaaaaaaaaaaaa/files/x")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_after_a_kill_what_a_call_had_done_is_told_once(tmp_path: Path) -> None:
    slow = (
        "import pathlib, time\npathlib.Path('half.txt').write_text('x')\nprint('written', flush=True)\ntime.sleep(60)\n"
    )
    skill = write_skill(tmp_path / "skills", "slow", slow)
    with running(tmp_path, skills=[skill.parent]) as daemon:
        session = daemon.create()
        daemon.post(session, "/slow")
        with daemon.http() as http, http.stream("GET", f"/v1/sessions/{session}/events") as stream:
            for line in stream.iter_lines():
                if '"tool.output"' in line:
                    break
        daemon.kill()
        daemon.start()
        assert set(files_of(daemon, session)) == {"half.txt"}
        assert set(files_of(daemon, session)) == {"half.txt"}
        told = [event["type"] for event in daemon.events(session) if event["type"].startswith("file.")]
        assert told == ["file.created"]


COUNT = """
import pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text()
pathlib.Path("out").mkdir(exist_ok=True)
pathlib.Path("out/count.txt").write_text(str(len(text)))
print(text)
"""


def test_files_go_into_a_container_and_come_out_of_it(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills", "count", COUNT)
    (skill / "assets").mkdir()
    (skill / "assets/short.txt").write_text("abc")
    config = f'[backends]\noffered = ["docker"]\n[backends.docker]\nimage = "{SLIM_IMAGE}"\npool = 0\n'
    with engine_with_slim_image(), running(tmp_path, skills=[skill.parent], config=config) as daemon:
        session = daemon.create(backends=["docker"], artifacts=[{"name": "note.txt", "content": "remember"}])
        with daemon.http() as http:
            http.put(f"/v1/sessions/{session}/files/in/data.txt", content=b"from outside")
            said = daemon.ask(session, "/count in/data.txt")["result"]["text"]
            assert "from outside" in said
            assert http.get(f"/v1/sessions/{session}/files/out/count.txt").content == b"12"
            assert "remember" in daemon.ask(session, "/count file://note.txt")["result"]["text"]
            assert http.get(f"/v1/sessions/{session}/files/out/count.txt").content == b"8"
            assert "abc" in daemon.ask(session, "/count skill://count/assets/short.txt")["result"]["text"]
            assert http.delete(f"/v1/sessions/{session}/files/in/data.txt").status_code == 204
            assert "No such file" in json.dumps(daemon.ask(session, "/count in/data.txt"))
        told = [
            (event["type"], event["data"]["name"], event["data"]["source"])
            for event in daemon.events(session)
            if event["type"].startswith("file.")
        ]
    assert told == [
        ("file.created", "in/data.txt", "docker"),
        ("file.created", "out/count.txt", "docker"),
        ("file.created", "artifacts/note.txt", "docker"),
        ("file.changed", "out/count.txt", "docker"),
        ("file.changed", "out/count.txt", "docker"),
        ("file.deleted", "in/data.txt", "docker"),
    ]
