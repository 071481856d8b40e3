"""The program that is told: run in a worker process, with the notice on its standard input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import skill_actors
import skilld
from skill_actors.backends.base import BackendUnavailable
from skill_actors.backends.workers import WorkersRef
from skill_actors.runtime import (
    NameNotRegistered,
    RequestRefused,
    WorkerEnded,
    WorkerError,
    WorkerKilled,
    WorkerLimits,
    WorkerSpec,
    WorkerTimeout,
)
from skilld.hooks.notice import Notice
from skilld.hooks.sender import HookFailed
from skilld.slot import NotStarted

__all__ = ["Program"]

_SPEC: Final = WorkerSpec(
    name="hook",
    target="skilld.hook_program:run",
    paths=tuple(
        str(Path(package).resolve().parent) for module in (skilld, skill_actors) for package in module.__path__
    ),
    limits=WorkerLimits(memory_bytes=None, open_files=None, file_bytes=None),
    keep_stderr=False,
    start_timeout_s=30.0,
)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Program:
    """Runs `argv` for a notice. It has its time, an environment that says which event it is, and nothing of ours.

    Args:
        workers: the living supervisor of worker processes; raises NotStarted or NameNotRegistered.

    """

    def __init__(self, argv: Sequence[str], timeout_s: float, workers: Callable[[], WorkersRef]) -> None:
        self._argv = list(argv)
        self._timeout_s = timeout_s
        self._workers = workers

    async def __call__(self, notice: Notice) -> None:
        """Run it to its end. Raises HookFailed; again is only tried what has certainly not begun."""
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "SKILLD_EVENT": notice.event}
        request = {"argv": self._argv, "input": notice.body.decode(), "environment": environment}
        try:
            answer = await self._workers().perform(_SPEC, cast("Any", request), timeout_s=self._timeout_s)
        except (BackendUnavailable, NameNotRegistered, NotStarted) as error:
            raise HookFailed(str(error), retry=True) from error
        except WorkerTimeout as error:
            raise HookFailed(f"it was killed after {self._timeout_s:g} s", retry=False) from error
        except (RequestRefused, WorkerEnded, WorkerError, WorkerKilled) as error:
            raise HookFailed(str(error), retry=False) from error
        _judge(cast("Mapping[str, Any]", answer))


def _judge(answer: Mapping[str, Any]) -> None:
    """Raise HookFailed unless it ended with 0."""
    if "error" in answer:
        raise HookFailed(f"it cannot be run: {answer['error']}", retry=False)
    if answer["status"] < 0:
        raise HookFailed(f"it was ended by signal {-answer['status']}", retry=False)
    if answer["status"]:
        raise HookFailed(f"it ended with status {answer['status']}", retry=False)
