"""The resident runner inside a container: each call as a user of its own, file tools included.

`container_boot` starts it with the sources of the modules it needs, so that an image needs python3 (3.11) only.
It is `runner.py` with these differences:

- The runner and the keepers are uid 0 with CAP_SETUID, CAP_SETGID and CAP_KILL, and no other capability. They have no
  access to others' files: root without capabilities is a user like any other.
- Each call takes a uid that no call had before, the common gid, and so no capability at all. Nobody but its keeper can
  signal it, and it can signal nobody: a kill of everything with its uid ends a call at once, whatever it forks.
- What a call has written is opened to the group when the call is over, so that the next one can use it.
- A call whose argv begins with OP is no command but an operation on files, done here as that uid, without execve.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from . import bundles, container_forward, files, images, keeper, processes, runner, tools
from .paths import PathRefused

__all__ = ["FIRST_USER", "GROUP_ID", "OP", "SKILLS", "SKILLS_USER", "USERS", "WORKSPACE", "main"]

OP: Final = "\0op"  # no command's name can hold a NUL
WORKSPACE: Final = "/workspace"
SKILLS: Final = "/mnt/skills"
GROUP_ID: Final = 19_999
_ROWS_AT_ONCE: Final = 1_000
_OF_SKILLS: Final = frozenset({"skill", "drop_skill"})  # done by the user who owns them
SKILLS_USER: Final = 19_998
FIRST_USER: Final = 20_000
USERS: Final = 40_000  # uids that calls of one container take


class _Users:
    """Uids for calls. Counted per user on the whole host, processes of two containers should not share one."""

    def __init__(self) -> None:
        self._first = FIRST_USER
        self._span = USERS
        with open("/proc/self/uid_map", encoding="ascii") as file:
            mapped = max(int(start) + int(count) for start, _, count in map(str.split, file))
        chosen = int(os.environ.get("SKILLD_FIRST_USER") or 0)
        if chosen:
            self._first = chosen
        elif mapped >= 1 << 31:
            self._first = (1 << 20) + random.SystemRandom().randrange(25_000) * USERS
        if self._first + self._span > mapped:
            sys.exit(f"uids from {self._first} on are not mapped in this container, only those below {mapped}")
        self._taken = 0

    def take(self) -> int:
        """The next one. After 40,000 calls the first one's comes again; by then its processes are long gone."""
        self._taken += 1
        return self._first + self._taken % self._span


class _Keeper(keeper.Keeper):
    def __init__(self, control: socket.socket, job: socket.socket, outputs: tuple[int, int], user: int) -> None:
        super().__init__(control, job, outputs)
        self._user = user

    def launch(self, job: dict[str, Any]) -> None:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")  # where memory ends, calls go before their runner
        os.umask(0o002)
        operation = job["argv"][0] == OP
        user = SKILLS_USER if operation and job["argv"][1] in _OF_SKILLS else self._user
        os.setgroups([])
        os.setresgid(GROUP_ID, GROUP_ID, GROUP_ID)
        os.setresuid(user, user, user)
        processes.die_with_parent()
        if operation:
            _operate(job["argv"][1], json.loads(job["argv"][2]))
        super().launch(job)

    def rehearse(self) -> None:
        """The digest as well, of a folder that has little in it."""
        super().rehearse()
        bundles.digest(bundles.listing("/proc/self/fdinfo"))

    def end_all(self) -> tuple[int, int]:
        """All of a uid at once: nothing forks its way out of that."""
        ended = sum(state != "Z" for _, _, _, state in processes.family(os.getpid()))
        with contextlib.suppress(OSError):  # no process to be had: they are killed one by one
            self._kill_user()
        _, left = processes.end_family((), self._statuses)
        return ended, left

    def _kill_user(self) -> None:
        """By a process that takes the uid whole: its real uid counts as well, and this one's would allow too much."""
        killer = os.fork()
        if killer == 0:
            try:
                os.setresuid(self._user, self._user, self._user)
                os.kill(-1, signal.SIGKILL)
            finally:
                os._exit(0)
        os.waitpid(killer, 0)

    def remarks(self) -> dict[str, Any]:
        """The digest of the workspace, after what the call has left in it was opened to the group."""
        os.seteuid(self._user)
        try:
            return {"tree": bundles.digest(bundles.listing(WORKSPACE, adopt_uid=self._user))}
        finally:
            os.seteuid(0)


