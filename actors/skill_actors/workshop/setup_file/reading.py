"""A setup file as it is written: TOML, with the workflows that it names put in their places.

What it names lies in its folder or below: no path leads out of there, no link is followed, and nothing is run. What is
read here is JSON-ready; what it means is checked elsewhere.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

__all__ = ["MAX_FILE_BYTES", "MAX_VALUES", "MAX_WHOLE_BYTES", "FileFault", "Written", "read_setup", "with_files"]

MAX_FILE_BYTES: Final = 1 << 20
MAX_WHOLE_BYTES: Final = 4 << 20  # with all that it names, as JSON
MAX_VALUES: Final = 9_900  # keys counted: a request holds 10,000, and says more than the file
_MAX_NAMED: Final = 1_000  # files

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(
    r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*="
)
_PART: Final = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")


class FileFault(ValueError):
    """A setup file cannot be read. The message names the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A setup file as it was read.

    Args:
        data: JSON-ready.
        text: of the file itself.

    """

    path: Path
    data: Mapping[str, Any]
    text: str

    def place(self, keys: Sequence[str | int]) -> str:
        """`FILE:LINE` of what these keys lead to, or of what stands above it; the file alone where no line does."""
        line = _line_of(self.text, keys)
        return f"{self.path}:{line}" if line else str(self.path)


def read_setup(path: Path) -> Written:
    """Read a setup file, with the workflows that it names. May block.

    Folders (`cwd`) that it names are taken from the folder that it is in.

    Raises:
        FileFault: it cannot be read, is no TOML, is too large, holds what JSON does not, or names a file it may not.

    """
    text = _decoded(_bytes_of(path, follow=True), str(path))
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFault(f"{path} is no TOML: {error}") from error
    named = _Named(path.parent)
    written = Written(path=path, data=data, text=text)
    _check_json(written)
    workflows = data.get("workflows")
    if isinstance(workflows, dict):
        for name, workflow in workflows.items():
            if isinstance(workflow, dict):
                workflows[name] = _workflow(written, name, workflow, named)
    _settle_folders(data, path.parent.absolute())
    if len(json.dumps(data)) > MAX_WHOLE_BYTES:
        raise FileFault(f"{path}: with what it names it takes more than {MAX_WHOLE_BYTES} bytes")
    if (count := _values_in(data)) > MAX_VALUES:
        told = f"it holds {count} values, keys counted, and at most {MAX_VALUES} are taken"
        raise FileFault(f"{path}: {told}: divide it into files of different names")
    return written


def with_files(stage: Mapping[str, Any], text_of: Callable[[str], str]) -> dict[str, Any]:
    """A stage of a workflow with the text of its `files` behind its prompt.

    Args:
        text_of: the text of a path.

    Raises:
        FileFault: `files` is no list of paths, or there is no prompt. What `text_of` raises.

    """
    whole = dict(stage)
    names = whole.pop("files", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileFault(f"stage {stage.get('name')!r}: files has to be a list of paths")
    if names and not isinstance(whole.get("prompt"), str):
        raise FileFault(f"stage {stage.get('name')!r}: files follow its prompt, which has to be text")
    for name in names:
        braces = text_of(name).replace("{", "{{").replace("}", "}}")  # a file has no places
        whole["prompt"] = f"{whole['prompt']}\n\nThe file {PurePosixPath(name).name}:\n\n{braces}"
    return whole


class _Named:
    """Files that a setup file names, read from its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left = _MAX_NAMED
        self._left_bytes = MAX_WHOLE_BYTES

    def text(self, name: str, place: str) -> str:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name:
            raise FileFault(f"{place}: {name!a} does not lie in the folder of the setup file")
        self._left -= 1
        if self._left < 0:
            raise FileFault(f"{place}: more than {_MAX_NAMED} files are named")
        text = _decoded(self._read(parts, f"{place}: {name!a}"), f"{place}: {name!a}")
        self._left_bytes -= len(text)
        if self._left_bytes < 0:
            raise FileFault(f"{place}: what is named takes more than {MAX_WHOLE_BYTES} bytes together")
        return text

    def _read(self, parts: Sequence[str], shown: str) -> bytes:
        """Walk there a folder at a time, so that no link on the way leads elsewhere."""
        with ExitStack() as stack:
            try:
                here = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, here)
                for part in parts[:-1]:
                    here = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                    stack.callback(os.close, here)
                return _read_at(parts[-1], here, os.O_NOFOLLOW)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise FileFault(f"{shown}: a link, or no folder, is on the way: not followed") from error
                raise FileFault(f"{shown}: {error.strerror}") from error
            except ValueError as error:
                raise FileFault(f"{shown}: {error}") from error


