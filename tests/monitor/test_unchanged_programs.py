"""What a program would notice of being watched: objects of another kind, warnings, references that stay."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
import types
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any
from unittest.mock import MagicMock, Mock

import anthropic
import pytest

from contrib_kit import Reported
from monitor_kit import Collector, run_program
from skill_actors.testing import FakeMessagesApi
from skilld_monitor import Span, disable_monitoring, enable_monitoring, log_error, log_info, log_warning, monitor_call
from skilld_monitor.contrib.proxy import monitored
from skilld_monitor.trace import current
from skilld_monitor.waiting import named

ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "secret"}],
}


@pytest.fixture
def reported(collector: Collector) -> Reported:
    return Reported(collector)


class Unended:
    """A stream that ends when it is closed."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()
        self._is_begun = False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if not self._is_begun:
            self._is_begun = True
            return "one"
        await self._closed.wait()
        raise StopAsyncIteration

    async def close(self) -> None:
        self._closed.set()


class Closing:
    """A stream that is closed by what is called while it is read."""

    def __init__(self) -> None:
        self.on_step: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.on_step()
        raise StopIteration

    def close(self) -> None:
        pass


class Streams:
    async def unended(self) -> Unended:
        return Unended()

    def closing(self) -> Closing:
        return Closing()


def test_a_stream_that_another_task_closes_ends_for_its_reader_as_ever(made: Any) -> None:
    async def main() -> list[str]:
        stream = await monitored(Streams()).unended()
        reading = asyncio.ensure_future(read(stream))
        await asyncio.sleep(0.05)
        await stream.close()
        return await reading

    async def read(stream: AsyncIterator[str]) -> list[str]:
        found = [item async for item in stream]
        assert current() is None
        return found

    assert asyncio.run(main()) == ["one"]


def test_a_stream_that_is_closed_within_its_own_step_ends_as_ever(made: Any) -> None:
    stream = monitored(Streams()).closing()
    stream.on_step = stream.close
    assert list(stream) == []
    assert current() is None


class Rpc:
    """A method as those of gRPC are: called, and with more ways to be called."""

    def __call__(self, text: str) -> dict[str, str]:
        return {"content": text}

    def future(self, text: str) -> str:
        return f"later: {text}"


class Stub:
    def __init__(self) -> None:
        self.generate = Rpc()


def test_a_method_that_is_an_object_stays_one(reported: Reported) -> None:
    stub = Stub()
    before = stub.generate
    enable_monitoring("shop", stub, "generate")
    assert isinstance(stub.generate, Rpc)
    assert (stub.generate("x"), stub.generate.future("x")) == ({"content": "x"}, "later: x")
    assert len(reported.spans("LLM")) == 1
    disable_monitoring()
    assert stub.generate is before


@pytest.mark.parametrize("kind", [Mock, MagicMock])
def test_a_mock_of_a_client_is_one_and_its_calls_are_told(reported: Reported, kind: type[Mock]) -> None:
    client = kind()
    enable_monitoring("shop", client)
    client.messages.create.return_value = answer = kind()
    assert client.messages.create(**ASK) is answer
    client.messages.create.assert_called_once_with(**ASK)
    assert len(reported.spans("LLM")) == 1
    disable_monitoring()
    assert client.messages.create(**ASK) is answer


def test_an_answer_with_an_attribute_like_that_of_a_stream_is_an_answer(reported: Reported) -> None:
    class Client:
        def ask(self) -> Any:
            return types.SimpleNamespace(content="x", _iterator=5)

    client = Client()
    enable_monitoring("shop", client, "ask")
    assert client.ask()._iterator == 5
    assert reported.span("LLM")["status"] == "ok"


def test_a_part_of_a_client_that_is_another_each_time_is_a_problem() -> None:
    class Client:
        @property
        def chat(self) -> Streams:
            return Streams()

    made = enable_monitoring("shop", Client(), "chat.closing")
    assert "chat is another object each time" in made.problem


def test_a_client_that_the_program_drops_is_not_kept(made: Any) -> None:
    kept = []
    for _ in range(20):
        stub = Stub()
        enable_monitoring("shop", stub, "generate")
        stub.generate("x")
        kept.append(weakref.ref(stub))
    del stub
    gc.collect()
    assert [ref() for ref in kept] == [None] * 20


async def later() -> str:
    return "done"


def calls(api: FakeMessagesApi) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    client = anthropic.AsyncAnthropic(base_url=api.base_url, api_key="k", max_retries=0)
    return {
        "AsyncMessages.create": lambda: client.messages.create(**ASK),
        "Client.ask": lambda: monitored(Later()).ask(),
        "later": monitor_call(lambda: later()),
    }


class Later:
    def ask(self) -> Coroutine[Any, Any, str]:
        async def asked() -> str:
            return "x"

        asked.__qualname__ = "Client.ask"
        return asked()


@pytest.mark.parametrize("name", ["AsyncMessages.create", "Client.ask", "later"])
def test_a_coroutine_that_never_begins_goes_without_a_word_and_is_told(
    reported: Reported, api: FakeMessagesApi, name: str
) -> None:
    call = calls(api)[name]

    async def main() -> None:
        task = asyncio.ensure_future(call())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
        coroutine: Any = call()
        assert coroutine.__qualname__ == name
        coroutine.close()
        del coroutine
        gc.collect()
    assert [span["status"] for span in reported.spans()] == ["cancelled", "cancelled"]


