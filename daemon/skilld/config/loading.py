"""From files, environment and flags to one configuration, with the origin of each value."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, Final

from skilld import paths
from skilld.config.faults import refuse_unknown, validate
from skilld.config.layers import Layer, merge, read_layers
from skilld.config.origins import Loaded, origins_of, places
from skilld.config.policy import Preset
from skilld.config.safety import refuse_unsafe
from skilld.config.section import ConfigError
from skilld.config.sections import Mode
from skilld.config.whole import Config, config_keys

__all__ = ["find_and_load", "load_config"]

_DEFAULT_BACKENDS: Final[Mapping[Mode, tuple[str, ...]]] = {
    "development": ("local",),
    "production": ("docker",),
    "test": ("local",),
}
_DEFAULT_PRESETS: Final[Mapping[Mode, Preset]] = {"development": "full", "production": "workspace", "test": "full"}
_PATHS: Final = (
    *("daemon.socket", "daemon.state_dir", "model.api_key_file", "model.price_file"),
    "model.socket",
    *("hooks.token_file", "hooks.ca_file"),
    *("files.folder", "files.credentials_file", "files.artifact_ca_file"),
)
_FOLDERS: Final = ("skills.paths", "skills.trusted", "skills.native", "skills.projects")


def load_config(
    path: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None, *, uid: int | None = None
) -> Config:
    """Read the file and the `conf.d` beside it (none with None), apply the environment and the flags.

    Args:
        path: the TOML file; relative paths in it are relative to its folder.
        env: SKILLD_SOCKET, SKILLD_STATE_DIR, SKILLD_MODE, SKILLD_BACKENDS, SKILLD_SANDBOX, SKILLD_MODEL_SOCKET,
            ANTHROPIC_BASE_URL and the XDG and systemd variables.
        overrides: values of flags by dotted key, such as "daemon.socket"; None means that the flag was not given.
        uid: whose defaults apply; the process's own if None.

    Raises:
        ConfigError: naming the file, the key, the value and what is allowed.

    """
    uid = os.getuid() if uid is None else uid
    return _load(read_layers(path, None, uid), env, overrides, uid, path).config


def find_and_load(
    given: Path | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None, *, uid: int | None = None
) -> Loaded:
    """The configuration of a daemon that is started with this environment, and where each value comes from.

    Args:
        given: the file that was named; else those of the host and of the user are looked for.

    The others, and what is raised, as `load_config` has them.
    """
    uid = os.getuid() if uid is None else uid
    host = None if given is not None else paths.find_host_config(uid)
    path = given if given is not None else paths.find_config(env, uid)
    return _load(read_layers(path, host, uid), env, overrides, uid, path)


def _load(
    layers: Sequence[Layer],
    env: Mapping[str, str],
    overrides: Mapping[str, Any] | None,
    uid: int,
    path: Path | None,
) -> Loaded:
    otherwise = "configuration" if path is None else str(path)
    flags = {key: value for key, value in (overrides or {}).items() if value is not None}
    for key in flags:
        if key not in config_keys():
            raise ConfigError(f"unknown key {key!r} given by a flag")
    for layer in layers:
        refuse_unknown(layer)
    tree = merge([_absolute_layer(layer) for layer in layers])
    validate(tree, layers, otherwise)  # now, since what follows takes the shape for granted
    variables = _apply_environment(tree, env)
    variables.update(_apply_flags(tree, flags, env, uid))
    result = validate(tree, layers, otherwise)
    _check_skills(result, flags.get("skills.paths"), uid, otherwise)
    _check_model_socket(result, places(layers, "model.socket", otherwise))
    if not result.backends.default:
        backends = result.backends.model_copy(update={"default": _DEFAULT_BACKENDS[result.daemon.mode]})
        result = result.model_copy(update={"backends": backends})
    if not result.policy.preset:
        policy = result.policy.model_copy(update={"preset": _DEFAULT_PRESETS[result.daemon.mode]})
        result = result.model_copy(update={"policy": policy})
    refuse_unsafe(result, layers, otherwise, uid)
    return Loaded(
        config=result, files=tuple(layer.path for layer in layers), origins=origins_of(layers, variables, flags)
    )


# What stands above the files


def _apply_environment(tree: dict[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Put into the tree what variables say; by key, the variable that has."""
    backends = tree.get("backends", {})
    local = backends.get("local", {})
    model = tree.get("model", {})
    wanted = {
        "daemon.mode": ("SKILLD_MODE", True),
        "model.base_url": ("ANTHROPIC_BASE_URL", "base_url" not in model),
        "model.socket": ("SKILLD_MODEL_SOCKET", "socket" not in model and model.get("provider") != "offline"),
        "backends.default": ("SKILLD_BACKENDS", not backends.get("default")),
        "backends.local.sandbox": ("SKILLD_SANDBOX", "sandbox" not in local),
    }
    used = {key: name for key, (name, counts) in wanted.items() if counts and env.get(name)}
    for key, name in used.items():
        _put(tree, key, env[name].split(",") if key == "backends.default" else env[name])
    return used


