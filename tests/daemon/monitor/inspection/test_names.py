"""What programs call themselves may be a secret too: it is shown nowhere as it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from monitor_event_kit import ME, NOW_US, batch, chat
from skill_actors.models.prices import PriceTable
from skilld.config import MonitorConfig
from skilld.monitor.batch import Batch
from skilld.monitor.inspected import NO_POLICY, Inspected, Origin
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.inspector import Inspector
from skilld.monitor.monitor import Monitor
from skilld.monitor.store import EventStore
from support import run
from tree_kit import Tree, open_tree

KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's


async def report(tree: Tree, agent: str) -> bytes:
    """One event over the ingest socket; the answer."""
    event = {"seq": 1, "time_us": NOW_US, "name": "x", "level": "INFO"}
    said = {"batch": 1, "run": "ab" * 16, "agent": agent, "pid": 1, "events": [event]}
    async with await trio.open_unix_socket(tree.parts.config.daemon.socket.with_name("monitor.sock")) as stream:
        await stream.send_all(json.dumps(said).encode() + b"\n")
        return bytes(await stream.receive_some(10_000))


def test_the_source_of_a_program_has_no_secret_in_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            assert b'"ack": 1' in await report(tree, f"agent of {KEY}")
            async with tree.http() as http:
                (source,) = (await http.get("/v1/monitor/sources")).json()["items"]
            assert source["agent"].startswith("agent of ")
            assert KEY not in source["agent"]
            assert KEY not in repr([child.id for child in tree.parts.sources.get().which_children()])

    run(main)


def quarantined(folder: Path, monitor: dict[str, Any], made: Batch) -> bytes:
    """What is in the folder of the store when a batch was kept by it."""
    store = EventStore(folder / "events.db")

    async def main() -> None:
        written = await Monitor(store=store, **monitor).write(made, ME)
        assert written.quarantined == 1

    trio.run(main)
    store.close()
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_what_is_stored_beside_an_event_that_cannot_be_priced_was_looked_at(tmp_path: Path) -> None:
    def no_prices() -> PriceTable:
        raise KeyError("a model")

    inspection = Inspector(RuleBook(), MonitorConfig)
    made = replace(batch(1, {}, {**chat("cd"), "channel": KEY}, agent=KEY), program=f"/bin/{KEY}", environment=KEY)
    raw = quarantined(tmp_path, {"inspection": inspection, "prices": no_prices}, made)
    assert b"could not be looked into" in raw
    assert KEY.encode() not in raw


class _Blind:
    """Looks at nothing, and says so."""

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        raise RuntimeError

    def policy_for(self, uid: int, agent: str) -> Mapping[str, Any]:
        return NO_POLICY


def test_of_what_nobody_could_look_at_no_name_is_noted(tmp_path: Path) -> None:
    raw = quarantined(tmp_path, {"inspection": _Blind()}, batch(1, {"name": KEY, "channel": KEY}, agent=KEY))
    assert b"could not be looked into" in raw
    assert KEY.encode() not in raw
