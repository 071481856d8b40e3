"""Flask's requests: the route, the exceptions that Flask answers itself, streams."""

from __future__ import annotations

from collections.abc import Iterator

import flask
import pytest

from contrib_kit import Reported
from skilld_monitor import Span
from skilld_monitor.contrib.flask import monitor_app


@pytest.fixture
def app(reported: Reported) -> flask.Flask:
    made = flask.Flask("shop")

    @made.get("/ask/<int:number>")
    def ask(number: int) -> dict[str, int]:
        with Span("model"):
            return {"number": number}

    @made.get("/stream")
    def stream() -> flask.Response:
        def pieces() -> Iterator[str]:
            with Span("piece"):
                yield flask.request.path

        return flask.Response(flask.stream_with_context(pieces()))

    @made.get("/broken")
    def broken() -> str:
        raise LookupError("the secret text")

    monitored = monitor_app(monitor_app(made))
    assert monitored is made
    return made


def test_a_request_has_its_route_and_its_spans(app: flask.Flask, reported: Reported) -> None:
    answer = app.test_client().get("/ask/7")
    assert (answer.json, answer.headers["Content-Length"]) == ({"number": 7}, "13")
    answer.close()
    _start, finish, span = reported.exchange()
    assert (span["name"], span["data"]["http.route"]) == ("GET /ask/<int:number>", "/ask/<int:number>")
    assert (finish["data"]["route"], finish["data"]["status_code"]) == ("/ask/<int:number>", 200)
    assert reported.span("SYSTEM")["parent"] == span["span"]


def test_a_stream_and_its_spans(app: flask.Flask, reported: Reported) -> None:
    answer = app.test_client().get("/stream", buffered=False)
    assert not reported.events("http_request_finish")
    assert answer.get_data(as_text=True) == "/stream"
    answer.close()
    assert reported.span("SYSTEM")["parent"] == reported.exchange()[2]["span"]


def test_an_exception_that_flask_answers_is_named(app: flask.Flask, reported: Reported) -> None:
    answer = app.test_client().get("/broken")
    assert answer.status_code == 500
    answer.close()
    _start, finish, span = reported.exchange()
    assert (span["status"], span["data"]["error.type"], finish["level"]) == ("error", "LookupError", "ERROR")
    assert "secret" not in str(reported.all())


def test_a_path_that_no_route_has_is_answered(app: flask.Flask, reported: Reported) -> None:
    with app.test_client().get("/nowhere") as answer:
        assert answer.status_code == 404
    span = reported.exchange()[2]
    assert (span["name"], span["status"], span["data"]["http.response.status_code"]) == ("GET", "ok", 404)
