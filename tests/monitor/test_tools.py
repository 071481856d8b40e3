"""Decorated tools and agents are one span each, of whatever kind the function is, and work as they did."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitor_kit import Collector, events, messages_api, named, policy_file
from skilld_monitor import (
    Monitoring,
    Span,
    agent_span,
    enable_monitoring,
    log_event,
    monitor_tool,
    tool,
    tool_span,
)
from skilld_monitor.context import session
from skilld_monitor.monitoring import active
from skilld_monitor.policy import BlockedError

JSON = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs/monitoring.md"
RULE: JSON = {
    "id": "no-codeword",
    "category": "sensitive_data",
    "severity": "high",
    "confidence": 1.0,
    "kind": "words",
    "match": ["xyzzy"],
    "mask": "full",
}


@monitor_tool
def search(query: str, tool_call_id: str | None = None) -> list[str]:
    """Finds it."""
    log_event("inside", {})
    return [f"found {query}"]


@tool("fetch")
async def fetch_page(url: str) -> str:
    await asyncio.sleep(0)
    return f"page {url}"


@monitor_tool(name="pages")
def pages(count: int) -> Iterator[int]:
    yield from range(count)


@tool
async def async_pages(count: int) -> AsyncIterator[int]:
    for n in range(count):
        yield n


def test_each_kind_of_function_is_one_span_and_does_what_it_did(made: Monitoring, collector: Collector) -> None:
    async def main() -> None:
        assert await fetch_page("secret") == "page secret"
        assert [n async for n in async_pages(2)] == [0, 1]

    with Span("request"):
        assert search("secret", tool_call_id="call-1") == ["found secret"]
        assert list(pages(3)) == [0, 1, 2]
    asyncio.run(main())
    found = events(made, collector)
    for name in ("search", "fetch", "pages", "async_pages"):
        span = named(found, f"execute_tool {name}")
        assert (span["status"], span["channel"]) == ("ok", "TOOL")
        assert span["data"]["gen_ai.operation.name"] == "execute_tool"
        assert span["data"]["gen_ai.tool.name"] == name
        assert span["data"]["gen_ai.tool.type"] == "function"
    call = named(found, "execute_tool search")
    assert call["data"]["gen_ai.tool.call.id"] == "call-1"
    assert call["parent"] == named(found, "request")["span"]
    assert named(found, "inside")["span"] == call["span"]
    assert "secret" not in str(found)
    assert inspect.iscoroutinefunction(fetch_page)
    assert inspect.isgeneratorfunction(pages)
    assert inspect.isasyncgenfunction(async_pages)
    assert list(inspect.signature(search).parameters) == ["query", "tool_call_id"]
    assert search.__doc__ == "Finds it."


def test_arguments_and_results_are_reported_when_asked_for(collector: Collector) -> None:
    made = enable_monitoring("shop", capture="arguments,result")
    search("a", tool_call_id="call-1")
    with tool_span("lookup", call_id="call-2", arguments={"key": "b"}) as span:
        span.result = f"found {span.arguments['key']}"
    found = events(made, collector)
    first, second = named(found, "execute_tool search")["data"], named(found, "execute_tool lookup")["data"]
    assert first["gen_ai.tool.call.arguments"] == {"args": ["a"], "tool_call_id": "call-1"}
    assert first["gen_ai.tool.call.result"] == ["found a"]
    assert second["gen_ai.tool.call.arguments"] == {"key": "b"}
    assert (second["gen_ai.tool.call.id"], second["gen_ai.tool.call.result"]) == ("call-2", "found b")


def test_a_tool_that_fails_raises_as_before_and_is_an_error(made: Monitoring, collector: Collector) -> None:
    @monitor_tool
    def fails() -> None:
        raise LookupError("secret")

    with pytest.raises(LookupError, match="secret"):
        fails()
    with pytest.raises(LookupError), tool_span("also"):
        raise LookupError("secret")
    found = events(made, collector)
    for name in ("fails", "also"):
        span = named(found, f"execute_tool {name}")
        assert (span["status"], span["level"], span["data"]["error.type"]) == ("error", "ERROR", "LookupError")
    assert "secret" not in str(found)


def test_an_agent_and_its_sub_agents_are_above_what_they_do_and_own_it(made: Monitoring, collector: Collector) -> None:
    async def main() -> None:
        with session("s-1"):
            async with agent_span("planner", id="a-1", version="2"):
                search("x")
                with agent_span("researcher"):
                    await fetch_page("y")
                log_event("after", {})

    asyncio.run(main())
    found = events(made, collector)
    planner, researcher = named(found, "invoke_agent planner"), named(found, "invoke_agent researcher")
    assert planner["data"] == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.agent.id": "a-1",
        "gen_ai.agent.version": "2",
        "gen_ai.conversation.id": "s-1",
    }
    assert researcher["parent"] == planner["span"]
    assert named(found, "execute_tool search")["parent"] == planner["span"]
    assert named(found, "execute_tool fetch")["parent"] == researcher["span"]
    order = [event["name"] for event in found]
    called = [order.index(name) for name in ("execute_tool fetch", "invoke_agent researcher", "invoke_agent planner")]
    assert called == sorted(called), "the daemon counts what an agent called by what came before its own span"
    owners = {event["name"]: event["agent"] for event in found}
    assert owners["invoke_agent planner"] == owners["execute_tool search"] == owners["after"] == "planner"
    assert owners["invoke_agent researcher"] == owners["execute_tool fetch"] == "researcher"


def test_a_tool_of_a_framework_that_is_decorated_too_is_one_span(made: Monitoring, collector: Collector) -> None:
    langchain_tool = pytest.importorskip("langchain_core.tools").tool
    search_tool = langchain_tool(search)
    assert search_tool.invoke({"query": "secret"}) == ["found secret"]
    found = events(made, collector)
    span = named(found, "execute_tool search")
    assert named(found, "inside")["span"] == span["span"]


def test_a_tool_that_asks_an_mcp_server_is_one_span_with_the_facts_of_both(
    made: Monitoring, collector: Collector
) -> None:
    mcp = pytest.importorskip("mcp")
    import monitor_mcp_server

    said: list[str] = []

    async def main() -> None:
        async with mcp.Client(monitor_mcp_server.server) as client:
            with tool_span("trace", call_id="call-1"):
                said.append((await client.call_tool("trace", {})).content[0].text)
                await asyncio.sleep(0.05)
                await client.call_tool("add", {"a": 1, "b": 2})
                with Span("deeper"):
                    await client.call_tool("add", {"a": 1, "b": 2})

    asyncio.run(main())
    found = events(made, collector)
    span = named(found, "execute_tool trace")
    assert (span["data"]["mcp.method.name"], span["data"]["gen_ai.tool.call.id"]) == ("tools/call", "call-1")
    assert said == [f"00-{span['trace']}-{span['span']}-01"]
    assert 0 < span["data"]["skilld.mcp_request_s"] * 1000 < span["duration_ms"] - 50, "the request's part of the tool"
    others = [event for event in found if event["name"].startswith("tools/call")]
    assert [event["name"] for event in others] == ["tools/call add"] * 2
    assert [event["parent"] for event in others] == [span["span"], named(found, "deeper")["span"]]
    assert all("skilld.mcp_request_s" not in event["data"] for event in others)


def test_while_monitoring_is_off_a_tool_is_the_function(collector: Collector) -> None:
    assert search("x") == ["found x"]
    with agent_span("planner"), tool_span("lookup"):
        pass
    assert list(pages(2)) == [0, 1]
    assert collector.events() == []


def policy(tmp_path: Path, mode: str) -> str:
    return policy_file(tmp_path, mode, **RULE)


def test_a_call_that_a_policy_forbids_is_not_made(collector: Collector, tmp_path: Path) -> None:
    made = enable_monitoring("shop", policy_file=policy(tmp_path, "block"))
    with pytest.raises(BlockedError):
        search("say xyzzy")
    with pytest.raises(BlockedError), tool_span("lookup", arguments={"key": "xyzzy"}):
        raise AssertionError("it went on")
    with pytest.raises(BlockedError):
        asyncio.run(fetch_page("xyzzy"))
    assert search("say nothing") == ["found say nothing"]
    found = events(made, collector)
    assert [event["status"] for event in found if event["name"] == "execute_tool search"] == ["error", "ok"]
    for name in ("execute_tool lookup", "execute_tool fetch"):
        assert named(found, name)["data"]["error.type"] == "BlockedError"
    assert len([event for event in found if event["name"] == "tool_call_blocked"]) == 3
    assert "xyzzy" not in str(found)


def test_a_call_that_a_policy_redacts_goes_on_without_it(collector: Collector, tmp_path: Path) -> None:
    enable_monitoring("shop", policy_file=policy(tmp_path, "redact"))
    assert "xyzzy" not in search("say xyzzy")[0]
    assert "xyzzy" not in asyncio.run(fetch_page(url="xyzzy"))
    with tool_span("lookup", arguments={"key": "xyzzy", "n": 3}) as span:
        assert "xyzzy" not in str(span.arguments)
        assert span.arguments["n"] == 3


class Shop:
    """Has a tool for a method, and what a rule fits for a field."""

    def __init__(self) -> None:
        self.key = "xyzzy"
        self.calls = 0
        self.rows = iter([1, 2])

    @monitor_tool
    def look(self, query: str) -> tuple[str, str]:
        self.calls += 1
        return self.key, query


@dataclass
class Till:
    """As `Shop`, of values under names."""

    key: str = "xyzzy"
    calls: int = 0

    @monitor_tool
    def look(self, query: str) -> tuple[str, str]:
        self.calls += 1
        return self.key, query


@pytest.mark.parametrize("kind", [Shop, Till])
def test_the_object_whose_method_a_tool_is_is_no_argument(
    collector: Collector, tmp_path: Path, kind: type[Shop] | type[Till]
) -> None:
    made = enable_monitoring("shop", policy_file=policy(tmp_path, "redact"), policy_fail="closed")
    made.policy.heard(None)
    shop = kind()
    assert shop.look("harmless") == ("xyzzy", "harmless")
    key, query = shop.look("say xyzzy")
    assert (key, shop.calls) == ("xyzzy", 2)
    assert "xyzzy" not in query
    assert "xyzzy" not in shop.look(query="say xyzzy")[1]
    if isinstance(shop, Shop):
        assert list(shop.rows) == [1, 2]
    assert made.policy.counts["unjudged"] == 0


def test_the_names_of_a_functions_arguments_are_its_own(collector: Collector, tmp_path: Path) -> None:
    enable_monitoring("shop", policy_file=policy_file(tmp_path, "redact", **{**RULE, "match": ["query"]}))
    assert search("the query") == search(query="the query") == ["found the [masked]"]


def test_a_tool_gets_the_very_iterator_that_it_is_called_with(collector: Collector, tmp_path: Path) -> None:
    @monitor_tool
    def first(rows: Iterator[int], *more: object, **named: object) -> int:
        return next(rows)

    made = enable_monitoring("shop", policy_file=policy(tmp_path, "block"))
    rows = itertools.count()
    assert (first(rows), first(rows), next(rows)) == (0, 1, 2)
    assert made.policy.counts["unjudged"] == 2
    enable_monitoring("shop", policy_file=policy(tmp_path, "block"), policy_fail="closed").policy.heard(None)
    with pytest.raises(BlockedError, match="argument 'rows' cannot be judged"):
        first(rows)
    with pytest.raises(BlockedError, match="argument '1' cannot be judged"):
        first(3, rows)  # type: ignore[arg-type]
    with pytest.raises(BlockedError, match="argument 'others' cannot be judged"):
        first(3, others=[rows])  # type: ignore[arg-type]
    assert next(rows) == 3


@pytest.mark.parametrize("mode", ["redact", "block"])
def test_what_a_policy_takes_out_of_arguments_is_not_noted_of_them_either(
    collector: Collector, tmp_path: Path, mode: str
) -> None:
    mcp = pytest.importorskip("mcp")
    import monitor_mcp_server

    made = enable_monitoring("shop", capture="arguments", policy_file=policy(tmp_path, mode))
    kept = pytest.raises(BlockedError) if mode == "block" else nullcontext()

    @monitor_tool
    async def tell(word: str) -> None:
        """Does nothing."""

    async def main() -> None:
        async with mcp.Client(monitor_mcp_server.server) as client:
            with kept:
                await client.call_tool("add", {"a": 1, "b": 2, "word": "xyzzy"})

    with kept:
        search("say xyzzy")
    with kept:
        asyncio.run(tell("xyzzy"))
    with kept:
        list(pages(1 if mode == "redact" else "xyzzy"))  # type: ignore[arg-type]
    with kept, tool_span("lookup", arguments={"key": "xyzzy"}):
        pass
    asyncio.run(main())
    found = events(made, collector)
    assert "xyzzy" not in str(found)
    noted = [event["name"] for event in found if "gen_ai.tool.call.arguments" in event["data"]]
    tools = ["execute_tool lookup", "execute_tool pages", "execute_tool search", "execute_tool tell", "tools/call add"]
    assert sorted(noted) == (tools if mode == "redact" else [])


def test_policies_hold_for_calls_of_mcp_servers_and_of_frameworks(collector: Collector, tmp_path: Path) -> None:
    mcp = pytest.importorskip("mcp")
    langchain_tool: Any = pytest.importorskip("langchain_core.tools").tool
    import monitor_mcp_server

    made = enable_monitoring("shop", policy_file=policy(tmp_path, "block"))

    async def main(arguments: JSON) -> Any:
        async with mcp.Client(monitor_mcp_server.server) as client:
            return await client.call_tool("fail", arguments)

    with pytest.raises((BlockedError, BaseExceptionGroup)) as blocked:
        asyncio.run(main({"secret": "xyzzy"}))
    assert blocked.group_contains(BlockedError) if isinstance(blocked.value, BaseExceptionGroup) else True

    def look_up(key: str) -> str:
        """Looks it up."""
        raise AssertionError("it was called")

    with pytest.raises(BlockedError):
        langchain_tool(look_up).invoke({"key": "xyzzy"})
    found = events(made, collector)
    for name in ("tools/call fail", "execute_tool look_up"):
        assert (named(found, name)["status"], named(found, name)["data"]["error.type"]) == ("error", "BlockedError")
    assert "xyzzy" not in str(found)

    enable_monitoring("shop", policy_file=policy(tmp_path, "redact"))
    result = asyncio.run(main({"secret": "xyzzy"}))
    assert result.is_error
    assert "xyzzy" not in str(result), "the server did not get it"


def test_the_pages_example_reports_what_the_page_says(collector: Collector) -> None:
    if not PAGE.exists():
        pytest.skip("the manual is in the repository; this is a copy")
    section = PAGE.read_text().partition("### Tools, agents and frameworks")[2].partition("## Settings")[0]
    exec(section.partition("```python\n")[2].partition("```")[0], {})
    made = active()
    assert made is not None
    found = events(made, collector)
    agent = named(found, "invoke_agent researcher")
    for name in ("execute_tool search", "execute_tool look_up"):
        assert (named(found, name)["parent"], named(found, name)["agent"]) == (agent["span"], "researcher")
    assert named(found, "execute_tool look_up")["data"]["gen_ai.tool.call.id"] == "toolu_1"


def test_a_policy_holds_for_a_model_of_langchain_whose_sdk_is_not_watched(collector: Collector, tmp_path: Path) -> None:
    models = pytest.importorskip("langchain_core.language_models")
    made = enable_monitoring("shop", policy_file=policy(tmp_path, "block"))
    model = models.GenericFakeChatModel(messages=iter(["hello"]))
    with pytest.raises(BlockedError):
        model.invoke([("system", "be kind"), ("user", "say xyzzy")])
    assert model.invoke("say nothing").content == "hello"
    found = events(made, collector)
    assert [event["status"] for event in found if event["name"] == "chat"] == ["error", "ok"]
    assert len([event for event in found if event["name"] == "LLM_call_blocked"]) == 1


@pytest.mark.parametrize("name", ["ChatAnthropic", "ChatOpenAI", "OpenAIChat"])
def test_a_model_of_langchain_that_only_has_the_name_of_a_watched_ones_class_is_judged(
    collector: Collector, tmp_path: Path, name: str
) -> None:
    models = pytest.importorskip("langchain_core.language_models")
    made = enable_monitoring("shop", capture="all", policy_file=policy(tmp_path, "block"))
    model = type(name, (models.GenericFakeChatModel,), {"__module__": __name__})(messages=iter(["hello"]))
    with pytest.raises(BlockedError):
        model.invoke("say xyzzy")
    found = events(made, collector)
    assert len([event for event in found if event["name"] == "LLM_call_blocked"]) == 1
    assert "xyzzy" not in str(found)


def test_a_model_of_langchain_whose_sdk_is_watched_is_judged_there_and_goes_out_redacted(
    collector: Collector, tmp_path: Path
) -> None:
    chat_anthropic = pytest.importorskip("langchain_anthropic").ChatAnthropic
    with messages_api() as api:
        model = chat_anthropic(model="m", base_url=api.base_url, api_key="k", max_retries=0)
        made = enable_monitoring("shop", capture="all", policy_file=policy(tmp_path, "redact"), policy_fail="closed")
        made.policy.heard(None)
        assert model.invoke("say xyzzy").content == "an answer"
        assert "xyzzy" not in str(api.bodies)
        assert len(api.bodies) == 1
        made.policy.heard(json.loads(Path(policy(tmp_path, "block")).read_text()))
        with pytest.raises(BlockedError):
            model.invoke("say xyzzy")
        assert len(api.bodies) == 1
        assert "xyzzy" not in str(events(made, collector))


def test_a_tool_of_langchain_that_would_be_redacted_is_made_or_not_as_the_policy_fails(
    collector: Collector, tmp_path: Path
) -> None:
    langchain_tool: Any = pytest.importorskip("langchain_core.tools").tool

    def look_up(key: str) -> str:
        """Looks it up."""
        return key

    made = enable_monitoring("shop", policy_file=policy(tmp_path, "redact"))
    assert langchain_tool(look_up).invoke({"key": "xyzzy"}) == "xyzzy"
    assert made.policy.counts["unjudged"] == 1
    enable_monitoring("shop", policy_file=policy(tmp_path, "redact"), policy_fail="closed")
    with pytest.raises(BlockedError):
        langchain_tool(look_up).invoke({"key": "xyzzy"})


def test_frameworks_can_be_left_out(collector: Collector) -> None:
    langchain_tool = pytest.importorskip("langchain_core.tools").tool
    made = enable_monitoring("shop", frameworks=False)

    def look_up(key: str) -> str:
        """Looks it up."""
        return key

    assert langchain_tool(look_up).invoke({"key": "x"}) == "x"
    assert events(made, collector) == []


@pytest.mark.alone
def test_a_tools_span_costs_little(made: Monitoring) -> None:
    @monitor_tool
    def nothing() -> None:
        return None

    def best_ms() -> float:
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(200):
                nothing()
            taken.append((time.perf_counter() - began) * 1000 / 200)
        return min(taken)

    best = best_ms()
    print(f"{best * 1000:.1f} us for the span of a tool")
    assert best < 1.0, "ten times what it may cost"
