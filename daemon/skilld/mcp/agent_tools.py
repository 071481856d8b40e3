"""Tools about agents: what holds for later ones, made, looked at, begun anew, let go of, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from skilld.mcp.desk import Desk
from skilld.mcp.texts import agent_line, answer_of, as_json, money, still_busy, turn_text, unless_none
from skilld.mcp.tool import NoParameters, Parameters, Tool, ToolFailure, tool

__all__ = ["TOOLS"]

PermissionMode = Literal["default", "acceptEdits", "auto", "plan", "dontAsk", "bypassPermissions"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class AgentName(Parameters):
    """One agent."""

    agent: str = Field(description="Name of the agent.")


class Configuration(Parameters):
    """What later agents begin with."""

    model: str | None = Field(None, description="Model of agents that name none.")
    context: str | None = Field(None, description="What every later agent is told besides its role.")
    permission_mode: PermissionMode | None = Field(None, description="Of agents of claude_cli.")
    backend: str | None = Field(None, description="Backend of agents that name none, such as claude_cli or codex_cli.")


class NewAgent(Parameters):
    """What an agent is to be."""

    name: str = Field(description="a-z, 0-9, '.', '_', '-'; an agent of this name is replaced.")
    role: str | None = Field(None, description="What it is told to be, its system prompt.")
    model: str | None = None
    max_turns: int | None = Field(None, description="Most requests to the model in one answer.")
    permission_mode: PermissionMode | None = Field(None, description="Of the backend claude_cli.")
    allowed_tools: list[str] | None = Field(None, description="Tools that the program need not ask for.")
    backend: str | None = Field(None, description="claude_cli, codex_cli, or another that the daemon has.")
    effort: Effort | None = None
    cwd: str | None = Field(None, description="Folder it works in, an absolute path.")


class FromProfile(Parameters):
    """An agent of a profile."""

    profile: str
    name: str


class History(AgentName):
    """The latest answers of an agent."""

    last: int = Field(10, ge=1, le=100, description="How many.")


@tool("configure", Configuration, "Set what holds for agents that are made later. Those that exist stay as they are.")
async def configure(desk: Desk, given: Configuration) -> str:
    now = await desk.client.agents_config()
    defaults = {**(now.get("defaults") or {}), **_given(given, "model", "backend")}
    if given.permission_mode is not None:
        defaults["options"] = {**defaults.get("options", {}), "permission_mode": given.permission_mode}
    changes: dict[str, Any] = {} if given.context is None else {"context": given.context}
    if defaults != (now.get("defaults") or {}):
        changes["defaults"] = defaults
    if not changes:
        return "Nothing was changed. Later agents begin with:\n" + as_json(now)
    return "Later agents begin with:\n" + as_json(await desk.client.configure_agents(**changes))


@tool("create_agent", NewAgent, "Make an agent, in the place of the one of this name.")
async def create_agent(desk: Desk, given: NewAgent) -> str:
    desk.refuse_self(given.name, "replace")
    settings = _given(given, "role", "model", "max_turns", "backend", "effort", "cwd")
    options = _given(given, "permission_mode", "allowed_tools")
    if options:
        settings["options"] = options
    made = await desk.client.define_agent(given.name, **settings)
    return f"Made {agent_line(made)}"


@tool("from_profile", FromProfile, "Make an agent from a profile, in the place of the one of this name.")
async def from_profile(desk: Desk, given: FromProfile) -> str:
    desk.refuse_self(given.name, "replace")
    made = await desk.client.define_agent(given.name, profile=given.profile)
    return f"Made {agent_line(made)}"


@tool("agents", NoParameters, "List the agents: state, backend, turns, cost, role.", reads=True)
async def agents(desk: Desk, _: NoParameters) -> str:
    return unless_none(map(agent_line, await desk.client.agents()), "There are no agents. Make one with create_agent.")


@tool("reset", AgentName, "Begin the conversation of an agent anew; its settings stay.")
async def reset(desk: Desk, given: AgentName) -> str:
    desk.refuse_self(given.agent, "reset")
    return f"Reset {agent_line(await desk.client.reset_agent(given.agent))}"


@tool("dismiss", AgentName, "Let an agent go: what it does is cancelled.")
async def dismiss(desk: Desk, given: AgentName) -> str:
    desk.refuse_self(given.agent, "dismiss")
    await desk.client.dismiss_agent(given.agent)
    return f"Dismissed {given.agent}."


@tool("status", NoParameters, "Say how everything stands: the agents, the board, what it has cost.", reads=True)
async def status(desk: Desk, _: NoParameters) -> str:
    found, board, cost = (
        await desk.client.agents(),
        await desk.client.board_summary(),
        await desk.client.agents_cost(),
    )
    counts = ", ".join(f"{count} {name}" for name, count in board["by_status"].items() if count)
    return "\n".join(
        (
            f"agents: {len(found)}",
            *(f"  {agent_line(agent)}" for agent in found),
            f"board: {board['total']} items{f' ({counts})' if counts else ''}",
            f"cost: {money(cost['total'])}",
        )
    )


@tool("result", AgentName, "Show the last answer of an agent.", reads=True)
async def result(desk: Desk, given: AgentName) -> str:
    ended = await desk.client.agent_history(given.agent, last=1)
    about = await desk.client.agent(given.agent)
    turn = about["last_turn"]
    if about["status"] == "working" and isinstance(turn, str) and not any(each["turn"] == turn for each in ended):
        raise ToolFailure(still_busy(turn, "at work", given.agent))
    if not ended:
        raise ToolFailure(f"agent {given.agent!r} has not answered anything yet: ask it something with ask or cast")
    return answer_of(ended[-1], given.agent)


@tool("info", AgentName, "Everything about an agent, as JSON.", reads=True)
async def info(desk: Desk, given: AgentName) -> str:
    return as_json(await desk.client.agent(given.agent))


@tool("history", History, "The latest turns of an agent that have ended, oldest first.", reads=True)
async def history(desk: Desk, given: History) -> str:
    ended = await desk.client.agent_history(given.agent, last=given.last)
    return unless_none(map(_told, ended), f"Agent {given.agent} has not answered anything yet.")


@tool("cost", NoParameters, "What each agent has cost, and all together.", reads=True)
async def cost(desk: Desk, _: NoParameters) -> str:
    found = await desk.client.agents_cost()
    return "\n".join((*(f"{each['name']}: {money(each)}" for each in found["items"]), f"all: {money(found['total'])}"))


@tool("budget", NoParameters, "The caps in force, and what is spent of them, as JSON.", reads=True)
async def budget(desk: Desk, _: NoParameters) -> str:
    caps = await desk.client.budgets()
    return as_json(caps) if caps else "There are no caps."


def _given(parameters: Parameters, *names: str) -> dict[str, Any]:
    """Those of the parameters that were named."""
    return {name: value for name in names if (value := getattr(parameters, name)) is not None}


def _told(turn: Mapping[str, Any]) -> str:
    """A turn of a history. One that has not ended well is no failure here."""
    error = (turn.get("result") or {}).get("error") or {}
    why = f" ({error['message']})" if error.get("message") else ""
    return f"== turn {turn['turn']}: {turn['status']}{why}\n{turn_text(turn)}".rstrip()


TOOLS: Final[tuple[Tool, ...]] = (
    configure,
    create_agent,
    from_profile,
    agents,
    reset,
    dismiss,
    status,
    result,
    info,
    history,
    cost,
    budget,
)
