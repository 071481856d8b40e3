"""What was found broken in Cylestio Monitor is not broken here: a test for each that belongs to the client's core.

docs/cylestio.md lists them all, with the tests of the adapters and of the scanner.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest

import skilld_monitor
from monitor_kit import Collector, collecting, run_program
from skill_actors.testing import FakeMessagesApi
from skilld_monitor import Span, enable_monitoring, instrument_function, instrument_method, log_event, monitor_call

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def ask(client: anthropic.Anthropic, content: Any = "hello") -> str:
    answer = client.messages.create(model="claude-x", max_tokens=64, messages=[{"role": "user", "content": content}])
    (block,) = answer.content
    assert block.type == "text"
    return block.text


def test_a_coroutine_that_is_instrumented_takes_as_long_as_it_takes(collector: Collector) -> None:
    made = enable_monitoring("shop-test")

    @instrument_function
    async def slow() -> int:
        await asyncio.sleep(0.05)
        return 7

    class Worker:
        @instrument_method("worker")
        async def work(self) -> int:
            await asyncio.sleep(0.05)
            raise KeyError("no")

    async def main() -> None:
        assert await slow() == 7
        with pytest.raises(KeyError):
            await Worker().work()

    assert inspect.iscoroutinefunction(slow)
    asyncio.run(main())
    assert made.flush()
    found = {event["name"]: event for event in collector.events()}
    assert found["function.slow"]["duration_ms"] >= 50
    assert found["worker.work"]["duration_ms"] >= 50
    assert (found["function.slow"]["status"], found["worker.work"]["status"]) == ("ok", "error")


def test_whatever_gives_a_coroutine_takes_as_long_as_that(collector: Collector) -> None:
    async def slow(n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    class Object:
        async def __call__(self, n: int) -> int:
            return await slow(n)

    @functools.wraps(len)
    def decorated(n: int) -> Any:
        return slow(n)

    made = enable_monitoring("shop-test")
    for each in (functools.partial(slow, 7), functools.partial(Object(), 7), functools.partial(decorated, 7)):
        assert asyncio.run(monitor_call(each)()) == 7
    assert asyncio.run(monitor_call(Object())(8)) == 8
    assert asyncio.run(monitor_call(decorated)(9)) == 9
    with pytest.raises(TypeError):
        asyncio.run(monitor_call(slow, name="wrong")())
    made.disable()
    *spans, wrong = collector.events(channel="GENERIC")
    assert [event["status"] for event in spans] == ["ok"] * 5
    assert all(event["duration_ms"] >= 49 for event in spans)
    assert (wrong["status"], wrong["data"]["error.type"]) == ("error", "TypeError")


def test_switching_it_on_twice_reports_each_call_once(collector: Collector, client: anthropic.Anthropic) -> None:
    for _ in range(3):
        made = enable_monitoring("shop-test", llm_client=client)
    assert ask(client) == "an answer"
    log_event("once")
    assert made.flush()
    names = [event["name"] for event in collector.events()]
    assert sorted(names) == ["chat claude-x", "monitoring_enabled", "once"]


def test_no_extension_of_sqlite_is_needed_nor_sqlite_itself(tmp_path: Path) -> None:
    text = (
        "import sys\n"
        "sys.modules['sqlite3'] = sys.modules['_sqlite3'] = None\n"
        "import skilld_monitor\n"
        "skilld_monitor.enable_monitoring('shop-test', log_file='log')\n"
        "skilld_monitor.log_event('order', {'n': 1})\n"
    )
    with collecting(tmp_path) as collector:
        done = run_program(text, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(collector.events(name="order")) == 1
    assert "order" in (tmp_path / "log.json").read_text()


def test_events_that_are_alike_are_each_kept(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    for _ in range(3000):
        log_event("same", {"n": 1}, timestamp=1_700_000_000)
    assert made.disable(10).delivered == 3002
    assert collector.count() == 3002


def test_content_that_is_a_list_of_blocks_costs_no_event(collector: Collector, client: anthropic.Anthropic) -> None:
    made = enable_monitoring("shop-test", capture="all", log_file="log", full_events=True)
    blocks = [
        {"type": "text", "text": "what is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ]
    assert ask(client, blocks) == "an answer"
    assert made.flush()
    (span,) = collector.events(channel="LLM")
    assert "what is this?" in json.dumps(span["data"]["gen_ai.input.messages"])
    lines = [json.loads(line)["event"] for line in Path(str(made.log_path)).read_text().splitlines()]
    assert lines == ["monitoring_enabled", "LLM_call_start", "LLM_call_finish"]


def test_the_logging_of_the_program_stays_the_programs(tmp_path: Path, collector: Collector) -> None:
    path = tmp_path / "app.log"
    handler = logging.FileHandler(path)
    logger = logging.getLogger("the.app")
    logger.addHandler(handler)
    logger.propagate = False
    before = list(logging.getLogger().handlers), logging.getLogger().level, logging.getLogger("httpx").level
    try:
        enable_monitoring("shop-test")
        logger.error("while it is on")
        skilld_monitor.disable_monitoring()
        logger.error("after it")
        assert (
            list(logging.getLogger().handlers),
            logging.getLogger().level,
            logging.getLogger("httpx").level,
        ) == before
        assert handler.stream is not None
        assert not handler.stream.closed
        assert path.read_text() == "while it is on\nafter it\n"
    finally:
        logger.removeHandler(handler)
        handler.close()


def test_a_whole_program_prints_nothing_and_configures_no_logging(tmp_path: Path, api: FakeMessagesApi) -> None:
    text = (
        "import logging, anthropic, skilld_monitor\n"
        "skilld_monitor.enable_monitoring('agent1', log_file=7, debug_level='LOUD', wrong=1)\n"
        f"client = anthropic.Anthropic(base_url={api.base_url!r}, api_key='k', max_retries=0)\n"
        "client.messages.create(model='m', max_tokens=9, messages=[{'role': 'user', 'content': 'x'}])\n"
        "skilld_monitor.log_event(object(), object())\n"
        "assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING\n"
        "assert logging.getLogger('httpx').getEffectiveLevel() == logging.WARNING\n"
        "skilld_monitor.disable_monitoring(20)\n"
        "client.close()\n"
    )
    done = run_program(text, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_after_it_is_switched_off_nothing_is_reported_by_whatever_was_watched(
    collector: Collector, client: anthropic.Anthropic
) -> None:
    original = anthropic.resources.messages.Messages.create
    made = enable_monitoring("shop-test", llm_client=client)
    watched = monitor_call(len)
    kept = client.messages.create
    ask(client)
    made.disable()
    count = collector.count()
    ask(client)
    kept(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    watched([])
    log_event("late")
    with Span("late"):
        pass
    assert made.stats().accepted == count
    assert collector.count() == count
    assert anthropic.resources.messages.Messages.create is original


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null", ""])
def test_a_home_that_cannot_be_written_stops_nothing(tmp_path: Path, home: str) -> None:
    text = (
        "import skilld_monitor\n"
        "made = skilld_monitor.enable_monitoring('shop-test')\n"
        "skilld_monitor.log_event('order', {'n': 1})\n"
        "report = made.disable(20)\n"
        "assert report.delivered == 3, report\n"
    )
    with collecting(tmp_path) as collector:
        env = {"HOME": home, "SKILLD_MONITOR_SPOOL": "", "PATH": os.environ["PATH"]}
        done = run_program(text, tmp_path, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(collector.events(name="order")) == 1


def test_programs_of_one_user_do_not_overwrite_each_other(tmp_path: Path) -> None:
    text = (
        "import sys, time, skilld_monitor\n"
        "made = skilld_monitor.enable_monitoring(sys.argv[1], log_file=sys.argv[1], environment=sys.argv[1])\n"
        "print('on', flush=True)\n"
        "sys.stdin.readline()\n"
        "assert made.settings.agent_id == sys.argv[1]\n"
        "for n in range(200): skilld_monitor.log_event('mine', {'of': sys.argv[1]})\n"
    )
    env = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "HOME": str(tmp_path),
        "SKILLD_MONITOR_SOCKET": str(tmp_path / "monitor.sock"),
        "SKILLD_MONITOR_EXIT_TIMEOUT_S": "30",
    }
    with collecting(tmp_path) as collector:
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", text, name],
                env=env,
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("billing", "search")
        ]
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "on\n"
        for program in programs:
            program.communicate("go\n", timeout=90)
            assert program.returncode == 0
        found = collector.events(name="mine")
    assert len(found) == 400
    assert all(event["agent"] == event["data"]["of"] == event["environment"] for event in found)
    for name in ("billing", "search"):
        lines = [json.loads(line) for line in (tmp_path / f"{name}.json").read_text().splitlines()]
        assert [line["agent_id"] for line in lines] == [name] * 201
    assert not (tmp_path / ".config").exists()


def test_eight_hundred_spans_in_four_threads_have_the_right_parents(collector: Collector) -> None:
    made = enable_monitoring("shop-test")
    barrier = threading.Barrier(4)
    wanted: dict[str, str] = {}

    def work(number: int) -> None:
        barrier.wait()
        for n in range(200):
            with Span(f"outer {number}") as outer, Span(f"inner {number}") as inner:
                if n % 10 == 0:
                    time.sleep(0)
                wanted[str(inner.span_id)] = str(outer.span_id)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.flush(10)
    rows = collector.store.ask(
        lambda db: db.execute("SELECT span, parent FROM event WHERE name LIKE 'inner %'").fetchall()
    )
    assert len(rows) == 800
    assert {str(span): str(parent) for span, parent in rows} == wanted


def test_what_cannot_be_encoded_costs_neither_the_call_nor_the_event(collector: Collector) -> None:
    made = enable_monitoring("shop-test", capture="all")
    assert monitor_call(lambda given: given)(bytes(3)) == bytes(3)
    log_event("odd", {"lock": threading.Lock(), "type": int, 3: complex(1, 2)})
    assert made.flush()
    (odd,) = collector.events(name="odd")
    assert odd["data"]["3"] == "(1+2j)"
    assert made.stats().dropped == 0
