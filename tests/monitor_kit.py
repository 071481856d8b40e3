"""The receiving side of monitoring in a thread of its own, and programs that report to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import trio

from skill_actors.models import Usage
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread
from skilld.http.listener import open_listener
from skilld.http.peer import Peer
from skilld.monitor.batch import Batch
from skilld.monitor.ingest import Ingest, IngestLimits
from skilld.monitor.monitor import Monitor
from skilld.monitor.questions import MAX_PAGE, Wanted, find_events
from skilld.monitor.rates import Rate
from skilld.monitor.store import EventStore, Written
from skilld_monitor import Monitoring
from skilld_monitor.scanning import builtin, rules_as_json

__all__ = [
    "LIMITS",
    "USAGE",
    "Collector",
    "a_policy",
    "collecting",
    "events",
    "messages_api",
    "named",
    "policy_file",
    "run_program",
    "spans",
    "the_span",
    "told_of_calls",
]

LIMITS = IngestLimits(connections=8, max_line_bytes=1 << 20, line_s=10.0, rate=Rate(1e6, 1e9))
USAGE = Usage(input_tokens=10, output_tokens=5, cache_read_tokens=1000, cache_write_5m_tokens=100)
JSON = dict[str, Any]


class Collector:
    """What was reported so far."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "monitor.sock"
        self.store = EventStore(folder / "events.db")
        self.drops: Counter[str] = Counter()
        self.written: list[tuple[Batch, Written]] = []

    def events(self, **wanted: Any) -> list[JSON]:
        """The oldest first."""
        return self.store.ask(lambda db: find_events(db, Wanted(uid=None, after=0, limit=MAX_PAGE, **wanted)))

    def count(self) -> int:
        return int(self.store.ask(lambda db: db.execute("SELECT count(*) FROM event").get))

    def wait(self, least: int, within_s: float = 30.0, **wanted: Any) -> list[JSON]:
        """The events, as soon as there are so many."""
        deadline = time.monotonic() + within_s
        while len(found := self.events(**wanted)) < least:
            assert time.monotonic() < deadline, f"only {found}"
            time.sleep(0.01)
        return found


@contextmanager
def collecting(
    folder: Path,
    *,
    limits: IngestLimits = LIMITS,
    allowed: Callable[[Peer], bool] = lambda peer: True,
    **settings: Any,
) -> Iterator[Collector]:
    """The real ingest socket and store, in a thread; the settings are those of `Ingest`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    collector = Collector(folder)
    started = threading.Event()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        monitor = Monitor(store=collector.store)
        listener = open_listener(collector.path, {})
        ingest = Ingest(
            limits,
            allowed,
            monitor.write,
            on_written=lambda batch, written: collector.written.append((batch, written)),
            on_dropped=lambda why: collector.drops.update([why]),
            **settings,
        )
        token = trio.lowlevel.current_trio_token()
        try:
            with trio.CancelScope() as scope:
                stop.append(lambda: token.run_sync_soon(scope.cancel))
                started.set()
                await ingest.serve(trio.socket.from_stdlib_socket(listener.sock))
        finally:
            listener.close()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(30)
    try:
        yield collector
    finally:
        stop[0]()
        thread.join(30)
        collector.store.close()


def run_program(
    text: str,
    folder: Path,
    *,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    given: str | None = None,
    timeout_s: float = 90,
) -> subprocess.CompletedProcess[str]:
    """A program that is watched, with settings of its own and a spool in the folder; it finds the socket there.

    Its end may take longer than the default, so that on a slow machine, too, it waits until all is delivered.
    """
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    places = {
        "HOME": str(folder),
        "SKILLD_MONITOR_SOCKET": str(folder / "monitor.sock"),
        "SKILLD_MONITOR_SPOOL": str(folder / "spool"),
        "SKILLD_MONITOR_EXIT_TIMEOUT_S": "30",
    }
    return subprocess.run(
        [python, "-c", text],
        env={**kept, **places, **(env or {})},
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def events(made: Monitoring, collector: Collector) -> list[JSON]:
    """What the program reported so far, without what monitoring said of itself; the oldest first."""
    assert made.flush()
    return [event for event in collector.events() if not event["name"].startswith("monitoring_")]


def spans(made: Monitoring, collector: Collector) -> list[JSON]:
    """Of calls of models, so far; the oldest first."""
    assert made.flush()
    return collector.events(channel="LLM")


def the_span(made: Monitoring, collector: Collector) -> JSON:
    """Of the only call."""
    (span,) = spans(made, collector)
    return span


def named(found: list[JSON], name: str) -> JSON:
    """The one of this name."""
    (event,) = [event for event in found if event["name"] == name]
    return event


def messages_api() -> AbstractContextManager[FakeMessagesApi]:
    """A Messages API that has one answer to everything."""
    return serve_in_thread(FakeMessagesApi(respond=lambda _request: Reply([Text("an answer")], usage=USAGE)))


def policy_file(folder: Path, mode: str, **fields: Any) -> str:
    """A policy of the program's own, with a rule for the word `secret`, or as the fields say."""
    path = folder / f"{mode}.json"
    rule = {"id": "codename", "category": "sensitive_data", "severity": "high", "confidence": 1.0, "mask": "full"}
    rule |= {"kind": "pattern", "match": "secret", **fields}
    path.write_text(json.dumps({"version": "1", "mode": mode, "rules": [rule]}))
    path.chmod(0o600)
    return str(path)


def a_policy(mode: str = "block", **more: Any) -> JSON:
    """As the daemon says it, with all rules that come along."""
    return {"version": "v1", "mode": mode, "fail": "open", "dry_run": False, "rules": rules_as_json(builtin()), **more}


def told_of_calls(made: Monitoring) -> list[JSON]:
    """What was reported so far of calls, as it waits to be sent."""
    found = []
    while (record := made._outbox.take(0)) is not None:
        if record.name.startswith(("LLM_call", "tool_call")):
            found.append({"name": record.name, "level": record.level, "data": record.data})
    return found
