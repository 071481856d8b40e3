"""LangChain's runs are spans, one for each call, below what they are part of, and nothing of LangChain is changed."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_anthropic")
from langchain_anthropic import ChatAnthropic
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.tracers import context as tracer_context

from monitor_kit import Collector, events, named, run_program
from skill_actors.testing import FakeMessagesApi, HttpError, serve_in_thread
from skilld_monitor import Monitoring, Span, enable_monitoring, get_callback_handler, log_event
from skilld_monitor.adapters import langchain as adapter

MODEL = "claude-sonnet-5-5"
JSON = dict[str, Any]


@pytest.fixture
def model(api: FakeMessagesApi) -> ChatAnthropic:
    return ChatAnthropic(model=MODEL, base_url=api.base_url, api_key="k", max_retries=0)  # type: ignore[call-arg, arg-type]


def fake(*texts: str) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(text) for text in texts]))


def check_chat(span: JSON) -> None:
    data = span["data"]
    assert (span["name"], span["status"], span["channel"]) == (f"chat {MODEL}", "ok", "LLM")
    assert data["gen_ai.operation.name"] == "chat"
    assert data["gen_ai.provider.name"] == "anthropic"
    assert data["gen_ai.usage.input_tokens"] == 1110
    assert data["gen_ai.usage.cache_read.input_tokens"] == 1000
    assert data["gen_ai.usage.output_tokens"] == 5
    assert data["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert "secret" not in str(span)
    assert "an answer" not in str(span)


def check_parents(found: list[JSON], below: str, above: str) -> None:
    parent = named(found, above)["span"]
    assert {event["parent"] for event in found if event["name"] == below} == {parent}
    assert len({event["trace"] for event in found}) == 1


def test_a_call_is_one_span_with_what_framework_and_sdk_know(
    made: Monitoring, collector: Collector, model: ChatAnthropic
) -> None:
    with Span("request"):
        assert model.invoke("the secret question").content == "an answer"
    found = events(made, collector)
    assert len(found) == 2
    check_chat(named(found, f"chat {MODEL}"))
    check_parents(found, f"chat {MODEL}", "request")


def test_a_chain_is_above_its_parts(made: Monitoring, collector: Collector, model: ChatAnthropic) -> None:
    chain = ChatPromptTemplate.from_template("secret {x}") | model
    with Span("request"):
        chain.invoke({"x": 1}, config={"run_name": "ask", "tags": ["beta"], "metadata": {"session_id": "s-1"}})
    found = events(made, collector)
    check_chat(named(found, f"chat {MODEL}"))
    check_parents(found, "chain ask", "request")
    check_parents(found, f"chat {MODEL}", "chain ask")
    assert {(event["session"], *event["tags"]) for event in found if event["name"] != "request"} == {("s-1", "beta")}


def test_streams_are_one_span_each_and_what_is_done_between_is_not_below_them(
    made: Monitoring, collector: Collector, model: ChatAnthropic
) -> None:
    with Span("request"):
        first, second = model.stream("secret"), model.stream("secret")
        for _pieces in zip(first, second, strict=False):
            log_event("between", {})
        assert list(second) is not None
    found = events(made, collector)
    chats = [event for event in found if event["name"].startswith("chat")]
    assert len(chats) == 2
    request = named(found, "request")
    assert {event["parent"] for event in chats} == {request["span"]}
    assert {event["span"] for event in found if event["name"] == "between"} == {request["span"]}
    for chat in chats:
        assert chat["data"]["gen_ai.response.time_to_first_chunk"] > 0


def test_asynchronous_calls_streams_and_batches_have_one_span_each(
    made: Monitoring, collector: Collector, model: ChatAnthropic
) -> None:
    async def one(n: int) -> None:
        with Span(f"task {n}"):
            await model.ainvoke("secret")

    async def main() -> None:
        await asyncio.gather(*(one(n) for n in range(5)))
        with Span("batch"):
            await model.abatch(["secret"] * 3)
        with Span("stream"):
            async for _piece in model.astream("secret"):
                pass

    asyncio.run(main())
    found = events(made, collector)
    chats = [event for event in found if event["name"].startswith("chat")]
    assert len(chats) == 9
    names = {event["span"]: event["name"] for event in found}
    parents = [names[chat["parent"]] for chat in chats]
    assert sorted(parents) == sorted([*(f"task {n}" for n in range(5)), "batch", "batch", "batch", "stream"])
    for chat in chats:
        check_chat(chat)


def test_several_questions_in_one_call_and_threads_have_a_span_each(
    made: Monitoring, collector: Collector, model: ChatAnthropic
) -> None:
    with Span("generate"):
        model.generate([[HumanMessage("secret")], [HumanMessage("secret")]])
    with Span("batch"):
        model.batch(["secret"] * 3)

    def work(n: int) -> None:
        with Span(f"thread {n}"):
            model.invoke("secret")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = events(made, collector)
    names = {event["span"]: event["name"] for event in found}
    chats = [event for event in found if event["name"].startswith("chat")]
    assert sorted(names[chat["parent"]] for chat in chats) == sorted(
        ["generate"] * 2 + ["batch"] * 3 + [f"thread {n}" for n in range(4)]
    )
    for chat in chats:
        check_chat(chat)


def test_spans_and_calls_of_the_program_inside_a_run_are_below_it(
    made: Monitoring, collector: Collector, model: ChatAnthropic
) -> None:
    def step(text: str) -> str:
        with Span("own"):
            inner: Any = RunnableLambda(lambda found: found).with_config(run_name="inner")
            inner.invoke(text)
        log_event("said", {})
        return text

    chain = RunnableParallel(left=RunnableLambda(step, name="left"), right=RunnableLambda(lambda x: x, name="right"))
    chain.invoke("secret", config={"run_name": "both"})
    found = events(made, collector)
    check_parents(found, "chain left", "chain both")
    check_parents(found, "chain right", "chain both")
    check_parents(found, "own", "chain left")
    check_parents(found, "chain inner", "own")
    assert named(found, "said")["span"] == named(found, "chain left")["span"]


def test_a_tool_is_one_span_and_its_arguments_only_when_asked_for(made: Monitoring, collector: Collector) -> None:
    @tool
    def look_up(key: str) -> str:
        """Looks it up."""
        log_event("inside", {})
        return f"found {key}"

    assert look_up.invoke({"key": "secret"}) == "found secret"
    call: Any = {"name": "look_up", "args": {"key": "secret"}, "id": "call-7", "type": "tool_call"}
    assert asyncio.run(look_up.ainvoke(call)).content == "found secret"
    found = events(made, collector)
    spans = [event for event in found if event["name"] == "execute_tool look_up"]
    assert [span["data"].get("gen_ai.tool.call.id") for span in spans] == [None, "call-7"]
    assert all(span["data"]["gen_ai.operation.name"] == "execute_tool" for span in spans)
    assert "secret" not in str(found)
    assert [event["span"] for event in found if event["name"] == "inside"] == [span["span"] for span in spans]
    made = enable_monitoring("shop", capture="arguments,result")
    look_up.invoke(call)
    (span,) = [event for event in events(made, collector) if event["data"].get("gen_ai.tool.call.arguments")]
    assert span["data"]["gen_ai.tool.call.arguments"] == {"key": "secret"}
    assert span["data"]["gen_ai.tool.call.result"]["content"] == "found secret"


class Shelf(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if query == "secret none":
            raise LookupError(query)
        return [Document(f"about {query}")]


def test_retrievers_and_errors_are_spans_without_their_content(made: Monitoring, collector: Collector) -> None:
    Shelf().invoke("secret")
    with pytest.raises(LookupError):
        Shelf().invoke("secret none")
    good, bad = events(made, collector)
    assert (good["name"], good["status"], good["data"]["langchain.documents"]) == ("retrieval Shelf", "ok", 1)
    assert (bad["status"], bad["level"], bad["data"]["error.type"]) == ("error", "ERROR", "LookupError")
    assert "secret" not in str([good, bad])


def test_a_failed_call_raises_as_before_and_is_one_failed_span(made: Monitoring, collector: Collector) -> None:
    with serve_in_thread(FakeMessagesApi([HttpError(429)])) as api:
        model = ChatAnthropic(model=MODEL, base_url=api.base_url, api_key="k", max_retries=0)  # type: ignore[call-arg, arg-type]
        with pytest.raises(Exception, match="429"):
            model.invoke("secret")
    (span,) = events(made, collector)
    assert (span["name"], span["status"], span["data"]["error.type"]) == (
        f"chat {MODEL}",
        "error",
        "AnthropicRateLimitError",
    )


def test_a_model_without_a_known_sdk_is_one_span_by_what_the_framework_says(collector: Collector) -> None:
    made = enable_monitoring("shop", capture="input,output")
    model = GenericFakeChatModel(
        messages=iter(
            [
                AIMessage(
                    "hello",
                    usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9},
                    response_metadata={"model_name": "m-1", "finish_reason": "stop"},
                )
            ]
        )
    )
    model.invoke([("system", "be kind"), ("user", "hi")])
    (span,) = events(made, collector)
    data = span["data"]
    assert (span["name"], data["gen_ai.usage.input_tokens"], data["gen_ai.usage.output_tokens"]) == ("chat m-1", 7, 2)
    assert data["gen_ai.response.finish_reasons"] == ["stop"]
    assert data["gen_ai.input.messages"] == [{"role": "user", "content": "hi"}]
    assert data["gen_ai.output.messages"][0]["content"] == "hello"
    assert "be kind" not in str(span), "the system's words were not asked for"


def test_a_stream_that_is_left_early_ends_its_span(made: Monitoring, collector: Collector) -> None:
    stream = fake("one two three four").stream("hi")
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    (span,) = events(made, collector)
    assert span["status"] == "cancelled"


def test_a_cancelled_run_is_cancelled(made: Monitoring, collector: Collector) -> None:
    began = asyncio.Event()

    async def hang(_x: str) -> str:
        began.set()
        await asyncio.Event().wait()
        return ""

    async def main() -> None:
        task = asyncio.create_task(RunnableLambda(hang, name="hang").ainvoke("x"))
        await began.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert named(events(made, collector), "chain hang")["status"] == "cancelled"


def test_a_handler_that_the_program_passes_itself_reports_nothing_twice(made: Monitoring, collector: Collector) -> None:
    handler = get_callback_handler()
    assert type(handler) is adapter.ToolMonitorCallbackHandler
    fake("hello").invoke("hi", config={"callbacks": [handler]})
    assert len(events(made, collector)) == 1


def test_a_configuration_that_is_copied_has_the_handler_once(made: Monitoring, collector: Collector) -> None:
    config = copy.deepcopy({"callbacks": [get_callback_handler()]})
    fake("hello").invoke("hi", config=config)  # type: ignore[arg-type]
    assert len(events(made, collector)) == 1


def test_events_that_the_framework_streams_change_nothing(made: Monitoring, collector: Collector) -> None:
    chain: Any = (RunnableLambda(lambda found: found, name="first") | fake("one two")).with_config(run_name="both")

    async def main() -> int:
        return len([event async for event in chain.astream_events("hi", version="v2")])

    assert asyncio.run(main()) > 4
    found = events(made, collector)
    assert sorted(event["name"] for event in found) == ["chain both", "chain first", "chat"]
    check_parents(found, "chat", "chain both")


def test_content_of_any_kind_breaks_nothing(made: Monitoring, collector: Collector) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    made = enable_monitoring("shop", capture="all")
    odd: Any = RunnableLambda(lambda found: found, name="odd")
    odd.invoke({"odd": Odd(), "list": [Odd()]})
    fake("hello").invoke([HumanMessage([{"type": "text", "text": "hi"}, {"type": "image", "data": "x" * 99_999}])])
    assert [event["name"] for event in events(made, collector)] == ["chain odd", "chat"]
    assert made.problem == ""


def test_a_configuration_that_is_handed_to_another_thread_keeps_what_it_is_below(
    made: Monitoring, collector: Collector
) -> None:
    inner: Any = RunnableLambda(lambda found: found, name="inner")

    def step(text: str, config: Any) -> str:
        def work() -> None:
            with Span("of the thread"):
                inner.invoke(text, config)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return text

    outer: Any = RunnableLambda(step, name="outer")
    outer.invoke("x")
    found = events(made, collector)
    assert named(found, "chain inner")["parent"] == named(found, "chain outer")["span"]


def test_retries_and_fall_backs_are_spans_of_their_own(
    made: Monitoring, collector: Collector, model: ChatAnthropic
) -> None:
    with serve_in_thread(FakeMessagesApi(respond=lambda _request: HttpError(500))) as broken:
        bad = ChatAnthropic(model="broken", base_url=broken.base_url, api_key="k", max_retries=0)  # type: ignore[call-arg, arg-type]
        chain = bad.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).with_fallbacks([model])
        assert chain.invoke("secret").content == "an answer"
    found = events(made, collector)
    statuses = [(event["name"], event["status"]) for event in found if event["name"].startswith("chat")]
    assert statuses == [("chat broken", "error"), ("chat broken", "error"), (f"chat {MODEL}", "ok")]


def test_an_answer_out_of_the_programs_cache_used_no_tokens(
    made: Monitoring, collector: Collector, api: FakeMessagesApi
) -> None:
    caches = pytest.importorskip("langchain_core.caches")
    options: Any = {"model": MODEL, "base_url": api.base_url, "api_key": "k", "cache": caches.InMemoryCache()}
    model = ChatAnthropic(**options)
    for _ in range(2):
        assert model.invoke("secret").content == "an answer"
    asked, cached = events(made, collector)
    check_chat(asked)
    assert (cached["status"], cached["data"]["langchain.cached"]) == ("ok", True)
    assert "gen_ai.usage.input_tokens" not in cached["data"]


def test_what_the_program_asks_between_the_pieces_of_a_stream_is_a_call_of_its_own(
    made: Monitoring, collector: Collector, api: FakeMessagesApi
) -> None:
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(base_url=api.base_url, api_key="k") as client:
        pieces = 0
        for _piece in fake("one two").stream("hi"):
            pieces += 1
            client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "secret"}])
    found = events(made, collector)
    calls = [event for event in found if event["name"] == f"chat {MODEL}"]
    assert len(calls) == pieces > 1
    for call in calls:
        check_chat(call)
    assert "gen_ai.usage.input_tokens" not in named(found, "chat")["data"]


def test_a_call_of_the_sdk_inside_a_tool_is_a_span_of_its_own_below_it(
    made: Monitoring, collector: Collector, api: FakeMessagesApi
) -> None:
    anthropic = pytest.importorskip("anthropic")

    @tool
    def ask(question: str) -> str:
        """Asks."""
        with anthropic.Anthropic(base_url=api.base_url, api_key="k") as client:
            message = client.messages.create(
                model=MODEL, max_tokens=9, messages=[{"role": "user", "content": question}]
            )
        return str(message.content[0].text)

    assert ask.invoke({"question": "secret"}) == "an answer"
    found = events(made, collector)
    check_chat(named(found, f"chat {MODEL}"))
    check_parents(found, f"chat {MODEL}", "execute_tool ask")


def test_a_hundred_chains_at_once_are_a_hundred_traces(made: Monitoring, collector: Collector) -> None:
    async def inner(text: str) -> str:
        await asyncio.sleep(0)
        log_event(f"said {text}", {})
        return text

    chain: Any = RunnableLambda(inner, name="inner").with_config(run_name="step") | RunnableLambda(lambda x: x)

    async def one(n: int) -> None:
        with Span(f"request {n}"):
            await chain.ainvoke(str(n), config={"run_name": f"chain {n}"})

    async def main() -> None:
        await asyncio.gather(*(one(n) for n in range(100)))

    asyncio.run(main())
    found = events(made, collector)
    by_span = {event["span"]: event for event in found if event["duration_ms"] is not None}
    for n in range(100):
        step = by_span[named(found, f"said {n}")["span"]]
        above = by_span[step["parent"]]
        assert (step["name"], above["name"]) == ("chain step", f"chain chain {n}")
        assert by_span[above["parent"]]["name"] == f"request {n}"


def test_helpers_of_the_framework_take_all_their_arguments(made: Monitoring) -> None:
    from langchain_core.utils.function_calling import convert_to_openai_function

    @tool
    def look_up(key: str) -> str:
        """Looks it up."""
        return key

    assert convert_to_openai_function(look_up, strict=True)["strict"] is True


@pytest.mark.alone
def test_a_run_of_the_framework_costs_little_more(made: Monitoring) -> None:
    @tool
    def nothing(key: str) -> str:
        """Nothing."""
        return key

    def best_us() -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(50):
                nothing.invoke({"key": "x"})
            taken.append((time.perf_counter() - began) / 50 * 1e6)
        return min(taken)

    watched = best_us()
    made.disable()
    bare = best_us()
    print(f"{bare:.0f} us for a tool of LangChain, {watched:.0f} with monitoring")
    assert watched - bare < 1000, "ten times what it may cost"


def test_monitoring_that_is_switched_off_in_the_middle_of_a_run_leaves_nothing_behind(
    made: Monitoring, collector: Collector
) -> None:
    def step(text: str) -> str:
        made.disable()
        return text

    chain: Any = RunnableLambda(step)
    assert chain.invoke("x") == "x"
    enable_monitoring("shop")
    assert len(adapter._runs) == 0


PROGRAM = """
import sys
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop")
assert not [name for name in sys.modules if name.startswith(("langchain", "langgraph", "mcp", "pydantic", "anthropic"))]
from langchain_core.runnables import RunnableLambda
assert RunnableLambda(lambda found: found, name="late").invoke(1) == 1
assert made.problem == "", made.problem
"""


def test_a_framework_that_is_loaded_later_is_watched_and_nothing_is_loaded_for_it(
    collector: Collector, tmp_path: Path
) -> None:
    done = run_program(PROGRAM, tmp_path / "m")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [event["status"] for event in collector.wait(1, name="chain late")] == ["ok"]


def test_everything_is_put_back_exactly_as_it_was(collector: Collector) -> None:
    before = list(tracer_context._configure_hooks)
    for _ in range(2):
        made = enable_monitoring("shop")
        assert len(tracer_context._configure_hooks) == len(before) + 1
        made.disable()
        assert tracer_context._configure_hooks == before
    fake("hello").invoke("hi")
    assert collector.events(channel="LLM") == []


@pytest.mark.parametrize("around", ["nothing", "span", "opentelemetry", "chain"])
def test_on_top_of_an_sdk_that_traces_itself_a_call_is_one_span(
    made: Monitoring, collector: Collector, api: FakeMessagesApi, model: ChatAnthropic, around: str
) -> None:
    anthropic = pytest.importorskip("anthropic")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    provider = sdk.TracerProvider()
    native: list[Any] = []
    processor = sdk.SpanProcessor()
    processor.on_end = native.append
    provider.add_span_processor(processor)
    options: Any = {"base_url": api.base_url, "api_key": "k", "open_telemetry": {"tracer_provider": provider}}
    model.max_tokens = 64
    vars(model)["_client"] = anthropic.Anthropic(**options)
    vars(model)["_async_client"] = anthropic.AsyncAnthropic(**options)
    asked: Any = model

    async def later() -> None:
        async with vars(model)["_async_client"]:
            await asked.ainvoke("secret")

    with contextlib.ExitStack() as stack:
        stack.callback(vars(model)["_client"].close)
        if around == "span":
            stack.enter_context(Span("above"))
        elif around == "opentelemetry":
            stack.enter_context(provider.get_tracer("app").start_as_current_span("above"))
        elif around == "chain":
            asked = (RunnableLambda(lambda text: text) | model).with_config(run_name="above")
        asked.invoke("secret")
        asyncio.run(later())
        assert len(list(asked.stream("secret"))) > 1
    found = events(made, collector)
    chats = [event for event in found if event["channel"] == "LLM"]
    calls = {f"{span.context.span_id:016x}": span for span in native if span.name != "above"}
    assert (len(chats), len(calls)) == (3, 3)
    for chat in chats:
        check_chat(chat)
        assert calls.pop(chat["data"]["otel.span_id"]).attributes["gen_ai.usage.input_tokens"] == 1110
    above = {event["span"] for event in found if event["name"] in ("above", "chain above")}
    above |= {f"{span.context.span_id:016x}" for span in native if span.name == "above"}
    assert {chat["parent"] for chat in chats} == (above or {None})
    assert len(above) == {"nothing": 0, "chain": 3}.get(around, 1)


def test_what_cannot_be_asked_for_anything_reaches_no_program(made: Monitoring, collector: Collector) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    handler, odd = get_callback_handler(), Odd()
    handler.on_tool_start(odd, "x", run_id=1)
    handler.on_tool_start(None, "x", run_id=2, name="named", tool_call_id=odd, inputs=odd)
    handler.on_tool_end(odd, run_id=2)
    handler.on_chat_model_start(odd, [[odd]], run_id=3, metadata=odd)
    handler.on_retriever_start(odd, odd, run_id=4)
    handler.on_chain_start(odd, odd, run_id=5, tags=odd)
    (span,) = events(made, collector)
    assert (span["name"], span["data"]["skilld.unread"]) == ("execute_tool named", "RuntimeError")
    assert "could not be reported" in made.problem
