"""What a session may choose of its containers, within what the operator permits. Pure functions.

While the operator says nothing, a session may ask for less than others get and for nothing else: less memory, less
time, no network. What is beyond that is refused with the key that would permit it; nothing is cut down to a limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from .base import BackendUnavailable, OptionRefused
from .docker_options import DockerOptions, check_sense, mount_of
from .egress_rules import rule_of

__all__ = ["OPTIONS", "checked_options", "resolved"]

_KEY: Final = "backends.docker.session"
_SHORT: Final[Mapping[str, str]] = {"memory": "memory_bytes", "workspace": "workspace_bytes", "tmp": "tmp_bytes"}
_AMOUNTS: Final = ("memory_bytes", "cpus", "processes", "workspace_bytes", "tmp_bytes")
_SIZE: Final = re.compile(r"(\d{1,15})([kmg])i?b?", re.IGNORECASE)
_FACTORS: Final[Mapping[str, int]] = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MAX_LISTED: Final = 100
_PULLS: Final = ("never", "missing", "always")


def checked_options(own: DockerOptions, options: Mapping[str, Any]) -> dict[str, Any]:
    """The choices, written in one way. Raises OptionRefused.

    Args:
        own: the operator's.
        options: of a session; `memory`, `workspace` and `tmp` stand for those that end in `_bytes`, sizes may be
            written as "512m", and lists of one as text.

    """
    written: dict[str, Any] = {}
    for given, value in options.items():
        name = _SHORT.get(given, given)
        if name not in OPTIONS:
            raise OptionRefused("docker", given, value, f"sessions choose among {', '.join(OPTIONS)}")
        if name in written:
            raise OptionRefused("docker", given, value, "it is there twice")
        written[name] = OPTIONS[name](own, name, value)
    _resolve(own, written)
    return written


def resolved(own: DockerOptions, options: Mapping[str, Any]) -> DockerOptions:
    """How the containers of a session with these options are made.

    Raises:
        BackendUnavailable: they are not permitted, or not any more.

    """
    try:
        return _resolve(own, checked_options(own, options))
    except OptionRefused as error:
        raise BackendUnavailable(f"containers of this conversation cannot be made: {error}") from error


def _resolve(own: DockerOptions, written: Mapping[str, Any]) -> DockerOptions:
    changes = {name: value for name, value in written.items() if name != "mounts"}
    if "mounts" in written:
        named = dict(mount_of(own.session.mounts[name]) for name in written["mounts"])
        changes["mounts"] = {**own.mounts, **named}
    if "allow" in changes:
        changes["allow"] = tuple(changes["allow"])
    chosen = replace(own, **changes)
    if "allow" in written and chosen.network != "allow":
        raise OptionRefused("docker", "allow", written["allow"], f"the network is {chosen.network}, and not allow")
    return check_sense(chosen)


def _not_permitted(name: str, value: object, permitted: str, key: str) -> OptionRefused:
    return OptionRefused("docker", name, value, f"the operator permits {permitted} ({_KEY}.{key})")


def _amount(own: DockerOptions, name: str, value: object) -> int | float:
    if isinstance(value, str) and name.endswith("_bytes") and (size := _SIZE.fullmatch(value)):
        value = int(size[1]) * _FACTORS[size[2].lower()]
    whole = name != "cpus"
    good = isinstance(value, int) if whole else isinstance(value, int | float)
    if isinstance(value, bool) or not good or not isinstance(value, int | float):
        sizes = ', or text such as "512m"' if name.endswith("_bytes") else ""
        raise OptionRefused("docker", name, value, f"has to be a {'whole ' if whole else ''}number{sizes}")
    most = getattr(own.session, name) or getattr(own, name)
    if not value <= most:  # also refuses what is no number
        raise _not_permitted(name, value, f"at most {most}", name)
    return value


def _image(own: DockerOptions, name: str, value: object) -> str:
    permitted = dict.fromkeys((own.image, *own.session.images))
    if not isinstance(value, str) or value not in permitted:
        raise _not_permitted(name, value, ", ".join(permitted), "images")
    return value


def _pull(own: DockerOptions, name: str, value: object) -> str:
    permitted = [pull for pull in _PULLS if pull in ("never", own.pull, *own.session.pull)]
    if not isinstance(value, str) or value not in permitted:
        raise _not_permitted(name, value, " and ".join(permitted), "pull")
    return value


def _network(own: DockerOptions, name: str, value: object) -> str:
    permitted = dict.fromkeys(("none", own.network, *own.session.networks))
    if not isinstance(value, str) or value not in permitted:
        raise _not_permitted(name, value, " and ".join(permitted), "networks")
    return value


def _texts(name: str, value: object) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
        raise OptionRefused("docker", name, value, "has to be a list of texts")
    if len(listed) > _MAX_LISTED:
        raise OptionRefused("docker", name, f"{len(listed)} long", f"has to be a list of at most {_MAX_LISTED}")
    return list(dict.fromkeys(listed))


def _allow(own: DockerOptions, name: str, value: object) -> list[str]:
    permitted = [rule_of(entry) for entry in (*own.allow, *own.session.hosts)]
    allowed = []
    for entry in _texts(name, value):
        try:
            rule = rule_of(entry)
        except ValueError as error:
            raise OptionRefused("docker", name, entry, f"{error}") from error
        if not any(each.covers(rule) for each in permitted):
            raise _not_permitted(name, entry, ", ".join(map(str, permitted)) or "no host", "hosts")
        allowed.append(str(rule))
    return allowed


def _mounts(own: DockerOptions, name: str, value: object) -> list[str]:
    names = _texts(name, value)
    for each in names:
        if each not in own.session.mounts:
            raise _not_permitted(name, each, ", ".join(sorted(own.session.mounts)) or "none", "mounts")
    return names


def _user(own: DockerOptions, name: str, value: object) -> int:
    permitted = dict.fromkeys((own.user, *own.session.users))
    if isinstance(value, bool) or not isinstance(value, int) or value not in permitted:
        raise _not_permitted(name, value, ", ".join(map(str, permitted)), "users")
    return value


OPTIONS: Final[Mapping[str, Callable[[DockerOptions, str, object], Any]]] = {
    "allow": _allow,
    **dict.fromkeys(_AMOUNTS, _amount),
    "image": _image,
    "mounts": _mounts,
    "network": _network,
    "pull": _pull,
    "user": _user,
}
