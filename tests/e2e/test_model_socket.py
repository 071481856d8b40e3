"""A daemon that has no network at all, and reaches the model through a Unix socket."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import require
from e2e.harness import Daemon, running
from skill_actors.testing import CodeExecution, FakeMessagesApi, Reply, Text, serve_in_thread

pytestmark = pytest.mark.e2e

KEY = "sk-ant-secret-of-the-test"
HOSTED = """
[backends]
offered = ["anthropic"]
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A path for the proxy's socket."""
    folder = Path(tempfile.mkdtemp(prefix="skilld-model-"))
    yield folder / "api.sock"
    shutil.rmtree(folder)


def environment(place: Path) -> dict[str, str]:
    return {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": "http://localhost",
        "SKILLD_MODEL_SOCKET": str(place),
        "HTTP_PROXY": "http://127.0.0.1:9",
    }


def test_a_daemon_without_any_network_has_whole_turns_with_tools(place: Path, tmp_path: Path) -> None:
    require(os.geteuid() == 0 and shutil.which("unshare") is not None, "only root makes a network namespace")
    with (
        serve_in_thread(FakeMessagesApi([]), socket=place) as api,
        socket.create_server(("127.0.0.1", 0)) as outside,
        running(tmp_path, config=HOSTED, env=environment(place), within=["unshare", "--net"]) as daemon,
    ):
        assert os.readlink(f"/proc/{daemon.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        interfaces = Path(f"/proc/{daemon.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        port = outside.getsockname()[1]
        reach = json.dumps({"command": f": </dev/tcp/127.0.0.1/{port} && echo out", "description": "d"})
        write = json.dumps({"path": "a.txt", "file_text": "alpha", "description": "d"})
        session = daemon.create()
        turn = daemon.ask(session, f"Do it\n#call create_file {write}\n#call bash_tool {reach}\n#then\nDone")
        assert turn["status"] == "finished", turn
        assert (turn["result"]["model"], turn["result"]["iterations"]) == ("claude-sonnet-5-5", 2)
        finished = {e["data"]["name"]: e["data"] for e in daemon.events(session) if e["type"] == "tool.finished"}
        assert finished["create_file"]["is_error"] is False
        assert finished["bash_tool"]["exit_code"] == 1, "nothing of this host can be reached"
        assert {request.path for request in api.requests} == {"/v1/messages"}
        api.enqueue(Reply([CodeExecution("python report.py", files={"a.txt": b"alpha"}), Text("done")]))
        hosted = daemon.create(backends=["anthropic"])
        assert daemon.ask(hosted, "Make a report")["status"] == "finished"
        with daemon.http() as http:
            assert http.get(f"/v1/sessions/{hosted}/files/a.txt").content == b"alpha"
        assert any(request.path.startswith("/v1/files") for request in api.requests), "hosted files come so, too"
        assert KEY not in daemon.log.read_text()


def test_a_proxy_that_comes_later_is_waited_for_and_looked_at_by_doctor(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "doctor.toml"
    file.write_text(f'[model]\nsocket = "{place}"\nbase_url = "http://localhost"\n')

    def checks(daemon: Daemon) -> dict[str, str]:
        told = json.loads(daemon.skillctl("doctor", "--config", str(file), "--json").stdout)["checks"]
        return {check["name"]: f"{check['level']} {check['message']}" for check in told}

    with running(tmp_path, env=environment(place)) as daemon:
        assert f"the model socket {place} is not there" in daemon.log.read_text()
        assert checks(daemon)["model socket"].startswith(f"fail the model socket {place} is not there")
        checked = daemon.skillctl("config", "check", str(file))
        assert checked.returncode == 0
        assert f"the model socket {place} is not there" in checked.stderr
        session = daemon.create()
        with serve_in_thread(FakeMessagesApi([]), socket=place.with_name("elsewhere.sock")):
            accepted = daemon.post(session, "hello").json()
            os.link(place.with_name("elsewhere.sock"), place)  # at once: it is tried again for three seconds
            assert daemon.wait(accepted["turn"])["status"] == "finished", "it is tried again"
            assert checks(daemon)["model socket"] == f"ok {place} takes connections"
        place.unlink()
        place.symlink_to("/elsewhere")
        refused = daemon.skillctl("config", "check", str(file))
        assert refused.returncode == 1
        assert "is a symbolic link: name the socket itself" in refused.stderr
        failed = daemon.ask(session, "once more")["result"]["error"]
        assert failed["code"] == "model_not_configured"
        assert f"the model socket {place} is a symbolic link" in failed["message"]


def test_a_daemon_does_not_start_with_what_can_be_no_socket(place: Path, tmp_path: Path) -> None:
    place.write_text("")
    daemon = Daemon(tmp_path, env=environment(place))
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(20) == 78
    assert f"model.socket: the model socket {place} is no socket" in daemon.log.read_text()
