"""Combinations that each make sense and together give something away; a daemon does not start with them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from skilld.config.layers import Layer, written_keys
from skilld.config.origins import places
from skilld.config.section import ConfigError
from skilld.config.whole import Config
from skilld.loopback import is_local_host

__all__ = ["refuse_bad_hook", "refuse_unsafe"]


def refuse_unsafe(config: Config, layers: Sequence[Layer], otherwise: str, uid: int) -> None:
    """Raise ConfigError with all combinations that are unsafe for a daemon of this user, each with the way out."""
    found = [f"{places(layers, key, otherwise)}: {key}: {why}" for key, why in _unsafe(config, layers, uid)]
    if found:
        raise ConfigError("; ".join(found))


def refuse_bad_hook(config: Config) -> None:
    """Raise ConfigError if a program that is to be told of events is none, or everybody can change it. Blocks."""
    for key, argv in (("hooks.exec", config.hooks.exec), ("monitor.alerts.exec", config.monitor.alerts.exec)):
        for program in map(Path, argv[:1]):
            _refuse_bad_program(key, program)


def _refuse_bad_program(key: str, program: Path) -> None:
    try:
        mode = program.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{key}: {program}: {error.strerror}") from error
    if not (stat.S_ISREG(mode) and os.access(program, os.X_OK)):
        raise ConfigError(f"{key}: {program} is no program: chmod +x it, or name another")
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{key}: {program} can be written by everybody: chmod o-w it")


def _unsafe(config: Config, layers: Sequence[Layer], uid: int) -> Iterator[tuple[str, str]]:
    """Key and reason."""
    if config.daemon.mode != "production":
        return
    backends = config.backends
    by_name = any("backends.local.sandbox" in written_keys(layer.tree) for layer in layers)
    if "local" in backends.names and backends.local.sandbox == "none" and not by_name:
        yield (
            "backends.local.sandbox",
            "in mode production commands do not run on this host without a sandbox unless the file says so: "
            'choose "landlock" or "bwrap", or write "none"; or take "local" out of backends.default and offered',
        )
    if backends.native.isolation == "inline":
        yield (
            "backends.native.isolation",
            "in mode production not all native skills run in the daemon itself: "
            "name those that may in backends.native.inline",
        )
    if "local" in backends.names and backends.local.sandbox == "none":
        yield from _unsafe_on_host(config, uid)
    clear = (
        ("model.base_url", config.model.base_url or "", "the API key and all conversations"),
        ("files.endpoint", config.files.endpoint, "keys and files"),
        ("backends.docker.address", backends.docker.address if "docker" in backends.names else "", "root on its host"),
    )
    for key, url, what in clear:
        parts = urlsplit(url)
        if parts.scheme in ("http", "tcp") and not is_local_host(parts.netloc.rpartition("@")[2]):
            yield key, f"in mode production {what} are not given to the network in the clear: use https or a tunnel"


def _unsafe_on_host(config: Config, uid: int) -> Iterator[tuple[str, str]]:
    """Where commands do what the daemon's own user may: who else relies on that user being the daemon alone."""
    way = 'choose a sandbox, or take "local" out of backends.default and offered'
    if config.policy.preset == "full" and config.roles.serve_others(uid):
        yield (
            "policy.preset",
            "in mode production commands of others do not run unasked, without a sandbox, as the user who may read "
            f'everybody\'s conversations: choose "workspace" or "guarded"; or {way}',
        )
    for role in ("approve", "admin"):
        if uid != 0 and uid in getattr(config.roles, role).uids:
            yield (
                f"roles.{role}.uids",
                f"in mode production {uid}, as whom commands run without a sandbox, does not decide about them nor "
                f"about budgets: name another user; or {way}",
            )
