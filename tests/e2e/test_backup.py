"""A backup of a daemon at work, and the same conversations out of it in another state directory."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from e2e.harness import Daemon, running
from skill_actors.store.archive import read_archive

pytestmark = [pytest.mark.e2e]


def restored_from(archive: Path, folder: Path, old: Daemon) -> Daemon:
    """A daemon, not started, on the state that `skillctl restore` made of the archive."""
    folder.mkdir()
    new = Daemon(folder)
    done = old.skillctl("restore", str(archive), "--state-dir", str(new.state), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["left_out"] == []
    return new


def test_conversations_come_back_from_a_backup_that_was_made_while_they_went_on(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with running(tmp_path / "old") as daemon:
        kept = daemon.create(title="kept")
        with daemon.http() as http:
            files = [{"name": "data.txt", "content_base64": "aGVsbG8="}]
            sent = http.post(f"/v1/sessions/{kept}/messages", json={"text": "hello", "files": files})
        daemon.wait(sent.json()["turn"])
        before = daemon.events(kept)
        busy, stop = daemon.create(), threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                daemon.ask(busy, "more")

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            done = daemon.skillctl("backup", str(tmp_path), "--json", timeout_s=60)
        finally:
            stop.set()
            thread.join()
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert (facts["damaged"], facts["skipped"]) == ([], {})
        archive = Path(facts["file"])
        assert [path for path in tmp_path.iterdir() if path.is_file()] == [archive]
        assert archive.stat().st_mode & 0o777 == 0o600
        new = restored_from(archive, tmp_path / "new", daemon)
        assert not list(daemon.state.glob("backup-*"))
    try:
        new.start()
        assert new.events(kept) == before
        workspace = new.state / "workspaces" / kept
        assert (workspace / "data.txt").read_bytes() == b"hello"
        assert new.ask(kept, "still there?")["status"] == "finished"
        assert new.ask(busy, "and you?")["status"] == "finished"
    finally:
        new.stop()


def test_a_restore_into_a_state_in_use_is_refused_and_needs_force_where_something_is(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        session = daemon.create()
        daemon.ask(session, "hello")
        archive = tmp_path / "b.tar"
        assert daemon.skillctl("backup", str(archive)).returncode == 0
        busy = daemon.skillctl("restore", str(archive), "--state-dir", str(daemon.state), "--force")
        assert busy.returncode == 1
        assert f"process {daemon.pid}" in busy.stderr
        daemon.ask(session, "after the backup")
        daemon.stop()
        refused = daemon.skillctl("restore", str(archive), "--state-dir", str(daemon.state))
        assert (refused.returncode, "--force" in refused.stderr) == (1, True)
        forced = daemon.skillctl("restore", str(archive), "--state-dir", str(daemon.state), "--force", "--json")
        assert forced.returncode == 0, forced.stderr
        assert (Path(json.loads(forced.stdout)["aside"]) / "journal.db").exists()
        daemon.start()
        texts = [event["data"].get("text") for event in daemon.events(session) if event["type"] == "turn.queued"]
        assert texts == ["hello"]


def test_a_daemon_that_is_killed_in_mid_backup_leaves_no_backup(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        session = daemon.create()
        daemon.ask(session, "hello")
        work = daemon.state / "workspaces" / session
        work.mkdir(parents=True, exist_ok=True)
        with (work / "big").open("wb") as file:
            for _ in range(64):
                file.write(os.urandom(1 << 20))
        with daemon.http() as http, http.stream("GET", "/v1/backup") as answer:
            assert answer.status_code == 200
            next(answer.iter_raw())
            daemon.kill()
        daemon.start()
        out = tmp_path / "out"
        out.mkdir()
        with killed_on_the_way(daemon, tmp_path / "w.sock", after_bytes=1 << 20) as way:
            done = daemon.skillctl("--socket", str(way), "backup", str(out / "b.tar"), timeout_s=60)
        assert done.returncode == 4, done.stderr
        assert list(out.iterdir()) == []
        daemon.start()
        assert daemon.skillctl("backup", str(out / "b.tar"), timeout_s=60).returncode == 0
        assert read_archive(out / "b.tar").damaged == []
        assert not list(daemon.state.glob("backup-*"))


@contextmanager
def killed_on_the_way(daemon: Daemon, way: Path, *, after_bytes: int) -> Iterator[Path]:
    """A socket that leads to the daemon's, and kills the daemon once so much of its answers has come through."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(way))
        listener.listen()
        thread = threading.Thread(target=carry_all, args=(listener, daemon, after_bytes))
        thread.start()
        try:
            yield way
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def carry_all(listener: socket.socket, daemon: Daemon, after_bytes: int) -> None:
    with suppress(OSError):  # nobody else comes
        while True:
            client, _ = listener.accept()
            with client, socket.socket(socket.AF_UNIX) as behind, suppress(OSError):
                behind.connect(str(daemon.socket))
                carry(client, behind, daemon, after_bytes)


def carry(client: socket.socket, behind: socket.socket, daemon: Daemon, after_bytes: int) -> None:
    """Both ways, until one side closes."""
    carried = 0
    while True:
        for source in select.select([client, behind], [], [])[0]:
            if not (data := source.recv(65_536)):
                return
            (behind if source is client else client).sendall(data)
            if source is behind:
                carried += len(data)
                if carried > after_bytes:
                    daemon.kill()
