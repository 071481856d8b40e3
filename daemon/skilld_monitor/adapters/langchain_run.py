"""One run of LangChain's: what its span says beyond the run's own facts. Where it is, whose it is, which agent's, and
in a graph which node came from which."""

from __future__ import annotations

from skilld_monitor.adapters.langchain_facts import cut_name, session_of, tags_of
from skilld_monitor.context import Who
from skilld_monitor.trace import Place, child, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skilld_monitor.adapters.outer import WaitingChat
    from skilld_monitor.spans import Running

    Tags = Sequence[str] | None
    Metadata = Mapping[str, object] | None

__all__ = ["CHAIN_CHANNEL", "GRAPH_CHANNEL", "Beginning", "Run", "arrive", "below", "note_agent", "whose"]

CHAIN_CHANNEL = "LANGCHAIN"
GRAPH_CHANNEL = "LANGGRAPH"
_AGENTS = ("AgentExecutor",)
_AGENT_GRAPHS = "langchain_create_agent"


class Beginning:
    """What LangChain says of a run that begins.

    Args:
        serialized: the class of what is run, as LangChain writes it down.

    """

    __slots__ = ("id", "metadata", "name", "parent_id", "serialized", "tags")

    def __init__(
        self, id: object, parent_id: object, name: str, tags: Tags, metadata: Metadata, serialized: object
    ) -> None:
        self.id = id
        self.parent_id = parent_id
        self.name = name
        self.tags = tags
        self.metadata = metadata
        self.serialized = serialized


class _Step:
    """The nodes that a graph began at once, and those before them."""

    __slots__ = ("came_from", "names", "number")

    def __init__(self, number: int, names: list[str], came_from: list[str]) -> None:
        self.number = number
        self.names = names
        self.came_from = came_from


class Run:
    """One run under way.

    Args:
        running: its span; None of one that stays hidden.
        place: what is begun inside is below it.

    """

    __slots__ = ("agent", "agent_key", "before", "chat", "is_graph", "parent", "place", "running", "step")

    def __init__(self, running: Running | None, place: Place, parent: Run | None) -> None:
        self.running = running
        self.place = place
        self.parent = parent
        self.before = own()
        self.chat: WaitingChat | None = None
        self.is_graph = False
        self.step = _Step(0, ["__start__"], [])
        self.agent: str | None = None if parent is None else parent.agent
        self.agent_key: object = None if parent is None else parent.agent_key

    def holds(self, mine: Place | None) -> bool:
        """Whether it is inside of the program's span that is open here, not around it."""
        return mine is None or mine is self.before or mine.trace != self.place.trace


def below(parent: Run | None) -> Place:
    mine = own()
    if parent is None or (mine is not None and not parent.holds(mine)):
        return child()
    return child(parent.place)


def whose(made: Run, run: Beginning) -> Who:
    assert made.running is not None
    who = made.running.who.or_else(Who(session=session_of(run.metadata), tags=tags_of(run.tags)))
    return who if made.agent is None else who.but(agent=made.agent)


def note_agent(made: Run, run: Beginning) -> None:
    """An agent's graph is the first run that says so; what is inside says it too."""
    known = run.metadata or {}
    if known.get("ls_integration") == _AGENT_GRAPHS:
        made.agent_key = (_AGENT_GRAPHS, known.get("lc_agent_name"))
    running = made.running
    if running is None or not running.name.startswith("chain "):
        return
    is_first = made.agent_key is not None and (made.parent is None or made.parent.agent_key != made.agent_key)
    if not is_first and run.name not in _AGENTS:
        return
    made.agent = cut_name(known.get("lc_agent_name") or run.name)
    running.name = f"invoke_agent {made.agent}"
    running.channel = CHAIN_CHANNEL
    running.data.update({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": made.agent})
    session = session_of(known)
    if session is not None:
        running.data["gen_ai.conversation.id"] = session


def arrive(graph: Run, step: int, name: str, facts: dict[str, object]) -> None:
    """A node of this graph begins: note where it comes from, and that this run is a graph."""
    last = graph.step
    if step > last.number:
        known = last.number > 0 or step == 1  # of a graph that is resumed, the steps before it was are not
        graph.step = _Step(step, [name], last.names if known else [])
    elif step == last.number:
        last.names.append(name)
    if graph.step.came_from:
        facts["langgraph.from"] = list(dict.fromkeys(graph.step.came_from))
    if graph.is_graph or graph.running is None:
        return
    graph.is_graph = True
    if "gen_ai.operation.name" not in graph.running.data:
        called = str(graph.running.data.get("langchain.name", "graph"))
        graph.running.name = f"invoke_workflow {called}"
        graph.running.channel = GRAPH_CHANNEL
        graph.running.data.update({"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": called})
