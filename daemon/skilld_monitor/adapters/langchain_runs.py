"""LangChain's runs as spans: what is open, what is below what, and how each ends.

A run is below the one that LangChain says is its parent, or below a span that the program opened inside of that. For
spans that the program opens inside a run, and for SDKs that are called in it, the run is found by the configuration
that LangChain keeps for each thread and task: nothing of ours has to be taken back when a stream is left half read.

A run that LangGraph starts nodes in is a graph, which shows with the first node.
"""

from __future__ import annotations

from skilld_monitor.adapters.langchain_facts import (
    as_messages,
    asked_facts,
    cut_name,
    is_hidden,
    is_watched_below,
    model_facts,
    node_facts,
    said_facts,
    shown,
    went_to,
)
from skilld_monitor.adapters.langchain_run import (
    CHAIN_CHANNEL,
    GRAPH_CHANNEL,
    Beginning,
    Run,
    arrive,
    below,
    note_agent,
    whose,
)
from skilld_monitor.adapters.outer import await_chat
from skilld_monitor.adapters.tools import ToolRun
from skilld_monitor.policy.errors import BlockedError
from skilld_monitor.policy.guard import before_call, before_tool
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from skilld_monitor.monitoring import Monitoring
    from skilld_monitor.trace import Place

__all__ = ["Runs"]

_MAX_OPEN = 65_536
_CONTENT = ("gen_ai.system_instructions", "gen_ai.input.messages", "gen_ai.tool.call.arguments")


class Runs:
    """All that are open, in any thread."""

    def __init__(self) -> None:
        self._open: dict[object, Run] = {}

    def __len__(self) -> int:
        return len(self._open)

    def forget_all(self) -> None:
        """Nothing of what is open will be reported."""
        self._open.clear()

    def innermost(self, run_id: object, mine: Place | None) -> Place | None:
        """The place that is open where this run is under way and the program has `mine` open."""
        run = self._open.get(run_id)
        return run.place if run is not None and run.holds(mine) else mine

    def begin_model(self, on: Monitoring, run: Beginning, messages: Sequence[object], said: dict[str, Any]) -> None:
        """A chat model's, or with text for messages that of one which completes text.

        Raises BlockedError where a policy forbids the call and no SDK that is watched will ask it.
        """
        operation = "text_completion" if messages and isinstance(messages[0], str) else "chat"
        facts = model_facts(operation, run.metadata, said.get("invocation_params"), on.settings.capture)
        if operation == "chat":
            facts.update(asked_facts(messages, on.settings.capture))
        elif "input" in on.settings.capture:
            facts["gen_ai.input.messages"] = plain(list(messages))
        made = self._begin(run, operation, "LLM", facts)
        if made.running is not None:
            size = said.get("batch_size")
            made.chat = await_chat(made.running, with_others=type(size) is int and size > 1)
        if on.policy.is_active and not is_watched_below(run.metadata, run.serialized):
            asked: dict[str, object] = {"messages": as_messages(messages)}
            self._allow(run, lambda: before_call(on, asked, can_change=False))

    def first_piece(self, run_id: object) -> None:
        """A piece of a model's answer has come."""
        run = self._open.get(run_id)
        if run is None or run.running is None:
            return
        if run.chat is not None:
            run.chat.over = True  # what the program asks between the pieces is no part of it
        if "gen_ai.response.time_to_first_chunk" not in run.running.data:
            took_s = round(run.running.elapsed_ms / 1000, 6)
            run.running.data.update({"gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": took_s})

    def end_model(self, on: Monitoring, run_id: object, response: object, error: BaseException | None) -> None:
        run = self._open.pop(run_id, None)
        if run is None or run.running is None:
            return
        running = run.running
        if run.chat is not None:
            run.chat.over = True
        # The SDK's word counts for more; and a stream of its that is left may go on to change what it holds.
        running.data = {**_read(lambda: said_facts(response, on.settings.capture)), **running.data}
        _name_model(running)
        if isinstance(error, BlockedError):
            _forget_content(running)
        _end(on, running, error)

    def begin_tool(self, on: Monitoring, run: Beginning, arguments: object, call_id: object) -> None:
        """Raises BlockedError where a policy forbids the call: what LangChain's callbacks raise stops the tool."""
        facts: dict[str, object] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": run.name,
            "gen_ai.tool.type": "function",
        }
        if call_id is not None:
            facts["gen_ai.tool.call.id"] = str(plain(call_id))[:200]
        if "arguments" in on.settings.capture:
            facts["gen_ai.tool.call.arguments"] = shown(arguments)
        self._begin(run, "execute_tool", CHAIN_CHANNEL, facts)
        self._allow(run, lambda: before_tool(on, run.name, arguments, can_change=False))

    def _allow(self, run: Beginning, judge: Callable[[], object]) -> None:
        """What a policy forbids ends here: the framework does not say that such a run has ended."""
        try:
            judge()
        except BlockedError as error:
            begun = self._open.pop(run.id, None)
            if begun is not None and begun.running is not None:
                if begun.chat is not None:
                    begun.chat.over = True
                    _name_model(begun.running)
                _forget_content(begun.running)
                begun.running.end(error)
            raise

    def end_tool(self, on: Monitoring, run_id: object, output: object) -> None:
        run = self._open.pop(run_id, None)
        if run is None or run.running is None:
            return
        running, found = run.running, _read(lambda: _tool_facts(output))
        running.data = {**found, **running.data}
        if "result" in on.settings.capture:
            running.data["gen_ai.tool.call.result"] = shown(output)
        running.end(status="error" if "error.type" in found else None)

    def begin_retriever(self, on: Monitoring, run: Beginning, query: str) -> None:
        facts: dict[str, object] = {"gen_ai.operation.name": "retrieval", "langchain.name": run.name}
        if "arguments" in on.settings.capture:
            facts["gen_ai.retrieval.query.text"] = plain(query)
        self._begin(run, "retrieval", CHAIN_CHANNEL, facts)

    def end_retriever(self, on: Monitoring, run_id: object, documents: object) -> None:
        run = self._open.pop(run_id, None)
        if run is None or run.running is None:
            return
        if isinstance(documents, (list, tuple)):
            run.running.data["langchain.documents"] = len(documents)
            if "result" in on.settings.capture:
                run.running.data["gen_ai.retrieval.documents"] = shown([_document(found) for found in documents])
        run.running.end()

    def begin_chain(self, on: Monitoring, run: Beginning, inputs: object) -> None:
        """A chain, a node of a graph, a graph or an agent."""
        node = node_facts(run.name, run.tags, run.metadata)
        facts: dict[str, object] = {"langchain.name": run.name} if node is None else node[1]
        if "arguments" in on.settings.capture:
            facts["langchain.inputs" if node is None else "langgraph.state"] = shown(inputs)
        if node is None:
            self._begin(run, "chain", CHAIN_CHANNEL, facts)
            return
        parent = self._open.get(run.parent_id)
        if parent is not None:
            arrive(parent, node[0], run.name, facts)
        self._begin(run, "node", GRAPH_CHANNEL, facts)

    def end_chain(self, on: Monitoring, run_id: object, outputs: object) -> None:
        run = self._open.pop(run_id, None)
        if run is None or run.running is None:
            return
        run.running.data.update(_read(lambda: went_to(outputs)))
        if "result" in on.settings.capture:
            run.running.data["langgraph.result" if _is_node(run) else "langchain.outputs"] = shown(outputs)
        run.running.end()

    def fail(self, on: Monitoring, run_id: object, error: BaseException) -> None:
        """A run ends with an error, or with what LangGraph raises to stop there and go on later or elsewhere."""
        run = self._open.pop(run_id, None)
        if run is None or run.running is None:
            return
        kinds = [kind.__name__ for kind in type(error).__mro__]
        if "GraphBubbleUp" not in kinds:
            _end(on, run.running, error)
            return
        if "GraphInterrupt" in kinds:
            above: Run | None = run
            while above is not None:
                if above.running is not None:
                    above.running.data["langgraph.interrupted"] = True
                above = above.parent
        run.running.end()

    def _begin(self, run: Beginning, operation: str, channel: str, facts: dict[str, object]) -> Run:
        parent = self._open.get(run.parent_id)
        place = below(parent)
        if parent is not None and operation == "chain" and is_hidden(run.tags):
            made = Run(None, parent.place, parent)
        elif operation == "execute_tool":
            running: Running = ToolRun(run.name, facts, place, channel)
            made = Run(running, running.place, parent)
        else:
            made = Run(Running(f"{operation} {run.name}", channel, facts, place), place, parent)
        note_agent(made, run)
        if made.running is not None:
            made.running.who = whose(made, run)
        if len(self._open) >= _MAX_OPEN:  # of a framework that does not end them
            self._open.pop(next(iter(self._open)))
        self._open[run.id] = made
        return made


