"""Sections below [monitor]: where reported events go besides the store, and where spans of OpenTelemetry come in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from skilld.config.hooks import checked_url, origin_of
from skilld.config.monitor_channels import Channels
from skilld.config.roles import AccountId
from skilld.config.section import Bound, CredentialName, FilePath, LocalAddress, Seconds, Section
from skilld.loopback import is_local_host

__all__ = [
    "EventLogConfig",
    "ExportConfig",
    "HeaderConfig",
    "OtlpConfig",
    "OtlpExportConfig",
    "TelemetryExportConfig",
]

Address = Annotated[str, Field(max_length=2000)]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,100}$")]
HeaderText = Annotated[str, Field(max_length=4096, pattern=r"^[\x20-\x7e]*$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]

_OF_HTTP: Final = ("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type")
_OF_HTTP_TOO: Final = ("host", "transfer-encoding", "user-agent")


class EventLogConfig(Section):
    """The log of events, in files. With no `folder` there is none."""

    folder: FilePath | None = None
    channels: Channels = ()
    format: Literal["skilld", "B"] = "skilld"
    max_file_bytes: Annotated[int, Field(ge=4096, le=1 << 40)] = 64 << 20
    rotate: Literal["never", "hourly", "daily"] = "daily"
    gzip: bool = True
    keep_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] = 30.0
    max_bytes: Annotated[Bound, Field(ge=8192)] = 1 << 30
    fsync: Literal["always", "rotation", "never"] = "always"

    @field_validator("folder")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @model_validator(mode="after")
    def _holds_a_file(self) -> EventLogConfig:
        if self.max_file_bytes > self.max_bytes:
            raise ValueError(f"max_file_bytes: {self.max_file_bytes} is more than max_bytes, which bounds all files")
        return self


class OtlpConfig(Section):
    """Where spans and logs of OpenTelemetry come in, by OTLP over HTTP. With neither address nowhere."""

    listen: LocalAddress = ""
    socket: FilePath | None = None
    token_file: FilePath | None = None
    uid: AccountId | None = None
    spans: Literal["all", "gen_ai"] = "all"
    max_bytes: Annotated[int, Field(ge=4096, le=256 << 20)] = 8 << 20


class HeaderConfig(Section):
    """Where the text of one header is. The text itself is never written here."""

    file: FilePath | None = None
    env: Variable | None = None
    credential: CredentialName | None = None

    @model_validator(mode="after")
    def _has_one_place(self) -> HeaderConfig:
        if sum(place is not None for place in (self.file, self.env, self.credential)) != 1:
            raise ValueError('must be one of { file = "PATH" }, { env = "VARIABLE" } and { credential = "NAME" }')
        return self


class _AddressConfig(Section):
    """A receiver over HTTP. With no `endpoint` nothing is sent."""

    endpoint: Address = ""
    channels: Channels = ()
    allow_insecure: bool = False
    ca_file: FilePath | None = None
    timeout_s: Seconds = 10.0

    @field_validator("endpoint")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value:
            return value
        _ = urlsplit(value).port  # raises ValueError for what is no port
        checked_url(
            value,
            example="https://collector.example.com:4318",
            instead="a secret belongs into a file that another key names",
        )
        if "?" in value or "#" in value:
            raise ValueError("must have nothing from a ? or # on: paths are put behind it")
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> _AddressConfig:
        parts = urlsplit(self.endpoint)
        if parts.scheme == "http" and not is_local_host(parts.netloc) and not self.allow_insecure:
            raise ValueError("endpoint: must be https, but for this host itself; or set allow_insecure")
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, origin_of(value) if name == "endpoint" else value


class OtlpExportConfig(_AddressConfig):
    """A collector of OpenTelemetry. Paths of signals are put behind the endpoint."""

    protocol: Literal["protobuf", "json"] = "protobuf"
    headers: dict[Header, HeaderText] = Field(default={}, repr=False)
    secret_headers: dict[Header, HeaderConfig] = Field(default={})
    gzip: bool = True
    max_events: Annotated[int, Field(ge=1, le=1_000)] = 500

    @field_validator("headers", "secret_headers")
    @classmethod
    def _leaves_the_protocols_headers(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name.lower() in (*_OF_HTTP, *_OF_HTTP_TOO):
                raise ValueError(f"{name} is set by skilld itself; leave it out")
        return value


class TelemetryExportConfig(_AddressConfig):
    """A receiver of JSON, as generation B of Cylestio Monitor has it. `/v1/telemetry` is put behind the endpoint."""

    token_file: FilePath | None = None
    body: Literal["object", "array", "lines"] = "object"
    gzip: bool = False
    max_events: Annotated[int, Field(ge=1, le=1_000)] = 100


class ExportConfig(Section):
    """Who else gets what programs report."""

    otlp: OtlpExportConfig = OtlpExportConfig()
    telemetry: TelemetryExportConfig = TelemetryExportConfig()
