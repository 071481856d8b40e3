"""A client that no adapter knows is watched by the path of its method, whatever kind of method that is."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel, computed_field, dataclasses

from monitor_kit import Collector, messages_api, policy_file
from skilld_monitor import Monitoring, adapters, enable_monitoring
from skilld_monitor.policy import BlockedError

ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "secret"}],
}
ANSWER = {"id": "r1", "model": "m-1", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


class Client:
    """Somebody's."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ask(self, text: str, *, model: str = "m") -> dict[str, Any]:
        self.asked.append(text)
        return ANSWER

    async def ask_later(self, text: str) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return self.ask(text)

    def pieces(self, text: str) -> Iterator[str]:
        yield from text.split()

    async def pieces_later(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield word

    def fail(self, text: str) -> None:
        raise ConnectionError(text)

    def echo(self) -> Generator[str, str, str]:
        said = "begin"
        while said != "end":
            try:
                said = yield said
            except KeyError as error:
                said = yield f"caught {error}"
        return "over"

    async def echo_later(self) -> AsyncGenerator[str, str]:
        said = "begin"
        while said != "end":
            try:
                said = yield said
            except KeyError as error:
                said = yield f"caught {error}"

    def begin(self, text: str) -> asyncio.Task[dict[str, Any]]:
        return asyncio.ensure_future(self.ask_later(text))

    def open(self, text: str) -> Opened:
        return Opened(self, text)


class Opened:
    """As clients of HTTP return it: to be awaited, or entered."""

    def __init__(self, client: Client, text: str) -> None:
        self._answer = client.ask_later(text)

    def __await__(self) -> Generator[Any, Any, dict[str, Any]]:
        return self._answer.__await__()

    async def __aenter__(self) -> dict[str, Any]:
        return await self._answer

    async def __aexit__(self, *_raised: object) -> None:
        pass


def the_span(made: Monitoring, collector: Collector) -> dict[str, Any]:
    assert made.flush()
    (span,) = [event for event in collector.events(channel="LLM") if event["duration_ms"] is not None]
    assert "secret" not in str(span)
    return span


def test_an_asynchronous_method_lasts_as_long_as_it_takes(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="ask_later")
    assert asyncio.run(client.ask_later("secret")) is ANSWER
    span = the_span(made, collector)
    assert span["duration_ms"] >= 20
    assert (span["data"]["gen_ai.response.model"], span["data"]["gen_ai.usage.output_tokens"]) == ("m-1", 4)


def test_a_generator_is_read_as_ever_and_ends_with_its_last_piece(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="pieces")
    assert list(client.pieces("some secret words")) == ["some", "secret", "words"]
    span = the_span(made, collector)
    assert (span["status"], "gen_ai.response.time_to_first_chunk" in span["data"]) == ("ok", True)


def test_an_asynchronous_generator_too(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="pieces_later")

    async def main() -> list[str]:
        return [piece async for piece in client.pieces_later("some secret words")]

    assert asyncio.run(main()) == ["some", "secret", "words"]
    assert the_span(made, collector)["status"] == "ok"


def test_what_it_raises_is_its_own(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="fail")
    with pytest.raises(ConnectionError, match="secret"):
        client.fail("secret")
    assert the_span(made, collector)["data"]["error.type"] == "ConnectionError"


@pytest.mark.parametrize("mode", ["block", "redact"])
def test_a_policy_sees_what_is_handed_over_by_position(collector: Collector, tmp_path: Path, mode: str) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="ask", policy_file=policy_file(tmp_path, mode))
    if mode == "block":
        with pytest.raises(BlockedError):
            client.ask("the secret question")
        assert client.asked == []
    else:
        assert client.ask("the secret question", model="m") is ANSWER
        assert "secret" not in client.asked[0]
        assert "question" in client.asked[0]
    assert the_span(made, collector)["status"] == ("error" if mode == "block" else "ok")


