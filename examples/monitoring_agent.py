#!/usr/bin/env python3
"""The monitoring agent at work: three conversations, one hybrid conversation, and a backend chosen at run time.

    python examples/monitoring_agent.py [--analyzer local|docker] [--image IMAGE] [--reports FOLDER] [URL]

Without a URL it fetches from a log API on loopback, and asks a model that is played here over HTTP, as the Messages
API speaks it: no key and no network. With a URL and ANTHROPIC_API_KEY it asks the real one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from monitoring.agent import MonitoringAgent
from monitoring.standins import answer, log_api

from skill_actors.backends.anthropic import HostedClient
from skill_actors.models.anthropic import ANTHROPIC_URL, AnthropicModel
from skill_actors.testing import FakeMessagesApi, serve_in_thread

SKILLS = Path(__file__).resolve().parents[1] / "skills"


@contextmanager
def world(url: str | None) -> Iterator[tuple[str, str, str]]:
    """Address of the logs, address of the API, key."""
    if url is not None:
        yield url, os.environ.get("ANTHROPIC_BASE_URL", ANTHROPIC_URL), os.environ["ANTHROPIC_API_KEY"]
        return
    with log_api() as logs, serve_in_thread(FakeMessagesApi(respond=answer)) as api:
        yield logs, api.base_url, "no-key"


async def main(options: argparse.Namespace, reports: Path, url: str, base_url: str, key: str) -> None:
    model = AnthropicModel(lambda: key, base_url=base_url)
    hosted = HostedClient(lambda: key, base_url=base_url)
    agent = MonitoringAgent(
        model,
        skills=SKILLS,
        reports=reports,
        model_name="claude-sonnet-5-5",
        analyzer=options.analyzer,
        analyzer_options={"image": options.image} if options.image else None,
        hosted=hosted,
    )
    try:
        found = await agent.analyze(url, limit=200)
        print(f"three conversations: {found.analysis.health}: {found.analysis.summary}")
        diagnosis = await agent.diagnose_and_report(url)
        names = ", ".join(path.name for path in diagnosis.report_files)
        print(f"with a report: {diagnosis.logs_fetched} records, {diagnosis.health_status}, {names}")
        together = await agent.analyze_together(url)
        print(f"one conversation: {together.analysis.health}, {len(together.report_files)} report")
        sample = reports / "sample.log"
        sample.write_text("2026-11-21T19:50:00Z ERROR payment 7 failed\n2026-11-21T19:50:01Z INFO payment 8 settled\n")
        for backend, message in (
            ("native", f"fetch {url} --limit 3"),
            ("local", f"Analyze the logs in {sample} with the log-analyzer skill."),
            ("anthropic", "Create an incident report spreadsheet: health CRITICAL."),
        ):
            print(f"{backend}: {(await agent.chat(message, backend)).text}")
    finally:
        await model.aclose()
        await hosted.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--analyzer", choices=("local", "docker"), help="where the analyzer runs")
    parser.add_argument("--image", help="of the analyzer's container")
    parser.add_argument("--reports", type=Path, help="where reports go; else a folder that is removed")
    parser.add_argument("url", nargs="?", help="of a log API")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, world(options.url) as (logs, base_url, key):
        trio.run(main, options, options.reports or Path(scratch), logs, base_url, key)
