"""What the fake API refuses, and in whose words."""

from __future__ import annotations

from typing import Any

import pytest

from skill_actors.testing import check_request
from skill_actors.testing.message_events import sign


def text(value: str = "hi") -> dict[str, Any]:
    return {"type": "text", "text": value}


def call(id: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "bash_tool", "input": {}}


def result(id: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": "ok", **fields}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def body(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 10, "messages": list(messages) or [user(text())], **fields}


TOOL = {"name": "bash_tool", "input_schema": {"type": "object"}}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": sign("Hm.")}


CLOSED = {"additionalProperties": False}


def asks_for(schema: object) -> dict[str, Any]:
    return {"format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    "good",
    [
        body(),
        body({"role": "user", "content": "plain"}),
        body(user(text()), assistant(call("a"), call("b")), user(result("b"), result("a"), text())),
        body(user(text()), assistant(THOUGHT, text(), call()), user(result(content=[text()]))),
        body(user(text()), assistant(call()), user(result(content=""))),
        body(user(text()), assistant(text()), user(text()), system="s", tools=[TOOL], stream=True),
        body(tools=[{"type": "code_execution_20260521", "name": "code_execution"}], container={"skills": []}),
        body(system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]),
        body(output_config={"effort": "low"}),
        body(output_config=asks_for({"type": "object", "properties": {"type": {"enum": ["object"]}}, **CLOSED})),
    ],
)
def test_good_requests_pass(good: dict[str, Any]) -> None:
    assert check_request(good) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "not a JSON object"),
        ({"model": "m", "messages": [user(text())]}, "max_tokens: Field required"),
        ({"model": "m", "max_tokens": 1}, "messages: Field required"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens="8"), "max_tokens"),
        (body(max_tokens=200_000), "maximum allowed number of output tokens"),
        (body(model=""), "model"),
        (body(temperature=1), "temperature: Extra inputs are not permitted"),
        (body(stream="yes"), "stream"),
        (body(system=[text(" ")]), "system.0"),
        (body(system=3), "system"),
        ({**body(), "messages": []}, "at least one message"),
        (body("hi"), "messages.0: Input should be a valid dictionary"),
        (body({"role": "system", "content": "x"}), "messages.0.role"),
        (body({"role": "user", "content": "x", "id": 1}), "messages.0.id: Extra inputs"),
        (body({"role": "user", "content": 3}), "messages.0.content"),
        (body({"role": "user", "content": ""}), "non-whitespace"),
        (body(user()), "non-empty content"),
        (body(user(text("\n"))), "non-whitespace"),
        (body(user({**text(), "seq": 3})), "messages.0.content.0.text.seq: Extra inputs"),
        (body(user({"type": "txt"})), "Input tag 'txt'"),
        (body(user({"text": "x"})), "messages.0.content.0.type: Field required"),
        (body(user(text()), assistant({"type": "novel"}), user(text())), "Input tag 'novel'"),
        (body(user(call())), "Input tag 'tool_use'"),
        (body(assistant(text()), user(text())), "first message must use the `user` role"),
        (body(user(text()), user(text())), "must alternate"),
        (body(user(text()), assistant(text())), "prefill"),
        (body(user(text()), assistant(call())), "prefill"),
        (body(user(text()), assistant(call()), user(text())), "immediately after: toolu_1"),
        (body(user(text()), assistant(call("a"), call("b")), user(result("a"))), "immediately after: b"),
        (body(user(result())), "unexpected `tool_use_id`"),
        (body(user(text()), assistant(call()), user(result("x"))), "unexpected `tool_use_id`"),
        (body(user(text()), assistant(call()), user(result(), result())), "single result"),
        (body(user(text()), assistant(call()), user(text(), result())), "must come before any other content"),
        (
            body(user(text()), assistant(call()), user(result()), assistant(call()), user(result())),
            "ids must be unique",
        ),
        (body(user(text()), assistant({**call(), "id": "a b"}), user(result("a b"))), "String should match pattern"),
        (body(user(text()), assistant({**call(), "input": "x"}), user(result())), "valid dictionary"),
        (body(user(text()), assistant(call()), user(result(content="", is_error=True))), "cannot be empty"),
        (body(user(text()), assistant(call()), user(result(content=3))), "tool_result.content"),
        (body(user(text()), assistant(call()), user(result(content=[call()]))), "tool_result.content.0"),
        (body(user(text()), assistant(call()), user(result(exit_code=1))), "exit_code: Extra inputs"),
        (body(user(text()), assistant({**THOUGHT, "thinking": "Ha."}, text()), user(text())), "Invalid `signature`"),
        (
            body(user(text()), assistant({"type": "thinking", "thinking": "x"}), user(text())),
            "signature: Field required",
        ),
        (body(tools=[TOOL, TOOL]), "Tool names must be unique"),
        (body(tools=[{"name": "a b", "input_schema": {"type": "object"}}]), "tools.0.custom.name"),
        (body(tools=[{"name": "a"}]), "tools.0.custom.input_schema"),
        (body(tools="x"), "tools"),
        (body(model="claude-opus-5-5", tools=[TOOL], tool_choice={"type": "any"}), "tool_choice"),
        (body(output_config=3), "output_config: Input should be a valid dictionary"),
        (body(output_config={"effort": "enormous"}), "output_config.effort: Input should be one of low, medium"),
        (body(output_config={"schema": {}}), "output_config.schema: Extra inputs"),
        (body(output_config={"format": {"type": "json"}}), "output_config.format: "),
        (body(output_config=asks_for(3)), "output_config.format.schema: "),
        (body(output_config=asks_for({"type": "object"})), "'additionalProperties' must be explicitly set to false"),
        (
            body(output_config=asks_for({"anyOf": [{"type": "array", "items": {"type": "object"}}]})),
            "'additionalProperties' must be explicitly set to false",
        ),
    ],
)
def test_bad_requests_are_refused_with_the_reason(bad: Any, said: str) -> None:
    problem = check_request(bad)
    assert problem is not None
    assert said in problem


def test_only_a_paused_answer_may_be_the_last_message() -> None:
    paused = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    request = body(user(text()), assistant(paused))
    assert check_request(request, paused={"srvtoolu_1"}) is None
    assert "prefill" in str(check_request(request))
