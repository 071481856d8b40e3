"""The model client with the real SDK against the fake Messages API over real HTTP."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from conftest import require
from skill_actors.models import (
    AnthropicModel,
    BlockDelta,
    BlockDone,
    BlockStart,
    KeyFile,
    Message,
    MessageDone,
    ModelError,
    ModelEvent,
    ModelRequest,
    Usage,
    UsageSoFar,
)
from skill_actors.testing import (
    Answer,
    Cut,
    FakeMessagesApi,
    Garbage,
    HangUp,
    HttpError,
    RedactedThinking,
    Reply,
    ServerToolUse,
    Stall,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    Whole,
    open_fake_api,
)
from support import run

KEY = "sk-test-0123456789"
TOOL = {"name": "bash_tool", "description": "Run it", "input_schema": {"type": "object"}}


@pytest.fixture(autouse=True)
def no_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the machine's certificates for every client would be most of the time of these tests."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


def user(*content: dict[str, Any] | str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": c} if isinstance(c, str) else c for c in content]}


def assistant(*content: dict[str, Any]) -> Message:
    return {"role": "assistant", "content": list(content)}


def ask(*messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(model="claude-sonnet-5-5", messages=messages or [user("hello")], **fields)


@contextlib.asynccontextmanager
async def connected(
    *answers: Answer, stall_timeout_s: float = 10.0, key: Callable[[], str] = lambda: KEY, api_keys: Any = None
) -> AsyncIterator[tuple[FakeMessagesApi, AnthropicModel]]:
    async with open_fake_api(answers, api_keys=api_keys) as api:
        model = AnthropicModel(key, base_url=api.base_url, stall_timeout_s=stall_timeout_s)
        try:
            yield api, model
        finally:
            with trio.CancelScope(shield=True):
                await model.aclose()


async def collect(model: AnthropicModel, request: ModelRequest | None = None) -> list[ModelEvent]:
    async with model.stream(request or ask()) as events:
        return [event async for event in events]


def text_of(events: Sequence[ModelEvent], kind: str = "text") -> str:
    return "".join(event.text for event in events if isinstance(event, BlockDelta) and event.kind == kind)


def done(events: Sequence[ModelEvent]) -> MessageDone:
    endings = [event for event in events if isinstance(event, MessageDone)]
    assert endings == [events[-1]]
    return endings[0]


def failing(answer: Answer, **options: Any) -> ModelError:
    """The error of a call that is answered so."""

    async def main() -> ModelError:
        async with connected(answer, **options) as (_, model):
            with pytest.raises(ModelError) as caught:
                await collect(model)
            return caught.value

    return run(main)


def test_text_arrives_in_deltas_and_whole_at_the_end() -> None:
    async def main() -> None:
        text = "Grüße, 世界! \U0001f600 " * 20
        usage = Usage(
            input_tokens=11,
            output_tokens=22,
            cache_read_tokens=33,
            cache_write_5m_tokens=44,
            cache_write_1h_tokens=55,
            web_search_requests=2,
        )
        async with connected(Reply([Text(text)], usage=usage, model="claude-sonnet-5-5-x")) as (api, model):
            events = await collect(model, ask(system="Be brief.", tools=[TOOL], max_tokens=99))
            await api.wait_until(lambda: api.requests[0].outcome == "complete")
        assert isinstance(events[0], UsageSoFar)
        assert events[0].usage.input_tokens == 11
        assert events[1] == BlockStart(0, "text")
        assert text_of(events) == text
        assert len([event for event in events if isinstance(event, BlockDelta)]) > 20
        assert events[-2] == BlockDone(0, {"type": "text", "text": text})
        assert done(events) == MessageDone(
            model="claude-sonnet-5-5-x",
            stop_reason="end_turn",
            content=[{"type": "text", "text": text}],
            usage=usage,
        )
        assert api.bodies == [
            {
                "model": "claude-sonnet-5-5",
                "max_tokens": 99,
                "messages": [user("hello")],
                "system": "Be brief.",
                "tools": [TOOL],
                "stream": True,
            }
        ]

    run(main)


def test_blocks_of_all_kinds_come_back_exact() -> None:
    """Thinking keeps its signature; results of server tools, which arrive whole, keep every field."""
    result = {
        "type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {
            "type": "bash_code_execution_result",
            "stdout": "1\n",
            "return_code": 0,
            "content": [],
            "new": None,
        },
    }
    reply = Reply(
        [
            Thinking("Let me see. " * 5, "sig/+=="),
            RedactedThinking("opaque"),
            ServerToolUse("bash_code_execution", {"command": "echo 1"}, "srvtoolu_1"),
            Whole(result),
            Text("It is 1."),
        ],
        container="container_1",
    )

    async def main() -> None:
        async with connected(reply) as (_, model):
            events = await collect(model)
        assert text_of(events, "thinking") == "Let me see. " * 5
        assert done(events).content == [
            {"type": "thinking", "thinking": "Let me see. " * 5, "signature": "sig/+=="},
            {"type": "redacted_thinking", "data": "opaque"},
            {
                "type": "server_tool_use",
                "id": "srvtoolu_1",
                "name": "bash_code_execution",
                "input": {"command": "echo 1"},
            },
            result,
            {"type": "text", "text": "It is 1."},
        ]
        assert done(events).container == "container_1"
        assert [event.kind for event in events if isinstance(event, BlockStart)] == [
            "thinking",
            "redacted_thinking",
            "server_tool_use",
            "bash_code_execution_tool_result",
            "text",
        ]

    run(main)


def test_parallel_tool_calls_have_whole_inputs_and_their_history_is_accepted() -> None:
    async def main() -> None:
        tricky = {"command": 'echo "ä\\n"', "nested": {"list": [1, 2.5, None, True], "empty": {}}}
        calls = Reply([Thinking("Two at once."), Text("Both."), ToolUse("bash_tool", tricky), ToolUse("bash_tool")])
        async with connected(calls, Reply([Text("Done.")])) as (api, model):
            first = done(await collect(model, ask(tools=[TOOL])))
            assert first.stop_reason == "tool_use"
            assert [block["input"] for block in first.content[2:]] == [tricky, {}]
            results = [
                {"type": "tool_result", "tool_use_id": block["id"], "content": "ok"} for block in first.content[2:]
            ]
            second = await collect(model, ask(user("hello"), assistant(*first.content), user(*results), tools=[TOOL]))
            assert text_of(second) == "Done."
            assert api.bodies[1]["messages"][1]["content"] == first.content

    run(main)


def test_a_history_with_a_call_that_has_no_result_is_refused() -> None:
    async def main() -> None:
        call = {"type": "tool_use", "id": "toolu_1", "name": "bash_tool", "input": {}}
        async with connected() as (_, model):
            with pytest.raises(ModelError, match=r"without `tool_result` blocks immediately after: toolu_1") as caught:
                await collect(model, ask(user("hello"), assistant(call), user("and?")))
            assert (caught.value.code, caught.value.retryable, caught.value.status) == ("invalid_request", False, 400)

    run(main)


@pytest.mark.parametrize("stop_reason", ["max_tokens", "stop_sequence", "model_context_window_exceeded", "unheard_of"])
def test_other_stop_reasons_are_passed_on(stop_reason: str) -> None:
    async def main() -> None:
        async with connected(Reply([Text("Half a sen")], stop_reason=stop_reason)) as (_, model):
            assert done(await collect(model)).stop_reason == stop_reason

    run(main)


def test_refusal_comes_with_its_details() -> None:
    async def main() -> None:
        details = {"type": "refusal", "category": "cyber", "explanation": "No."}
        async with connected(Reply([], stop_reason="refusal", stop_details=details)) as (_, model):
            ending = done(await collect(model))
        assert (ending.stop_reason, ending.stop_details, ending.content) == ("refusal", details, [])

    run(main)


def test_a_paused_turn_goes_on_when_its_content_is_sent_back() -> None:
    async def main() -> None:
        paused = Reply([ServerToolUse("web_search", {"query": "x"})], stop_reason="pause_turn")
        async with connected(paused, Reply([Text("Found.")])) as (_, model):
            first = done(await collect(model))
            assert first.stop_reason == "pause_turn"
            assert text_of(await collect(model, ask(user("hello"), assistant(*first.content)))) == "Found."

    run(main)


def test_a_call_cut_by_max_tokens_is_no_call() -> None:
    """Half an input must not be run, and could not be sent back."""

    async def main() -> None:
        cut = ToolUse("bash_tool", raw_json='{"command": "rm -r bui')
        async with connected(Reply([Text("Now."), cut], stop_reason="max_tokens")) as (_, model):
            events = await collect(model)
        assert done(events).content == [{"type": "text", "text": "Now."}]
        assert [event.index for event in events if isinstance(event, BlockDone)] == [0]

    run(main)


def test_a_broken_tool_input_is_a_protocol_error() -> None:
    error = failing(Reply([ToolUse("bash_tool", raw_json="{nonsense")]))
    assert error.code == "protocol"
    assert not error.retryable


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


def test_cancel_closes_the_connection_within_a_second() -> None:
    async def main() -> None:
        reply = Reply([Text("word " * 1000)], delay_s=0.01)
        async with connected(reply) as (api, model):
            started = trio.Event()

            async def read() -> None:
                async with model.stream(ask()) as events:
                    async for event in events:
                        if isinstance(event, BlockDelta):
                            started.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await started.wait()
                nursery.cancel_scope.cancel()
            with trio.fail_after(10):  # a second is the figure; ten of them a failure
                await api.wait_until(lambda: api.requests[0].outcome == "client_gone")

    run(main)


def test_cancel_while_the_reader_is_busy_elsewhere_closes_the_connection_too() -> None:
    async def main() -> None:
        async with connected(Reply([Text("word " * 50_000)], delay_s=0.001)) as (api, model):  # longer than the test
            await model.prepare()
            with trio.move_on_after(1) as scope:
                async with model.stream(ask()) as events:
                    async for _ in events:
                        await trio.sleep(5)
            assert scope.cancelled_caught
            with trio.fail_after(10):  # a second is the figure; ten of them a failure
                await api.wait_until(lambda: api.requests[0].outcome == "client_gone")

    run(main)


def test_leaving_early_closes_the_connection_and_the_next_call_works() -> None:
    async def main() -> None:
        async with connected(Reply([Text("word " * 1000)], delay_s=0.01), Reply([Text("next")])) as (api, model):
            async with model.stream(ask()) as events:
                async for _ in events:
                    break
            with trio.fail_after(10):  # a second is the figure; ten of them a failure
                await api.wait_until(lambda: api.requests[0].outcome == "client_gone")
            assert text_of(await collect(model)) == "next"

    run(main)


def test_cancel_before_the_answer_begins_closes_the_connection() -> None:
    async def main() -> None:
        async with connected(Reply([Text("late")], first_delay_s=60)) as (api, model):
            await model.prepare()
            with trio.move_on_after(0.3):
                await collect(model)
            with trio.fail_after(10):  # a second is the figure; ten of them a failure
                await api.wait_until(lambda: api.requests[0].outcome == "client_gone")

    run(main)


def test_calls_one_after_another_share_a_connection() -> None:
    async def main() -> None:
        async with connected() as (api, model):
            for _ in range(5):
                await collect(model)
            assert {request.connection for request in api.requests} == {1}

    run(main)


def test_many_calls_at_once_get_their_own_answers() -> None:
    async def main() -> None:
        async with connected() as (_, model), trio.open_nursery() as nursery:

            async def one(number: int) -> None:
                events = await collect(model, ask(user(f"message {number}.")))
                assert text_of(events) == f"You said: message {number}."

            for number in range(50):
                nursery.start_soon(one, number)

    run(main)


def test_a_changed_key_is_used_by_the_next_call(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "key"
        file.write_text("first-key-aaaa\n")
        file.chmod(0o600)
        async with connected(key=KeyFile(file), api_keys=["first-key-aaaa", "second-key-bbbb"]) as (api, model):
            await collect(model)
            file.write_text("second-key-bbbb\n")
            await collect(model)
            assert [
                request.headers.get("authorization") or request.headers.get("x-api-key") for request in api.requests
            ] == [
                "***aaaa",
                "***bbbb",
            ]

    run(main)


def test_a_wrong_key_is_an_authentication_error_that_does_not_show_it() -> None:
    async def main() -> None:
        answer = HttpError(401, message=f"invalid key {KEY}")
        async with connected(answer) as (_, model):
            with pytest.raises(ModelError) as caught:
                await collect(model)
            assert caught.value.code == "authentication"
            assert KEY not in str(caught.value)
            assert KEY not in repr(model)

    run(main)


def test_the_key_is_in_no_log_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    failing(HttpError(500))
    assert KEY not in caplog.text


def test_no_key_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(key=KeyFile(tmp_path / "missing")) as (api, model):
            with pytest.raises(ModelError, match="missing") as caught:
                await collect(model)
            assert caught.value.code == "not_configured"
            assert api.requests == []

    run(main)


def test_a_closed_client_refuses_calls_and_closing_twice_is_allowed() -> None:
    async def main() -> None:
        async with connected(Reply([Text("x")])) as (_, model):
            await collect(model)
            await model.aclose()
            await model.aclose()
            with pytest.raises(ModelError, match="closed"):
                await collect(model)

    run(main)


def test_extra_fields_are_sent_as_they_are() -> None:
    async def main() -> None:
        extra = {"thinking": {"type": "adaptive"}, "container": {"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}}
        async with connected(Reply([Text("x")])) as (api, model):
            await collect(
                model, ask(extra=extra, tools=[{"type": "code_execution_20260521", "name": "code_execution"}])
            )
            assert {name: api.bodies[0][name] for name in extra} == extra
            with pytest.raises(ValueError, match="'system'"):
                await collect(model, ask(extra={"system": "x"}))

    run(main)


def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request for another host arrives at the proxy."""

    async def main() -> None:
        async with open_fake_api() as api:
            monkeypatch.setenv("HTTP_PROXY", api.base_url)
            model = AnthropicModel(lambda: KEY, base_url="http://model.test")
            with pytest.raises(ModelError):
                await collect(model)
            await model.aclose()
            assert api.requests[0].path == "http://model.test/v1/messages"

    run(main)


