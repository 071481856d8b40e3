"""The disk fails under load: the daemon ends at once with 74, the next start finds all that it had acknowledged.

The daemon is the real one; the interpreter that runs it gives SQLite a file system that fails on command.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from e2e.crash_kit import (
    Follower,
    Sender,
    Toll,
    check_all,
    check_file,
    wait_for_acknowledged,
    wait_for_tools_gone,
)
from e2e.harness import Daemon, running, write_skill

pytestmark = [
    pytest.mark.e2e,
    # httpx leaks the socket of a connect that fails, and here they fail by design.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROUNDS = 3
SESSIONS = 3

SITE = """
import os, sys
if any(argument.endswith("skilld") for argument in sys.orig_argv[:3]):
    import apsw

    class File(apsw.VFSFile):
        def _perhaps_fail(self, kind, code):
            if os.path.exists(os.environ["DISK_FAILS"] + "-" + kind):
                error = apsw.IOError("injected")
                error.extendedresult = code
                raise error

        def xSync(self, flags):
            self._perhaps_fail("sync", apsw.SQLITE_IOERR_FSYNC)
            super().xSync(flags)

        def xWrite(self, data, offset):
            self._perhaps_fail("write", apsw.SQLITE_IOERR_WRITE)
            super().xWrite(data, offset)

    class Disk(apsw.VFS):
        def __init__(self):
            super().__init__("failing", "unix", makedefault=True)

        def xOpen(self, name, flags):
            return File("unix", name, flags)

    disk = Disk()
"""

SCRIPT = """
import sys, time
with open({outside!r}, "a") as file:
    file.write(sys.argv[1] + "\\n")
time.sleep(0.05)
print("did", sys.argv[1])
"""


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_a_disk_that_fails_ends_the_daemon_and_loses_nothing_acknowledged(tmp_path: Path, kind: str) -> None:
    outside, site, switch = tmp_path / "outside.txt", tmp_path / "site", tmp_path / f"fails-{kind}"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    write_skill(tmp_path / "skills", "job", SCRIPT.format(outside=str(outside)))
    env = {"PYTHONPATH": str(site), "DISK_FAILS": str(tmp_path / "fails")}
    toll, rng = Toll(), random.Random(kind)
    with running(tmp_path, skills=[tmp_path / "skills"], env=env) as daemon:
        sessions = [daemon.create() for _ in range(SESSIONS)]
        followers = [Follower(daemon, session) for session in sessions]
        for follower in followers:
            follower.start()
        for round in range(ROUNDS):
            senders = [Sender(daemon, session, f"r{round}s{n}", "/job {}".format) for n, session in enumerate(sessions)]
            for sender in senders:
                sender.start()
            time.sleep(rng.uniform(0.1, 0.5))
            wait_for_acknowledged(senders, 1)
            switch.touch()
            assert daemon.process is not None
            assert daemon.process.wait(20) == 74
            for session, sender in zip(sessions, senders, strict=True):
                sender.stop()
                toll.add(session, sender)
            wait_for_tools_gone(str(daemon.state))
            refuses_to_start(daemon)
            switch.unlink()
            daemon.start()
            rest(daemon, sessions)
        assert toll.count >= ROUNDS
        for session, follower in zip(sessions, followers, strict=True):
            follower.finish(daemon.events(session)[-1]["seq"])
        check_all(daemon, toll, followers, outside)
    check_file(daemon.state, toll.acked)


def refuses_to_start(daemon: Daemon) -> None:
    """While the disk fails the daemon does not come up, and says why."""
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(20) == 74
    assert "journal" in daemon.log.read_text().splitlines()[-1]


def rest(daemon: Daemon, sessions: list[str]) -> None:
    """Cancel what waits, and wait until nothing runs."""
    deadline = time.monotonic() + 60
    with daemon.http() as http:
        for session in sessions:
            http.post(f"/v1/sessions/{session}/cancel", json={"queued": True})
            while http.get(f"/v1/sessions/{session}").json()["status"] != "idle":
                assert time.monotonic() < deadline
                time.sleep(0.05)
