"""What a skill declares in `tests/*.toml`: runs of its scripts, and what has to come of them. Reads, runs nothing.

[[case]]
name = "it adds up"                    needed; once in the file
run = "scripts/sum.py --plain"         as metadata.skilld-entry; without it the skill's entry command
arguments = ["1", "2"]
files = {"in/numbers.txt" = "1\\n2\\n"}  laid into the workspace before
environment = {TZ = "UTC"}
timeout_s = 30
exit_code = 0
stdout = "3\\n"                         all of it; so stderr
stdout_contains = ["3"]                so stderr_contains
creates = {"out.txt" = "3\\n"}          all of that file; "" for an empty one
creates_containing = {"out.txt" = ["3"]}
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from skill_actors.authoring.folder import SkillFolder
from skill_actors.skills.base import Skill
from skill_actors.skills.entry import ENTRY_KEY, find_entry

__all__ = ["DEFAULT_TIMEOUT_S", "MAX_TIMEOUT_S", "BadTrial", "Trial", "read_trials", "trial_files"]

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 600.0
_MAX_CASES: Final = 500  # in one file
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadTrial(Exception):
    """The file declares nothing that can be run; the message names the case, the key and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run. What is None, or empty, is not looked at; `exit_code` always is."""

    name: str
    file: str
    argv: tuple[str, ...]  # relative to the skill's root, as an entry command is
    arguments: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = DEFAULT_TIMEOUT_S
    exit_code: int = 0
    stdout: str | None = None
    stderr: str | None = None
    stdout_contains: tuple[str, ...] = ()
    stderr_contains: tuple[str, ...] = ()
    creates: Mapping[str, str] = field(default_factory=dict)
    creates_containing: Mapping[str, Sequence[str]] = field(default_factory=dict)


def trial_files(folder: SkillFolder) -> list[str]:
    """The files that declare tests: those in `tests/` that end in `.toml`."""
    return [path for path in folder.inventory.files if re.fullmatch(r"tests/[^/]+\.toml", path)]


def read_trials(folder: SkillFolder, path: str) -> list[Trial]:
    """The cases of one file of a skill that can be loaded. Blocks.

    Raises:
        BadTrial: if it is no TOML, or declares what is not known.
        NoSkill: if the file changed meanwhile.

    """
    assert folder.skill is not None
    text = folder.text(path)
    if text is None:
        raise BadTrial("is no text, or too large")
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of too many digits
        raise BadTrial(f"is no TOML: {error}") from error
    cases = tree.pop("case", [])
    if tree:
        raise BadTrial(f"holds {min(tree)[:80]!a}; only [[case]] may stand here")
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise BadTrial("case is no list of tables; begin each with [[case]]")
    if not 1 <= len(cases) <= _MAX_CASES:
        raise BadTrial(f"declares {len(cases)} cases; 1 to {_MAX_CASES} are allowed")
    executables = {entry.path for entry in folder.inventory.files.values() if entry.executable}
    trials = [
        _Reader(case, number, folder.skill, executables).trial(path) for number, case in enumerate(cases, start=1)
    ]
    (name, count), *_ = Counter(trial.name for trial in trials).most_common(1)
    if count > 1:
        raise BadTrial(f"two cases are named {name!a}")
    return trials


class _Reader:
    """One table, checked key by key; what is left at the end is unknown."""

    def __init__(self, case: dict[str, Any], number: int, skill: Skill, executables: set[str]) -> None:
        self._left = dict(case)
        self._skill = skill
        self._executables = executables
        self._who = f"case {number}"

    def trial(self, path: str) -> Trial:
        name = " ".join(self._text("name", "").split())
        if not name:
            raise self._bad("needs a name")
        self._who = f"case {name[:80]!a}"
        trial = Trial(
            name=name,
            file=path,
            argv=self._argv(),
            arguments=self._texts("arguments"),
            files=self._by_path("files"),
            environment=self._environment(),
            timeout_s=self._timeout_s(),
            exit_code=self._exit_code(),
            stdout=self._optional("stdout"),
            stderr=self._optional("stderr"),
            stdout_contains=self._texts("stdout_contains"),
            stderr_contains=self._texts("stderr_contains"),
            creates=self._by_path("creates"),
            creates_containing=self._lists_by_path("creates_containing"),
        )
        if self._left:
            raise self._bad(f"has a key {min(self._left)[:80]!a} that is not known")
        return trial

    def _bad(self, what: str) -> BadTrial:
        return BadTrial(f"{self._who}: {what}")

    def _argv(self) -> tuple[str, ...]:
        run = self._optional("run")
        if run is None:
            if self._skill.entry is None:
                raise self._bad("has no run, and the skill has no entry command")
            return self._skill.entry
        argv, found = find_entry({ENTRY_KEY: run}, self._skill.files, self._executables)
        if argv is None:
            raise self._bad(found[0].message.replace(f"metadata.{ENTRY_KEY}", "run"))
        return argv

    def _text(self, key: str, default: str) -> str:
        value = self._left.pop(key, default)
        if not isinstance(value, str):
            raise self._bad(f"{key} must be text")
        return value

    def _optional(self, key: str) -> str | None:
        return self._text(key, "") if key in self._left else None

    def _texts(self, key: str) -> tuple[str, ...]:
        return self._list(key, self._left.pop(key, []))

    def _list(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._bad(f"{key} must be a list of texts")
        return tuple(value)

    def _table(self, key: str) -> dict[str, Any]:
        value = self._left.pop(key, {})
        if not isinstance(value, dict):
            raise self._bad(f"{key} must be a table")
        return value

    def _by_path(self, key: str) -> dict[str, str]:
        table = self._table(key)
        for path, content in table.items():
            self._check_path(key, path)
            if not isinstance(content, str):
                raise self._bad(f"{key} must give each file its content as text")
        return table

    def _lists_by_path(self, key: str) -> dict[str, Sequence[str]]:
        table = self._table(key)
        for path in table:
            self._check_path(key, path)
        return {path: self._list(key, texts) for path, texts in table.items()}

    def _check_path(self, key: str, path: str) -> None:
        if not path or path.startswith("/") or "\0" in path or ".." in PurePosixPath(path).parts:
            raise self._bad(f"{key} names {path[:80]!a}, which is no path in the workspace")

    def _environment(self) -> dict[str, str]:
        table = self._table("environment")
        for name, value in table.items():
            if not _VARIABLE.fullmatch(name) or not isinstance(value, str) or "\0" in value:
                raise self._bad(f"environment holds {name[:80]!a}, which is no variable with a text")
        return table

    def _timeout_s(self) -> float:
        value = self._left.pop("timeout_s", DEFAULT_TIMEOUT_S)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN
            raise self._bad("timeout_s must be a number of seconds")
        if not 0 < value <= MAX_TIMEOUT_S:
            raise self._bad(f"timeout_s must be more than 0, and at most {MAX_TIMEOUT_S:g}")
        return float(value)

    def _exit_code(self) -> int:
        value = self._left.pop("exit_code", 0)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
            raise self._bad("exit_code must be a number from 0 to 255")
        return value
