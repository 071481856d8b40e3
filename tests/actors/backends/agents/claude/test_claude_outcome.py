"""How a turn of `claude` ended, row by row, and what it took."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.backends.agents.base import AgentError, Denial
from skill_actors.backends.agents.claude.metering import Seen, Totals, Turn, turn_of
from skill_actors.backends.agents.claude.outcome import Ending, of_end, of_result
from skill_actors.backends.agents.claude.reading import TurnReader, parse
from skill_actors.models.base import Usage

TURN = Turn(cost_usd=0.5, usage=Usage(output_tokens=3), by_model={"m": Usage(output_tokens=3)})
FINE: dict[str, Any] = {"type": "result", "subtype": "success", "is_error": False, "result": "yes"}


def outcome(message: dict[str, Any], *, interrupted: bool = False) -> str:
    """The code of a message's error; "" for a result."""
    try:
        of_result(message, TurnReader("s"), TURN, interrupted=interrupted)
    except AgentError as error:
        return error.code
    return ""


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, ""),
        ({"subtype": "error_max_turns", "is_error": True, "result": None, "errors": ["n"]}, "max_turns_exceeded"),
        ({"subtype": "error_max_budget_usd", "is_error": True, "result": None}, "max_budget_exceeded"),
        ({"subtype": "error_during_execution", "is_error": True, "errors": ["No conversation found"]}, "session_lost"),
        ({"subtype": "error_during_execution", "terminal_reason": "aborted_tools"}, "interrupted"),
        ({"subtype": "error_during_execution", "errors": ["odd"]}, "command_failed"),
        ({"subtype": "error_of_another_version"}, "command_failed"),
        ({"is_error": True, "api_error_status": 401, "result": "Invalid API key"}, "auth"),
        ({"is_error": True, "api_error_status": 403}, "auth"),
        ({"is_error": True, "api_error_status": 402}, "refused"),
        ({"is_error": True, "api_error_status": 400}, "refused"),
        ({"is_error": True, "api_error_status": 429}, "overloaded"),
        ({"is_error": True, "api_error_status": 500}, "overloaded"),
        ({"is_error": True, "api_error_status": 529}, "overloaded"),
        ({"is_error": True, "result": "Not logged in · Please run /login"}, "auth"),
        ({"is_error": True, "result": "API Error: Unable to connect to API (ConnectionRefused)"}, "io"),
        ({"result": None}, "protocol"),
        ({"subtype": "something_new", "result": 5}, "protocol"),
    ],
)
def test_each_result_has_its_outcome(fields: dict[str, Any], code: str) -> None:
    assert outcome({**FINE, **fields}) == code
    assert outcome(dict(reversed({**FINE, **fields}.items()))) == code  # the order of keys is nobody's business


def test_an_error_tells_what_the_turn_took() -> None:
    with pytest.raises(AgentError) as caught:
        of_result({**FINE, "subtype": "error_max_turns"}, TurnReader("s"), TURN, interrupted=False)
    error = caught.value
    assert (error.cost_usd, error.usage, error.by_model, error.session_id) == (0.5, TURN.usage, TURN.by_model, "s")


def test_an_interrupt_that_came_too_late_changes_nothing() -> None:
    assert outcome(FINE, interrupted=True) == ""
    assert outcome({**FINE, "subtype": "error_during_execution", "errors": ["x"]}, interrupted=True) == "interrupted"


def test_a_failure_of_the_agents_own_is_a_result_that_says_so() -> None:
    told = of_result({**FINE, "is_error": True, "result": "I gave up"}, TurnReader("s"), TURN, interrupted=False)
    assert (told.result, told.is_error, told.error) == ("I gave up", True, "command_failed")


def test_odd_fields_of_a_result_are_dropped() -> None:
    odd = {"permission_denials": [5, {"tool_name": "Bash", "tool_input": 7}], "stop_reason": 5, "duration_ms": "long"}
    told = of_result({**FINE, **odd}, TurnReader(None), TURN, interrupted=False)
    assert told.denials == (Denial(tool="None", id="None", input={}), Denial(tool="Bash", id="None", input={}))
    assert (told.stop_reason, told.duration_ms) == (None, None)


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (Ending(code=0), "command_failed"),  # with nothing on stdout it is no success
        (Ending(code=1, stderr="No conversation found with session ID: x"), "session_lost"),
        (Ending(code=1, stderr="Error: Session ID x is already in use."), "session_lost"),
        (Ending(code=1, stderr="--dangerously-skip-permissions cannot be used with root/sudo"), "refused"),
        (Ending(code=1, stderr="error: unknown option '--x'"), "version_mismatch"),
        (Ending(code=1, stderr="Invalid API key · Please run /login"), "auth"),
        (Ending(code=1, stderr="Error parsing streaming input line: x"), "protocol"),
        (Ending(code=1), "command_failed"),
        (Ending(code=143), "terminated"),
        (Ending(code=-9), "terminated"),
        (Ending(code=-9, limited="it had 5 bytes of memory in use, more than 4"), "terminated"),
        (Ending(code=143, interrupted=True), "interrupted"),
        (Ending(code=0, interrupted=True, closed=True), "closed"),
    ],
)
def test_an_end_without_a_result_is_never_a_success(ending: Ending, code: str) -> None:
    error = of_end(ending, TurnReader("s"), TURN)
    assert error.code == code
    assert ending.limited is None or "memory" in error.message