def test_a_policy_sees_each_argument_by_name_and_leaves_the_clients_own_keys_alone(
    collector: Collector, tmp_path: Path
) -> None:
    class Chat:
        def ask(self, **given: object) -> object:
            return given

    client = Chat()
    rules = policy_file(tmp_path, "block")
    enable_monitoring("shop", llm_client=client, llm_method_path="ask", policy_file=rules, policy_fail="open")
    for name in ("message", "question", "text", "messages"):
        with pytest.raises(BlockedError):
            client.ask(**{name: "the secret question"})
    given = {"api_key": "secret", "headers": {"x-api-key": "secret"}, "message": "hello"}
    assert client.ask(**given) == given


def test_each_module_that_an_adapter_knows_is_waited_for() -> None:
    waited = {**adapters._SDKS, **adapters._FRAMEWORKS}
    known = {
        module: name
        for name in set(waited.values())
        for module in importlib.import_module(f"skilld_monitor.adapters.{name}").WATCHED
    }
    assert known == waited


def test_what_an_asynchronous_method_is_it_stays(collector: Collector) -> None:
    client = Client()
    enable_monitoring("shop", llm_client=client, llm_method_path="ask_later")
    assert inspect.iscoroutinefunction(client.ask_later), "others decide by it how to call it"
    pending = client.ask_later("secret")
    assert inspect.iscoroutine(pending)
    pending.close()


def test_a_task_is_the_very_task_and_the_span_ends_with_it(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="begin")

    async def main() -> None:
        task = client.begin("secret")
        assert isinstance(task, asyncio.Task)
        assert await task is ANSWER

    asyncio.run(main())
    span = the_span(made, collector)
    assert span["duration_ms"] >= 20
    assert span["data"]["gen_ai.usage.output_tokens"] == 4


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_task_that_comes_to_nothing_does_so_as_ever(collector: Collector, how: str) -> None:
    client, told, boom = Client(), [], ZeroDivisionError()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="begin")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context.get("exception")))
        task = client.begin("secret")
        if how == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()

    def fail(_text: str, **_more: object) -> Any:
        raise boom

    client.ask = fail  # type: ignore[assignment,method-assign]
    asyncio.run(main())
    span = the_span(made, collector)
    assert (span["status"], span["data"].get("error.type")) == (
        ("error", "ZeroDivisionError") if how == "failed" else ("cancelled", None)
    )
    assert [error for error in told if error is boom] == ([boom] if how == "failed" else [])


def test_what_can_be_awaited_or_entered_can_be_both_ways(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="open")

    async def main() -> None:
        assert await client.open("secret") is ANSWER
        async with client.open("secret") as answer:
            assert answer is ANSWER

    asyncio.run(main())
    assert made.flush()
    assert [span["status"] for span in collector.events(channel="LLM")] == ["ok", "ok"]


def test_a_generator_is_one_and_all_that_is_done_to_it_is_done(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="echo")
    echo: Any = client.echo()
    assert type(echo) is types.GeneratorType
    assert echo.__name__ == "echo"
    assert [next(echo), echo.send("a"), echo.throw(KeyError("k")), echo.send("b")] == ["begin", "a", "caught 'k'", "b"]
    with pytest.raises(StopIteration) as ended:
        echo.send("end")
    assert ended.value.value == "over"
    assert the_span(made, collector)["status"] == "ok"


def test_an_asynchronous_generator_is_one_and_all_that_is_done_to_it_is_done(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="echo_later")

    async def main() -> list[str]:
        echo: Any = client.echo_later()
        assert type(echo) is types.AsyncGeneratorType
        said = [await anext(echo), await echo.asend("a"), await echo.athrow(KeyError("k")), await echo.asend("b")]
        await echo.aclose()
        return said

    assert asyncio.run(main()) == ["begin", "a", "caught 'k'", "b"]
    assert the_span(made, collector)["status"] == "closed"


