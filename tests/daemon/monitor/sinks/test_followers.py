"""Followers in the daemon's own tree: they go on where they were, and nobody waits for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from otlp_kit import attribute, free_port, in_trio, keys, span, traces_request
from sink_kit import Answer, Collector, collector, report
from skilld.monitor.monitor import Monitor
from skilld.monitor.sinks.follower import SinkFollower
from skilld.monitor.sinks.log_files import CURRENT
from skilld.monitor.sinks.status import SinkStatus
from skilld.monitor.store import EventStore
from tree_kit import Tree, open_tree


def logged(folder: Path) -> list[dict[str, Any]]:
    """What is in the log so far; the last line may be only half written."""
    path = folder / CURRENT
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]


async def until_logged(folder: Path, count: int) -> list[dict[str, Any]]:
    with trio.fail_after(20):
        while len(logged(folder)) < count:  # noqa: ASYNC110  # a file tells nobody
            await trio.sleep(0.02)
    return logged(folder)


async def store_some(tree: Tree, count: int, first: int = 0) -> None:
    await store_each(tree, *[{}] * count, first=first)


async def store_each(tree: Tree, *events: dict[str, Any], first: int = 0) -> None:
    monitor = await tree.parts.monitor.wait()
    await trio.to_thread.run_sync(lambda: report(monitor, *events, first=first))
    monitor.arrived.set()
    monitor.arrived = trio.Event()


async def log_five(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Where events are logged, and the settings for it. There are five."""
    folder = tmp_path / "log"
    flags: dict[str, Any] = {"monitor.event_log.folder": str(folder)}
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 5)
        await until_logged(folder, 5)
    return folder, flags


async def sinks(tree: Tree) -> dict[str, dict[str, Any]]:
    async with tree.http() as http:
        return {item["name"]: item for item in (await http.get("/v1/monitor/sinks")).json()["items"]}


async def until(tree: Tree, is_so: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
    """How the sinks are doing, as soon as it is so."""
    with trio.fail_after(20):
        while not is_so(found := await sinks(tree)):  # noqa: ASYNC110  # over a real socket
            await trio.sleep(0.02)
    return found


@in_trio
async def test_every_event_is_in_the_log_once_over_crashes_and_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    flags: dict[str, Any] = {"monitor.event_log.folder": str(folder)}
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 300)
        await until_logged(folder, 300)
        await tree.kill("SinkFollower")
        await store_some(tree, 10, first=300)
        await until_logged(folder, 310)
        await tree.kill("MonitorKeeper")
        await store_some(tree, 10, first=310)
        await until_logged(folder, 320)
    (folder / CURRENT).write_bytes((folder / CURRENT).read_bytes() + b'{"id": 321, "torn')
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 5, first=320)
        found = await until_logged(folder, 325)
        status = (await until(tree, lambda now: now["event-log"]["lag"] == 0))["event-log"]
    assert [event["data"]["n"] for event in found] == list(range(325))
    assert (status["state"], status["sent"], status["lag"], status["lost"]) == ("following", 5, 0, 0)


@in_trio
async def test_an_event_that_was_written_and_not_noted_is_not_written_again(tmp_path: Path) -> None:
    folder, flags = await log_five(tmp_path)
    store = EventStore(tmp_path / "state" / "monitor" / "events.db")
    store.set_cursor("sink:event-log", 2)  # as it is when the end comes in between
    store.close()
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 1, first=5)
        assert [event["id"] for event in await until_logged(folder, 6)] == [1, 2, 3, 4, 5, 6]


@in_trio
async def test_a_store_that_was_made_anew_is_written_from_its_beginning(tmp_path: Path) -> None:
    folder, flags = await log_five(tmp_path)
    for path in (tmp_path / "state" / "monitor").glob("events.db*"):
        path.unlink()
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 3, first=5)
        assert [event["data"]["n"] for event in await until_logged(folder, 8)] == list(range(8))


@in_trio
async def test_what_was_removed_before_it_could_be_delivered_is_counted_as_lost(tmp_path: Path) -> None:
    folder, flags = await log_five(tmp_path)
    async with open_tree(tmp_path) as tree:
        await store_some(tree, 7, first=5)
        monitor = await tree.parts.monitor.wait()
        assert await trio.to_thread.run_sync(monitor.store.prune, -1.0, 1 << 30) == 12
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 1, first=12)
        assert [event["data"]["n"] for event in await until_logged(folder, 6)] == [0, 1, 2, 3, 4, 12]
        assert (await sinks(tree))["event-log"]["lost"] == 7
        async with tree.http() as http:
            page = (await http.get("/metrics")).text
    assert 'skilld_monitor_sink_events_total{outcome="lost",sink="event-log"} 7.0' in page


