"""What an operator says about the `claude` program: where it is, what it may take, and what sessions may ask of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.backends.base import BackendUnavailable, OptionRefused

__all__ = ["MIN_VERSION", "NAME", "PERMISSION_MODES", "UNASKED_MODES", "ClaudeOptions", "checked"]

NAME: Final = "claude_cli"
MIN_VERSION: Final = (2, 1, 197)

PERMISSION_MODES: Final = ("acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan")
UNASKED_MODES: Final = ("acceptEdits", "auto")  # the program permits some of its calls to itself

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# They need a process that is there at another time than a turn's, or leave folders behind that nobody looks after.
_NOT_HERE: Final = (
    "CronCreate",
    "CronDelete",
    "CronList",
    "EnterWorktree",
    "ExitWorktree",
    "ScheduleWakeup",
    "SendMessage",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeOptions:
    """How the program is run.

    Args:
        program: by name, found by `path`, or absolute. The native program rather than a script that starts it.
        path: PATH of the program and of the commands that it runs.
        model: where a session names none; "" for the program's own choice.
        api_key_file: path of a file with the key of the API and nothing else; "" for none.
        api_key: the key itself, for whoever has it in memory; the file has precedence.
        base_url: of a server that speaks the Messages API; "" for the program's own.
        socket: path of a Unix socket where that server is; the program then needs no key of its own.
        environment: added to the clean environment of the program, which its commands inherit.
        session_variables: names of variables that sessions may set.
        max_processes: that run at the same time; further turns wait in order.
        idle_close_s: a process is closed after this many seconds without a turn; the next turn resumes its session.
        memory_bytes: of one process with all that it has started; 0 for no limit.
        max_retries: of one request to the API, by the program itself.
        max_turns: how often its model may answer in one turn, whatever a session asks for; 0 for no limit.
        disallowed_tools: that no session has.
        unasked: sessions may choose what the program does without asking: the permission modes acceptEdits and auto,
            `allowed_tools`, and settings files in the folder they work in, which can hold hooks.
        bypass: sessions may choose the permission mode bypassPermissions, in which nothing is asked.
        sandboxed: all of the daemon is in a container or a virtual machine made for it. The program refuses bypass
            to root anywhere else.
        duplex: one process for many turns, with streaming, interrupts and questions. Without it each turn is a
            process of its own, in which what would have been asked is denied.

    """

    program: str = "claude"
    path: str = _PATH
    model: str = ""
    api_key_file: str = ""
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    socket: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    session_variables: Sequence[str] = ()
    max_processes: int = 8
    idle_close_s: float = 120.0
    memory_bytes: int = 4 << 30
    max_retries: int = 4
    max_turns: int = 0
    disallowed_tools: Sequence[str] = _NOT_HERE
    unasked: bool = False
    bypass: bool = False
    sandboxed: bool = False
    duplex: bool = True


_LEAST: Final[Mapping[str, float]] = {
    "max_processes": 1,
    "idle_close_s": 0,
    "memory_bytes": 0,
    "max_retries": 0,
    "max_turns": 0,
}


def checked(options: Mapping[str, Any]) -> ClaudeOptions:
    """The options as a configuration file has them. Raises BackendUnavailable, from OptionRefused."""
    try:
        return _checked(options)
    except OptionRefused as refused:
        raise BackendUnavailable(str(refused)) from refused


def _checked(options: Mapping[str, Any]) -> ClaudeOptions:
    kinds = {entry.name: getattr(ClaudeOptions(), entry.name) for entry in dataclasses.fields(ClaudeOptions)}
    for name, value in options.items():
        if name not in kinds:
            raise OptionRefused(NAME, name, value, f"there is none such; there are {', '.join(sorted(kinds))}")
        if problem := _problem(name, value, kinds[name]):
            raise OptionRefused(NAME, name, "***" if name == "api_key" else value, problem)
    values: dict[str, Any] = {name: tuple(value) if _is_list(value) else value for name, value in options.items()}
    return ClaudeOptions(**values)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _problem(name: str, value: Any, like: Any) -> str | None:
    """What is wrong with a value that should be like the default, in words; None if nothing."""
    match like:
        case bool():
            return None if isinstance(value, bool) else "it must be true or false"
        case int() | float():
            is_number = isinstance(value, int | (float if isinstance(like, float) else int))
            fits = is_number and not isinstance(value, bool) and value >= _LEAST[name]
            return None if fits else f"it must be a number of at least {_LEAST[name]:g}"
        case str():
            return None if isinstance(value, str) and "\0" not in value else "it must be text"
        case Mapping():
            return None if isinstance(value, Mapping) and _are_variables(value) else "it must have variables by name"
        case _:
            texts = _is_list(value) and all(isinstance(entry, str) and entry for entry in value)
            return None if texts else "it must be a list of texts"


def _are_variables(value: Mapping[Any, Any]) -> bool:
    return all(
        isinstance(name, str) and _VARIABLE.fullmatch(name) and isinstance(text, str) and "\0" not in text
        for name, text in value.items()
    )
