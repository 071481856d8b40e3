"""Two things at once in one conversation. Every interleaving is forced by holding a commit, a file or a close."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from held_journal_kit import Gate, HookedJournal
from session_kit import ME, Kit, open_kit
from skill_actors.backends.local import LocalWorkspace
from skill_actors.errors import Refused
from skill_actors.sessions.events import TURN_ENDINGS, Event, Position
from skill_actors.sessions.intake import Accepted
from skill_actors.sessions.uploads import write_files
from skill_actors.store import Append, SqliteJournal, StorageFull
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


async def see(kit: Kit, session: str, type: str) -> Event:
    async with kit.manager.follow(session, ME, after=Position()) as events:
        async for event in events:
            if event.type == type:
                return event
    raise AssertionError(f"the session ended without {type}")


def actors(kit: Kit) -> list[str]:
    return [child.path for child in kit.system.walk() if child.template == "session"]


def endings(types: Sequence[str]) -> list[str]:
    return [type for type in types if type in TURN_ENDINGS]


# -- readers -----------------------------------------------------------------------------------------------------


def test_a_reader_that_knows_the_number_of_the_open_block_waits_for_what_follows(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("hello " * 20)], holds={3: hold})])
    seen: list[Event] = []

    async def read(kit: Kit, session: str, after: int, turn: str) -> None:
        async with kit.manager.follow(session, ME, after=Position(after), turn=turn) as events:
            seen.extend([event async for event in events])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit, trio.open_nursery() as nursery:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "go")).turn
            await see(kit, session, "model.delta")
            last = (await kit.manager.get(session, ME))["last_seq"]  # it counts the open block
            nursery.start_soon(read, kit, session, last, turn)
            with trio.fail_after(20):
                await trio.testing.wait_all_tasks_blocked(0.05)  # nobody turns in circles
            hold.set()
        assert [event.type for event in seen] == ["model.message", "turn.finished"]

    run(main)


def test_a_slow_reader_of_a_deleted_session_sees_the_last_ending(tmp_path: Path) -> None:
    seen: list[str] = []
    printed, deleted = trio.Event(), trio.Event()

    async def read(kit: Kit, session: str, turn: str) -> None:
        async with kit.manager.follow(session, ME, after=Position(), turn=turn) as events:
            async for event in events:
                seen.append(event.type)
                if event.type == "tool.output":
                    printed.set()
                    await deleted.wait()

    async def main() -> None:
        async with (
            open_kit(tmp_path, ScriptedModel([Reply([bash("echo x; sleep 60")])])) as kit,
            trio.open_nursery() as nursery,
        ):
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "go")).turn
            nursery.start_soon(read, kit, session, turn)
            await printed.wait()
            await kit.manager.delete(session, ME)
            deleted.set()
        assert seen[-2:] == ["tool.finished", "turn.cancelled"]

    run(main)


# -- messages ----------------------------------------------------------------------------------------------------


def test_a_session_is_not_let_go_while_a_message_is_committed(tmp_path: Path) -> None:
    gone: list[int] = []

    async def unload() -> None:
        gone.append(await kits[0].manager.unload_idle(0))

    kits: list[Kit] = []
    model = ScriptedModel([Reply([Text("one")]), Reply([Text("two")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=HookedJournal("turn.queued", before=unload)) as kit:
            kits.append(kit)
            session = await kit.session()
            assert (await kit.ask(session, "a"))["result"]["text"] == "one"
            assert gone == [0]
            assert (await kit.ask(session, "b"))["result"]["text"] == "two"

    run(main)


def test_a_message_that_comes_while_an_idle_session_closes_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, real = Gate(), LocalWorkspace.aclose

    async def slow_close(self: LocalWorkspace) -> None:
        await closing()
        await real(self)

    monkeypatch.setattr(LocalWorkspace, "aclose", slow_close)
    model = ScriptedModel([Reply([bash("true")]), Reply([Text("one")]), Reply([Text("two")]), Reply([Text("three")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit, trio.open_nursery() as nursery:
            session = await kit.session()
            await kit.ask(session, "a")
            nursery.start_soon(kit.manager.unload_idle, 0)
            await closing.reached.wait()
            accepted = await kit.manager.submit(session, ME, "b")
            closing.opened.set()
            assert (await kit.manager.get_turn(accepted.turn, ME, wait_s=10))["result"]["text"] == "two"
            assert (await kit.ask(session, "c"))["result"]["text"] == "three"

    run(main)


def test_a_session_is_not_let_go_while_the_files_of_a_message_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, real = Gate(), write_files

    async def slow_write(root: Path, files: Sequence[tuple[str, bytes]]) -> None:
        await writing()
        await real(root, files)

    monkeypatch.setattr("skill_actors.sessions.intake.write_files", slow_write)
    model = ScriptedModel([Reply([Text("one")]), Reply([Text("two")])])
    accepted: dict[str, Accepted] = {}

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()

            async def submit(text: str, *files: tuple[str, bytes]) -> None:
                accepted[text] = await kit.manager.submit(session, ME, text, files)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit, "a", ("f", b"x"))
                await writing.reached.wait()
                assert await kit.manager.unload_idle(0) == 0
                nursery.start_soon(submit, "b")
                await trio.testing.wait_all_tasks_blocked()
                writing.opened.set()
            turns = [await kit.manager.get_turn(accepted[text].turn, ME, wait_s=10) for text in "ab"]
            assert [turn["result"]["text"] for turn in turns] == ["one", "two"]

    run(main)


def test_a_message_that_comes_while_a_crashed_actor_ends_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, real = Gate(), LocalWorkspace.aclose

    async def slow_close(self: LocalWorkspace) -> None:
        await closing()
        await real(self)

    monkeypatch.setattr(LocalWorkspace, "aclose", slow_close)
    model = ScriptedModel([])  # no answer: a LookupError, as a bug in a model's client would be

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            assert (await kit.ask(session, "a"))["result"]["error"]["code"] == "internal"
            await closing.reached.wait()
            model.enqueue(Reply([Text("well again")]))
            accepted = await kit.manager.submit(session, ME, "b")
            closing.opened.set()
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=10)
            assert turn["result"]["text"] == "well again"

    run(main)


def test_who_waits_for_a_turn_hears_of_its_end_once_its_session_knows_it(tmp_path: Path) -> None:
    """The end can be read before whoever stored it is told that it is stored."""
    stored = Gate()
    found: list[tuple[str, str]] = []

    async def main() -> None:
        wrap = HookedJournal("turn.finished", after=stored)
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("one")])]), wrap=wrap) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "a")).turn

            async def wait() -> None:
                ended = await kit.manager.get_turn(turn, ME, wait_s=20)
                found.append((ended["status"], (await kit.manager.get(session, ME))["status"]))

            async with trio.open_nursery() as nursery:
                await stored.reached.wait()
                assert (await kit.manager.get_turn(turn, ME))["status"] == "finished"
                nursery.start_soon(wait)
                await trio.sleep(0.2)  # one that does not wait is done by then
                stored.opened.set()
            assert found == [("finished", "idle")]
            assert await kit.manager.unload_idle(0) == 1

    run(main)


def test_two_changes_of_settings_at_once_both_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            session = await kit.session()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.manager.update, session, ME, {"title": "t"})
                nursery.start_soon(kit.manager.update, session, ME, {"labels": {"a": "b"}})
            view = await kit.manager.get(session, ME)
            assert (view["title"], view["labels"]) == ("t", {"a": "b"})

    run(main)


# -- deletion ----------------------------------------------------------------------------------------------------


def test_a_session_deleted_while_the_files_of_a_message_are_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, real = Gate(), write_files

    async def slow_write(root: Path, files: Sequence[tuple[str, bytes]]) -> None:
        await writing()
        await real(root, files)

    monkeypatch.setattr("skill_actors.sessions.intake.write_files", slow_write)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("never seen")])])) as kit:
            session = await kit.session()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit_or_too_late, kit, session, [("secret.txt", b"s")])
                await writing.reached.wait()
                deleted = trio.Event()
                nursery.start_soon(delete, kit, session, deleted)
                with trio.move_on_after(0.2):  # a deletion that does not wait for the message is done by then
                    await deleted.wait()
                writing.opened.set()
            assert not list((tmp_path / "workspaces").iterdir())
            assert actors(kit) == []

    run(main)


def test_a_session_deleted_while_a_message_is_committed_leaves_no_actor_and_no_folder(tmp_path: Path) -> None:
    committed = Gate()
    wrap = HookedJournal("turn.queued", after=committed)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("never seen")])]), wrap=wrap) as kit:
            session = await kit.session()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit_or_too_late, kit, session, [("secret.txt", b"s")])
                await committed.reached.wait()
                deleted = trio.Event()
                nursery.start_soon(delete, kit, session, deleted)
                with trio.move_on_after(0.2):  # a deletion that does not wait for the message is done by then
                    await deleted.wait()
                committed.opened.set()
            assert not list((tmp_path / "workspaces").iterdir())
            assert actors(kit) == []
            assert await kit.journal.unfinished_turns() == ()

    run(main)


async def delete(kit: Kit, session: str, deleted: trio.Event) -> None:
    await kit.manager.delete(session, ME)
    deleted.set()


async def submit_or_too_late(kit: Kit, session: str, files: Sequence[tuple[str, bytes]]) -> None:
    """Accepted or too late, both are right."""
    with contextlib.suppress(Refused):
        await kit.manager.submit(session, ME, "keep this", files)


# -- cancelling --------------------------------------------------------------------------------------------------


def test_tools_that_are_done_keep_their_results_when_their_turn_is_cancelled_meanwhile(tmp_path: Path) -> None:
    done: list[str] = []
    all_done = trio.Event()
    kits: list[tuple[Kit, str]] = []

    async def cancel() -> None:
        """The log is busy with the first result while the others come in."""
        kit, session = kits[0]
        await all_done.wait()
        await kit.manager.cancel(session, ME)

    def count(name: str, measured: object, about: object) -> None:
        done.append(name)
        if len(done) == 3:
            all_done.set()

    model = ScriptedModel([Reply([bash("true"), bash("true"), bash("true")]), Reply([Text("next")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=HookedJournal("tool.finished", before=cancel)) as kit:
            kit.bus.attach("done", ["execute.stop"], count)
            session = await kit.session()
            kits.append((kit, session))
            assert (await kit.ask(session, "go"))["status"] == "cancelled"
            finished = [event.data["outcome"] for event in await kit.events(session) if event.type == "tool.finished"]
            assert finished == ["ok"] * 3
            await kit.ask(session, "again")
            results = model.requests[-1].messages[2]["content"]
            assert [block["content"] for block in results if block["type"] == "tool_result"] == ["(no output)"] * 3

    run(main)


def test_a_cancel_while_the_very_last_result_is_committed_comes_too_late(tmp_path: Path) -> None:
    kits: list[tuple[Kit, str]] = []
    skill = tmp_path / "source" / "hi"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: hi\ndescription: x\n---\n\nx\n")
    (skill / "scripts" / "run.sh").write_text("#!/bin/bash\necho hi\n")
    (skill / "scripts" / "run.sh").chmod(0o755)

    async def cancel() -> None:
        kit, session = kits[0]
        await kit.manager.cancel(session, ME)

    async def main() -> None:
        wrap = HookedJournal("tool.finished", before=cancel)
        async with open_kit(tmp_path, ScriptedModel([]), skills=[skill], wrap=wrap) as kit:
            session = await kit.session()
            kits.append((kit, session))
            turn = await kit.ask(session, "/hi")
            assert (turn["status"], turn["result"]["text"].strip()) == ("finished", "hi")
            assert (await kit.types(session))[-2:] == ["model.message", "turn.finished"]

    run(main)


def test_a_complete_answer_cancelled_before_its_message_is_committed_stays_in_the_history(tmp_path: Path) -> None:
    kits: list[tuple[Kit, str]] = []

    async def cancel() -> None:
        kit, session = kits[0]
        await kit.manager.cancel(session, ME)

    model = ScriptedModel([Reply([Text("the whole answer")]), Reply([Text("next")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=HookedJournal("model.delta", before=cancel)) as kit:
            session = await kit.session()
            kits.append((kit, session))
            assert (await kit.ask(session, "a"))["result"]["text"] == "the whole answer"
            await kit.ask(session, "b")
            assert "the whole answer" in str(model.requests[-1].messages)

    run(main)


# -- stopping ----------------------------------------------------------------------------------------------------


def test_a_stop_during_tools_writes_interrupted_with_text_and_usage(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([Text("let me see"), bash("echo one; sleep 60"), bash("echo two; sleep 60")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "go")).turn
            await see(kit, session, "tool.output")
            await kit.system.shutdown()
            types = [event.type for event in await kit.journal.read_events(session)]
            assert types.count("tool.started") == types.count("tool.finished")
            assert types[-1] == "turn.interrupted"
            assert await kit.journal.unfinished_turns() == ()
            stored = await kit.journal.get_turn(turn)
            assert stored is not None
            assert stored.result is not None
            assert (stored.result["stop_reason"], stored.result["text"]) == ("shutdown", "let me see")
            assert stored.result["usage"]["output_tokens"] > 0

    run(main)


@pytest.mark.parametrize("type", ["model.message", "turn.finished"])
def test_a_stop_while_a_turn_ends_leaves_it_ended_once_and_whole(tmp_path: Path, type: str) -> None:
    committing = Gate()
    wrap = HookedJournal(type, before=committing)

    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("the answer")])]), wrap=wrap) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "go")
            await committing.reached.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.system.shutdown)
                await trio.testing.wait_all_tasks_blocked()
                committing.opened.set()
            events = await kit.journal.read_events(session)
            assert len(endings([event.type for event in events])) == 1
            assert events[-1].type in ("turn.finished", "turn.interrupted")
            assert events[-1].data["text"] == "the answer"
            assert await kit.journal.unfinished_turns() == ()

    run(main)


def test_a_turn_that_waits_for_a_slot_stays_queued_over_a_stop(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("abcdefgh" * 4)], holds={2: hold})])

    async def main() -> None:
        async with open_kit(tmp_path, model, slots=1) as kit:
            running, waiting = await kit.session(), await kit.session()
            await kit.manager.submit(running, ME, "a")
            await see(kit, running, "model.delta")
            turn = (await kit.manager.submit(waiting, ME, "important")).turn
            await trio.testing.wait_all_tasks_blocked()
            assert len(actors(kit)) == 2
            assert not await kit.manager.drain(0.05)
            await kit.system.shutdown()
            stored = await kit.journal.get_turn(turn)
            assert stored is not None
            assert stored.status == "queued"

    run(main)


def test_a_message_that_was_being_committed_when_the_drain_began_stays_queued(tmp_path: Path) -> None:
    kits: list[Kit] = []

    async def drain() -> None:
        assert await kits[0].manager.drain(1)

    model = ScriptedModel([Reply([Text("too early")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=HookedJournal("turn.queued", before=drain)) as kit:
            kits.append(kit)
            accepted = await kit.manager.submit(await kit.session(), ME, "go")
            await trio.testing.wait_all_tasks_blocked()
            await kit.system.shutdown()
            assert model.requests == []
            stored = await kit.journal.get_turn(accepted.turn)
            assert stored is not None
            assert stored.status == "queued"

    run(main)


# -- retention, resets and full disks ----------------------------------------------------------------------------


def test_a_session_is_not_retired_while_a_message_for_it_is_taken_in(tmp_path: Path) -> None:
    """It is not in memory when its time is over, and a message comes while it is read."""
    opened = Gate()

    class SlowToOpen:
        def __init__(self, journal: SqliteJournal) -> None:
            self._journal = journal

        def __getattr__(self, name: str) -> Any:
            return getattr(self._journal, name)

        async def open_session(self, session: str) -> Any:
            await opened()
            return await self._journal.open_session(session)

    async def main() -> None:
        model = ScriptedModel([Reply([Text("still here")])])
        async with open_kit(tmp_path, model, wrap=SlowToOpen) as kit:
            session = await kit.session()
            turns: list[str] = []

            async def submit() -> None:
                turns.append((await kit.manager.submit(session, ME, "hello")).turn)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(submit)
                await opened.reached.wait()
                nursery.start_soon(kit.manager.retire, session)
                await trio.testing.wait_all_tasks_blocked(0.05)
                opened.opened.set()
            assert (await kit.manager.get_turn(turns[0], ME, wait_s=10))["status"] == "finished"

    run(main)


def test_a_reset_is_refused_where_what_runs_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill_actors.sessions.manager._END_WAIT_S", 0.2)
    ending = Gate()
    wrap = HookedJournal("turn.cancelled", before=ending)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("sleep 60")])])
        async with open_kit(tmp_path, model, wrap=wrap) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "hello")
            await see(kit, session, "tool.started")
            with pytest.raises(Refused) as caught:
                await kit.manager.reset(session, ME)
            assert caught.value.code == "overloaded"
            assert "session.reset" not in await kit.types(session)
            ending.opened.set()
            await see(kit, session, "turn.cancelled")

    run(main)


def test_a_turn_that_was_cancelled_while_the_disk_was_too_full_to_begin_it_never_runs(tmp_path: Path) -> None:
    beginning = Gate()

    async def full() -> None:
        await beginning()
        raise StorageFull("no room")

    class Full(HookedJournal):
        async def append(self, change: Append) -> None:
            if "turn.cancelled" in [event.type for event in change.events] and not self.had:
                self.had = True
                raise StorageFull("no room")
            await super().append(change)

        had = False

    async def main() -> None:
        model = ScriptedModel([Reply([Text("never seen")])])
        async with open_kit(tmp_path, model, wrap=Full("turn.started", before=full)) as kit:
            session = await kit.session()
            turn = (await kit.manager.submit(session, ME, "hello")).turn
            await beginning.reached.wait()
            assert (await kit.manager.cancel(session, ME))["cancelled"] == [turn]
            beginning.opened.set()
            ended = await kit.manager.get_turn(turn, ME, wait_s=20)
            assert ended["status"] in ("cancelled", "failed")
            assert "turn.started" not in await kit.types(session)

    run(main)
