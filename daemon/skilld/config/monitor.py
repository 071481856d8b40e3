"""The section [monitor]: what other programs may report, and how much of it is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skilld.config.monitor_scan import AlertsConfig, MonitorPolicyConfig, ScanConfig
from skilld.config.monitor_sinks import EventLogConfig, ExportConfig, OtlpConfig
from skilld.config.section import Bound, FilePath, Section

__all__ = ["MonitorConfig"]


class MonitorConfig(Section):
    """The ingest socket and its store. With no `socket`: monitor.sock beside the daemon's own."""

    enabled: bool = True
    socket: FilePath | None = None
    keep_days: Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)] = 30.0
    max_bytes: Annotated[Bound, Field(ge=1 << 20)] = 1 << 30
    max_batch_bytes: Annotated[int, Field(ge=1 << 20, le=16 << 20)] = 1 << 20
    events_per_s: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 50_000.0
    bytes_per_s: Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)] = 50_000_000.0
    max_sources: Annotated[int, Field(ge=1, le=100_000)] = 1024
    question_timeout_s: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = 30.0
    max_metric_models: Annotated[int, Field(ge=0, le=10_000)] = 50
    scan: ScanConfig = ScanConfig()
    policy: MonitorPolicyConfig = MonitorPolicyConfig()
    alerts: AlertsConfig = AlertsConfig()
    event_log: EventLogConfig = EventLogConfig()
    otlp: OtlpConfig = OtlpConfig()
    export: ExportConfig = ExportConfig()
