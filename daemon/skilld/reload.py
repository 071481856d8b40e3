"""The configuration read again while the daemon runs: what of it is applied at once, and what needs a restart.

Nothing is applied of a configuration with which the daemon would not start. What needs a restart keeps its value until
then, and is named again by each further reload.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.runtime import TrioActor
from skilld.config import Config, ConfigError, config_keys, value_of
from skilld.logs import set_up_logging
from skilld.parts import Parts
from skilld.session_defaults import session_defaults

__all__ = ["APPLIED", "Difference", "HangupListener", "compare", "merged", "reload_config"]

_log = logging.getLogger(__name__)

# Changed by a reload. [monitor.policy] and [monitor.scan] hold for what is reported afterwards. Those of a turn hold
# for turns that begin afterwards, [policy] for the next call of a tool, [budget] for the next call of a model or a
# tool, the room of a workspace for the next call or upload.
APPLIED: Final = frozenset(
    {
        "budget.agent",
        "budget.day",
        "budget.month",
        "budget.session",
        "budget.total",
        "budget.turn",
        "budget.user",
        "budget.user_day",
        "budget.user_month",
        "budget.warn_at",
        "daemon.log_format",
        "daemon.log_level",
        "hooks.events",
        "limits.iterations",
        "limits.queued_messages",
        "limits.tool_output_chars",
        "limits.tool_timeout_s",
        "limits.turn_timeout_s",
        "limits.workspace_bytes",
        "model.compact_at",
        "model.context_management",
        "model.max_tokens",
        "monitor.alerts.dedup_s",
        "monitor.alerts.keep_days",
        "monitor.alerts.max_alerts",
        "monitor.alerts.min_severity",
        "monitor.alerts.per_minute",
        "monitor.policy.dry_run",
        "monitor.policy.fail",
        "monitor.policy.mode",
        "monitor.policy.overrides",
        "monitor.scan.batch_timeout_s",
        "monitor.scan.enabled",
        "monitor.scan.rules_dir",
        "monitor.scan.sessions",
        "policy.approval_timeout_s",
        "policy.ask",
        "policy.deny",
        "policy.preset",
        "policy.rules",
        "retention.session_age_days",
        "retention.total_bytes",
        "roles.admin.gids",
        "roles.admin.skills_allow",
        "roles.admin.skills_deny",
        "roles.admin.uids",
        "roles.approve.gids",
        "roles.approve.uids",
        "roles.read.gids",
        "roles.read.uids",
        "roles.report.gids",
        "roles.report.uids",
        "roles.send.gids",
        "roles.send.skills_allow",
        "roles.send.skills_deny",
        "roles.send.uids",
        "skills.catalogue_tokens",
        "skills.restrict_to_allowed_tools",
        "workshop.setup",
        "workshop.setup_owner",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The keys whose value in the file is not the one in force, sorted."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"applied": list(self.applied), "needs_restart": list(self.needs_restart)}


def compare(now: Config, new: Config) -> Difference:
    """What a reload makes of the new configuration."""
    changed = [key for key in config_keys() if value_of(now, key) != value_of(new, key)]
    applied = tuple(sorted(key for key in changed if key in APPLIED and not _opens(key, now, new)))
    return Difference(applied=applied, needs_restart=tuple(sorted(set(changed) - set(applied))))


def _opens(key: str, now: Config, new: Config) -> bool:
    """Whether the mode of a socket hangs on it, which is set when it is made: by whether anybody is named at all."""
    if key.startswith("roles.report."):
        return now.roles.report.names_anybody != new.roles.report.names_anybody
    return key.startswith("roles.") and now.roles.configured != new.roles.configured


def merged(now: Config, new: Config, keys: tuple[str, ...]) -> Config:
    """The configuration in force with these keys of the new one."""
    tree: dict[str, Any] = {}
    for key in keys:
        *sections, name = key.split(".")
        reduce(lambda place, section: place.setdefault(section, {}), sections, tree)[name] = value_of(new, key)
    updated: Config = _updated(now, tree)
    return updated


def _updated(section: Any, tree: Mapping[str, Any]) -> Any:
    update = {
        name: _updated(getattr(section, name), value) if hasattr(getattr(section, name), "model_copy") else value
        for name, value in tree.items()
    }
    return section.model_copy(update=update)


async def reload_config(parts: Parts) -> Difference:
    """Read the configuration again, and apply what can be applied. The service manager is told meanwhile.

    Raises:
        Refused: conflict, if it cannot be used: nothing was changed, and the message says why.

    """
    parts.notifier.reloading(time.clock_gettime(time.CLOCK_MONOTONIC))
    status = f"serving on {parts.config.daemon.socket}"
    try:
        async with parts.reloading:
            return await _reload(parts)
    except ConfigError as error:
        status = "the configuration was changed and cannot be used; the one before is in force"
        _log.error("the configuration is not reloaded: %s", error)
        parts.audit.add("config.refused", {"pid": os.getpid()})
        raise Refused("conflict", f"nothing is changed: {error}") from error
    finally:
        parts.notifier.ready(status)


async def _reload(parts: Parts) -> Difference:
    """Raises ConfigError."""
    new = await parts.reread()
    found = compare(parts.config, new)
    parts.config = merged(parts.config, new, found.applied)
    parts.defaults.take_over(session_defaults(parts.config))
    if {"daemon.log_format", "daemon.log_level"} & set(found.applied):
        daemon = parts.config.daemon
        set_up_logging(daemon.log_format, daemon.log_level, to_journal="JOURNAL_STREAM" in parts.environ)
    parts.read_again.set()
    parts.read_again = trio.Event()
    parts.audit.add("config.reloaded", {"pid": os.getpid(), **found.to_dict()})
    _log.info("the configuration was read again: applied %s", ", ".join(found.applied) or "nothing, nothing is new")
    if found.needs_restart:
        _log.warning("only a restart applies %s", ", ".join(found.needs_restart))
    return found


class HangupListener(TrioActor):
    """Reloads on SIGHUP. Where the daemon has a terminal SIGHUP ends it, as it ends every program whose terminal goes.

    Args:
        terminal: whether it has one.

    """

    def __init__(self, parts: Parts, *, terminal: bool) -> None:
        super().__init__()
        self._parts = parts
        self._terminal = terminal

    async def setup(self) -> None:
        if not self._terminal:
            self.spawn(self._listen)

    async def _listen(self) -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as received:
            async for _ in received:
                try:
                    await reload_config(self._parts)
                except Refused:
                    continue  # logged where it was refused