def said_on(*channels: str) -> list[dict[str, Any]]:
    return [{"channel": channel} for channel in channels]


@in_trio
async def test_each_place_gets_the_events_of_its_channels_and_passes_over_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with collector() as found:
        flags: dict[str, Any] = {
            "monitor.event_log.folder": str(folder),
            "monitor.event_log.channels": ["LLM", "orders"],
            "monitor.export.telemetry.endpoint": found.url,
            "monitor.export.telemetry.channels": ["API"],
            "monitor.export.telemetry.body": "array",
            "monitor.export.otlp.endpoint": found.url,
            "monitor.export.otlp.channels": ["of nobody"],
        }
        async with open_tree(tmp_path, **flags) as tree:
            await store_each(tree, *said_on("LLM", "API", "orders", "llm", "LLM2", "SYSTEM", "LLM", "API"))
            now = await until(tree, lambda now: all(sink["cursor"] == 8 for sink in now.values()))
        assert {name: (sink["sent"], sink["failed"], sink["lost"], sink["lag"]) for name, sink in now.items()} == {
            "event-log": (3, 0, 0, 0),
            "telemetry": (2, 0, 0, 0),
            "otlp": (0, 0, 0, 0),
        }
        assert [event["data"]["n"] for event in logged(folder)] == [0, 2, 6]
        assert [item["attributes"]["n"] for item in await wait_envelopes(found, 2)] == [1, 7]


@in_trio
async def test_what_was_passed_over_does_not_come_later(tmp_path: Path) -> None:
    """Neither after the end of a follower, nor when its channels are others."""
    folder = tmp_path / "log"
    flags: dict[str, Any] = {"monitor.event_log.folder": str(folder)}
    async with open_tree(tmp_path, **keys({**flags, "monitor.event_log.channels": ["LLM"]})) as tree:
        await store_each(tree, *said_on("LLM", "API", "API"))
        await until(tree, lambda now: now["event-log"]["cursor"] == 3)
        await tree.kill("SinkFollower")
        await store_each(tree, *said_on("API", "LLM"), first=3)
        await until(tree, lambda now: now["event-log"]["cursor"] == 5)
    async with open_tree(tmp_path, **flags) as tree:
        await store_each(tree, *said_on("API"), first=5)
        now = await until(tree, lambda now: now["event-log"]["cursor"] == 6)
    assert [event["data"]["n"] for event in logged(folder)] == [0, 4, 5]
    assert now["event-log"]["lost"] == 0


@in_trio
async def test_what_had_to_go_is_counted_as_lost_and_what_is_passed_over_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    flags: dict[str, Any] = {"monitor.event_log.folder": str(folder), "monitor.event_log.channels": ["LLM"]}
    async with open_tree(tmp_path, **flags) as tree:
        await store_each(tree, *said_on("LLM", "API"))
        await until(tree, lambda now: now["event-log"]["cursor"] == 2)
    async with open_tree(tmp_path) as tree:
        await store_each(tree, *said_on("LLM", "API", "API"), first=2)
        monitor = await tree.parts.monitor.wait()
        assert await trio.to_thread.run_sync(monitor.store.prune, -1.0, 1 << 30) == 5
    async with open_tree(tmp_path, **flags) as tree:
        await store_each(tree, *said_on("API", "LLM", "API"), first=5)
        now = await until(tree, lambda now: now["event-log"]["cursor"] == 8)
    assert (now["event-log"]["lost"], now["event-log"]["sent"]) == (3, 1)


