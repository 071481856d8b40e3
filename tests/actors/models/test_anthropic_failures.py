"""The model client where the API, or the way to it, fails: stable codes, and nothing tried again here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anthropic_kit import KEY, ask, collect, connected, done, failing, text_of, user, without_authorities
from skill_actors.models import (
    AnthropicModel,
    ModelError,
    Usage,
)
from skill_actors.testing import (
    Cut,
    Garbage,
    HangUp,
    HttpError,
    Reply,
    Stall,
    StreamError,
    Text,
    Whole,
)
from support import run

_no_authorities = without_authorities


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "invalid_request", False),
        (401, "authentication", False),
        (402, "billing", False),
        (403, "permission", False),
        (404, "not_found", False),
        (409, "server", True),
        (413, "too_large", False),
        (418, "invalid_request", False),
        (429, "rate_limited", True),
        (500, "server", True),
        (503, "overloaded", True),
        (504, "timeout", True),
        (529, "overloaded", True),
    ],
)
def test_http_errors_have_stable_codes(status: int, code: str, retryable: bool) -> None:
    error = failing(HttpError(status, message="because"))
    assert (error.code, error.retryable, error.status, error.retry_after_s) == (code, retryable, status, None)
    assert "because" in str(error)
    assert "req_fake_000001" in str(error)


def test_nothing_is_retried_here() -> None:
    async def main() -> None:
        async with connected(HttpError(529), HttpError(529)) as (api, model):
            with pytest.raises(ModelError):
                await collect(model)
            assert len(api.requests) == 1

    run(main)


def test_retry_after_is_told() -> None:
    assert failing(HttpError(429, retry_after_s=7)).retry_after_s == 7.0
    assert failing(HttpError(529, headers={"retry-after-ms": "250"})).retry_after_s == 0.25


def test_the_server_may_say_whether_to_retry() -> None:
    assert not failing(HttpError(500, headers={"x-should-retry": "false"})).retryable


def test_the_page_of_a_proxy_is_quoted_in_short() -> None:
    error = failing(HttpError(502, text="<html><h1>Bad\x1b[31m Gateway</h1>" + "x" * 5000))
    assert error.code == "server"
    assert "Bad" in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 500


def test_an_error_in_the_middle_of_the_stream_tells_the_usage_so_far() -> None:
    usage = Usage(input_tokens=5, output_tokens=50, cache_read_tokens=7)
    error = failing(Reply([Text("one two three four")], usage=usage, fail=StreamError(after=2)))
    assert (error.code, error.retryable, error.status) == ("overloaded", True, 200)
    assert error.usage == Usage(input_tokens=5, output_tokens=1, cache_read_tokens=7)


@pytest.mark.parametrize("mid_event", [True, False])
@pytest.mark.parametrize("after", [0, 2, 1000])
def test_a_cut_connection_is_a_retryable_error(mid_event: bool, after: int) -> None:
    error = failing(Reply([Text("one two three four")], fail=Cut(after=after, mid_event=mid_event)))
    assert (error.code, error.retryable) == ("connection", True)
    assert error.usage is not None
    assert error.usage.input_tokens > 0


def test_a_stream_that_ends_early_without_a_fault_of_the_connection_is_an_error_too() -> None:
    error = failing(Reply([Text("one two three four")], fail=Garbage(after=2, text="")))
    assert error.code == "connection"
    assert "before the message was complete" in str(error)


def test_no_answer_at_all_is_a_connection_error() -> None:
    assert failing(HangUp()).code == "connection"


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    async def main() -> None:
        model = AnthropicModel(lambda: KEY, base_url="http://127.0.0.1:1")
        with pytest.raises(ModelError, match="connection to the model API failed") as caught:
            await collect(model)
        assert caught.value.code == "connection"
        await model.aclose()

    run(main)


def test_a_stall_ends_after_the_timeout() -> None:
    error = failing(Reply([Text("one two three four")], fail=Stall(after=1)), stall_timeout_s=0.3)
    assert (error.code, error.retryable) == ("timeout", True)
    assert "0.3 s" in str(error)


def test_a_server_that_never_begins_to_answer_times_out() -> None:
    assert failing(Reply([Text("late")], first_delay_s=60), stall_timeout_s=0.3).code == "timeout"


@pytest.mark.parametrize(
    "text",
    [
        "data: {not json\n\n",
        "data: [1, 2]\n\n",
        'data: {"type": "content_block_delta", "index": 9, "delta": {"type": "text_delta", "text": "x"}}\n\n',
        'data: {"type": "content_block_start", "index": "a", "content_block": {}}\n\n',
        'data: {"type": "message_start", "message": {"model": "x"}}\n\n',
        'data: {"type": "message_stop"}\n\n',
        'data: {"type": "message_delta", "delta": {}, "usage": {"output_tokens": -3}}\n\n',
    ],
)
def test_garbage_is_a_protocol_error(text: str) -> None:
    lines = f"event: anything\n{text}"
    error = failing(Reply([Text("one two three four")], fail=Garbage(after=1, text=lines)))
    assert (error.code, error.retryable) == ("protocol", False)


def test_unknown_events_and_fields_are_skipped() -> None:
    reply = Reply([Whole({"type": "text", "text": "whole", "later": 1})])

    async def main() -> None:
        async with connected(reply) as (_, model):
            events = await collect(model)
        assert text_of(events) == "whole"
        assert done(events).content == [{"type": "text", "text": "whole", "later": 1}]

    run(main)


def test_an_answer_that_is_no_event_stream_names_the_base_url() -> None:
    async def main() -> None:
        async with connected(HttpError(200, text="<html>login</html>")) as (_, model):
            with pytest.raises(ModelError, match="check base_url") as caught:
                await collect(model)
            assert caught.value.code == "protocol"

    run(main)


@pytest.mark.parametrize(
    ("said", "sent"), [("bad \ud800 end", "bad \ufffd end"), ("\udc00", "\ufffd"), ("\ud83d\ude00", "\U0001f600")]
)
def test_half_a_surrogate_pair_in_the_history_does_not_end_the_conversation(said: str, sent: str) -> None:
    async def main() -> None:
        async with connected() as (api, model):
            done(await collect(model, ask(user(said))))
            (request,) = api.requests
            content = request.body["messages"][0]["content"]
            assert content in (sent, [{"type": "text", "text": sent}])

    run(main)


def test_a_number_that_json_does_not_have_is_refused() -> None:
    async def main() -> None:
        async with connected() as (_, model):
            request = replace(ask(user("hello")), extra={"temperature": float("nan")})
            with pytest.raises(ModelError, match="cannot be sent as JSON") as caught:
                await collect(model, request)
            assert caught.value.code == "invalid_request"

    run(main)
