"""What happens to a daemon after its first day: keys are replaced, networks have proxies, programs go up and down."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from e2e.harness import Daemon, running
from https_kit import make_certificate
from skill_actors.testing import FakeMessagesApi, serve_in_thread

pytestmark = pytest.mark.e2e

HOST = "api.example.com"


class Proxy:
    """A proxy whose only way out is to the fake API, over TLS, whatever host it is asked for."""

    def __init__(self, api: FakeMessagesApi, certificate: Path, key: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._api = api
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked: list[str] = []
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with plain, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := plain.recv(4096)):
                    return
                head += piece
            self.asked.append(head.split(b"\r\n")[0].decode())
            plain.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with (
                self._context.wrap_socket(plain, server_side=True) as secure,
                socket.create_connection(("127.0.0.1", self._api.port)) as behind,
            ):
                _carry(secure, behind)


def _carry(secure: ssl.SSLSocket, behind: socket.socket) -> None:
    """Both ways, until one side closes; in one thread, since OpenSSL takes no two on one connection."""
    to: dict[socket.socket, socket.socket] = {secure: behind, behind: secure}
    while True:
        ready: list[socket.socket] = [secure] if secure.pending() else select.select(list(to), [], [])[0]
        for source in ready:
            if not (data := source.recv(65536)):
                return
            to[source].sendall(data)


@contextmanager
def behind_a_proxy(folder: Path) -> Iterator[tuple[FakeMessagesApi, Proxy, dict[str, str]]]:
    """The API, the only way to it, and the environment of a daemon that knows this way."""
    certificate, key = make_certificate(folder, HOST)
    with serve_in_thread(FakeMessagesApi([])) as api, contextlib.closing(Proxy(api, certificate, key)) as proxy:
        env = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificate), "NO_PROXY": ""}
        yield api, proxy, env


def test_behind_a_proxy_with_its_own_authority_a_key_is_replaced_without_a_restart(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-ant-the-first-key-1111\n")
    key.chmod(0o600)
    config = f'[model]\nbase_url = "https://{HOST}"\napi_key_file = "{key}"\n'
    with behind_a_proxy(tmp_path) as (api, proxy, env), running(tmp_path, config=config, env=env) as daemon:
        assert answers(daemon)
        new = tmp_path / "new"
        new.write_text("sk-ant-the-other-key-2222\n")
        new.chmod(0o600)
        os.replace(new, key)
        pid = daemon.pid
        assert answers(daemon)
        assert daemon.pid == pid
        assert [request.headers["authorization"][-4:] for request in api.requests] == ["1111", "2222"]
        assert proxy.asked
        assert {line.split(" ")[1] for line in proxy.asked} == {f"{HOST}:443"}
    log = daemon.log.read_text()
    assert "the-first-key" not in log
    assert "the-other-key" not in log


def answers(daemon: Daemon) -> bool:
    return bool(daemon.ask(daemon.create(), "hello")["result"]["text"] == "You said: hello")


def test_a_program_that_is_older_than_the_state_does_not_start_and_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        session = daemon.create(title="kept")
        assert daemon.stop() == 0
        journal = daemon.state / "journal.db"
        version = set_version(journal, +1)
        before = journal.read_bytes()
        daemon.launch()
        assert daemon.process is not None
        assert daemon.process.wait(30) == 78
        assert "newer program" in daemon.log.read_text()
        assert journal.read_bytes() == before
        assert set_version(journal, -1) == version - 1
        daemon.start()
        with daemon.http() as http:
            assert http.get(f"/v1/sessions/{session}").json()["title"] == "kept"


def set_version(journal: Path, by: int) -> int:
    """The version of the store's schema, changed by so much."""
    db = apsw.Connection(str(journal))
    try:
        (((version,)),) = list(db.execute("PRAGMA user_version"))
        db.execute(f"PRAGMA user_version = {int(version) + by}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(version) + by
    finally:
        db.close()
