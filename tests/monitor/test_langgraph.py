"""LangGraph's graphs, nodes and the ways between them are spans; every form of a node works as without monitoring."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from operator import add
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph.graph")
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from monitor_kit import Collector, events, named
from skilld_monitor import Monitoring, Span, enable_monitoring, log_event

JSON = dict[str, Any]


class State(TypedDict, total=False):
    said: Annotated[list[str], add]


def plain_node(state: State) -> State:
    log_event("inside plain", {})
    return {"said": ["secret plain"]}


def node_with_config(state: State, config: RunnableConfig) -> State:
    assert config["configurable"] is not None
    return {"said": ["secret config"]}


async def async_node(state: State) -> State:
    await asyncio.sleep(0)
    return {"said": ["secret async"]}


def commanding_node(state: State) -> Command[str]:
    return Command(update={"said": ["secret command"]}, goto="last")


def last(state: State) -> State:
    with Span("own"):
        log_event("inside last", {})
    return {"said": ["secret last"]}


def graph() -> Any:
    made: Any = StateGraph(State)
    made.add_node(plain_node)  # without a name, which is the function's then
    made.add_node("with_config", node_with_config)
    made.add_node("waits", async_node)
    made.add_node("commands", commanding_node)
    made.add_node("last", last)
    made.add_edge(START, "plain_node")
    made.add_conditional_edges("plain_node", lambda state: ["with_config", "waits"], ["with_config", "waits"])
    made.add_edge(["with_config", "waits"], "commands")
    made.add_edge("last", END)
    return made.compile(name="flow")


def test_nodes_of_every_form_are_spans_of_their_graph(made: Monitoring, collector: Collector) -> None:
    async def main() -> Any:
        with Span("request"):
            return await graph().ainvoke({"said": ["secret"]}, config={"configurable": {"thread_id": "t-9"}})

    first, *said = asyncio.run(main())["said"]
    assert (first, said[0], said[3:]) == ("secret", "secret plain", ["secret command", "secret last"])
    assert set(said[1:3]) == {"secret config", "secret async"}
    found = events(made, collector)
    flow = named(found, "invoke_workflow flow")
    assert flow["parent"] == named(found, "request")["span"]
    assert (flow["data"]["gen_ai.operation.name"], flow["channel"]) == ("invoke_workflow", "LANGGRAPH")
    nodes = {event["name"][5:]: event for event in found if event["name"].startswith("node ")}
    assert set(nodes) == {"plain_node", "with_config", "waits", "commands", "last"}
    assert {node["parent"] for node in nodes.values()} == {flow["span"]}
    ways = {name: sorted(node["data"]["langgraph.from"]) for name, node in nodes.items()}
    assert ways == {
        "plain_node": ["__start__"],
        "with_config": ["plain_node"],
        "waits": ["plain_node"],
        "commands": ["waits", "with_config"],
        "last": ["commands"],
    }
    assert nodes["commands"]["data"]["langgraph.goto"] == ["last"]
    assert [nodes[name]["data"]["langgraph.step"] for name in ("plain_node", "waits", "last")] == [1, 2, 4]
    assert named(found, "inside plain")["span"] == nodes["plain_node"]["span"]
    assert named(found, "own")["parent"] == nodes["last"]["span"]
    assert {node["session"] for node in nodes.values()} == {"t-9"}
    assert "secret" not in str(found), "the state was not asked for"


def test_a_graph_that_is_called_synchronously_and_streamed_is_the_same(made: Monitoring, collector: Collector) -> None:
    builder: Any = StateGraph(State)
    builder.add_node("last", last)
    builder.add_edge(START, "last")
    flow = builder.compile(name="flow")
    assert flow.invoke({"said": []}) == {"said": ["secret last"]}
    assert list(flow.stream({"said": []})) == [{"last": {"said": ["secret last"]}}]
    assert flow.batch([{"said": []}] * 2) == [{"said": ["secret last"]}] * 2
    found = events(made, collector)
    flows = [event for event in found if event["name"] == "invoke_workflow flow"]
    nodes = [event for event in found if event["name"] == "node last"]
    assert len(flows) == len(nodes) == 4
    assert [node["parent"] for node in nodes] != []
    assert {node["parent"] for node in nodes} == {flow["span"] for flow in flows}


def test_the_state_is_reported_when_asked_for(collector: Collector) -> None:
    made = enable_monitoring("shop", capture="arguments,result")
    builder: Any = StateGraph(State)
    builder.add_node("last", last)
    builder.add_edge(START, "last")
    builder.compile().invoke({"said": ["first"]})
    node = named(events(made, collector), "node last")
    assert node["data"]["langgraph.state"] == {"said": ["first"]}
    assert node["data"]["langgraph.result"] == {"said": ["secret last"]}


def test_nodes_that_are_sent_to_and_subgraphs_are_below_what_they_are_part_of(
    made: Monitoring, collector: Collector
) -> None:
    inner: Any = StateGraph(State)
    inner.add_node("deep", lambda state: {"said": ["deep"]})
    inner.add_edge(START, "deep")
    outer: Any = StateGraph(State)
    outer.add_node("first", lambda state: {"said": ["first"]})
    outer.add_node("inner", inner.compile(name="inner"))
    outer.add_edge(START, "first")
    outer.add_conditional_edges("first", lambda state: [Send("inner", {"said": []})] * 2, ["inner"])
    outer.add_node("after", lambda state: {"said": ["after"]})
    outer.add_edge("inner", "after")
    outer.compile(name="outer").invoke({"said": []})
    found = events(made, collector)
    top = named(found, "invoke_workflow outer")
    assert named(found, "node after")["data"]["langgraph.from"] == ["inner"], "each once"
    by_span = {event["span"]: event for event in found}
    deep = [event for event in found if event["name"] == "node deep"]
    assert len(deep) == 2
    for node in deep:
        graph = by_span[node["parent"]]
        assert graph["data"]["gen_ai.operation.name"] == "invoke_workflow"
        above, names = graph, []
        while above is not top:
            names.append(above["name"])
            above = by_span[above["parent"]]
        assert "node inner" in names


def test_an_interrupt_is_no_error_and_the_graph_goes_on_after_it(made: Monitoring, collector: Collector) -> None:
    def asks(state: State) -> State:
        return {"said": [interrupt("may I?")]}

    builder: Any = StateGraph(State)
    builder.add_node("asks", asks)
    builder.add_edge(START, "asks")
    flow = builder.compile(checkpointer=InMemorySaver(), name="flow")
    config: Any = {"configurable": {"thread_id": "t-1"}}
    assert flow.invoke({"said": []}, config)["__interrupt__"][0].value == "may I?"
    assert flow.invoke(Command(resume="yes"), config) == {"said": ["yes"]}
    found = events(made, collector)
    first, second = [event for event in found if event["name"] == "node asks"]
    assert (first["status"], first["level"], first["data"]["langgraph.interrupted"]) == ("ok", "INFO", True)
    assert (second["status"], "langgraph.interrupted" in second["data"]) == ("ok", False)
    flows = [event["data"].get("langgraph.interrupted") for event in found if event["name"] == "invoke_workflow flow"]
    assert flows == [True, None]


def test_a_failing_node_raises_as_before_and_is_an_error(made: Monitoring, collector: Collector) -> None:
    def fails(state: State) -> State:
        raise LookupError("secret")

    builder: Any = StateGraph(State)
    builder.add_node("fails", fails)
    builder.add_edge(START, "fails")
    with pytest.raises(LookupError):
        builder.compile(name="flow").invoke({"said": []})
    found = events(made, collector)
    for name in ("node fails", "invoke_workflow flow"):
        span = named(found, name)
        assert (span["status"], span["data"]["error.type"]) == ("error", "LookupError")
    assert "secret" not in str(found)


class ToolModel(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **_more: Any) -> Any:
        return self


def script() -> Iterator[AIMessage]:
    yield AIMessage("", tool_calls=[{"name": "look_up", "args": {"key": "secret"}, "id": "call-1"}])
    yield AIMessage("done")


def test_an_agent_is_one_span_above_its_models_and_tools(made: Monitoring, collector: Collector) -> None:
    agents = pytest.importorskip("langchain.agents")

    @tool
    def look_up(key: str) -> str:
        """Looks it up."""
        return f"found {key}"

    agent = agents.create_agent(ToolModel(messages=script()), [look_up], name="helper")
    with Span("request"):
        result = agent.invoke({"messages": [("user", "secret")]}, config={"configurable": {"thread_id": "t-2"}})
    assert result["messages"][-1].content == "done"
    found = events(made, collector)
    run = named(found, "invoke_agent helper")
    assert run["parent"] == named(found, "request")["span"]
    assert run["data"]["gen_ai.agent.name"] == "helper"
    assert run["data"]["gen_ai.conversation.id"] == "t-2"
    call = named(found, "execute_tool look_up")
    assert call["data"]["gen_ai.tool.call.id"] == "call-1"
    chats = [event for event in found if event["name"].startswith("chat")]
    assert len(chats) == 2
    assert {event["agent"] for event in (run, call, *chats)} == {"helper"}
    by_span = {event["span"]: event for event in found}
    for event in (call, *chats):
        assert by_span[by_span[event["parent"]]["parent"]] is run
    assert "secret" not in str(found)


def test_a_sub_agent_in_a_tool_is_below_that_and_owns_what_it_does(made: Monitoring, collector: Collector) -> None:
    agents = pytest.importorskip("langchain.agents")

    def inner_script() -> Iterator[AIMessage]:
        yield AIMessage("", tool_calls=[{"name": "search", "args": {"key": "secret"}, "id": "call-2"}])
        yield AIMessage("inner done")

    @tool
    async def search(key: str) -> str:
        """Searches."""
        log_event("searching", {})
        return key

    inner = agents.create_agent(ToolModel(messages=inner_script()), [search], name="researcher")

    @tool
    async def look_up(key: str) -> str:
        """Asks another agent."""
        found = await inner.ainvoke({"messages": [("user", key)]})
        return str(found["messages"][-1].content)

    outer = agents.create_agent(ToolModel(messages=script()), [look_up], name="helper")
    result = asyncio.run(outer.ainvoke({"messages": [("user", "secret")]}))
    assert [message.content for message in result["messages"][-2:]] == ["inner done", "done"]
    found = events(made, collector)
    by_span = {event["span"]: event for event in found if event["duration_ms"] is not None}
    researcher, call = named(found, "invoke_agent researcher"), named(found, "execute_tool search")
    assert by_span[researcher["parent"]]["name"] == "execute_tool look_up"
    above = named(found, "invoke_agent helper"), named(found, "execute_tool look_up")
    assert {event["agent"] for event in above} == {"helper"}
    assert {event["agent"] for event in (researcher, call)} == {"researcher"}
    assert named(found, "searching")["span"] == call["span"]
    assert len([event for event in found if event["name"] == "chat"]) == 4


def test_tasks_of_the_functional_interface_are_below_their_entry_point(made: Monitoring, collector: Collector) -> None:
    functional: Any = pytest.importorskip("langgraph.func")

    def part(n: int) -> int:
        log_event("inside part", {})
        return n * 2

    one = functional.task(part)

    def both(n: int) -> int:
        found: int = one(n).result() + one(n).result()
        return found

    whole = functional.entrypoint()(both)
    assert whole.invoke(3) == 12
    found = events(made, collector)
    by_span = {event["span"]: event for event in found if event["duration_ms"] is not None}
    for event in found:
        if event["name"] == "inside part":
            assert "part" in by_span[event["span"]]["name"]
    assert len([event for event in by_span.values() if event["name"].endswith(" part")]) == 2
