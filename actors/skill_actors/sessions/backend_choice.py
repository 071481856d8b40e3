"""Which backends a session has, under which names, and with which options. Pure functions.

A session's setting `backends` is a list whose items are a backend's name, or an object: {"backend": NAME,
"name": ALIAS, "options": {...}}. Whether an option is one that the backend takes, the backend says. Where whole agents
perform the turns the object may have {"fallback": [{"backend", "options", "model"}]}: who does it in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["BackendChoice", "Fallback", "choices_of", "choices_to_json", "fallbacks_of"]

_KEYS: Final = frozenset({"backend", "name", "options", "fallback"})
_FALLBACK_KEYS: Final = frozenset({"backend", "options", "model"})
_ALIAS: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAX_NAME: Final = 200
_MAX_CHOICES: Final = 16
_MAX_FALLBACKS: Final = 4
_MAX_OPTIONS_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """Who performs a turn that the one before cannot begin.

    Args:
        backend, options: as those of a BackendChoice.
        model: by name; None for the backend's own choice.

    """

    backend: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The object that reads as this."""
        chosen = {"backend": self.backend, "options": dict(self.options), "model": self.model}
        return {key: value for key, value in chosen.items() if value}


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """One place where a session's tools may run.

    Args:
        backend: its backend, by the name in the configuration.
        name: what the session calls it; the backend's name where it has no other.
        options: for this session, within what the operator permits; JSON-ready.
        fallback: who performs a turn in its place, in this order; for whole agents.

    """

    backend: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    fallback: tuple[Fallback, ...] = ()


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
    fallback = item.get("fallback")
    return BackendChoice(
        backend,
        name,
        {} if options is None else _checked(options, name),
        () if fallback is None else fallbacks_of(fallback),
    )


def fallbacks_of(setting: object) -> tuple[Fallback, ...]:
    """A list of fall-backs, read. Raises ValueError, in words for whoever wrote it, if it is none."""
    if not isinstance(setting, list | tuple) or len(setting) > _MAX_FALLBACKS:
        raise ValueError(f"fallback: expected a list of at most {_MAX_FALLBACKS} objects with 'backend'")
    return tuple(map(_fallback_of, setting))


def _fallback_of(item: Any) -> Fallback:
    if isinstance(item, str):
        return Fallback(backend=_backend(item))
    if not isinstance(item, Mapping):
        raise ValueError(f"fallback: expected an object with 'backend', not {item!r:.60}")
    unknown = sorted(str(key)[:60] for key in item if key not in _FALLBACK_KEYS)
    if unknown:
        raise ValueError(f"fallback: unknown field {unknown[0]!r}; known: {', '.join(sorted(_FALLBACK_KEYS))}")
    backend, options, model = _backend(item.get("backend")), item.get("options"), item.get("model")
    if model is not None and (not isinstance(model, str) or not 0 < len(model) <= _MAX_NAME):
        raise ValueError(f"fallback: the model of {backend!r} is text of 1 to {_MAX_NAME} characters")
    return Fallback(backend=backend, options={} if options is None else _checked(options, backend), model=model)


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
    if choice.name == choice.backend and not choice.options and not choice.fallback:
        return choice.backend
    written: dict[str, Any] = {"backend": choice.backend}
    if choice.name != choice.backend:
        written["name"] = choice.name
    if choice.options:
        written["options"] = dict(choice.options)
    if choice.fallback:
        written["fallback"] = [each.to_json() for each in choice.fallback]
    return written