def test_generators_that_are_left_early_or_fail_end_so(collector: Collector) -> None:
    client = Client()
    made = enable_monitoring("shop", llm_client=client, llm_method_path="echo")
    left = client.echo()
    next(left)
    left.close()
    failed = client.echo()
    next(failed)
    boom = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        failed.throw(boom)
    assert caught.value is boom
    assert made.flush()
    assert [span["status"] for span in collector.events(channel="LLM")] == ["closed", "error"]


class Service:
    """A program's own, around an SDK that is watched itself."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = anthropic.Anthropic(base_url=url, api_key="k")

    def ask(self) -> Any:
        return self._client.messages.create(**ASK)

    def text(self) -> str:
        return str(self.ask().content[0].text)

    async def ask_later(self) -> str:
        await asyncio.sleep(0)
        async with anthropic.AsyncAnthropic(base_url=self._url, api_key="k") as client:
            return str((await client.messages.create(**ASK)).content[0].text)

    def stream(self) -> Any:
        return self._client.messages.create(**ASK, stream=True)

    def pieces(self) -> Iterator[str]:
        for event in self.stream():
            yield event.type

    def left(self) -> int:
        with self.stream() as stream:
            next(stream)
        return int(stream.response.status_code)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def service() -> Iterator[Service]:
    with (
        messages_api() as api,
        closing(Service(api.base_url)) as made,
    ):
        yield made


@pytest.mark.parametrize("how", ["ask", "text", "ask_later", "stream", "pieces", "left"])
def test_a_method_that_asks_an_sdk_which_is_watched_itself_is_one_call(
    collector: Collector, service: Service, how: str
) -> None:
    made = enable_monitoring("shop", llm_client=service, llm_method_path=how)
    result = getattr(service, how)()
    if how == "ask_later":
        assert asyncio.run(result) == "an answer"
    elif how in ("stream", "pieces"):
        assert len(list(result)) > 3
    span = the_span(made, collector)
    assert (span["name"], span["data"]["gen_ai.provider.name"]) == ("chat claude-sonnet-5-5", "anthropic")
    assert span["data"]["gen_ai.usage.input_tokens"] == 1110
    service._client.messages.create(**ASK)
    assert made.flush()
    assert len(collector.events(channel="LLM")) == 2, "what is asked after it is a call of its own"


def test_a_call_beside_such_a_method_is_a_call_of_its_own(collector: Collector, service: Service) -> None:
    made = enable_monitoring("shop", llm_client=service, llm_method_path="ask_later")

    async def main() -> None:
        task = asyncio.create_task(service.ask_later())
        service.ask()
        await task

    asyncio.run(main())
    assert made.flush()
    found = collector.events(channel="LLM")
    assert [span["data"]["gen_ai.usage.input_tokens"] for span in found] == [1110, 1110]
    assert len({span["span"] for span in found}) == 2


def test_facts_of_an_answer_that_pydantic_made_are_read_wherever_it_has_them(collector: Collector) -> None:
    class Counted(BaseModel):
        id: str = "r2"

        @computed_field  # type: ignore[prop-decorator]
        @property
        def model(self) -> str:
            return "m-2"

        @property
        def usage(self) -> dict[str, int]:
            return {"prompt_tokens": 5, "completion_tokens": 6}

    @dataclasses.dataclass
    class Used:
        prompt_tokens: int
        completion_tokens: int

    @dataclasses.dataclass
    class Answered:
        id: str
        model: str
        usage: Used

    def ask(which: str) -> Any:
        return Counted() if which == "model" else Answered("r3", "m-3", Used(7, 8))

    client = types.SimpleNamespace(ask=ask)
    made = enable_monitoring("shop", client, "ask")
    client.ask("model")
    client.ask("dataclass")
    assert made.flush()
    data = [event["data"] for event in collector.events() if event["name"].startswith("chat")]
    assert [(one["gen_ai.response.model"], one["gen_ai.usage.input_tokens"]) for one in data] == [
        ("m-2", 5),
        ("m-3", 7),
    ]
