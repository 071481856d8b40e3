#!/usr/bin/env python3
"""Fetch logs from the HTTP API of a monitoring service.

Use: fetch.py fetch URL [--limit N] [--level LEVEL]
"""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True  # a skill's folder must not change because it was used

import contextlib
import os
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from log_request import MAX_BYTES, UsageError, parse_words, shown

TIMEOUT_S = 30.0


class FetchError(Exception):
    """There are no logs; the message says why."""


class _NoRedirects(HTTPRedirectHandler):
    """Another address is another decision."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def fetch(url: str) -> bytes:
    """The body of the answer. Raises FetchError."""
    request = Request(url, headers={"Accept": "application/json, text/plain;q=0.5, */*;q=0.1"})
    try:
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S) as response:
            body: bytes = response.read(MAX_BYTES + 1)
            status = response.status
    except HTTPError as error:
        with contextlib.closing(error):
            raise FetchError(f"API returned {error.code}") from None
    except URLError as error:
        raise FetchError(f"the API cannot be reached: {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise FetchError(f"the API cannot be read: {str(error) or type(error).__name__}") from None
    if status != 200:
        raise FetchError(f"API returned {status}")
    if len(body) > MAX_BYTES:
        raise FetchError(f"the answer is larger than {MAX_BYTES >> 20} MiB: ask for fewer records with --limit")
    return body


def main(words: list[str]) -> int:
    """Exit code: 0 fetched, 1 the API or the network failed, 2 usage."""
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    try:
        print(shown(fetch(parse_words(words).address())))
        sys.stdout.flush()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains when it exits
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
