"""Messages to turns that run: durable, given to the model once, and ordinary ones where no turn can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from policy_kit import ruled
from session_kit import ME, open_kit
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.events import TURN_ENDINGS
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.sessions.table import Viewer
from skill_actors.store import Append
from skill_actors.testing import Reply, ScriptedModel, Text
from steering_kit import Full, Mortal, Slow, bash, begun, ended, refused, said, see, steer
from support import run

# -- steering ----------------------------------------------------------------------------------------------------


def test_a_message_to_a_turn_that_runs_tools_is_in_its_next_model_call(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("while [ ! -e go ]; do sleep 0.05; done")]), Reply([Text("done")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit, until="tool.started")
            accepted = await steer(kit, session, "only the last ten")
            assert (accepted.status, accepted.turn, accepted.duplicate) == ("steered", turn, False)
            stored = await kit.journal.read_events(session, after=accepted.seq - 1, through=accepted.seq)
            assert (stored[0].type, stored[0].turn) == ("turn.steered", turn)
            assert stored[0].data == {"text": "only the last ten", "files": []}
            (tmp_path / "workspaces" / session / "go").touch()
            result = (await ended(kit, turn))["result"]
            assert (result["text"], result["iterations"]) == ("done", 2)
            kinds = [block["type"] for block in model.requests[1].messages[-1]["content"]]
            assert kinds == ["tool_result", "text"]
            assert said(model.requests[1]) == ["begin", "only the last ten"]

    run(main)


def test_a_message_that_comes_while_the_last_answer_is_written_is_answered_in_the_same_turn(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("first answer")], holds={1: hold}), Reply([Text("second answer")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit)
            assert (await steer(kit, session, "and more")).status == "steered"
            hold.set()
            assert (await ended(kit, turn))["result"]["text"] == "second answer"
            roles = [message["role"] for message in model.requests[1].messages]
            assert roles == ["user", "assistant", "user"]
            assert said(model.requests[1]) == ["begin", "and more"]
            assert (await kit.types(session)).count("turn.finished") == 1

    run(main)


def test_what_goes_with_a_message_goes_with_it_into_the_running_turn_and_into_the_queue(tmp_path: Path) -> None:
    """Its note, and how many may wait: of a session that is paused before its turn begins none can be reached."""

    hold = trio.Event()

    async def main() -> None:
        held = Reply([Text("word " * 30)], holds={1: hold})
        model = ScriptedModel([held, Reply([Text("done")]), Reply([Text("at last")]), Reply([Text("two")])])
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit)
            accepted = await kit.manager.submit(session, ME, "more", mode="steer", note="(a note)")
            assert (accepted.status, accepted.turn) == ("steered", turn)
            hold.set()
            await ended(kit, turn)
            assert said(model.requests[1]) == ["begin", "more\n\n(a note)"]
            await kit.manager.pause(session, ME)
            first = await kit.manager.submit(session, ME, "one", mode="steer", note="(of one)")
            assert first.status == "queued"
            await steer(kit, session, "two")
            with refused("overloaded"):
                await kit.manager.submit(session, ME, "three", mode="steer", most_waiting=1)
            await kit.manager.resume(session, ME)
            assert (await ended(kit, first.turn))["result"]["text"] == "at last"
            assert said(model.requests[2])[-1] == "one\n\n(of one)"

    run(main)


def test_without_a_turn_it_is_an_ordinary_message_and_the_answer_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("hello")])])) as kit:
            session = await kit.session()
            accepted = await steer(kit, session, "anybody?")
            assert accepted.status == "queued"
            assert (await ended(kit, accepted.turn))["result"]["text"] == "hello"
            assert "turn.steered" not in await kit.types(session)

    run(main)


@pytest.mark.parametrize("late", ["model.message", "turn.finished"])
def test_one_that_comes_as_the_turn_ends_is_answered_whichever_of_the_two_is_first(tmp_path: Path, late: str) -> None:
    """The commit of the turn's last events is held, so that the message comes while they are being stored."""
    slow = Slow(late)
    model = ScriptedModel([Reply([Text("one")]), Reply([Text("two")])])

    async def main() -> None:
        async with open_kit(tmp_path, model, wrap=slow) as kit, trio.open_nursery() as nursery:
            session = await kit.session()
            first = (await kit.manager.submit(session, ME, "begin")).turn
            await slow.reached.wait()
            answers: list[Any] = []

            async def say() -> None:
                answers.append(await steer(kit, session, "and more"))

            nursery.start_soon(say)
            await trio.testing.wait_all_tasks_blocked()
            slow.go.set()
            await ended(kit, first)
            with trio.fail_after(10):
                while not answers:
                    await trio.lowlevel.checkpoint()
            assert (await ended(kit, answers[0].turn))["status"] == "finished"
            assert said(model.requests[-1]) == ["begin", "and more"]
            assert len(model.requests) == 2
            assert answers[0].status == ("steered" if late == "model.message" else "queued")

    run(main)


