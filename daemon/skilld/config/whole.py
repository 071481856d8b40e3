"""The whole configuration, and its keys."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

from pydantic import BaseModel

from skilld.config.backends import BackendsConfig
from skilld.config.budget import BudgetConfig
from skilld.config.files import FilesConfig
from skilld.config.hooks import HooksConfig
from skilld.config.mcp import McpConfig
from skilld.config.monitor import MonitorConfig
from skilld.config.policy import PolicyConfig
from skilld.config.roles import RolesConfig
from skilld.config.section import Section
from skilld.config.sections import (
    AuditConfig,
    DaemonConfig,
    LimitsConfig,
    MetricsConfig,
    ModelConfig,
    RetentionConfig,
)
from skilld.config.skills import SkillsConfig
from skilld.config.workshop import WorkshopConfig

__all__ = ["Config", "config_keys", "value_of"]


class Config(Section):
    """The whole configuration; `daemon.socket` and `daemon.state_dir` are resolved, `backends.default` is not empty."""

    daemon: DaemonConfig = DaemonConfig()
    skills: SkillsConfig = SkillsConfig()
    model: ModelConfig = ModelConfig()
    limits: LimitsConfig = LimitsConfig()
    retention: RetentionConfig = RetentionConfig()
    files: FilesConfig = FilesConfig()
    metrics: MetricsConfig = MetricsConfig()
    audit: AuditConfig = AuditConfig()
    hooks: HooksConfig = HooksConfig()
    backends: BackendsConfig = BackendsConfig()
    policy: PolicyConfig = PolicyConfig()
    budget: BudgetConfig = BudgetConfig()
    workshop: WorkshopConfig = WorkshopConfig()
    monitor: MonitorConfig = MonitorConfig()
    mcp: McpConfig = McpConfig()
    roles: RolesConfig = RolesConfig()


def config_keys() -> dict[str, Any]:
    """Every key, dotted, with its default; what etc/skilld.toml has to explain."""
    return dict(_leaves(Config, ""))


def value_of(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, key.split("."), config)


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.default
