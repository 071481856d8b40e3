"""Hosted turns against the scripted model and the fake API: pauses, containers, files, functions around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio

from skill_actors.backends.anthropic import (
    HostedClient,
    HostedError,
    HostedResponse,
    HostedTurn,
    HostedTurnError,
    build_request,
    complete,
    container_config,
    continue_,
    extract_file_ids,
    extract_text,
    parse_response,
    run_turn,
)
from skill_actors.models import ModelError, Usage
from skill_actors.models.base import Message
from skill_actors.testing import (
    Answer,
    CodeExecution,
    FakeHosted,
    FakeMessagesApi,
    HttpError,
    Reply,
    Text,
    Thinking,
    open_fake_api,
)
from skill_actors.testing.hosted import ContainerRefusal
from support import run

XLSX = container_config(["anthropic:xlsx"])
USAGE = Usage(input_tokens=10, output_tokens=5)


def user(text: str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def paused(text: str, **files: bytes) -> Reply:
    """An answer that stops with a call that runs on."""
    made = [CodeExecution("make", files=files)] if files else []
    return Reply([Text(text), *made, CodeExecution("sleep 99", half="call")], stop_reason="pause_turn", usage=USAGE)


def finished(text: str = "done", **files: bytes) -> Reply:
    return Reply([CodeExecution(half="result", files=files), Text(text)], usage=USAGE)


async def turn_of(api: FakeMessagesApi, messages: Sequence[Message], **options: Any) -> HostedTurn:
    async with HostedClient(lambda: "key", base_url=api.base_url) as client:

        async def ask(messages: Sequence[Message], container: Mapping[str, Any]) -> object:
            return await client.ask(build_request(messages, container, model="claude-sonnet-5-5"))

        return await run_turn(messages, ask, **{"container": XLSX, **options})


def test_pauses_are_gone_through_in_one_container_and_everything_is_summed() -> None:
    async def main() -> None:
        answers = [paused("a", x=b"1"), paused("b"), finished("c", y=b"2")]
        answers[1] = Reply([CodeExecution(half="result"), *answers[1].blocks], stop_reason="pause_turn", usage=USAGE)
        seen: list[tuple[str, object]] = []
        async with open_fake_api(answers) as api:
            turn = await turn_of(
                api,
                [user("go")],
                on_response=lambda response: seen.append(("response", response.stop_reason)),
                on_pause=lambda response, attempt: seen.append(("pause", attempt)),
            )
            [container] = api.hosted.containers.values()
            names = [api.hosted.files.files[file.file_id].filename for file in turn.files]
            bodies = api.bodies
        assert turn.text == "abc"
        assert (turn.stop_reason, turn.iterations, turn.container_id) == ("end_turn", 3, container.id)
        assert names == ["x", "y"]
        assert turn.usage == Usage(input_tokens=30, output_tokens=15)
        assert turn.server_tool_calls == {"bash_code_execution": 3}
        assert seen == [
            *(("response", "pause_turn"), ("pause", 1), ("response", "pause_turn"), ("pause", 2)),
            ("response", "end_turn"),
        ]
        assert [body["container"].get("id") for body in bodies] == [None, container.id, container.id]
        assert [body["tools"] for body in bodies] == [bodies[0]["tools"]] * 3
        assert [message["role"] for message in bodies[2]["messages"]] == ["user", "assistant"]
        assert [message["role"] for message in turn.messages] == ["user", "assistant"]

    run(main)


def test_thinking_goes_back_unchanged_after_a_pause() -> None:
    async def main() -> None:
        reply = Reply([Thinking("hm"), CodeExecution("x", half="call")], stop_reason="pause_turn")
        async with open_fake_api([reply, finished()]) as api:
            turn = await turn_of(api, [user("go")])
        assert turn.messages[1]["content"][0]["thinking"] == "hm"
        assert turn.text == "done"

    run(main)


def test_the_next_turn_goes_on_in_the_same_container() -> None:
    async def main() -> None:
        async with open_fake_api(
            [Reply([CodeExecution("a"), Text("one")]), Reply([CodeExecution("b"), Text("two")])]
        ) as api:
            turn = await turn_of(api, [user("go")])
            async with HostedClient(lambda: "key", base_url=api.base_url) as client:

                async def ask(messages: Sequence[Message], container: Mapping[str, Any]) -> object:
                    return await client.ask(build_request(messages, container, model="m"))

                turn = await continue_(turn, [user("more")], ask)
            assert len(api.hosted.containers) == 1
            assert api.bodies[1]["container"] == {"id": turn.container_id, **XLSX}
        assert len(turn.messages) == 4

    run(main)


def test_an_answer_without_a_container_does_not_make_the_last_one_forgotten() -> None:
    """Conjure's session forgets the id with the first answer that names none."""

    async def ask(messages: Sequence[Message], container: Mapping[str, Any]) -> object:
        return {"stop_reason": "end_turn", "content": [{"type": "text", "text": "plain"}]}

    async def main() -> None:
        turn = await run_turn([user("go")], ask, container={"id": "container_1"})
        assert turn.container_id == "container_1"

    run(main)


