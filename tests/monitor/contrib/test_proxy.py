"""A client behind the proxy is the client, and each of its calls is told, however deep in it the method is."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest

from contrib_kit import JSON, Reported
from monitor_kit import Collector
from skill_actors.testing import FakeMessagesApi, HttpError, Reply, Text, serve_in_thread
from skilld_monitor import Span, disable_monitoring, log_event
from skilld_monitor.contrib.proxy import LLMClientProxy, monitored

ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "the secret question"}],
}


@pytest.fixture(scope="module")
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi(respond=lambda _request: Reply([Text("an answer")]))) as served:
        yield served


def call_of(reported: Reported, method: str) -> JSON:
    """The only call's span, after its start."""
    (start,) = reported.events("proxy_call_start")
    span = reported.span("PROXY")
    assert start["data"] == {"method": method} == {"method": span["data"]["method"]}
    assert (start["channel"], start["span"], start["trace"]) == ("PROXY", span["span"], span["trace"])
    return span


def test_a_method_deep_in_the_client_is_told_and_the_model_call_is_inside(
    reported: Reported, client: anthropic.Anthropic
) -> None:
    proxy = monitored(client)
    answer = proxy.messages.create(**ASK)
    assert type(answer) is anthropic.types.Message
    span = call_of(reported, "messages.create")
    assert (span["name"], span["status"]) == ("proxy_call_finish", "ok")
    assert 0 <= span["data"]["duration_ms"] <= span["duration_ms"]
    assert reported.span("LLM")["parent"] == span["span"]
    assert "secret" not in str(reported.all())


def test_it_is_the_client_for_whoever_asks(client: anthropic.Anthropic) -> None:
    proxy = monitored(client)
    assert all([isinstance(proxy, anthropic.Anthropic), isinstance(proxy.messages, anthropic.resources.Messages)])
    assert type(proxy) is not anthropic.Anthropic
    assert (repr(proxy), str(proxy), dir(proxy)) == (repr(client), str(client), dir(client))
    assert (proxy == client, client == proxy, proxy != client, hash(proxy)) == (True, True, False, hash(client))
    assert proxy.api_key == "k"
    assert inspect.signature(proxy.messages.create) == inspect.signature(client.messages.create)
    assert proxy.messages.create.__name__ == "create"
    assert vars(proxy) is vars(client)
    assert not callable(proxy)
    with pytest.raises(TypeError):
        iter(proxy)
    with pytest.raises(TypeError):
        len(proxy)
    with pytest.raises(AttributeError, match="no_such"):
        _ = proxy.messages.no_such
    assert monitored(proxy) is proxy
    assert proxy.messages is proxy.messages


def test_what_is_set_and_deleted_is_the_clients(client: anthropic.Anthropic) -> None:
    proxy = monitored(client)
    proxy.api_key = "other"
    proxy.note = 1
    assert (client.api_key, vars(client)["note"]) == ("other", 1)
    del proxy.note
    assert "note" not in vars(client)


def test_it_belongs_to_this_process(client: anthropic.Anthropic) -> None:
    with pytest.raises(TypeError, match="stands for a Anthropic of this process"):
        pickle.dumps(monitored(client))


def test_a_copy_is_watched_too(reported: Reported) -> None:
    real = types.SimpleNamespace(parts=[1], ask=lambda: "x")
    for made in (copy.copy(monitored(real)), copy.deepcopy(monitored(real))):
        assert made.ask() == "x"
    assert copy.copy(monitored(real)).parts is real.parts
    assert copy.deepcopy(monitored(real)).parts is not real.parts
    assert len(reported.spans("PROXY")) == 2


def test_a_client_made_of_it_is_watched_too(reported: Reported, client: anthropic.Anthropic) -> None:
    other = monitored(client).with_options(timeout=10)
    assert other.timeout == 10
    other.messages.create(**ASK)
    assert [span["data"]["method"] for span in reported.spans("PROXY")] == ["with_options", "messages.create"]
    with monitored(client) as entered:
        assert isinstance(entered, anthropic.Anthropic)
        assert entered.messages.create(**ASK).content[0].text == "an answer"
    assert len(reported.spans("PROXY")) == 3


def test_an_error_is_the_same_object_and_is_told_without_its_text(reported: Reported) -> None:
    with serve_in_thread(FakeMessagesApi(respond=lambda _request: HttpError(400, message="no secret"))) as broken:
        proxy = monitored(anthropic.Anthropic(base_url=broken.base_url, api_key="k", max_retries=0))
        with pytest.raises(anthropic.BadRequestError):
            proxy.messages.create(**ASK)
        proxy.close()
    failed, closed = reported.spans("PROXY")
    assert (failed["name"], failed["status"], failed["level"]) == ("proxy_call_error", "error", "ERROR")
    assert (failed["data"]["error"], closed["data"]["method"]) == ("BadRequestError", "close")
    assert "secret" not in str(reported.all())


