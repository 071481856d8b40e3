"""The smaller sections: the process, the model, bounds, what is kept and told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from skilld.config.section import Count, CredentialName, FilePath, LocalAddress, Seconds, Section, mask
from skilld.paths import MAX_SOCKET_PATH_BYTES

__all__ = [
    "AuditConfig",
    "DaemonConfig",
    "LimitsConfig",
    "MetricsConfig",
    "Mode",
    "ModelConfig",
    "RetentionConfig",
]

Mode = Literal["development", "production", "test"]


class DaemonConfig(Section):
    """The process: where it listens, what it keeps, how it speaks."""

    socket: FilePath = Path()
    state_dir: FilePath = Path()
    log_format: Literal["text", "json", "journal"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    stall_dump_s: Annotated[float, Field(ge=0.5, le=3600)] = 5.0
    stall_exit_s: Annotated[float, Field(ge=1, le=86_400, validate_default=True)] = 30.0
    mode: Mode = "development"

    @field_validator("stall_exit_s")
    @classmethod
    def _is_after_the_dump(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("stall_dump_s", 0.0):
            raise ValueError("must be more than daemon.stall_dump_s")
        return value


class ModelConfig(Section):
    """Which model answers. Credentials are named here, never written here."""

    provider: Literal["auto", "anthropic", "offline"] = "auto"
    name: Annotated[str, Field(min_length=1, max_length=200)] = "claude-sonnet-5-5"
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 8192
    compact_at: Annotated[float, Field(ge=0, le=0.95)] = 0.8
    context_management: Literal["auto", "server", "own", "off"] = "auto"
    base_url: str | None = None
    socket: FilePath | None = None
    api_key_file: FilePath | None = None
    api_key_credential: CredentialName = "anthropic_api_key"
    stall_timeout_s: Seconds = 120.0
    price_file: FilePath | None = None

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("must be a URL such as https://api.example.com")
        return value

    @field_validator("socket")
    @classmethod
    def _fits(cls, value: Path | None) -> Path | None:
        if value is not None and len(os.fsencode(value)) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"must be at most {MAX_SOCKET_PATH_BYTES} bytes long, as Linux has it for sockets")
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, mask(value) if isinstance(value, str) else value


class LimitsConfig(Section):
    """Bounds of turns, tools, memory and the socket."""

    iterations: Annotated[int, Field(ge=1, le=1000)] = 25
    tool_timeout_s: Seconds = 120.0
    turn_timeout_s: Seconds = 1800.0
    tool_output_chars: Annotated[int, Field(ge=1000, le=10_000_000)] = 30_000
    queued_messages: Count = 16
    queued_total: Count = 4096
    running_turns: Count = 32
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 8 << 20
    max_header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 << 10
    idle_unload_s: Seconds = 600.0
    connections_per_peer: Annotated[int, Field(ge=1, le=100_000)] = 64
    workspace_bytes: Annotated[int, Field(ge=1024, le=1 << 60)] = 1 << 30
    hand_over_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 100 << 20


class MetricsConfig(Section):
    """Where the metrics are besides the socket."""

    listen: LocalAddress = ""


class AuditConfig(Section):
    """What is written down of who did what."""

    reads: bool = False
    max_bytes: Annotated[int, Field(ge=65_536, le=1 << 40)] = 16 << 20
    keep: Annotated[int, Field(ge=0, le=10_000)] = 8


class RetentionConfig(Section):
    """What is deleted by itself, and how large a conversation and a store may grow. 0: never, and without bound."""

    session_age_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = 0.0
    total_bytes: Annotated[int, Field(ge=0, le=1 << 60)] = 0
    session_events: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    session_bytes: Annotated[int, Field(ge=0, le=1 << 60)] = 0
    workshop_event_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = 30.0
    workshop_run_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = 30.0
    workshop_values: Annotated[int, Field(ge=1, le=1 << 40)] = 100_000
    workshop_value_bytes: Annotated[int, Field(ge=1, le=1 << 60)] = 1 << 30
    check_every_s: Seconds = 3600.0
