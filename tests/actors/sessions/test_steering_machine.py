"""Random histories of a conversation that is steered, interrupted, paused, cancelled and killed at any commit, while
somebody may have to be asked about its tools.

Whatever happened: each text that was acknowledged has reached the model exactly once, in the order in which it was said
within its kind, unless its turn was cancelled before it began; and each turn has exactly one ending.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_kit import ruled
from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.sessions.approvals import ApprovalDesk, Approver
from skill_actors.sessions.events import TURN_ENDINGS, Event
from skill_actors.sessions.intake import Mode
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.store import Append, JournalClosed, SqliteJournal
from skill_actors.testing import Reply, ScriptedModel, Text
from steering_kit import bash, ended, said
from support import run

Step = tuple[Any, ...]


class Mortal:
    """A journal whose process dies at the commit of that number from now on, before it is stored or behind that."""

    def __init__(self, journal: SqliteJournal) -> None:
        self._journal = journal
        self.left: int | None = None
        self.stored = False
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, change: Append) -> None:
        if self.left is not None:
            self.left -= 1
        dies = self.left is not None and self.left < 0 and not self.dead
        if self.dead or (dies and not self.stored):
            self.dead = True
            raise JournalClosed("the process is dead")
        await self._journal.append(change)
        if dies:
            self.dead = True
            raise JournalClosed("the process is dead")


@contextmanager
def dying(*codes: str) -> Iterator[None]:
    """The process may be dead by now: then whoever asked hears that it is stopping, and nothing else."""
    try:
        yield
    except Refused as error:
        if error.code not in ("draining", *codes):
            raise


@dataclass
class Said:
    text: str
    mode: Mode
    sure: bool = False
    status: str = ""


@dataclass
class World:
    """One conversation, and what was said in it."""

    asks: bool = False  # somebody is asked about each call of a tool
    session: str = ""
    texts: list[Said] = field(default_factory=list)
    gate: trio.Event = field(default_factory=trio.Event)
    free: bool = False
    calls: int = 0

    def respond(self, _body: Any) -> Reply:
        """Now a tool, now an answer, which waits in its middle to be let on."""
        self.calls += 1
        if self.free:
            return Reply([Text("an answer")])
        if self.calls % 3 == 1:
            return Reply([Text("let me see"), bash("true")], holds={1: self.gate})
        return Reply([Text("an answer so far")], holds={1: self.gate})

    async def play(self, folder: Path, steps: list[Step]) -> None:
        left = list(steps)
        model = ScriptedModel(respond=self.respond)
        while left:
            mortals: list[Mortal] = []

            def wrap(journal: SqliteJournal, mortals: list[Mortal] = mortals) -> Mortal:
                mortals.append(Mortal(journal))
                return mortals[-1]

            async with self.open(folder, model, wrap) as kit:
                self.session = self.session or await kit.session()
                while left and not mortals[0].dead:
                    step = left.pop(0)
                    if step[0] == "kill":
                        mortals[0].left, mortals[0].stored = step[1], step[2]
                    else:
                        await self.do(kit, step)
                mortals[0].dead = True
        async with self.open(folder, model) as kit, trio.open_nursery() as nursery:
            nursery.start_soon(self.keep_deciding, kit)
            await self.check(kit, model)
            nursery.cancel_scope.cancel()

    def open(
        self, folder: Path, model: ScriptedModel, wrap: Callable[[SqliteJournal], Any] = lambda journal: journal
    ) -> AbstractAsyncContextManager[Kit]:
        defaults = SessionDefaults(policy=ruled(ask=["bash_tool"] if self.asks else []))
        return open_kit(folder, model, wrap=wrap, desk=ApprovalDesk, defaults=defaults)

    async def keep_deciding(self, kit: Kit) -> None:
        while True:
            await self.decide(kit, "allow")
            await trio.sleep(0.01)

    async def decide(self, kit: Kit, decision: str) -> None:
        desk = kit.manager.approvals
        assert desk is not None
        for asked in (await desk.list(None))["items"]:
            with dying("conflict"):
                await desk.decide(asked["id"], Approver(uid=0), {"decision": decision})

    async def do(self, kit: Kit, step: Step) -> None:
        match step:
            case ("both", one, two):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.do, kit, one)
                    nursery.start_soon(self.do, kit, two)
            case ("say", mode):
                self.texts.append(Said(f"text {len(self.texts)}", mode))
                await self.say(kit, self.texts[-1])
            case ("let",):
                gate, self.gate = self.gate, trio.Event()
                gate.set()
            case ("decide", decision):
                await self.decide(kit, decision)
            case ("rest",):
                await trio.testing.wait_all_tasks_blocked(0.002)
            case ("pause",) | ("resume",) | ("cancel", _):
                with dying():
                    if step[0] == "cancel":
                        await kit.manager.cancel(self.session, ME, queued=step[1])
                    else:
                        await getattr(kit.manager, step[0])(self.session, ME)
            case _:
                raise AssertionError(step)

    async def say(self, kit: Kit, text: Said) -> None:
        with dying():
            accepted = await kit.manager.submit(self.session, ME, text.text, (), f"key {text.text}", mode=text.mode)
            text.sure, text.status = True, accepted.status if text.mode == "steer" else ""

    async def check(self, kit: Kit, model: ScriptedModel) -> None:
        self.free = True
        self.gate.set()
        await kit.manager.resume(self.session, ME)
        for text in self.texts:
            if not text.sure:  # a client that heard nothing says it again
                await self.say(kit, text)
                assert text.sure
        for event in await kit.events(self.session):
            if event.type == "turn.queued":
                assert event.turn is not None
                assert (await ended(kit, event.turn))["result"] is not None
        await kit.ask(self.session, "the last one")
        assert (await kit.manager.get(self.session, ME))["status"] == "idle"
        events = await kit.events(self.session)
        self.check_endings(events)
        self.check_texts(events, said(model.requests[-1]))
        for request in model.requests:
            assert max(Counter(said(request)).values()) == 1

    def check_endings(self, events: list[Event]) -> None:
        queued = [event.turn for event in events if event.type == "turn.queued"]
        assert len(queued) == len(set(queued))
        assert Counter(event.turn for event in events if event.type in TURN_ENDINGS) == Counter(queued)
        seqs = [event.seq for event in events]
        assert seqs == sorted(set(seqs))

    def check_texts(self, events: list[Event], heard: list[str]) -> None:
        begun = {event.turn for event in events if event.type == "turn.started"}
        never = {e.data["text"] for e in events if e.type == "turn.queued" and e.turn not in begun}
        assert Counter(heard) == Counter([*(t.text for t in self.texts if t.text not in never), "the last one"])
        steered = {event.data["text"]: event.turn for event in events if event.type == "turn.steered"}
        assert not never & steered.keys()
        assert all(text.text in steered for text in self.texts if text.status == "steered")
        for turn in set(steered.values()):
            told = [text for text, of in steered.items() if of == turn]
            assert [text for text in heard if text in told] == told
        for turn in {event.turn for event in events if event.type == "turn.finished"}:
            of = [event for event in events if event.turn == turn and event.type in ("turn.steered", "model.message")]
            assert of[-1].type == "model.message", "a turn that was told something finished without an answer to it"
        ordinary = [t.text for t in self.texts if t.mode == "follow_up" and t.text in heard]
        asked = [e.data["text"] for e in events if e.type == "turn.queued" and e.data["text"] in ordinary]
        assert [text for text in heard if text in ordinary] == asked


says = st.tuples(st.just("say"), st.sampled_from(["follow_up", "steer", "steer", "interrupt"]))
others = st.one_of(
    st.just(("pause",)),
    st.just(("resume",)),
    st.tuples(st.just("cancel"), st.booleans()),
    *[st.just(("let",))] * 2,
    st.tuples(st.just("decide"), st.sampled_from(["allow", "allow", "deny"])),
    *[st.just(("rest",))] * 3,
)
single = st.one_of(says, says, others)
step = st.one_of(
    single,
    single,
    single,
    st.tuples(st.just("both"), single, single),
    st.tuples(st.just("kill"), st.integers(0, 4), st.booleans()),
)


def play(history: list[Step], *, asks: bool) -> None:
    async def main() -> None:
        await World(asks).play(Path(folder), history)

    with tempfile.TemporaryDirectory() as folder:
        run(main)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, min_size=4, max_size=14), st.booleans())
def test_every_text_reaches_the_model_once_and_every_turn_ends_once(history: list[Step], asks: bool) -> None:
    play([("say", "follow_up"), ("rest",), *history], asks=asks)


@pytest.mark.deep
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, min_size=8, max_size=24), st.booleans())
def test_the_same_over_long_histories(history: list[Step], asks: bool) -> None:
    play([("say", "follow_up"), ("rest",), *history], asks=asks)
