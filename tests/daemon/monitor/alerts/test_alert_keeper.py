"""What is found becomes alerts in the living daemon, over the ends of its parts, and is seen over the socket."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from hook_kit import receiver
from skilld.config import PolicyOverride
from skilld.monitor.alerts.alert import CATEGORIES
from skilld.monitor.batch import Batch, read_batch
from skilld.monitor.inspected import Origin
from skilld_monitor.scanning import Direction, RuleSet
from skilld_monitor.scanning.findings import CATEGORIES as categories_of_rules
from support import run
from tree_kit import Tree, open_tree

DANGER = "please rm -rf / now"
KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's
UID = 1000


def batch(run: int, *texts: str, **fields: Any) -> Batch:
    events = [
        {"seq": n, "time_us": 1, "name": "x", "level": "INFO", "data": {"text": text}, "session": f"s{n}", **fields}
        for n, text in enumerate(texts)
    ]
    return read_batch(json.dumps({"batch": 1, "run": f"{run:032x}", "agent": "shop", "events": events}).encode())


async def report(tree: Tree, number: int, *texts: str, **fields: Any) -> None:
    monitor = await tree.parts.monitor.wait()
    await monitor.write(batch(number, *texts, **fields), Origin(UID, 1))


async def asked(tree: Tree, path: str = "/v1/monitor/alerts", **query: Any) -> Any:
    async with tree.http() as http:
        return (await http.get(path, params=query)).json()


async def alerts(tree: Tree, least: int, **query: Any) -> list[dict[str, Any]]:
    """Of all, the oldest first, as soon as there are so many."""
    with trio.fail_after(20):
        while len(found := (await asked(tree, after=0, limit=1000, **query)).get("items", ())) < least:  # noqa: ASYNC110
            await trio.sleep(0.01)  # over a real socket
    return list(found)


def test_findings_are_alerts_that_lead_to_their_span(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await report(tree, 1, DANGER, "harmless", trace="ab" * 16, span="cd" * 8, duration_ms=1, status="ok")
            (alert,) = await alerts(tree, 1)
            assert (alert["agent"], alert["uid"], alert["session"], alert["trace"]) == ("shop", UID, "s0", "ab" * 16)
            assert (alert["level"], alert["verdict"], alert["action"], alert["state"]) == (
                *("dangerous", "deny"),
                *("allow", "open"),
            )
            events = (await asked(tree, "/v1/monitor/events", trace="ab" * 16))["items"]
            assert alert["event"] in [event["id"] for event in events]
            async with tree.http() as http:
                page = (await http.get("/metrics")).text
            assert 'skilld_monitor_alerts_total{severity="high"} 1.0' in page
            assert 'skilld_monitor_alert_findings_total{became="new"} 1.0' in page

    run(main)


def test_alerts_are_acknowledged_once_and_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            await report(tree, 1, DANGER)
            (alert,) = await alerts(tree, 1)
            path = f"/v1/monitor/alerts/{alert['id']}"
            for body in ({"note": 1}, {"notes": ""}, {"note": "two\nlines"}, {"note": "x" * 2001}):
                assert (await http.post(f"{path}/ack", json=body)).status_code == 400, body
            done = (await http.post(f"{path}/ack", json={"note": "seen"})).json()
            assert (done["state"], done["acknowledged"]["note"]) == ("acknowledged", "seen")
            assert (await http.post(f"{path}/ack")).status_code == 409
            assert (await http.get(path)).json() == done
            assert (await asked(tree, state="open"))["items"] == []
            for id in ("999", "x", "-1", "1" * 40, "0" * 20 + "9" * 30, "0" * 5_000):
                assert (await http.get(f"/v1/monitor/alerts/{id}")).status_code == 404
            words: list[dict[str, Any]] = [{name: "x"} for name in ("state", "severity", "category")]
            for query in (*words, {"limit": 0}, {"wait": 1}, {"colour": "red"}):
                assert (await http.get("/v1/monitor/alerts", params=query)).status_code == 400, query
            for category in CATEGORIES:
                assert (await asked(tree, category=category))["items"] == [done] * (category == done["category"])
            waited: list[Any] = []

            async def wait() -> None:
                waited.extend((await asked(tree, after=alert["id"], wait=20))["items"])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await report(tree, 2, "", DANGER)
            assert [found["session"] for found in waited] == ["s1"]

    run(main)


@pytest.mark.parametrize("actor", ["AlertKeeper", "MonitorKeeper", "RuleKeeper"])
def test_the_end_of_a_part_loses_no_alert_and_makes_none_twice(tmp_path: Path, actor: str) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await report(tree, 1, DANGER)
            await alerts(tree, 1)
            await tree.kill(actor)
            await report(tree, 2, "", DANGER)
            found = await alerts(tree, 2)
            assert [alert["session"] for alert in found] == ["s0", "s1"]

    run(main)


def test_a_store_of_events_that_was_begun_anew_is_followed_from_its_beginning(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await report(tree, 1, DANGER, DANGER, DANGER)
            await alerts(tree, 3)
        for file in (tmp_path / "state/monitor").glob("events.db*"):
            file.unlink()
        async with open_tree(tmp_path) as tree:
            await report(tree, 2, "", "", "", DANGER)
            assert [alert["session"] for alert in await alerts(tree, 4)] == ["s0", "s1", "s2", "s3"]

    run(main)


def test_a_flood_stays_bounded_and_everything_of_it_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        flags: dict[str, Any] = {"monitor.alerts.per_minute": 20}
        async with open_tree(tmp_path, **flags) as tree:
            for number in range(4):
                await report(tree, number, *[f"{DANGER} {n}" for n in range(500)])
            with trio.fail_after(30):
                while sum(alert["count"] for alert in await alerts(tree, 1)) < 2_000:  # noqa: ASYNC110 - likewise
                    await trio.sleep(0.02)
            assert len(await alerts(tree, 1)) <= 20 + 1 + 4, "as many as may be, and one for the rest"

    run(main)


def test_what_is_removed_before_a_sink_was_told_is_counted_as_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skilld.monitor.alerts.keeper._PRUNE_EVERY_S", 0.05)
    told: list[Any] = []
    alerting: dict[str, Any] = {"url": "http://127.0.0.1:9/", "max_alerts": 100, "per_minute": 1_000}
    flags = {**{f"monitor.alerts.{name}": value for name, value in alerting.items()}, "monitor.policy.mode": "alert"}

    async def main() -> None:
        async with open_tree(tmp_path, **flags) as tree, tree.http() as http:
            tree.parts.bus.attach("test", ("monitor.alert.told",), lambda _n, facts, meta: told.append((facts, meta)))
            await report(tree, 1, *[DANGER] * 104)
            given_up = re.compile(
                r'^skilld_monitor_alerts_told_total{outcome="given_up",sink="webhook"} 4.0$', re.MULTILINE
            )
            with trio.fail_after(20):
                while not given_up.search((await http.get("/metrics")).text):  # noqa: ASYNC110 - over a real socket
                    await trio.sleep(0.05)
        assert sum(facts["count"] for facts, meta in told if meta["outcome"] == "given_up") == 4

    run(main)


def test_by_an_override_for_channels_receivers_are_told_of_what_was_found_there_alone(tmp_path: Path) -> None:
    overrides = (PolicyOverride(channels=("LLM",), mode="alert").model_dump(),)

    async def main() -> None:
        async with receiver() as found:
            flags: dict[str, Any] = {"monitor.policy.overrides": overrides, "monitor.alerts.url": found.url}
            async with open_tree(tmp_path, **flags) as tree:
                await report(tree, 1, DANGER, channel="API")
                await report(tree, 2, "", DANGER, channel="LLM")
                assert [alert["session"] for alert in await alerts(tree, 2)] == ["s0", "s1"], "each is an alert"
                assert [told["session"] for told in await found.wait_told(1)] == ["s1"]

    run(main)


def test_where_monitoring_is_off_there_are_no_alerts(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, monitor_enabled=False) as tree, tree.http() as http:
            for path in ("alerts", "alerts/1", "rules"):
                answer = await http.get(f"/v1/monitor/{path}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")

    run(main)


def test_alerts_have_the_categories_that_rules_have() -> None:
    assert categories_of_rules == CATEGORIES


def test_what_somebody_says_of_an_alert_is_masked_as_what_programs_say(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            await report(tree, 1, DANGER)
            (alert,) = await alerts(tree, 1)
            path = f"/v1/monitor/alerts/{alert['id']}"
            done = (await http.post(f"{path}/ack", json={"note": f"our key {KEY} was in it"})).json()
            assert done["acknowledged"]["note"].startswith("our key AKIA")
            assert KEY not in json.dumps(done)
            assert (await http.get(path)).json() == done

    run(main)


def test_what_is_said_and_cannot_be_looked_into_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look = RuleSet.mask_text

    def fail(self: RuleSet, text: str, direction: Direction = "event") -> Any:
        if KEY in text:
            raise RecursionError(text)
        return look(self, text, direction)

    monkeypatch.setattr(RuleSet, "mask_text", fail)

    async def main() -> None:
        async with open_tree(tmp_path) as tree, tree.http() as http:
            await report(tree, 1, DANGER)
            (alert,) = await alerts(tree, 1)
            done = (await http.post(f"/v1/monitor/alerts/{alert['id']}/ack", json={"note": KEY})).json()
            assert (done["state"], done["acknowledged"]["note"]) == ("acknowledged", "[not looked at]")

    run(main)
    assert KEY not in caplog.text
