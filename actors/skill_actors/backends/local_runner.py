"""The resident runner on the host: as `runner`, and it keeps a call to what its sandbox and its totals allow.

`local_boot` starts it. A job has three fields more: `confine` is what its process gives up by itself, `scoped` whether
others' abstract sockets are kept from it, `program` what its argv will start in the end where that is another program
(bubblewrap): if it cannot be started, it is for us to say so.
"""

from __future__ import annotations

import contextlib
import errno
import os

from . import confinement, keeper, processes, runner

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any, Final

__all__ = ["check_program", "main", "usage_below"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_NICENESS: Final = 19  # of calls, so that who ends them gets the processor however many they are


class _Keeper(keeper.Keeper):
    def launch(self, job: dict[str, Any]) -> None:
        with contextlib.suppress(PermissionError):  # a service whose unit forbids to change priorities
            os.nice(_NICENESS)
        if job["program"] is not None:
            check_program(job["program"], job["env"].get("PATH", os.defpath), job["cwd"])
        if job["scoped"]:
            confinement.scope_sockets()
        if job["confine"] is not None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(job["folders"][0])  # the workspace; commands cannot touch the folder that it is in
            confinement.confine(**job["confine"])
            for folder in job["folders"][1:]:
                with contextlib.suppress(OSError):  # there already, or a link by now that leads elsewhere
                    os.mkdir(folder)
            job = {**job, "folders": ()}
        super().launch(job)


class _Runner(runner.Runner):
    def keeper(self, control: socket.socket, job: socket.socket, outputs: tuple[int, int]) -> keeper.Keeper:
        return _Keeper(control, job, outputs)

    def is_watched(self, call: runner.Call) -> bool:
        return any(name.startswith(keeper.TOTAL) for name in call.limits)

    def exceeded(self, call: runner.Call) -> str | None:
        limits = call.limits
        processes, memory_bytes, cpu_s = usage_below(call.keeper.pid, limits.get("total_processes"))
        if processes > limits.get("total_processes", processes):
            return f"it had {processes} processes, more than {limits['total_processes']}"
        if memory_bytes > limits.get("total_memory_bytes", memory_bytes):
            return f"it had {memory_bytes} bytes of memory in use, more than {limits['total_memory_bytes']}"
        if cpu_s > limits.get("total_cpu_s", cpu_s):
            return f"it took {cpu_s:.1f} s of processor time, more than {limits['total_cpu_s']}"
        return None


def usage_below(root: int, most: int | None = None) -> tuple[int, int, float]:
    """Of all below `root`: how many live, their memory in bytes; seconds of processor time, of ended ones too.

    Where more than `most` live, it is counted no further than that, and only that is told: a look must be over before
    a fork bomb has made many more.
    """
    found: list[int] = []
    for pid in processes.below(root):
        if processes.lives(pid):
            found.append(pid)
            if most is not None and len(found) > most:
                return len(found), 0, 0.0
    pages, ticks = 0, 0
    for pid in (root, *found):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15] if pid != root else fields[13:15]))
            if pid != root:
                with open(f"/proc/{pid}/statm", "rb") as file:
                    _, resident, shared = map(int, file.read().split()[:3])
                pages += resident - shared
        except (OSError, ValueError):  # gone meanwhile
            continue
    return len(found), pages * _PAGE_BYTES, ticks / _TICKS_A_SECOND


def check_program(name: str, path: str, cwd: str) -> None:
    """Raise the OSError that execve of this program would, found by PATH and started in `cwd`."""
    folders = [""] if "/" in name else path.split(":")
    number = errno.ENOENT
    for place in (os.path.join(cwd, folder, name) for folder in folders):
        if not os.path.isfile(place):
            continue
        if not os.access(place, os.X_OK):
            number = errno.EACCES
            continue
        if _has_format(place):
            return
        number = errno.ENOEXEC
    raise OSError(number, os.strerror(number), name)


def _has_format(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4).startswith((b"#!", b"\x7fELF"))
    except OSError:  # it may be run and not read
        return True


def main() -> None:
    """Serve until stdin ends."""
    processes.join_group()
    confinement.landlock_abi()  # loads what it needs before the first fork
    runner.serve(_Runner())