def _apply_flags(tree: dict[str, Any], flags: Mapping[str, Any], env: Mapping[str, str], uid: int) -> dict[str, str]:
    """Put into the tree what flags say, and the paths of this start; by key, the variable that has decided one."""
    for key, value in flags.items():
        _put(tree, key, value)
    daemon = tree.setdefault("daemon", {})
    used = {}
    for key, own, systemd, find in (
        ("socket", "SKILLD_SOCKET", "RUNTIME_DIRECTORY", paths.daemon_socket_path),
        ("state_dir", "SKILLD_STATE_DIR", "STATE_DIRECTORY", paths.state_dir),
    ):
        flag = flags.get(f"daemon.{key}")
        written = daemon.get(key) if flag is None else None
        if env.get(own):
            used[f"daemon.{key}"] = own
        elif written is None and env.get(systemd):
            used[f"daemon.{key}"] = systemd
        try:
            daemon[key] = find(_path(flag), env, uid, _path(written))
        except paths.PathError as error:
            raise ConfigError(str(error)) from error
    if given := flags.get("skills.paths"):
        folders = [str(_absolute(Path(item), Path())) for item in given]
        tree["skills"].update(paths=folders, user=False, system=False, bundled=False)
    return used


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    reduce(lambda place, section: place.setdefault(section, {}), sections, tree)[name] = value


def _path(value: Any) -> Path | None:
    return None if value is None else Path(value)


def _check_skills(config: Config, given: Sequence[Path] | None, uid: int, origin: str) -> None:
    """Raise ConfigError for what would silently have no effect, or show one user's skills to others."""
    for folder in () if given else config.skills.trusted:
        if not any(path.is_relative_to(folder) for path in config.skills.paths):
            raise ConfigError(f"{origin}: skills.trusted: {folder} is none of skills.paths, and none lies in it")
    if config.skills.user and config.roles.serve_others(uid):
        raise ConfigError(f"{origin}: skills.user = true is for a daemon that serves its own user only; see [roles]")


def _check_model_socket(config: Config, origin: str) -> None:
    """Raise ConfigError for a way to the model that nothing would take, or that leads back here."""
    place = config.model.socket
    if place is None:
        return
    if not place.is_absolute():
        raise ConfigError(f"SKILLD_MODEL_SOCKET: {place}: must be an absolute path")
    if config.model.provider == "offline":
        raise ConfigError(f"{origin}: model.socket: the offline model calls nothing; take one of the two out")
    if place == config.daemon.socket:
        raise ConfigError(f"{origin}: model.socket: {place} is where the daemon itself listens; name the proxy's")


# Paths


def _absolute_layer(layer: Layer) -> Layer:
    """The layer with paths that do not depend on where it lies."""
    base = layer.path.parent

    def change(text: str) -> str:
        return str(_absolute(Path(text), base))

    tree = _copied(layer.tree)
    for key in (*_PATHS, *_FOLDERS):
        section, _, name = key.partition(".")
        if isinstance(place := tree.get(section), dict) and name in place:
            place[name] = _changed(place[name], change, is_list=key in _FOLDERS)
    if isinstance(skills := tree.get("skills"), dict) and "secrets" in skills:
        skills["secrets"] = _each_file(skills["secrets"], change)
    if isinstance(servers := tree.get("mcp"), dict):
        tree["mcp"] = _each_file(servers, change)
    return replace(layer, tree=tree)


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in tree.items()}


def _changed(value: Any, change: Callable[[str], str], *, is_list: bool) -> Any:
    """A path, or the paths of a list, changed; what is something else is left for validation to refuse."""
    if is_list and isinstance(value, list):
        return [change(item) if isinstance(item, str) else item for item in value]
    return change(value) if isinstance(value, str) and not is_list else value


def _each_file(value: Any, change: Callable[[str], str]) -> Any:
    """Of tables in tables, each text that is called `file`, changed."""
    if not isinstance(value, dict):
        return value
    return {
        name: change(item) if name == "file" and isinstance(item, str) else _each_file(item, change)
        for name, item in value.items()
    }


def _absolute(path: Path, base: Path) -> Path:
    try:
        return Path(os.path.abspath(base / path.expanduser()))
    except RuntimeError as error:  # the home of somebody who is not known
        raise ConfigError(f"{path}: {error}") from error
