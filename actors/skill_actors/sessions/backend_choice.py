"""Which backends a session has, under which names, and with which options. Pure functions.

A session's setting `backends` is a list whose items are a backend's name, or an object: {"backend": NAME,
"name": ALIAS, "options": {...}}. Whether an option is one that the backend takes, the backend says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["BackendChoice", "choices_of", "choices_to_json"]

_KEYS: Final = frozenset({"backend", "name", "options"})
_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAX_NAME: Final = 200
_MAX_CHOICES: Final = 16
_MAX_OPTIONS_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """One place where a session's tools may run.

    Args:
        backend: its backend, by the name in the configuration.
        name: what the session calls it; the backend's name where it has no other.
        options: for this session, within what the operator permits; JSON-ready.

    """

    backend: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def choices_of(setting: object) -> tuple[BackendChoice, ...]:
    """The setting, read. Raises ValueError, in words for whoever wrote it, if it is none."""
    if not isinstance(setting, list | tuple) or not 0 < len(setting) <= _MAX_CHOICES:
        raise ValueError(f"expected a list of 1 to {_MAX_CHOICES} names of backends, or objects with 'backend'")
    choices = tuple(map(_choice_of, setting))
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there more than once; give each a 'name' of its own")
    return choices


def choices_to_json(choices: Sequence[BackendChoice]) -> list[Any]:
    """The setting that reads as these choices: names where there is no more to say."""
    return [_to_json(choice) for choice in choices]


def _choice_of(item: Any) -> BackendChoice:
    if isinstance(item, str):
        return BackendChoice(_backend(item), item)
    if not isinstance(item, Mapping):
        raise ValueError(f"expected names of backends, or objects with 'backend'; not {item!r:.60}")
    unknown = sorted(str(key)[:60] for key in item if key not in _KEYS)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}")
    backend = _backend(item.get("backend"))
    name = item.get("name")
    if name is None:
        name = backend
    elif not isinstance(name, str) or not _ALIAS.fullmatch(name):
        raise ValueError(f"the name {name!r:.60} has to be lower case letters, digits and -, at most 32")
    options = item.get("options")
    return BackendChoice(backend, name, {} if options is None else _checked(options, name))


def _backend(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or "\0" in name:
        raise ValueError(f"a backend's name is text of 1 to {_MAX_NAME} characters, not {name!r:.60}")
    return name


def _checked(options: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise ValueError(f"the options of {name!r} have to be an object")
    try:
        written = json.dumps(options, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the options of {name!r} are not JSON: {error}") from error
    if len(written) > _MAX_OPTIONS_BYTES:
        raise ValueError(f"the options of {name!r} are longer than {_MAX_OPTIONS_BYTES} bytes")
    return {key: value for key, value in options.items() if value is not None}


def _to_json(choice: BackendChoice) -> Any:
    if choice.name == choice.backend and not choice.options:
        return choice.backend
    written: dict[str, Any] = {"backend": choice.backend}
    if choice.name != choice.backend:
        written["name"] = choice.name
    if choice.options:
        written["options"] = dict(choice.options)
    return written
