"""Which model answers to a name: decided once from the configuration, refused where nothing does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.models.anthropic import ANTHROPIC_URL, AnthropicModel
from skill_actors.models.base import Model
from skill_actors.models.breaker import Breaker, CircuitState
from skill_actors.models.credentials import CredentialError, KeySource, find_key_source
from skill_actors.models.guarded import GuardedModel, endpoint_name
from skill_actors.models.offline import OfflineModel
from skill_actors.telemetry import Bus
from skilld.config import ConfigError, ModelConfig

__all__ = ["ModelChoice"]

_OFFLINE: Final = "offline"

_log = logging.getLogger(__name__)


class ModelChoice:
    """Models by name. `default` is what a session gets that names none; `key` finds the API's key, if there is one.

    Args:
        config: the [model] section.
        environ: where a key is looked for if the configuration names none.

    Raises:
        ConfigError: if the provider is "anthropic" and there is no key.

    """

    def __init__(self, config: ModelConfig, environ: Mapping[str, str]) -> None:
        self._offline = OfflineModel()
        self.anthropic = _anthropic(config, environ)
        self.key = None if self.anthropic is None else _key_source(config, environ)
        url = self.base_url = config.base_url or ANTHROPIC_URL
        self._guarded = (
            None if self.anthropic is None else GuardedModel(self.anthropic, Breaker(), endpoint=endpoint_name(url))
        )
        self.default = config.name if self.anthropic is not None else _OFFLINE

    def resolve(self, name: str | None) -> tuple[Model, str]:
        """The model and the name to call it by. Raises Refused("backend_unavailable")."""
        name = name or self.default
        if name == _OFFLINE:
            return self._offline, name
        if self._guarded is None:
            raise Refused(
                "backend_unavailable",
                f"model {name!r} needs an API key: set model.api_key_file or ANTHROPIC_API_KEY and restart the daemon, "
                "or use model 'offline'",
            )
        return self._guarded, name

    def watch(self, bus: Bus) -> None:
        """Tell the bus from now on when an endpoint is left alone, tried again, and well again."""
        guarded = self._guarded
        if guarded is None:
            return

        def tell(state: CircuitState) -> None:
            _log.warning("the circuit of the model API at %s is %s", guarded.endpoint, state.value)
            bus.emit("model.circuit", {"count": 1}, {"endpoint": guarded.endpoint, "state": state.value})

        guarded.on_change = tell

    def circuits(self) -> list[dict[str, Any]]:
        """JSON-ready: whether each endpoint is called or left alone."""
        return [] if self._guarded is None else [self._guarded.to_dict()]

    async def aclose(self) -> None:
        """Close connections."""
        if self.anthropic is not None:
            await self.anthropic.aclose()


def _anthropic(config: ModelConfig, environ: Mapping[str, str]) -> AnthropicModel | None:
    if config.provider == "offline":
        return None
    source = _key_source(config, environ)
    if source is None:
        if config.provider == "anthropic":
            raise ConfigError(
                "model.provider = 'anthropic' needs an API key: name a file in model.api_key_file, pass the systemd "
                f"credential {config.api_key_credential}, or set ANTHROPIC_API_KEY"
            )
        return None
    try:
        source()
    except CredentialError as error:
        raise ConfigError(f"model: {error}") from error
    return AnthropicModel(
        source,
        base_url=config.base_url or ANTHROPIC_URL,
        socket=config.socket,
        stall_timeout_s=config.stall_timeout_s,
    )


def _key_source(config: ModelConfig, environ: Mapping[str, str]) -> KeySource | None:
    """A configured file, else the systemd credential if it was passed, else the environment."""
    if config.api_key_file is not None:
        return find_key_source(file=config.api_key_file, environ=environ)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if folder is not None and _passed(folder, config.api_key_credential):
        return find_key_source(credential=config.api_key_credential, environ=environ)
    return find_key_source(environ=environ)


def _passed(folder: str, name: str) -> bool:
    return (Path(folder) / name).exists()
