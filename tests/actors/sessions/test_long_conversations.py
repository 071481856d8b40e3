"""Turns of a conversation that grows: it is made shorter in time, goes on, and is the same after a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from image_kit import png
from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.models.base import ModelRequest
from skill_actors.sessions.compaction import CompactionMode, CompactionSettings
from skill_actors.sessions.history import History
from skill_actors.sessions.shown_images import MAX_IMAGES
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing import HttpError, Meter, Reply, ScriptedModel, Text, ToolUse
from support import run

LONG = "the tide comes in at nine and goes out at three; " * 400  # 4,900 tokens
SUMMARY = "They spoke of tides."


@dataclass
class Talker:
    """Answers questions with `said`, and requests for a summary with `summary`; keeps both kinds apart."""

    said: list[Reply] = field(default_factory=list)
    summary: Reply | HttpError = field(default_factory=lambda: Reply([Text(SUMMARY)]))
    default: Callable[[Mapping[str, Any]], Reply] = lambda body: Reply([Text(LONG)])
    summaries: int = 0

    def __call__(self, body: Mapping[str, Any]) -> Reply | HttpError:
        if "You write summaries" in str(body.get("system")):
            self.summaries += 1
            return self.summary
        return self.said.pop(0) if self.said else self.default(body)


def run_long(main: Callable[[], Awaitable[None]]) -> None:
    """Run `main` under trio; more than five minutes is a failure."""

    async def bounded() -> None:
        with trio.fail_after(300):
            await main()

    trio.run(bounded, strict_exception_groups=True)


def settings(at: float = 0.00005, mode: CompactionMode = "own") -> SessionDefaults:
    """From 50 tokens on, of a window of a million."""
    return SessionDefaults(compaction=CompactionSettings(compact_at=at, mode=mode))


def questions(model: ScriptedModel) -> list[ModelRequest]:
    return [request for request in model.requests if "You write summaries" not in request.system]


async def compact(kit: Kit, session: str) -> dict[str, Any]:
    accepted = await kit.manager.submit(session, ME, "", compact=True)
    return await kit.manager.get_turn(accepted.turn, ME, wait_s=20)


async def summaries(kit: Kit, session: str) -> list[Mapping[str, Any]]:
    return [event.data for event in await kit.events(session) if event.type == "session.compacted"]


def test_past_the_threshold_a_summary_is_made_before_the_model_is_asked_again(tmp_path: Path) -> None:
    async def main() -> None:
        talker = Talker()
        model = ScriptedModel(respond=talker)
        async with open_kit(tmp_path, model, defaults=settings()) as kit:
            session = await kit.session()
            for number in range(3):
                assert (await kit.ask(session, f"question {number}"))["status"] == "finished"
            (first, *_) = await summaries(kit, session)
            assert first["by"] == "threshold"
            last = questions(model)[-1]
            assert SUMMARY in str(last.messages[0])
            assert "question 2" in str(last.messages[-1])
            assert "question 0" not in str(last.messages)
            gauge = (await kit.manager.get(session, ME))["context"]
            assert 0 < gauge["tokens"] < gauge["window"] == 1_000_000
            assert History(await kit.events(session)).messages()[:-1] == list(last.messages)

    run(main)


def test_in_the_middle_of_a_turn_the_question_and_the_results_stay(tmp_path: Path) -> None:
    async def main() -> None:
        look = ToolUse("bash_tool", {"command": "echo here it is", "description": "d"})
        talker = Talker([Reply([Text(LONG)]), Reply([Text(LONG), look]), Reply([Text("done")])])
        model = ScriptedModel(respond=talker)
        async with open_kit(tmp_path, model, defaults=settings()) as kit:
            session = await kit.session()
            await kit.ask(session, "question 0")
            turn = await kit.ask(session, "the task")
            assert turn["result"]["text"] == "done"
            last = questions(model)[-1]
            assert "the task" in str(last.messages[0])
            assert "here it is" in str(last.messages[-1])
            assert last.messages[-2]["content"][-1]["name"] == "bash_tool"

    run(main)


@pytest.mark.parametrize(("at", "mode"), [(0.0, "auto"), (0.00005, "off")])
def test_it_does_not_happen_by_itself_where_it_is_off_and_if_somebody_asks_it_does(
    tmp_path: Path, at: float, mode: CompactionMode
) -> None:
    async def main() -> None:
        talker = Talker()
        async with open_kit(tmp_path, ScriptedModel(respond=talker), defaults=settings(at, mode)) as kit:
            session = await kit.session()
            for number in range(3):
                await kit.ask(session, f"question {number}")
            assert talker.summaries == 0
            turn = await compact(kit, session)
            assert turn["status"] == "finished"
            assert "summary now" in turn["result"]["text"]
            assert turn["result"]["usage"]["output_tokens"] > 0
            assert talker.summaries == 1

    run(main)


def test_to_ask_for_it_where_it_cannot_be_says_why_and_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        talker = Talker([Reply([Text("short")])])
        async with open_kit(tmp_path, ScriptedModel(respond=talker), defaults=settings(0)) as kit:
            session = await kit.session()
            await kit.ask(session, "hi")
            turn = await compact(kit, session)
            assert turn["status"] == "finished"
            assert turn["result"]["text"].startswith("Nothing was changed: there is nothing in it")
            await kit.ask(session, "more")
            talker.summary = HttpError(400)
            turn = await compact(kit, session)
            assert "Nothing was changed: the model gave no summary" in turn["result"]["text"]
            assert [data["summary"] for data in await summaries(kit, session)] == [None, None]
            assert (await kit.ask(session, "still there?"))["status"] == "finished"

    run(main)


def test_a_full_window_is_answered_by_a_summary_and_one_more_try(tmp_path: Path) -> None:
    async def main() -> None:
        full = Reply([Text("half an ans")], stop_reason="model_context_window_exceeded")
        talker = Talker([Reply([Text(LONG)]), Reply([Text(LONG)]), full, Reply([Text("wer")])])
        model = ScriptedModel(respond=talker)
        async with open_kit(tmp_path, model, defaults=settings(0)) as kit:
            session = await kit.session()
            await kit.ask(session, "question 0")
            await kit.ask(session, "question 1")
            turn = await kit.ask(session, "the task")
            assert (turn["status"], turn["result"]["text"]) == ("finished", "half an answer")
            (made,) = await summaries(kit, session)
            assert made["by"] == "window"
            assert "Go on with the answer" in str(questions(model)[-1].messages[-1])

    run(main)


@pytest.mark.parametrize("mode", ["off", "server"])
def test_a_full_window_stays_full_where_the_operator_wants_no_summary_of_ours(
    tmp_path: Path, mode: CompactionMode
) -> None:
    async def main() -> None:
        talker = Talker([Reply([Text(LONG)]), Reply([Text("half")], stop_reason="model_context_window_exceeded")])
        async with open_kit(tmp_path, ScriptedModel(respond=talker), defaults=settings(0, mode)) as kit:
            session = await kit.session()
            await kit.ask(session, "question 0")
            assert (await kit.ask(session, "the task"))["result"]["stop_reason"] == "model_context_window_exceeded"
            assert talker.summaries == 0

    run(main)


def test_a_window_that_stays_full_ends_the_turn_after_one_more_try(tmp_path: Path) -> None:
    async def main() -> None:
        full = [Reply([Text("half")], stop_reason="model_context_window_exceeded") for _ in range(5)]
        talker = Talker([Reply([Text(LONG)]), Reply([Text(LONG)]), *full])
        model = ScriptedModel(respond=talker)
        async with open_kit(tmp_path, model, defaults=settings(0)) as kit:
            session = await kit.session()
            await kit.ask(session, "question 0")
            await kit.ask(session, "question 1")
            turn = await kit.ask(session, "the task")
            assert turn["result"]["stop_reason"] == "model_context_window_exceeded"
            assert len(questions(model)) == 4

    run(main)


@pytest.mark.parametrize("after", [{"options": {"model": "claude-haiku-4-5"}}, {"mode": "off"}, {"mode": "own"}])
def test_a_conversation_that_the_api_has_compacted_goes_on_where_it_does_not(
    tmp_path: Path, after: dict[str, Any]
) -> None:
    """With a model that takes no such summary, and where the operator has chosen another way meanwhile."""

    async def main() -> None:
        model = ScriptedModel(respond=Talker(), meter=Meter(now=lambda: 0.0, summarise=lambda _: SUMMARY))
        async with open_kit(tmp_path, model, defaults=settings(0.05, "auto")) as kit:
            session = await kit.session()
            for number in range(2):
                await kit.ask(session, f"question {number} " + "word " * 30_000)
            assert any(entry.summaries for entry in model.meter.bill)
        mode: CompactionMode = after.get("mode", "auto")
        async with open_kit(tmp_path, model, defaults=settings(0.8, mode)) as kit:
            accepted = await kit.manager.submit(session, ME, "go on", options=after.get("options"))
            turn = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            assert turn["status"] == "finished", turn
            assert SUMMARY in str(model.requests[-1].messages)
            assert "question 0" not in str(model.requests[-1].messages)
            assert (await kit.ask(session, "and back"))["status"] == "finished"

    run(main)


def test_a_message_that_no_window_holds_ends_its_turn_and_no_later_one(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(respond=Talker(), meter=Meter(now=lambda: 0.0))
        async with open_kit(tmp_path, model, defaults=settings(0)) as kit:
            session = await kit.session(model="claude-haiku-4-5")
            turn = await kit.ask(session, "word " * 250_000)
            assert turn["result"]["error"]["code"] == "model_context_exceeded"
            assert len(model.requests) == 1
            assert (await kit.ask(session, "and now?"))["status"] == "finished"
            assert len(model.requests) == 4  # refused, summarised, answered
            with pytest.raises(Refused, match="at most 100000 bytes can stay whole"):
                await kit.manager.submit(session, ME, "x" * 100_001, pinned=True)

    run(main)


def test_in_a_turn_whose_question_fills_the_window_old_results_go_and_not_with_every_call(tmp_path: Path) -> None:
    async def main() -> None:
        look = ToolUse("bash_tool", {"command": "seq 1 1200", "description": "d"})
        talker = Talker([*[Reply([Text("look"), look])] * 30, Reply([Text("done")])])
        model = ScriptedModel(respond=talker, meter=Meter(now=lambda: 0.0))
        async with open_kit(tmp_path, model, defaults=settings(0.8)) as kit:
            session = await kit.session(model="claude-haiku-4-5", limits={"iterations": 40})
            turn = await kit.ask(session, "word " * 150_000)
            assert (turn["status"], turn["result"]["text"]) == ("finished", "done")
            assert 0 < talker.summaries <= 5

    run(main)


def test_many_pictures_do_not_spoil_the_cache(tmp_path: Path) -> None:
    def look(body: Mapping[str, Any]) -> Reply:
        results = [block for block in body["messages"][-1]["content"] if block["type"] == "tool_result"]
        return Reply([Text("seen")]) if results else Reply([ToolUse("view", {"path": "a.png"})])

    async def main() -> None:
        model = ScriptedModel(respond=look, meter=Meter(now=lambda: 0.0))
        async with open_kit(tmp_path, model, defaults=settings(0, "off")) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "first", [("a.png", png(300, 300))])
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            for number in range(40):
                assert (await kit.ask(session, f"question {number}"))["status"] == "finished"
            usages = [entry.usage for entry in model.meter.bill[2 * MAX_IMAGES :]]
            read = sum(usage.cache_read_tokens for usage in usages)
            assert read > 0.85 * sum(usage.prompt_tokens for usage in usages)

    run(main)


def test_what_is_pinned_is_in_every_request(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(respond=Talker())
        async with open_kit(tmp_path, model, defaults=settings()) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "always use metres", pinned=True)
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            for number in range(4):
                await kit.ask(session, f"question {number}")
            assert all("always use metres" in str(request.messages) for request in questions(model))
            assert len(await summaries(kit, session)) >= 2

    run(main)


def test_a_compacted_conversation_is_exported_imported_forked_and_reset(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(respond=Talker())
        async with open_kit(tmp_path, model, defaults=settings()) as kit:
            session = await kit.session()
            for number in range(3):
                await kit.ask(session, f"question {number}")
            sent = History(await kit.events(session)).messages()
            fork = (await kit.manager.fork(session, ME))["id"]
            assert History(await kit.events(fork)).messages() == sent
            await kit.ask(fork, "go on")
            assert SUMMARY in str(questions(model)[-1].messages[0])
            await kit.manager.reset(session, ME)
            await kit.ask(session, "anew")
            assert SUMMARY not in str(questions(model)[-1].messages)
            assert "question 0" in str([event.data for event in await kit.events(session)])

    run(main)


def test_instructions_that_a_summary_has_cut_are_loaded_whole_again_in_the_same_turn(tmp_path: Path) -> None:
    async def main() -> None:
        root = tmp_path / "skills-of-the-test" / "tides"
        root.mkdir(parents=True)
        body = "".join(f"rule {number}\n" for number in range(2_500))
        (root / "SKILL.md").write_text(f"---\nname: tides\ndescription: d\n---\n{body}")
        load = ToolUse("load_skill", {"name": "tides"})
        look = ToolUse("view", {"path": "."})
        talker = Talker([Reply([load]), Reply([Text(LONG), look]), Reply([load]), Reply([Text("done")])])
        model = ScriptedModel(respond=talker)
        async with open_kit(tmp_path, model, skills=[root], defaults=settings()) as kit:
            session = await kit.session()
            assert (await kit.ask(session, "the task"))["result"]["text"] == "done"
            (again,) = [event.data for event in (await kit.events(session)) if "skill_loaded" in event.data][1:]
            assert "rule 2499" in again["content"]
            shortened = str(questions(model)[2].messages)
            assert "rule 100\\n" in shortened
            assert "rule 2499" not in shortened
            assert "rule 2499" in str(questions(model)[3].messages)

    run(main)


@pytest.mark.deep
def test_five_hundred_turns_lose_no_result(tmp_path: Path) -> None:
    """The model refuses what the API would: calls without results or more than one, roles that do not alternate."""

    async def main() -> None:
        talker = Talker(default=_busy)
        model = ScriptedModel(respond=talker)
        async with open_kit(tmp_path, model, defaults=settings(0.02)) as kit:
            session = await kit.session()
            await kit.manager.submit(session, ME, "always use metres", pinned=True)
            for number in range(500):
                turn = await kit.ask(session, f"question {number}")
                assert turn["status"] == "finished", turn
            made = [data for data in await summaries(kit, session) if data["summary"]]
            assert len(made) > 2
            assert max(len(str(request.messages)) for request in questions(model)) < 200_000
            assert all("always use metres" in str(request.messages) for request in questions(model)[::50])

    run_long(main)


def _busy(body: Mapping[str, Any]) -> Reply:
    """Two calls, then an answer."""
    last = body["messages"][-1]["content"]
    if any(block["type"] == "tool_result" for block in last):
        return Reply([Text("that is what is there; " * 20)])
    return Reply([Text("let me see"), ToolUse("view", {"path": "."}), ToolUse("view", {"path": "missing"})])
