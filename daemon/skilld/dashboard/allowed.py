"""What of the daemon's interface the dashboard passes on: this list, and nothing else.

A call names no host and no header of its own; its path, its query and the fields of its body are checked here, word by
word, and the request to the daemon is made anew from them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

from skill_actors.errors import Refused

__all__ = ["ALLOWED", "Allowed", "checked_fields", "find", "target_of"]

_WORD: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
)  # names and ids; no dots alone, no slash, nothing encoded
_MAX_VALUE_CHARS: Final = 1000
_MAX_QUERY_CHARS: Final = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A call that is passed on.

    Args:
        path: as the daemon has it; `{}` stands for a name or an id.
        query: the parameters that may be given.
        fields: of the JSON body of a write; None for a call that changes nothing.
        stream: whether the answer is server-sent events.

    """

    method: str
    path: str
    query: tuple[str, ...] = ()
    fields: tuple[str, ...] | None = None
    stream: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return self.fields is not None

    def matches(self, words: Sequence[str]) -> bool:
        """Whether a path is of this form."""
        pattern = self.path.split("/")[1:]
        return len(words) == len(pattern) and all(
            _WORD.fullmatch(word) is not None if part == "{}" else word == part
            for part, word in zip(pattern, words, strict=True)
        )


def _read(path: str, *query: str, stream: bool = False) -> Allowed:
    return Allowed(method="GET", path=path, query=query, stream=stream)


def _write(path: str, *fields: str) -> Allowed:
    return Allowed(method="POST", path=path, fields=fields)


ALLOWED: Final = (
    _read("/v1/approvals", "status", "limit"),
    _read("/v1/backends"),
    _read("/v1/budgets"),
    _read("/v1/sessions/{}"),
    _read("/v1/sessions/{}/events", "after", stream=True),
    _read("/v1/status"),
    _read("/v1/usage", "by"),
    _read("/v1/workshop/agents"),
    _read("/v1/workshop/agents/{}"),
    _read("/v1/workshop/agents/{}/git"),
    _read("/v1/workshop/agents/{}/git/diff"),
    _read("/v1/workshop/board/items", "limit", "cursor"),
    _read("/v1/workshop/board/items/{}"),
    _read("/v1/workshop/board/summary"),
    _read("/v1/workshop/board/workers"),
    _read("/v1/workshop/config"),
    _read("/v1/workshop/cost"),
    _read("/v1/workshop/events", "after", "last", stream=True),
    _read("/v1/workshop/profiles"),
    _read("/v1/workshop/runs", "limit"),
    _read("/v1/workshop/runs/{}"),
    _read("/v1/workshop/schedules"),
    _read("/v1/workshop/store", "limit"),
    _read("/v1/workshop/workflows"),
    _read("/v1/workshop/workflows/{}"),
    _read("/v1/workshop/worktrees"),
    _write("/v1/approvals/{}", "decision", "reason"),
    _write("/v1/sessions/{}/cancel", "queued"),
    _write("/v1/sessions/{}/pause"),
    _write("/v1/sessions/{}/resume"),
    _write("/v1/turns/{}/cancel"),
    _write("/v1/workshop/board/items", "id", "title", "spec", "type", "priority", "depends_on", "agent"),
    _write("/v1/workshop/board/items/{}/cancel", "reason"),
    _write("/v1/workshop/board/items/{}/retry"),
    _write("/v1/workshop/cast", "agent", "text"),
    _write("/v1/workshop/runs/{}/cancel"),
    _write("/v1/workshop/schedules/{}/run"),
    _write("/v1/workshop/workflows/{}/run", "parameters"),
)


def find(method: str, path: str) -> Allowed:
    """The call of the list.

    Raises:
        Refused: not_found, where it is not on the list.

    """
    words = path.split("/")[1:]
    for allowed in ALLOWED:
        if allowed.method == method and allowed.matches(words):
            return allowed
    raise Refused("not_found", f"the dashboard does not pass on {method[:10]} {path[:120]!a}")


def target_of(allowed: Allowed, path: str, query: bytes) -> str:
    """The target of the request to the daemon, from a path that the call matches.

    Raises:
        Refused: bad_request, for a parameter that the call has not, or that occurs twice.

    """
    given: dict[str, str] = {}
    text = query.decode("latin-1")
    if len(text) > _MAX_QUERY_CHARS:
        raise Refused("bad_request", f"the query is longer than {_MAX_QUERY_CHARS} characters")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError as error:
        raise Refused("bad_request", "the query is malformed") from error
    for name, value in pairs:
        if name not in allowed.query or name in given or len(value) > _MAX_VALUE_CHARS:
            raise Refused("bad_request", f"query parameter {name[:60]!a}: unknown here, twice or too long")
        given[name] = value
    return f"{path}?{urlencode(given)}" if given else path


def checked_fields(allowed: Allowed, body: Mapping[str, object]) -> Mapping[str, object]:
    """The body of a write.

    Raises:
        Refused: bad_request, for a field that the dashboard does not pass on.

    """
    for name in body:
        if name not in (allowed.fields or ()):
            raise Refused("bad_request", f"the dashboard does not pass on the field {name[:60]!a}")
    return body