def test_one_that_is_forgotten_is_warned_of_once_and_by_its_name(reported: Reported, api: FakeMessagesApi) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        forgotten: Any = calls(api)["AsyncMessages.create"]()
        del forgotten
        gc.collect()
    (warning,) = [each for each in said if each.category is RuntimeWarning]
    assert "'AsyncMessages.create' was never awaited" in str(warning.message)


@pytest.mark.parametrize("attributes", [None, "text", 7])
def test_a_span_whose_attributes_are_none_is_told_and_the_error_is_the_programs(
    collector: Collector, attributes: Any
) -> None:
    made = enable_monitoring("shop", capture="result")
    span = Span("odd")
    span.attributes = attributes
    with pytest.raises(KeyError), span:
        raise KeyError("own")
    made.flush(10)
    (event,) = collector.events(name="odd")
    assert event["data"] == {"error.type": "KeyError", "error.message": "'own'"}


def test_a_response_whose_stream_was_read_can_be_pickled(made: Any, client: anthropic.Anthropic) -> None:
    stream = client.messages.create(**ASK, stream=True)
    assert list(stream)
    assert "_skilld_monitor_call" not in vars(stream.response)
    assert pickle.loads(pickle.dumps(stream.response)).status_code == 200


def test_a_stream_that_is_dropped_is_gone_at_once(made: Any, client: anthropic.Anthropic) -> None:
    gc.disable()
    try:
        stream = client.messages.create(**ASK, stream=True)
        response = weakref.ref(stream.response)
        del stream
        assert response() is None
    finally:
        gc.enable()


def test_what_log_event_takes_the_shorter_forms_take(reported: Reported) -> None:
    log_info("a", data={"n": 1}, event_type="other")
    log_warning("b", {"n": 2}, data={"n": 3}, level="debug")
    log_error("c", ValueError("x"), data={"n": 4})
    found = [(event["name"], event["level"], event["data"]) for event in reported.all()]
    failed = {"error.type": "ValueError", "error.message": "x", "n": 4}
    assert found == [("a", "INFO", {"n": 1}), ("b", "WARNING", {"n": 3}), ("c", "ERROR", failed)]


INSIDE = """
import sys
sys.path[:] = {path!r}
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop")
skilld_monitor.log_event("inside")
made.disable(10)
"""


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module of interpreters has another name there")
def test_it_can_be_switched_on_in_an_interpreter_that_is_not_the_first(tmp_path: Any, collector: Collector) -> None:
    program = f"import sys, _xxsubinterpreters as i\nn = i.create()\ni.run_string(n, {INSIDE!r}.format(path=sys.path))"
    done = run_program(program, tmp_path, env={"SKILLD_MONITOR_SOCKET": str(collector.path)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert collector.events(name="inside")


def test_a_close_that_was_taken_off_closes_though_the_stream_is_dropped(made: Any, client: anthropic.Anthropic) -> None:
    stream = client.messages.create(**ASK, stream=True)
    close = stream.response.close
    del stream
    assert not close.__self__.is_closed
    close()
    assert close.__self__.is_closed


def test_the_class_of_a_response_is_put_back(made: Any, client: anthropic.Anthropic) -> None:
    with client.messages.create(**ASK, stream=True) as stream:
        next(iter(stream))
    kind = type(stream.response)
    watched: Any = vars(kind)["close"]
    disable_monitoring()
    assert vars(kind)["close"] is watched.__wrapped__


class Answering:
    """Whatever it is asked for it has."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __await__(self) -> Iterator[None]:
        return iter(())


def test_what_answers_to_every_name_can_be_awaited_all_the_same(made: Any) -> None:
    async def ask() -> None:
        return None

    waiting = named(ask(), Answering())
    assert waiting.__name__ == "ask"
    waiting.close()


def test_a_response_that_is_open_as_monitoring_ends_can_be_pickled_later(
    made: Any, client: anthropic.Anthropic
) -> None:
    with client.messages.create(**ASK, stream=True) as stream:
        disable_monitoring()
        assert list(stream)
    assert pickle.loads(pickle.dumps(stream.response)).status_code == 200


FORKED = """
import os, signal, threading, types
from skilld_monitor import enable_monitoring

class Response:
    def close(self): pass

class Stream:
    def __init__(self): self._iterator, self.response = iter("ab"), Response()
    def __iter__(self): return self
    def __next__(self): return next(self._iterator)

client = types.SimpleNamespace(create=lambda: Stream())
made = enable_monitoring("shop", client, "create")
held = threading.Event()

def hold():
    with made.patches._replacing:
        held.set()
        threading.Event().wait(20)

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(10)
    stream = client.create()
    os._exit(0 if hasattr(Response.close, "__skilld_monitor__") else 1)
print(os.waitpid(child, 0)[1], flush=True)
os._exit(0)
"""


def test_a_fork_while_a_class_is_watched_leaves_no_child_hanging(tmp_path: Any) -> None:
    done = run_program(FORKED, tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")
