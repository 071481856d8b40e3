"""Texts with places for a message and a result. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from skill_actors.errors import Refused

__all__ = ["filled", "handed_on", "places_in"]

_MAX_CHARS: Final = 8 << 20  # more than any message may be; places can be many, and each as long as a result
_PLACE: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with `{name}` replaced by the value of that name; `{{` and `}}` are braces.

    What is put in is not looked at again, and a brace that begins no name stays: results are full of them.

    Raises:
        Refused: bad_request for a name without a value, with the nearest one that has; too_large.

    """
    size = len(template) + sum(len(values.get(name, "")) for name in places_in(template))
    if size > _MAX_CHARS:
        raise Refused("too_large", f"template: filled it has {size} characters, and may have {_MAX_CHARS}")

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return found[0][0]
        if name not in values:
            near = get_close_matches(name, values, n=1)
            hint = f"did you mean {{{near[0]}}}?" if near else f"known: {', '.join(sorted(values))}"
            raise Refused("bad_request", f"template: unknown place {{{name[:60]}}}; {hint}")
        return values[name]

    return _PLACE.sub(put, template)


def places_in(template: str) -> Sequence[str]:
    """The names of the places that `filled` fills, in their order."""
    return [found[1] for found in _PLACE.finditer(template) if found[1] is not None]


def handed_on(source: str, result: str, *, message: str | None, template: str | None) -> str:
    """What one agent is told of another's result: by a template, below a message, or below a sentence of ours.

    Raises:
        Refused: bad_request as `filled`.

    """
    if template is not None:
        return filled(template, {"result": result, "message": message or "", "from": source})
    before = message if message is not None and message.strip() else f"This is the result of the agent {source}:"
    return f"{before}\n\n{result}"
