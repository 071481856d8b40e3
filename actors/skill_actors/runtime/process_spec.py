"""What a ProcessActor is told: which code its process runs, within which limits, and one request for it."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from skill_actors.runtime.messages import Ask
from skill_actors.runtime.worker import Value

__all__ = ["INHERITED", "Perform", "Value", "WorkerLimits", "WorkerSpec"]

INHERITED: Final = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")
"""All that a worker gets of the environment of the process that starts it. No credential has one of these names."""

_TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Resource limits of a worker process; None leaves that of the process that starts it.

    Args:
        memory_bytes: address space. A request that gets MemoryError costs the process its life.
        cpu_s: processor seconds of one request; beyond them the kernel sends SIGXCPU.
        open_files: descriptors.
        file_bytes: size of a file that is written.

    """

    memory_bytes: int | None = 1 << 30
    cpu_s: int | None = None
    open_files: int | None = 256
    file_bytes: int | None = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """The process behind one ProcessActor.

    Args:
        name: what reports call it; also in the process list.
        target: `module:callable`, called with (request, emit) for each request. `emit(value)` sends output while it
            works, `emit.ask(value)` gives what `Perform.answer` says. All values are bytes, or JSON values.
        paths: put before the standard library in `sys.path`; nothing else is in it.
        environment: added to the variables named in INHERITED. Nothing else of the environment is passed on.
        max_frame_bytes: of one request, answer or piece of output. JSON of this size is parsed on the trio thread:
            a megabyte takes milliseconds, or a hundred of them where whoever wrote it means harm.
        max_json_bytes: of what the process sends as JSON, if that is to be less.
        max_output_bytes: what it may print (stdout and stderr) during one request; beyond that it is killed.
        keep_stderr: whether the end of its stderr stands in the report of its end, which is logged. Not where what it
            is given may be secret.
        nice: added to its niceness, so that it yields to the daemon where both want the processor.
        grace_s: seconds between SIGTERM and SIGKILL.
        start_timeout_s: seconds for its start, the import of the target included.

    Raises:
        ValueError: if a value is out of range, or the target is not `module:callable`.

    """

    name: str
    target: str
    paths: Sequence[str | Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str | Path = "/"
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    max_frame_bytes: int = 1 << 20
    max_json_bytes: int | None = None
    max_output_bytes: int = 64 << 20
    keep_stderr: bool = True
    nice: int = 10
    grace_s: float = 0.3
    start_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.name or "\0" in self.name or len(self.name) > 200:
            raise ValueError(f"a worker needs a name of at most 200 characters, not {self.name!r}")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"target {self.target!r} of worker {self.name!r} is not module:callable")
        if not (1 <= self.max_frame_bytes < 1 << 30 and self.max_output_bytes >= 0 and 0 <= self.nice <= 19):
            raise ValueError(f"worker {self.name!r}: needs 1 <= max_frame_bytes < 1 GiB, 0 <= nice <= 19")
        if self.max_json_bytes is not None and not 1 <= self.max_json_bytes <= self.max_frame_bytes:
            raise ValueError(f"worker {self.name!r}: needs 1 <= max_json_bytes <= max_frame_bytes")
        if not (0 <= self.grace_s < math.inf and 0 < self.start_timeout_s < math.inf):
            raise ValueError(f"worker {self.name!r}: grace_s and start_timeout_s must be finite seconds")
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                raise ValueError(f"worker {self.name!r}: {name!r} is no environment variable that the system allows")

    def configuration(self) -> dict[str, Any]:
        """What the worker is told when it starts, as JSON."""
        return {
            "target": self.target,
            "paths": [str(path) for path in self.paths],
            "cwd": str(self.cwd),
            "limits": asdict(self.limits),
            "max_frame_bytes": self.max_frame_bytes,
            "max_json_bytes": self.max_json_bytes,
            "nice": self.nice,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Perform(Ask[Value]):
    """A request for the target; the answer is what it returns.

    If the caller goes away while it runs, the process is killed. A subclass with `cancel_with_caller = False` lets it
    finish, for nobody.

    Args:
        request: bytes, or a JSON value.
        timeout_s: from the moment the process gets it; then the process is killed. None for no limit.
        emit: awaited with each piece of output; a slow consumer slows the process, and its time runs on.
        answer: awaited with what the process asks; what it returns is what the process gets. It has to bound its own
            time, and must not raise: the process is killed where it does, and where it asks and there is none.

    Raises (to the asker):
        WorkerError: the target raised.
        WorkerKilled: the process was killed because of this request; WorkerTimeout if it took too long.
        WorkerEnded: the process ended by itself; so does the actor.
        RequestRefused: the request cannot be sent.

    """

    cancel_with_caller: ClassVar[bool] = True

    request: Value
    timeout_s: float | None
    emit: Callable[[Value], Awaitable[None]] | None = None
    answer: Callable[[Value], Awaitable[Value]] | None = None