def usage(name: str = "m", **counts: Any) -> dict[str, Any]:
    return {"modelUsage": {name: counts}, "total_cost_usd": counts.pop("cost", 0.0)}


def test_running_totals_are_subtracted() -> None:
    first = usage("m[1m]", inputTokens=10, outputTokens=5, cost=0.1)
    turn, totals = turn_of(Totals(), first, Seen())
    assert (turn.cost_usd, turn.by_model) == (0.1, {"m": Usage(input_tokens=10, output_tokens=5)})
    turn, totals = turn_of(totals, usage("m[1m]", inputTokens=30, outputTokens=6, cost=0.3), Seen())
    assert turn.cost_usd == pytest.approx(0.2)
    assert turn.usage == Usage(input_tokens=20, output_tokens=1)
    turn, totals = turn_of(totals, usage("m", inputTokens=30, outputTokens=6, cost=0.3), Seen())
    assert (turn.cost_usd, turn.usage, turn.by_model) == (0.0, Usage(), {})
    turn, _ = turn_of(totals, usage("m", inputTokens=4, outputTokens=1, cost=0.05), Seen())
    assert (turn.cost_usd, turn.usage) == (0.05, Usage(input_tokens=4, output_tokens=1))  # it began anew


def test_what_is_written_for_an_hour_is_told_by_the_turn() -> None:
    told = usage(cacheCreationInputTokens=100, cost=1)
    told["usage"] = {"cache_creation": {"ephemeral_1h_input_tokens": 60}}
    turn, _ = turn_of(Totals(), told, Seen())
    assert turn.usage == Usage(cache_write_5m_tokens=40, cache_write_1h_tokens=60)


def test_a_request_that_was_interrupted_is_in_the_usage_and_leaves_the_cost_unknown() -> None:
    seen = Seen()
    seen.begin("r1", "m", {"input_tokens": 10, "output_tokens": 1})
    seen.more({"input_tokens": 10, "output_tokens": 8})
    seen.end()
    seen.begin("r2", "m", {"input_tokens": 50, "output_tokens": 1})
    turn, _ = turn_of(Totals(), usage(inputTokens=10, outputTokens=8, cost=0.1), seen)
    assert (turn.cost_usd, turn.usage) == (None, Usage(input_tokens=60, output_tokens=9))
    turn, _ = turn_of(Totals(), usage(inputTokens=60, outputTokens=9, cost=0.1), seen)
    assert turn.cost_usd == 0.1  # the program has counted it after all
    turn, _ = turn_of(Totals(), None, seen)
    assert (turn.cost_usd, turn.usage) == (None, Usage(input_tokens=60, output_tokens=9))


@pytest.mark.parametrize("line", [b"", b"null", b"[1]", b"{", b"\xff", b"[" * 100_000, b"{} trailing"])
def test_a_line_without_an_object_is_none(line: bytes) -> None:
    assert parse(line) is None
    assert parse(b'{"a": "\xff"}') == {"a": "\ufffd"}


ODD: list[Any] = [
    None,
    5,
    "x",
    [],
    [5],
    {},
    {"type": "text"},
    {"usage": 5, "content": {"a": 1}, "id": [], "message": []},
]


@pytest.mark.parametrize("kind", ["system", "stream_event", "assistant", "user", "other", 5, None])
@pytest.mark.parametrize("odd", ODD, ids=str)
def test_no_message_of_an_odd_form_breaks_a_turn(kind: object, odd: object) -> None:
    reader = TurnReader("s")
    for inner in ("message_start", "message_delta", "content_block_delta", "message_stop"):
        event = {"type": inner, "message": odd, "delta": odd, "usage": odd}
        list(reader.read({"type": kind, "message": odd, "event": event, "session_id": odd, "parent_tool_use_id": odd}))
        list(reader.read({"type": kind, "message": odd, "event": odd}))
    assert isinstance(reader.partial, str)
    assert reader.seen.usage.total_tokens == 0


@pytest.mark.parametrize(
    ("told", "status", "known"),
    [
        ({"status": "rejected", "resetsAt": 100}, 429, True),
        ({"status": "rejected", "resetsAt": 100}, 401, False),  # another failure
        ({"status": "allowed_warning", "resetsAt": 100}, 429, False),
        ({"status": "rejected", "resetsAt": "soon"}, 429, False),
        ({"status": "rejected", "resetsAt": float("inf")}, 429, False),
        ("odd", 429, False),
    ],
)
def test_a_limit_that_the_api_has_told_of_says_when_to_come_again(
    told: Any, status: int, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.backends.agents.claude.outcome.time.time", lambda: 40.0)
    reader = TurnReader("s")
    list(reader.read({"type": "rate_limit_event", "rate_limit_info": told}))
    message = {**FINE, "is_error": True, "api_error_status": status, "result": "You've hit your limit"}
    with pytest.raises(AgentError) as caught:
        of_result(message, reader, TURN, interrupted=False)
    assert caught.value.retry_after_s == (60.0 if known else None)
