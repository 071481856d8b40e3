"""Monitoring switched on by the environment alone, so that the same code runs everywhere.

| variable | what |
|---|---|
| `SKILLD_MONITOR_ENABLED` | `false`, `0`, `no` or `off`: nothing is switched on |
| `SKILLD_MONITOR_AGENT` | the agent, as it is |
| `ENVIRONMENT` | otherwise the agent is `NAME-ENVIRONMENT`; `development` if it is not set |

All others are those of `enable_monitoring` itself, such as `MONITORING_LOG_FILE` and `MONITORING_DEBUG_LEVEL`.
"""

from __future__ import annotations

import os

from skilld_monitor.monitoring import Monitoring, enable_monitoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["agent_name", "enable_from_environment", "is_wanted"]


def enable_from_environment(name: str, llm_client: object = None, **settings: object) -> Monitoring | None:
    """Switch monitoring on as the environment says; None where it says no.

    Args:
        name: of the program, such as `order-processing`.
        llm_client: a client to watch.
        settings: of `enable_monitoring`; they win over the environment.

    Raises:
        SettingsError: as `enable_monitoring` does, with `strict` only.

    """
    if not is_wanted(os.environ):
        return None
    return enable_monitoring(agent_name(name, os.environ), llm_client, **settings)  # type: ignore[arg-type]


def agent_name(name: str, env: Mapping[str, str]) -> str:
    """What the program is called in this environment."""
    given = env.get("SKILLD_MONITOR_AGENT") or env.get("OTEL_SERVICE_NAME")
    return given or f"{name}-{env.get('SKILLD_MONITOR_ENVIRONMENT') or env.get('ENVIRONMENT') or 'development'}"


def is_wanted(env: Mapping[str, str]) -> bool:
    """Whether monitoring is not switched off."""
    return env.get("SKILLD_MONITOR_ENABLED", "").lower() not in ("false", "0", "no", "off")
