"""The model client with the real SDK against the fake Messages API over real HTTP."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from anthropic_kit import KEY, ask, collect, connected, done, failing, text_of, user, without_authorities
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
    Usage,
    UsageSoFar,
)
from skill_actors.testing import (
    FakeMessagesApi,
    HttpError,
    RedactedThinking,
    Reply,
    ServerToolUse,
    Text,
    Thinking,
    ToolUse,
    Whole,
    open_fake_api,
)
from support import run

TOOL = {"name": "bash_tool", "description": "Run it", "input_schema": {"type": "object"}}


_no_authorities = without_authorities


def assistant(*content: dict[str, Any]) -> Message:
    return {"role": "assistant", "content": list(content)}


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
            began = trio.Event()

            async def read() -> None:
                async with model.stream(ask()) as events:
                    async for _ in events:
                        began.set()
                        await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await began.wait()
                await trio.sleep(1)  # meanwhile more comes, which nobody takes
                nursery.cancel_scope.cancel()
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
