"""Every turn gets one ending, and the ending says what was said and what it cost, whatever stopped the turn."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing

from approval_kit import open_desk
from held_journal_kit import Gate, Hook, nothing
from session_kit import ME, Kit, open_kit
from skill_actors.backends.base import ToolCall, ToolContext, ToolResult
from skill_actors.backends.local import LocalWorkspace
from skill_actors.errors import Refused
from skill_actors.models.base import Usage
from skill_actors.sessions.events import TURN_ENDINGS, Event, Position
from skill_actors.sessions.session import LiveSession, QueuedTurn
from skill_actors.store import Append, SqliteJournal, StorageFull, TurnRecord
from skill_actors.testing import Reply, ScriptedModel, StreamError, Text, ToolUse
from support import run

USAGE = Usage(input_tokens=1_000_000, output_tokens=100_000)
PRICED = "claude-sonnet-5-5"


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


def refused(code: str, says: str = "") -> Any:
    return pytest.raises(Refused, match=f"(?s).*{re.escape(says)}", check=lambda error: error.code == code)


class SmallDisk:
    """The journal on a disk that has no room for events of these types, or for "delete_session". Use it as `wrap`."""

    def __init__(self, *types: str) -> None:
        self.has_no_room_for = set(types)
        self.tried: Hook = nothing  # awaited before it says so

    def __call__(self, journal: SqliteJournal) -> SmallDisk:
        self._journal = journal
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, change: Append) -> None:
        if not self.has_no_room_for.isdisjoint(event.type for event in change.events):
            await self.tried()
            raise StorageFull("no room")
        await self._journal.append(change)

    async def delete_session(self, session: str) -> None:
        if "delete_session" in self.has_no_room_for:
            raise StorageFull("no room")
        await self._journal.delete_session(session)


async def see(kit: Kit, session: str, type: str) -> Event:
    async with kit.manager.follow(session, ME, after=Position()) as events:
        async for event in events:
            if event.type == type:
                return event
    raise AssertionError(f"the session ended without {type}")


async def crashed(folder: Path, kit: Kit, *sessions: str) -> Path:
    """The state as it is now, in a folder of its own: what a start finds after the process was killed."""
    copy = folder / "crashed"
    copy.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        shutil.copy(folder / name, copy / name)
    for session in sessions:
        await kit.manager.cancel(session, ME, queued=True)
    return copy


def damage(folder: Path, session: str) -> None:
    """Change a message of a session so that its checksum does not hold."""
    db = apsw.Connection(str(folder / "journal.db"))
    with db:
        db.execute(
            "UPDATE event SET data = replace(data, 'text', 'tezt') WHERE type = 'turn.queued' AND session = ?",
            (session,),
        )
    db.close()


def endings(types: Sequence[str]) -> list[str]:
    return [type for type in types if type in TURN_ENDINGS]


# -- after a crash -----------------------------------------------------------------------------------------------


def test_a_turn_that_cannot_be_read_is_left_alone_and_the_others_are_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([bash("sleep 60")]), Reply([bash("sleep 60")])])
        async with open_kit(tmp_path, model) as kit:
            bad, good = await kit.session(), await kit.session()
            turns = [(await kit.manager.submit(session, ME, "a text")).turn for session in (bad, good)]
            await see(kit, bad, "tool.started")
            await see(kit, good, "tool.started")
            copy = await crashed(tmp_path, kit, bad, good)
        damage(copy, bad)
        async with open_kit(copy, ScriptedModel([])) as kit:
            found = [(await kit.manager.get_turn(turn, ME))["status"] for turn in turns]
            assert found == ["running", "interrupted"]
            assert turns[0] in caplog.text

    run(main)


def test_who_waits_for_a_turn_that_nobody_has_taken_up_yet_waits_for_its_end(tmp_path: Path) -> None:
    disk = SmallDisk("turn.interrupted")

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("sleep 60")])])) as kit:
            session = await kit.session()
            turns = [(await kit.manager.submit(session, ME, text)).turn for text in ("a", "b")]
            await see(kit, session, "tool.started")
            copy = await crashed(tmp_path, kit, session)
        found: dict[str, str] = {}

        async def wait(kit: Kit, turn: str) -> None:
            found[turn] = (await kit.manager.get_turn(turn, ME, wait_s=10))["status"]

        async with open_kit(copy, ScriptedModel([Reply([Text("answered")])]), wrap=disk) as kit:
            for turn in turns:
                assert (await kit.manager.get_turn(turn, ME, wait_s=0.02))["result"] is None
            async with trio.open_nursery() as nursery:
                for turn in turns:
                    nursery.start_soon(wait, kit, turn)
                await trio.testing.wait_all_tasks_blocked(0.02)
                assert found == {}
                disk.has_no_room_for.clear()
                assert await kit.manager.recover_again(turns) == []
            assert found == dict(zip(turns, ("interrupted", "finished"), strict=True))

    run(main)


def test_turns_that_a_full_disk_keeps_from_being_closed_are_closed_once_there_is_room(tmp_path: Path) -> None:
    disk = SmallDisk("turn.interrupted")

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("sleep 60")])])) as kit:
            session = await kit.session()
            turns = [(await kit.manager.submit(session, ME, text)).turn for text in ("a", "b")]
            await see(kit, session, "tool.started")
            copy = await crashed(tmp_path, kit, session)
        async with open_kit(copy, ScriptedModel([Reply([Text("answered")])]), wrap=disk) as kit:
            left = await kit.manager.recover_again(turns)
            assert left == turns  # the later one waits for the earlier one
            disk.has_no_room_for.clear()
            assert await kit.manager.recover_again(left) == []
            assert (await kit.manager.get_turn(turns[0], ME))["status"] == "interrupted"
            assert (await kit.manager.get_turn(turns[1], ME, wait_s=10))["result"]["text"] == "answered"
            assert await kit.manager.recover_again(left) == []  # both have ended: nothing more is done
            assert kit.manager.status()["turns_queued"] == 0
            types = await kit.types(session)
            assert endings(types) == ["turn.interrupted", "turn.finished"]
            assert types.count("session.restarted") == 1

    run(main)


def test_a_message_queued_before_a_start_on_a_full_disk_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.sessions.session._STORE_RETRY_S", 0.02)
    disk = SmallDisk("turn.started")

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("sleep 60")])]), slots=1) as kit:
            running, waiting = await kit.session(), await kit.session()
            await kit.manager.submit(running, ME, "a")
            await see(kit, running, "tool.started")
            turn = (await kit.manager.submit(waiting, ME, "b")).turn
            copy = await crashed(tmp_path, kit, running, waiting)
        async with open_kit(copy, ScriptedModel([Reply([Text("answered")])]), wrap=disk) as kit:
            waited = await kit.manager.get_turn(turn, ME, wait_s=0.2)
            assert waited["status"] == "queued"
            disk.has_no_room_for.clear()
            assert (await kit.manager.get_turn(turn, ME, wait_s=10))["result"]["text"] == "answered"

    run(main)


def test_what_a_turn_had_cost_before_a_crash_is_in_the_sum_and_unknown_on_the_turn(tmp_path: Path) -> None:
    never = trio.Event()

    async def main() -> None:
        model = ScriptedModel([Reply([bash("echo")], usage=USAGE), Reply([Text("word " * 99)], holds={9: never})])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session(model=PRICED)
            turn = (await kit.manager.submit(session, ME, "a")).turn
            await see(kit, session, "model.delta")  # the second call is under way, and nobody knows its price
            copy = await crashed(tmp_path, kit, session)
        async with open_kit(copy, ScriptedModel([])) as kit:
            result = (await kit.manager.get_turn(turn, ME))["result"]
            view = await kit.manager.get(session, ME)
            assert result["cost_usd"] is None
            assert result["usage"] == view["usage"] == USAGE.to_dict()
            assert view["cost_usd"] > 0

    run(main)


def test_a_change_of_settings_after_a_restart_does_not_hide_the_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("one")])])) as kit:
            session = await kit.session()
            await kit.ask(session, "a")
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("two")])])) as kit:
            await kit.manager.update(session, ME, {"title": "t"})
            await kit.ask(session, "b")
            assert (await kit.types(session)).count("session.restarted") == 1

    run(main)


def test_a_history_that_is_damaged_fails_the_turn_and_is_not_called_a_full_disk(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("one")])])) as kit:
            session = await kit.session()
            await kit.ask(session, "a text")
        damage(tmp_path, session)
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            turn = await kit.ask(session, "b")
            assert (turn["status"], turn["result"]["error"]["code"]) == ("failed", "session_damaged")

    run(main)


# -- what an ending tells ----------------------------------------------------------------------------------------


def test_a_stream_that_is_cut_has_no_known_cost_and_its_usage_is_told_as_far_as_known(tmp_path: Path) -> None:
    never = trio.Event()

    async def main() -> None:
        model = ScriptedModel([Reply([Text("word " * 99)], holds={9: never}, usage=USAGE)])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session(model=PRICED)
            turn = (await kit.manager.submit(session, ME, "a")).turn
            await see(kit, session, "model.delta")
            await kit.manager.cancel(session, ME)
            result = (await kit.manager.get_turn(turn, ME, wait_s=10))["result"]
            assert result["cost_usd"] is None
            assert result["usage"]["input_tokens"] == USAGE.input_tokens
            assert (await kit.manager.get(session, ME))["cost_usd"] > 0

    run(main)


def test_the_ending_of_a_failed_turn_holds_the_text_that_was_shown(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("half an answer")], fail=StreamError(after=1))])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turn = await kit.ask(session, "a")
            shown = "".join(e.data["text"] for e in await kit.events(session) if e.type == "model.delta")
            assert shown
            assert (turn["status"], turn["result"]["text"]) == ("failed", shown)

    run(main)


def test_the_message_of_a_turn_that_failed_before_the_model_was_asked_stays_in_the_history(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("Bob")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            (tmp_path / "workspaces").write_text("not a folder")
            assert (await kit.ask(session, "my name is Bob"))["status"] == "failed"
            (tmp_path / "workspaces").unlink()
            await kit.ask(session, "who am I?")
            (request,) = model.requests
            assert "my name is Bob" in str(request.messages)

    run(main)


def test_a_bug_in_one_tool_leaves_no_tool_without_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LocalWorkspace.execute

    async def execute(self: LocalWorkspace, call: ToolCall, context: ToolContext) -> ToolResult:
        if "boom" in str(call.input):
            raise RuntimeError("a bug")
        return await real(self, call, context)

    monkeypatch.setattr(LocalWorkspace, "execute", execute)
    model = ScriptedModel([Reply([bash("boom"), bash("sleep 60")]), Reply([Text("next")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            assert (await kit.ask(session, "a"))["result"]["error"]["code"] == "internal"
            types = await kit.types(session)
            assert types.count("tool.started") == types.count("tool.finished") == 2
            assert (await kit.ask(session, "b"))["result"]["text"] == "next"

    run(main)


def test_a_workspace_that_fails_to_close_does_not_end_the_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalWorkspace.aclose
    failures = 0

    async def failing(self: LocalWorkspace) -> None:
        nonlocal failures
        failures += 1
        await real(self)
        raise OSError("it was gone")

    monkeypatch.setattr(LocalWorkspace, "aclose", failing)
    model = ScriptedModel([])  # no answer: a LookupError ends the actor

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            assert (await kit.ask(session, "a"))["status"] == "failed"
            model.enqueue(Reply([Text("one")]), Reply([Text("two")]))
            assert (await kit.ask(session, "b"))["result"]["text"] == "one"
            assert await kit.manager.unload_idle(0) == 1
            assert (await kit.ask(session, "c"))["result"]["text"] == "two"
            assert failures == 2

    run(main)


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["turn.cancelled", "delete_session"])
def test_a_deletion_that_a_full_disk_refuses_leaves_the_session_and_can_be_tried_again(
    tmp_path: Path, step: str
) -> None:
    disk = SmallDisk(step)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("sleep 60")]), Reply([Text("answered")])])
        async with open_kit(tmp_path, model, wrap=disk) as kit:
            session = await kit.session()
            running, waiting = [(await kit.manager.submit(session, ME, text)).turn for text in ("a", "b")]
            await see(kit, session, "tool.started")
            if step == "delete_session":
                await kit.manager.cancel_turn(waiting, ME)
            with refused("storage_full"):
                await kit.manager.delete(session, ME)
            disk.has_no_room_for.clear()
            await kit.manager.cancel_turn(running, ME)
            assert (await kit.manager.get_turn(running, ME, wait_s=10))["status"] == "cancelled"
            expected = "finished" if step == "turn.cancelled" else "cancelled"
            assert (await kit.manager.get_turn(waiting, ME, wait_s=10))["status"] == expected
            await kit.manager.delete(session, ME)
            with refused("not_found"):
                await kit.manager.get(session, ME)

    run(main)


def test_a_waiting_turn_whose_cancelling_a_full_disk_refuses_goes_on_waiting_and_runs(tmp_path: Path) -> None:
    disk = SmallDisk("turn.cancelled")
    hold = trio.Event()

    async def main() -> None:
        model = ScriptedModel([Reply([Text("one")], holds={0: hold}), Reply([Text("two")])])
        async with open_kit(tmp_path, model, wrap=disk) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "a")
            waiting = (await kit.manager.submit(session, ME, "b")).turn
            with refused("storage_full"):
                await kit.manager.cancel_turn(waiting, ME)
            hold.set()
            assert (await kit.manager.get_turn(waiting, ME, wait_s=10))["result"]["text"] == "two"

    run(main)


@pytest.mark.parametrize("refused_one", [0, 1, 2])
def test_turns_keep_their_order_when_a_full_disk_refuses_the_cancelling_of_one(
    tmp_path: Path, refused_one: int
) -> None:
    disk = SmallDisk("turn.cancelled")
    hold = trio.Event()

    async def main() -> None:
        model = ScriptedModel([Reply([Text("x")], holds={0: hold}), *(Reply([Text("x")]) for _ in range(3))])
        async with open_kit(tmp_path, model, wrap=disk) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "a")
            await see(kit, session, "turn.started")
            waiting = [(await kit.manager.submit(session, ME, text)).turn for text in ("b", "c", "d")]
            with refused("storage_full"):
                await kit.manager.cancel_turn(waiting[refused_one], ME)
            hold.set()
            for turn in waiting:
                assert (await kit.manager.get_turn(turn, ME, wait_s=10))["status"] == "finished"
        assert [request.messages[-1]["content"][0]["text"] for request in model.requests] == ["a", "b", "c", "d"]

    run(main)


def test_turns_keep_their_order_if_a_full_disk_refuses_the_cancelling_of_two_at_once(tmp_path: Path) -> None:
    disk = SmallDisk("turn.cancelled")
    disk.tried = gate = Gate()
    hold = trio.Event()

    async def main() -> None:
        model = ScriptedModel([Reply([Text("x")], holds={0: hold}), *(Reply([Text("x")]) for _ in range(3))])
        async with open_kit(tmp_path, model, wrap=disk) as kit:

            async def cancel(turn: str) -> None:
                with refused("storage_full"):
                    await kit.manager.cancel_turn(turn, ME)

            session = await kit.session()
            await kit.manager.submit(session, ME, "a")
            await see(kit, session, "turn.started")
            waiting = [(await kit.manager.submit(session, ME, text)).turn for text in ("b", "c", "d")]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel, waiting[0])
                await gate.reached.wait()
                nursery.start_soon(cancel, waiting[1])
                (live,) = kit.manager._table
                with trio.fail_after(20):
                    while len(live.closing) < 2:  # noqa: ASYNC110  # a look into the store comes before
                        await trio.sleep(0.005)
                gate.opened.set()
            hold.set()
            for turn in waiting:
                assert (await kit.manager.get_turn(turn, ME, wait_s=10))["status"] == "finished"
        assert [request.messages[-1]["content"][0]["text"] for request in model.requests] == ["a", "b", "c", "d"]

    run(main)


def test_a_turn_that_goes_before_all_others_does_so_though_it_came_while_the_ending_of_one_failed(
    tmp_path: Path,
) -> None:
    def queued(id: str, seq: int, **more: Any) -> QueuedTurn:
        return QueuedTurn(TurnRecord(id=id, session="s", seq=seq, status="queued", created="", updated=""), id, **more)

    def fail(live: LiveSession) -> None:
        with live.written_off(live.pending["b"]):
            live.put(queued("d", 5))
            live.put(queued("first", 6, first=True))
            raise OSError("disk")

    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            live = LiveSession(desk.log)
            live.put(queued("earlier first", 1, first=True))
            for seq, id in enumerate("abc", start=2):
                live.put(queued(id, seq))
            with pytest.raises(OSError, match="disk"):
                fail(live)
            assert list(live.pending) == ["first", "earlier first", "a", "b", "c", "d"]

    run(main)


def test_null_takes_a_setting_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            session = await kit.session(title="t", labels={"a": "b"})
            view = await kit.manager.update(session, ME, {"title": None, "labels": None})
            assert (view["title"], view["labels"]) == ("", {})
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            view = await kit.manager.get(session, ME)
            assert (view["title"], view["labels"]) == ("", {})

    run(main)


def test_a_retry_with_its_key_gets_its_turn_although_the_message_would_be_refused_by_now(tmp_path: Path) -> None:
    skill = tmp_path / "source" / "hi"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: hi\ndescription: x\n---\n\nx\n")
    (skill / "scripts" / "run.sh").write_text("#!/bin/bash\necho hi\n")
    (skill / "scripts" / "run.sh").chmod(0o755)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([]), skills=[skill]) as kit:
            session = await kit.session()
            first = await kit.manager.submit(session, ME, "/hi", idempotency_key="k")
            await kit.manager.get_turn(first.turn, ME, wait_s=10)
            kit.snapshot = replace(kit.snapshot, skills={"hi": replace(kit.snapshot.skills["hi"], entry=None)})
            with refused("no_entry_command"):
                await kit.manager.submit(session, ME, "/hi", idempotency_key="another")
            second = await kit.manager.submit(session, ME, "/hi", idempotency_key="k")
            assert (second.turn, second.duplicate, second.status) == (first.turn, True, "finished")

    run(main)


@pytest.mark.parametrize("name", ["data", ".skilld", ".skilld-runner", ".upload-1"])
def test_a_file_that_cannot_have_its_name_is_a_bad_request_and_leaves_the_session_working(
    tmp_path: Path, name: str
) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("echo well")]), Reply([Text("done")])])) as kit:
            session = await kit.session()
            folder = tmp_path / "workspaces" / session
            (folder / "data").mkdir(parents=True)
            with refused("bad_request", name):
                await kit.manager.submit(session, ME, "a", [(name, b"x")])
            assert [path.name for path in folder.iterdir()] == ["data"]
            await kit.ask(session, "b")
            (finished,) = [event for event in await kit.events(session) if event.type == "tool.finished"]
            assert finished.data["outcome"] == "ok"

    run(main)
