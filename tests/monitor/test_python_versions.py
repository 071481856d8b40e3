"""The client in programs of other Pythons than ours: from 3.9 on, with nothing beside the standard library."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import skilld_monitor
from monitor_kit import collecting, run_program

CLIENT = Path(skilld_monitor.__file__).parent
PROGRAM = """
import asyncio, importlib, json, logging, os, pkgutil, sys, threading
import skilld_monitor as m
from skilld_monitor import context

modules = [each.name for each in pkgutil.walk_packages(m.__path__, "skilld_monitor.")]
for name in modules:
    importlib.import_module(name)
for name in m.__all__:
    getattr(m, name)
strange = {name.partition(".")[0] for name in sys.modules} & {"anthropic", "openai", "mcp", "langchain_core", "flask"}

made = m.enable_monitoring("order-desk", log_file="log.json", full_events=True, channels={"LLM": {"sample": 1}})

@m.monitor_call
def plain(n): return n
@m.monitor_call(channel="LATER")
async def later(n):
    await asyncio.sleep(0); return n
@m.monitor_call
def pieces(n): yield from range(n)
@m.monitor_call
async def async_pieces(n):
    for each in range(n): yield each
@m.monitor_tool
def tool(text): return text.upper()

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is nothing to tell of
    async with m.Span("outer"):
        assert await asyncio.gather(later(1), later(2)) == [1, 2]
        assert [each async for each in async_pieces(2)] == [0, 1]

with context.session("s-1"), context.user("u-1"), context.tags("t"), m.agent_span("clerk"):
    assert (plain(7), list(pieces(2)), tool("a")) == (7, [0, 1], "A")
    asyncio.run(main())
    asyncio.run(main())
    secret = {"key": "sk-ant-api03-" + "a1B2" * 24}
    thread = threading.Thread(target=context.carried(m.log_event), args=("threaded", secret))
    thread.start(); thread.join()
m.log_error("failed", ValueError("no"), {"at": 1})
headers = m.TraceContext.inject({})
if not os.fork():
    m.log_event("child", {}, "CHILD")
    os._exit(0 if made.flush(30) else 1)
assert os.wait()[1] == 0
report = m.disable_monitoring(20)
print(json.dumps([sys.version_info[:2], len(modules), sorted(strange), report.dropped + report.refused, made.problem]))
"""


def python_of(version: str) -> str:
    """An interpreter of this version: on the path, or beside the one that runs this. Skips where there is none."""
    beside = [str(path) for path in sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python"))]
    for path in filter(None, (*beside, shutil.which(f"python{version}"))):
        said = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True)
        if said.stdout.decode().strip() == version:
            return path
    pytest.skip(f"needs Python {version}")


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_a_program_of_another_python_is_watched_like_one_of_ours(version: str, tmp_path: Path) -> None:
    python = python_of(version)
    shutil.copytree(CLIENT, tmp_path / "lib" / "skilld_monitor", ignore=shutil.ignore_patterns("__pycache__"))
    with collecting(tmp_path) as collector:
        env = {"PYTHONPATH": str(tmp_path / "lib"), "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
        done = run_program(PROGRAM, tmp_path, python=python, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        told = collector.events()
    number, modules, strange, lost, problem = json.loads(done.stdout)
    assert (number, strange, lost, problem) == ([int(part) for part in version.split(".")], [], 0, "")
    assert modules > 80
    spans = [event["name"] for event in told if event["session"] == "s-1" and event["span"]]
    assert {"plain", "pieces", "execute_tool tool", "invoke_agent clerk", "threaded"} <= set(spans)
    assert (spans.count("later"), spans.count("async_pieces"), spans.count("outer")) == (4, 2, 2)
    assert [event["name"] for event in told if event["channel"] == "CHILD"] == ["child"]
    lines = (tmp_path / "log.json").read_text()
    assert "sk-ant-api03-a1B2" not in lines
    assert {"call_start", "call_finish"} <= {json.loads(line)["event"] for line in lines.splitlines()}


def test_no_module_has_grammar_that_python_3_9_has_not() -> None:
    sources = sorted(CLIENT.rglob("*.py"))
    assert len(sources) > 80
    for source in sources:
        ast.parse(source.read_text(), str(source), feature_version=(3, 9))
