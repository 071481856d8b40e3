"""A plain WSGI application; the call of the model is inside its request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

from offline import Client, shown

from skilld_monitor import enable_monitoring
from skilld_monitor.contrib.wsgi import MonitoringMiddleware

client = Client()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    question = environ["PATH_INFO"].strip("/")
    yield client.messages.create(model="m", messages=[{"role": "user", "content": question}]).text.encode()


def main() -> None:
    enable_monitoring("plain-web", llm_client=client)
    monitored = MonitoringMiddleware(application)
    environ: dict[str, Any] = {"PATH_INFO": "/why"}
    setup_testing_defaults(environ)
    print(b"".join(monitored(environ, lambda status, _headers: print(status))).decode())


if __name__ == "__main__":
    with shown():
        main()