def test_one_pause_too_many_is_an_error_that_a_conversation_survives() -> None:
    async def main() -> None:
        first = paused("a", x=b"1")
        more = Reply([CodeExecution(half="result"), CodeExecution("y", half="call")], stop_reason="pause_turn")
        async with open_fake_api([first, more, Reply([Text("again")])]) as api:
            with pytest.raises(HostedTurnError) as caught:
                await turn_of(api, [user("go")], max_pauses=1)
            turn = caught.value.turn
            assert caught.value.code == "pause_turn_max_exceeded"
            assert caught.value.details == {"iterations": 2, "max": 1}
            assert [file.source for file in turn.files] == ["anthropic"]
            after = await turn_of(api, [*turn.messages, user("go on")], container=turn.container)
        assert after.text == "again"

    run(main)


@pytest.mark.parametrize("refusal", ["not_found", "expired", "internal"])
def test_an_expired_container_is_replaced_once_and_the_caller_is_told(refusal: ContainerRefusal) -> None:
    async def main() -> None:
        told: list[str] = []
        async with open_fake_api(
            [Reply([CodeExecution("a"), Text("one")]), Reply([CodeExecution("b"), Text("two")])]
        ) as api:
            api.hosted.refuse_containers = refusal
            first = await turn_of(api, [user("go")])
            api.hosted.expire()
            messages = [*first.messages, user("more")]
            turn = await turn_of(api, messages, container=first.container, on_container_lost=told.append)
            assert len(api.hosted.containers) == 2
        assert turn.text == "two"
        assert turn.lost_container == first.container_id != turn.container_id
        assert told == [first.container_id]

    run(main)


def test_a_container_that_expires_during_a_pause_cannot_be_replaced() -> None:
    async def main() -> None:
        async with open_fake_api([paused("a"), finished(), Reply([Text("later")])]) as api:
            with pytest.raises(HostedTurnError) as caught:
                await turn_of(api, [user("go")], on_pause=lambda *_: api.hosted.expire())
            lost = next(iter(api.hosted.containers))
            error = caught.value
            assert (error.code, error.details["container_id"]) == ("container_not_found", lost)
            assert error.retryable
            assert isinstance(error.__cause__, HostedError)
            api.hosted.containers.clear()
            after = await turn_of(api, [*error.turn.messages, user("go on")], container={})
        assert after.text == "done"

    run(main)


def test_an_outage_is_not_taken_for_a_container_that_is_gone() -> None:
    async def main() -> None:
        async with open_fake_api([Reply([CodeExecution("a"), Text("one")]), *[HttpError(500)] * 3]) as api:
            first = await turn_of(api, [user("go")])
            with pytest.raises(HostedTurnError) as caught:
                await turn_of(api, [*first.messages, user("more")], container=first.container)
        assert caught.value.code == "anthropic_api_error"
        assert caught.value.turn.container_id == first.container_id
        assert caught.value.turn.lost_container is None

    run(main)


def test_a_skill_that_does_not_exist_is_no_lost_container() -> None:
    async def main() -> None:
        async with open_fake_api([Reply([CodeExecution("a")])]) as api:
            first = await turn_of(api, [user("go")])
            container = {"id": first.container_id, **container_config(["custom:skill_none"])}
            with pytest.raises(HostedTurnError, match="Skill not found") as caught:
                await turn_of(api, [*first.messages, user("more")], container=container)
        assert caught.value.details["status"] == 400

    run(main)


def test_a_function_that_raises_never_ends_the_turn(caplog: pytest.LogCaptureFixture) -> None:
    def bad(*arguments: object) -> None:
        raise RuntimeError("mine")

    async def worse(*arguments: object) -> None:
        raise RuntimeError("mine too")

    async def main() -> None:
        async with open_fake_api([paused("a"), finished()]) as api:
            turn = await turn_of(api, [user("go")], on_pause=worse, on_response=bad)
        assert turn.text == "adone"

    run(main)
    assert sum("a function around a hosted turn failed" in message for message in caplog.messages) == 3


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
        {"error": "a text"},
        '{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}',
        "<html>bad gateway</html>",
        b"\xff",
        None,
        {"content": []},
        {"stop_reason": "end_turn", "content": "text"},
        {"stop_reason": "end_turn", "content": [1]},
        {"stop_reason": "end_turn", "content": [], "usage": {"input_tokens": "many"}},
    ],
)
def test_what_is_no_answer_is_an_error_of_the_api_in_whatever_form(answer: object) -> None:
    """Conjure crashes on an error that is a text."""
    with pytest.raises(HostedError) as caught:
        parse_response(answer)
    assert caught.value.code == "anthropic_api_error"
    assert caught.value.retryable == ("busy" in str(answer))


def test_a_failure_of_the_model_keeps_its_status_and_what_it_cost() -> None:
    async def ask(messages: Sequence[Message], container: Mapping[str, Any]) -> object:
        raise ModelError("busy", code="overloaded", retryable=True, retry_after_s=3.0, status=529, usage=USAGE)

    async def main() -> None:
        with pytest.raises(HostedTurnError) as caught:
            await run_turn([user("go")], ask)
        assert caught.value.details["status"] == 529
        assert (caught.value.retryable, caught.value.retry_after_s) == (True, 3.0)
        assert caught.value.turn.usage == USAGE
        assert isinstance(caught.value.__cause__, ModelError)

    run(main)