class _Runner(runner.Runner):
    def __init__(self) -> None:
        super().__init__()
        self._users = _Users()
        self._next_user = self._users.take()

    def keeper(self, control: socket.socket, job: socket.socket, outputs: tuple[int, int]) -> keeper.Keeper:
        return _Keeper(control, job, outputs, self._next_user)

    def _fork(self) -> runner.Kept:
        kept = super()._fork()
        self._next_user = self._users.take()
        return kept


# Operations on files: arguments and answers are JSON. What is refused is an answer too; other errors are raised.


def _operate(name: str, arguments: Mapping[str, Any]) -> NoReturn:
    try:
        answer = {"value": _OPERATIONS[name](arguments)}
    except PathRefused as refusal:
        answer = {"refused": str(refusal)}
    rows = answer.get("value")
    if isinstance(rows, _Rows):
        answer["value"] = None
    _write(json.dumps(answer))
    if isinstance(rows, _Rows):
        for first in range(0, len(rows.lines), _ROWS_AT_ONCE):
            _write("".join(f"\n{line}" for line in rows.lines[first : first + _ROWS_AT_ONCE]))
    os._exit(0)


def _write(text: str) -> None:
    data = memoryview(text.encode())
    while data:
        data = data[os.write(1, data) :]


def _view(arguments: Mapping[str, Any]) -> list[str | None]:
    """Text; and media type and bytes of a picture."""
    request = tools.View(**arguments["request"])
    readable = [Path(folder) for folder in arguments["readable"]]
    found = images.picture(request, workspace=WORKSPACE, readable=readable)
    if found is None:
        text = files.view(request, workspace=WORKSPACE, readable=readable, max_chars=arguments["max_chars"])
        return [text, None, None]
    text, image = found
    if image is None:
        return [text, None, None]
    return [text, image.media_type, base64.b64encode(image.data).decode("ascii")]


def _create_file(arguments: Mapping[str, Any]) -> list[str]:
    written = files.create_file(tools.CreateFile(**arguments["request"]), workspace=WORKSPACE)
    return [written.message, written.path]


def _str_replace(arguments: Mapping[str, Any]) -> list[str]:
    written = files.str_replace(tools.StrReplace(**arguments["request"]), workspace=WORKSPACE)
    return [written.message, written.path]


def _listing(_arguments: Mapping[str, Any]) -> _Rows:
    return _Rows(bundles.listing(WORKSPACE))


def _pack(arguments: Mapping[str, Any]) -> str:
    wanted = [bundles.Piece(*piece) for piece in arguments["pieces"]]
    return base64.b64encode(bundles.pack(WORKSPACE, wanted)).decode("ascii")


def _unpack(arguments: Mapping[str, Any]) -> _Rows:
    bundles.remove(WORKSPACE, arguments["remove"])
    try:
        made = bundles.unpack(WORKSPACE, base64.b64decode(arguments["tar"]), file_bits=0o660, folder_bits=0o2770)
    except OSError:  # full: what is not named in the answer is not there
        made = {}
    return _Rows(made)


def _unpack_skill(arguments: Mapping[str, Any]) -> int:
    """As the user who owns the skills: those of calls may not change them."""
    os.umask(0o022)
    folder = f"{SKILLS}/{arguments['folder']}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    try:
        return len(bundles.unpack(folder, base64.b64decode(arguments["tar"]), file_bits=0o644, folder_bits=0o755))
    except OSError:  # full: nothing of it counts
        return 0


def _drop_skill(arguments: Mapping[str, Any]) -> None:
    folder = f"{SKILLS}/{arguments['folder']}"
    bundles.remove(folder, bundles.listing(folder))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


class _Rows:
    """Entries as an answer has them, a line each."""

    def __init__(self, found: Mapping[str, bundles.Entry]) -> None:
        self.lines = [
            json.dumps([path, entry.kind, entry.mode, entry.size, entry.stamp]) for path, entry in found.items()
        ]


_OPERATIONS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "view": _view,
    "create_file": _create_file,
    "str_replace": _str_replace,
    "listing": _listing,
    "pack": _pack,
    "unpack": _unpack,
    "skill": _unpack_skill,
    "drop_skill": _drop_skill,
}


def main() -> None:
    """Serve until stdin ends."""
    os.umask(0o002)
    if os.environ.get(container_forward.PROXY):
        container_forward.start()
    runner.serve(_Runner())
