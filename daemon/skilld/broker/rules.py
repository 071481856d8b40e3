"""What may be asked of the engine, and the one kind of container that may be made. Pure functions.

Nothing of a request is passed on as it came: what is allowed is written anew, from values that were looked at. A key
that is not known is refused, in whatever case it is written, since the engine reads keys without regard to case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

__all__ = ["BROKER", "Asked", "Forbidden", "Limits", "checked_container", "own_containers", "understood"]

BROKER: Final = "skilld.broker"  # label: which broker made it

Kind = Literal["ping", "version", "info", "image", "list", "create", "inspect", "start", "attach", "remove"]

# Before 1.41 the same body means another container: the host's control groups, and one that is not removed at its end.
_VERSION: Final = re.compile(r"/v1\.(4[1-9]|[5-9][0-9]|[1-9][0-9]{2})(?=/)")
_CONTAINER: Final = r"(?P<container>[0-9a-f]{64})"
_PATHS: Final[Sequence[tuple[str, re.Pattern[str], Kind]]] = (
    ("GET", re.compile(r"/_ping"), "ping"),
    ("HEAD", re.compile(r"/_ping"), "ping"),
    ("GET", re.compile(r"/version"), "version"),
    ("GET", re.compile(r"/info"), "info"),
    ("GET", re.compile(r"/images/(?P<image>.+)/json"), "image"),
    ("GET", re.compile(r"/containers/json"), "list"),
    ("POST", re.compile(r"/containers/create"), "create"),
    ("GET", re.compile(rf"/containers/{_CONTAINER}/json"), "inspect"),
    ("POST", re.compile(rf"/containers/{_CONTAINER}/start"), "start"),
    ("POST", re.compile(rf"/containers/{_CONTAINER}/attach"), "attach"),
    ("DELETE", re.compile(rf"/containers/{_CONTAINER}"), "remove"),
)
_MAX_TEXT: Final = 4096
_MAX_ITEMS: Final = 64
_TMPFS_WORDS: Final = frozenset({"rw", "exec", "noexec", "nosuid", "nodev"})
_TMPFS_NUMBERS: Final = frozenset({"size", "nr_inodes", "mode", "uid", "gid"})
_CAPABILITIES: Final = frozenset({"SETUID", "SETGID", "KILL"})  # of the runner, to give each call a user of its own
_MOST_DESCRIPTORS: Final = 1 << 16
_MAX_DIGITS: Final = 15
_LABEL: Final = re.compile(r"skilld\.[a-z]{1,40}")


class Forbidden(Exception):
    """The request is refused; the message says which part of it, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one container may have at most, set by whoever starts the broker.

    Args:
        images: what containers are made of, by these names and no other.
        memory_bytes: of each, its files included.
        cpus: processors' worth of time of each.
        processes: in each.
        containers: at a time.
        runtimes: besides the engine's default.

    """

    images: tuple[str, ...]
    memory_bytes: int = 1 << 30
    cpus: float = 1.0
    processes: int = 512
    containers: int = 64
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that may be made of the engine, as it is made.

    Args:
        container: whose; the empty text where it is about none.

    """

    kind: Kind
    method: str
    target: str
    container: str = ""


def understood(method: str, target: str, limits: Limits, label: str) -> Asked:
    """What is asked for, written anew.

    Args:
        label: the value of BROKER on what this broker made; others' containers are not listed.

    Raises:
        Forbidden: nothing that the docker backend asks for.

    """
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise Forbidden(f"{target[:80]!a} is no target") from error
    version = _VERSION.match(parts.path)
    prefix = version.group() if version is not None else ""
    path = parts.path.removeprefix(prefix)
    for wanted, pattern, kind in _PATHS:
        found = pattern.fullmatch(path) if wanted == method else None
        if found is not None:
            query = parse_qs(parts.query, keep_blank_values=True)
            named = found.groupdict()
            rest = _rest(kind, path, named, query, limits, label)
            return Asked(kind=kind, method=method, target=prefix + rest, container=named.get("container", ""))
    raise Forbidden(f"{method[:10]} {path[:80]!a} is not offered here")


