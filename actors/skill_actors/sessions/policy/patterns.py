"""Patterns of rules: for names, for the words of a command, and for paths.

`*` stands for any text, in a path for any text without a slash. Every pattern is matched in time that grows with the
length of the pattern times that of the text, whatever either holds.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from skill_actors.sessions.policy.lexer import Opaque, Word
from skill_actors.sessions.policy.programs import program_of

__all__ = ["CommandPattern", "PathPattern", "command_pattern", "fits", "path_parts", "path_pattern"]

_FURTHER: Final = "**"
_MAX_FOLDERS: Final = 4
_MAX_STARS: Final = 8
_BETWEEN_NAMES: Final = re.compile(r"[/=:,@]")


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text is what the pattern says."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    at = len(first)
    *middle, last = rest
    for part in middle:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return text.endswith(last) and len(text) - len(last) >= at


@dataclass(frozen=True, slots=True)
class CommandPattern:
    """The words that a command has; with `further`, those that it begins with."""

    words: tuple[str, ...]
    further: bool

    @property
    def named(self) -> bool:
        """Whether it says which program it is about."""
        return bool(self.words) and "*" not in self.words[0]

    def surely(self, program: str, words: Sequence[Word], *, moved: bool = False) -> bool:
        """Whether the command is meant, whatever the shell puts in the place of words. So says what permits one.

        With `moved` it does not run in the workspace, where relative paths of the pattern are.
        """
        if len(words) < len(self.words) or (len(words) > len(self.words) and not self.further):
            return False
        if not self.words:
            return bool(words)
        first, *others = self.words
        return _same(first, program, moved) and all(
            word.sure and _same(pattern, word.text, moved) for pattern, word in zip(others, words[1:], strict=False)
        )

    def maybe(self, program: str, words: Sequence[Word]) -> bool:
        """Whether the command, or one that begins like it, may be meant. So says what denies one, or asks."""
        if not self.words:
            return True
        if not words:
            return False
        first, *others = self.words
        if others and others[-1] == "*":
            others.pop()  # whoever denies `rm *` means `rm a b` as well
        if not (fits(first, program) or fits(first, posixpath.basename(program))):
            return False
        for place, pattern in enumerate(others, 1):
            if place >= len(words):
                return False
            if not words[place].sure:
                return True
            if not fits(pattern, words[place].text):
                return False
        return True


def _same(pattern: str, text: str, moved: bool) -> bool:
    """Whether a word is meant, and is no path that leads elsewhere by `..`, or from another folder."""
    if not fits(pattern, text):
        return False
    if pattern == "*":
        return True
    if "*" in pattern and ".." in _BETWEEN_NAMES.split(text) and ".." not in _BETWEEN_NAMES.split(pattern):
        return False
    return not (moved and ("/" in text or "." in text) and not text.startswith("/"))


def command_pattern(text: str) -> CommandPattern:
    """A pattern as it is written: `git log **` (and any further words), `git log:*` (the same), `npm run *`.

    Words are separated as a shell would, quotes kept together what belongs together.

    Raises:
        ValueError: it is none.

    """
    import shlex

    further = text.endswith((" **", ":*")) or text == _FURTHER
    start = text[:-2].rstrip() if further else text
    try:
        words = shlex.split(start)
    except ValueError as error:
        raise ValueError(f"{text!r} is no pattern of words: {error}") from error
    if not words and not further:
        raise ValueError("an empty pattern; ** stands for every command")
    if any(_FURTHER in word for word in words):
        raise ValueError(f"{text!r}: ** stands for further words, and only at the end")
    if any(word.count("*") > _MAX_STARS for word in words):
        raise ValueError(f"{text!r:.60}: a word of a pattern has at most {_MAX_STARS} times *")
    return CommandPattern(tuple([_normal(words[0]), *words[1:]] if words else []), further)


def _normal(first: str) -> str:
    """The name of a program as that of a command is given."""
    try:
        return first if "*" in first else program_of(Word(first))
    except Opaque as error:
        raise ValueError(f"{first!r} can be no program: {error}") from error


@dataclass(frozen=True, slots=True)
class PathPattern:
    """Parts of an absolute path, or of one below the workspace. `**` stands for any number of parts."""

    parts: tuple[str, ...]
    absolute: bool

    @property
    def weight(self) -> int:
        """How much it costs to compare it with one name, as a number of plain comparisons."""
        return len(self.parts) + sum(part.count("*") for part in self.parts)

    def matches(self, parts: Sequence[str], workspace: Sequence[str]) -> bool:
        """Whether a path is meant. `folder/**` means the folder itself as well.

        Args:
            parts: of the path.
            workspace: parts of the workspace's.

        """
        if self.absolute:
            return _parts_fit(self.parts, parts)
        below = len(workspace)
        return parts[:below] == workspace and _parts_fit(self.parts, parts[below:])

    def may_match(self, start: str, workspace: str) -> bool:
        """Whether a path that begins with this text, in which there is no `..`, may be meant."""
        literal = "/".join(_before_wild(self.parts))
        whole = f"/{literal}" if self.absolute else posixpath.join(workspace, literal)
        given = posixpath.normpath(posixpath.join(workspace, start))
        if start.endswith("/") or not start:
            given = f"{given.rstrip('/')}/"
        return whole.startswith(given) or given.startswith(whole)


def path_pattern(text: str) -> PathPattern:
    """A pattern as it is written: `docs/*.md`, `**/secret/**`, `/etc/**`; relative ones are below the workspace.

    Raises:
        ValueError: it is none.

    """
    if not text or "\0" in text:
        raise ValueError("an empty pattern; ** stands for every path in the workspace")
    if text.startswith("~"):
        raise ValueError(f"{text!r}: ~ stands for nothing here; write the whole path")
    parts = tuple(part for part in text.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError(f"{text!r}: a pattern has no ..: paths are compared without")
    if parts.count("**") > _MAX_FOLDERS:
        raise ValueError(f"{text!r}: a pattern has at most {_MAX_FOLDERS} times **")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError(f"{text!r}: ** stands for whole parts of a path")
    return PathPattern(parts, text.startswith("/"))


def path_parts(path: str, workspace: str = "/") -> tuple[str, ...]:
    """The names in a path, as tools understand it: from the root, without `..`; relative ones are in the workspace."""
    whole = posixpath.normpath("/" + posixpath.join(workspace, path).lstrip("/"))
    return tuple(part for part in whole.split("/") if part)


def _parts_fit(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    """By a table, so that many `**` cost no more than the product of both lengths."""
    reached = {0}
    for pattern in patterns:
        if pattern == "**":
            reached = set(range(min(reached), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fits(pattern, parts[at])}
        if not reached:
            return False
    return len(parts) in reached


def _before_wild(parts: Sequence[str]) -> list[str]:
    literal: list[str] = []
    for part in parts:
        if "*" in part:
            literal.append(part.partition("*")[0])
            break
        literal.append(part)
    return [part for part in literal if part]
