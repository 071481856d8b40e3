"""The integration patterns of Cylestio Monitor's manual run as they stand there, with our import.

What some of them use and do not import, or what no version of a framework has, is given to them from outside: `time`,
`fastapi.middleware.base`, `aspectlib.get_function_name`, and the rest of the program that they are part of.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import aspectlib  # type: ignore[import-untyped]
import django  # type: ignore[import-untyped]
import httpx
import pytest
import starlette.middleware.base
from django.conf import settings  # type: ignore[import-untyped]

import skilld_monitor
from monitor_kit import Collector
from skill_actors.testing import FakeMessagesApi, HttpError, Reply, Text, serve_in_thread
from skilld_monitor.monitoring import active

JSON = dict[str, Any]
PATTERNS = {
    found[1]: found[2]
    for found in re.finditer(
        r"^## ([^\n]*)\n\n```python\n(.*?)^```$",
        Path(__file__).with_name("cylestio_patterns.md").read_text(),
        re.M | re.S,
    )
}

pytestmark = pytest.mark.filterwarnings("ignore:The model 'claude-3-sonnet-20240229' is deprecated")


class MyClass:
    """Of the aspect's program."""

    def important_method(self, number: int) -> float:
        return 1 / number


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMessagesApi]:
    """A model to ask by whoever asks for one."""
    with serve_in_thread(FakeMessagesApi(respond=answer)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        yield api


def answer(body: Any) -> Reply | HttpError:
    return HttpError(400, message="no") if "refuse" in str(body["messages"]) else Reply([Text("an answer")])


class Pattern:
    """Runs a pattern as a module of its own."""

    def __init__(self, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
        self._collector = collector
        self._monkeypatch = monkeypatch

    def run(self, name: str, **given: Any) -> JSON:
        module = types.ModuleType("pattern")
        module.__file__ = __file__
        vars(module).update(given)
        self._monkeypatch.setitem(sys.modules, "pattern", module)
        exec(compile(PATTERNS[name], name, "exec"), vars(module))
        return vars(module)

    def events(self, *names: str) -> list[JSON]:
        on = active()
        assert on is not None
        assert on.flush(10)
        return [event for event in self._collector.events() if event["name"] in names]

    def calls(self) -> list[JSON]:
        """Those of the model."""
        return self.events("chat claude-3-sonnet-20240229")


@pytest.fixture
def pattern(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Pattern:
    return Pattern(collector, monkeypatch)


def test_direct_integration(pattern: Pattern) -> None:
    assert pattern.run("Direct Integration")["response"].content[0].text == "an answer"
    (call,) = pattern.calls()
    assert call["agent"] == "my_agent"


def test_middleware_of_flask(pattern: Pattern) -> None:
    app = pattern.run("Middleware Integration", time=time)["app"]
    with app.test_client().post("/ask", json={"question": "why?"}) as found:
        assert found.json == {"answer": "an answer"}
    start, finish = pattern.events("http_request_start", "http_request_finish")
    assert start["data"] == {
        "method": "POST",
        "path": "/ask",
        "remote_addr": "127.0.0.1",
        "user_agent": found.request.user_agent.string,
    }
    assert (finish["channel"], finish["data"]["status_code"], len(pattern.calls())) == ("API", 200, 1)


def test_decorator(pattern: Pattern) -> None:
    skilld_monitor.enable_monitoring("shop")
    made = pattern.run("Decorator Pattern", create_order=lambda _data: 17)
    assert made["process_order"]({"customer_id": 3, "amount": 5}) == 17
    created, call = pattern.events("order_created", "process_order")
    assert created["data"] == {"order_id": 17, "customer_id": 3, "amount": 5}
    assert (call["channel"], created["span"]) == ("BUSINESS_LOGIC", call["span"])


def test_service_wrapper(pattern: Pattern) -> None:
    given: JSON = {"Anthropic": anthropic.Anthropic, **vars(skilld_monitor), "log_event": skilld_monitor.log_event}
    given["enable_monitoring"] = skilld_monitor.enable_monitoring
    made = pattern.run("Service Wrapper Pattern", **given)
    assert made["response"] == "an answer"
    with pytest.raises(anthropic.BadRequestError):
        made["llm_service"].generate_response("refuse")
    assert [call["status"] for call in pattern.calls()] == ["ok", "error"]
    assert len(pattern.events("llm_service_error")) == 1


def test_aspect(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hasattr(aspectlib, "get_function_name")
    monkeypatch.setattr(aspectlib, "get_function_name", lambda: "important_method", raising=False)
    skilld_monitor.enable_monitoring("shop")
    before = MyClass.important_method
    pattern.run("Aspect-Oriented Programming (AOP) Pattern", time=time, MyClass=MyClass)
    assert MyClass.important_method is not before
    assert MyClass().important_method(4) == 0.25
    with pytest.raises(ZeroDivisionError):
        MyClass().important_method(0)
    done, failed = pattern.events("function_call", "function_call_error")
    assert (done["data"]["success"], failed["data"]["error"]) == (True, "division by zero")


def test_proxy(pattern: Pattern) -> None:
    given = {"Anthropic": anthropic.Anthropic, "enable_monitoring": skilld_monitor.enable_monitoring}
    made = pattern.run("Proxy Pattern", **given, log_event=skilld_monitor.log_event)
    assert made["response"].content[0].text == "an answer"
    made["proxy_client"].with_options(timeout=3)
    assert len(pattern.calls()) == 1
    assert len(pattern.events("proxy_call_with_options")) == 1


def test_fastapi(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi.middleware.base", starlette.middleware.base)
    app = pattern.run("FastAPI Integration", time=time)["app"]

    async def visit() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.post("/ask", json={"question": "why?"})

    assert asyncio.run(visit()).json() == {"answer": "an answer"}
    start, finish = pattern.events("http_request_start", "http_request_finish")
    assert (start["data"]["path"], finish["data"]["status_code"], len(pattern.calls())) == ("/ask", 200, 1)


def test_django(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of the tests", LOGGING_CONFIG=None)
        django.setup()
    from django.http import HttpResponse  # type: ignore[import-untyped]
    from django.test import RequestFactory  # type: ignore[import-untyped]

    made = pattern.run("Django Integration")
    made["MyAppConfig"]("myapp", sys.modules["pattern"]).ready()
    request = RequestFactory().get("/ask")
    request.user = types.SimpleNamespace(is_authenticated=False)
    assert made["MonitoringMiddleware"](lambda _request: HttpResponse("x"))(request).content == b"x"
    start, finish = pattern.events("http_request_start", "http_request_finish")
    assert start["data"] == {"method": "GET", "path": "/ask", "user": "anonymous"}
    assert finish["data"]["status_code"] == 200


def test_agent_ids(pattern: Pattern) -> None:
    pattern.run("Use Descriptive Agent IDs", enable_monitoring=skilld_monitor.enable_monitoring)
    on = active()
    assert on is not None
    assert on.settings.agent_id == "agent1"
    assert "agent1" in on.advice


def test_error_handling_is_not_needed(pattern: Pattern, capsys: pytest.CaptureFixture[str]) -> None:
    enable = skilld_monitor.enable_monitoring
    pattern.run("Implement Proper Error Handling", client=object(), enable_monitoring=enable)
    assert capsys.readouterr().out == ""
    on = active()
    assert on is not None
    assert "messages.create" in on.problem


def test_settings_of_the_environment(pattern: Pattern, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("MONITORING_LOG_FILE", str(tmp_path / "events.json"))
    monkeypatch.setenv("MONITORING_DEBUG_LEVEL", "DEBUG")
    name = "Use Environment-Specific Configuration"
    with anthropic.Anthropic() as client:
        pattern.run(name, client=client, enable_monitoring=skilld_monitor.enable_monitoring)
        skilld_monitor.log_event("quiet", {}, "X", "debug")
    (event,) = pattern.events("quiet")
    assert (event["agent"], event["level"]) == ("my-agent-production", "DEBUG")
    assert (tmp_path / "events.json").exists()


def test_graceful_shutdown(pattern: Pattern, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr("atexit.register", called.append)
    pattern.run("Implement Graceful Shutdown")
    assert called == [skilld_monitor.disable_monitoring]


def test_monitoring_of_the_monitor(pattern: Pattern) -> None:
    pattern.run("Monitor the Monitor")
    (event,) = pattern.events("monitoring_initialized")
    assert (event["channel"], event["agent"]) == ("META", "my-agent")
    assert event["data"]["duration_ms"] > 0


def test_all_of_them_are_run() -> None:
    text = Path(__file__).read_text()
    assert len(PATTERNS) == 13
    assert [name for name in PATTERNS if f'"{name}"' not in text] == []
    assert os.environ["ANTHROPIC_API_KEY"] == "k"
