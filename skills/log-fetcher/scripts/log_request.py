"""What a command asks of a log API, and how its answer is shown: no I/O; the script and the native skill share it."""

from __future__ import annotations

import json
import shlex
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

USAGE = "Use: fetch URL [--limit N] [--level LEVEL]"
DEFAULT_LIMIT = 100
MAX_LIMIT = 100_000
MAX_BYTES = 8 << 20


class UsageError(ValueError):
    """The command is not one. The message says what is, and what was wrong."""


class LogRequest(NamedTuple):
    """One page of logs."""

    url: str
    limit: int = DEFAULT_LIMIT
    level: str | None = None

    def address(self) -> str:
        """The URL with limit and level among its parameters; those of the same name that it had are replaced."""
        wanted = {"limit": str(self.limit)}
        if self.level is not None:
            wanted["level"] = self.level
        parts = urlsplit(self.url)
        kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in wanted]
        return urlunsplit(parts._replace(query=urlencode([*kept, *wanted.items()]), fragment=""))


def parse_command(command: str) -> LogRequest:
    """What `fetch URL [--limit N] [--level LEVEL]` asks for. Raises UsageError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{USAGE} ({error})") from error
    return parse_words(words)


def parse_words(words: list[str]) -> LogRequest:
    """The same of words that are separate already. Raises UsageError."""
    if len(words) < 2 or words[0] != "fetch":
        raise UsageError(USAGE)
    url, options = words[1], words[2:]
    _check_url(url)
    limit, level = DEFAULT_LIMIT, None
    while options:
        name = options.pop(0)
        if name not in ("--limit", "--level"):
            raise UsageError(f"{USAGE} ({name!r} is neither)")
        if not options:
            raise UsageError(f"{USAGE} ({name} has no value)")
        value = options.pop(0)
        if name == "--level":
            level = value
        else:
            limit = _limit(value)
    return LogRequest(url, limit, level)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or any(char.isspace() or not char.isprintable() for char in url):
        raise UsageError(f"{USAGE} ({url!r} is not an http or https address)")


def _limit(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:7]) <= MAX_LIMIT):
        raise UsageError(f"{USAGE} (--limit takes a number from 1 to {MAX_LIMIT}, not {value!r})")
    return int(value)


def shown(body: bytes) -> str:
    """The answer as text: JSON indented, anything else as it is."""
    text = body.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
