"""The sections [monitor.scan], [monitor.policy] and [monitor.alerts]: what is looked for, and what then happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from skilld.config.hooks import checked_receiver, origin_of
from skilld.config.monitor_channels import Channels
from skilld.config.section import Command, Count, FilePath, Seconds, Section

__all__ = ["AlertsConfig", "Category", "Mode", "MonitorPolicyConfig", "PolicyOverride", "ScanConfig", "Severity"]

Mode = Literal["observe", "alert", "redact", "block"]
Severity = Literal["low", "medium", "high"]
Category = Literal["sensitive_data", "dangerous_commands", "prompt_manipulation"]
_OF_CHANNELS: Final = ("observe", "alert")
Name = Annotated[str, Field(min_length=1, max_length=200)]


class ScanConfig(Section):
    """What is looked for in events before they are stored, and in the daemon's own conversations."""

    enabled: bool = True
    rules_dir: FilePath = Path("/etc/skilld/rules.d")
    batch_timeout_s: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0
    sessions: bool = True


class PolicyOverride(Section):
    """What holds instead for an agent, channels, a category or a rule. Of several the last that fits decides.

    By channels it is said who is told, and no more: programs judge a call before it is an event of any channel.
    """

    agent: Name | None = None
    channels: Channels = ()
    category: Category | None = None
    rule: Name | None = None
    mode: Mode | None = None
    fail: Literal["open", "closed"] | None = None
    dry_run: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> PolicyOverride:
        if self.mode is None and self.fail is None and self.dry_run is None:
            raise ValueError("says nothing: give mode, fail or dry_run")
        is_of_a_part = bool(self.channels or self.category or self.rule)
        if is_of_a_part and self.mode is None:
            raise ValueError(
                "what is said of channels, a category or a rule is its mode; fail and dry_run are of an agent"
            )
        if is_of_a_part and (self.fail is not None or self.dry_run is not None):
            raise ValueError("fail and dry_run hold for whole agents: write them without channels, category and rule")
        if self.channels and self.mode not in _OF_CHANNELS:
            raise ValueError(
                f"mode {self.mode!r} holds in programs whatever the channel: write it without channels;"
                f" with them there are {' and '.join(map(repr, _OF_CHANNELS))}"
            )
        return self


class MonitorPolicyConfig(Section):
    """What programs do before a call in which something is found; what is stored is masked in any mode."""

    mode: Mode = "observe"
    fail: Literal["open", "closed"] = "open"
    dry_run: bool = False
    overrides: tuple[PolicyOverride, ...] = Field(default=(), strict=False)


class AlertsConfig(Section):
    """Who is told of what was found, how often, and how long it is kept."""

    min_severity: Severity = "medium"
    dedup_s: Seconds = 300.0
    per_minute: Count = 60
    keep_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] = 90.0
    max_alerts: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    url: Annotated[str, Field(max_length=2000)] = ""
    secret_file: FilePath | None = None
    ca_file: FilePath | None = None
    exec: Command = Field(default=(), strict=False)
    timeout_s: Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)] = 10.0

    @field_validator("url")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        return checked_receiver(
            value,
            example="https://alerts.example.com/skilld",
            instead="requests are signed with monitor.alerts.secret_file",
        )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, origin_of(value) if name == "url" else value
