"""skillctl config: the configuration file, checked and shown without a daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import counted, one_line, print_json

if TYPE_CHECKING:
    from skilld.config import Config, Loaded

__all__ = ["config_command", "load"]

_MAY_HOLD_SECRETS: Final = frozenset({"env", "environment", "headers"})  # tables whose values are anybody's
_MAY_BE_SECRET_URLS: Final = frozenset(
    {"hooks.url", "monitor.alerts.url", "monitor.export.otlp.endpoint", "monitor.export.telemetry.endpoint"}
)
_FILE = click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))


@click.group("config")
def config_command() -> None:
    """Check and show the configuration, which needs no running daemon; have a running one read it again.

    \b
    Example:
      skillctl config check /etc/skilld/skilld.toml
    """


def load(file: Path | None) -> tuple[Path | None, Config]:
    """The last file that is used (None: there is none) and the configuration that results.

    Raises:
        ConfigError: as `load_config` does.

    """
    loaded = _load(file)
    return (loaded.files[-1] if loaded.files else None), loaded.config


def _load(file: Path | None) -> Loaded:
    from skilld.config import find_and_load

    return find_and_load(file, os.environ)


def _load_or_fail(file: Path | None) -> Loaded:
    from skilld.config import ConfigError

    try:
        return _load(file)
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
        print(_policy_line(config))
    return EXIT.DONE


def _policy_line(config: Config) -> str:
    """Which calls of tools run unasked, in a few words: nobody should have to find out."""
    policy = config.policy
    before = len(policy.rules) + bool(policy.deny) + bool(policy.ask)
    more = f", after {counted(before, 'rule')} of your own" if before else ""
    return f"calls of tools: preset {policy.preset} in mode {config.daemon.mode}{more}; see skillctl policy check"


@config_command.command("show")
@_FILE
@click.option("--origin", is_flag=True, help="Say of each value where it comes from: file and line, or variable.")
@json_option()
def show_config(file: Path | None, origin: bool, as_json: bool) -> None:
    """Print every key with the value in force: defaults, files and environment taken together. Secrets are masked.

    \b
    Example:
      skillctl config show --origin
    """
    from skilld.config import config_keys, value_of

    loaded = _load_or_fail(file)
    files = [str(path) for path in loaded.files]
    values = {key: _masked(key, _shown(value_of(loaded.config, key))) for key in config_keys()}
    origins = {key: str(where) for key, where in loaded.origins.items()}
    if as_json:
        found = {"path": files[-1] if files else None, "files": files, "values": values}
        print_json({**found, "origins": origins} if origin else found)
        return
    print(f"# {', '.join(files)}" if files else "# no configuration file: defaults")
    for key, value in values.items():
        remarks = [*(["not set"] if value is None else []), *([origins[key]] if origin else [])]
        remark = f"  # {'; '.join(remarks)}" if remarks else ""
        print(one_line(f"{key} = {_as_toml(value)}{remark}"))


@config_command.command("reload")
@json_option()
@pass_app
def reload_config(app: App, as_json: bool) -> int:
    """Have the running daemon read its configuration again, and wait until it is in force. Needs the role admin.

    What needs a restart is named. Of a configuration that cannot be used nothing is applied, and the exit code is 1.

    \b
    Example:
      skillctl config reload
    """
    with app.client() as client:
        found = client.reload_config()
    if as_json:
        print_json(found)
        return EXIT.DONE
    print(f"applied: {', '.join(found['applied']) or 'nothing has changed that can be'}")
    if found["needs_restart"]:
        print(f"needs a restart: {', '.join(found['needs_restart'])}")
    return EXIT.DONE


def _shown(value: Any) -> Any:
    """JSON-ready, with credentials in URLs masked."""
    from skilld.config import mask
    from skilld.config.section import Section

    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, tuple | list):
        return [_shown(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _shown(item) for name, item in value.items()}
    if isinstance(value, Section):
        return {name: _masked(name, _shown(item)) for name, item in value if item is not None}
    return value


def _masked(key: str, value: Any) -> Any:
    """What may be a credential though it has another name: values of variables, and a URL that whoever has may use."""
    from skilld.config import origin_of

    if key.rpartition(".")[2] in _MAY_HOLD_SECRETS:
        return dict.fromkeys(value, "***")
    return origin_of(value) if key in _MAY_BE_SECRET_URLS else value


def _as_toml(value: Any) -> str:
    if value is None:
        return '""'
    import json

    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(name)} = {_as_toml(item)}" for name, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value, ensure_ascii=False)
