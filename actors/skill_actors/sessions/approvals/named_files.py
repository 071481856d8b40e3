"""The files that a call names, hashed: found by its words, opened without following a link out of what it may use.

More is looked at than a shell would open: every word, every part of a word behind `=`, `:` or `,`, and what lies under
such a name in each folder that the call names. That shows too much at times and misses nothing that is written out.
What only running the command could tell (a glob, a variable, a file that a program opens on its own) is not found.

Nothing here waits: pipes and devices are not opened. Everything here blocks: call it in a worker thread.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from skill_actors.backends.paths import Located, PathRefused, locate, opened, readable_file
from skill_actors.sessions.approvals.request import NamedFile

__all__ = ["FileLimits", "NotBound", "Roots", "named_files", "words_of"]

_PIECE_BYTES: Final = 1 << 20
_MAX_WORD_CHARS: Final = 4_096
_APART: Final = re.compile(r"[\s;|&<>(){}'\"`$\\]+")  # what ends a word, whatever a shell makes of the rest
_INNER: Final = re.compile(r"[=:,@]")
_TEXTS_WITHOUT_NAMES: Final = frozenset({"description", "file_text", "old_str", "new_str"})


class NotBound(Exception):
    """The call names more than can be looked at: it cannot be bound to it. The message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """What is looked at for one call: words, folders in which these are tried as well, files, and all their bytes."""

    words: int = 20_000
    files: int = 256
    folders: int = 64
    looks: int = 200_000  # about 3 µs each
    total_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Roots:
    """Folders as the tools see them, and where they are on this host.

    Args:
        workspace: as tools see it; relative names are below it.
        folder: the same on the host.
        others: further folders that tools see, such as those of skills, and where they are.

    """

    workspace: str
    folder: Path
    others: Mapping[str, Path] = field(default_factory=dict)

    def on_host(self, path: str) -> tuple[Path, str, str] | None:
        """The folder on the host that holds a path, the path from there, and how the tools would best be told of it.

        None if it is in none of the folders.
        """
        whole = posixpath.join(self.workspace, path)
        while "/./" in whole or "//" in whole:
            whole = whole.replace("/./", "/").replace("//", "/")
        for place in (at for at, char in enumerate(whole) if char == "/" and at):
            seen = whole[:place]
            folder = self.folder if seen == self.workspace else self.others.get(seen)
            if folder is not None:
                name = whole[place + 1 :]
                return folder, name, name if seen == self.workspace else whole
        return None


def words_of(input: Mapping[str, Any], argv: Sequence[str] | None) -> Sequence[str]:
    """Everything in a call that may be the name of a file, each once, in order."""
    words: dict[str, None] = {}
    for text in argv if argv is not None else _texts(input):
        words.setdefault(text)
        for word in (*_shell_words(text), *_APART.split(text)):
            words.setdefault(word)
            for place in _INNER.finditer(word):
                words.setdefault(word[place.end() :])
            for part in _INNER.split(word):
                words.setdefault(part)
            if word.startswith("-"):  # -ofile
                words.setdefault(word[2:])
    return [word for word in words if word and len(word) <= _MAX_WORD_CHARS and "\0" not in word]


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping) and depth < 8:
        for name, inner in value.items():
            if name not in _TEXTS_WITHOUT_NAMES:
                yield from _texts(inner, depth + 1)
    elif isinstance(value, Sequence) and depth < 8:
        for inner in value:
            yield from _texts(inner, depth + 1)


