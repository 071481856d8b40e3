"""Starlette, and what is built on it: one call for an application."""

from __future__ import annotations

from skilld_monitor.contrib.asgi import MonitoringMiddleware
from skilld_monitor.contrib.exchange import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    App = TypeVar("App")

__all__ = ["MonitoringMiddleware", "monitor_app"]


def monitor_app(app: App, **options: Any) -> App:
    """Have each request of this application reported; the application. A second call changes nothing.

    The span is around all of Starlette, so that the handler of exceptions that nothing else handles, and what it
    answers, are in it; a second middleware inside says which exception that was.

    Args:
        app: a Starlette or FastAPI application that has not begun to serve.
        options: see `skilld_monitor.contrib.exchange.Options`.

    Raises:
        ValueError: if an option names a field that there is not.
        RuntimeError: if the application serves already, as Starlette says it.

    """
    served: Any = app
    if not any(there.cls is MonitoringMiddleware for there in served.user_middleware):
        Options(**options)  # Starlette makes its middlewares later, where nobody would look for a mistake in them
        served.add_middleware(MonitoringMiddleware, **options)
        build = served.build_middleware_stack
        served.build_middleware_stack = lambda: MonitoringMiddleware(build(), **options)
    return app
