"""What routes of the workshop have in common: whose things are meant, and whether what is put has to be new."""

from __future__ import annotations

from typing import Final

from skill_actors.errors import Refused
from skilld.http.route import Call, Parameter

__all__ = ["ANYBODY", "OWNER", "is_new", "owner_of", "owners_of"]

OWNER: Final = Parameter(name="owner", summary="The uid whose it is, for the role admin; one's own.")
ANYBODY: Final = Parameter(name="owner", summary="The uid whose they are, or all, for the role admin; one's own.")


def is_new(call: Call) -> bool:
    """Whether what is put has to be new (`If-None-Match: *`). Raises Refused("bad_request") on any other condition."""
    condition = call.headers.get("if-none-match")
    if condition not in (None, "*"):
        raise Refused("bad_request", f"if-none-match: {condition[:40]!a}: only * is understood")
    return condition == "*"


def owner_of(call: Call) -> int:
    """Whose thing is looked at. Raises Refused."""
    text = call.query.get("owner")
    if text is None:
        return call.viewer.uid
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise Refused("bad_request", f"owner={text[:40]!a}: expected a uid")
    if int(text) != call.viewer.uid and not call.viewer.admin:
        raise Refused("forbidden", f"what is of uid {text} can be seen by that uid, and with the role admin")
    return int(text)


def owners_of(call: Call) -> int | None:
    """Whose things are listed; None for everybody's. Raises Refused."""
    if call.query.get("owner") != "all":
        return owner_of(call)
    if not call.viewer.admin:
        raise Refused("forbidden", "what is of everybody can be seen with the role admin")
    return None
