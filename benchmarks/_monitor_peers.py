"""Measures calls of a model, bare and watched by one monitor, in an environment of that monitor's; prints JSON.

Run by monitor.py with the Python of each environment, so it needs nothing of this repository but the one that it names.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [{"type": "text", "text": "x" * 200}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 20},
}
THREADS = 8


def main(monitor: str, sizes: str, calls: str, rounds: str, events: str) -> None:
    before_kb, began = rss_kb(), time.perf_counter()
    loaded = load(monitor)
    import_ms, import_kb = (time.perf_counter() - began) * 1000, rss_kb() - before_kb
    lengths = [int(size) for size in sizes.split(",")]
    count = int(calls)
    client, call = make_client()
    bare = measure(call, lengths, count, int(rounds))
    bare_threads = calls_per_s(count)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        before_kb, began = rss_kb(), time.perf_counter()
        with enabled(monitor, loaded, client, Path(folder)):
            enable_ms = (time.perf_counter() - began) * 1000
            if by_client(monitor, loaded):
                call(200)
            else:  # some watch only what is made from now on
                call = make_client()[1]
                call(200)
            enabled_kb = import_kb + rss_kb() - before_kb
            watched = measure(call, lengths, count, int(rounds))
            watched_threads = calls_per_s(count, monitor, loaded)
            event_rate = events_per_s(monitor, int(events))
        check_seen(monitor, Path(folder), count)
    found = {
        "bare": bare,
        "watched": watched,
        "threads": [bare_threads, watched_threads],
        "events": event_rate,
        "import_ms": import_ms,
        "enable_ms": enable_ms,
        "enabled_kb": enabled_kb,
    }
    print(json.dumps(found))


def by_client(monitor: str, loaded: Any) -> bool:
    """Whether it watches the one client that it is told of."""
    return monitor == "cylestio" and not hasattr(loaded, "start_monitoring")


def check_seen(monitor: str, folder: Path, calls: int) -> None:
    """Raise RuntimeError where a monitor that writes a file saw less than the calls: it would be measured asleep."""
    if monitor == "cylestio":
        lines = sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.json*"))
        if lines < calls:
            raise RuntimeError(f"it wrote {lines} events of {calls} calls and more")


def events_per_s(monitor: str, count: int) -> float | None:
    """Events of the program's own that are taken in a second; None where there are none."""
    homes = {
        "skilld": ("skilld_monitor",),
        "cylestio": ("cylestio_monitor.utils.event_logging", "cylestio_monitor.events_processor"),
    }
    for home in homes.get(monitor, ()):
        try:
            log_event = importlib.import_module(home).log_event
        except (ImportError, AttributeError):
            continue
        began = time.perf_counter()
        for number in range(count):
            log_event("event", {"n": number})
        return count / (time.perf_counter() - began)
    return None


def load(monitor: str) -> Any:
    """What the monitor is imported as; nothing for none."""
    names = {
        "skilld": "skilld_monitor",
        "cylestio": "cylestio_monitor",
        "openllmetry": "opentelemetry.instrumentation.anthropic",
        "native": "opentelemetry.sdk.trace",
    }
    return importlib.import_module(names[monitor])


@contextlib.contextmanager
def enabled(monitor: str, loaded: Any, client: Any, folder: Path) -> Iterator[None]:
    """The monitor, switched on as its manual says, with events or spans going where they cost least."""
    if monitor == "skilld":
        with loaded.enable_monitoring("benchmark") as made:
            yield
            made.flush(10)
        return
    if monitor == "cylestio":
        file = str(folder / "events.json")
        if by_client(monitor, loaded):
            loaded.enable_monitoring(agent_id="benchmark", llm_client=client, log_file=file)
        else:
            loaded.start_monitoring(
                "benchmark", {"events_output_file": file, "telemetry_endpoint": "http://127.0.0.1:9"}
            )
        yield
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    if monitor == "openllmetry":
        os.environ["TRACELOOP_TRACE_CONTENT"] = "false"
        loaded.AnthropicInstrumentor().instrument()
    yield


def make_client() -> tuple[Any, Callable[[int], object]]:
    """A client over a transport in memory, and a call of it with a prompt of so many bytes."""
    import anthropic

    base = importlib.import_module("anthropic._base_client")
    httpx = getattr(base, "httpx2", None) or base.httpx  # whichever of both this version of the SDK is made with
    raw = json.dumps(ANSWER).encode()
    transport = httpx.MockTransport(
        lambda _request: httpx.Response(200, content=raw, headers={"content-type": "application/json"})
    )
    client = anthropic.Anthropic(api_key="k", max_retries=0, http_client=httpx.Client(transport=transport))

    def call(size: int) -> None:
        client.messages.create(
            model="claude-sonnet-5-5", max_tokens=64, messages=[{"role": "user", "content": prompt(size)}]
        )

    return client, call


def prompt(size: int) -> str:
    """Ordinary words: what looks for secrets in one long word would be measured too kindly."""
    words = "please tell me how many oranges we sold in March and what the weather was like "
    return (words * (size // len(words) + 1))[:size]


def measure(call: Callable[[int], object], sizes: Sequence[int], calls: int, rounds: int) -> dict[int, list[float]]:
    """p50 and p99 in milliseconds for each size, and the mean of what the process used of processors."""
    found = {}
    for size in sizes:
        for _ in range(min(20, calls)):
            call(size)
        taken = []
        began_s = time.process_time()
        for _ in range(calls * rounds):
            began = time.perf_counter_ns()
            call(size)
            taken.append((time.perf_counter_ns() - began) / 1e6)
        used_ms = (time.process_time() - began_s) * 1000 / len(taken)
        taken.sort()
        found[size] = [taken[len(taken) // 2], taken[len(taken) * 99 // 100], used_ms]
    return found


def calls_per_s(calls: int, monitor: str = "", loaded: Any = None) -> float:
    """Of threads with a client each. Who watches one client is told of each."""

    def work(call: Callable[[int], object]) -> None:
        for _ in range(calls):
            call(200)

    clients = [make_client() for _ in range(THREADS)]
    if by_client(monitor, loaded):
        for client, _ in clients:
            loaded.enable_monitoring(agent_id="benchmark", llm_client=client)
    threads = [threading.Thread(target=work, args=(call,)) for _, call in clients]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return THREADS * calls / (time.perf_counter() - began)


def rss_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