def _name_model(running: Running) -> None:
    """By the model that was asked, else the one that answered."""
    model = running.data.get("gen_ai.request.model") or running.data.get("gen_ai.response.model")
    operation = str(running.data["gen_ai.operation.name"])
    running.name = f"{operation} {cut_name(model)}" if model else operation


def _forget_content(running: Running) -> None:
    """Of a call that a policy forbade nothing is reported that was said."""
    for attribute in _CONTENT:
        running.data.pop(attribute, None)


def _is_node(run: Run) -> bool:
    return run.running is not None and "langgraph.node" in run.running.data


def _read(facts: Callable[[], dict[str, object]]) -> dict[str, object]:
    """What a run says of itself; of a shape that we do not know, that."""
    try:
        return facts()
    except Exception as error:
        return {"skilld.unread": type(error).__name__}


def _tool_facts(output: object) -> dict[str, object]:
    facts: dict[str, object] = {}
    call_id = getattr(output, "tool_call_id", None)
    if type(call_id) is str:
        facts["gen_ai.tool.call.id"] = call_id[:200]
    if getattr(output, "status", None) == "error":  # which the framework made a message for the model
        facts["error.type"] = "tool_error"
    return facts


def _document(found: object) -> object:
    return {"content": getattr(found, "page_content", None), "metadata": getattr(found, "metadata", None)}


def _end(on: Monitoring, running: Running, error: BaseException | None) -> None:
    if error is not None and "result" in on.settings.capture and not is_cancellation(error):
        running.data["error.message"] = str(plain(error))
    running.end(error)