def _rest(
    kind: Kind, path: str, named: Mapping[str, str], query: Mapping[str, Sequence[str]], limits: Limits, label: str
) -> str:
    match kind:
        case "image":
            image = unquote(named["image"])
            _require(image in limits.images, f"the image {image[:200]!a}; allowed: {', '.join(limits.images)}")
            return f"/images/{quote(image, safe=':@')}/json"
        case "list":
            return _list_target(path, _filters(query, label))
        case "attach":
            return f"{path}?stream=1&stdin=1&stdout=1&stderr=1"
        case "remove":
            return f"{path}?force=1&v=1"
        case "create":
            _require(not query, f"a query with a new container: {', '.join(query)[:80]!a}")
            return path
        case _:
            return path


def own_containers(label: str) -> str:
    """The target of a list of all that this broker made and that is there."""
    return _list_target("/containers/json", {"label": [f"{BROKER}={label}"]})


def _list_target(path: str, filters: Mapping[str, Sequence[str]]) -> str:
    return f"{path}?{urlencode({'all': 1, 'filters': json.dumps(filters)})}"


def _filters(query: Mapping[str, Sequence[str]], label: str) -> dict[str, list[str]]:
    """Those asked for, and the one that shows this broker's own only."""
    given = _parsed(query.get("filters", ["{}"])[-1].encode())
    _require(isinstance(given, dict) and given.keys() <= {"label"}, "filters other than of labels")
    labels = given.get("label", [])
    if isinstance(labels, dict):  # the engine takes {"a=b": true} for ["a=b"]
        labels = [name for name, on in labels.items() if on is True]
    _require(isinstance(labels, list) and all(isinstance(each, str) for each in labels), "labels that are no texts")
    return {"label": [*labels[:_MAX_ITEMS], f"{BROKER}={label}"]}


def checked_container(raw: bytes, limits: Limits, label: str) -> bytes:
    """The body of a container that may be made, with this broker's label.

    Raises:
        Forbidden: naming the first field that is not as the template has it.

    """
    body = _parsed(raw)
    _check(body, _container_rules(limits), "")
    host = body["HostConfig"]
    _require(
        host["MemorySwap"] == host["Memory"], "HostConfig.MemorySwap: the same as Memory, so that there is no swap"
    )
    return json.dumps({**body, "Labels": {**body["Labels"], BROKER: label}}).encode()


Rule = Callable[[Any], bool]


def _container_rules(limits: Limits) -> dict[str, Rule | dict[str, Rule]]:
    """For each key what its value has to be. Every key has to be there, but for those in _OPTIONAL."""
    return {
        "Image": lambda value: value in limits.images,
        "Entrypoint": _texts,
        "Cmd": _texts,
        "User": lambda value: isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", value) is not None,
        "WorkingDir": _is("/"),  # any other that is missing would be made, on the engine's disk
        "Env": _texts,
        "Healthcheck": _is({"Test": ["NONE"]}),
        "Labels": _labels,
        "OpenStdin": _is(True),
        "StdinOnce": _is(True),
        "AttachStdin": _is(True),
        "AttachStdout": _is(True),
        "AttachStderr": _is(True),
        "Tty": _is(False),
        "NetworkDisabled": _is(True),
        "HostConfig": {
            "AutoRemove": _is(True),
            "Init": _is(True),
            "NetworkMode": _is("none"),
            "ReadonlyRootfs": _is(True),
            "CapDrop": _is(["ALL"]),
            "CapAdd": lambda value: _texts(value) and _CAPABILITIES.issuperset(value),
            "SecurityOpt": _is(["no-new-privileges:true"]),
            "Tmpfs": lambda value: _tmpfs(value, limits.memory_bytes),
            "Mounts": _is([]),
            "Memory": _from_one_to(limits.memory_bytes),
            "MemorySwap": _from_one_to(limits.memory_bytes),
            "NanoCpus": _from_one_to(round(limits.cpus * 1e9)),
            "PidsLimit": _from_one_to(limits.processes),
            "OomScoreAdj": lambda value: _whole(value) and 0 <= value <= 1000,
            "IpcMode": _is("private"),
            "ShmSize": _from_one_to(limits.memory_bytes),
            "LogConfig": _is({"Type": "none"}),
            "Ulimits": lambda value: _ulimits(value, limits.memory_bytes),
            "Runtime": lambda value: value in limits.runtimes,
        },
    }


