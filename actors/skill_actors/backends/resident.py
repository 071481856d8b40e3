"""One runner as a process of the daemon: where it lives, how it is started, and that nothing of it is left."""

from __future__ import annotations

import logging
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from . import cgroups, local_boot, processes
from .base import BackendUnavailable
from .link import Link
from .programs import Programs
from .survivors import end_marked, end_owned, end_strays

__all__ = ["Nest", "Resident", "find_nest"]

_log = logging.getLogger(__name__)

_STOP_S: Final = 5.0  # for a runner to end its calls and itself


@dataclass(frozen=True, slots=True)
class Nest:
    """Where the runners of one owner live.

    Args:
        owner: its name, in their marks.
        home: the control group above theirs.
        programs: told of those that are programs of agents.

    """

    owner: str
    home: Path | None
    programs: Programs = field(default_factory=Programs)

    def new_mark(self) -> str:
        return f"{self.owner}.{secrets.token_hex(16)}"

    def group_name(self, mark: str) -> str:
        return f"skilld-{mark}"


def find_nest(owner: str | None) -> Nest:
    """Look around, and end what an earlier life of the owner left. Blocks."""
    home = cgroups.find_home()
    if owner is None:
        return Nest(secrets.token_hex(8), home)
    nest = Nest(owner, home)
    groups = cgroups.sweep(home, nest.group_name(f"{owner}."))
    left = end_owned(processes.MARK, owner)
    cgroups.sweep_memory(nest.group_name(f"{owner}."))
    if groups or left:
        _log.warning("ended %d runners of an earlier life; %d processes could not be killed", groups, left)
    return nest


class Resident:
    """A runner's process, its link and its control group. Made by `start`."""

    def __init__(self, process: trio.Process, link: Link, mark: str, group: Path | None) -> None:
        self.link = link
        self._process = process
        self._mark = mark
        self._group = group

    @classmethod
    async def start(cls, nest: Nest) -> Resident:
        """Start a runner. Raises BackendUnavailable."""
        mark = nest.new_mark()
        group = await trio.to_thread.run_sync(cgroups.make, nest.home, nest.group_name(mark))
        environment = {"LANG": "C.UTF-8", processes.MARK: mark}
        if group is not None:
            environment[processes.GROUP] = str(group)
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-S", "-E", local_boot.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            await _remove(group)
            raise BackendUnavailable(f"no runner for commands could be started: {error}") from error
        except BaseException:
            with trio.CancelScope(shield=True):
                await _remove(group)
            raise
        assert process.stdin is not None
        assert process.stdout is not None
        return cls(process, Link(process.stdin, process.stdout), mark, group)

    async def end(self) -> None:
        """Let the runner end its calls and itself, or kill it and them. Not to be cancelled."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.aclose()
        with trio.move_on_after(0 if self.link.hangs else _STOP_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        await process.stdout.aclose()
        await _remove(self._group)
        if process.returncode != 0:
            left = await trio.to_thread.run_sync(end_marked, f"{processes.MARK}={self._mark}")
            left += await trio.to_thread.run_sync(end_strays)
            _log.warning("a runner ended with %d; %d of its processes could not be killed", process.returncode, left)


async def _remove(group: Path | None) -> None:
    if group is not None:
        await trio.to_thread.run_sync(partial(cgroups.end, group))