def test_the_same_key_is_taken_once_and_other_content_under_it_refused(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold}), Reply([Text("y")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit)
            one = await steer(kit, session, "more", "k")
            two = await steer(kit, session, "more", "k")
            assert (two.seq, two.turn, two.status, two.duplicate) == (one.seq, turn, "steered", True)
            with refused("idempotency_conflict", "other content"):
                await steer(kit, session, "something else", "k")
            hold.set()
            await ended(kit, turn)
            assert (await steer(kit, session, "more", "k")).duplicate
            assert said(model.requests[-1]).count("more") == 1
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            again = await steer(kit, session, "more", "k")
            assert (again.seq, again.status, again.duplicate) == (one.seq, "steered", True)

    run(main)


def test_only_the_latest_keys_of_steered_messages_are_kept(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold}), Reply([Text("y")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit)
            for number in range(64):
                assert (await steer(kit, session, f"n{number}", f"k{number}")).status == "steered"
            with refused("overloaded", "64 messages"):
                await steer(kit, session, "one too many")
            record = await kit.journal.get_session(session)
            assert record is not None
            assert len(record.settings["steered"]) == 64
            hold.set()
            await ended(kit, turn)
            assert said(model.requests[-1]) == ["begin", *(f"n{number}" for number in range(64))]

    run(main)


def test_what_only_a_turn_of_its_own_can_have_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel()) as kit:
            session = await kit.session()
            asked: dict[str, dict[str, Any]] = {
                "schema": {"schema": {"type": "object"}},
                "options": {"options": {"effort": "low"}},
                "pinned": {"pinned": True},
            }
            for field, given in asked.items():
                with refused("bad_request", field):
                    await kit.manager.submit(session, ME, "x", mode="steer", **given)
            with refused("bad_request", "artifacts"):
                await kit.manager.submit(session, ME, "x", mode="steer", artifacts=[{"name": "a", "content": "b"}])
            assert await kit.events(session) == []

    run(main)


def test_bad_messages_are_refused_and_the_turn_hears_nothing(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold})])
    defaults = SessionDefaults(max_message_chars=100)

    async def main() -> None:
        async with open_kit(tmp_path, model, defaults=defaults) as kit:
            session, turn = await begun(kit)
            with refused("too_large", "101 characters"):
                await steer(kit, session, "x" * 101)
            with refused("bad_request", "NUL"):
                await steer(kit, session, "a\0b")
            with refused("bad_request", "empty"):
                await steer(kit, session, " \n")
            with refused("bad_request", "Idempotency-Key"):
                await steer(kit, session, "x", "k" * 256)
            with refused("not_found"):
                await kit.manager.submit(session, Viewer(uid=7), "x", mode="steer")
            hold.set()
            await ended(kit, turn)
            assert len(model.requests) == 1
            assert "turn.steered" not in await kit.types(session)

    run(main)


def test_a_full_disk_refuses_the_message_and_the_turn_goes_on(tmp_path: Path) -> None:
    hold = trio.Event()

    async def main() -> None:
        async with open_kit(
            tmp_path, ScriptedModel([Reply([Text("an answer so far")], holds={1: hold})]), wrap=Full("turn.steered")
        ) as kit:
            session, turn = await begun(kit)
            with refused("storage_full"):
                await steer(kit, session, "more")
            hold.set()
            assert (await ended(kit, turn))["status"] == "finished"

    run(main)


@pytest.mark.parametrize("stored", [False, True])
def test_a_kill_at_the_commit_loses_nothing_and_a_retry_repeats_nothing(tmp_path: Path, stored: bool) -> None:
    """The process dies as the message is being stored: before it is, or after, unanswered either way."""
    never = trio.Event()
    mortal = Mortal("turn.steered", stored=stored)

    async def main() -> None:
        async with open_kit(
            tmp_path, ScriptedModel([Reply([Text("an answer so far")], holds={1: never})]), wrap=mortal
        ) as kit:
            session, turn = await begun(kit)
            with refused("draining"):
                await steer(kit, session, "more", "k")
        model = ScriptedModel([Reply([Text("a")]), Reply([Text("b")])])
        async with open_kit(tmp_path, model) as kit:
            assert (await ended(kit, turn))["status"] == "interrupted"
            again = await steer(kit, session, "more", "k")
            assert (again.status, again.duplicate) == (("steered", True) if stored else ("queued", False))
            await ended(kit, again.turn)
            await kit.ask(session, "last")
            assert said(model.requests[-1]) == ["begin", "more", "last"]
            types = await kit.types(session)
            assert sum(type in TURN_ENDINGS for type in types) == types.count("turn.started")

    run(main)


