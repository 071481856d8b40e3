"""What monitoring adds to a call of a model, by the size of the prompt; and how fast events are taken and stored.

The same client of Anthropic's SDK over a transport in memory, bare and watched in turn, in one run: what the network
takes would hide what is measured. Each row is the bare call, the watched one and the difference, p50 and p99.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anthropic
import httpx2
from _daemon import daemon

import skilld_monitor

SIZES = {"200 B": 200, "20 kB": 20_000, "100 kB": 100_000}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400, help="of each kind, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder)):
        os.environ |= {
            "SKILLD_MONITOR_SOCKET": str(Path(folder) / "monitor.sock"),
            "SKILLD_MONITOR_SPOOL": str(Path(folder) / "spool"),
        }
        print(
            f"{'prompt':8} {'bare p50':>10} {'p99':>8} {'watched p50':>12} {'p99':>8} {'added p50':>10} {'p99':>8}  ms"
        )
        for label, size in SIZES.items():
            print_row(label, *measure(size, options.calls, options.rounds))
        print_threads(options.calls)
        print_events(options.events)


def make_call(size: int) -> Callable[[], object]:
    raw = json.dumps(ANSWER).encode()
    answer = httpx2.MockTransport(
        lambda _request: httpx2.Response(200, content=raw, headers={"content-type": "application/json"})
    )
    client = anthropic.Anthropic(api_key="k", max_retries=0, http_client=httpx2.Client(transport=answer))
    prompt = [{"role": "user", "content": "x" * size}]
    return lambda: client.messages.create(model="claude-sonnet-5-5", max_tokens=64, messages=prompt)  # type: ignore[arg-type]


def measure(size: int, calls: int, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each bare call and of each watched one, in rounds that take turns."""
    call = make_call(size)
    for _ in range(50):
        call()
    bare, watched = list[float](), list[float]()
    for _ in range(rounds):
        bare += timed(call, calls)
        with skilld_monitor.enable_monitoring("benchmark") as made:
            watched += timed(call, calls)
            made.flush(10)
    return bare, watched


def timed(call: Callable[[], object], calls: int) -> list[float]:
    found = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - began) / 1e6)
    return found


def print_row(label: str, bare: list[float], watched: list[float]) -> None:
    (bare_50, bare_99), (seen_50, seen_99) = percentiles(bare), percentiles(watched)
    print(
        f"{label:8} {bare_50:10.3f} {bare_99:8.3f} {seen_50:12.3f} {seen_99:8.3f}"
        f" {seen_50 - bare_50:10.3f} {seen_99 - bare_99:8.3f}"
    )


def percentiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def print_threads(calls: int) -> None:
    """Calls a second of 8 threads, bare and watched."""
    bare = calls_per_s(calls)
    with skilld_monitor.enable_monitoring("benchmark"):
        watched = calls_per_s(calls)
    print(f"8 threads: {bare:.0f} calls/s bare, {watched:.0f} watched ({watched / bare:.0%})")


def calls_per_s(calls: int) -> float:
    def work(call: Callable[[], object]) -> None:
        for _ in range(calls):
            call()

    threads = [threading.Thread(target=work, args=(make_call(200),)) for _ in range(8)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 8 * calls / (time.perf_counter() - began)


def print_events(count: int) -> None:
    """Events a second that are taken from the program, and that the daemon has stored in the end."""
    made = skilld_monitor.enable_monitoring("benchmark")
    began = time.perf_counter()
    for number in range(count):
        skilld_monitor.log_event("event", {"n": number}, "BENCH")
    taken_s = time.perf_counter() - began
    made.flush(60)
    stored_s = time.perf_counter() - began
    report = made.disable()
    print(
        f"log_event: {count / taken_s:.0f} events/s taken, {count / stored_s:.0f} stored,"
        f" {report.dropped} dropped, {report.spooled} not delivered"
    )


if __name__ == "__main__":
    main()
