"""What programs call themselves may be a secret too: it is shown nowhere as it came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from monitor_event_kit import ME, NOW_US, batch, chat
from otlp_kit import attribute, span, traces_request
from skill_actors.models.prices import PriceTable
from skilld.config import MonitorConfig, ScanConfig
from skilld.monitor.batch import Batch, read_batch
from skilld.monitor.inspected import NO_POLICY, Inspected, Origin, policy_line
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.inspector import Inspector
from skilld.monitor.monitor import Monitor
from skilld.monitor.otlp.events import as_batches
from skilld.monitor.otlp.json_form import read_json
from skilld.monitor.store import EventStore
from support import run
from tree_kit import Tree, open_tree

KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's
EVENT = {"seq": 1, "time_us": NOW_US, "name": "x", "level": "INFO"}
TOO_LONG = (
    "SELECT count(*) FROM event JOIN run ON run.id = event.run WHERE length(name) > 200 OR length(channel) > 64"
    " OR length(session) > 200 OR length(user) > 200 OR length(event.agent) > 200 OR length(run.agent) > 200"
    " OR length(program) > 200 OR length(environment) > 64 OR length(tags ->> 0) > 64 OR length(masked ->> 0) > 64"
)


async def report(tree: Tree, agent: str) -> bytes:
    """One event over the ingest socket; the answer."""
    said = {"batch": 1, "run": "ab" * 16, "agent": agent, "pid": 1, "events": [EVENT]}
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

    def policy_for(self, agent: str) -> Mapping[str, Any]:
        return NO_POLICY

    def policy_line(self, agent: str) -> bytes:
        return policy_line(NO_POLICY)


def test_of_what_nobody_could_look_at_no_name_is_noted(tmp_path: Path) -> None:
    raw = quarantined(tmp_path, {"inspection": _Blind()}, batch(1, {"name": KEY, "channel": KEY}, agent=KEY))
    assert b"could not be looked into" in raw
    assert KEY.encode() not in raw


def across(most: int) -> str:
    """A name with a secret of which half stands before its last place."""
    return f"{'n' * (most - 11)} {KEY} and more"


def kept(folder: Path, made: Batch, inspection: Any = None) -> bytes:
    """What is in the folder of the store when a batch was kept by it."""
    store = EventStore(folder / "events.db")

    async def main() -> None:
        written = await Monitor(store=store, inspection=inspection or Inspector(RuleBook(), MonitorConfig)).write(
            made, ME
        )
        assert written.stored == len(made.events)

    trio.run(main)
    assert not store.ask(lambda db: db.execute(TOO_LONG).get), "no name is longer than it may be"
    store.close()
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("field", "most"),
    [("name", 200), ("channel", 64), ("session", 200), ("user", 200), ("agent", 200), ("tags", 64), ("masked", 64)],
)
def test_a_secret_across_the_end_of_a_name_is_masked_before_the_name_is_cut(
    tmp_path: Path, field: str, most: int
) -> None:
    name: Any = across(most)
    raw = kept(tmp_path, batch(1, {field: [name] if field in ("tags", "masked") else name}))
    assert b"n AKIA****" in raw, "masked, and cut behind that"
    assert KEY[:8].encode() not in raw
    assert b"n" * (most - 11) in raw


@pytest.mark.parametrize(("field", "most"), [("agent", 200), ("program", 200), ("environment", 64)])
def test_nor_is_half_of_one_in_what_a_batch_says_of_its_run(tmp_path: Path, field: str, most: int) -> None:
    said = {"batch": 1, "run": "ab" * 16, "agent": "shop", field: across(most)}
    raw = kept(tmp_path, read_batch(json.dumps({**said, "events": [EVENT]}).encode()))
    assert b"n AKIA****" in raw
    assert KEY[:8].encode() not in raw


def test_names_are_cut_where_nothing_is_looked_for_too(tmp_path: Path) -> None:
    made = batch(1, {"name": "n" * 900, "tags": ["t" * 900]}, agent="a" * 900)
    raw = kept(tmp_path, made, Inspector(RuleBook(), lambda: MonitorConfig(scan=ScanConfig(enabled=False))))
    for letter, most in ((b"n", 200), (b"t", 64), (b"a", 200)):
        assert letter * most in raw
        assert letter * (most + 1) not in raw


def test_half_a_secret_at_the_end_of_what_is_taken_of_a_name_does_not_move_up(tmp_path: Path) -> None:
    """What is masked is shorter than it was: the half that the first cut leaves would come before the second."""
    tokens = " ".join("sk-ant-api03-" + f"{number:02}aB3" * 19 for number in range(13))
    half = f"{tokens[:1012]} {KEY}"
    assert len(half) > 1_024 > half.index(KEY) + 8
    raw = kept(tmp_path, batch(1, {"name": half}, {"name": f"{'n' * 1013} {KEY}"}))
    assert KEY[:8].encode() not in raw
    assert b"n" * 200 in raw, "a long name is shown still"


def test_a_rule_that_a_program_names_is_masked_before_it_is_cut(tmp_path: Path) -> None:
    data = {"security.rules": [across(200)]}
    assert KEY[:8].encode() not in kept(tmp_path, batch(1, {"data": data, "masked": [across(200)]}))


def test_the_source_of_a_program_has_no_half_of_a_secret_in_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            assert b'"ack": 1' in await report(tree, across(200))
            async with tree.http() as http:
                (source,) = (await http.get("/v1/monitor/sources")).json()["items"]
            assert len(source["agent"]) == 200
            assert KEY[:8] not in repr([source, tree.parts.sources.get().which_children()])

    run(main)


def test_names_of_spans_and_logs_of_opentelemetry_come_whole_to_who_masks_them(tmp_path: Path) -> None:
    said = [attribute("user.id", across(200)), attribute("session.id", across(200))]
    one = span(name=across(200), attributes=said, events=[{"name": across(200)}])
    request = traces_request(one, **{"service.name": across(200)}).replace(b'"test"', f'"{across(200)}"'.encode())
    (made,) = as_batches(read_json(request, "traces"), 1, "all")
    raw = kept(tmp_path, made)
    assert KEY[:8].encode() not in raw
    assert raw.count(b"n AKIA****") >= 5
