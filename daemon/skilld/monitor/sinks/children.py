"""The actors of all places that events go to, as they are configured. Where none is, there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING

from skill_actors.models.credentials import KeyFile, KeySource
from skill_actors.runtime import ChildSpec
from skilld.config.hooks import origin_of
from skilld.monitor.sinks.event_log import EventLogSink
from skilld.monitor.sinks.exports import OtlpSink, TelemetrySink
from skilld.monitor.sinks.follower import Sink, SinkFollower
from skilld.monitor.sinks.header_secret import HeaderSecret
from skilld.monitor.sinks.log_writer import LogRules
from skilld.monitor.sinks.posting import Poster, Receiver
from skilld.monitor.sinks.status import SinkStatus

if TYPE_CHECKING:
    from pathlib import Path

    from skilld.config.monitor_sinks import (
        EventLogConfig,
        OtlpExportConfig,
        TelemetryExportConfig,
    )
    from skilld.parts import Parts

__all__ = ["sink_children"]


def sink_children(parts: Parts) -> list[ChildSpec]:
    """A follower for each place; all of them are listed in `parts.sinks`."""
    config = parts.config.monitor
    if not config.enabled:
        return []
    specs = []
    if config.event_log.folder is not None:
        status = SinkStatus(name="event-log", target=str(config.event_log.folder))
        make = partial(_event_log, config.event_log, config.event_log.folder, status)
        specs.append(_spec(parts, status, make, config.event_log.channels))
    if config.export.otlp.endpoint:
        status = SinkStatus(name="otlp", target=origin_of(config.export.otlp.endpoint))
        specs.append(
            _spec(parts, status, partial(_otlp, config.export.otlp, parts, status), config.export.otlp.channels)
        )
    if config.export.telemetry.endpoint:
        status = SinkStatus(name="telemetry", target=origin_of(config.export.telemetry.endpoint))
        telemetry = partial(_telemetry, config.export.telemetry, parts, status)
        specs.append(_spec(parts, status, telemetry, config.export.telemetry.channels))
    return specs


def _spec(parts: Parts, status: SinkStatus, make: Callable[[], Sink], channels: Collection[str]) -> ChildSpec:
    parts.sinks[status.name] = status
    return ChildSpec(
        id=f"monitor-{status.name}",
        factory=lambda: SinkFollower(parts, status, make, channels),
        isolated=True,
        shutdown_s=5.0,
    )


def _event_log(config: EventLogConfig, folder: Path, status: SinkStatus) -> EventLogSink:
    return EventLogSink(
        LogRules(
            folder=folder,
            format=config.format,
            max_file_bytes=config.max_file_bytes,
            rotate=config.rotate,
            gzip=config.gzip,
            keep_s=config.keep_days * 86_400,
            max_bytes=config.max_bytes,
            fsync=config.fsync,
        ),
        status,
    )


def _otlp(config: OtlpExportConfig, parts: Parts, status: SinkStatus) -> OtlpSink:
    secrets = {name: HeaderSecret(place, parts.environ) for name, place in config.secret_headers.items()}
    poster = _poster(config, parts, status, config.headers, secrets, gzip=config.gzip)
    return OtlpSink(poster, status, config.endpoint, page=config.max_events, protocol=config.protocol)


def _telemetry(config: TelemetryExportConfig, parts: Parts, status: SinkStatus) -> TelemetrySink:
    secrets = {}
    if config.token_file is not None:
        secrets["authorization"] = _bearer(KeyFile(config.token_file, what="token"))
    poster = _poster(config, parts, status, {}, secrets, gzip=config.gzip)
    return TelemetrySink(poster, status, config.endpoint, page=config.max_events, body=config.body)


def _bearer(token: KeySource) -> KeySource:
    return lambda: f"Bearer {token()}"


def _poster(
    config: OtlpExportConfig | TelemetryExportConfig,
    parts: Parts,
    status: SinkStatus,
    headers: Mapping[str, str],
    secrets: Mapping[str, KeySource],
    *,
    gzip: bool,
) -> Poster:
    receiver = Receiver(
        headers=headers,
        secrets=secrets,
        gzip=gzip,
        timeout_s=config.timeout_s,
        ca_file=config.ca_file,
        version=parts.version,
    )
    return Poster(receiver, status)
