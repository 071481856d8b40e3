"""A real bash in a folder of its own, in which every program is a stub that writes down how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = ["STUBS", "WRAPPERS", "Bash"]

STUBS: Final = (
    "rm",
    "ls",
    "cat",
    "grep",
    "wc",
    "git",
    "sudo",
    "python3",
    "tool",
    "echo",
    "printf",
    "test",
    "[",
    "true",
)
WRAPPERS: Final = ("env", "nice", "nohup", "timeout", "stdbuf", "setsid", "xargs", "find")
_BUILTINS: Final = (":", "true", "false", "echo", "pwd", "cd", "printf", "test", "[", "type", "umask", "wait", "kill")

# What bash does not find it hands to this function, in a process of its own. Each call has its file: none are mixed.
_SET_UP: Final = """
enable -n {builtins}
command_not_found_handle() {{
  enable printf
  printf '%s\\0' "$@" >> "{calls}/$BASHPID"
  return {status}
}}
"""
_STUB: Final = """#!/bin/sh
printf '%s\\0' "${{0##*/}}" "$@" >> "{calls}/$$"
exit {status}
"""


class Bash:
    """Runs lines twice: once every program succeeds, once every one fails, so that both sides of && and || are seen.

    Args:
        folder: empty.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calls = folder / "calls"
        self._here = folder / "here"
        self._bins = []
        for status in (0, 1):
            self._bins.append(self._make_bin(folder / f"bin{status}", status))

    def _make_bin(self, bin: Path, status: int) -> Path:
        bin.mkdir(parents=True)
        for name in STUBS:
            (bin / name).write_text(_STUB.format(calls=self._calls, status=status))
            (bin / name).chmod(0o755)
        for name in WRAPPERS:
            found = shutil.which(name)
            assert found is not None, name
            (bin / name).symlink_to(found)
        (bin / "time").write_text('#!/bin/sh\nexec "$@"\n')  # behind |& it is a program, and no word of the shell's own
        (bin / "time").chmod(0o755)
        text = _SET_UP.format(builtins=" ".join(_BUILTINS), calls=self._calls, status=status)
        (bin / "set-up.sh").write_text(text)
        return bin

    def run(self, line: str) -> list[tuple[str, ...]]:
        """Every program that was run, with its arguments, sorted; what was run both times once."""
        first, second = (self._run(line, bin) for bin in self._bins)
        for call in first:
            if call in second:
                second.remove(call)
        return sorted([*first, *second])

    def _run(self, line: str, bin: Path) -> list[tuple[str, ...]]:
        for folder in (self._calls, self._here):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        (self._here / "in.txt").write_text("")
        gone, held = os.pipe()
        environment = {
            "PATH": str(bin),
            "BASH_ENV": str(bin / "set-up.sh"),
            "HOME": str(self._here),
            "LC_ALL": "C.UTF-8",
        }
        process = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc", "-c", line],
            cwd=self._here,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[held],
            start_new_session=True,
        )
        os.close(held)
        timer = threading.Timer(20, process.kill)
        timer.start()
        try:
            process.wait()
            os.read(gone, 1)  # until nobody holds the other end: what was put into the background has ended too
        finally:
            timer.cancel()
            os.close(gone)
        return list(self._recorded())

    def _recorded(self) -> Iterator[tuple[str, ...]]:
        for file in sorted(self._calls.iterdir()):
            words: Sequence[bytes] = file.read_bytes().split(b"\0")[:-1]
            yield tuple(word.decode(errors="surrogateescape") for word in words)