def test_a_cancelled_turn_leaves_what_it_was_told_to_the_next_one(tmp_path: Path) -> None:
    never = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: never}), Reply([Text("y")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit)
            await steer(kit, session, "more")
            await kit.manager.cancel(session, ME)
            late = await steer(kit, session, "too late")
            assert late.status == "queued"
            assert (await ended(kit, turn))["status"] == "cancelled"
            assert (await ended(kit, late.turn))["status"] == "finished"
            assert said(model.requests[-1]) == ["begin", "more", "too late"]

    run(main)


def test_files_that_come_along_are_in_the_workspace_and_named(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("while [ ! -e a.csv ]; do sleep 0.05; done; cat a.csv")]), Reply([Text("z")])])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, turn = await begun(kit, until="tool.started")
            accepted = await kit.manager.submit(session, ME, "look at this", [("a.csv", b"1,2")], mode="steer")
            assert accepted.status == "steered"
            await ended(kit, turn)
            last = model.requests[1].messages[-1]["content"]
            assert last[0]["content"] == "1,2"
            assert "a.csv" in last[1]["text"]
            assert last[2]["text"] == "look at this"

    run(main)


# -- interrupting ------------------------------------------------------------------------------------------------


def test_an_interrupting_message_ends_the_turn_and_goes_before_those_that_wait(tmp_path: Path) -> None:
    never = trio.Event()
    model = ScriptedModel(
        [Reply([Text("half an answer")], holds={1: never})], respond=lambda _body: Reply([Text("ok")])
    )

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session, first = await begun(kit, text="first")
            waiting = (await kit.manager.submit(session, ME, "waits")).turn
            now = await kit.manager.submit(session, ME, "stop, this instead", mode="interrupt")
            assert now.status == "queued"
            assert (await ended(kit, waiting))["status"] == "finished"
            cancelled = await ended(kit, first)
            assert cancelled["status"] == "cancelled"
            assert cancelled["result"]["error"]["message"] == "interrupted by a newer message"
            assert cancelled["result"]["text"]
            assert said(model.requests[1]) == ["first", "stop, this instead"]
            assert model.requests[1].messages[1]["content"][0]["text"] == cancelled["result"]["text"]
            assert said(model.requests[2]) == ["first", "stop, this instead", "waits"]

    run(main)


def test_the_latest_of_several_interrupting_messages_is_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(respond=lambda _body: Reply([Text("ok")]))
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.manager.pause(session, ME)
            await kit.manager.submit(session, ME, "a")
            await kit.manager.submit(session, ME, "b", mode="interrupt")
            await kit.manager.submit(session, ME, "c", mode="interrupt")
        async with open_kit(tmp_path, model) as kit:  # their order is that of before, over a restart
            last = (await kit.manager.submit(session, ME, "d")).turn
            await kit.manager.resume(session, ME)
            await ended(kit, last)
            assert said(model.requests[-1]) == ["c", "b", "a", "d"]

    run(main)


def test_a_retry_of_an_interrupting_message_does_not_interrupt_itself(tmp_path: Path) -> None:
    hold = trio.Event()
    model = ScriptedModel([Reply([Text("an answer so far")], holds={1: hold})])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            one = await kit.manager.submit(session, ME, "now", (), "k", mode="interrupt")
            await see(kit, session, "model.delta")
            two = await kit.manager.submit(session, ME, "now", (), "k", mode="interrupt")
            assert (two.turn, two.duplicate) == (one.turn, True)
            with refused("idempotency_conflict"):
                await kit.manager.submit(session, ME, "now", (), "k")
            hold.set()
            assert (await ended(kit, one.turn))["status"] == "finished"

    run(main)


def test_a_turn_that_waits_for_an_approval_is_not_taken_up_again_if_it_was_being_interrupted(tmp_path: Path) -> None:
    """The process dies when the interrupting message is stored, and before the turn is cancelled."""
    asks = SessionDefaults(policy=ruled(ask=["bash_tool"]))

    class Dying(Mortal):
        async def append(self, change: Append) -> None:
            self.type = "turn.queued" if any(e.data.get("mode") for e in change.events) else ""
            await super().append(change)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("true")])])
        mortal = Dying("", stored=True)
        async with open_kit(tmp_path, model, desk=ApprovalDesk, defaults=asks, wrap=mortal) as kit:
            session, turn = await begun(kit, until="approval.requested")
            assert (await kit.manager.get(session, ME))["status"] == "waiting"
            with refused("draining"):
                await kit.manager.submit(session, ME, "this instead", (), "k", mode="interrupt")
        model = ScriptedModel([Reply([Text("ok")])])
        async with open_kit(tmp_path, model, desk=ApprovalDesk, defaults=asks) as kit:
            now = await kit.manager.submit(session, ME, "this instead", (), "k", mode="interrupt")
            assert now.duplicate
            assert (await ended(kit, now.turn))["result"]["text"] == "ok"
            assert (await ended(kit, turn))["status"] == "interrupted"
            assert said(model.requests[0]) == ["begin", "this instead"]

    run(main)
