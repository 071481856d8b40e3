"""The way to the engine: what is said where there is none."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from conftest import require
from docker_kit import engine
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_image import connect, engine_address


def why(address: str, timeout_s: float = 5.0) -> str:
    with pytest.raises(BackendUnavailable) as caught:
        connect(address, {}, timeout_s)
    assert address in str(caught.value)
    return str(caught.value)


def test_the_environment_names_another_engine() -> None:
    assert engine_address({}) == "unix:///var/run/docker.sock"
    assert engine_address({"DOCKER_HOST": ""}) == "unix:///var/run/docker.sock"
    assert engine_address({"DOCKER_HOST": "tcp://127.0.0.1:2375"}) == "tcp://127.0.0.1:2375"


def test_without_an_engine_the_remedy_is_to_install_one(tmp_path: Path) -> None:
    assert "apt-get install docker.io" in why(f"unix://{tmp_path}/docker.sock")


def test_a_socket_that_nobody_listens_on_is_an_engine_to_start(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "docker.sock"))
    assert "start the engine" in why(f"unix://{tmp_path}/docker.sock")


def test_a_user_who_may_not_is_told_of_the_group(tmp_path: Path) -> None:
    """The kernel refuses a user without rights; root is refused by nobody, so a child gives its rights up."""
    require(os.getuid() == 0, "needs root, to become somebody else")
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            folder = f"/proc/self/fd/{open_before(tmp_path)}"
            said = why(f"unix://{folder}/docker.sock")
        finally:
            os.seteuid(0)
    assert "as good as root" in said


def open_before(folder: Path) -> int:
    """A way into a folder whose parents are private."""
    os.seteuid(0)
    try:
        folder.chmod(0o711)
        return os.open(folder, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.seteuid(65534)


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1", "tcp://", "unix://"])
def test_an_address_that_is_none_is_an_answer_and_no_traceback(address: str) -> None:
    assert why(address)


def test_a_server_that_is_no_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            asked = b""
            while not asked:  # the first who knocks says nothing
                taken, _ = server.accept()
                with taken:
                    if asked := taken.recv(4096):
                        taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        why(f"unix://{path}")
        thread.join()


def test_an_engine_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert "timed out" in why(f"unix://{path}", timeout_s=0.2)


def test_a_real_engine_answers() -> None:
    with engine() as client:
        assert client.ping()
