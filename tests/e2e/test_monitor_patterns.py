"""A web application and its model, from a request to the tree that somebody looks at."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

import skilld_monitor
from e2e.harness import Daemon, running
from monitor_kit import collecting
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread
from skilld_monitor import Span

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def _off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SKILLD_MONITOR_SOCKET", str(tmp_path / "monitor.sock"))
    monkeypatch.setenv("SKILLD_MONITOR_SPOOL", str(tmp_path / "spool"))
    yield
    skilld_monitor.disable_monitoring()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as made:
        yield made


def test_a_request_and_its_model_call_are_one_tree(daemon: Daemon) -> None:
    from flask import Flask

    from skilld_monitor.contrib.flask import monitor_app
    from skilld_monitor.contrib.proxy import monitored

    app = monitor_app(Flask("shop"))
    with serve_in_thread(FakeMessagesApi(respond=lambda _request: Reply([Text("an answer")]))) as api:
        client = monitored(anthropic.Anthropic(base_url=api.base_url, api_key="k"))

        @app.get("/ask/<topic>")
        def ask(topic: str) -> str:
            messages = [{"role": "user", "content": f"the secret {topic}"}]
            answer = client.messages.create(model="claude-sonnet-5-5", max_tokens=9, messages=messages)
            return str(answer.content[0].text)

        made = skilld_monitor.enable_monitoring("shop")
        with app.test_client().get("/ask/cats") as answer:
            assert answer.get_data(as_text=True) == "an answer"
        assert made.disable(20).complete
        client.close()
    lines = daemon.skillctl("monitor", "tail", "-n", "20").stdout
    assert re.search(r'INFO +shop API http_request_start \{"method": "GET", "path": "/ask/cats"\}', lines)
    assert re.search(r"INFO +shop PROXY proxy_call_finish [\d.]+ ms ok", lines)
    assert "secret" not in lines
    (span,) = (event for event in events(daemon) if event["name"] == "GET /ask/<topic>")
    tree = daemon.skillctl("monitor", "trace", span["trace"])
    assert tree.returncode == 0, tree.stderr
    request, call, model = (tree.stdout.index(name) for name in ("GET /ask/", "proxy_call_finish", "chat claude-"))
    assert request < call < model


def events(daemon: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in daemon.skillctl("monitor", "tail", "--json", "-n", "100").stdout.splitlines()]


def test_a_browser_that_leaves_a_real_server_ends_the_span(tmp_path: Path) -> None:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    from skilld_monitor.contrib.fastapi import monitor_app

    app, has_left = monitor_app(FastAPI()), threading.Event()

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                with Span("endless"):
                    while True:
                        yield b"x" * 1000
                        await asyncio.sleep(0.001)  # a server tells of who has left between two of them
            finally:
                has_left.set()

        return StreamingResponse(pieces())

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    with collecting(tmp_path) as collector:
        skilld_monitor.enable_monitoring("shop")
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                thread.join(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            with httpx.stream("GET", f"http://127.0.0.1:{port}/endless", trust_env=False) as answer:
                assert len(next(answer.iter_bytes())) > 0
            assert has_left.wait(20)
            (span,) = collector.wait(1, name="GET /endless")
        finally:
            server.should_exit = True
            thread.join(20)
        assert span["status"] == "cancelled"
        assert skilld_monitor.disable_monitoring() is not None
