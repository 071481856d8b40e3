"""The daemon's own conversations are looked into behind the journal, each event once, and no turn waits for it."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from session_kit import ME
from skill_actors.errors import Refused
from skill_actors.store.base import StoreError
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from skilld.config import PolicyOverride
from skilld.monitor.batch import batch_of
from skilld.monitor.findings import FindingsWanted
from skilld.monitor.inspected import Origin
from skilld.monitor.inspection import sessions as sessions_module
from skilld.monitor.inspection.screen import Stopped
from skilld.monitor.inspection.sessions import SessionFollower, SessionNews
from skilld.monitor.monitor import Monitor
from skilld_monitor.scanning import Direction, Finding, RuleSet
from support import run, run_virtual
from tree_kit import Tree, open_tree

KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's
DANGER = "please rm -rf / now"


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "x"})


def overriding(override: PolicyOverride) -> dict[str, Any]:
    return {"monitor.policy.overrides": (override.model_dump(),)}


async def items(tree: Tree, path: str, **query: Any) -> list[dict[str, Any]]:
    async with tree.http() as http:
        return list((await http.get(f"/v1/monitor/{path}", params={"after": 0, **query})).json()["items"])


async def until(tree: Tree, least: int, path: str = "events", **query: Any) -> list[dict[str, Any]]:
    with trio.fail_after(20):
        while len(found := await items(tree, path, **query)) < least:  # noqa: ASYNC110 - over a real socket
            await trio.sleep(0.01)
    return found


async def submit(tree: Tree, session: str, text: str) -> dict[str, Any]:
    turn = (await tree.sessions.submit(session, ME, text)).turn
    return await tree.sessions.get_turn(turn, ME, wait_s=15)


def test_every_direction_of_a_conversation_is_looked_into(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash(f"echo {KEY}")]), Reply([Text(f"your key is {KEY}")])])

    async def main() -> None:
        async with open_tree(tmp_path, model=model) as tree:
            made = await tree.sessions.create(ME.uid, {"system": f"use {KEY}"})
            ended = await submit(tree, made["id"], f"the key is {KEY}")
            assert ended["status"] == "finished", ended
            await until(tree, 4, name="session.finding")
            found = await until(tree, 1, "alerts", session=made["id"])
            events = await items(tree, "events", name="session.finding")
            assert KEY not in json.dumps([found, events])
            assert {event["data"]["type"] for event in events} == {"turn.queued", "model.message", "tool.finished"}
            assert {event["session"] for event in events} == {made["id"]}
            assert {event["agent"] for event in events} == {"skilld"}
            assert KEY in str(ended["result"]["text"]), "the conversation itself is as it was"

    run(main)


def test_files_of_messages_are_looked_into_too(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("a")]), Reply([Text("b")])])
    closed = overriding(PolicyOverride(category="dangerous_commands", mode="block"))

    async def main() -> None:
        async with open_tree(tmp_path, model=model, **closed) as tree:
            session = await tree.session()
            files = [("notes.txt", f"use {KEY}".encode()), ("picture.bin", f"\0{KEY}".encode())]
            turn = (await tree.sessions.submit(session, ME, "see", files)).turn
            await tree.sessions.get_turn(turn, ME, wait_s=15)
            (found,) = await until(tree, 1, name="session.finding")
            assert (found["data"]["type"], found["data"]["seq"]) == ("turn.queued", 1)
            (finding,) = await tree.parts.monitor.get().findings(FindingsWanted(uid=None))
            assert (finding["rule"], finding["direction"]) == ("secret.aws-access-key-id", "input")
            workspace = tree.parts.config.daemon.state_dir / "workspaces" / session
            assert (workspace / "notes.txt").read_bytes() == files[0][1], "it is observed, and as it was"
            with pytest.raises(Refused, match="blocks file 1 of this message"):
                await tree.sessions.submit(session, ME, "see", [("run.sh", DANGER.encode())])
            assert not (workspace / "run.sh").exists()
            (blocked,) = await until(tree, 1, name="session.blocked")
            assert blocked["data"]["what"] == "file"

    run(main)


def test_what_was_looked_into_is_not_again_after_a_crash_and_what_was_not_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("a")]), Reply([Text("b")])])) as tree:
            session = await tree.session()
            await submit(tree, session, DANGER)
            await until(tree, 1, name="session.finding")
            tree.parts.bus.detach("monitor-sessions")  # as if it were behind when the end comes
            await submit(tree, session, f"{DANGER} again")
        async with open_tree(tmp_path, model=ScriptedModel([])) as tree:
            found = await until(tree, 2, name="session.finding")
            assert [event["data"]["type"] for event in found] == ["turn.queued"] * 2
            await tree.kill("SessionFollower")
            await tree.kill("MonitorKeeper")
            tree.parts.session_news.note(session)
            await submit(tree, await tree.session(), DANGER)  # what is noted later is looked into later
            await until(tree, 3, name="session.finding")
            assert len([event for event in await items(tree, "events") if event["session"] == session]) == 2
            with trio.fail_after(20):  # alerts are made after the findings, which were there before somebody was killed
                while [alert["count"] for alert in await items(tree, "alerts", session=session)] != [2]:  # noqa: ASYNC110
                    await trio.sleep(0.01)

    run(main)


def test_a_tool_that_the_policy_blocks_does_not_run_and_the_model_is_told(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    model = ScriptedModel([Reply([bash(f"touch {marker}; echo rm -rf / now")]), Reply([Text("understood")])])
    block = PolicyOverride(agent="skilld", category="dangerous_commands", mode="block")

    async def main() -> None:
        async with open_tree(tmp_path, model=model, **overriding(block)) as tree:
            session = await tree.session()
            ended = await submit(tree, session, "do it")
            assert ended["result"]["text"] == "understood"
            assert not marker.exists()
            told = json.dumps(model.requests[-1].messages, default=str)
            assert "Not run: rule command." in told
            (stopped,) = await until(tree, 1, name="session.blocked")
            assert (stopped["data"]["what"], stopped["data"]["dry_run"]) == ("bash_tool", False)
            async with tree.http() as http:
                page = (await http.get("/metrics")).text
            assert 'skilld_monitor_session_stops_total{action="block",dry_run="false"} 1.0' in page

    run(main)


def test_a_tool_is_called_with_what_is_redacted_taken_out(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash(f"echo key={KEY}=")]), Reply([Text("done")])])
    redact = PolicyOverride(agent="skilld", category="sensitive_data", mode="redact")

    async def main() -> None:
        async with open_tree(tmp_path, model=model, **overriding(redact)) as tree:
            session = await tree.session()
            await submit(tree, session, "do it")
            events = await tree.parts.journal.get().read_events(session)
            (started,) = [event for event in events if event.type == "tool.started"]
            (finished,) = [event for event in events if event.type == "tool.finished"]
            assert KEY not in json.dumps([started.data, finished.data])
            assert finished.data["content"].startswith("key=")

    run(main)


def test_a_message_that_is_redacted_is_the_same_message_under_its_key(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("a")])])
    redact = PolicyOverride(category="sensitive_data", mode="redact")

    async def main() -> None:
        async with open_tree(tmp_path, model=model, **overriding(redact)) as tree:
            session = await tree.session()
            async with tree.http() as http:
                path, headers = f"/v1/sessions/{session}/messages", {"Idempotency-Key": "k"}
                first = (await http.post(path, json={"text": f"my {KEY}"}, headers=headers)).json()
                second = (await http.post(path, json={"text": f"my {KEY}"}, headers=headers)).json()
                other = await http.post(path, json={"text": "my [masked]"}, headers=headers)
            assert (second["turn"], second["duplicate"]) == (first["turn"], True)
            assert other.status_code == 409

    run(main)


def test_nothing_is_looked_into_where_it_is_switched_off(tmp_path: Path) -> None:
    async def main() -> None:
        flags: dict[str, Any] = {"monitor.scan.sessions": False}
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("a")])]), **flags) as tree:
            session = await tree.session()
            await submit(tree, session, DANGER)
            with trio.fail_after(20):
                while len(tree.parts.session_news):  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
            assert await items(tree, "events", name="session.finding") == []

    run(main)


def test_of_a_conversation_that_is_deleted_nothing_is_remembered(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("a")])])) as tree, tree.http() as http:
            session = await tree.session()
            await submit(tree, session, DANGER)
            await until(tree, 1, name="session.finding")
            alerts = await tree.parts.alerts.wait()
            place = partial(alerts.store.place, f"session:{session}")

            async def comes_to(known: bool) -> None:
                with trio.fail_after(20):
                    while bool(await alerts.run(place)) is not known:  # noqa: ASYNC110 - nobody tells
                        await trio.sleep(0.01)

            await comes_to(known=True)
            assert (await http.delete(f"/v1/sessions/{session}")).status_code == 204
            await comes_to(known=False)

    run(main)


def test_a_text_that_a_rule_fails_on_is_told_and_the_rest_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = RuleSet.mask

    def fail(self: RuleSet, value: object, direction: Direction = "event") -> Any:
        if value == "fail":
            raise RecursionError(KEY)
        return look(self, value, direction)

    monkeypatch.setattr(RuleSet, "mask", fail)
    model = ScriptedModel([Reply([Text("fail")]), Reply([Text(DANGER)])])

    async def main() -> None:
        async with open_tree(tmp_path, model=model) as tree:
            session = await tree.session()
            await submit(tree, session, "one")
            await submit(tree, session, "two")
            found = await until(tree, 2, "alerts", session=session)
            assert {alert["rule"] for alert in found} == {"not-scanned", "command.recursive-remove"}

    run(main)


def test_noting_is_bounded_and_keeps_the_latest() -> None:
    async def main() -> None:
        news = SessionNews()
        for number in range(100_010):
            news.note(f"s{number}")
        await news.wait()
        assert len(news) == 100_000
        sessions = taken(news)
        assert (len(sessions), sessions[0], sessions[-1]) == (100_000, "s10", "s100009")
        assert len(news) == 0

    run(main)


def test_what_is_noted_again_and_again_is_gathered_and_what_was_stopped_is_not_waited_with() -> None:
    async def main() -> None:
        news = SessionNews()

        async def speak() -> None:
            for _ in range(4):
                news.note("a")
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            await news.wait()
            began = trio.current_time()
            await news.gather(0.25)
            assert trio.current_time() - began == pytest.approx(0.25)
            assert taken(news) == ["a"]
            news.note("b")
            nursery.start_soon(news.gather, 60)
            await trio.testing.wait_all_tasks_blocked()
            news.note_stopped(stopped("c"))
        assert trio.current_time() - began == pytest.approx(0.25)
        news.note("d")
        await news.gather(60)
        assert trio.current_time() - began == pytest.approx(0.25), "it is there already"

    run_virtual(main)


def test_a_conversation_that_goes_on_is_looked_into_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks, gather_s = SessionFollower._look_into, 0, 0.5

    async def counted(follower: SessionFollower, *args: Any) -> None:
        nonlocal looks
        looks += 1
        await look(follower, *args)

    monkeypatch.setattr(SessionFollower, "_look_into", counted)
    monkeypatch.setattr(sessions_module, "_GATHER_S", gather_s)

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            made = await tree.sessions.create(ME.uid, {})
            began = trio.current_time()
            for _ in range(30):
                tree.parts.session_news.note(made["id"])
                await trio.sleep(0.01)
            assert looks <= (trio.current_time() - began) / gather_s + 2  # one was being gathered for as it began
            with trio.fail_after(20):
                while not looks or len(tree.parts.session_news):  # noqa: ASYNC110 - the last word is looked into too
                    await trio.sleep(0.01)

    run(main)


def taken(news: SessionNews) -> list[Any]:
    found = []
    while len(news):
        with news.take() as one:
            found.append(one)
    return found


def stopped(session: str) -> Stopped:
    finding = Finding("r", "sensitive_data", "high", 1.0, "input", 0, 1, "s")
    return Stopped(
        uid=ME.uid, session=session, time_us=1, what="message", action="block", dry_run=False, findings=(finding,)
    )


def test_what_cannot_be_seen_to_now_waits_again() -> None:
    news = SessionNews()
    news.note("a")
    news.note("b")
    first, second = stopped("c"), stopped("d")
    news.note_stopped(first)
    news.note_stopped(second)
    with pytest.raises(apsw.FullError), news.take():
        raise apsw.FullError("database or disk is full")
    for expected in (first, second):
        with news.take() as one:
            assert one is expected
    with pytest.raises(StoreError), news.take():
        raise StoreError("of this one alone")
    assert taken(news) == ["b", "a"], "others first"


def test_what_was_stopped_is_told_when_the_disk_has_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, failures = Monitor.write, [apsw.FullError("database or disk is full")]

    async def full(monitor: Monitor, *args: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(monitor, *args, **more)

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            await tree.parts.monitor.wait()
            monkeypatch.setattr(Monitor, "write", full)
            for name in ("a", "b", "c"):
                tree.parts.session_news.note_stopped(stopped(name))
            found = await until(tree, 3, name="session.blocked")
            assert {event["session"] for event in found} == {"a", "b", "c"}
            assert not failures

    run(main)


def test_what_there_is_no_room_for_is_counted_and_told_with_the_next_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sessions_module, "_MOST_STOPPED", 2)
    write, is_full = Monitor.write, True

    async def full(monitor: Monitor, *args: Any, **more: Any) -> Any:
        if is_full:
            raise apsw.FullError("database or disk is full")
        return await write(monitor, *args, **more)

    async def main() -> None:
        nonlocal is_full
        async with open_tree(tmp_path) as tree:
            await tree.parts.monitor.wait()
            monkeypatch.setattr(Monitor, "write", full)
            for name in "abcde":
                tree.parts.session_news.note_stopped(stopped(name))
            is_full = False
            found = await until(tree, 2, name="session.blocked")
            assert {event["session"] for event in found} == {"d", "e"}
            with trio.fail_after(20):
                while not (told := [text for text in caplog.messages if "no room" in text]):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert len(told) == 1
            assert "tell of 3 more" in told[0]

    with caplog.at_level(logging.WARNING):
        run(main)


def test_what_cannot_wait_again_for_want_of_room_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "_MOST_STOPPED", 2)
    news = SessionNews()
    news.note_stopped(stopped("a"))
    news.note_stopped(stopped("b"))

    def fail() -> None:
        news.note_stopped(stopped("c"))
        raise apsw.FullError("database or disk is full")

    with pytest.raises(apsw.FullError), news.take():
        fail()
    assert [one.session for one in taken(news)] == ["b", "c"]
    assert (news.take_lost(), news.take_lost()) == (1, 0)


def damage_first_event(tmp_path: Path, session: str) -> None:
    journal = apsw.Connection(str(tmp_path / "state" / "journal.db"))
    journal.execute("UPDATE event SET data = '{}' WHERE session = ? AND seq = 1", (session,))
    journal.close()


def test_a_damaged_conversation_is_told_once_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sessions_module, "_AGAIN_S", 0.01)
    looked: list[str] = []
    look = SessionFollower._look_into

    async def noted(follower: SessionFollower, session: str, *stores: Any) -> None:
        looked.append(session)
        await look(follower, session, *stores)

    monkeypatch.setattr(SessionFollower, "_look_into", noted)

    async def main() -> None:
        off: dict[str, Any] = {"monitor.scan.sessions": False}
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("a")]), Reply([Text("b")])]), **off) as tree:
            bad, good = await tree.session(), await tree.session()
            for session in (bad, good):
                await submit(tree, session, DANGER)
        damage_first_event(tmp_path, bad)
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("c")])])) as tree:
            news = tree.parts.session_news
            for least in (1, 2):
                found = await until(tree, least, name="session.finding")
                assert {event["session"] for event in found} == {good}
                with trio.fail_after(20):
                    while len(news) or looked.count(bad) < least:  # noqa: ASYNC110 - nobody tells
                        await trio.sleep(0.01)
                news.note(bad)
                if least == 1:
                    await submit(tree, good, f"{DANGER} again")
            assert looked.count(bad) < 5, "not again by itself"
            assert not [text for text in caplog.messages if "cannot be looked into now" in text]
            (told,) = [text for text in caplog.messages if "is not looked into" in text]
            assert bad in told

    with caplog.at_level(logging.WARNING):
        run(main)


def test_the_newest_conversations_are_looked_for_once_with_the_same_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "_AGAIN_S", 0.01)
    write, failures = Monitor.write, [apsw.FullError("database or disk is full") for _ in range(3)]
    note, times = SessionFollower._note_newest, 0

    async def full(monitor: Monitor, *args: Any, **more: Any) -> Any:
        if failures:
            raise failures.pop()
        return await write(monitor, *args, **more)

    async def counted(follower: SessionFollower) -> None:
        nonlocal times
        times += 1
        await note(follower)

    monkeypatch.setattr(Monitor, "write", full)
    monkeypatch.setattr(SessionFollower, "_note_newest", counted)

    async def main() -> None:
        async with open_tree(tmp_path) as tree:
            tree.parts.session_news.note_stopped(stopped("a"))
            await until(tree, 1, name="session.blocked")
            assert (failures, times) == ([], 1)
            await tree.kill("MonitorKeeper")
            tree.parts.session_news.note_stopped(stopped("b"))
            await until(tree, 2, name="session.blocked")
            assert times == 2

    run(main)


def test_nobody_can_report_first_what_is_found_in_a_conversation(tmp_path: Path) -> None:
    """An event that has been there is not stored again: the runs of these are known to nobody before they are told."""

    async def pretend(tree: Tree, run: str) -> None:
        events = [{"seq": seq, "time_us": 1, "name": "x", "level": "INFO"} for seq in range(100)]
        made = batch_of({"batch": 1, "run": run, "agent": "x", "events": events})
        await tree.parts.monitor.get().write(made, Origin(ME.uid, 1))

    async def main() -> None:
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("a")]), Reply([Text("b")])])) as tree:
            session = await tree.session()
            await pretend(tree, hashlib.sha256(f"skilld:{session}".encode()).hexdigest()[:32])
            await submit(tree, session, DANGER)
            (told,) = await until(tree, 1, name="session.finding")
            await pretend(tree, told["run"])
            await submit(tree, session, f"{DANGER} again")
            await until(tree, 2, name="session.finding")

    run(main)


def test_rules_are_read_beside_everything_else_when_a_conversation_is_looked_into_early(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_tree(tmp_path, model=ScriptedModel([Reply([Text("a")]), Reply([Text("b")])])) as tree:
            session = await tree.session()
            await submit(tree, session, DANGER)
            await until(tree, 1, name="session.finding")
            threads: list[int] = []
            book = tree.parts.rule_book
            rules = book._rules

            def folder() -> Path:
                threads.append(threading.get_ident())
                return tmp_path / "none"

            book._folder, book._rules = folder, None
            book.loaded = 0
            assert rules is not None
            tree.parts.session_news.note(session)
            await submit(tree, session, DANGER)
            await until(tree, 2, name="session.finding")
            assert threads
            assert threading.get_ident() not in threads
            book._rules = None
            async with tree.http() as http:
                assert (await http.get("/v1/monitor/rules")).json()["version"] == rules.version
            assert threading.get_ident() not in threads

    run(main)
