"""The interface against its own OpenAPI document: what fits it, and what does not, is answered and hurts nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.core.result import Ok

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

# Each of these would end what the others look at.
LEFT_OUT = {("POST", "/v1/shutdown"), ("GET", "/v1/backup")}
EXAMPLES = 8


@schemathesis.serializer("application/x-ndjson", "application/zip")
def anything(_context: Any, value: Any) -> bytes:
    """A body of which the document says nothing more."""
    return value if isinstance(value, bytes) else repr(value).encode()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("openapi")
    write_skill(folder / "skills", "hello", "print('hello')\n")
    config = "[limits]\nconnections_per_peer = 1000\nturn_timeout_s = 20\n"
    with running(folder, skills=[folder / "skills"], config=config) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def operations(daemon: Daemon) -> dict[tuple[str, str], Any]:
    with daemon.http() as http:
        schema = schemathesis.openapi.from_dict(http.get("/v1/openapi.json").json())
    found = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if (key := (operation.method.upper(), operation.path)) not in LEFT_OUT:
            found[key] = operation
    return found


def test_every_operation_answers_what_fits_its_document_and_what_does_not(
    daemon: Daemon, operations: dict[tuple[str, str], Any]
) -> None:
    assert len(operations) > 30
    with daemon.http(timeout_s=20) as http:
        session = daemon.create()
        for (method, path), operation in operations.items():
            for mode in schemathesis.GenerationMode:
                _try(operation, mode, http, session, f"{method} {path} {mode.value}")
        assert http.get("/v1/health/ready").status_code == 200
    answer = daemon.ask(daemon.create(), "/hello")
    assert answer["result"]["text"] == "hello", answer


def _try(operation: Any, mode: Any, http: httpx.Client, session: str, what: str) -> None:
    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), real=st.booleans())
    def one(case: Any, real: bool) -> None:
        if real and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = session
        request = _request(case)
        if request is not None and "wait=" not in request.url.query.decode() and request.url.path != "/v1/shutdown":
            _check(http.send(request, stream=True), what)

    with contextlib.suppress(Unsatisfiable):  # nothing can be made of it that would not fit
        one()


def _request(case: Any) -> httpx.Request | None:
    """What the case sends; None if no HTTP client can send it."""
    try:
        made: Any = requests.Request(**case.as_transport_kwargs(base_url="http://skilld")).prepare()
        return httpx.Request(made.method, made.url, headers=dict(made.headers), content=made.body)
    except (requests.RequestException, httpx.InvalidURL, ValueError, TypeError):
        return None


def _check(answer: httpx.Response, what: str) -> None:
    try:
        assert answer.status_code < 500 or answer.status_code == 503, (what, answer.status_code, answer.read())
        assert answer.headers["skilld-version"], what
        if answer.status_code >= 400:
            error = json.loads(answer.read())["error"]
            assert error["code"], what
            assert error["message"], what
    finally:
        answer.close()