_OPTIONAL: Final = frozenset({"Runtime"})


def _check(value: Any, rules: Mapping[str, Any], place: str) -> None:
    """Raise Forbidden at the first key that is unknown, missing or not as its rule wants it."""
    _require(isinstance(value, dict), f"{place.rstrip('.') or 'the body'}: an object")
    for key in value:
        _require(key in rules, f"{place}{ascii(key[:60])[1:-1]}: it is not part of the template")
    for key, rule in rules.items():
        if key not in value:
            _require(key in _OPTIONAL, f"{place}{key}: it is missing")
        elif isinstance(rule, dict):
            _check(value[key], rule, f"{place}{key}.")
        else:
            _require(rule(value[key]), f"{place}{key} = {json.dumps(value[key])[:80]}: not what the template allows")


def _is(wanted: object) -> Rule:
    # 1 == True, also inside of lists.
    return lambda value: json.dumps(value, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _from_one_to(most: int) -> Rule:
    return lambda value: _whole(value) and 1 <= value <= most


def _texts(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_ITEMS
        and all(isinstance(each, str) and len(each) <= _MAX_TEXT and "\0" not in each for each in value)
    )


def _labels(value: object) -> bool:
    """Ours only, and not the one by which this broker knows its own."""
    return (
        isinstance(value, dict)
        and {"skilld.owner", "skilld.boot"} <= value.keys()
        and all(_LABEL.fullmatch(name) is not None and name != BROKER for name in value)
        and _texts(list(value.values()))
    )


def _tmpfs(value: object, most_bytes: int) -> bool:
    return isinstance(value, dict) and all(
        place.startswith("/") and ".." not in place and isinstance(options, str) and _tmpfs_options(options, most_bytes)
        for place, options in value.items()
    )


def _tmpfs_options(options: str, most_bytes: int) -> bool:
    """In memory, bounded, and nothing in it can change who one is."""
    words = options.split(",")
    numbers = dict(word.split("=", 1) for word in words if "=" in word)
    return (
        _TMPFS_WORDS.issuperset(word for word in words if "=" not in word)
        and _TMPFS_NUMBERS.issuperset(numbers)
        and all(number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS for number in numbers.values())
        and {"nosuid", "nodev"} <= set(words)
        and 0 < int(numbers.get("size", "0")) <= most_bytes
    )


def _ulimits(value: object, most_bytes: int) -> bool:
    """Of descriptors, core dumps and the size of a file, each once; no core is dumped."""
    most = {"nofile": _MOST_DESCRIPTORS, "core": 0, "fsize": most_bytes}
    return (
        isinstance(value, list)
        and all(isinstance(each, dict) and each.keys() == {"Name", "Soft", "Hard"} for each in value)
        and sorted(str(each["Name"]) for each in value) == sorted(most)
        and all(
            _whole(each["Soft"]) and _whole(each["Hard"]) and 0 <= each["Soft"] <= each["Hard"] <= most[each["Name"]]
            for each in value
        )
    )


def _parsed(raw: bytes) -> Any:
    """Raises Forbidden. Of a key that occurs twice the last counts here, and alone is passed on."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Forbidden("what was sent is not JSON") from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Forbidden(f"refused: {what}")
