"""A backend of a new session, as it is written on the command line: [NAME=]BACKEND[:KEY=VALUE,...]."""

from __future__ import annotations

import re
from typing import Any, Final

import click

__all__ = ["backend_setting"]

_NUMBER: Final = re.compile(r"-?\d{1,18}(\.\d{1,18})?")


def backend_setting(text: str) -> Any:
    """An item of the setting `backends`: the backend's name, or an object where there is more to say.

    A value is a number, true, false or text; a key that is there more than once makes a list. What keys there are, the
    backend knows. Raises click.UsageError.
    """
    head, colon, rest = text.partition(":")
    name, equals, backend = head.partition("=")
    if not equals:
        name, backend = "", head
    if not backend or (equals and not name):
        raise click.UsageError(f"--backend {text!r}: expected [NAME=]BACKEND[:KEY=VALUE,...]")
    options = _options(text, rest) if colon else {}
    if not name and not options:
        return backend
    return {"backend": backend} | ({"name": name} if name else {}) | ({"options": options} if options else {})


def _options(text: str, written: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for pair in written.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise click.UsageError(f"--backend {text!r}: {pair!r} is no KEY=VALUE")
        options.setdefault(key.strip(), []).append(_value(value.strip()))
    return {key: values[0] if len(values) == 1 else values for key, values in options.items()}


def _value(text: str) -> Any:
    if _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return {"true": True, "false": False}.get(text, text)
