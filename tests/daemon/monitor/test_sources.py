"""Each program that reports has an actor of its own: one that ends, waits or floods is no other's trouble."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from pykka import ActorDeadError

from monitor_event_kit import batch
from monitor_kit import policy_file, run_program
from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec, Reject, open_system
from skilld.monitor.batch import Batch
from skilld.monitor.inspected import Inspected, Origin
from skilld.monitor.monitor import Monitor
from skilld.monitor.sources import Sources, SourcesRef
from skilld.monitor.store import EventStore, Written
from support import run, run_virtual
from tree_kit import Tree, open_tree

ONE, OTHER = Origin(1, 7), Origin(2, 8)
Write = Callable[[Batch, Origin], Awaitable[Written]]


@asynccontextmanager
async def sources(write: Write, most: int = 10) -> AsyncIterator[SourcesRef]:
    made: list[SourcesRef] = []
    spec = ChildSpec(id="sources", factory=lambda: Sources(write, max_sources=most, publish=made.append), isolated=True)
    async with open_system([spec]):
        yield made[-1]


async def stored(made: Batch, _origin: Origin) -> Written:
    return Written(len(made.events), 0)


class Gate:
    """Keeps what agents named in `held` report waiting until it is opened; counts what goes on at once."""

    def __init__(self, *held: str) -> None:
        self.held = held
        self.opened = trio.Event()
        self.begun: list[str] = []
        self.order: list[int] = []

    async def write(self, made: Batch, _origin: Origin) -> Written:
        self.begun.append(made.agent)
        if made.agent in self.held:
            await self.opened.wait()
        self.order.append(int(made.run, 16))
        return Written(len(made.events), 0)


def test_each_agent_of_each_user_has_one_and_they_are_told_apart() -> None:
    async def main() -> None:
        async with sources(stored) as ref:
            await ref.write(batch(1, {}, {}), ONE)
            await ref.write(batch(2, {}), ONE)
            await ref.write(batch(3, {}, agent="stall"), ONE)
            await ref.write(batch(4, {}), OTHER)
            facts = [(one["agent"], one["uid"], one["batches"], one["stored"]) for one in ref.facts(None)]
            assert facts == [("shop", 1, 2, 3), ("stall", 1, 1, 1), ("shop", 2, 1, 1)]
            assert [one["uid"] for one in ref.facts(2)] == [2]
            assert ref.gauges() == {"waiting_batches": 0, "client_spool_bytes": 0}

    run(main)


def test_one_that_is_killed_takes_only_its_own_batch_along_and_is_made_again() -> None:
    async def main() -> None:
        gate = Gate("shop", "stall")
        async with sources(gate.write) as ref, trio.open_nursery() as nursery:
            ended: list[type[BaseException]] = []
            kept: list[Written] = []

            async def killed() -> None:
                with pytest.raises(ActorDeadError):
                    await ref.write(batch(1, {}), ONE)
                ended.append(ActorDeadError)

            async def survives() -> None:
                kept.append(await ref.write(batch(2, {}, agent="stall"), ONE))

            nursery.start_soon(killed)
            nursery.start_soon(survives)
            await trio.testing.wait_all_tasks_blocked()
            victim = ref.child("1/shop")
            assert victim is not None
            neighbour = ref.child("1/stall")
            victim._cell.kill()
            await victim.wait_stopped()
            gate.opened.set()
            await trio.testing.wait_all_tasks_blocked()
            assert (ended, kept) == ([ActorDeadError], [Written(1, 0)])
            assert ref.child("1/stall") is neighbour
            assert await ref.write(batch(1, {}), ONE) == Written(1, 0), "its program sends it again"

    run(main)


def test_batches_of_one_come_one_after_another_and_who_sends_more_waits() -> None:
    async def main() -> None:
        gate = Gate("shop")
        async with sources(gate.write) as ref, trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ref.write, batch(number, {}), ONE)
                await trio.testing.wait_all_tasks_blocked()
            (facts,) = ref.facts(None)
            assert gate.begun == ["shop"], "one at a time"
            assert facts["waiting"] == 9, "the mailbox and the one that is written: the others wait outside"
            assert await ref.write(batch(99, {}, agent="stall"), ONE) == Written(1, 0), "and nobody else does"
            gate.opened.set()
        assert gate.order == [99, *range(30)], "in the order in which they came"

    run(main)


def test_what_the_store_refuses_is_told_and_ends_nobody() -> None:
    async def refuses(_made: Batch, _origin: Origin) -> Written:
        raise apsw.FullError("disk full")

    async def main() -> None:
        async with sources(refuses) as ref:
            for _ in range(3):
                with pytest.raises(Reject, match="disk full"):
                    await ref.write(batch(1, {}), ONE)
            (facts,) = ref.facts(None)
            assert (facts["batches"], facts["waiting"]) == (0, 0)

    run(main)


def test_when_there_are_too_many_the_longest_silent_one_makes_room() -> None:
    async def main() -> None:
        gate = Gate("busy")
        async with sources(gate.write, most=3) as ref, trio.open_nursery() as nursery:
            nursery.start_soon(ref.write, batch(0, {}, agent="busy"), ONE)
            for second, agent in enumerate(("one", "two", "one", "three", "four")):
                await trio.sleep(1)
                await ref.write(batch(second, {}, agent=agent), ONE)
            assert {facts["agent"] for facts in ref.facts(None)} == {"busy", "three", "four"}
            gate.opened.set()

    run_virtual(main)


def test_when_all_have_something_to_do_a_further_one_is_asked_to_come_again() -> None:
    async def main() -> None:
        gate = Gate("one", "two")
        async with sources(gate.write, most=2) as ref, trio.open_nursery() as nursery:
            for agent in ("one", "two"):
                nursery.start_soon(ref.write, batch(1, {}, agent=agent), ONE)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Refused) as refused:
                await ref.write(batch(2, {}, agent="three"), ONE)
            assert refused.value.code == "overloaded"
            gate.opened.set()

    run(main)


def test_one_that_was_silent_for_long_retires_and_no_other() -> None:
    async def main() -> None:
        async with sources(stored) as ref:
            await ref.write(batch(1, {}), ONE)
            await trio.sleep(200)
            await ref.write(batch(2, {}, agent="stall"), ONE)
            await trio.sleep(200)
            assert [facts["agent"] for facts in ref.facts(None)] == ["stall"]
            await trio.sleep(200)
            assert ref.facts(None) == []
            assert await ref.write(batch(1, {}), ONE) == Written(1, 0)

    run_virtual(main)


def test_what_a_killed_source_had_stored_but_not_acknowledged_is_a_repetition_when_it_comes_again(
    tmp_path: Path,
) -> None:
    store = EventStore(tmp_path / "events.db")

    async def main() -> None:
        monitor = Monitor(store=store)
        held = trio.Event()
        wrote = trio.Event()

        async def write(made: Batch, origin: Origin) -> Written:
            written = await monitor.write(made, origin)
            wrote.set()
            await held.wait()
            return written

        async with sources(write) as ref, trio.open_nursery() as nursery:

            async def killed() -> None:
                with pytest.raises(ActorDeadError):
                    await ref.write(batch(1, {}, {}), ONE)

            nursery.start_soon(killed)
            await wrote.wait()
            victim = ref.child("1/shop")
            assert victim is not None
            victim._cell.kill()
            await victim.wait_stopped()
            held.set()
            assert await ref.write(batch(1, {}, {}), ONE) == Written(0, 2)

    run(main)
    assert store.write([(Inspected(batch(1, {}, {})), ONE)]) == [Written(0, 2)]
    store.close()


def test_in_the_daemon_a_killed_supervisor_of_sources_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await tree.parts.sources.get().write(batch(1, {}), ONE)
            (path,) = [info.path for info in tree.system.walk() if info.actor_class == "Sources"]
            assert path == "root/extras/sources", "whose children no report names to other users"
            await tree.kill("Sources")
            assert await tree.parts.sources.get().write(batch(1, {}, {}), ONE) == Written(1, 1)
            async with tree.http() as http:
                sources = (await http.get("/v1/monitor/sources")).json()["items"]
            assert [(one["agent"], one["stored"], one["duplicates"]) for one in sources] == [("shop", 1, 1)]

    run(main)


def health(seq: int, told: int = 0, unjudged: int = 0) -> dict[str, Any]:
    """What a run tells of itself, and what it had told before."""
    data = {"dropped": 2 * unjudged, "policy": {"unjudged": unjudged}, "spool_bytes": 100 * unjudged}
    said = {"dropped": 2 * told, "unjudged": told}
    time_us = time.time_ns() // 1000
    return {"seq": seq, "name": "monitoring_health", "data": {**data, "told": said}, "time_us": time_us}


async def page_of(tree: Tree) -> str:
    async with tree.http() as http:
        return (await http.get("/metrics")).text


def value_of(page: str, name: str) -> float:
    (found,) = re.findall(rf"^{re.escape(name)} (.*)$", page, re.MULTILINE)
    return float(found)


def test_what_waits_is_on_the_daemons_page_while_it_does_and_not_when_all_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            monitor, sources = await tree.parts.monitor.wait(), tree.parts.sources.get()

            async def waiting() -> float:
                return value_of(await page_of(tree), "skilld_monitor_waiting_batches")

            await sources.write(batch(0, {}), ONE)
            assert await waiting() == 0
            async with trio.open_nursery() as nursery, monitor._turn:  # somebody writes the file, for a long time
                for run in range(1, 4):
                    nursery.start_soon(sources.write, batch(run, {}), ONE)
                with trio.fail_after(20):
                    while await waiting() < 3 or not monitor._waiting:  # noqa: ASYNC110  # it is looked into in a thread
                        await trio.sleep(0.01)
                assert await waiting() == 3
            assert await waiting() == 0

    run(main)


def test_what_programs_tell_of_themselves_is_on_the_daemons_page_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            sources = tree.parts.sources.get()
            await sources.write(batch(1, health(1, unjudged=3)), ONE)
            await sources.write(batch(1, health(1, unjudged=3), health(3, told=4, unjudged=5)), ONE)
            await sources.write(batch(2, health(1, unjudged=1)), ONE)
            await sources.write(batch(1, health(2, told=3, unjudged=4)), OTHER)
            await tree.kill("Sources")  # what it remembered is gone
            sources = tree.parts.sources.get()
            await sources.write(batch(1, health(3, told=4, unjudged=5), health(4, told=5, unjudged=7)), ONE)
            page = await page_of(tree)
            assert value_of(page, 'skilld_monitor_policy_calls_total{outcome="unjudged"}') == 5 + 1 + 1 + 2
            assert value_of(page, 'skilld_monitor_policy_calls_total{outcome="blocked"}') == 0
            assert value_of(page, "skilld_monitor_client_dropped_total") == 18
            assert value_of(page, "skilld_monitor_client_spooled_total") == 0
            assert value_of(page, "skilld_monitor_client_spool_bytes") == 700

    run(main)


def test_a_program_whose_calls_slip_past_its_policy_is_seen_on_the_daemons_page(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    path = policy_file(tmp_path / "home", "block")
    text = (
        "import skilld_monitor\n"
        f"skilld_monitor.enable_monitoring('shop', policy_file={path!r})\n"
        "@skilld_monitor.tool\n"
        "def read(lines): return list(lines)\n"
        "for n in range(4): read(iter(['secret']))\n"
        "try: read(['secret'])\n"
        "except skilld_monitor.BlockedError: pass\n"
    )

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await tree.parts.monitor.wait()
            env = {"SKILLD_MONITOR_SOCKET": str(tree.parts.config.daemon.socket.with_name("monitor.sock"))}
            done = await trio.to_thread.run_sync(partial(run_program, text, tmp_path / "home", env=env))
            assert (done.returncode, done.stderr) == (0, "")
            page = await page_of(tree)
            calls = "skilld_monitor_policy_calls_total"
            assert value_of(page, f'{calls}{{outcome="unjudged"}}') == 4
            assert value_of(page, f'{calls}{{outcome="blocked"}}') == 1

    run(main)
