"""What routes that put something in its place have in common."""

from __future__ import annotations

from skill_actors.errors import Refused
from skilld.http.route import Call

__all__ = ["is_new"]


def is_new(call: Call) -> bool:
    """Whether what is put has to be new (`If-None-Match: *`). Raises Refused("bad_request") on any other condition."""
    condition = call.headers.get("if-none-match")
    if condition not in (None, "*"):
        raise Refused("bad_request", f"if-none-match: {condition[:40]!a}: only * is understood")
    return condition == "*"