def _bytes_of(path: Path, *, follow: bool) -> bytes:
    try:
        return _read_at(str(path), None, 0 if follow else os.O_NOFOLLOW)
    except OSError as error:
        raise FileFault(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise FileFault(f"{path}: {error}") from error


def _read_at(name: str, folder: int | None, flags: int) -> bytes:
    """Raises OSError; ValueError for what is no file, or too large."""
    # Without O_NONBLOCK the opening of a pipe would wait for whoever writes into it.
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no file")
        raw = file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    return raw


def _decoded(raw: bytes, shown: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise FileFault(f"{shown} is no text in UTF-8: {error}") from error


def _workflow(written: Written, name: str, given: Mapping[str, Any], named: _Named) -> dict[str, Any]:
    """A workflow, from the file that it names if it does so, and with the files of its stages."""
    place = written.place(("workflows", name, "file"))
    workflow, beside = dict(given), ""
    if "file" in given:
        if len(given) > 1 or not isinstance(given["file"], str):
            raise FileFault(f"{place}: workflows.{name}: 'file' is a path, and stands alone")
        text = named.text(given["file"], place)
        try:
            workflow = json.loads(text) if given["file"].endswith(".json") else tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise FileFault(f"{place}: {given['file']}: {error}") from error
        if not isinstance(workflow, dict):
            raise FileFault(f"{place}: {given['file']}: it holds no workflow")
        _check_json(Written(path=written.path.parent / given["file"], data=workflow, text=text))
        beside = str(PurePosixPath(given["file"]).parent)
    stages = workflow.get("stage")
    if isinstance(stages, list):
        try:
            workflow["stage"] = [
                with_files(stage, lambda file: named.text(str(PurePosixPath(beside) / file), place))
                if isinstance(stage, dict)
                else stage
                for stage in stages
            ]
        except FileFault as error:
            raise error if str(error).startswith(place) else FileFault(f"{place}: workflows.{name}: {error}") from error
    return workflow


def _check_json(written: Written) -> None:
    """TOML knows dates, times and numbers that JSON does not."""

    def look(value: Any, keys: tuple[str | int, ...]) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                look(each, (*keys, key))
        elif isinstance(value, list):
            for number, each in enumerate(value):
                look(each, (*keys, number))
        elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            raise FileFault(f"{written.place(keys)}: {_shown(keys)} = {value} is no number that can be kept")
        elif value is not None and not isinstance(value, str | int | float | bool):
            kind = type(value).__name__
            raise FileFault(f"{written.place(keys)}: {_shown(keys)} is a {kind}: write it as text, in quotes")

    try:
        look(dict(written.data), ())
    except RecursionError as error:
        raise FileFault(f"{written.path}: it is nested too deep") from error


def _values_in(value: Any) -> int:
    """How many values are in this one, keys counted."""
    if isinstance(value, dict):
        return 2 * len(value) + sum(map(_values_in, value.values()))
    return len(value) + sum(map(_values_in, value)) if isinstance(value, list) else 0


def _shown(keys: Sequence[str | int]) -> str:
    return ".".join(map(str, keys))


def _settle_folders(data: Mapping[str, Any], folder: Path) -> None:
    """Folders of agents are taken from where the file lies."""
    holders: list[Any] = []
    for section in ("agents", "profiles"):
        found = data.get(section)
        holders += found.values() if isinstance(found, dict) else ()
    workers = data.get("workers")
    holders += (
        [each.get("settings") for each in workers.values() if isinstance(each, dict)]
        if isinstance(workers, dict)
        else []
    )
    for holder in holders:
        if isinstance(holder, dict) and isinstance(holder.get("cwd"), str) and holder["cwd"]:
            holder["cwd"] = os.path.normpath(folder / holder["cwd"])


def _line_of(text: str, keys: Sequence[str | int]) -> int:
    """The line, from 1, on which the longest beginning of these keys is written; 0 where none of it is."""
    best, best_length = 0, 0
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    inside = ""  # the quotes of a text over several lines
    for number, line in enumerate(text.split("\n"), 1):
        if inside:
            inside = "" if line.count(inside) % 2 else inside
            continue
        if (header := _HEADER.match(line)) is not None:
            table = _numbered(_parts(header[2]), counts, many=header[1] == "[[")
            found = table
        elif (key := _KEY.match(line)) is not None:
            found = (*table, *_parts(key[1]))
            inside = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
        else:
            continue
        length = _common(found, keys)
        if length == len(found) and length > best_length:
            best, best_length = number, length
    return best


def _parts(dotted: str) -> tuple[str | int, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _numbered(
    parts: tuple[str | int, ...], counts: dict[tuple[str | int, ...], int], *, many: bool
) -> tuple[str | int, ...]:
    """The keys of a header, with the numbers of the list entries that it stands for or in."""
    found: tuple[str | int, ...] = ()
    for index, part in enumerate(parts):
        found = (*found, part)
        if many and index == len(parts) - 1:
            counts[found] = counts.get(found, -1) + 1
        if found in counts:
            found = (*found, counts[found])
    return found


def _common(one: Sequence[str | int], other: Sequence[str | int]) -> int:
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return length
