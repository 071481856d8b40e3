"""The entry command of a skill: what `/skill-name arguments` runs.

`metadata.skilld-entry` is argv as text: its first word is a file of the skill or the bare name of a program, and
whatever names a file of the skill is found there. Without it, the only file in scripts/ is the entry.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Final

from skill_actors.errors import Refused
from skill_actors.skills.base import Diagnostic, Skill

__all__ = ["ENTRY_KEY", "entry_argv", "find_entry"]

ENTRY_KEY: Final = "skilld-entry"
_INTERPRETERS: Final = {".py": "python3", ".sh": "bash"}


class _Unusable(Exception):
    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(code=code, message=message, remedy=remedy)


def find_entry(
    metadata: Mapping[str, str], files: Collection[str], executables: Collection[str]
) -> tuple[tuple[str, ...] | None, tuple[Diagnostic, ...]]:
    """The entry as argv relative to the skill's root, None if there is none; and why not, where the author meant one.

    Args:
        metadata: of the skill.
        files: relative paths of its regular files.
        executables: those among them that may be executed; others get an interpreter by their extension.

    """
    declared = metadata.get(ENTRY_KEY)
    scripts = [path for path in files if path.startswith("scripts/") and path.count("/") == 1]
    try:
        if declared is not None:
            return _declared(declared, files, executables), ()
        if len(scripts) == 1:
            return _started((scripts[0],), executables), ()
    except _Unusable as unusable:
        return None, (unusable.diagnostic,)
    return None, ()


def entry_argv(skill: Skill, root: str, arguments: str) -> tuple[str, ...]:
    """What to execute for `/skill arguments`, never through a shell.

    Args:
        skill: whose entry is run.
        root: the skill's folder as the tools see it.
        arguments: text after the skill's name, split by the rules of a POSIX shell but expanded by nothing.

    Raises:
        Refused: `no_entry_command` if the skill has none; `bad_request` if the arguments have an unclosed quote.

    """
    if skill.entry is None:
        raise Refused(
            "no_entry_command",
            f"skill {skill.name!r} has no entry command: add metadata.{ENTRY_KEY}, or exactly one file to scripts/",
            details={"skill": skill.name},
        )
    try:
        extra = shlex.split(arguments)
    except ValueError as error:
        raise Refused("bad_request", f"arguments of /{skill.name} cannot be split: {error}") from None
    files = frozenset(skill.files)
    return (*(f"{root}/{word}" if word in files else word for word in skill.entry), *extra)


def _declared(text: str, files: Collection[str], executables: Collection[str]) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _Unusable(
            "entry_malformed", f"metadata.{ENTRY_KEY} cannot be split: {error}", "Close the quote."
        ) from None
    if not words:
        raise _Unusable("entry_malformed", f"metadata.{ENTRY_KEY} is empty", "Name a script of the skill.")
    argv = tuple(_confined(word, files) for word in words)
    if argv[0] in files:
        return _started(argv, executables)
    if "/" in argv[0]:
        message = f"metadata.{ENTRY_KEY} names {argv[0]!r}, which is no file of the skill"
        raise _Unusable("entry_not_found", message, "Name a file relative to the skill's folder, or a bare program.")
    return argv


def _confined(word: str, files: Collection[str]) -> str:
    if "\0" in word or word.startswith("/") or ".." in PurePosixPath(word).parts:
        message = f"metadata.{ENTRY_KEY} holds {word!r}, which leads out of the skill"
        raise _Unusable("entry_leaves_root", message, "Use paths relative to the skill's folder, without '..'.")
    plain = str(PurePosixPath(word))
    return plain if plain in files else word


def _started(argv: tuple[str, ...], executables: Collection[str]) -> tuple[str, ...]:
    script = argv[0]
    if script in executables:
        return argv
    interpreter = _INTERPRETERS.get(PurePosixPath(script).suffix)
    if interpreter is None:
        message = f"entry {script!r} is not executable, and no interpreter is known for it"
        raise _Unusable("entry_not_executable", message, "chmod +x it, or name the interpreter: python3 scripts/x.")
    return (interpreter, *argv)
