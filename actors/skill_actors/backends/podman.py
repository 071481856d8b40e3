"""What Podman needs otherwise than Docker. Pure functions.

The tmpfs of a Podman container takes neither an owner nor a number of files, and refuses to be asked for them. A volume
of type tmpfs takes both: it is mounted with the container, with whatever the kernel knows, and empty again when that is
gone. Only `size` is taken for a quota of the disk; the same limit in pages is not.

Podman also gives a container 32,768 processes of its user, which a host without CAP_SYS_RESOURCE may not; what bounds
the processes of a conversation is the container's own limit, with either engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["for_podman"]

_PAGE_BYTES: Final = 4096  # of every machine that images are made for
_OWNED: Final = "uid="
_PROCESSES: Final = 4096  # of one user, in all containers


def for_podman(arguments: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """The body of POST /containers/create as Podman takes it: with volumes in place of the tmpfs that have an owner.

    Args:
        arguments: as `create_arguments` made them.
        name: what the names of the volumes begin with; of this container alone.

    Returns:
        The body, and of each volume by its name the options that the driver is to make it with.

    """
    host = dict(arguments["HostConfig"])
    owned = {place: options for place, options in host["Tmpfs"].items() if _OWNED in options}
    volumes = {f"{name}{place.replace('/', '-')}": (place, options) for place, options in owned.items()}
    host["Tmpfs"] = {place: options for place, options in host["Tmpfs"].items() if place not in owned}
    mounts = [_mount(volume, place) for volume, (place, _) in volumes.items()]
    host["Mounts"] = [*host["Mounts"], *mounts]
    host["Ulimits"] = [*host["Ulimits"], {"Name": "nproc", "Soft": _PROCESSES, "Hard": _PROCESSES}]
    made = {volume: _driver_options(options) for volume, (_, options) in volumes.items()}
    return {**arguments, "HostConfig": host}, made


def _mount(volume: str, place: str) -> dict[str, Any]:
    return {"Type": "volume", "Source": volume, "Target": place, "ReadOnly": False, "VolumeOptions": {"NoCopy": True}}


def _driver_options(options: str) -> dict[str, str]:
    kept = [_in_pages(option) for option in options.split(",") if option not in ("rw", "exec")]
    return {"type": "tmpfs", "device": "tmpfs", "o": ",".join(kept)}


def _in_pages(option: str) -> str:
    name, _, value = option.partition("=")
    return f"nr_blocks={max(1, int(value) // _PAGE_BYTES)}" if name == "size" else option
