"""What a long conversation with tools costs: with prompt caching and compaction, beside without.

Each way is one conversation of its own, in this process: a real journal, real local tools, and the client of the API
over HTTP to the fake API, which counts tokens, keeps prompts in its cache, compacts, refuses every request that the API
would refuse, and writes the bill. Its clock goes on by 20 s with each turn, and by 400 s every 50 turns, when the user
comes back to a cache that has forgotten everything.

    python benchmarks/long_conversation.py [--turns N] [--lines N] [--way NAME ...]
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends import open_local
from skill_actors.models import AnthropicModel, ModelEvent, ModelRequest, Usage
from skill_actors.models.base import Model
from skill_actors.runtime import ActorSystem, ChildSpec, DynamicSupervisor, TrioActor, TrioActorRef, open_system
from skill_actors.sessions.compaction import CompactionSettings
from skill_actors.sessions.events import Position
from skill_actors.sessions.manager import SessionManager
from skill_actors.sessions.slots import TurnSlots
from skill_actors.sessions.surroundings import SessionDefaults, Surroundings
from skill_actors.sessions.table import Viewer
from skill_actors.skills.base import SkillSnapshot
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus
from skill_actors.testing import Answer, FakeMessagesApi, Meter, Reply, Text, ToolUse, serve_in_thread

_MODEL: Final = "claude-sonnet-5-5"
_ME: Final = Viewer(uid=1000)
_COMPACT_AT: Final = 0.06  # of a window of a million tokens
_WORDS: Final = ("door", "harbour", "ledger", "signal", "of", "the", "and", "blue", "seven", "returns", "carefully")
_TURN_S: Final = 20.0
_PAUSE_S: Final = 400.0
_PAUSE_EVERY: Final = 50
_SMALL_USD: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Way:
    """One way of having the conversation."""

    name: str
    cache: bool
    compaction: CompactionSettings


WAYS: Final = (
    Way("neither", False, CompactionSettings(mode="off")),
    Way("caching", True, CompactionSettings(mode="off")),
    Way("caching, compacted by the API", True, CompactionSettings(compact_at=_COMPACT_AT, mode="server")),
    Way("caching, our own summary", True, CompactionSettings(compact_at=_COMPACT_AT, mode="own")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one conversation."""

    usage: Usage
    cost_usd: float
    calls: int
    summaries: int
    largest_prompt: int
    wall_s: float

    @property
    def hit_rate(self) -> float:
        """Share of the input that was read from the cache."""
        return self.usage.cache_read_tokens / max(1, self.usage.prompt_tokens)


class Clock:
    """The fake API's."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Uncached:
    """A model that is never asked to keep anything."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def provider(self) -> str:
        return self._model.provider

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        return self._model.stream(replace(request, cache=False))

    async def count_tokens(self, request: ModelRequest) -> int | None:
        return await self._model.count_tokens(request)

    async def aclose(self) -> None:
        await self._model.aclose()


def words(count: int, seed: object) -> str:
    """As many words, the same for the same seed."""
    chance = random.Random(str(seed))
    return " ".join(chance.choices(_WORDS, k=count))


def respond(body: Mapping[str, Any]) -> Answer:
    """Run one or two tools for each question, then say something; summarise where there are no tools."""
    last = body["messages"][-1]["content"]
    seed = f"{len(body['messages'])} {str(last)[-200:]}"
    if not body.get("tools"):
        return Reply([Text(f"The user asked about doors. {words(300, seed)}")], chunk_chars=400)
    if any(block["type"] == "tool_result" for block in last):
        return Reply([Text(words(80, seed))], chunk_chars=200)
    command = next(block["text"] for block in reversed(last) if block["type"] == "text").split("`")[1]
    both = int(command.split()[1]) % 2
    tools = [ToolUse("bash_tool", {"command": command, "description": "Look"}) for _ in range(1 + both)]
    return Reply([Text("Let me look."), *tools], chunk_chars=200)


@asynccontextmanager
async def conversations(folder: Path, model: Model, compaction: CompactionSettings) -> AsyncIterator[SessionManager]:
    """A manager on a real journal, its actors under the supervisor `sessions`."""
    snapshot, numbers = SkillSnapshot(), itertools.count()
    supervisor = ChildSpec(id="sessions", name="sessions", factory=lambda: DynamicSupervisor("session"))

    async def pin(_: object) -> list[Path]:
        return []

    async with (
        await SqliteJournal.open(folder / "journal.db") as journal,
        open_local() as executor,
        open_system([supervisor]) as system,
    ):
        surroundings = Surroundings(
            journal=journal,
            resolve_model=lambda name: (model, name or _MODEL),
            price_usd=lambda model, usage, **_more: None,
            skills=lambda: snapshot,
            pin=pin,
            executors={"local": executor},
            default_backends=("local",),
            slots=TurnSlots(1),
            workspaces=folder / "workspaces",
            bus=Bus(),
            defaults=SessionDefaults(compaction=compaction),
        )
        yield SessionManager(surroundings, _starter(system, numbers))


