"""The monitoring agent: three conversations, one hybrid, and a backend chosen at run time, against stand-ins that speak
HTTP; and what is left when a step fails."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import openpyxl
import pytest
import trio

from docker_kit import engine_with_slim_image
from skill_actors.backends.anthropic import HostedClient
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.library import SkillError
from skill_actors.models.anthropic import AnthropicModel
from skill_actors.testing import FakeMessagesApi, HttpError, serve_in_thread
from support import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the example is in the repository")
SHEETS = ["Executive Summary", "Error Details", "Recommendations"]


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The example's modules."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import monitoring.agent
        import monitoring.standins

        yield monitoring
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, so that what is left can be seen."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


Use = Callable[[Any, str], Awaitable[None]]


def with_agent(example: Any, reports: Path, use: Use, *, api: FakeMessagesApi | None = None, **options: Any) -> None:
    """Run `use` with an agent and the address of a log API."""

    async def main(logs: str, base_url: str) -> None:
        model = AnthropicModel(lambda: "no-key", base_url=base_url)
        hosted = HostedClient(lambda: "no-key", base_url=base_url)
        agent = example.agent.MonitoringAgent(
            model,
            skills=EXAMPLES.parent / "skills",
            reports=reports,
            model_name="claude-sonnet-5-5",
            hosted=hosted,
            **{"analyzer": "local", **options},
        )
        try:
            await use(agent, logs)
        finally:
            await model.aclose()
            await hosted.aclose()

    served = api or FakeMessagesApi(respond=example.standins.answer)
    with example.standins.log_api() as logs, serve_in_thread(served) as api:
        run(lambda: main(logs, api.base_url))


def sheets_of(report: Path) -> list[str]:
    book = openpyxl.load_workbook(report)
    assert book["Executive Summary"]["B1"].value == "WARNING"
    return list(book.sheetnames)


def test_three_conversations_give_logs_analysis_and_a_report(example: Any, tmp_path: Path, scratch: Path) -> None:
    async def use(agent: Any, logs: str) -> None:
        found = await agent.analyze(logs, limit=200, generate_report=True)
        assert len(json.loads(found.logs)) == 200
        assert found.analysis.health == "WARNING"
        assert [path.name for path in found.report_files] == ["incident_report.xlsx"]
        assert sheets_of(found.report_files[0]) == SHEETS

    with_agent(example, tmp_path / "reports", use)
    assert list(scratch.iterdir()) == []


def test_without_a_report_nothing_is_hosted_and_a_hundred_records_are_fetched(example: Any, tmp_path: Path) -> None:
    api = FakeMessagesApi(respond=example.standins.answer)

    async def use(agent: Any, logs: str) -> None:
        found = await agent.analyze(logs)
        assert (len(json.loads(found.logs)), found.report_files) == (100, ())

    with_agent(example, tmp_path / "reports", use, api=api)
    assert not any("container" in body for body in api.bodies)
    assert not (tmp_path / "reports").exists()


def test_the_short_answer_is_of_500_records(example: Any, tmp_path: Path) -> None:
    async def use(agent: Any, logs: str) -> None:
        found = await agent.diagnose_and_report(logs)
        assert (found.logs_fetched, found.health_status) == (500, "WARNING")
        assert [sheets_of(path) for path in found.report_files] == [SHEETS]

    with_agent(example, tmp_path / "reports", use)


def test_one_hybrid_conversation_goes_from_place_to_place(example: Any, tmp_path: Path, scratch: Path) -> None:
    api = FakeMessagesApi(respond=example.standins.answer)

    async def use(agent: Any, logs: str) -> None:
        found = await agent.analyze_together(logs)
        assert (len(json.loads(found.logs)), found.analysis.health) == (100, "WARNING")
        assert [sheets_of(path) for path in found.report_files] == [SHEETS]

    with_agent(example, tmp_path / "reports", use, api=api)
    tools = {tool["name"] for tool in api.bodies[0]["tools"]}
    assert {"log_fetcher_execute", "bash_tool", "code_execution"} <= tools
    assert api.bodies[0]["container"]["skills"] == [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]
    assert list(scratch.iterdir()) == []


def test_the_same_code_with_a_backend_chosen_at_run_time(example: Any, tmp_path: Path) -> None:
    (tmp_path / "some.log").write_text("2026-11-21T19:50:00Z ERROR payment 7 failed\n")

    async def use(agent: Any, logs: str) -> None:
        answers = {
            backend: (await agent.chat(message, backend)).text
            for backend, message in {
                "native": f"fetch {logs} --limit 3",
                "local": f"Analyze the logs in {tmp_path}/some.log with the log-analyzer skill.",
                "anthropic": "Create a report: health OK.",
            }.items()
        }
        assert answers["native"] == "The logs are fetched."
        assert "CRITICAL" in answers["local"]
        assert answers["anthropic"].endswith("health OK.")
        with pytest.raises(SkillError) as caught:
            await agent.chat("hello", "no-such-backend")
        assert caught.value.code == "backend_unavailable"

    with_agent(example, tmp_path / "reports", use)


def test_the_analyzer_in_a_container(example: Any, tmp_path: Path, scratch: Path) -> None:
    async def use(agent: Any, logs: str) -> None:
        assert (await agent.analyze(logs)).analysis.health == "WARNING"
        assert (await agent.analyze_together(logs)).analysis.health == "WARNING"

    with engine_with_slim_image():
        with_agent(
            example, tmp_path / "reports", use, analyzer="docker", analyzer_options={"image": SLIM_IMAGE, "pool": 0}
        )
    assert list(scratch.iterdir()) == []


def test_an_api_that_fails_is_said_and_leaves_nothing(example: Any, tmp_path: Path, scratch: Path) -> None:
    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    seen: list[Mapping[str, Any]] = []

    async def use(agent: Any, _logs: str) -> None:
        with pytest.raises(SkillError, match="were not fetched"):
            await agent.analyze(f"http://127.0.0.1:{server.server_address[1]}/")

    def answer(body: Mapping[str, Any]) -> Any:
        seen.append(body)
        return example.standins.answer(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with_agent(example, tmp_path / "reports", use, api=FakeMessagesApi(respond=answer))
        server.shutdown()
    assert "API returned 503" in json.dumps(seen[-1])
    assert list(scratch.iterdir()) == []


def test_the_hand_over_file_goes_also_if_the_model_fails_in_the_middle(
    example: Any, tmp_path: Path, scratch: Path
) -> None:
    handed: list[list[str]] = []

    def answer(body: Mapping[str, Any]) -> Any:
        if {tool["name"] for tool in body["tools"]} & {"bash_tool"}:
            handed.append([path.name for path in scratch.rglob("logs.json")])
            return HttpError(400, message="no")
        return example.standins.answer(body)

    async def use(agent: Any, logs: str) -> None:
        with pytest.raises(SkillError):
            await agent.analyze(logs)

    with_agent(example, tmp_path / "reports", use, api=FakeMessagesApi(respond=answer))
    assert handed == [["logs.json"]], "it was there while the model was asked"
    assert list(scratch.iterdir()) == []


def test_a_cancel_in_the_middle_leaves_nothing(example: Any, tmp_path: Path, scratch: Path) -> None:
    async def use(agent: Any, logs: str) -> None:
        with trio.move_on_after(0.5) as limit:
            while True:
                await agent.analyze(logs)
        assert limit.cancelled_caught

    with_agent(example, tmp_path / "reports", use)
    assert list(scratch.iterdir()) == []


def test_the_program_runs_with_neither_key_nor_network(tmp_path: Path) -> None:
    program = [sys.executable, str(EXAMPLES / "monitoring_agent.py"), "--analyzer=local"]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    assert "with a report: 500 records, WARNING, incident_report.xlsx" in done.stdout
    assert "one conversation: WARNING, 1 report" in done.stdout
