"""Conversations through the manager: accepted, answered, cancelled, recovered, deleted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.models.base import Usage
from skill_actors.sessions.events import Position
from skill_actors.sessions.session import Session
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.sessions.table import Viewer
from skill_actors.store import SqliteJournal, StorageFull
from skill_actors.testing import HttpError, Reply, ScriptedModel, StreamError, Text, Thinking, ToolUse
from support import run


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


def refused(code: str, says: str = "") -> Any:
    return pytest.raises(Refused, match=f"(?s).*{re.escape(says)}", check=lambda error: error.code == code)


def test_a_turn_with_parallel_tools_is_journalled_step_by_step(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("look"), bash("echo a"), bash("echo b >&2; exit 2")]), Reply([Text("done")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turn = await kit.ask(session, "go")
            assert turn["status"] == "finished"
            assert turn["result"]["text"] == "done"
            events = await kit.events(session)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            started = {e.data["id"]: e.seq for e in events if e.type == "tool.started"}
            finished = {e.data["id"]: e.seq for e in events if e.type == "tool.finished"}
            assert started.keys() == finished.keys()
            assert max(started.values()) < min(finished.values())  # both intended before either ended
            results = model.requests[1].messages[-1]["content"]
            assert [block.get("is_error", False) for block in results] == [False, True]
            assert "b" in results[1]["content"]

    run(main)


def test_cost_and_tokens_are_summed_per_call_and_shown_on_turn_and_session(tmp_path: Path) -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=100_000)
    model = ScriptedModel([Reply([bash("true")], usage=usage), Reply([Text("x")], usage=usage)])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session(model="claude-sonnet-5-5")
            result = (await kit.ask(session, "go"))["result"]
            assert result["usage"]["input_tokens"] == 2_000_000
            assert result["cost_usd"] == pytest.approx(2 * (2 + 1))
            shown = await kit.manager.get(session, ME)
            assert (shown["turns"], shown["cost_usd"]) == (1, pytest.approx(6))

    run(main)


def test_an_unknown_price_is_null_and_never_zero(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("x")], model="someone-elses")])) as kit:
            session = await kit.session(model="someone-elses")
            assert (await kit.ask(session, "go"))["result"]["cost_usd"] is None
            assert (await kit.manager.get(session, ME))["cost_usd"] is None

    run(main)


def test_a_call_of_a_tool_that_was_not_offered_is_denied_and_the_model_told(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([ToolUse("delete_everything", {})]), Reply([Text("sorry")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            assert (await kit.ask(session, "go"))["result"]["text"] == "sorry"
            assert "tool.started" not in await kit.types(session)
            assert "no tool 'delete_everything'" in model.requests[1].messages[-1]["content"][0]["content"]

    run(main)


def test_a_failed_stream_keeps_its_text_and_the_next_turn_sees_it(tmp_path: Path) -> None:
    broken = Reply([Thinking("hm"), Text("half an ans")], fail=StreamError(after=2))
    model = ScriptedModel([broken, Reply([Text("whole")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            failed = await kit.ask(session, "one")
            assert failed["status"] == "failed"
            await kit.ask(session, "two")
            roles = [message["role"] for message in model.requests[-1].messages]
            assert roles[-1] == "user"
            kinds = {block["type"] for message in model.requests[-1].messages for block in message["content"]}
            assert kinds == {"text"}

    run(main)


def test_a_refused_call_is_tried_again_until_it_must_not_be(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([HttpError(529), HttpError(529), Reply([Text("at last")])])
        async with open_kit(tmp_path, model) as kit:
            assert (await kit.ask(await kit.session(), "go"))["result"]["text"] == "at last"
        model = ScriptedModel([HttpError(400), Reply([Text("never")])])
        (tmp_path / "b").mkdir()
        async with open_kit(tmp_path / "b", model) as kit:
            turn = await kit.ask(await kit.session(), "go")
            assert turn["result"]["error"]["code"] == "model_invalid_request"

    run(main)


def test_cancel_during_a_tool_writes_its_result_and_the_ending(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("wait"), bash("echo begun; sleep 60")]), Reply([Text("next")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "go")
            await see(kit, session, "tool.output")
            assert await kit.manager.cancel(session, ME) == {"cancelled": [accepted.turn]}
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=10)
            assert turn["status"] == "cancelled"
            assert (await kit.types(session))[-2:] == ["tool.finished", "turn.cancelled"]
            assert (await kit.ask(session, "again"))["result"]["text"] == "next"
            result = model.requests[-1].messages[2]["content"][0]
            assert result["is_error"]
            assert "begun" in result["content"]

    run(main)


async def see(kit: Kit, session: str, type: str) -> None:
    async with kit.manager.follow(session, ME, after=Position()) as events:
        async for event in events:
            if event.type == type:
                return


def test_a_turn_that_takes_too_long_fails_by_its_own_limit(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("sleep 60")])])) as kit:
            session = await kit.session(limits={"turn_timeout_s": 1})
            turn = await kit.ask(session, "go")
            assert (turn["status"], turn["result"]["stop_reason"]) == ("failed", "turn_timeout")

    run(main)


def test_waiting_turns_run_in_order_and_can_be_cancelled_one_by_one(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("1")], holds={0: hold}), Reply([Text("3")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turns = [(await kit.manager.submit(session, ME, text)).turn for text in ("a", "b", "c")]
            assert await kit.manager.cancel_turn(turns[1], ME) == {"cancelled": [turns[1]]}
            hold.set()
            statuses = [(await kit.manager.get_turn(turn, ME, wait_s=10))["status"] for turn in turns]
            assert statuses == ["finished", "cancelled", "finished"]
            assert await kit.manager.cancel_turn(turns[0], ME) == {"cancelled": []}

    run(main)


def test_the_global_limit_of_running_turns_is_first_come_first_served(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("1")], holds={0: hold}), Reply([Text("2")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1) as kit:
            first, second = await kit.session(), await kit.session()
            one = await kit.manager.submit(first, ME, "a")
            await see(kit, first, "turn.started")
            two = await kit.manager.submit(second, ME, "b")
            with trio.move_on_after(0.2):
                await kit.manager.get_turn(two.turn, ME, wait_s=5)
            assert "turn.started" not in await kit.types(second)
            hold.set()
            for turn in (one.turn, two.turn):
                assert (await kit.manager.get_turn(turn, ME, wait_s=10))["status"] == "finished"

    run(main)


def test_others_sessions_do_not_exist_for_a_viewer(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            session = await kit.session()
            stranger, admin = Viewer(uid=7), Viewer(uid=7, admin=True)
            assert (await kit.manager.get(session, admin))["id"] == session
            assert (await kit.manager.list(stranger))["items"] == []
            assert len((await kit.manager.list(admin))["items"]) == 1
            for attempt in (
                kit.manager.get(session, stranger),
                kit.manager.delete(session, stranger),
                kit.manager.submit(session, stranger, "x"),
                kit.manager.cancel(session, stranger),
            ):
                with refused("not_found", session):
                    await attempt

    run(main)


def test_a_bug_in_a_turn_fails_that_turn_and_the_waiting_ones_still_run(tmp_path: Path) -> None:
    class Broken(ScriptedModel):
        def stream(self, request: Any) -> Any:
            if request.messages[-1]["content"][-1]["text"] == "boom":
                raise ZeroDivisionError("a bug")
            return super().stream(request)

    async def main() -> None:
        async with open_kit(tmp_path, Broken([Reply([Text("fine")])])) as kit:
            session = await kit.session()
            turns = [(await kit.manager.submit(session, ME, text)).turn for text in ("boom", "ok")]
            ended = [await kit.manager.get_turn(turn, ME, wait_s=10) for turn in turns]
            assert [turn["status"] for turn in ended] == ["failed", "finished"]
            assert ended[0]["result"]["error"]["code"] == "internal"

    run(main)


def test_a_full_disk_in_mid_turn_fails_the_turn_once_there_is_room(tmp_path: Path) -> None:
    class Filling:
        """The journal, full from the first tool on for a while."""

        def __init__(self, journal: SqliteJournal) -> None:
            self._journal = journal
            self._refusals = 2

        def __getattr__(self, name: str) -> Any:
            return getattr(self._journal, name)

        async def append(self, change: Any) -> None:
            if self._refusals and any(e.type in ("tool.started", "turn.failed") for e in change.events):
                self._refusals -= 1
                raise StorageFull("no room")
            await self._journal.append(change)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("true")]), Reply([Text("fine")])])
        async with open_kit(tmp_path, model, wrap=Filling) as kit:
            session = await kit.session()
            turn = await kit.ask(session, "go")
            assert (turn["status"], turn["result"]["error"]["code"]) == ("failed", "storage_full")
            assert (await kit.ask(session, "again"))["result"]["text"] == "fine"

    run(main)


def test_an_orderly_stop_interrupts_the_running_turn_and_keeps_the_waiting_one(tmp_path: Path) -> None:
    hold = trio.Event()

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("abcdefgh" * 4)], holds={2: hold})])) as kit:
            session = await kit.session()
            one = await kit.manager.submit(session, ME, "a")
            two = await kit.manager.submit(session, ME, "b")
            await see(kit, session, "model.delta")
            assert not await kit.manager.drain(0.1)
            with refused("draining"):
                await kit.manager.submit(session, ME, "too late")
        model = ScriptedModel([Reply([Text("second")])])
        async with open_kit(tmp_path, model) as kit:
            interrupted = await kit.manager.get_turn(one.turn, ME)
            assert interrupted["status"] == "interrupted"
            assert interrupted["result"]["text"].startswith("abcdefgh")
            assert (await kit.manager.get_turn(two.turn, ME, wait_s=10))["result"]["text"] == "second"
            assert "restarted" in str(model.requests[0].messages[-1])

    run(main)


def test_idle_sessions_are_let_go_and_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("1")]), Reply([Text("2")])])) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
            assert await kit.manager.unload_idle(0) == 1
            assert kit.manager.status()["sessions_live"] == 0
            assert (await kit.ask(session, "b"))["result"]["text"] == "2"
            assert "session.restarted" not in await kit.types(session)

    run(main)


def test_a_session_in_use_is_not_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            session = await kit.session()
            async with kit.manager.follow(session, ME, after=Position()):
                assert await kit.manager.unload_idle(0) == 0

    run(main)


BAD_SETTINGS: list[tuple[Mapping[str, Any], str, str]] = [
    ({"titel": "x"}, "bad_request", "did you mean title"),
    ({"budget": {"usd": -1}}, "bad_request", "budget usd must be a number from 0"),
    ({"cwd": "/"}, "cwd_not_allowed", "cwd"),
    ({"title": "x" * 201}, "bad_request", "200"),
    ({"title": "a\0"}, "bad_request", "NUL"),
    ({"backends": ["docker"]}, "backend_unavailable", "local"),
    ({"backends": "local"}, "bad_request", "list"),
    ({"backends": ["local", "local"]}, "bad_request", "more than once"),
    ({"skills": ["nope"]}, "invalid_skill_spec", "nope"),
    ({"skills": ["anthropic:xlsx"]}, "invalid_skill_spec", "hosted"),
    ({"limits": {"iteration": 3}}, "bad_request", "iterations"),
    ({"limits": {"iterations": 2.5}}, "bad_request", "whole"),
    ({"limits": {"iterations": True}}, "bad_request", "number"),
    ({"limits": []}, "bad_request", "object"),
    ({"labels": {"k": 1}}, "bad_request", "labels"),
    ({"on_disconnect": "explode"}, "bad_request", "continue"),
]


@pytest.mark.parametrize(("settings", "code", "says"), BAD_SETTINGS)
def test_a_setting_that_nothing_would_honour_is_refused(
    tmp_path: Path, settings: Mapping[str, Any], code: str, says: str
) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            with refused(code, says):
                await kit.manager.create(1, settings)
            assert await kit.journal.count_sessions() == 0

    run(main)


def test_only_title_and_labels_can_be_changed(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            session = await kit.session(title="a")
            assert (await kit.manager.update(session, ME, {"title": "b", "labels": {"k": "v"}}))["title"] == "b"
            with refused("bad_request", "fixed"):
                await kit.manager.update(session, ME, {"model": "x"})

    run(main)


def test_concurrent_messages_with_one_key_are_one_turn(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("once")])])) as kit:
            session = await kit.session()
            turns: list[str] = []

            async def send() -> None:
                turns.append((await kit.manager.submit(session, ME, "x", idempotency_key="k")).turn)

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(send)
            assert len(set(turns)) == 1
            assert (await kit.types(session)).count("turn.queued") == 1
            with refused("idempotency_conflict"):
                await kit.manager.submit(session, ME, "y", idempotency_key="k")

    run(main)


def test_the_queue_is_bounded_before_anything_is_stored(tmp_path: Path) -> None:
    hold = trio.Event()

    async def main() -> None:
        defaults = SessionDefaults(queued_messages=2)
        model = ScriptedModel([Reply([Text("x")], holds={0: hold})])
        async with open_kit(tmp_path, model, defaults=defaults) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "runs")
            await see(kit, session, "turn.started")
            for text in ("waits", "waits"):
                await kit.manager.submit(session, ME, text)
            with refused("overloaded"):
                await kit.manager.submit(session, ME, "too many")
            assert (await kit.types(session)).count("turn.queued") == 3
            await kit.manager.cancel(session, ME, queued=True)

    run(main)


def test_a_session_actor_is_one_task_and_ends_with_its_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("x")])])) as kit:
            session = await kit.session()
            await kit.ask(session, "hi")
            actors = [info for info in kit.system.walk() if info.actor_class == Session.__name__]
            assert len(actors) == 1
            await kit.manager.delete(session, ME)
            assert not [info for info in kit.system.walk() if info.actor_class == Session.__name__]
            assert await kit.journal.count_sessions() == 0

    run(main)


def test_every_step_is_told_on_the_bus(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("true")]), Reply([Text("x")])])) as kit:
            told: list[str] = []
            whose: dict[str, Mapping[str, object]] = {}

            def note(name: str, _facts: object, meta: Mapping[str, object]) -> None:
                told.append(name)
                whose[name] = meta

            kit.bus.attach("test", ["*"], note)
            session = await kit.session()
            turn = (await kit.ask(session, "go"))["turn"]
            await kit.manager.delete(session, ME)
            assert {meta["session"] for meta in whose.values()} == {session}
            for name in ("turn.started", "conversation.iteration", "model.stop", "turn.stop"):
                assert whose[name]["turn"] == turn, name
            call = whose["execute.start"]["call"]
            for name in ("execute.stop", "conversation.tool_call", "backend.local.tool_call"):
                assert (whose[name]["turn"], whose[name]["call"]) == (turn, call), name
            assert told == [
                "session.created",
                "turn.queued",
                "turn.started",
                "executor.init",
                "conversation.iteration",
                "model.stop",
                "execute.start",
                "execute.stop",
                "conversation.tool_call",
                "backend.local.tool_call",
                "conversation.iteration",
                "model.stop",
                "turn.stop",
                "executor.cleanup",
                "session.deleted",
            ]

    run(main)
