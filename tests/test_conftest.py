"""The rules of the test suite hold."""

from __future__ import annotations

import socket

import pytest

from conftest import is_local, require


def test_connecting_to_another_machine_fails() -> None:
    with socket.socket() as sock, pytest.raises(RuntimeError, match="tests stay on this machine"):
        sock.connect(("192.0.2.1", 80))


def test_connecting_to_this_machine_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("/run/x.sock", True),
        (b"\0abstract", True),
        (("127.0.0.2", 1), True),
        (("::1", 1, 0, 0), True),
        (("localhost", 1), True),
        (("10.0.0.1", 1), False),
        (("example.org", 1), False),
        (("fe80::1%eth0", 1, 0, 2), False),
    ],
)
def test_only_loopback_and_unix_sockets_are_local(address: object, local: bool) -> None:
    assert is_local(address) is local


def test_what_is_missing_is_skipped_on_a_developers_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no docker"):
        require(False, "no docker")


def test_what_is_missing_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    require(True, "no docker")
    with pytest.raises(pytest.fail.Exception, match="no docker"):
        require(False, "no docker")