def test_an_own_certificate_authority_is_trusted_where_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the call fails, with the reason."""
    require(shutil.which("openssl") is not None, "the program openssl makes the certificate of this test")
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(private), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)

    async def copy(source: trio.abc.ReceiveStream, target: trio.abc.SendStream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in source:
                await target.send_all(data)
        scope.cancel()

    async def relay(api: FakeMessagesApi, plain: trio.SocketStream) -> None:
        """TLS in front of the fake API."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, private)
        stream = trio.SSLStream(plain, context, server_side=True, https_compatible=True)
        behind = await trio.open_tcp_stream("127.0.0.1", api.port)
        async with stream, behind, trio.open_nursery() as nursery:
            nursery.start_soon(copy, stream, behind, nursery.cancel_scope)
            nursery.start_soon(copy, behind, stream, nursery.cancel_scope)

    async def main() -> None:
        async with open_fake_api() as api, trio.open_nursery() as nursery:
            serve = functools.partial(trio.serve_tcp, functools.partial(relay, api), 0, host="127.0.0.1")
            listeners: list[trio.SocketListener] = await nursery.start(serve)
            url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            for trusted in (False, True):
                if trusted:
                    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
                model = AnthropicModel(lambda: KEY, base_url=url, stall_timeout_s=5)
                if trusted:
                    assert text_of(await collect(model)) == "You said: hello"
                else:
                    with pytest.raises(ModelError, match="CERTIFICATE_VERIFY_FAILED"):
                        await collect(model)
                await model.aclose()
            nursery.cancel_scope.cancel()

    run(main)


def test_importing_the_models_imports_no_sdk() -> None:
    code = (
        "import sys, skill_actors.models, skill_actors.testing;"
        "print(sorted({'anthropic', 'httpx2', 'pydantic', 'httpx'} & sys.modules.keys()))"
    )
    paths = [path for path in sys.path if path]
    code = f"import sys; sys.path[:0] = {paths!r}; {code}"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert outcome.stdout.strip() == "[]"