@in_trio
async def test_one_that_is_stuck_holds_up_neither_the_others_nor_the_programs(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    async with collector() as good, collector(lambda asked: Answer(503)) as bad:
        flags: dict[str, Any] = {
            "monitor.event_log.folder": str(folder),
            "monitor.export.otlp.endpoint": bad.url,
            "monitor.export.telemetry.endpoint": good.url,
            "monitor.export.telemetry.body": "array",
        }
        async with open_tree(tmp_path, **flags) as tree:
            await store_some(tree, 50)
            await until_logged(folder, 50)
            await wait_envelopes(good, 50)
            found = await until(tree, lambda found: found["otlp"]["retries"] > 0)
        assert found["otlp"]["state"] == "waiting"
        assert found["otlp"]["lag"] == 50
        assert found["otlp"]["problem"] == "it answers 503"
        assert found["otlp"]["target"] == f"{bad.url}/***"
        bad.answer = lambda asked: Answer(200)
        async with open_tree(tmp_path, **flags) as tree:
            await until(tree, lambda found: found["otlp"]["sent"] == 50)
    assert [item["attributes"]["n"] for item in await wait_envelopes(good, 50)] == list(range(50))


async def wait_envelopes(found: Collector, count: int) -> list[dict[str, Any]]:
    with trio.fail_after(20):
        while len(items := [item for asked in found.asked for item in asked.json]) < count:
            await found.wait_asked(len(found.asked) + 1)
    return items


@in_trio
async def test_a_log_that_cannot_be_written_is_written_when_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.write_text("in the way")
    async with open_tree(tmp_path, **keys({"monitor.event_log.folder": str(folder)})) as tree:
        await store_some(tree, 3)
        await until(tree, lambda found: found["event-log"]["state"] == "waiting")
        folder.unlink()
        assert len(await until_logged(folder, 3)) == 3


@pytest.mark.parametrize("format", ["skilld", "B"])
@in_trio
async def test_both_formats_are_written(tmp_path: Path, format: str) -> None:
    folder = tmp_path / "log"
    flags: dict[str, Any] = {"monitor.event_log.folder": str(folder), "monitor.event_log.format": format}
    async with open_tree(tmp_path, **flags) as tree:
        await store_some(tree, 2)
        found = await until_logged(folder, 2)
    key = "id" if format == "skilld" else "schema_version"
    assert all(key in line for line in found)


@in_trio
async def test_no_secret_reaches_any_place(tmp_path: Path) -> None:
    """What comes in by OTLP is masked before it is stored, and so before it goes anywhere."""
    secrets = ("AKIAQWERTYUIOPASDFGH", "ghp_abcdefghijklmnopqrstuvwxyzABCDEF0123")
    port, folder = free_port(), tmp_path / "log"
    texts = [attribute("gen_ai.prompt", f"use {secrets[0]} please"), attribute("tool.args", f"token={secrets[1]}")]
    sent = span(attributes=texts, status={"code": 2, "message": f"denied: {secrets[0]}"}, name=f"chat {secrets[1]}")
    async with collector() as found:
        flags = keys(
            {
                "monitor.otlp.listen": f"127.0.0.1:{port}",
                "monitor.event_log.folder": str(folder),
                "monitor.export.otlp.endpoint": found.url,
                "monitor.export.telemetry.endpoint": found.url,
            }
        )
        async with open_tree(tmp_path, **flags) as tree, httpx.AsyncClient(trust_env=False, timeout=20) as client:
            await tree.parts.monitor.wait()
            answer = await client.post(
                f"http://127.0.0.1:{port}/v1/traces",
                content=traces_request(sent),
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == 200
            await until(tree, lambda sinks: all(sink["sent"] > 0 for sink in sinks.values()))
            logged_text = (folder / CURRENT).read_bytes()
    places = [logged_text, *(asked.body for asked in found.asked)]
    assert len(places) >= 4
    assert all(b"chat" in place for place in places[:2])
    for secret in secrets:
        assert not any(secret.encode() in place for place in places)


class Away:
    """A receiver that takes nothing, however often it is tried."""

    page = 10

    def __init__(self, status: SinkStatus) -> None:
        self._status = status

    async def start(self, monitor: Monitor, cursor: int) -> int:
        return cursor

    async def deliver(self, events: Any) -> None:
        while True:
            self._status.retries += 1
            await trio.sleep(0.01)

    async def idle(self) -> None: ...

    async def close(self) -> None: ...


@in_trio
async def test_metrics_say_how_far_behind_a_place_is_also_while_it_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skilld.monitor.sinks.follower._TELL_EVERY_S", 0.05)
    told: list[dict[str, float]] = []

    def lag_is_told() -> bool:
        return any(facts.get("lag") == 50 for facts in told)

    def retries_told() -> float:
        return sum(facts.get("retries", 0) for facts in told)

    async with open_tree(tmp_path) as tree:
        await store_some(tree, 1)
        tree.parts.bus.attach("test", ("monitor.sink",), lambda _name, facts, _meta: told.append(dict(facts)))
        status = SinkStatus(name="away", target="nowhere")
        follower = SinkFollower(tree.parts, status, lambda: Away(status))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower._run)
            await store_some(tree, 49, first=1)
            with trio.fail_after(20):
                while not (lag_is_told() and retries_told()):  # noqa: ASYNC110 - a bus tells no task
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert retries_told() == status.retries > 0
