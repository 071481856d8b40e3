"""What another package offers under one of our entry point groups."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any

from .base import BackendUnavailable

__all__ = ["load_factory"]


def load_factory(kind: str, name: str, point: EntryPoint | None, names: Sequence[str]) -> Any:
    """The factory behind an entry point. Imports it, and blocks.

    Args:
        kind: what it makes, in words.
        name: under which it was asked for.
        point: None where nobody offers this name.
        names: all that there are.

    Raises:
        BackendUnavailable: there is none such, it cannot be imported, or it is no factory.

    """
    if point is None:
        raise BackendUnavailable(f"there is no {kind} {name!r}; there are {', '.join(names)}")
    try:
        made = point.load()
    except Exception as error:
        raise BackendUnavailable(
            f"the {kind} {name!r} ({point.value}) cannot be loaded: {error!r}; mend or remove its package"
        ) from error
    if not callable(made):
        raise BackendUnavailable(f"the {kind} {name!r} ({point.value}) is not a factory; mend or remove its package")
    return made
