"""The turn engine as a table of states and events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skill_actors.backends.base import ToolCall
from skill_actors.models.base import Block, MessageDone, Usage
from skill_actors.sessions.engine import (
    CallModel,
    Ending,
    IllegalEvent,
    RunTools,
    State,
    Step,
    TurnEngine,
    TurnLimits,
)


def answer(stop_reason: str, *content: Block) -> MessageDone:
    return MessageDone(model="m", stop_reason=stop_reason, content=content, usage=Usage())


def text(said: str) -> Block:
    return {"type": "text", "text": said}


def use(id: str, name: str = "bash_tool") -> Block:
    return {"type": "tool_use", "id": id, "name": name, "input": {"command": "true"}}


COMMAND = ToolCall(id="t", name="bash_tool", input={"command": "true"}, argv=("true",))

EVENTS: dict[str, Callable[[TurnEngine], object]] = {
    "begin": lambda engine: engine.begin(),
    "begin_command": lambda engine: engine.begin_command(COMMAND),
    "resume": lambda engine: engine.resume([COMMAND], iterations=2, command=False),
    "conclude": lambda engine: engine.conclude("done"),
    "model_answered": lambda engine: engine.model_answered(answer("end_turn", text("x"))),
    "model_failed": lambda engine: engine.model_failed("overloaded", "busy"),
    "tools_finished": lambda engine: engine.tools_finished({"t": "out"}),
    "abort": lambda engine: engine.abort("turn.cancelled", "cancelled", "by request"),
}

# Every cell of the table: state x event -> state after, or None where the event is illegal.
TABLE: dict[State, dict[str, State | None]] = {
    State.NEW: {
        "begin": State.CALLING_MODEL,
        "begin_command": State.RUNNING_TOOLS,
        "resume": State.RUNNING_TOOLS,
        "conclude": State.ENDED,
        "model_answered": None,
        "model_failed": None,
        "tools_finished": None,
        "abort": State.ENDED,
    },
    State.CALLING_MODEL: {
        "begin": None,
        "begin_command": None,
        "resume": None,
        "conclude": None,
        "model_answered": State.ENDED,
        "model_failed": State.ENDED,
        "tools_finished": None,
        "abort": State.ENDED,
    },
    State.RUNNING_TOOLS: {
        "begin": None,
        "begin_command": None,
        "resume": None,
        "conclude": None,
        "model_answered": None,
        "model_failed": None,
        "tools_finished": State.ENDED,
        "abort": State.ENDED,
    },
    State.ENDED: dict.fromkeys(EVENTS),
}


def engine_in(state: State) -> TurnEngine:
    engine = TurnEngine(TurnLimits())
    match state:
        case State.CALLING_MODEL:
            engine.begin()
        case State.RUNNING_TOOLS:
            engine.begin_command(COMMAND)
        case State.ENDED:
            engine.abort("turn.failed", "x", "y")
        case State.NEW:
            pass
    return engine


def test_every_state_and_event_has_a_cell() -> None:
    assert TABLE.keys() == set(State)
    assert all(row.keys() == EVENTS.keys() for row in TABLE.values())


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVENTS)
def test_event_in_state(state: State, event: str) -> None:
    engine = engine_in(state)
    expected = TABLE[state][event]
    if expected is None:
        with pytest.raises(IllegalEvent, match=event):
            EVENTS[event](engine)
        assert engine.state is state
    else:
        EVENTS[event](engine)
        assert engine.state is expected


def ending(step: Step) -> Ending:
    assert isinstance(step.do, Ending)
    return step.do


@pytest.mark.parametrize(
    "reason", ["end_turn", "stop_sequence", "max_tokens", "refusal", "model_context_window_exceeded"]
)
def test_final_stop_reasons_finish_the_turn_with_the_text_and_say_why(reason: str) -> None:
    engine = engine_in(State.CALLING_MODEL)
    end = ending(engine.model_answered(answer(reason, text("so "), text("far"))))
    assert (end.type, end.text, end.stop_reason) == ("turn.finished", "so far", reason)


def test_a_tool_call_cut_by_max_tokens_gets_a_result_without_running() -> None:
    step = engine_in(State.CALLING_MODEL).model_answered(answer("max_tokens", use("a")))
    assert [call.call_id for call in step.unrun] == ["a"]
    assert ending(step).type == "turn.finished"


def test_parallel_calls_run_together_and_then_the_model_is_asked_again() -> None:
    engine = engine_in(State.CALLING_MODEL)
    step = engine.model_answered(answer("tool_use", text("look"), use("a"), use("b", "view")))
    assert isinstance(step.do, RunTools)
    assert [call.id for call in step.do.calls] == ["a", "b"]
    assert engine.tools_finished({"a": "1", "b": "2"}).do == CallModel(2)


def test_missing_result_is_refused() -> None:
    engine = engine_in(State.CALLING_MODEL)
    engine.model_answered(answer("tool_use", use("a"), use("b")))
    with pytest.raises(IllegalEvent, match="results of b"):
        engine.tools_finished({"a": "1"})


def test_the_answer_is_what_was_said_after_the_last_tool() -> None:
    engine = engine_in(State.CALLING_MODEL)
    engine.model_answered(answer("tool_use", text("let me look"), use("a")))
    engine.tools_finished({"a": "1"})
    assert ending(engine.model_answered(answer("end_turn", text("done")))).text == "done"


def test_iterations_are_bounded_and_the_last_calls_are_not_run() -> None:
    engine = TurnEngine(TurnLimits(iterations=2))
    engine.begin()
    engine.model_answered(answer("tool_use", use("a")))
    engine.tools_finished({"a": "1"})
    step = engine.model_answered(answer("tool_use", use("b"), use("c")))
    assert [call.call_id for call in step.unrun] == ["b", "c"]
    assert ending(step).type == "turn.failed"
    assert ending(step).stop_reason == "iteration_limit"


def test_pauses_continue_up_to_the_bound() -> None:
    engine = TurnEngine(TurnLimits(pauses=2))
    engine.begin()
    assert engine.model_answered(answer("pause_turn", text("a"))).do == CallModel(2)
    assert engine.model_answered(answer("pause_turn", text("b"))).do == CallModel(3)
    end = ending(engine.model_answered(answer("pause_turn", text("c"))))
    assert (end.stop_reason, end.text) == ("pause_limit", "abc")


def test_a_tool_round_resets_the_count_of_pauses() -> None:
    engine = TurnEngine(TurnLimits(pauses=1))
    engine.begin()
    engine.model_answered(answer("pause_turn"))
    engine.model_answered(answer("tool_use", use("a")))
    engine.tools_finished({"a": ""})
    assert isinstance(engine.model_answered(answer("pause_turn")).do, CallModel)


@pytest.mark.parametrize("reason", ["surprise", "halted"])
def test_unknown_stop_reason_fails_the_turn_and_pairs_its_calls(reason: str) -> None:
    step = engine_in(State.CALLING_MODEL).model_answered(answer(reason, use("a")))
    assert ending(step).stop_reason == "unknown_stop_reason"
    assert reason in (ending(step).error or {})["message"]
    assert [call.call_id for call in step.unrun] == ["a"]


def test_stop_for_tools_without_a_tool_is_a_protocol_failure() -> None:
    assert ending(engine_in(State.CALLING_MODEL).model_answered(answer("tool_use"))).stop_reason == "protocol"


def test_an_entry_command_ends_with_its_output_and_never_calls_a_model() -> None:
    engine = engine_in(State.RUNNING_TOOLS)
    end = ending(engine.tools_finished({"t": "hello\n"}))
    assert (end.type, end.text, engine.iterations) == ("turn.finished", "hello\n", 0)


def test_an_entry_command_that_is_not_permitted_has_failed_while_a_model_decides_what_follows() -> None:
    engine = TurnEngine(TurnLimits())
    engine.begin_command(ToolCall(id="t", name="bash_tool", input={}))
    end = ending(engine.tools_finished({"t": "Not run: no."}, denied={"t"}))
    assert (end.type, end.stop_reason, end.text) == ("turn.failed", "policy_denied", "")
    assert end.error == {"code": "policy_denied", "message": "Not run: no."}
    asking = TurnEngine(TurnLimits())
    asking.begin()
    asking.model_answered(answer("tool_use", use("t")))
    assert asking.tools_finished({"t": "Not run: no."}, denied={"t"}).do == CallModel(2)


def test_input_that_is_not_an_object_reaches_the_tools_schema_check() -> None:
    block = {"type": "tool_use", "id": "a", "name": "view", "input": "oops"}
    step = engine_in(State.CALLING_MODEL).model_answered(answer("tool_use", block))
    assert isinstance(step.do, RunTools)
    assert step.do.calls[0].input == {"": "oops"}


def test_what_the_user_said_meanwhile_is_answered_before_the_turn_ends() -> None:
    engine = TurnEngine(TurnLimits())
    engine.begin()
    step = engine.model_answered(answer("end_turn", text("to the first")), more=True)
    assert step.do == CallModel(2)
    assert ending(engine.model_answered(answer("end_turn", text("to the second")))).text == "to the second"


@pytest.mark.parametrize("reason", ["refusal", "model_context_window_exceeded"])
def test_a_model_that_cannot_go_on_is_not_asked_more(reason: str) -> None:
    engine = TurnEngine(TurnLimits())
    engine.begin()
    assert ending(engine.model_answered(answer(reason, text("no")), more=True)).stop_reason == reason


def test_what_the_user_said_meanwhile_does_not_widen_the_bound_of_model_calls() -> None:
    engine = TurnEngine(TurnLimits(iterations=1))
    engine.begin()
    assert ending(engine.model_answered(answer("end_turn", text("x")), more=True)).text == "x"


def test_a_resumed_turn_runs_what_waited_and_counts_on() -> None:
    engine = TurnEngine(TurnLimits(iterations=3))
    assert engine.resume([COMMAND], iterations=2, command=False).do == RunTools((COMMAND,))
    assert engine.tools_finished({"t": "out"}).do == CallModel(3)
    assert ending(engine.model_answered(answer("tool_use", use("u")))).stop_reason == "iteration_limit"


def test_a_resumed_entry_command_ends_with_its_output() -> None:
    engine = TurnEngine(TurnLimits())
    engine.resume([COMMAND], iterations=0, command=True)
    assert ending(engine.tools_finished({"t": "out"})).text == "out"


def test_a_compaction_of_the_api_goes_on_like_a_pause() -> None:
    engine = TurnEngine(TurnLimits())
    engine.begin()
    assert engine.model_answered(answer("compaction", {"type": "compaction", "content": "summary"})).do == CallModel(2)
