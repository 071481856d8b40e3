"""The daemon's side of a container's operations on files: asked of its runner, and the answer checked.

An answer is one line of JSON, `{"value": ...}` or `{"refused": words}`, and for some operations rows after it, a line
each: [path, kind, mode, size, stamp]. Answers come as a stream, so none is too long for a frame, and rows are read in a
worker thread. Once a call has run in a container nothing in it is trusted: what is no entry of a workspace is an error
of the whole answer, never left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from .base import Image, OutputChunk
from .bundles import CLOSED, MAX_DEPTH, Entry, is_below
from .container_runner import OP, WORKSPACE
from .images import recognise, why_not
from .link import Done, Request
from .output import clean
from .paths import PathRefused

__all__ = ["Nonsense", "Unanswered", "ask", "entries"]

_OPERATION_S: Final = 60.0
_BACKSTOP_S: Final = 10.0  # beyond it: the runner hangs, or its container is frozen
_ANSWER_CHARS: Final = 64 << 20
_MAX_SIZE: Final = 1 << 63
_EDIT_CHARS: Final = 10_000  # of what an edit answers: a path, and a few words
_ROWS: Final = frozenset({"listing", "unpack"})
_KINDS: Final = frozenset({"dir", "file", "link"})


class Unanswered(Exception):
    """The runner has gone, or gives no answer."""


class Nonsense(Exception):
    """The answer is none: whoever gave it is not the runner any more."""


class Caller(Protocol):
    """What of a link is needed here."""

    async def call(self, request: Request, emit: Callable[[OutputChunk], Any] | None) -> Done: ...


async def ask(link: Caller, name: str, arguments: Mapping[str, Any], *, max_entries: int) -> Any:
    """One operation's value, or its rows as entries by path, of which there cannot be more than `max_entries`.

    Raises:
        PathRefused: in words for the model; also where the answer is too long.
        Unanswered: the container is to be given up.
        Nonsense: likewise.

    """
    if arguments.get("tar"):  # a megabyte
        text = await trio.to_thread.run_sync(json.dumps, arguments)
    else:
        text = json.dumps(arguments)
    request = Request(
        argv=(OP, name, text),
        cwd=WORKSPACE,
        env={},
        timeout_s=_OPERATION_S,
        max_chars=1,
        spill=("none",),
        spill_after_chars=_ANSWER_CHARS,
        may_spill=False,
        stream=True,
        stream_chars=_ANSWER_CHARS,
    )
    answer = _Answer(name, max_entries)
    done = Done(outcome="lost")
    with trio.move_on_after(_OPERATION_S + _BACKSTOP_S):
        done = await link.call(request, answer.take)
    if done.outcome == "lost":
        raise Unanswered
    if done.error is not None or done.outcome != "exited" or done.code != 0:
        raise PathRefused(done.error or f"the operation ended with {done.outcome}, code {done.code}")
    if done.stdout.chars != answer.chars:
        raise Nonsense(f"{answer.chars} characters came of {done.stdout.chars}")
    return await answer.value()


class _Answer:
    """What has come of one so far."""

    def __init__(self, operation: str, max_entries: int) -> None:
        self.chars = 0
        self._operation = operation
        self._max_entries = max_entries
        self._parts: list[str] = []

    async def take(self, chunk: OutputChunk) -> None:
        """Raises PathRefused, which ends the operation, once it is too much."""
        if chunk.stream != "stdout":
            return
        self.chars += len(chunk.text)
        if self.chars >= _ANSWER_CHARS:
            raise PathRefused(f"the answer to {self._operation} has more than {_ANSWER_CHARS} characters")
        self._parts.append(chunk.text)

    async def value(self) -> Any:
        text = "".join(self._parts)
        if len(text) < 65_536:
            return _value(self._operation, text, self._max_entries)
        return await trio.to_thread.run_sync(_value, self._operation, text, self._max_entries)


def _value(operation: str, text: str, max_entries: int) -> Any:
    head, _, rest = text.partition("\n")
    try:
        answer = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise Nonsense(f"not JSON: {head[:200]!r}") from error
    match answer:
        case {"refused": str(words)}:
            raise PathRefused(words)
        case {"value": value}:
            if operation in _ROWS:
                return entries(rest.split("\n") if rest else [], max_entries)
            return _VALUES[operation](value)
    raise Nonsense(f"neither a value nor a refusal: {head[:200]!r}")


def _shown(value: object) -> tuple[str, Image | None]:
    """Text, and a picture: one that the API refuses would spoil every later request of its conversation."""
    match value:
        case [str(text), None, None]:
            return text, None
        case [str(text), str(kind), str(encoded)]:
            try:
                data = base64.b64decode(encoded, validate=True)
            except ValueError as error:
                raise Nonsense("a picture that is not base64") from error
            found = recognise(data)
            if found is not None and found[0] == kind and why_not(data, *found) is None:
                return text, Image(media_type=found[0], data=data)
    raise Nonsense(f"not what a view shows: {value!r:.200}")


def _written(value: object) -> tuple[str, str]:
    """What was done, and to which file of the workspace."""
    match value:
        case [str(message), str(path)] if len(message) + len(path) <= _EDIT_CHARS and _is_text_path(path):
            return message, path
    raise Nonsense(f"not what an edit answers: {value!r:.200}")


def _is_text_path(path: str) -> bool:
    """Below the workspace, and in UTF-8: it was asked for so."""
    return clean(path) == path and is_below(path.split("/"))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise Nonsense(f"not a text: {value!r:.200}")


def _count(value: object) -> int:
    if isinstance(value, int) and value >= 0:
        return value
    raise Nonsense(f"not a count: {value!r:.200}")


def _nothing(value: object) -> None:
    if value is not None:
        raise Nonsense(f"more than was asked for: {value!r:.200}")


_VALUES: Final[Mapping[str, Callable[[object], Any]]] = {
    "view": _shown,
    "create_file": _written,
    "str_replace": _written,
    "pack": _text,
    "skill": _count,
    "drop_skill": _nothing,
}


def entries(lines: Sequence[str], max_entries: int) -> dict[str, Entry]:
    """Rows as entries by path, in their order.

    Raises:
        Nonsense: one of them cannot be one.
        PathRefused: they are too many.

    """
    if len(lines) > max_entries:
        raise PathRefused(f"there are {len(lines)} files and folders in the workspace, {max_entries} are allowed")
    found: dict[str, Entry] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Nonsense(f"a row that is not JSON: {line[:200]!r}") from error
        path, entry = _entry(row)
        if path in found:
            raise Nonsense(f"{path[:200]!r} twice")
        found[path] = entry
    return found


def _entry(row: object) -> tuple[str, Entry]:
    match row:
        case [str(path), str(kind), int(mode), int(size), [*stamp]] if (
            kind in _KINDS
            and type(mode) is int
            and 0 <= mode <= 0o777
            and type(size) is int
            and (0 <= size < _MAX_SIZE or (kind == "dir" and size == CLOSED))
            and len(stamp) <= 3
            and all(type(part) is int for part in stamp)
            and _is_path(path, kind, size)
        ):
            return path, Entry(kind, mode, size, tuple(part for part in stamp if isinstance(part, int)))
    raise Nonsense(f"no entry of a workspace: {row!r:.200}")


def _is_path(path: str, kind: str, size: int) -> bool:
    if not path:  # the workspace itself is named only where it cannot be listed
        return kind == "dir" and size == CLOSED
    parts = path.split("/")
    return len(parts) <= MAX_DEPTH + 1 and is_below(parts)
