"""The programs of docs/monitoring-patterns.md run as they stand there, and report what stands under them."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import httpx
import pytest

import skilld_monitor
from doc_kit import ROOT, Block, blocks
from monitor_kit import Collector
from skill_actors.testing import FakeMessagesApi, HttpError, Reply, Text, serve_in_thread

PAGE = "docs/monitoring-patterns.md"
DJANGO = ("MIDDLEWARE", "AppConfig")  # run where Django is: test_django.py

pytestmark = pytest.mark.skipif(not (ROOT / PAGE).is_file(), reason="reads the manual, and this is a copy of the tests")


def programs() -> list[tuple[Block, str]]:
    """Each program, and what stands under it."""
    found: list[tuple[Block, str]] = []
    for block in blocks(PAGE) if (ROOT / PAGE).is_file() else ():
        if block.kind == "python":
            found.append((block, ""))
        else:
            found[-1] = (found[-1][0], block.text)
    return found


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model to ask; handlers of signals and of the end of this process as they were."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr("atexit.register", lambda _function: None)
    with serve_in_thread(FakeMessagesApi(respond=answer)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def use(program: dict[str, Any]) -> None:
    """What somebody does with a program that only answers."""
    if "monitor_app" in program and not asyncio.iscoroutinefunction(program["ask"]):
        with program["app"].test_client().post("/ask", json={"question": "why?"}) as answer:
            assert answer.json == {"answer": "an answer"}
    elif "monitor_app" in program:
        asyncio.run(post(program["app"], program["client"]))
    elif "application" in program:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_TENANT": "blue", "wsgi.url_scheme": "http"}
        list(program["application"](environ, lambda *_: None))


async def post(app: Any, model: anthropic.AsyncAnthropic) -> None:
    transport = httpx.ASGITransport(app=app)
    async with model, httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        headers = {"user-agent": "curl"}
        answer = await client.post("/ask/cats", json={"question": "why?"}, headers=headers)
        assert answer.json() == {"answer": "an answer"}


def shown(event: dict[str, Any]) -> str:
    """As `skillctl monitor tail` shows it, without the time; durations are `N`, and of model calls no data."""
    took = "" if event["duration_ms"] is None else f" N ms {event['status']}"
    data = "" if event["data"] in ({}, None) else " " + json.dumps(event["data"], ensure_ascii=False)
    data = (
        " {...}"
        if event["channel"] == "LLM"
        else re.sub(r'("(duration_ms|accepted|delivered)": )[\d.e-]+', r"\1N", data)
    )
    return f"{event['level']:<8} {event['agent']} {event['channel']} {event['name']}{took}{data}"


def answer(body: Mapping[str, Any]) -> Reply | HttpError:
    asked = body["messages"][-1]["content"]
    return Reply([Text("an answer")]) if asked else HttpError(400, message="content must not be empty")


@pytest.mark.parametrize(("program", "expected"), programs(), ids=lambda value: str(getattr(value, "line", "")))
def test_a_program_reports_what_stands_under_it(
    program: Block, expected: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    if any(word in program.text for word in DJANGO):
        pytest.skip("run where Django is: test_django.py")
    module = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    exec(compile(program.text, str(program), "exec"), vars(module))
    use(vars(module))
    skilld_monitor.disable_monitoring()
    events = [
        event for event in collector.events() if event["name"] not in ("monitoring_enabled", "monitoring_disabled")
    ]
    assert [shown(event) for event in events] == expected.splitlines()
