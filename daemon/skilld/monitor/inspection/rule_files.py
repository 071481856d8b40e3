"""Rule files: what they say, and what they make of the rules that come along. All blocks.

Files of a folder are read in the order of their names, each over what the ones before made:

    builtins = true                     # false: begin without any rule
    disable = ["email", "phone-*"]      # ids, or beginnings of ids

    [[rule]]                            # an id that there is: these fields are changed; a new one: a rule more
    id = "internal-hosts"
    category = "sensitive_data"
    severity = "low"
    kind = "words"
    match = ["db1.corp", "vault.corp"]

    [words.prompt-jailbreak]            # of a rule of the kind words
    add = ["developer mode"]
    remove = ["dan"]
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from skilld_monitor.scanning import RuleError, RuleSet, builtin, read_rules, rules_as_json

__all__ = ["RuleFile", "RuleFileError", "layered", "read_rule_file", "rule_paths"]

MAX_FILES: Final = 200
_MAX_BYTES: Final = 4 << 20
_KEYS: Final = ("builtins", "disable", "rule", "words")

Rules = dict[str, dict[str, Any]]


class RuleFileError(Exception):
    """A rule file cannot be used. The message names the file, the rule, the field, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFile:
    """What one file says; not yet held against the rules that there are."""

    path: Path
    builtins: bool
    disable: tuple[str, ...]
    rules: tuple[Mapping[str, Any], ...]
    words: Mapping[str, Mapping[str, Any]]


def rule_paths(folder: Path) -> list[Path]:
    """The files of a folder in their order; none where there is no folder.

    Raises:
        RuleFileError: it cannot be read, or has too many.

    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".toml"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RuleFileError(f"{folder}: {error.strerror}; it must be a folder that the daemon may read") from error
    if len(names) > MAX_FILES:
        raise RuleFileError(f"{folder}: has {len(names)} rule files; at most {MAX_FILES}")
    return [folder / name for name in names if not name.startswith(".")]


def read_rule_file(path: Path) -> RuleFile:
    """One file. Raises RuleFileError."""
    raw = _read(path)
    try:
        found = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise RuleFileError(f"{path}: is not UTF-8, at byte {error.start}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is not said as TOML's error
        raise RuleFileError(f"{path}: is no TOML: {error}") from error
    for key in found:
        if key not in _KEYS:
            raise RuleFileError(f"{path}: {key[:40]!r}: there is no such key; there are {', '.join(_KEYS)}")
    return RuleFile(
        path=path,
        builtins=_of(path, found, "builtins", bool, True),
        disable=tuple(_texts(path, "disable", found.get("disable", []))),
        rules=tuple(_tables(path, found)),
        words=_words(path, found),
    )


def _read(path: Path) -> bytes:
    """Of a file that not everybody may write. Raises RuleFileError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                raise RuleFileError(f"{path}: is no file")
            if facts.st_mode & stat.S_IWOTH:
                raise RuleFileError(f"{path}: everybody may write it; take that away with chmod o-w")
            if facts.st_size > _MAX_BYTES:
                raise RuleFileError(f"{path}: has {facts.st_size} bytes; at most {_MAX_BYTES}")
            return os.read(fd, _MAX_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise RuleFileError(f"{path}: {error.strerror}") from error


def layered(files: Sequence[RuleFile]) -> RuleSet:
    """The rules that come along, changed by the files one after the other. Raises RuleFileError."""
    if not files:
        return builtin()
    rules: Rules = {str(rule["id"]): dict(rule) for rule in rules_as_json(builtin())}
    for file in files:
        rules = _changed(rules, file)
    try:
        return read_rules(rules.values())
    except RuleError as error:  # each is one by itself: they are too many together
        raise RuleFileError(f"{files[-1].path}: with the rules of the files before it: {error}") from error


def _changed(rules: Rules, file: RuleFile) -> Rules:
    rules = dict(rules) if file.builtins else {}
    for pattern in file.disable:
        gone = [id for id in rules if fnmatchcase(id, pattern)]
        if not gone:
            raise RuleFileError(f"{file.path}: disable: there is no rule {pattern[:100]!r}{_near(pattern, rules)}")
        for id in gone:
            del rules[id]
    for fields in file.rules:
        id = str(fields["id"])
        rules[id] = {**rules.get(id, {}), **fields}
        _check(file.path, rules[id])
    for id, change in file.words.items():
        rules[id] = _with_words(file.path, rules, id, change)
        _check(file.path, rules[id])
    return rules


def _check(path: Path, fields: Mapping[str, Any]) -> None:
    """Raise RuleFileError unless this is a rule: said of the file that made it so."""
    try:
        read_rules([fields])
    except RuleError as error:
        raise RuleFileError(f"{path}: {error}") from error


def _with_words(path: Path, rules: Rules, id: str, change: Mapping[str, Any]) -> dict[str, Any]:
    fields = rules.get(id)
    if fields is None or fields["kind"] != "words":
        near = _near(id, [id for id, fields in rules.items() if fields["kind"] == "words"])
        raise RuleFileError(f"{path}: words: there is no rule {id[:100]!r} of the kind words{near}")
    gone = {word.casefold() for word in change["remove"]}
    there = {word.casefold() for word in fields["match"]}
    for word in change["remove"]:
        if word.casefold() not in there:
            raise RuleFileError(f"{path}: words.{id}.remove: the rule does not have {word[:100]!r}")
    kept = [word for word in fields["match"] if word.casefold() not in gone]
    return {**fields, "match": [*kept, *(word for word in change["add"] if word.casefold() not in there - gone)]}


def _tables(path: Path, found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tables = found.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise RuleFileError(f"{path}: rule: expected tables, each under a line [[rule]]")
    seen = set[str]()
    for number, table in enumerate(tables, 1):
        id = table.get("id")
        if not isinstance(id, str):
            raise RuleFileError(f"{path}: rule number {number}: id: is missing, or no text")
        if id in seen:
            raise RuleFileError(f"{path}: rule {id[:100]!r}: id: there are two rules of that name in this file")
        seen.add(id)
    return tables


def _words(path: Path, found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    tables = found.get("words", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise RuleFileError(f"{path}: words: expected tables such as [words.RULE]")
    for id, table in tables.items():
        for key in table:
            if key not in ("add", "remove"):
                raise RuleFileError(f"{path}: words.{id[:100]}: {key[:40]!r}: there is no such key; add, remove")
    return {
        id: {key: _texts(path, f"words.{id[:100]}.{key}", table.get(key, [])) for key in ("add", "remove")}
        for id, table in tables.items()
    }


def _texts(path: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise RuleFileError(f"{path}: {key}: expected a list of texts")
    return value


def _of(path: Path, found: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = found.get(key, default)
    if not isinstance(value, kind):
        raise RuleFileError(f"{path}: {key}: expected {'true or false' if kind is bool else kind.__name__}")
    return value


def _near(id: str, known: Iterable[str]) -> str:
    """What may have been meant."""
    from difflib import get_close_matches

    found: Sequence[str] = get_close_matches(id, list(known), 1)
    return f"; did you mean {found[0]!r}?" if found else "; see skillctl monitor rules list"
