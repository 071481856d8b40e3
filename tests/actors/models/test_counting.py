"""Counting the tokens of a request, betas and breakpoints on the wire, and a prompt that does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.models import (
    AnthropicModel,
    BlockDone,
    CredentialError,
    MessageDone,
    ModelError,
    ModelRequest,
    OfflineModel,
    facts_of,
)
from skill_actors.models.base import Model
from skill_actors.models.breaker import Breaker, BreakerPolicy
from skill_actors.models.context_management import COMPACTION_BETA, context_management
from skill_actors.models.failures import api_failure
from skill_actors.models.guarded import GuardedModel
from skill_actors.testing import (
    FakeMessagesApi,
    HangUp,
    HttpError,
    Meter,
    Reply,
    ScriptedModel,
    Text,
    open_fake_api,
)
from support import run, run_virtual

KEY = "sk-test-0123456789"
MODEL = "claude-sonnet-5-5"
COUNT = "/v1/messages/count_tokens"
TOOL = {"name": "bash_tool", "description": "Run it", "input_schema": {"type": "object"}}


@pytest.fixture(autouse=True)
def no_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the machine's certificates for every client would be most of the time of these tests."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


def ask(text: str = "hello", **fields: Any) -> ModelRequest:
    return ModelRequest(**{"model": MODEL, "messages": [{"role": "user", "content": text}], **fields})


@asynccontextmanager
async def connected(
    *, key: Callable[[], str] = lambda: KEY, **options: Any
) -> AsyncIterator[tuple[FakeMessagesApi, AnthropicModel]]:
    async with open_fake_api(api_keys=[KEY]) as api:
        model = AnthropicModel(key, base_url=api.base_url, **options)
        try:
            yield api, model
        finally:
            with trio.CancelScope(shield=True):
                await model.aclose()


async def answer(model: Model, request: ModelRequest) -> MessageDone:
    async with model.stream(request) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, MessageDone)
    return last


def test_a_count_is_what_the_answer_says_it_read() -> None:
    async def main() -> None:
        async with connected() as (api, model):
            request = ask("word " * 500, system="Be brief.", tools=[TOOL], extra={"output_config": {"effort": "low"}})
            counted = await model.count_tokens(request)
            assert counted == (await answer(model, request)).usage.prompt_tokens
            assert [each.path for each in api.requests] == [COUNT, "/v1/messages"]
            assert api.bodies[0].keys() == {"model", "messages", "system", "tools", "output_config"}
            assert len(api.bill) == 1

    run(main)


@pytest.mark.parametrize(
    ("interruption", "code"),
    [
        (HttpError(429, retry_after_s=3), "rate_limited"),
        (HttpError(529), "overloaded"),
        (HttpError(401), "authentication"),
        (HttpError(200, text="<html>a page</html>"), "protocol"),
        (HangUp(), "connection"),
    ],
)
def test_a_count_that_fails_says_why_as_a_call_does(interruption: HttpError | HangUp, code: str) -> None:
    async def main() -> None:
        async with connected() as (api, model):
            api.interrupt("POST", COUNT, interruption)
            with pytest.raises(ModelError) as caught:
                await model.count_tokens(ask())
            assert caught.value.code == code
            assert KEY not in str(caught.value)

    run(main)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_the_endpoint_counts_nothing(status: int) -> None:
    async def main() -> None:
        async with connected() as (api, model):
            api.interrupt("POST", COUNT, HttpError(status))
            assert await model.count_tokens(ask()) is None

    run(main)


def test_a_count_does_not_wait_for_ever_and_can_be_cancelled() -> None:
    async def main() -> None:
        async with connected(count_timeout_s=2) as (api, model):  # enough for the last count, which is answered
            await model.prepare()
            api.interrupt("POST", COUNT, HttpError(500, delay_s=60))
            with pytest.raises(ModelError, match=r"nothing arrived from the model API for 2 s") as caught:
                await model.count_tokens(ask())
            assert (caught.value.code, caught.value.retryable) == ("timeout", True)
            api.interrupt("POST", COUNT, HttpError(500, delay_s=60))
            with trio.move_on_after(0.1) as scope:
                await model.count_tokens(ask())
            assert scope.cancelled_caught
            assert await model.count_tokens(ask())  # the client is still good

    run(main)


def test_a_count_needs_the_key_too() -> None:
    def lost() -> str:
        raise CredentialError("no key in /x")

    async def main() -> None:
        async with connected(key=lost) as (api, model):
            with pytest.raises(CredentialError):
                await model.count_tokens(ask())
            assert api.requests == []

    run(main)


def test_betas_are_asked_for_by_their_header_and_only_then() -> None:
    async def main() -> None:
        async with connected() as (api, model):
            extra, betas = context_management(facts_of(MODEL), compact_at_tokens=60_000)
            await answer(model, ask(extra=extra, betas=betas))
            await model.count_tokens(ask(extra=extra, betas=betas))
            await answer(model, ask())
            assert [each.headers.get("anthropic-beta") for each in api.requests] == [COMPACTION_BETA] * 2 + [None]

    run(main)


def test_breakpoints_go_out_and_what_is_read_comes_back() -> None:
    async def main() -> None:
        async with connected() as (api, model):
            request = ask("word " * 2000, system="Be brief.", cache=True)
            first, second = await answer(model, request), await answer(model, request)
            assert first.usage.cache_write_5m_tokens == second.usage.cache_read_tokens > 2000
            assert api.bodies[0]["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}

    run(main)


def test_a_summary_of_the_api_arrives_whole_and_goes_back_unchanged() -> None:
    async def main() -> None:
        async with connected() as (api, model):
            api.meter = Meter(summarise=lambda _: "The door is blue. " * 100)
            api.enqueue(Reply([Text("Go on.")]), Reply([Text("Blue.")]))
            extra, betas = context_management(facts_of(MODEL), compact_at_tokens=60_000)
            question = {"role": "user", "content": [{"type": "text", "text": "word " * 70_000}]}
            request = ask(messages=[question], extra=extra, betas=betas)
            async with model.stream(request) as events:
                made = [event async for event in events]
            done = made[-1]
            assert isinstance(done, MessageDone)
            summary = {"type": "compaction", "content": "The door is blue. " * 100}
            assert done.content[0] == summary
            assert BlockDone(0, summary) in made
            assert done.usage.prompt_tokens > 70_000 > 1000 > done.context_tokens > 0
            more = [question, {"role": "assistant", "content": list(done.content)}, *ask("And?").messages]
            await answer(model, ask(messages=more, extra=extra, betas=betas))
            assert api.bodies[-1]["messages"][1]["content"][0] == summary

    run(main)


def test_a_prompt_that_does_not_fit_has_a_code_of_its_own() -> None:
    def failed(message: str, status: int = 400) -> ModelError:
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
        return api_failure(status, {}, body)

    long = failed("prompt is too long: 1000001 tokens > 1000000 maximum")
    assert (long.code, long.retryable) == ("context_exceeded", False)
    assert failed("input length and `max_tokens` exceed context limit: 1 + 2 > 2").code == "context_exceeded"
    assert failed("messages: prompt is too long, somebody says").code == "invalid_request"
    assert failed("prompt is too long", 413).code == "too_large"


def test_the_offline_model_counts_words() -> None:
    async def main() -> None:
        request = ask("one two three")
        counted = await OfflineModel().count_tokens(request)
        assert counted == (await answer(OfflineModel(), request)).usage.input_tokens

    run_virtual(main)


def test_the_scripted_model_counts_as_the_fake_api_does_and_keeps_its_script() -> None:
    async def main() -> None:
        model = ScriptedModel([Reply([Text("ok")])])
        request = ask("word " * 50, tools=[TOOL])
        counted = await model.count_tokens(request)
        assert counted == (await answer(model, request)).usage.prompt_tokens
        with pytest.raises(ModelError, match="at least one message"):
            await model.count_tokens(ask(messages=[]))

    run_virtual(main)


class Failing(ScriptedModel):
    """Does not answer, and counts as it is told."""

    count: int | ModelError = 7

    async def count_tokens(self, request: ModelRequest) -> int:
        await trio.lowlevel.checkpoint()
        if isinstance(self.count, ModelError):
            raise self.count
        return self.count


def test_the_circuit_holds_for_counts_and_learns_from_their_failures_only() -> None:
    async def main() -> None:
        model = Failing(respond=lambda _: HttpError(529))
        guard = GuardedModel(model, Breaker(BreakerPolicy(failures=3, open_s=5.0)), endpoint="http://x")
        for _ in range(3):
            assert await guard.count_tokens(ask()) == 7
            with pytest.raises(ModelError, match="529"):
                await answer(guard, ask())
        assert guard.to_dict()["state"] == "open"  # counts in between have not closed it
        with pytest.raises(ModelError) as caught:
            await guard.count_tokens(ask())
        assert caught.value.code == "circuit_open"
        await trio.sleep(6)
        assert await guard.count_tokens(ask()) == 7
        assert guard.to_dict()["state"] == "closed"
        model.count = ModelError("x", code="overloaded", status=529, retryable=True)
        with pytest.raises(ModelError):
            await guard.count_tokens(ask())
        assert guard.to_dict()["state"] == "open"

    run_virtual(main)


def test_a_count_that_is_given_up_teaches_the_circuit_nothing() -> None:
    async def main() -> None:
        class Slow(ScriptedModel):
            async def count_tokens(self, request: ModelRequest) -> int:
                await trio.sleep_forever()
                raise AssertionError

        guard = GuardedModel(Slow(), Breaker(BreakerPolicy(failures=1, open_s=5.0)), endpoint="http://x")
        with trio.move_on_after(1):
            await guard.count_tokens(ask())
        assert guard.to_dict()["state"] == "closed"

    run_virtual(main)
