"""FastAPI: its applications are Starlette's."""

from __future__ import annotations

from skilld_monitor.contrib.starlette import MonitoringMiddleware, monitor_app

__all__ = ["MonitoringMiddleware", "monitor_app"]