def _starter(system: ActorSystem, numbers: itertools.count[int]) -> Callable[..., TrioActorRef[Any]]:
    def start(make: Callable[[], TrioActor], session: str) -> TrioActorRef[Any]:
        actor = system.directory.ref("sessions")._actor_weakref()
        assert isinstance(actor, DynamicSupervisor)
        return actor._begin(make, f"{session}/{next(numbers)}")

    return start


async def talk(manager: SessionManager, api: FakeMessagesApi, clock: Clock, turns: int, lines: int) -> str:
    """Have the conversation; its id. Every turn must end well, and every request be taken."""
    session = str((await manager.create(_ME.uid, {}))["id"])
    for number in range(turns):
        text = f"Question {number}: run `seq {number} {number + lines}` and tell me about {words(20, number)}."
        accepted = await manager.submit(session, _ME, text)
        turn = await manager.get_turn(accepted.turn, _ME, wait_s=60)
        assert turn["status"] == "finished", turn
        assert [request.status for request in api.requests if request.status != 200] == []
        api.requests.clear()  # they hold the whole conversation each
        clock.now_s += _PAUSE_S if number % _PAUSE_EVERY == _PAUSE_EVERY - 1 else _TURN_S
    return session


async def check_pairs(manager: SessionManager, session: str) -> None:
    """Each call of a tool has run once and has one result."""
    called, answered = Counter[str](), Counter[str]()
    async with manager.follow(session, _ME, after=Position(), live=False) as events:
        async for event in events:
            if event.type == "model.message":
                called.update(block["id"] for block in event.data["content"] if block["type"] == "tool_use")
            elif event.type == "tool.finished":
                answered[event.data["id"]] += 1
    assert called == answered
    assert set(answered.values()) == {1}


async def converse(way: Way, turns: int, lines: int) -> Outcome:
    """One conversation that way."""
    clock = Clock()
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_in_thread(FakeMessagesApi(respond=respond, meter=Meter(now=clock))) as api,
    ):
        client = AnthropicModel(lambda: "any key", base_url=api.base_url)
        await client.prepare()
        began_s = time.perf_counter()
        async with conversations(Path(folder), client if way.cache else Uncached(client), way.compaction) as manager:
            session = await talk(manager, api, clock, turns, lines)
            wall_s = time.perf_counter() - began_s
            await check_pairs(manager, session)
        await client.aclose()
        return Outcome(
            usage=sum((entry.usage for entry in api.bill), Usage()),
            cost_usd=api.billed_nanousd / 1e9,
            calls=len(api.bill),
            summaries=len(api.bill) - 2 * turns + sum(entry.summaries for entry in api.bill),
            largest_prompt=max(entry.usage.prompt_tokens for entry in api.bill),
            wall_s=wall_s,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=500, help="turns of the conversation")
    parser.add_argument("--lines", type=int, default=150, help="lines that a tool prints")
    parser.add_argument("--way", nargs="*", choices=[way.name for way in WAYS], help="only these")
    options = parser.parse_args()
    ways = [way for way in WAYS if not options.way or way.name in options.way]
    title = f"{options.turns} turns with tools, {_MODEL}"
    print(
        f"{title:40} {'US$':>8} {'ratio':>7} {'from cache':>10} {'calls':>6} {'summaries':>9} {'largest':>8} {'s':>6}"
    )
    first: Outcome | None = None
    with tempfile.TemporaryDirectory() as empty:
        os.environ["SSL_CERT_DIR"] = empty  # the certificates of the machine are not what this measures
        for way in ways:
            outcome = trio.run(converse, way, options.turns, options.lines)
            first = first or outcome
            print(
                f"{way.name:40} {outcome.cost_usd:8.3f} {first.cost_usd / max(outcome.cost_usd, _SMALL_USD):7.1f}"
                f" {outcome.hit_rate:10.1%} {outcome.calls:6} {outcome.summaries:9} {outcome.largest_prompt:8}"
                f" {outcome.wall_s:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
