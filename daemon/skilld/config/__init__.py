"""The configuration: TOML files read once into frozen values. Every key has an effect; etc/skilld.toml explains each.

    sections -> whole -> layers (files) -> loading (environment, flags) -> Config, and the origin of each value

Precedence: a flag, then the environment, then the files, the last one first, then the default.
"""

from __future__ import annotations

from skilld.config.backends import AnthropicConfig, BackendsConfig, DockerConfig, LocalConfig, NativeConfig
from skilld.config.budget import BudgetConfig
from skilld.config.files import FilesConfig
from skilld.config.hooks import HooksConfig, origin_of
from skilld.config.loading import find_and_load, load_config
from skilld.config.monitor import MonitorConfig
from skilld.config.monitor_scan import AlertsConfig, MonitorPolicyConfig, PolicyOverride, ScanConfig
from skilld.config.origins import Loaded, Origin
from skilld.config.policy import PolicyConfig
from skilld.config.roles import RoleConfig, RolesConfig, SenderConfig
from skilld.config.safety import refuse_bad_hook
from skilld.config.section import ConfigError, mask
from skilld.config.sections import (
    AuditConfig,
    DaemonConfig,
    LimitsConfig,
    MetricsConfig,
    ModelConfig,
    RetentionConfig,
)
from skilld.config.skills import SecretConfig, SkillsConfig
from skilld.config.whole import Config, config_keys, value_of

__all__ = [
    "AlertsConfig",
    "AnthropicConfig",
    "AuditConfig",
    "BackendsConfig",
    "BudgetConfig",
    "Config",
    "ConfigError",
    "DaemonConfig",
    "DockerConfig",
    "FilesConfig",
    "HooksConfig",
    "LimitsConfig",
    "Loaded",
    "LocalConfig",
    "MetricsConfig",
    "ModelConfig",
    "MonitorConfig",
    "MonitorPolicyConfig",
    "NativeConfig",
    "Origin",
    "PolicyConfig",
    "PolicyOverride",
    "RetentionConfig",
    "RoleConfig",
    "RolesConfig",
    "ScanConfig",
    "SecretConfig",
    "SenderConfig",
    "SkillsConfig",
    "config_keys",
    "find_and_load",
    "load_config",
    "mask",
    "origin_of",
    "refuse_bad_hook",
    "value_of",
]
