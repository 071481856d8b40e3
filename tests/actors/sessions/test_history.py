"""From events to messages that the API accepts."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from history_kit import Script, result, text, use
from skill_actors.sessions.history import AMBIGUOUS, RESTARTED, History, Instructions


def test_question_and_answer() -> None:
    assert Script().ask("hi").say(text("hello")).add("turn.finished").messages() == [
        {"role": "user", "content": [text("hi")]},
        {"role": "assistant", "content": [text("hello")]},
    ]


def test_results_of_parallel_tools_stand_in_one_message_in_the_order_of_the_calls() -> None:
    script = Script().ask("go").say(use("a"), use("b"))
    script.add("tool.started", id="a").add("tool.started", id="b")
    script.add("tool.finished", id="b", content="2", is_error=False)
    script.add("tool.finished", id="a", content="1", is_error=True)
    assert script.messages()[-1] == {"role": "user", "content": [result("a", "1", error=True), result("b", "2")]}


def test_an_empty_output_is_said_in_words() -> None:
    script = Script().ask("go").say(use("a")).add("tool.finished", id="a", content="", is_error=False)
    assert script.messages()[-1]["content"] == [result("a", "(no output)")]


def test_a_blank_output_is_said_in_words_as_the_api_takes_no_blank_text_beside_a_picture() -> None:
    image = {"media_type": "image/png", "base64": "QUJD"}
    script = Script().ask("go").say(use("a")).add("tool.finished", id="a", content=" \n", images=[image])
    assert script.messages()[-1]["content"][0]["content"][0] == text("(no output)")


def test_a_started_tool_without_a_result_is_ambiguous_and_one_never_started_is_not() -> None:
    script = Script().ask("go").say(use("a"), use("b")).add("tool.started", id="a").add("session.restarted", None)
    assert History(script.events).ambiguous() == ["a"]
    script.add("turn.interrupted").ask("again", "t2")
    results, note = script.messages()[-1]["content"][:2], script.messages()[-1]["content"][2]
    assert results[0] == result("a", AMBIGUOUS, error=True)
    assert results[1]["content"].startswith("Not run")
    assert note == text(RESTARTED)
    assert script.messages()[-1]["content"][3] == text("again")


def test_the_end_of_a_turn_that_only_waited_leaves_the_running_one_alone() -> None:
    script = Script().ask("go").say(use("a")).add("tool.started", id="a")
    script.add("turn.queued", "t2", text="later", files=[]).add("turn.cancelled", "t2")
    assert History(script.events).ambiguous() == ["a"]
    script.add("tool.finished", id="a", content="real", is_error=False)
    assert script.messages()[-1]["content"] == [result("a", "real")]


def test_a_message_that_waits_is_not_shown_before_its_turn() -> None:
    script = Script().ask("one").add("turn.queued", "t2", text="two", files=[]).say(text("first"))
    assert script.messages()[-1]["content"] == [text("first")]


def test_names_of_uploaded_files_are_told() -> None:
    script = Script().add("turn.queued", text="read it", files=[{"name": "a.csv", "size": 3}]).add("turn.started")
    assert script.messages() == [
        {"role": "user", "content": [text("[Files put into the workspace: a.csv]"), text("read it")]}
    ]


LOADED = {"name": "tides", "content": "k1", "folder": "/a"}


def test_instructions_are_held_with_the_call_whose_result_they_are() -> None:
    script = Script().ask("go").say(use("a")).add("tool.finished", id="a", content="x", skill_loaded=LOADED)
    (held,) = History(script.events).instructions.items()
    assert held == ("tides", Instructions("a", "k1", ("k1", "/a")))
    script.add("tool.finished", id="b", content="x", skill_loaded={**LOADED, "name": "never asked for"})
    assert list(History(script.events).instructions) == ["tides"]
    assert History(script.add("session.reset", None).events).instructions == {}


def test_a_change_of_a_skill_that_was_loaded_is_told_behind_the_message_and_another_is_not() -> None:
    script = Script().ask("go").say(use("a")).add("tool.finished", id="a", content="x", skill_loaded=LOADED)
    script.say(text("done")).add("turn.finished").ask("next", "t2").add("skill.changed", "t2", name="other")
    script.add("skill.changed", "t2", name="tides", content="k2", folder="/b")
    question, note = script.messages()[-1]["content"]
    assert question == text("next")
    assert "'tides' was changed" in note["text"]
    assert "now /b" in note["text"]
    assert History(script.events).instructions["tides"] == Instructions("a", "k1", ("k2", "/b"))


STEPS = st.lists(
    st.sampled_from(["ask", "text", "tools", "start", "finish", "load", "change", "restart", "end", "cut"]), max_size=40
)


@given(STEPS)
def test_whatever_happened_roles_alternate_and_calls_are_paired(steps: list[str]) -> None:
    """The API's own rules, for any order of events, also one that no engine would make."""
    script, open_ids = Script(), list[str]()
    for count, step in enumerate(steps):
        match step:
            case "ask":
                script.add("turn.finished").ask(f"q{count}", f"t{count}")
                open_ids = []
            case "text":
                script.add("turn.finished").ask("q").say(text("a"))
                open_ids = []
            case "tools":
                open_ids = [f"a{count}", f"b{count}"]
                script.add("turn.failed").ask("q").say(*map(use, open_ids))
            case "start" if open_ids:
                script.add("tool.started", id=open_ids[0])
            case "finish" if open_ids:
                script.add("tool.finished", id=open_ids.pop(), content="x", is_error=False)
            case "load" if open_ids:
                script.add("tool.finished", id=open_ids.pop(), content="x", skill_loaded=LOADED)
            case "change":
                script.add("skill.changed", name="tides", content=f"k{count}", folder=None if count % 3 else "/a")
            case "restart":
                script.add("session.restarted", None)
            case "end" | "cut":
                script.add("turn.finished" if step == "end" else "turn.interrupted")
                open_ids = []
            case _:
                pass
    messages = Script.messages(script.add("turn.finished").ask("last"))
    assert [m["role"] for m in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    for before, after in itertools.pairwise(messages):
        asked = [block["id"] for block in before["content"] if block["type"] == "tool_use"]
        given_ids = [block["tool_use_id"] for block in after["content"] if block["type"] == "tool_result"]
        if before["role"] == "assistant":
            assert given_ids == asked
            kinds = [block["type"] == "tool_result" for block in after["content"]]
            assert kinds == sorted(kinds, reverse=True)  # results stand first
