"""Names in the workshop: of agents, profiles, namespaces and the like, and the ids of documents that they make."""

from __future__ import annotations

import re
from typing import Final

from skill_actors.errors import Refused

__all__ = ["check_name", "document_id"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_name(name: str, what: str = "name") -> str:
    """The name itself.

    Raises:
        Refused: bad_request, unless it is 1 to 64 of a-z, 0-9, `.`, `_` and `-`, and begins with a letter or digit.

    """
    if _NAME.fullmatch(name) is None:
        shown = ascii(name if len(name) <= 80 else f"{name[:77]}...")
        raise Refused(
            "bad_request",
            f"{what} {shown}: 1 to 64 characters of a-z, 0-9, '.', '_' and '-', and the first a letter or digit",
        )
    return name


def document_id(owner_uid: int, name: str) -> str:
    """The id of the document that holds what this owner calls `name`."""
    return f"{owner_uid}/{name}"
