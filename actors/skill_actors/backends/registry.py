"""Executors by name: those that come with skilld, and those that other packages offer.

A package registers a factory under the entry point group `skilld.backends`. A name that is unknown, and a package
that fails to load, are errors: nothing else is ever tried instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import trio

from .base import BackendUnavailable, Executor, OptionRefused
from .docker import open_docker
from .docker_options import checked
from .link import Limits
from .local import LocalOptions, open_local
from .offered import load_factory
from .workers import Host

__all__ = ["ENTRY_POINT_GROUP", "ExecutorFactory", "factory", "known"]

ENTRY_POINT_GROUP: Final = "skilld.backends"

ExecutorFactory = Callable[[Mapping[str, Any], Host], AbstractAsyncContextManager[Executor]]
"""Takes the options of the backend, and what the process around it offers; opens the executor."""


async def factory(name: str) -> ExecutorFactory:
    """What opens the executor of this name: `async with (await factory("local"))(options, Host()) as executor`.

    Installed packages are looked at only for names that skilld has not itself. Raises BackendUnavailable.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    return await trio.to_thread.run_sync(_load, name)


async def known() -> tuple[str, ...]:
    """All names, sorted. Looks at the installed packages."""
    return await trio.to_thread.run_sync(_names)


def _local(options: Mapping[str, Any], host: Host) -> AbstractAsyncContextManager[Executor]:
    names = sorted(field.name for field in dataclasses.fields(LocalOptions))
    for name, value in options.items():
        if name not in names:
            words = f"the local backend has no option {name!r}; it has {', '.join(names)}"
            raise BackendUnavailable(words) from OptionRefused("local", name, value, "there is none such")
    limits = options.get("limits", {})
    if not isinstance(limits, Limits):
        try:
            limits = Limits(**limits)
        except TypeError as error:
            refused = OptionRefused("local", "limits", limits, str(error))
            raise BackendUnavailable(str(refused)) from refused
    return open_local(LocalOptions(**{**options, "limits": limits}), owner=host.owner, private=host.private)


def _docker(options: Mapping[str, Any], host: Host) -> AbstractAsyncContextManager[Executor]:
    return open_docker(checked(options), owner=host.owner, private=host.private, folder=host.folder)


_BUILT_IN: Final[Mapping[str, ExecutorFactory]] = {"docker": _docker, "local": _local}


def _load(name: str) -> ExecutorFactory:
    loaded: ExecutorFactory = load_factory("backend", name, _offered().get(name), _names())
    return loaded


def _offered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _names() -> tuple[str, ...]:
    return tuple(sorted({*_BUILT_IN, *_offered()}))
