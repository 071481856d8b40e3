"""Asking, telling and waiting for agents: queues, keys, times, pipes and fans."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from desk_kit import UID, DeskKit, open_desk, refused
from session_kit import ME
from skill_actors.errors import Refused
from skill_actors.testing import Reply, ScriptedModel, Text
from skill_actors.testing.replies import Answer
from skill_actors.workshop.agents.asking import Message
from skill_actors.workshop.agents.gathering import Gather, chosen_by, judge_text
from skill_actors.workshop.agents.templates import filled, handed_on
from support import run


class Talk:
    """A model that answers by what it is told, and holds what begins with "hold" until `let`."""

    def __init__(self) -> None:
        self.let = trio.Event()
        self.model = ScriptedModel(respond=self.respond)

    def respond(self, request: Mapping[str, Any]) -> Answer:
        content = request["messages"][-1]["content"]
        text = content if isinstance(content, str) else "".join(block.get("text", "") for block in content)
        if text.startswith("hold"):
            return Reply([Text("begun "), Text("done")], holds={1: self.let})
        if "Which answer is the best one?" in text or "Choose" in text:
            return Reply([Text("2" if "judge well" in str(request["system"]) else "The second, I think.")])
        if text.startswith("refuse"):
            return Reply([Text("no")], stop_reason="refusal")
        return Reply([Text(f"echo: {text}")])


async def working(kit: DeskKit, name: str) -> None:
    with trio.fail_after(20):
        while True:
            if (await kit.view(name))["status"] == "working" and kit.kit.manager.status()["turns_running"]:
                return
            await trio.sleep(0.01)


def test_a_queue_is_bounded_and_drained_in_order(tmp_path: Path) -> None:
    """Five wait by default (G23); what is one too many is refused before anything of it is stored."""
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            first = await kit.desk.cast(UID, "a", "hold")
            await working(kit, "a")
            waiting = [await kit.desk.cast(UID, "a", f"number {n}") for n in range(5)]
            error = await refused("overloaded", kit.desk.cast(UID, "a", "too much"), reason="queue_full")
            assert error.details["queued"] == 5
            assert error.retryable
            assert (await kit.view("a"))["queue_depth"] == 5
            talk.let.set()
            waited = await kit.desk.asking.await_agent(UID, "a", wait_s=20)
            assert (waited["idle"], waited["open"], waited["turn"]["turn"]) == (True, 0, waiting[-1].turn)
            turns = await kit.desk.agents.history(UID, "a", last=100)
            assert [turn["turn"] for turn in turns] == [sent.turn for sent in (first, *waiting)]

    run(main)


def test_a_queue_of_none_takes_messages_only_when_nothing_runs(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a", queue=0)
            sent = await kit.desk.cast(UID, "a", "hold")
            await working(kit, "a")
            await refused("overloaded", kit.desk.cast(UID, "a", "x"), reason="queue_full")
            talk.let.set()
            assert (await kit.desk.await_turn(UID, sent.turn, 20))["status"] == "finished"

    run(main)


def test_many_casts_at_once_never_pass_the_bound(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a", queue=3)
            await kit.desk.cast(UID, "a", "hold")
            await working(kit, "a")
            outcomes: list[str] = []

            async def cast(number: int) -> None:
                try:
                    outcomes.append((await kit.desk.cast(UID, "a", f"number {number}")).turn)
                except Refused as error:
                    outcomes.append(str(error.details["reason"]))

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(cast, number)
            assert outcomes.count("queue_full") == 17
            assert len(set(outcomes)) == 4
            talk.let.set()
            assert (await kit.desk.asking.await_agent(UID, "a", wait_s=20))["idle"]

    run(main)


def test_the_same_key_is_the_same_turn_also_when_the_queue_is_full(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a", queue=1)
            await kit.desk.cast(UID, "a", "hold")
            await working(kit, "a")
            first = await kit.desk.cast(UID, "a", "x", key="k")
            again = await kit.desk.cast(UID, "a", "x", key="k")
            assert (again.turn, again.accepted.duplicate) == (first.turn, True)
            await refused("idempotency_conflict", kit.desk.cast(UID, "a", "y", key="k"))
            talk.let.set()

    run(main)


def test_an_ask_waits_behind_what_was_cast(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            cast = await kit.desk.cast(UID, "a", "hold")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.answer, "a", "after")
                await working(kit, "a")
                talk.let.set()
            turns = await kit.desk.agents.history(UID, "a", last=2)
            assert turns[0]["turn"] == cast.turn
            assert turns[1]["result"]["text"] == "echo: after"

    run(main)


def test_an_answer_that_does_not_come_in_time_is_cancelled_and_keeps_what_was_said(tmp_path: Path) -> None:
    """The time bounds asks and casts; nothing hangs behind it, and the text is not lost (G9)."""
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            for turn in (
                await kit.ask("a", "hold", timeout_s=2),
                await kit.desk.await_turn(UID, (await kit.desk.cast(UID, "a", "hold", timeout_s=2)).turn, 20),
            ):
                assert turn["status"] == "failed"
                assert turn["result"]["error"]["code"] == "turn_timeout"
                assert turn["result"]["text"].startswith("begun")
            assert (await kit.view("a"))["status"] == "idle"
            assert await kit.answer("a", "next") == "echo: next"

    run(main)


def test_what_waits_too_long_in_the_queue_is_cancelled_there(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            await kit.desk.cast(UID, "a", "hold")
            await working(kit, "a")
            turn = await kit.ask("a", "behind", timeout_s=0.2)
            assert turn["status"] == "cancelled"
            assert "no answer within 0.2 s" in turn["result"]["error"]["message"]
            assert len(kit.kit.manager.open_turns((await kit.view("a"))["session"])) == 1
            talk.let.set()

    run(main)


def test_the_time_of_the_agent_bounds_every_turn(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a", timeout_s=1)
            turn = await kit.ask("a", "hold", timeout_s=600)
            assert turn["result"]["error"]["code"] == "turn_timeout"
            sent = await kit.desk.cast(UID, "a", "hold")  # as schedules and workers tell it
            turn = await kit.desk.await_turn(UID, sent.turn, 20)
            assert turn["result"]["error"]["code"] == "turn_timeout"

    run(main)


def test_waiting_for_an_agent_ends_when_its_queue_is_empty_and_not_before(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            for name in "ab":
                await kit.define(name)
            idle = await kit.desk.asking.await_agent(UID, "a", wait_s=5)
            assert idle == {"agent": "a", "idle": True, "open": 0, "turn": None}
            await kit.desk.cast(UID, "a", "hold")
            await kit.desk.cast(UID, "a", "more")
            early = await kit.desk.asking.await_agent(UID, "a", wait_s=0.1)
            assert (early["idle"], early["open"]) == (False, 2)
            talk.let.set()
            found = await kit.desk.await_all(UID, None, 20)
            assert [(item["agent"], item["idle"]) for item in found] == [("a", True), ("b", True)]
            assert found[0]["turn"]["result"]["text"] == "echo: more"
            await refused("not_found", kit.desk.await_all(UID, ["nobody"], 1))

    run(main)


def test_only_an_idle_agent_is_told_what_is_for_an_idle_one(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            await kit.desk.cast(UID, "a", "hold")
            assert await kit.desk.cast_due(UID, "a", "tick", key="t1", only_idle=True) is None
            queued = await kit.desk.cast_due(UID, "a", "tick", key="t1", only_idle=False)
            assert queued is not None
            assert await kit.desk.cast_due(UID, "a", "tick", key="t1", only_idle=True) == queued
            talk.let.set()
            await kit.desk.await_all(UID, ["a"], 20)
            assert await kit.desk.cast_due(UID, "a", "tick", key="t2", only_idle=True) not in (None, queued)
            await refused("not_found", kit.desk.cast_due(UID, "b", "tick", key="t", only_idle=True))

    run(main)


def test_the_effort_of_an_agent_goes_with_each_message(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a", effort="low")
            sent = await kit.desk.cast(UID, "a", "one")
            other = await kit.desk.cast(UID, "a", "two", options={"effort": "high"})
            # While a text is being written, readers see nothing of what was stored behind its beginning.
            await kit.desk.await_turn(UID, other.turn, wait_s=20)
            events = {event.turn: event for event in await kit.kit.events(sent.accepted.session)
                      if event.type == "turn.queued"}  # fmt: skip
            assert events[sent.turn].data["options"] == {"effort": "low"}
            assert events[other.turn].data["options"] == {"effort": "high"}

    run(main)


def test_a_pipe_waits_and_tells_the_result(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            for name in "abc":
                await kit.define(name)
            desk = kit.desk.handing_on
            await refused("conflict", desk.pipe(UID, "a", "b"), reason="no_result")
            await kit.desk.cast(UID, "a", "one")
            turn = await desk.pipe(UID, "a", "b", message="look:")
            assert (turn["agent"], turn["result"]["text"]) == ("b", "echo: look:\n\necho: one")
            turn = await desk.pipe(UID, "b", "c", template="[{result}] from {from}")
            assert turn["result"]["text"] == "echo: [echo: look:\n\necho: one] from b"
            await refused("bad_request", desk.pipe(UID, "b", "c", template="{resutl}"))

    run(main)


def test_an_error_passes_through_a_pipe_and_nobody_is_told(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            await kit.define("b")
            failed = await kit.ask("a", "hold", timeout_s=2)
            turn = await kit.desk.handing_on.pipe(UID, "a", "b")
            assert (turn["agent"], turn["turn"], turn["status"]) == ("a", failed["turn"], "failed")
            await kit.told("error")
            assert (await kit.view("b"))["turns"] == 0

    run(main)


def test_a_pipe_does_not_wait_for_ever(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            await kit.define("b")
            await kit.desk.cast(UID, "a", "hold")
            await refused("conflict", kit.desk.handing_on.pipe(UID, "a", "b", timeout_s=0.2), reason="still_busy")
            talk.let.set()

    run(main)


async def fan(kit: DeskKit, names: str, text: str, kind: str, **more: Any) -> dict[str, Any]:
    quorum, judge = more.pop("quorum", None), more.pop("judge", None)
    gather = Gather.of_request(kind, quorum, judge, list(names))
    return await kit.desk.handing_on.fan(UID, list(names), Message(text=text, **more), gather, judge=judge)


def test_a_fan_gathers_all_answers_and_says_who_refused(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            for name in "ab":
                await kit.define(name)
            found = await fan(kit, "abx", "hello", "all")
            assert found["reached"] is False
            assert [result["status"] for result in found["results"]] == ["finished", "finished", "refused"]
            assert found["results"][2]["error"]["code"] == "not_found"
            found = await fan(kit, "ab", "hello", "all")
            assert found["reached"] is True
            assert [result["result"]["text"] for result in found["results"]] == ["echo: hello"] * 2
            none = await fan(kit, "ab", "hello", "none")
            assert [result["status"] for result in none["results"]] == ["queued", "queued"]
            for names in ("", "aa"):
                await refused("bad_request", fan(kit, names, "x", "all"))

    run(main)


def test_a_fan_cancels_the_others_once_it_has_enough(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            for name in "abc":
                await kit.define(name)
            slow = await kit.desk.cast(UID, "c", "hold")  # what is told to c waits behind it
            found = await fan(kit, "abc", "hello", "quorum", quorum=2)
            assert found["reached"] is True
            assert [result["status"] for result in found["results"]] == ["finished", "finished", "cancelled"]
            assert "enough of the other agents" in found["results"][2]["result"]["error"]["message"]
            assert (await kit.desk.await_turn(UID, slow.turn, 0))["status"] == "running"
            found = await fan(kit, "ca", "hello", "first")
            assert [result["status"] for result in found["results"]] == ["cancelled", "finished"]
            talk.let.set()

    run(main)


def test_a_quorum_that_cannot_be_reached_is_given_up_at_once(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            await kit.define("a")
            found = await fan(kit, "axy", "hold", "quorum", quorum=2)  # x and y do not exist
            assert found["reached"] is False
            assert found["results"][0]["status"] == "cancelled"

    run(main)


def test_a_judge_chooses_by_number_and_a_bad_answer_is_an_error(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            for name in "ab":
                await kit.define(name)
            await kit.define("wise", role="judge well")
            await kit.define("vague")
            found = await fan(kit, "ab", "hello", "best", judge="wise")
            assert (found["best"]["agent"], found["best"]["number"]) == ("b", 2)
            await refused("conflict", fan(kit, "ab", "hello", "best", judge="vague"), reason="no_choice")
            await refused("bad_request", fan(kit, "ab", "x", "best", judge="a"))
            await refused("not_found", fan(kit, "ab", "x", "best", judge="nobody"))

    run(main)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", 2), (" 2\n", 2), ("#3", 3), ("1.", 1), ('{"best": 2}', 2),
        ("0", None), ("4", None), ("-1", None), ("2 and 3", None), ("the second", None), ("", None), ("2.5", None),
        ('{"best": 2, "why": "x"}', None), ('{"best": true}', None), ('{"best": "2"}', None), ("[2]", None),
        ("[" * 100_000, None), ("²", None), ("9" * 50, None),
    ],
)  # fmt: skip
def test_a_choice_is_a_number_alone_and_never_guessed(text: str, number: int | None) -> None:
    assert chosen_by(text, 3) == number


def test_the_judge_is_shown_every_answer_with_its_number() -> None:
    text = judge_text("the task", ["one", "two"], criterion="Choose the shorter one.")
    assert "the task" in text
    assert "<answer number=1>\none\n</answer>" in text
    assert "<answer number=2>\ntwo\n</answer>" in text
    assert "Choose the shorter one. Answer with its number alone, from 1 to 2" in text


def test_a_template_is_filled_once_and_its_unknown_places_are_named() -> None:
    assert filled("{a} {{a}} {b", {"a": "{b}"}) == "{b} {a} {b"
    assert filled('{"x": {a}} {1}', {"a": "1"}) == '{"x": 1} {1}'
    assert handed_on("a", "R", message=None, template=None) == "This is the result of the agent a:\n\nR"
    with pytest.raises(Refused, match=r"did you mean \{result\}\?"):
        filled("{resul}", {"result": "", "message": ""})


@pytest.mark.parametrize(
    ("kind", "quorum", "judge"),
    [("some", None, None), ("all", 1, None), ("quorum", None, None), ("quorum", 3, None), ("best", None, None),
     ("first", None, "j"), ("quorum", 0, None)],
)  # fmt: skip
def test_a_gathering_that_contradicts_itself_is_refused(kind: str, quorum: int | None, judge: str | None) -> None:
    with pytest.raises(Refused) as caught:
        Gather.of_request(kind, quorum, judge, ["a", "b"])
    assert caught.value.code == "bad_request"


def test_a_message_can_go_to_a_paused_agent_and_waits(tmp_path: Path) -> None:
    talk = Talk()

    async def main() -> None:
        async with open_desk(tmp_path, talk.model) as kit:
            session = (await kit.define("a"))["session"]
            await kit.kit.manager.pause(session, ME)
            sent = await kit.desk.cast(UID, "a", "x")
            assert (await kit.view("a"))["status"] == "paused"
            await kit.kit.manager.resume(session, ME)
            assert (await kit.desk.await_turn(UID, sent.turn, 20))["status"] == "finished"

    run(main)
