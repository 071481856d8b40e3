"""Which skills a command line may be about: those whose folder it names, or the folder of all of them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Final

from skill_actors.sessions.policy.analysis import Analysis
from skill_actors.sessions.policy.lexer import Word
from skill_actors.sessions.policy.patterns import path_parts

__all__ = ["mentioned"]

_FILLED_IN: Final = re.compile(r"[*?\[{~]")
_QUOTES: Final = str.maketrans("", "", "'\"\\")


def mentioned(analysis: Analysis, roots: Mapping[str, str], workspace: str) -> Collection[str]:
    """Names of the skills that it may be about; all of them if the line is opaque.

    Args:
        roots: names of skills, by their folders.
        workspace: where relative paths begin; behind a `cd` they may begin anywhere.

    """
    if analysis.opaque:
        return set(roots.values())
    words = {word for command in analysis.commands for word in command.words}
    text = "\n".join(word.text for word in words)
    plain = text.translate(_QUOTES)  # a folder may stand in the text of a program, too
    found = {name for root, name in roots.items() if root in text or root in plain or f"skill://{name}/" in text}
    folders = _Folders(roots)
    for word in words:
        found |= folders.named_by(word, workspace, analysis.moves)
    return found


class _Folders:
    """The folders of skills by the names in their paths, so that very many cost no more than a few."""

    def __init__(self, roots: Mapping[str, str]) -> None:
        self._roots = roots
        self._starts: dict[tuple[str, ...], set[str]] = {}
        self._ends: dict[tuple[str, ...], set[str]] = {}
        self._parents: dict[tuple[str, ...], set[str]] = {}
        for root, name in roots.items():
            parts = path_parts(root)
            self._starts.setdefault(parts, set()).add(name)
            self._parents.setdefault(parts[:-1], set()).add(name)
            for length in range(1, len(parts) + 1):
                self._ends.setdefault(parts[-length:], set()).add(name)
        self._longest = max((len(parts) for parts in self._starts), default=0)

    def named_by(self, word: Word, workspace: str, moved: bool) -> set[str]:
        """Skills in whose folder the path is that the word may be, and all of a folder of skills."""
        if not word.sure:
            begins = _FILLED_IN.split(word.text, maxsplit=1)[0]  # nothing of `*`: that is about the workspace
            start = posixpath.join(workspace, begins)
            return {
                n for root, n in self._roots.items() if begins and (root.startswith(start) or start.startswith(root))
            }
        parts = path_parts(word.text, workspace)
        found = set(self._parents.get(parts, ())) | self._below(self._starts, parts)
        return found | self._below(self._ends, path_parts(word.text)) if moved else found

    def _below(self, table: Mapping[tuple[str, ...], set[str]], parts: tuple[str, ...]) -> set[str]:
        lengths = range(1, min(len(parts), self._longest) + 1)
        return {name for length in lengths for name in table.get(parts[:length], ())}
