"""The dashboard: pages for a browser on the same machine, served by `skillctl dashboard` with its user's rights."""

from skilld.dashboard.server import Dashboard, DashboardLimits, listen

__all__ = ["Dashboard", "DashboardLimits", "listen"]
