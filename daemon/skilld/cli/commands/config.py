"""skillctl config: the configuration file, checked and shown without a daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import one_line, print_json

if TYPE_CHECKING:
    from skilld.config import Config

__all__ = ["config_command", "load"]

_FILE = click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))


@click.group("config")
def config_command() -> None:
    """Check and show the configuration. Needs no running daemon.

    \b
    Example:
      skillctl config check /etc/skilld/skilld.toml
    """


def load(file: Path | None) -> tuple[Path | None, Config]:
    """The file that is used (None: there is none) and the configuration that results.

    Raises:
        ConfigError: as `load_config` does.

    """
    from skilld.config import load_config
    from skilld.paths import find_config

    path = file if file is not None else find_config(os.environ, os.getuid())
    return path, load_config(path, os.environ)


def _load_or_fail(file: Path | None) -> tuple[Path | None, Config]:
    from skilld.config import ConfigError

    try:
        return load(file)
    except ConfigError as error:
        raise Failure(str(error)) from error


@config_command.command("check")
@_FILE
@json_option()
def check_config(file: Path | None, as_json: bool) -> int:
    """Check a configuration file, else the one that the daemon would use. Exits 1 if the daemon would refuse it.

    \b
    Example:
      skillctl config check /etc/skilld/skilld.toml
    """
    import trio

    from skilld.app import check_config as check_promises
    from skilld.config import ConfigError

    try:
        path, config = load(file)
        trio.run(check_promises, config, os.environ)
    except ConfigError as error:
        if not as_json:
            raise Failure(str(error)) from error
        print_json({"path": str(file) if file else None, "valid": False, "error": str(error)})
        return EXIT.FAILED
    if as_json:
        print_json({"path": str(path) if path else None, "valid": True, "error": None})
    else:
        print(f"{path}: ok" if path else "no configuration file: the defaults are in force")
    return EXIT.DONE


@config_command.command("show")
@_FILE
@json_option()
def show_config(file: Path | None, as_json: bool) -> None:
    """Print every key with the value in force: defaults, file and environment taken together. Secrets are masked.

    \b
    Example:
      skillctl config show --json
    """
    from skilld.config import config_keys

    path, config = _load_or_fail(file)
    values = {key: _shown(reduce(getattr, key.split("."), config)) for key in config_keys()}
    if as_json:
        print_json({"path": str(path) if path else None, "values": values})
        return
    print(f"# {path}" if path else "# no configuration file: defaults")
    for key, value in values.items():
        print(one_line(f"{key} = {_as_toml(value)}"))


def _shown(value: Any) -> Any:
    """JSON-ready, with credentials in URLs masked."""
    from skilld.config import SecretConfig, mask

    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, tuple | list):
        return [_shown(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, SecretConfig):
        return {name: _shown(item) for name, item in value if item is not None}
    return value


def _as_toml(value: Any) -> str:
    if value is None:
        return '""  # not set'
    import json

    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(name)} = {_as_toml(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False)
