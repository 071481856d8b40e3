"""What the user says while a turn runs: where it stands among the messages."""

from __future__ import annotations

from typing import Any

from history_kit import Script, result, text, use
from skill_actors.sessions.history import History


def test_said_while_tools_run_it_follows_their_results() -> None:
    script = Script().ask("go").say(use("a"), use("b"))
    script.add("tool.finished", id="a", content="1").add("turn.steered", text="only the last")
    assert History(script.events).messages()[-1]["role"] == "assistant"
    script.add("tool.finished", id="b", content="2")
    assert script.messages()[-1]["content"] == [result("a", "1"), result("b", "2"), text("only the last")]
    assert History(script.events).awaits_answer


def test_said_while_an_answer_is_written_it_follows_the_answer() -> None:
    script = Script().ask("go").add("turn.steered", text="only the last")
    assert script.messages() == [{"role": "user", "content": [text("go")]}]
    script.say(text("done"))
    history = History(script.events)
    assert history.messages()[1:] == [
        {"role": "assistant", "content": [text("done")]},
        {"role": "user", "content": [text("only the last")]},
    ]
    assert history.awaits_answer
    assert not history.paused
    script.say(text("yes"))
    assert not History(script.events).awaits_answer


def test_what_an_answer_has_read_stands_before_it() -> None:
    """An answer says up to which event its model had read."""
    script = Script().ask("go").add("turn.steered", text="read").add("turn.steered", text="not read")
    script.add("model.message", content=[text("done")], seen_seq=3)
    history = History(script.events)
    assert [block["text"] for message in history.messages() for block in message["content"]] == [
        "go",
        "read",
        "done",
        "not read",
    ]
    assert history.awaits_answer


def test_a_pause_of_the_model_is_not_broken_off() -> None:
    call: dict[str, Any] = {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {}}
    script = Script().ask("go").add("turn.steered", text="before")
    script.add("model.message", content=[call], stop_reason="pause_turn").add("turn.steered", text="meanwhile")
    history = History(script.events)
    assert history.paused
    assert history.messages()[-1]["content"] == [call]
    script.say(text("done"))
    assert script.messages()[-1]["content"] == [text("before"), text("meanwhile")]


def test_said_when_the_answer_is_there_it_is_said_at_once_and_also_when_the_turn_ends_without_one() -> None:
    script = Script().ask("go").say(text("done")).add("turn.steered", text="and this")
    assert script.messages()[-1]["content"] == [text("and this")]
    cut = Script().ask("go").add("turn.steered", text="and this").add("turn.cancelled")
    assert cut.messages() == [{"role": "user", "content": [text("go"), text("and this")]}]
    assert History(cut.events).awaits_answer
    cut.ask("next", "t2").say(text("both"), turn="t2")
    assert not History(cut.events).awaits_answer


def test_files_of_it_are_named_and_shown() -> None:
    script = Script().ask("go").say(text("done"))
    script.add(
        "turn.steered",
        text="look",
        files=[{"name": "a.png", "size": 3}],
        images=[{"name": "a.png", "media_type": "image/png", "base64": "QUJD"}],
    )
    note, name, image, said = script.messages()[-1]["content"]
    assert note == text("[Files put into the workspace: a.png]")
    assert name == text("[a.png:]")
    assert image["source"]["data"] == "QUJD"
    assert said == text("look")


def test_a_question_that_was_never_answered_is_awaited_and_one_of_the_program_is_none() -> None:
    assert History(Script().ask("go").events).awaits_answer
    compact = Script().add("turn.queued", text="", files=[], compact=True).add("turn.started")
    history = History(compact.events)
    assert not history.awaits_answer
    assert history.messages() == []


def test_what_can_be_said_is_heard_by_the_call_that_is_made_now_and_stands_there_after_a_restart() -> None:
    script = Script().ask("go").add("turn.steered", text="and this")
    history = History(script.events)
    assert history.hear() == 3
    assert history.messages() == [{"role": "user", "content": [text("go"), text("and this")]}]
    assert history.hear() is None
    script.add("model.message", content=[text("done")], seen_seq=3)
    history.add(script.events[-1])
    assert history.messages() == script.messages()
    assert not history.awaits_answer


def test_nothing_is_heard_while_tools_run() -> None:
    history = History(Script().ask("go").say(use("a")).add("turn.steered", text="later").events)
    assert history.hear() is None
    assert history.messages()[-1]["content"] == [use("a")]
