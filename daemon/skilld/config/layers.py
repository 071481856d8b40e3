"""The files of a configuration, in the order in which later ones replace what earlier ones say.

    /etc/skilld/skilld.toml, /etc/skilld/conf.d/*.toml, ~/.config/skilld/skilld.toml, ~/.config/skilld/conf.d/*.toml

A file brings the `conf.d` beside it along, in the order of names. A key of a later file replaces that of an earlier
one; lists are not joined; in tables whose names are free, such as `skills.secrets`, names are added.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from skilld.config.section import ConfigError, mask
from skilld.config.whole import config_keys

__all__ = ["Layer", "merge", "read_layers", "written_keys"]

_MAX_FILE_BYTES: Final = 1 << 20
_HEADER: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_ASSIGNMENT: Final = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")

# What the file for the whole host says of the service, and of who may use it, is not for the daemons of users.
_OF_THE_SERVICE: Final = frozenset({"audit", "daemon", "files", "hooks", "mcp", "metrics", "monitor", "roles"})
_CREDENTIALS: Final = {
    "model": frozenset({"api_key_credential", "api_key_file", "socket"}),
    "skills": frozenset({"secrets"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One file: where it is, and what it says."""

    path: Path
    tree: Mapping[str, Any]
    text: str

    def place_of(self, key: str) -> str:
        """The file and, where that can be told, the line of a dotted key: `PATH:LINE`."""
        section = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := _HEADER.match(line):
                section = f"{header[1]}."
                if f"{section}".startswith(f"{key}."):
                    return f"{self.path}:{number}"
            elif (found := _ASSIGNMENT.match(line)) and f"{section}{found[1]}." == f"{key}.":
                return f"{self.path}:{number}"
        return str(self.path)


def read_layers(path: Path | None, host: Path | None, uid: int) -> list[Layer]:
    """The files, read, in their order.

    Args:
        path: the configuration; None if there is none.
        host: the file for the whole host, which comes first and counts without what is about the service; None for
            none.
        uid: who runs the daemon.

    Raises:
        ConfigError: a file cannot be read, is no TOML, or is not safe from others.

    """
    shared = [] if host is None else [_without_the_service(_read(file)) for file in _with_drop_ins(host, uid)]
    return shared + ([] if path is None else [_read(file) for file in _with_drop_ins(path, uid)])


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """One tree of all layers."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _put_over(merged, layer.tree, "", config_keys())
    return merged


def written_keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys that a tree has; of a key whose value is a table, the key alone."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value and any(k.startswith(f"{key}.") for k in config_keys()):
            yield from written_keys(value, f"{key}.")
        else:
            yield key


def _put_over(below: dict[str, Any], above: Mapping[str, Any], prefix: str, known: Mapping[str, Any]) -> None:
    for name, value in above.items():
        key, old = f"{prefix}{name}", below.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if key in known:
                below[name] = {**old, **value}
            else:
                _put_over(old, value, f"{key}.", known)
        else:
            # A table of its own: what is put over it later must not change the layer.
            below[name] = {} if isinstance(value, dict) else value
            if isinstance(value, dict):
                _put_over(below[name], value, f"{key}.", known)


def _with_drop_ins(path: Path, uid: int) -> list[Path]:
    """The file, and those of the `conf.d` beside it. Raises ConfigError for one that others could have put there."""
    folder = path.parent / "conf.d"
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix == ".toml" and not file.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}: it may hold configuration") from error
    for place in (folder, *found) if found else ():
        _refuse_foreign(place, uid)
    return [path, *found]


def _refuse_foreign(path: Path, uid: int) -> None:
    try:
        facts = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if facts.st_uid not in (0, uid, os.geteuid()):
        raise ConfigError(f"{path}: belongs to user {facts.st_uid}, who could configure this daemon: chown it")
    if facts.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: can be written by everybody, who could configure this daemon: chmod o-w it")


def _read(path: Path) -> Layer:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: name a readable file with --config") from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_FILE_BYTES} bytes; this is no configuration of skilld")
    try:
        text = data.decode("utf-8")
        return Layer(path=path, tree=tomllib.loads(text), text=text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; TOML files are UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {mask(str(error))}") from error


def _without_the_service(layer: Layer) -> Layer:
    tree = {name: value for name, value in layer.tree.items() if name not in _OF_THE_SERVICE}
    for section, names in _CREDENTIALS.items():
        if isinstance(found := tree.get(section), dict):
            tree[section] = {name: value for name, value in found.items() if name not in names}
    return replace(layer, tree=tree)