def test_the_request_has_the_tool_first_and_only_once() -> None:
    own = {"name": "fetch", "input_schema": {"type": "object"}}
    request = build_request([user("x")], {}, model="m", tools=[own], system="s", metadata={"user_id": "u"})
    assert [tool["name"] for tool in request["tools"]] == ["code_execution", "fetch"]
    assert (request["system"], request["metadata"], request["max_tokens"]) == ("s", {"user_id": "u"}, 8192)
    assert "container" not in request
    later = {"type": "code_execution_20260521", "name": "code_execution"}
    assert build_request([], XLSX, model="m", tools=[later])["tools"] == [later]


def test_an_answer_is_complete_unless_it_pauses() -> None:
    body = {"stop_reason": "end_turn", "content": []}
    assert complete(body)
    assert not complete({**body, "stop_reason": "pause_turn"})
    assert complete(HostedResponse(stop_reason="max_tokens", content=[]))


def test_the_clock_of_a_test_decides_when_a_container_expires() -> None:
    async def main() -> None:
        now = [1_000.0]
        hosted = FakeHosted(lambda: now[0])
        hosted.container_ttl_s = 60
        answers: list[Answer] = [Reply([CodeExecution("a")]), Reply([CodeExecution("b")]), Reply([CodeExecution("c")])]
        async with open_fake_api(answers, hosted=hosted) as api:
            first = await turn_of(api, [user("go")])
            now[0] += 59
            second = await turn_of(api, [*first.messages, user("more")], container=first.container)
            now[0] += 61
            third = await turn_of(api, [*second.messages, user("more")], container=second.container)
        assert first.container_id == second.container_id == third.lost_container

    run(main)


def test_a_cancelled_turn_hangs_up_at_once() -> None:
    async def main() -> None:
        async with open_fake_api([Reply([Text("never")], first_delay_s=60)]) as api:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(turn_of, api, [user("go")])
                await api.wait_until(lambda: bool(api.requests))
                nursery.cancel_scope.cancel()
            with trio.fail_after(5):
                await api.wait_until(lambda: api.requests[0].outcome == "client_gone")

    run(main)


def test_an_answer_that_does_not_come_is_an_error_after_the_timeout_of_turns() -> None:
    async def main() -> None:
        async with (
            open_fake_api([Reply([Text("never")], first_delay_s=60)]) as api,
            HostedClient(lambda: "key", base_url=api.base_url, turn_timeout_s=1.25) as client,
        ):
            with pytest.raises(HostedError, match=r"1\.25 s") as caught:
                await client.ask(build_request([user("go")], model="m"))
            assert (caught.value.retryable, len(api.requests)) == (True, 1)

    run(main)


def test_a_request_that_was_refused_as_too_many_is_made_again_and_one_that_may_have_run_is_not() -> None:
    async def main() -> None:
        answers: list[Answer] = [
            HttpError(429, retry_after_s=0),
            HttpError(529, retry_after_s=0),
            Reply([Text("ok")]),
            HttpError(500),
        ]
        async with (
            open_fake_api(answers) as api,
            HostedClient(lambda: "key", base_url=api.base_url) as client,
        ):
            assert parse_response(await client.ask(build_request([user("go")], model="m"))).text == "ok"
            assert len(api.requests) == 3
            with pytest.raises(HostedError):
                await client.ask(build_request([user("go")], model="m"))
            assert len(api.requests) == 4

    run(main)


def test_half_a_character_and_a_number_that_json_has_not_do_no_harm() -> None:
    async def main() -> None:
        async with (
            open_fake_api([Reply([Text("ok")])]) as api,
            HostedClient(lambda: "key", base_url=api.base_url) as client,
        ):
            assert (await client.ask(build_request([user("half \ud83d")], model="m")))["stop_reason"] == "end_turn"
            with pytest.raises(HostedError, match="JSON"):
                await client.ask(build_request([user("x")], model="m", metadata={"n": float("nan")}))

    run(main)


def test_an_answer_of_the_sdk_is_read_like_its_json() -> None:
    async def main() -> None:
        import anthropic

        made = CodeExecution("make", files={"a.txt": b"1"})
        async with (
            open_fake_api([Reply([made, Text("ok")], usage=USAGE)]) as api,
            anthropic.AsyncAnthropic(api_key="k", base_url=api.base_url, max_retries=0) as client,
        ):
            request = build_request([user("go")], XLSX, model="m")
            answer = await client.messages.create(**request)
            response = parse_response(answer)
            assert (response.text, response.usage, len(response.files)) == ("ok", USAGE, 1)
            assert response.container_id == next(iter(api.hosted.containers))
            assert extract_file_ids(answer) == extract_file_ids(answer.content) == list(api.hosted.files.files)
            assert (complete(answer), extract_text(answer)) == (True, "ok")

    run(main)
