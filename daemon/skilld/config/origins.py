"""Where each value of a configuration comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from skilld.config.layers import Layer, written_keys
from skilld.config.whole import Config, config_keys

__all__ = ["Loaded", "Origin", "origins_of"]

_FLAGS: Final = {
    "daemon.log_format": "--log-format",
    "daemon.socket": "--socket",
    "daemon.state_dir": "--state-dir",
    "skills.paths": "--skills",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What decided a value: `place` is the file and line, the variable or the flag; empty for a default."""

    kind: Literal["default", "file", "environment", "flag"]
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration, the files it was read from in their order, and the origin of every key."""

    config: Config
    files: tuple[Path, ...]
    origins: Mapping[str, Origin]


def origins_of(layers: Sequence[Layer], environment: Mapping[str, str], flags: Iterable[str]) -> dict[str, Origin]:
    """The origin of every key.

    Args:
        environment: by key, the variable that has decided it.
        flags: the keys that flags have decided.

    """
    found = dict.fromkeys(config_keys(), Origin("default"))
    for layer in layers:
        found.update({key: Origin("file", layer.place_of(key)) for key in written_keys(layer.tree) if key in found})
    found.update({key: Origin("environment", variable) for key, variable in environment.items()})
    found.update({key: Origin("flag", _FLAGS.get(key, key)) for key in flags})
    return found


def places(layers: Sequence[Layer], key: str, otherwise: str) -> str:
    """The files that say something of a key or, where it is a section, of a key in it; for the begin of a message."""
    saying = [layer for layer in layers if any(_concerns(key, written) for written in written_keys(layer.tree))]
    return ", ".join(str(layer.path) for layer in saying[-2:]) or otherwise


def _concerns(key: str, written: str) -> bool:
    return f"{key}.".startswith(f"{written}.") or f"{written}.".startswith(f"{key}.")
