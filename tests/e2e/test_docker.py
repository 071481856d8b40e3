"""Conversations whose tools run in containers: the real daemon on a real engine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from docker_bench import containers_of
from docker_kit import engine_with_slim_image
from e2e.harness import Daemon, running, write_skill
from skill_actors.backends.docker_image import SLIM_IMAGE

pytestmark = pytest.mark.e2e

CONFIG = f"""
[backends]
offered = ["docker"]
[backends.docker]
image = "{SLIM_IMAGE}"
pool = 1
memory_bytes = 268435456
workspace_bytes = 67108864
"""
SCRIPT = """
print(open("/proc/1/comm").read().strip())
open("made", "a").write("line\\n")
print(len(open("made").readlines()))
"""


def boxes(client: Any, daemon: Daemon) -> list[dict[str, Any]]:
    """The containers of this daemon: their owner's name is made of the state directory."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(daemon.state))).hexdigest()[:16]
    return containers_of(client, name)


def text_of(turn: dict[str, Any]) -> str:
    """What the offline model answers: the output of the skill's entry command."""
    assert turn["status"] == "finished", turn
    return str(turn["result"]["text"]).strip()


def gone(client: Any, daemon: Daemon, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while left := boxes(client, daemon):
        assert time.monotonic() < deadline, [facts["State"] for facts in left]
        time.sleep(0.02)


def test_a_session_in_docker_keeps_its_files_over_a_killed_daemon_which_leaves_no_container(tmp_path: Path) -> None:
    skills = tmp_path / "skills"
    write_skill(skills, "counter", SCRIPT)
    with engine_with_slim_image() as client, running(tmp_path, skills=[skills], config=CONFIG) as daemon:
        with daemon.http() as http:
            made = http.post("/v1/sessions", json={"backends": ["docker"]})
            assert made.status_code == 201, made.text
            backends = {item["name"]: item for item in http.get("/v1/backends").json()["items"]}
            assert backends["docker"]["capabilities"]["sandbox"] == "container"
        session = made.json()["id"]
        first = daemon.ask(session, "/counter")
        assert "docker-init\n" in text_of(first)
        assert text_of(first).endswith("\n1")
        assert text_of(daemon.ask(session, "/counter")).endswith("\n2")
        assert boxes(client, daemon)
        daemon.kill()
        gone(client, daemon, within_s=10)
        daemon.start()
        assert text_of(daemon.ask(session, "/counter")).endswith("\n3")
        daemon.stop()
        gone(client, daemon, within_s=10)


LIMITS = """
[backends.docker.session]
memory_bytes = 536870912
"""
SIZES = """
import os
print(os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize)
"""


def test_a_session_has_the_options_it_was_made_with_until_the_operator_permits_them_no_more(tmp_path: Path) -> None:
    skills = tmp_path / "skills"
    write_skill(skills, "sizes", SIZES)
    chosen = [{"backend": "docker", "options": {"memory": "512m", "tmp": "8m"}}]
    with engine_with_slim_image(), running(tmp_path, skills=[skills], config=CONFIG + LIMITS) as daemon:
        with daemon.http() as http:
            refused = http.post("/v1/sessions", json={"backends": [{"backend": "docker", "options": {"memory": "1g"}}]})
            assert refused.status_code == 400
            assert "operator permits at most 536870912 (backends.docker.session.memory_bytes)" in refused.text
            session = http.post("/v1/sessions", json={"backends": chosen}).json()["id"]
        assert text_of(daemon.ask(session, "/sizes")) == str(8 << 20)
        (shown,) = json.loads(daemon.skillctl("sessions", "--json").stdout)["items"]
        options = {"memory_bytes": 512 << 20, "tmp_bytes": 8 << 20}
        assert shown["backends"] == [{"backend": "docker", "options": options}]
        daemon.stop()
        (tmp_path / "skilld.toml").write_text(CONFIG)
        daemon.start()
        turn = daemon.ask(session, "/sizes")
        assert turn["status"] == "failed"
        assert turn["result"]["error"]["code"] == "backend_unavailable"
        assert "option memory_bytes is 536870912, but the operator permits at most 268435456" in str(turn["result"])


FETCH = """
import os, sys, urllib.request
os.environ["no_proxy"] = os.environ["NO_PROXY"] = ""
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).read().decode())
    except OSError as error:
        print(error)
"""


def test_a_session_reaches_what_is_listed_and_nothing_else_also_after_the_daemon_was_killed(tmp_path: Path) -> None:
    skills = tmp_path / "skills"
    write_skill(skills, "fetch", FETCH)
    with engine_with_slim_image(), file_server(tmp_path) as port:
        listed = f'[backends.docker.session]\nnetworks = ["allow"]\nhosts = ["127.0.0.1:{port}"]\n'
        options = {"network": "allow", "allow": [f"127.0.0.1:{port}"]}
        with running(tmp_path, skills=[skills], config=CONFIG + listed) as daemon:
            session = daemon.create(backends=[{"backend": "docker", "options": options}])
            proxies = daemon.state / "backends" / "docker" / "proxies"
            for _ in range(2):
                said = text_of(daemon.ask(session, f"/fetch http://127.0.0.1:{port}/hello http://169.254.169.254/"))
                assert "hello from outside" in said
                assert "HTTP Error 403: 169.254.169.254:80 may not be reached from here" in said
                assert len(list(proxies.iterdir())) == 1
                daemon.kill()
                assert len(list(proxies.iterdir())) == 1
                daemon.start()
            daemon.stop()


@contextlib.contextmanager
def file_server(folder: Path) -> Iterator[int]:
    """A web server on this host's loopback with a file `hello`; its port."""
    root = folder / "served"
    root.mkdir()
    (root / "hello").write_text("hello from outside")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_without_an_engine_the_daemon_starts_and_says_what_to_do(tmp_path: Path) -> None:
    config = '[backends]\noffered = ["docker"]\n[backends.docker]\naddress = "unix:///no/such/socket"\n'
    with running(tmp_path, config=config) as daemon, daemon.http() as http:
        refused = http.post("/v1/sessions", json={"backends": ["docker"]})
        assert refused.status_code == 503
        error = refused.json()["error"]
        assert error["code"] == "backend_unavailable"
        assert "no container engine at unix:///no/such/socket: nothing is there: install one" in error["message"]
        assert http.post("/v1/sessions", json={}).status_code == 201


def test_a_daemon_whose_default_is_docker_does_not_start_without_an_engine(tmp_path: Path) -> None:
    config = '[daemon]\nmode = "production"\n[backends.docker]\naddress = "unix:///no/such/socket"\n'
    daemon = Daemon(tmp_path, config=config)
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) not in (0, None)
    assert "no container engine at unix:///no/such/socket" in daemon.log.read_text()


def test_options_that_make_no_sense_are_a_configuration_error(tmp_path: Path) -> None:
    config = '[backends]\noffered = ["docker"]\n[backends.docker]\nnetwork = "host"\n'
    daemon = Daemon(tmp_path, config=config)
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) == 78
    assert (
        "option network is 'host', but has to be none, allow, full, or the name of a network" in daemon.log.read_text()
    )
