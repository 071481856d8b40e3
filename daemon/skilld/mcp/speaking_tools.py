"""Tools that say something to agents, and wait for what they answer.

Every message is stored before anybody waits for its answer. So a wait that ends early loses nothing: the turn goes on,
and its id is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import trio
from pydantic import Field

from skilld.client import SkilldError
from skilld.mcp.desk import Desk, Wait
from skilld.mcp.texts import answer_of, still_busy, turn_text
from skilld.mcp.tool import Parameters, Tool, ToolFailure, tool

__all__ = ["TOOLS"]

_OPEN: Final = frozenset({"queued", "running"})
_MAX_MS: Final = 7 * 86_400_000
_WAIT: Final = "How long to wait, in milliseconds; then you get the id of the turn, which goes on. 0 looks only."


class Timed(Parameters):
    """Something that is waited for."""

    timeout: int | None = Field(None, ge=0, le=_MAX_MS, description=_WAIT)


class Ask(Timed):
    """A message to an agent, whose answer is waited for."""

    agent: str
    prompt: str


class Cast(Parameters):
    """A message to an agent."""

    agent: str
    prompt: str


class Await(Timed):
    """An agent, or one turn."""

    agent: str | None = Field(None, description="Until it has nothing left to do.")
    turn: str | None = Field(None, description="Or this one turn, whoever asked for it.")


class Pipe(Timed):
    """Whose result goes to whom."""

    source: str = Field(alias="from", description="The agent whose last result is handed on, once it is done.")
    target: str = Field(alias="to", description="The agent who is told it.")
    message: str | None = Field(None, description="Comes before the result.")


class Fan(Timed):
    """What several agents are told."""

    message: str
    agents: list[str] = Field(min_length=1, max_length=100)


@tool("ask", Ask, "Ask an agent and wait for its answer. What waits with it already comes first.")
async def ask(desk: Desk, given: Ask) -> str:
    desk.refuse_self(given.agent, "ask")
    wait = desk.wait(given.timeout)
    sent = await desk.client.cast_agent(given.agent, given.prompt)
    return await _answer(wait, sent.turn, given.agent)


@tool("cast", Cast, "Tell an agent something and wait for nothing. Gives the id of the turn, for await.")
async def cast(desk: Desk, given: Cast) -> str:
    sent = await desk.client.cast_agent(given.agent, given.prompt)
    return f"agent {given.agent}: turn {sent.turn} is queued. Call await with turn={sent.turn} for its answer."


@tool("await", Await, "Wait until an agent has nothing left to do, or for one turn, and give the answer.", reads=True)
async def await_(desk: Desk, given: Await) -> str:
    if (given.agent is None) == (given.turn is None):
        raise ToolFailure("await: name an agent or a turn, one of them")
    wait = desk.wait(given.timeout)
    if given.turn is not None:
        return await _answer(wait, given.turn)
    assert given.agent is not None
    desk.refuse_self(given.agent, "wait for")
    return _last(await wait.agents(given.agent), given.agent)


@tool("await_all", Timed, "Wait until all agents have nothing left to do; how each has ended.", reads=True)
async def await_all(desk: Desk, given: Timed) -> str:
    wait = desk.wait(given.timeout)
    others = [str(agent["name"]) for agent in await desk.client.agents() if agent["name"] != desk.agent]
    if not others:
        return "There are no agents to wait for."
    found = await wait.agents(*others)
    busy = [str(item["agent"]) for item in found["items"] if not item["idle"]]
    head = f"Still at work: {', '.join(busy)}. Call await_all again." if busy else "All agents are done."
    return "\n".join((head, *(_line(item) for item in found["items"])))


@tool("pipe", Pipe, "Wait for one agent, tell another its result, and give the answer of that.")
async def pipe(desk: Desk, given: Pipe) -> str:
    for name in (given.source, given.target):
        desk.refuse_self(name, "be part of a pipe with")
    from skill_actors.workshop.agents.templates import handed_on  # not before somebody pipes: it brings much with it

    wait = desk.wait(given.timeout)
    (item,) = (await wait.agents(given.source))["items"]
    if not item["idle"]:
        raise ToolFailure(f"agent {given.source} is still at work, and {given.target} was told nothing: pipe again")
    if item["turn"] is None:
        raise ToolFailure(f"agent {given.source} has not answered anything yet: ask it something first")
    answer_of(item["turn"], given.source)
    result = turn_text(item["turn"])
    if not result.strip():
        raise ToolFailure(f"agent {given.source} has answered with no text: there is nothing to hand on")
    text = handed_on(given.source, result, message=given.message, template=None)
    sent = await desk.client.cast_agent(given.target, text)
    return await _answer(wait, sent.turn, given.target)


@tool("fan", Fan, "Tell several agents the same at once, and give all their answers.")
async def fan(desk: Desk, given: Fan) -> str:
    for name in given.agents:
        desk.refuse_self(name, "ask")
    wait = desk.wait(given.timeout)
    told = await desk.client.fan_agents(given.agents, given.message, gather="none")
    answers: dict[int, str] = {}

    async def one(place: int, turn: Mapping[str, Any]) -> None:
        answers[place] = await _part(wait, turn)

    async with trio.open_nursery() as nursery:
        for place, turn in enumerate(told["results"]):
            nursery.start_soon(one, place, turn)
    return "\n\n".join(f"== {name}\n{answers[place]}" for place, name in enumerate(given.agents))


async def _part(wait: Wait, told: Mapping[str, Any]) -> str:
    """What became of the message at one agent; a failure is its part of the answer."""
    agent = str(told["agent"])
    if "turn" not in told:
        return f"{told['status']}: {(told.get('error') or {}).get('message') or told.get('message', '')}"
    try:
        return await _answer(wait, str(told["turn"]), agent)
    except (ToolFailure, SkilldError) as error:
        return str(error)


async def _answer(wait: Wait, turn: str, agent: str | None = None) -> str:
    """The answer of a turn, or how to go on where it has none by then. Raises ToolFailure, SkilldError."""
    found = await wait.turn(turn, agent)
    if found["status"] in _OPEN:
        return still_busy(turn, str(found["status"]), agent)
    return answer_of(found, agent)


def _last(found: Mapping[str, Any], agent: str) -> str:
    (item,) = found["items"]
    if not item["idle"]:
        return f"agent {agent} is still at work: {item['open']} turns are left. Call await again."
    if item["turn"] is None:
        return f"agent {agent} has nothing to do, and has not answered anything yet."
    return answer_of(item["turn"], agent)


def _line(item: Mapping[str, Any]) -> str:
    turn = item["turn"]
    if not item["idle"]:
        return f"{item['agent']}: at work, {item['open']} turns left"
    return f"{item['agent']}: " + ("nothing yet" if turn is None else f"turn {turn['turn']} {turn['status']}")


TOOLS: Final[tuple[Tool, ...]] = (ask, cast, await_, await_all, pipe, fan)
