"""The daemon on a real engine that only the broker can reach, and what others can have of the engine through it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, NotFound

from conftest import require
from docker_kit import engine_with_slim_image
from e2e.harness import clean_environment, running, write_skill
from skill_actors.backends.docker_image import SLIM_IMAGE, connect, engine_address
from skill_actors.backends.docker_options import DockerOptions, create_arguments
from skilld.broker.rules import BROKER

pytestmark = pytest.mark.e2e

START_S = 30.0
LABELS = {"skilld.owner": "test-of-the-broker", "skilld.boot": "1"}
CONFIG = """
[backends]
default = ["docker"]
[backends.docker]
address = "unix://{socket}"
image = "{image}"
pool = 0
memory_bytes = 268435456
workspace_bytes = 67108864
"""


class BrokerProcess:
    """A running broker."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        engine = engine_address(os.environ)
        require(engine.startswith("unix://"), "the broker speaks to an engine on this host")
        self.socket = folder / "broker" / "b.sock"
        self.log = folder / "broker.log"
        command = [sys.executable, "-P", "-m", "skilld.broker", "--engine", engine.removeprefix("unix://")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--socket", str(self.socket), "--image", SLIM_IMAGE, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


@contextlib.contextmanager
def brokered(folder: Path, *arguments: str) -> Iterator[tuple[BrokerProcess, Any, Any]]:
    """A broker, the SDK's client through it, and the one of the engine itself; no container of it is left."""
    with engine_with_slim_image() as engine:
        broker = BrokerProcess(folder, *arguments)
        try:
            with contextlib.closing(connect(broker.address, {})) as client:
                yield broker, client, engine
        finally:
            broker.stop()
            for left in engine.api.containers(all=True, filters={"label": f"skilld.owner={LABELS['skilld.owner']}"}):
                with contextlib.suppress(APIError):
                    engine.api.remove_container(left["Id"], force=True)


def body(**options: Any) -> dict[str, Any]:
    return create_arguments(DockerOptions(image=SLIM_IMAGE, **options), LABELS)


def made_by_brokers(engine: Any) -> list[str]:
    """Of this test's owner, or of the daemon of this test."""
    return [each["Id"] for each in engine.api.containers(all=True, filters={"label": BROKER})]


def test_a_conversation_has_its_container_through_the_broker(tmp_path: Path) -> None:
    skills = tmp_path / "skills"
    write_skill(skills, "where", 'import os\nprint(os.getuid(), open("/proc/1/comm").read().strip())\n')
    with brokered(tmp_path) as (broker, _, engine):
        before = set(made_by_brokers(engine))
        config = CONFIG.format(socket=broker.socket, image=SLIM_IMAGE)
        with running(tmp_path, skills=[skills], config=config) as daemon:
            turn = daemon.ask(daemon.create(), "/where")
            assert turn["status"] == "finished", turn
            uid, first = turn["result"]["text"].split()
            assert int(uid) > 10_000
            assert first in ("docker-init", "tini", "init")
            assert set(made_by_brokers(engine)) - before
            daemon.kill()  # its containers end with its connections, which the broker carries
            deadline = time.monotonic() + 30
            while set(made_by_brokers(engine)) - before:
                assert time.monotonic() < deadline, broker.log.read_text()
                time.sleep(0.05)


def test_containers_end_with_the_broker(tmp_path: Path) -> None:
    with brokered(tmp_path) as (broker, client, engine):
        container = client.api.create_container_from_config(body())["Id"]
        with socket.socket(socket.AF_UNIX) as attached:
            attached.connect(str(broker.socket))
            attached.sendall(
                f"POST /containers/{container}/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode()
            )
            assert attached.recv(4096).startswith(b"HTTP/1.1 101 ")
            client.api.start(container)
            assert engine.api.inspect_container(container)["State"]["Running"]
            broker.process.kill()
            broker.process.wait(START_S)
        deadline = time.monotonic() + 30
        while any(each["Id"] == container for each in engine.api.containers()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Privileged", True),
        ("Binds", ["/:/host"]),
        ("NetworkMode", "host"),
        ("PidMode", "host"),
        ("CapAdd", ["SYS_ADMIN"]),
        ("SecurityOpt", ["seccomp=unconfined"]),
        ("Devices", [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r"}]),
    ],
)
def test_what_would_give_the_host_away_never_reaches_the_engine(tmp_path: Path, key: str, value: Any) -> None:
    with brokered(tmp_path) as (_, client, engine):
        asked = body()
        asked["HostConfig"][key] = value
        with pytest.raises(APIError) as refused:
            client.api.create_container_from_config(asked)
        assert refused.value.status_code == 403
        assert f"HostConfig.{key}" in str(refused.value.explanation)
        assert engine.api.containers(all=True, filters={"label": f"skilld.owner={LABELS['skilld.owner']}"}) == []


def test_other_containers_are_neither_seen_nor_touched(tmp_path: Path) -> None:
    with brokered(tmp_path) as (_, client, engine):
        others = engine.api.create_container_from_config(body())["Id"]  # by its labels as good as one of the broker's
        mine = client.api.create_container_from_config(body())["Id"]
        assert [each["Id"] for each in client.api.containers(all=True)] == [mine]
        for act in (client.api.inspect_container, client.api.start, client.api.remove_container):
            with pytest.raises(NotFound):
                act(others)
        assert engine.api.inspect_container(others)["State"]["Status"] == "created"


@pytest.mark.parametrize("version", ["/v1.999", ""])
def test_an_attach_that_the_engine_refuses_is_no_way_to_the_engine(tmp_path: Path, version: str) -> None:
    """The engine goes on reading requests then, and what the client sends next must not be carried to it."""
    with brokered(tmp_path) as (broker, client, engine):
        container = client.api.create_container_from_config(body())["Id"]
        if not version:
            engine.api.remove_container(container)
        with socket.socket(socket.AF_UNIX) as attached:
            attached.settimeout(START_S)
            attached.connect(str(broker.socket))
            attached.sendall(
                f"POST {version}/containers/{container}/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                "Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n".encode()
            )
            assert attached.recv(4096).startswith(b"HTTP/1.1 4")
            attached.sendall(b"GET /images/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := attached.recv(4096):
                answer += data
            assert b"HTTP/1.1 403 " in answer
            assert b"is not offered here" in answer


def test_a_container_of_an_image_with_a_volume_is_not_made(tmp_path: Path) -> None:
    name = f"localhost/skilld-test-{secrets.token_hex(6)}:1"
    with brokered(tmp_path, "--image", name) as (_, client, engine):
        engine.images.build(fileobj=io.BytesIO(f"FROM {SLIM_IMAGE}\nVOLUME /data\n".encode()), tag=name, rm=True)
        try:
            with pytest.raises(APIError, match=r"the image has volumes \(/data\)"):
                client.api.create_container_from_config({**body(), "Image": name})
            assert client.api.containers(all=True) == []
        finally:
            engine.images.remove(name, force=True)


def test_a_container_of_an_earlier_life_can_be_removed(tmp_path: Path) -> None:
    with brokered(tmp_path) as (broker, client, _):
        container = client.api.create_container_from_config(body())["Id"]
        assert broker.stop() == 0
        with brokered(tmp_path) as (_, again, engine):
            again.api.remove_container(container, force=True)
            with pytest.raises(NotFound):
                engine.api.inspect_container(container)


def test_there_are_no_more_containers_than_allowed(tmp_path: Path) -> None:
    with brokered(tmp_path, "--containers", "2") as (_, client, _):
        for _ in range(2):
            client.api.create_container_from_config(body())
        with pytest.raises(APIError, match="403"):
            client.api.create_container_from_config(body())


def test_nothing_else_of_the_engine_is_offered(tmp_path: Path) -> None:
    with brokered(tmp_path) as (_, client, _):
        container = client.api.create_container_from_config(body())["Id"]
        acts: list[Callable[[], Any]] = [
            lambda: client.api.exec_create(container, ["id"]),
            lambda: client.api.get_archive(container, "/etc"),
            lambda: client.images.list(),
            lambda: client.images.pull("debian", tag="latest"),
            lambda: client.volumes.list(),
            lambda: client.networks.list(),
            lambda: client.api.update_container(container, mem_limit=1 << 33),
        ]
        for act in acts:
            with pytest.raises(APIError) as refused:
                act()
            assert refused.value.status_code == 403


@pytest.mark.parametrize(
    "sent",
    [
        b"\0" * 5000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}",
    ],
)
def test_one_who_speaks_nonsense_hurts_nobody(tmp_path: Path, sent: bytes) -> None:
    with brokered(tmp_path) as (broker, client, _):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(START_S)
            stranger.connect(str(broker.socket))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stranger.sendall(sent)
                stranger.shutdown(socket.SHUT_WR)
                stranger.recv(4096)
        assert client.api.ping()
        assert broker.process.poll() is None
        assert "Traceback" not in broker.log.read_text()


def test_without_an_engine_the_reason_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "without"
    folder.mkdir()
    with engine_with_slim_image():
        broker = BrokerProcess(folder, "--engine", str(folder / "nothing.sock"))
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START_S)
            client.connect(str(broker.socket))
            client.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while data := client.recv(4096):
                answer += data
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert "cannot be reached" in json.loads(answer.partition(b"\r\n\r\n")[2])["message"]
    finally:
        assert broker.stop() == 0
