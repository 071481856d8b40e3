"""Every benchmark runs and prints its table. What it measures is judged by people, not here: machines differ."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from docker_kit import engine_with_slim_image

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
LIMIT_S = 120

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks are in the repository; this is a copy")

QUICK = {
    "bash_noop": (("2",), "local backend"),
    "journal": (("--appends=40", "--actors=4"), "appends/s"),
    "socket_round_trip": (("1",), "skilld"),
}
LONG = {
    "agents": (("--rounds=1", "--agents=2", "--idle-close=0.5"), "warm: skilld"),
    "board_claims": (("--items=40", "--claimers=4"), "board claims/s"),
    "at_rest": (("--sessions=20", "--live=20", "--scrapes=3"), "20 live besides"),
    "socket_load": (("--clients=1,16", "--seconds=0.5", "--rounds=1"), "skilld"),
    "neighbours": (("--rounds=1", "--seconds=2"), "beside all"),
    "cancel": (("2",), "skilld"),
    "containers": (("--rounds=2", "--calls=20", "--starts=1"), "docker: bash_tool"),
    "file_sync": (("--rounds=1", "--megabytes=1", "--looks=2"), "one file, up"),
    "hosted": (("--rounds=2", "--pauses=2"), "backend anthropic"),
    "hybrid": (("--rounds=2",), "one hybrid conversation"),
    "monitor": (("--rounds=1", "--calls=20", "--events=1000"), "added p50"),
    "long_conversation": (("--turns=3", "--lines=20"), "caching, our own summary"),
    "idle_sessions": (("--sessions=20",), "live conversations"),
    "import_lag": ((), "in a thread (prepare)"),
    "ready": (("--sessions=20", "--rounds=1"), "skillctl status, 20 stored"),
    "replay": (("--turns=5", "--rounds=2"), "skilld, all events"),
    "runtime": (("--rounds=1", "--actors=50"), "idle actor, KB"),
    "skills": (("10", "2"), "edit to snapshot, 2 edits"),
    "worker_process": (("--rounds=1", "--kills=2"), "deadline, replaced"),
    "stream_latency": (("--deltas=5", "--rounds=1"), "skilld"),
}


def run_benchmark(name: str, arguments: tuple[str, ...]) -> list[str]:
    """The lines it prints."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_benchmark_prints_its_table(name: str) -> None:
    arguments, expected = QUICK[name]
    lines = run_benchmark(name, arguments)
    assert any(expected in line for line in lines), lines


@pytest.mark.deep
@pytest.mark.parametrize("name", LONG)
def test_a_long_benchmark_prints_its_table(name: str) -> None:
    if name == "containers":
        with engine_with_slim_image():
            pass
    arguments, expected = LONG[name]
    lines = run_benchmark(name, arguments)
    assert any(expected in line for line in lines), lines


@pytest.mark.deep
@pytest.mark.parametrize("name", [*QUICK, *LONG])
def test_every_benchmark_tells_its_options(name: str) -> None:
    assert run_benchmark(name, ("--help",))[0].startswith(f"usage: {name}.py")


def test_every_benchmark_is_run_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("[a-z]*.py")} == {*QUICK, *LONG}


def test_what_must_hold_of_the_runtime_is_judged_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_from_file_location("benchmark_of_the_runtime", BENCHMARKS / "runtime.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for theirs
    spec.loader.exec_module(module)
    medians = {variant: dict.fromkeys(module.ROWS, 1.0) for variant in module.TITLES}
    assert module.print_claims(medians) is False  # a restart has to be faster than pykka's, not as fast
    medians["ours"]["restart_p50_us"] = 0.6
    assert module.print_claims(medians) is True
    medians["inline"]["ask_p50_us"] = 1.1
    assert module.print_claims(medians) is False
    del medians["beam"]  # not installed
    assert module.print_claims(medians) is True
