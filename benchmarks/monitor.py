"""What monitoring adds to a call of a model, by the size of the prompt; and how fast events are taken and stored.

The same client of Anthropic's SDK over a transport in memory, bare and watched, in one run: what the network takes
would hide what is measured. What 8 threads keep is told over loopback too, to a server that answers at once. Each row
is the bare call, the watched one and the difference, p50 and p99, and what it adds in processor time of the calling
thread and of the whole process, which other work on the machine blurs least. First ours in rounds that take turns;
then, with --install and from then on, each monitor in an environment of its own (.venv-monitor-NAME), ours and the
SDK's own spans among them: what they add is compared with what ours adds.

With --check it ends with 1 if a figure that is to be reached is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx2
from _daemon import daemon
from _monitor_peers import ANSWER, prompt

import skilld_monitor
from skilld_monitor.scanning import RuleSet, builtin

SIZES = {"200 B": 200, "20 kB": 20_000, "100 kB": 100_000}
ROOT = Path(__file__).resolve().parents[1]
PEERS = {
    "cylestio-0.1.2": ("cylestio", "python3.11", ("cylestio-monitor==0.1.2",)),
    "cylestio-0.1.12": (
        *("cylestio", "python3.12"),
        ("cylestio-monitor==0.1.12", "langchain<1", "mcp<2", "anthropic<1"),
    ),
    "openllmetry": ("openllmetry", "python3.11", ("opentelemetry-instrumentation-anthropic", "anthropic>=2.11")),
}
ADDED_P50_MS = {"200 B": 0.10, "20 kB": 0.10, "100 kB": 0.15}
ADDED_P99_MS = 0.5
THREADS, THREAD_CALLS = 8, 200
KEPT_BY_THREADS = 0.9
TAKEN_PER_S, STORED_PER_S = 100_000, 20_000
IMPORT_MS, ENABLE_MS, ENABLED_KB = 20.0, 20.0, 8192
SCAN_MS = 2.0
SCANS, SCANNED_TEXTS, SCANNED_CHARS = 9, 40, 20_000


@dataclass(slots=True)
class Kind:
    """Calls of one kind: milliseconds of each; processor time of their thread and of the process, a round."""

    ms: list[float] = field(default_factory=list)
    thread_s: list[float] = field(default_factory=list)
    process_s: list[float] = field(default_factory=list)


class Bars:
    """Figures that are to be reached, and whether they were."""

    def __init__(self) -> None:
        self.missed = 0

    def at_most(self, what: str, value: float, bar: float) -> None:
        self._say(what, value <= bar, f"{value:.3f}, at most {bar:g}")

    def at_least(self, what: str, value: float, bar: float) -> None:
        self._say(what, value >= bar, f"{value:.3f}, at least {bar:g}")

    def _say(self, what: str, reached: bool, text: str) -> None:
        self.missed += not reached
        print(f"{'reached' if reached else 'MISSED ':8} {what}: {text}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400, help="of each kind, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--install", action="store_true", help="put the peers into .venv-monitor-NAME")
    parser.add_argument("--check", action="store_true", help="end with 1 if a figure is missed")
    options = parser.parse_args()
    bars = Bars()
    with tempfile.TemporaryDirectory() as name, daemon(Path(name), arguments=configured(Path(name))):
        folder = Path(name)
        os.environ |= {
            "SKILLD_MONITOR_SOCKET": str(folder / "monitor.sock"),
            "SKILLD_MONITOR_SPOOL": str(folder / "spool"),
        }
        check_delivery()
        print_head()
        added = {
            label: print_row(label, *measure(size, options.calls, options.rounds)) for label, size in SIZES.items()
        }
        kept = print_threads(options.rounds, "in memory", [make_call(200) for _ in range(THREADS)])
        with answering() as url:
            kept_over = print_threads(options.rounds, "over loopback", [make_call(200, url) for _ in range(THREADS)])
        taken, stored, lost = print_events(options.events, folder)
        scan_ms = print_scan()
        added |= print_without_daemon(options.calls, min(options.rounds, 2), folder)
        print_peers(options.calls, options.rounds, options.install)
        brought = run_peer(Path(sys.executable), "skilld", 1, 1)
    for label, (p50, p99) in added.items():
        bars.at_most(f"added at {label}, p50 ms", p50, ADDED_P50_MS[label.partition(",")[0]])
        bars.at_most(f"added at {label}, p99 ms", p99, ADDED_P99_MS)
    bars.at_least("calls/s that 8 threads keep, in memory", kept, KEPT_BY_THREADS)
    bars.at_least("calls/s that 8 threads keep, over loopback", kept_over, KEPT_BY_THREADS)
    bars.at_least("events/s taken", taken, TAKEN_PER_S)
    bars.at_least("events/s in the daemon's store and event log", stored, STORED_PER_S)
    bars.at_most("events lost", lost, 0)
    bars.at_most("a scan of 20 kB, processor ms", scan_ms, SCAN_MS)
    bars.at_most("import, ms", brought["import_ms"], IMPORT_MS)
    bars.at_most("switched on, ms", brought["enable_ms"], ENABLE_MS)
    bars.at_most("imported and switched on, KB of memory", brought["enabled_kb"], ENABLED_KB)
    return 1 if options.check and bars.missed else 0


def configured(folder: Path) -> tuple[str, ...]:
    """Options of a daemon that writes all events into files too."""
    (folder / "skilld.toml").write_text(f'[monitor.event_log]\nfolder = "{folder / "log-of-events"}"\n')
    return (f"--config={folder / 'skilld.toml'}",)


def check_delivery() -> None:
    """Raise RuntimeError where the daemon does not take what is reported: it is not what would be measured."""
    with skilld_monitor.enable_monitoring("benchmark") as made:
        if not made.flush(10) or made.delivery_problem():
            raise RuntimeError(f"the daemon takes no events: {made.delivery_problem()}")


def print_head() -> None:
    print(
        f"{'prompt':16} {'bare p50':>10} {'p99':>8} {'watched p50':>12} {'p99':>8} {'added p50':>10} {'p99':>8}  ms"
        f" {'thread':>8} {'process':>8}  us of processors"
    )


def print_without_daemon(calls: int, rounds: int, folder: Path) -> dict[str, tuple[float, float]]:
    """What is added to a call, p50 and p99, while the daemon is stopped, and while there is none."""
    print()
    print_head()
    (pid,) = daemon_pids(folder)
    os.kill(pid, signal.SIGSTOP)
    try:
        stopped = print_row("200 B, stopped", *measure(200, calls, rounds))
    finally:
        os.kill(pid, signal.SIGCONT)
    with moved(folder / "monitor.sock"):
        return {"200 B, stopped": stopped, "200 B, away": print_row("200 B, away", *measure(200, calls, rounds))}


@contextlib.contextmanager
def moved(path: Path) -> Iterator[None]:
    """It is somewhere else for a while."""
    elsewhere = path.with_suffix(".moved")
    path.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(path)


def make_call(size: int, url: str = "") -> Callable[[], object]:
    """A call of a client of its own: of a server there, else of a transport in memory."""
    raw = json.dumps(ANSWER).encode()
    answer = httpx2.MockTransport(
        lambda _request: httpx2.Response(200, content=raw, headers={"content-type": "application/json"})
    )
    http = None if url else httpx2.Client(transport=answer)
    client = anthropic.Anthropic(api_key="k", max_retries=0, base_url=url or None, http_client=http)
    messages = [{"role": "user", "content": prompt(size)}]
    return lambda: client.messages.create(model="claude-sonnet-5-5", max_tokens=64, messages=messages)  # type: ignore[arg-type]


def measure(size: int, calls: int, rounds: int) -> tuple[Kind, Kind]:
    """Bare calls and watched ones, in rounds that take turns."""
    call = make_call(size)
    for _ in range(50):
        call()
    bare, watched = Kind(), Kind()
    for _ in range(rounds):
        began_s = time.process_time()
        timed(call, calls, bare)
        bare.process_s.append(time.process_time() - began_s)
        with skilld_monitor.enable_monitoring("benchmark") as made:
            made.flush(10)
            began_s = time.process_time()
            timed(call, calls, watched)
            made.flush(10)
            watched.process_s.append(time.process_time() - began_s)
    return bare, watched


def timed(call: Callable[[], object], calls: int, kind: Kind) -> None:
    began_s = time.thread_time()
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        kind.ms.append((time.perf_counter_ns() - began) / 1e6)
    kind.thread_s.append(time.thread_time() - began_s)


def print_row(label: str, bare: Kind, watched: Kind) -> tuple[float, float]:
    """What is added, p50 and p99."""
    (bare_50, bare_99), (seen_50, seen_99) = percentiles(bare.ms), percentiles(watched.ms)
    us_a_round = 1e6 / (len(bare.ms) / len(bare.thread_s))
    thread = (statistics.median(watched.thread_s) - statistics.median(bare.thread_s)) * us_a_round
    process = (statistics.median(watched.process_s) - statistics.median(bare.process_s)) * us_a_round
    print(
        f"{label:16} {bare_50:10.3f} {bare_99:8.3f} {seen_50:12.3f} {seen_99:8.3f}"
        f" {seen_50 - bare_50:10.3f} {seen_99 - bare_99:8.3f}     {thread:8.1f} {process:8.1f}"
    )
    return seen_50 - bare_50, seen_99 - bare_99


def percentiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


def print_threads(rounds: int, label: str, clients: list[Callable[[], object]]) -> float:
    """Calls a second of 8 threads, bare and watched, in rounds that take turns; the share that is kept.

    Each round of watched calls is held against the bare ones before and after it: what else the machine does changes
    more from second to second than watching does.
    """
    kept, kept_of_cpu = list[float](), list[float]()
    rates = {"bare": list[float](), "watched": list[float]()}
    calls_per_s(clients, THREAD_CALLS // 4)
    before = bare(clients)
    for _ in range(rounds * 2):
        with skilld_monitor.enable_monitoring("benchmark") as made:
            made.flush(10)
            began_s = time.process_time()
            rates["watched"].append(calls_per_s(clients, THREAD_CALLS))
            made.flush(30)
            watched_s = time.process_time() - began_s
        after = bare(clients)
        rates["bare"].append(2 / (1 / before[0] + 1 / after[0]))
        kept.append(rates["watched"][-1] / rates["bare"][-1])
        kept_of_cpu.append((before[1] + after[1]) / 2 / watched_s)
        before = after
    print(
        f"8 threads, {label}: {statistics.median(rates['bare']):.0f} calls/s bare,"
        f" {statistics.median(rates['watched']):.0f} watched; kept, median of {len(kept)}:"
        f" {statistics.median(kept):.0%}"
        f" (from {min(kept):.0%} to {max(kept):.0%}); by processor time, with the delivery of all:"
        f" {statistics.median(kept_of_cpu):.0%}"
    )
    return statistics.median(kept)


def bare(clients: list[Callable[[], object]]) -> tuple[float, float]:
    """Calls a second, and processor seconds of all of them."""
    began_s = time.process_time()
    return calls_per_s(clients, THREAD_CALLS), time.process_time() - began_s


def calls_per_s(clients: list[Callable[[], object]], calls: int) -> float:
    """Of as many threads as there are clients."""

    def work(call: Callable[[], object]) -> None:
        for _ in range(calls):
            call()

    threads = [threading.Thread(target=work, args=(call,)) for call in clients]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(threads) * calls / (time.perf_counter() - began)


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """The address of a server on loopback that answers at once, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("_answering.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # it is asked for
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def print_events(count: int, folder: Path) -> tuple[float, float, int]:
    """Events a second that are taken from the program, and that the daemon has stored and written into its event log
    in the end; how many were lost.

    Processor time is told beside: it is the same with other work on the machine.
    """
    made = skilld_monitor.enable_monitoring("benchmark")
    made.flush(60)
    before = logged(folder)
    began, ours_s, daemons_s = time.perf_counter(), time.process_time(), daemon_cpu_s(folder)
    for number in range(count):
        skilld_monitor.log_event("event", {"n": number}, "BENCH")
    taken_s = time.perf_counter() - began
    made.flush(60)
    stored_s = time.perf_counter() - began
    while logged(folder) - before < count and time.perf_counter() - began < 60:
        time.sleep(0.02)
    logged_s = time.perf_counter() - began
    missing = max(0, count - (logged(folder) - before))
    ours_s, daemons_s = time.process_time() - ours_s, daemon_cpu_s(folder) - daemons_s
    report = made.disable()
    print(
        f"log_event: {count / taken_s:.0f} events/s taken, {count / stored_s:.0f} stored, {count / logged_s:.0f} in the"
        f" event log, {report.dropped} dropped, {missing} not logged; processor s for 1000 events:"
        f" {ours_s / count * 1000:.4f} of the program, {daemons_s / count * 1000:.4f} of the daemon"
    )
    return count / taken_s, count / logged_s, max(report.dropped + report.spooled, missing)


def logged(folder: Path) -> int:
    """Events of the benchmark's own in the files of the event log."""
    files = (folder / "log-of-events").glob("*.jsonl")
    return sum(path.read_bytes().count(b'"channel":"BENCH"') for path in files)


def daemon_cpu_s(folder: Path) -> float:
    """What the daemon of this folder has used of processors."""
    used_s = 0.0
    for pid in daemon_pids(folder):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            used_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used_s


def daemon_pids(folder: Path) -> list[int]:
    """The daemon that serves in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"--socket={folder}".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def print_scan() -> float:
    """Milliseconds of a processor that the built-in rules take for 20 kB that they have not seen: of prose, code and
    documentation the kind that takes longest.

    Of each text the least of several scans counts, since other work on the machine makes one longer and never shorter;
    of the texts of a kind the median, since one is not like the other. Prose alone would say too little: it has few of
    the signs that keys and commands are made of, and code and documentation are what is mostly sent to a model.
    """
    rules, found = builtin(), dict[str, float]()
    for kind, text in scanned().items():
        step = (len(text) - SCANNED_CHARS) // (SCANNED_TEXTS - 1)
        parts = [text[at * step :][:SCANNED_CHARS] for at in range(SCANNED_TEXTS)]
        found[kind] = statistics.median(min(scan_ms(rules, part, number) for number in range(SCANS)) for part in parts)
    shown = ", ".join(f"{ms:.2f} ms of {kind}" for kind, ms in found.items())
    print(f"scan of 20 kB by the {len(rules)} built-in rules: {shown}; least of {SCANS}, median of {SCANNED_TEXTS}")
    return max(found.values())


def scanned() -> dict[str, str]:
    """Text of each kind, long enough for windows that differ."""
    code = sorted((*ROOT.glob("actors/**/*.py"), *ROOT.glob("daemon/**/*.py")))
    documentation = sorted(ROOT.glob("docs/**/*.md"))
    return {
        "prose": prompt(SCANNED_CHARS * 2),
        "code": "\n".join(path.read_text() for path in code),
        "documentation": "\n".join(path.read_text() for path in documentation),
    }


def scan_ms(rules: RuleSet, text: str, number: int) -> float:
    """How long it takes, with a number at its end so that it has not been seen."""
    fresh = f"{text[:-8]}{number:8}"
    began_s = time.thread_time()
    rules.scan(fresh)
    return (time.thread_time() - began_s) * 1000


def print_peers(calls: int, rounds: int, install: bool) -> None:
    """What each monitor adds, beside what ours adds in the same way."""
    print(f"\n{'':16} {'ms added to a call, p50, and times ours':^53} {'us of processors':^29}")
    walls, processors = (" ".join(f"{label:>9}{end}" for label in SIZES) for end in (f" {'x':>7}", ""))
    print(
        f"{'monitor':16} {walls} {processors}"
        f" {'8 threads':>9} {'log_event/s':>11} {'import ms':>9} {'on, ms':>7} {'both, MB':>8}"
    )
    ours: dict[str, float] = {}
    for name, python, monitor in peers(install):
        try:
            found = run_peer(python, monitor, calls, rounds)
        except RuntimeError as error:
            print(f"{name:16} {error}")
            continue
        bare, watched = found["bare"], found["watched"]
        added = {label: watched[str(size)][0] - bare[str(size)][0] for label, size in SIZES.items()}
        ours = ours or added
        shown = " ".join(f"{added[label]:9.3f} {added[label] / max(ours[label], 1e-3):7.1f}" for label in SIZES)
        cpu = " ".join(f"{(watched[str(size)][2] - bare[str(size)][2]) * 1000:9.1f}" for size in SIZES.values())
        rate = "-" if found["events"] is None else f"{found['events']:.0f}"
        print(
            f"{name:16} {shown} {cpu} {found['threads'][1] / found['threads'][0]:9.0%} {rate:>11}"
            f" {found['import_ms']:9.1f} {found['enable_ms']:7.1f} {found['enabled_kb'] / 1024:8.1f}"
        )


def peers(install: bool) -> Iterator[tuple[str, Path, str]]:
    """Who can be measured here: its name, its Python, how it is switched on."""
    yield "skilld", Path(sys.executable), "skilld"
    yield "SDK's own spans", Path(sys.executable), "native"
    for name, (monitor, base, packages) in PEERS.items():
        folder = ROOT / f".venv-monitor-{name}"
        if install and not (folder / "bin/python").exists() and runs(base):
            subprocess.run([base, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(folder / "bin/pip"), "install", "--quiet", "opentelemetry-sdk", *packages], check=True)
        if (folder / "bin/python").exists():
            yield name, folder / "bin/python", monitor
        else:
            print(f"{name:16} not installed; --install installs it, with {base}")


def runs(python: str) -> bool:
    """Whether there is such a Python; one that only says that others exist is none."""
    return shutil.which(python) is not None and not subprocess.run([python, "-c", ""], capture_output=True).returncode


def run_peer(python: Path, monitor: str, calls: int, rounds: int) -> dict[str, Any]:
    """What the program beside this one prints, in that environment."""
    arguments = (monitor, ",".join(map(str, SIZES.values())), str(calls), str(rounds), "2000")
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTHON"))}
        done = subprocess.run(
            [str(python), str(Path(__file__).with_name("_monitor_peers.py")), *arguments],
            env={**kept, "HOME": folder, "ANTHROPIC_OPEN_TELEMETRY": "true" if monitor == "native" else "false"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{monitor} cannot be measured: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
