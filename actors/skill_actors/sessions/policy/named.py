"""Files that a call names, as far as words say: for certain, by their beginning, or not at all.

A path is compared by its text. Where the kernel could make another file of it (`x/../y` where `x` is a link, what
`/proc` keeps of processes), or where it is a reference to an artifact, it is one that cannot be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from skill_actors.sessions.policy.analysis import Command
from skill_actors.sessions.policy.lexer import Word
from skill_actors.sessions.policy.patterns import PathPattern, path_parts

__all__ = ["Begins", "Name", "opened_by", "path_name", "steps", "words_of"]

_MAX_PATH: Final = 4_095  # bytes; the system opens no longer ones
_MAX_STARTS: Final = 16  # of paths in one word
_BEFORE_PATH: Final = re.compile(r"[=@:,]")
_ELSEWHERE: Final = frozenset({"cwd", "root", "fd", "task", "map_files"})  # below /proc, links that lead anywhere
_WILD: Final = re.compile(r"[*?\[]")
_REFERENCE: Final = re.compile(r"(?:file|skill)://", re.IGNORECASE)  # to an artifact: a path takes its place


@dataclass(frozen=True, slots=True)
class Begins:
    """A path of which only the beginning is known, since the shell puts in the rest."""

    text: str


Name = tuple[str, ...] | Begins | None
"""The names in a path from the root; its beginning; None for one of which nothing is known."""


def path_name(path: str, workspace: str) -> tuple[str, ...] | None:
    """The names in a path; None if it cannot be told which file it means."""
    if len(path.encode(errors="replace")) > _MAX_PATH or _goes_back(path) or _REFERENCE.search(path):
        return None
    parts = path_parts(path, workspace)
    if parts[:1] == ("proc",) and not _ELSEWHERE.isdisjoint(parts):
        return None
    return None if parts[:2] == ("dev", "fd") else parts


def _goes_back(path: str) -> bool:
    """Whether `..` stands behind a name, which may be a link to another folder."""
    named = False
    for part in path.split("/"):
        if part == "..":
            if named:
                return True
        elif part not in ("", "."):
            named = True
    return False


def opened_by(command: Command, moved: bool, workspace: str) -> tuple[tuple[str, ...] | None, ...]:
    """Files that the shell opens for a command.

    Args:
        moved: whether relative paths are in another folder than the workspace.
        workspace: as the command sees it.

    """
    paths = (redirect.path for redirect in command.redirects)
    return tuple(None if path is None else _placed(path, moved, workspace) for path in paths)


def words_of(command: Command, moved: bool, workspace: str) -> tuple[Name, ...]:
    """What of the words of a command may be paths; likewise."""
    found: list[Name] = []
    for word in command.words[1:]:
        if word.sure:
            found.extend(_placed(text, moved, workspace) for text in _texts(word.text))
        else:
            found.append(_beginning(word, moved))
    return tuple(found)


def _placed(path: str, moved: bool, workspace: str) -> tuple[str, ...] | None:
    if moved and not path.startswith(("/", "-")):
        return None
    return path_name(path, workspace)


def _texts(text: str) -> Iterable[str]:
    """The word itself, and all of its ends that a program could take for a path: `if=x`, `-xfx`, `a@x`."""
    starts = {0}
    for number, found in enumerate(_BEFORE_PATH.finditer(text)):
        if number >= _MAX_STARTS:
            return ["x/../" + text]  # which cannot be told
        starts.add(found.end())
    starts.update(_behind_letters(text))
    return filter(None, (text[at:] for at in sorted(starts)))


def _behind_letters(text: str) -> Iterator[int]:
    """Of options that are written together with a value: `-rfFILE`."""
    if text.startswith("-") and not text.startswith("--"):
        for at in range(2, min(len(text), _MAX_STARTS)):
            yield at
            if not text[at].isalnum():
                return


def _beginning(word: Word, moved: bool) -> Begins | None:
    """Of a word that is not sure. With braces, or .. in it, it may become any path."""
    text = word.text
    if not text or ".." in text or "=" in text or text[0] in "-~" or "{" in text or not _WILD.search(text):
        return None
    if moved and not text.startswith("/"):
        return None
    return Begins(_WILD.split(text, maxsplit=1)[0])


def steps(names: Iterable[Name], patterns: Sequence[PathPattern]) -> int:
    """How much there is to compare, in parts of patterns times names in paths."""
    lengths = sum(1 + (len(name) if isinstance(name, tuple) else 0) for name in names)
    return lengths * sum(pattern.weight for pattern in patterns)
