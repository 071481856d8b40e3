"""LangChain 0.3, LangGraph 0.6 and version 1 of MCP's SDK are watched as today's are, in an environment of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitor_kit import Collector, messages_api, named
from old_clients_kit import run_old

JSON = dict[str, Any]

LANGCHAIN = """
import asyncio, json, os
from importlib.metadata import version
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop")
import warnings
from langchain_anthropic import ChatAnthropic
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_function
warnings.simplefilter("ignore")  # of LangGraph's own imports
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

@tool
def look_up(key: str) -> str:
    "Looks it up."
    return "found " + key

class State(TypedDict, total=False):
    text: str

def plain(state): return {"text": state["text"] + "p"}
def with_config(state, config: RunnableConfig):
    return {"text": state["text"] + look_up.invoke({"key": "c"}, config)}
async def waits(state): return {"text": state["text"] + "a"}

builder = StateGraph(State)
builder.add_node(plain)
builder.add_node("with_config", with_config)
builder.add_node("waits", waits)
builder.add_edge(START, "plain")
builder.add_edge("plain", "with_config")
builder.add_edge("with_config", "waits")
builder.add_edge("waits", END)
said = [asyncio.run(builder.compile(name="flow").ainvoke({"text": ""}))["text"]]

model = ChatAnthropic(model="claude-sonnet-5-5", base_url=os.environ["API"], api_key="k", max_retries=0)
chain = ChatPromptTemplate.from_template("secret {x}") | model
with skilld_monitor.Span("request"):
    said.append(chain.invoke({"x": 1}).content)
    said.append("".join(piece.content for piece in model.stream("secret") if isinstance(piece.content, str)))
async def main():
    said.append((await model.ainvoke("secret")).content)
asyncio.run(main())
strict = convert_to_openai_function(look_up, strict=True)["strict"]
problem = made.problem
made.disable(20)
model.invoke("secret")
print(json.dumps({"said": said, "problem": problem, "strict": strict, "version": version("langchain-core")}))
"""

MCP = """
import asyncio, json
from datetime import timedelta
from importlib.metadata import version
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop")
from mcp import ClientSession
from mcp.server.fastmcp import Context, FastMCP
from mcp.shared.memory import create_connected_server_and_client_session as connected
from mcp.shared.exceptions import McpError
server = FastMCP("small", log_level="ERROR")

@server.tool()
def add(a: int, b: int) -> int:
    return a + b

@server.tool()
def trace(ctx: Context) -> str:
    return str(getattr(ctx.request_context.meta, "traceparent", None))

@server.tool()
def fail() -> str:
    raise LookupError("secret")

said, before = [], vars(ClientSession).get("send_request")
async def main():
    async with connected(server._mcp_server) as session:
        with skilld_monitor.Span("request"):
            said.append((await session.call_tool("add", {"a": 40, "b": 2})).content[0].text)
            timeout = timedelta(seconds=10)
            said.append((await session.call_tool("trace", {}, read_timeout_seconds=timeout)).content[0].text)
            said.append((await session.call_tool("fail")).isError)
            said.append(len((await session.list_tools()).tools))
        try:
            await session.read_resource("gone://x")
        except McpError as error:
            said.append(error.error.code)
asyncio.run(main())
problem = made.problem
made.disable(20)
restored = "__skilld_monitor__" not in dir(ClientSession.send_request) and "send_request" not in vars(ClientSession)
print(json.dumps({"said": said, "problem": problem, "restored": restored, "version": version("mcp")}))
"""


@pytest.fixture
def folder(tmp_path: Path, collector: Collector) -> Path:
    return tmp_path / "m"


def test_langchain_of_version_0_3_and_langgraph_of_0_6_are_watched(folder: Path, collector: Collector) -> None:
    with messages_api() as api:
        printed = run_old(LANGCHAIN, folder, api=api.base_url)
    assert printed["version"].startswith("0.3.")
    assert (printed["problem"], printed["strict"]) == ("", True)
    assert printed["said"] == ["pfound ca", "an answer", "an answer", "an answer"]
    found = [event for event in collector.events() if not event["name"].startswith("monitoring_")]
    flow = named(found, "invoke_workflow flow")
    for name, came_from in (("plain", "__start__"), ("with_config", "plain"), ("waits", "with_config")):
        node = named(found, f"node {name}")
        assert (node["parent"], node["status"]) == (flow["span"], "ok")
        assert node["data"]["langgraph.from"] == [came_from]
    assert named(found, "execute_tool look_up")["parent"] == named(found, "node with_config")["span"]
    chats = [event for event in found if event["name"].startswith("chat")]
    request = named(found, "request")["span"]
    assert [chat["parent"] for chat in chats] == [named(found, "chain RunnableSequence")["span"], request, None]
    for chat in chats:
        assert (chat["name"], chat["status"]) == ("chat claude-sonnet-5-5", "ok")
        assert (chat["data"]["gen_ai.usage.input_tokens"], chat["data"]["gen_ai.usage.output_tokens"]) == (1110, 5)
    assert "secret" not in str(found)


def test_version_1_of_mcps_sdk_is_watched(folder: Path, collector: Collector) -> None:
    printed = run_old(MCP, folder)
    assert printed["version"].startswith("1.")
    assert (printed["problem"], printed["restored"]) == ("", True)
    added, trace, failed, tools, code = printed["said"]
    assert (added, failed, tools) == ("42", True, 3)
    found = collector.events(channel="MCP")
    request = collector.events(name="request")[0]["span"]
    call = named(found, "tools/call trace")
    assert (call["parent"], trace) == (request, f"00-{call['trace']}-{call['span']}-01")
    assert named(found, "tools/call fail")["data"]["error.type"] == "tool_error"
    assert named(found, "resources/read")["data"]["error.type"] == str(code)
    assert {"initialize", "tools/list", "mcp.session"} <= {event["name"] for event in found}
    assert "secret" not in str(found)