def _shell_words(text: str) -> Sequence[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return ()


def named_files(words: Sequence[str], roots: Roots, limits: FileLimits) -> tuple[NamedFile, ...]:
    """The files of these names, sorted by path.

    Raises:
        NotBound: they are too many or too large to be hashed, or cannot be read.

    """
    if len(words) > limits.words:
        raise NotBound(f"it has {len(words)} words that could name files; at most {limits.words} are looked at")
    look = _Look(roots, limits)
    for word in words:
        look.at("", word)
    for number, folder in enumerate(look.folders, 1):  # which grows: a folder may hold another that is named
        if len(words) * number > limits.looks:
            raise NotBound(f"it has {len(words)} words and {number} folders that could name files")
        for word in words:
            if not word.startswith("/"):
                look.at(folder, word)
    return tuple(look.found[path] for path in sorted(look.found))


class _Look:
    """What was found so far."""

    def __init__(self, roots: Roots, limits: FileLimits) -> None:
        self._roots = roots
        self._limits = limits
        self._left_bytes = limits.total_bytes
        self._tried: set[tuple[Path, str, str]] = set()
        self._led: dict[tuple[Path, str], tuple[str, bool]] = {}
        self._bases: dict[str, str] = {}
        self.found: dict[str, NamedFile] = {}
        self.folders: list[str] = []  # each once, under the name it was found by first
        self._inside: set[str] = set()

    def at(self, below: str, word: str) -> None:
        """Look at a name, and in a folder that the call names too, unless that is ""."""
        where = self._roots.on_host(posixpath.join(below, word))
        if where is None or where in self._tried:
            return
        self._tried.add(where)
        folder, name, path = where
        try:
            os.lstat(os.path.join(folder, name))
        except (OSError, ValueError):
            named = self._absent(path, folder, name, below)
        else:
            named = self._named(path, folder, name)
        if named is None:
            return
        if len(self.found) >= self._limits.files:
            raise NotBound(f"it names more than {self._limits.files} files")
        self.found[path] = named

    def _absent(self, path: str, folder: Path, name: str, below: str) -> NamedFile | None:
        """What is not there, if a link on the way decides where it would come to be. That of `below` is known."""
        base = self._base(below)
        rest = name[len(base) + 1 :] if base else name
        if not self._leads(folder, posixpath.join(base, rest.partition("/")[0]))[1]:
            return None
        straight = posixpath.normpath(posixpath.join(self._leads(folder, base)[0], posixpath.dirname(rest)))
        leads, _ = self._leads(folder, posixpath.dirname(name))
        return None if leads == straight else NamedFile(path=path, note=f"would be in {leads}")

    def _base(self, below: str) -> str:
        """The folder that a name is looked for in, as `on_host` writes it."""
        if below not in self._bases:
            where = self._roots.on_host(posixpath.join(below, ".")) if below else None
            self._bases[below] = "" if where is None or where[1] == "." else where[1].removesuffix("/.")
        return self._bases[below]

    def _leads(self, folder: Path, name: str) -> tuple[str, bool]:
        """Where a name is once every link is followed, and whether there is anything."""
        found = self._led.get((folder, name))
        if found is None:
            here = os.path.join(folder, name)
            try:
                found = os.path.realpath(here), os.path.lexists(here)
            except ValueError:  # no name that a file can have
                found = here, False
            self._led[folder, name] = found
        return found

    def _folder(self, path: str, real: str) -> None:
        """Names are tried in it as well."""
        if real in self._inside:
            return
        if len(self.folders) >= self._limits.folders:
            raise NotBound(f"it names more than {self._limits.folders} folders")
        self._inside.add(real)
        self.folders.append(path)

    def _named(self, path: str, folder: Path, name: str) -> NamedFile | None:
        root = os.path.realpath(folder)
        here = os.path.join(root, name)
        try:
            where = replace(locate(here, workspace=root), shown=path)
        except PathRefused:
            return NamedFile(path=path, note=f"leads out of what is bound, to {os.path.realpath(here)}")
        linked = os.path.normpath(here) != _whole(where)
        if not os.path.exists(_whole(where)):
            return NamedFile(path=path, note=f"a link to {'/'.join(where.parts)}, where nothing is")
        try:
            with opened(where) as fd:
                mode = os.fstat(fd).st_mode
                if stat.S_ISDIR(mode):
                    self._folder(path, _whole(where))
                    return NamedFile(path=path, note=f"the folder {'/'.join(where.parts)}") if linked else None
                if not stat.S_ISREG(mode):
                    return NamedFile(path=path, note="not a regular file")
                note = f"a link to {'/'.join(where.parts)}" if linked else ""
                return NamedFile(path=path, sha256=self._hash(fd, where, path), note=note)
        except PathRefused as refused:
            raise NotBound(f"{refused}") from refused

    def _hash(self, fd: int, where: Located, path: str) -> str:
        file = readable_file(fd, where)
        try:
            total = hashlib.sha256()
            while piece := os.read(file, _PIECE_BYTES):
                self._left_bytes -= len(piece)
                if self._left_bytes < 0:
                    raise NotBound(
                        f"the files that it names have more than {self._limits.total_bytes} bytes, up to {path[:200]}: "
                        "too large to be hashed"
                    )
                total.update(piece)
            return total.hexdigest()
        finally:
            os.close(file)


def _whole(where: Located) -> str:
    return "/".join((where.root.rstrip("/"), *where.parts))
