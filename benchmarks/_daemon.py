"""A real skilld process for benchmarks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from skilld.client import Client, SkilldError

_START_S: Final = 30.0


@contextlib.contextmanager
def daemon(folder: Path, env: Mapping[str, str] | None = None, arguments: Sequence[str] = ()) -> Iterator[Client]:
    """A client of a fresh skilld; `env` is added to its environment, `arguments` to its command line."""
    socket = folder / "skilld.sock"
    command = [sys.executable, "-m", "skilld", f"--socket={socket}", f"--state-dir={folder / 'state'}", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SKILLD_", "ANTHROPIC_"))}
    environment |= env or {}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*command, f"--skills={folder / 'skills'}"], env=environment, stderr=log) as process,
        Client(str(socket)) as client,
    ):
        try:
            deadline = time.monotonic() + _START_S
            while not _is_ready(client):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"skilld was not ready:\n{(folder / 'log').read_text()}")
                time.sleep(0.02)
            yield client
        finally:
            process.terminate()


def _is_ready(client: Client) -> bool:
    try:
        return client.ready()
    except SkilldError:
        return False