def test_a_stream_ends_the_call_and_keeps_all_that_it_has(reported: Reported, client: anthropic.Anthropic) -> None:
    stream = monitored(client).messages.create(**ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    assert stream.response.status_code == 200
    kinds = []
    for event in stream:
        kinds.append(event.type)
        assert not reported.spans("PROXY")
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert call_of(reported, "messages.create")["status"] == "ok"


@pytest.mark.parametrize(("how", "status"), [("close", "closed"), ("drop", "abandoned"), ("with", "ok")])
def test_a_stream_that_is_not_read_to_its_end(
    reported: Reported, client: anthropic.Anthropic, how: str, status: str
) -> None:
    stream = monitored(client).messages.create(**ASK, stream=True)
    assert next(stream).type == "message_start"
    if how == "close":
        stream.close()
    if how == "with":
        with stream as entered:
            assert entered is stream
    if how == "drop":
        stream.response.close()
    del stream
    if how == "with":
        del entered
    gc.collect()
    assert call_of(reported, "messages.create")["status"] == status


def test_a_manager_of_streams_ends_the_call(reported: Reported, client: anthropic.Anthropic) -> None:
    with monitored(client).messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == "an answer"
        assert stream.get_final_message().content[0].text == "an answer"
        assert not reported.spans("PROXY")
    span = call_of(reported, "messages.stream")
    assert span["status"] == "ok"
    with pytest.raises(LookupError), monitored(client).messages.stream(**ASK):
        raise LookupError
    assert reported.spans("PROXY")[-1]["data"]["error"] == "LookupError"


def test_asynchronous_clients(reported: Reported, api: FakeMessagesApi) -> None:
    async def main() -> None:
        async with monitored(anthropic.AsyncAnthropic(base_url=api.base_url, api_key="k")) as proxy:
            assert isinstance(proxy, anthropic.AsyncAnthropic)
            assert (await proxy.messages.create(**ASK)).content[0].text == "an answer"
            assert [event.type async for event in await proxy.messages.create(**ASK, stream=True)][-1] == "message_stop"
            async with proxy.messages.stream(**ASK) as stream:
                assert "".join([text async for text in stream.text_stream]) == "an answer"

    asyncio.run(main())
    spans = reported.spans("PROXY")
    assert [span["status"] for span in spans] == ["ok"] * 3
    assert {span["parent"] for span in reported.spans("LLM")} == {span["span"] for span in spans}


class Part:
    """Of a client of somebody's own."""

    def __init__(self) -> None:
        self.items = {"a": 1}

    def __getitem__(self, name: str) -> int:
        return self.items[name]

    def __len__(self) -> int:
        return len(self.items)

    def __call__(self, text: str) -> str:
        return text.upper()

    def pieces(self) -> Iterator[str]:
        with Span("piece"):
            got = yield "one"
        yield str(got)

    async def pieces_later(self) -> AsyncIterator[str]:
        yield "one"
        yield "two"

    async def later(self) -> str:
        await asyncio.sleep(0)
        log_event("inside")
        return "done"

    def chained(self) -> Part:
        return self


class Client:
    limit = 3
    Part = Part

    def __init__(self) -> None:
        self.part = Part()
        self._hidden = Part()


def test_parts_are_followed_and_everything_else_is_as_it_is(reported: Reported) -> None:
    real = Client()
    proxy = monitored(real, channel="SHOP", agent_id="till")
    assert (proxy.limit, proxy.Part, proxy._hidden) == (3, Part, real._hidden)
    assert type(proxy._hidden) is Part
    assert (proxy.part["a"], len(proxy.part), bool(proxy.part), proxy.part("x")) == (1, 1, True, "X")
    assert proxy.part.items is real.part.items
    part = proxy.part
    assert part.chained() is part
    spans = reported.spans("SHOP")
    assert [(span["data"]["method"], span["agent"]) for span in spans] == [("part", "till"), ("part.chained", "till")]


def test_generators_and_coroutines_stay_what_they_are(reported: Reported) -> None:
    proxy = monitored(Client())
    pieces: Any = proxy.part.pieces()
    assert type(pieces) is types.GeneratorType
    assert (next(pieces), pieces.send("sent"), list(pieces)) == ("one", "sent", [])
    assert inspect.iscoroutinefunction(proxy.part.later)
    assert inspect.isasyncgenfunction(proxy.part.pieces_later)

    async def main() -> None:
        assert await proxy.part.later() == "done"
        assert [piece async for piece in proxy.part.pieces_later()] == ["one", "two"]

    asyncio.run(main())
    spans = {span["data"]["method"]: span for span in reported.spans("PROXY")}
    assert list(spans) == ["part.pieces", "part.later", "part.pieces_later"]
    assert reported.span("SYSTEM")["parent"] == spans["part.pieces"]["span"]
    assert reported.events("inside")[0]["span"] == spans["part.later"]["span"]


def test_while_it_is_off_nothing_is_told_and_all_is_answered(reported: Reported, client: anthropic.Anthropic) -> None:
    proxy = monitored(client)
    disable_monitoring()
    assert proxy.messages.create(**ASK).content[0].text == "an answer"
    assert type(proxy.messages.create(**ASK, stream=True)) is anthropic.Stream


def test_arguments_are_told_where_they_are_asked_for(collector: Collector) -> None:
    reported = Reported(collector, capture="arguments,result")
    with pytest.raises(KeyError):
        monitored(types.SimpleNamespace(ask={}.__getitem__)).ask("secret")
    (start,) = reported.events("proxy_call_start")
    assert start["data"]["args"] == ["secret"]
    assert reported.span("PROXY")["data"]["error"] == "KeyError: 'secret'"


def test_two_agents_in_one_program_keep_their_events_apart(collector: Collector, api: FakeMessagesApi) -> None:
    for agent in ("first", "second"):
        real = anthropic.Anthropic(base_url=api.base_url, api_key="k")
        LLMClientProxy(agent, real).messages.create(**ASK)
        real.close()
    reported = Reported(collector)
    assert [span["agent"] for span in reported.spans("PROXY")] == ["first", "second"]
    assert [span["agent"] for span in reported.spans("LLM")] == ["first", "second"]
