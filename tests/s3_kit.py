"""A real S3-compatible server on the loopback, and a proxy before it that fails as a test wishes."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3

from skill_actors.files.storage import Credentials, S3Options

KEYS = Credentials(access_key_id="test-key", secret_access_key="test-secret")
BUCKET = "files"


@contextmanager
def bucket_server() -> Iterator[str]:
    """The URL of a server with one empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        raw_client(url).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        server.stop()


def raw_client(url: str) -> Any:
    """The S3 client alone, without anything of ours."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS.access_key_id,
        aws_secret_access_key=KEYS.secret_access_key,
    )


def options(url: str, folder: Path, **more: Any) -> S3Options:
    """How to reach the server of a test."""
    return S3Options(
        **{"bucket": BUCKET, "endpoint": url, "cache": folder / "cache", "style": "path", "credentials": KEYS, **more}
    )


@contextmanager
def keys_demanded() -> Iterator[None]:
    """The server looks at the keys of every request."""
    from moto import settings
    from moto.core.responses import ActionAuthenticatorMixin  # type: ignore[attr-defined]

    before = settings.INITIAL_NO_AUTH_ACTION_COUNT
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    ActionAuthenticatorMixin.request_count = 0
    try:
        yield
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = before


Fault = Callable[[str, str], int | None]


@contextmanager
def failing(url: str, fault: Fault, code: str = "InternalError") -> Iterator[str]:
    """A proxy before the server: `fault` gets method and path, and says a status to answer instead, or None.

    Args:
        code: of the error that is then answered.

    """
    target = url.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status = fault(self.command, self.path)
            if status is not None:
                text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
                self._answer(status, {"content-type": "application/xml"}, text)
                return
            upstream = http.client.HTTPConnection(target, timeout=20)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
                kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                if self.command == "HEAD":
                    kept["content-length"] = answer.getheader("content-length") or "0"
                self._answer(answer.status, kept, data)
            finally:
                upstream.close()

        def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not any(name.lower() == "content-length" for name in headers):
                self.send_header("content-length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


_HOP = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "date", "server"})
