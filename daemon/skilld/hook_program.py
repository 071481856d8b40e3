"""What a worker process does for `hooks.exec`: runs the program once, with the notice on its standard input.

In a worker, since that one is killed with all that it has started when the time is out, and when the daemon dies. What
the program prints is read and thrown away.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

__all__ = ["run"]


def run(request: Mapping[str, Any], _line: object) -> dict[str, Any]:
    """{"status": exit status, negative for a signal}, or {"error": why it could not be started}."""
    try:
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            env=request["environment"],
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return {"error": error.strerror or type(error).__name__}
    try:
        process.communicate(request["input"].encode())
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has left running in its group
    return {"status": process.returncode}
