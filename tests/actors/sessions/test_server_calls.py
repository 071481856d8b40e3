"""Which calls of the API's own tools may be sent again."""

from __future__ import annotations

from typing import Any

from skill_actors.sessions.server_calls import server_results, without_lost_calls, without_uploads


def call(id: str) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": id, "name": "bash_code_execution", "input": {}}


def result(id: str) -> dict[str, Any]:
    return {"type": "bash_code_execution_tool_result", "tool_use_id": id, "content": {}}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks) or [{"type": "text", "text": "go"}]}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


TOOL = {"type": "tool_use", "id": "t", "name": "bash_tool", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "x"}


def test_what_became_of_each_call_is_read_from_its_result() -> None:
    def ended(id: str, **content: Any) -> dict[str, Any]:
        return {**result(id), "content": content}

    search = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result"}]}
    content = [
        call("a"),
        ended("a", type="bash_code_execution_result", return_code=0),
        ended("b", type="bash_code_execution_result", return_code=2),
        ended("c", type="bash_code_execution_tool_result_error", error_code="unavailable"),
        search,
        RESULT,
    ]
    assert list(server_results(content)) == [
        ("a", "bash_code_execution", True),
        ("b", "bash_code_execution", False),
        ("c", "bash_code_execution", False),
        ("s", "web_search", True),
    ]


def test_a_call_with_its_result_stays() -> None:
    messages = [user(), assistant(call("a"), result("a")), user()]
    assert without_lost_calls(messages) == messages


def test_a_call_without_one_stays_while_the_answer_goes_on() -> None:
    paused = [user(), assistant(call("a"))]
    assert without_lost_calls(paused) == paused
    beside = [user(), assistant(call("a"), TOOL), user(RESULT)]
    assert without_lost_calls(beside) == beside
    later = [*beside, assistant(result("a"))]
    assert without_lost_calls(later) == later


def test_a_call_without_one_goes_as_soon_as_the_user_has_spoken() -> None:
    kept = without_lost_calls([user(), assistant(call("a"), TOOL), user(RESULT, {"type": "text", "text": "so?"})])
    assert kept[1]["content"] == [TOOL]
    kept = without_lost_calls([user(), assistant(call("a")), user(), assistant(call("b"))])
    assert [message["content"] for message in kept if message["role"] == "assistant"] == [[], [call("b")]]


def test_the_messages_themselves_are_not_changed() -> None:
    lost = assistant(call("a"), TOOL)
    without_lost_calls([user(), lost, user(RESULT), assistant(), user()])
    assert lost["content"] == [call("a"), TOOL]


def test_files_for_a_container_can_be_left_out() -> None:
    upload = {"type": "container_upload", "file_id": "f"}
    assert without_uploads([user(RESULT, upload)]) == [user(RESULT)]
