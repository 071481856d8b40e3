"""log-fetcher: the script and the native class, against a log API on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from skill_actors.native import Context

SKILL = Path(__file__).resolve().parents[2] / "skills" / "log-fetcher"
USAGE = "Use: fetch URL [--limit N] [--level LEVEL]"


class LogApi(BaseHTTPRequestHandler):
    """Records, as many as asked for; or the status, size or shape that the path names."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query)
        kind, _, value = parts.path.strip("/").partition("/")
        if kind == "status":
            self._answer(int(value), b"no", {"Location": "/logs"})
        elif kind == "large":
            self._answer(200, b"x" * (9 << 20))
        elif kind == "text":
            self._answer(200, b"plain \xff line\n")
        else:
            level = asked.get("level", ["info"])[0]
            records = [{"n": n, "level": level, "asked": asked} for n in range(int(asked["limit"][0]))]
            self._answer(200, json.dumps(records).encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has had enough

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), LogApi) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def script(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SKILL / "scripts/fetch.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def native() -> Iterator[Any]:
    """Calls the class, as a worker process does: with its folder first among those imported from."""
    sys.path.insert(0, str(SKILL / "scripts"))
    try:
        from log_fetcher import LogFetcher  # type: ignore[import-not-found]

        fetcher = LogFetcher()

        def call(command: str, seconds: float = 20.0) -> Any:
            context = Context(
                session="one",
                workspace=Path("/"),
                skill_dir=SKILL,
                allowed_paths=(),
                deadline=time.monotonic() + seconds,
            )
            return fetcher.execute(command, context)

        yield call
        fetcher._client.close()
    finally:
        sys.path.remove(str(SKILL / "scripts"))


def test_a_hundred_records_unless_told_otherwise(api: str, native: Any) -> None:
    by_script = json.loads(script("fetch", f"{api}/logs").stdout)
    assert len(by_script) == 100
    assert by_script == json.loads(native(f"fetch {api}/logs"))


def test_limit_and_level_reach_the_api_beside_what_the_address_has(api: str, native: Any) -> None:
    answer = native(f"fetch '{api}/logs?service=a%20b&limit=9' --limit 2 --level error")
    assert json.loads(answer)[1]["asked"] == {"service": ["a b"], "limit": ["2"], "level": ["error"]}
    done = script("fetch", f"{api}/logs?service=a%20b&limit=9", "--limit", "2", "--level", "error")
    assert done.stdout.strip() == answer


@pytest.mark.parametrize("status", [204, 302, 404, 503])
def test_any_other_status_is_said(api: str, native: Any, status: int) -> None:
    done = script("fetch", f"{api}/status/{status}")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"API returned {status}\n")
    with pytest.raises(RuntimeError, match=f"^API returned {status}$"):
        native(f"fetch {api}/status/{status}")


def test_an_answer_that_is_no_json_is_shown_as_it_came(api: str, native: Any) -> None:
    assert script("fetch", f"{api}/text").stdout == "plain \ufffd line\n\n"
    assert native(f"fetch {api}/text") == "plain \ufffd line\n"


def test_an_answer_that_is_too_large_is_refused(api: str, native: Any) -> None:
    assert "larger than 8 MiB" in script("fetch", f"{api}/large").stderr
    with pytest.raises(RuntimeError, match="larger than 8 MiB"):
        native(f"fetch {api}/large")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "fetch",
        "get http://127.0.0.1/",
        "fetch file:///etc/passwd",
        "fetch http://",
        "fetch http://[::1",
        "fetch http://host:99999/",
        "fetch http://127.0.0.1/ --limit",
        "fetch http://127.0.0.1/ --limit many",
        "fetch http://127.0.0.1/ --limit 0",
        "fetch http://127.0.0.1/ --limit 1000000000000000000000",
        "fetch http://127.0.0.1/ --limit ²",
        "fetch http://127.0.0.1/ --colour red",
        "fetch 'http://127.0.0.1/\x01'",
        "fetch 'http://127.0.0.1/",
    ],
)
def test_a_bad_command_says_what_a_good_one_is(native: Any, command: str) -> None:
    with pytest.raises(ValueError, match=r"^Use: fetch URL"):
        native(command)


def test_the_script_has_a_code_for_usage() -> None:
    done = script("fetch", "ftp://127.0.0.1/")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(USAGE)
    assert script("--help").stdout.startswith("Fetch logs")


def test_nobody_there_is_said(native: Any) -> None:
    assert "cannot be reached" in script("fetch", "http://127.0.0.1:9/").stderr
    with pytest.raises(RuntimeError, match="cannot be reached"):
        native("fetch http://127.0.0.1:9/")
