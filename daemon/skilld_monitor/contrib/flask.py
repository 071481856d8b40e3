"""Flask: one call for an application. It adds the route and the exceptions that Flask answers itself."""

from __future__ import annotations

from importlib import import_module

from skilld_monitor.contrib.exchange import KEY
from skilld_monitor.contrib.wsgi import MonitoringMiddleware

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    App = TypeVar("App")

__all__ = ["MonitoringMiddleware", "monitor_app"]


def monitor_app(app: App, **options: Any) -> App:
    """Have each request of this application reported; the application. A second call changes nothing.

    Args:
        app: a Flask application; its `wsgi_app` is replaced.
        options: see `skilld_monitor.contrib.exchange.Options`.

    Raises:
        ValueError: if an option names a field that there is not.

    """
    served: Any = app
    if not isinstance(served.wsgi_app, MonitoringMiddleware):
        flask = import_module("flask")
        served.wsgi_app = MonitoringMiddleware(served.wsgi_app, **options)
        flask.request_started.connect(_found, app)
        flask.got_request_exception.connect(_broke, app)
    return app


def _found(_app: object, **_more: object) -> None:
    """Flask knows which route it is."""
    request = import_module("flask").request
    exchange = request.environ.get(KEY)
    if exchange is not None and request.url_rule is not None:
        exchange.route = str(request.url_rule.rule)


def _broke(_app: object, exception: BaseException | None = None, **_more: object) -> None:
    """Flask answers this exception with 500, or hands it on."""
    exchange = import_module("flask").request.environ.get(KEY)
    if exchange is not None and exception is not None:
        exchange.broke(exception)
