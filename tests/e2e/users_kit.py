"""Further users of a daemon: what they ask for, and a place that they can reach."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.harness import Daemon

__all__ = ["ask_as", "folder_for_all"]

_ASK = """
import http.client, json, socket, sys

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

answers = []
for method, path, body in json.load(sys.stdin):
    connection = Connection("skilld", timeout=20)
    connection.request(method, path, body, {"content-type": "application/json"} if body else {})
    answer = connection.getresponse()
    answers.append([answer.status, answer.read().decode("utf-8", "replace")])
    connection.close()
print(json.dumps(answers))
"""


@contextmanager
def folder_for_all(prefix: str) -> Iterator[Path]:
    """A folder that every user may enter, while the block runs: nobody else may pass that of pytest."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def ask_as(uid: int, daemon: Daemon, *requests: tuple[str, str, str | None]) -> list[tuple[int, Any]]:
    """Statuses and JSON bodies of what this user asks: method, path and body of each."""
    done = subprocess.run(
        ["/usr/bin/env", "python3", "-c", _ASK, str(daemon.socket)],
        input=json.dumps(requests),
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [(status, json.loads(text) if text else None) for status, text in json.loads(done.stdout)]
