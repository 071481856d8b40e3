"""Any order of questions, answers, time, endings and crashes of the desk: what may run is what was allowed, once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approval_kit import Clock, Desk, open_desk
from skill_actors.errors import Refused
from skill_actors.sessions.approvals import Approver
from skill_actors.sessions.log import Draft
from support import run

TIMEOUT_S = 100.0
Step = tuple[str, Any, str]

CALL, COMMAND = st.integers(0, 1), st.sampled_from(["ls", "ls", "rm"])
CRASH: Step = ("crash", 0, "")
ANYTHING = st.one_of(
    st.tuples(st.sampled_from(["ask", "run"]), CALL, COMMAND),
    st.tuples(st.sampled_from(["allow", "deny"]), CALL, st.just("")),
    st.tuples(st.just("time"), st.sampled_from([30, 101]), st.just("")),
    st.sampled_from([CRASH, ("end", 0, "")]),
)


@st.composite
def scenes(draw: st.DrawFn) -> list[Step]:
    """A call that is asked about, decided and run, with something in between now and then."""
    call, command = draw(CALL), draw(COMMAND)
    decided = draw(st.sampled_from(["allow", "allow", "deny"]))
    steps: list[Step] = []
    for step in [("ask", call, command), (decided, call, ""), ("run", call, command), ("run", call, draw(COMMAND))]:
        steps += [step, *draw(st.lists(ANYTHING, max_size=1))]
    return steps


STORIES = st.lists(scenes() | ANYTHING.map(lambda step: [step]), max_size=3)


class Model:
    """What should be true: of each call the latest question, and how it stands."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[str, float]] = {}  # the command that is asked about, and until when
        self.said: dict[int, tuple[str, bool]] = {}  # the command, and whether it may run: not used yet


class Play:
    """The desk, and a turn with some calls; `ask` leaves its question as a crash would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.began = self.clock.now
        self.stack = AsyncExitStack()
        self.model = Model()
        self.desk: Desk
        self.turn = ""
        self.ids: dict[int, str] = {}

    async def open(self) -> None:
        self.desk = await self.stack.enter_async_context(open_desk(self.folder, clock=self.clock))

    async def crash(self) -> None:
        await self.stack.aclose()
        await self.open()
        await self.desk.desk.recover()

    def now_s(self) -> float:
        return (self.clock.now - self.began).total_seconds()

    def request(self, call: int, command: str) -> Any:
        return self.desk.request(self.turn, f"toolu_{call}", input={"command": command, "description": "d"})

    async def ask(self, call: int, command: str, *, begin: bool) -> None:
        """Ask, and go on with the answer if there is one; a question that waits is left, as by a crash."""
        expected = self._expected(call, command)
        if expected is None:
            await self._leave_asked(call, command)
            return
        with trio.fail_after(20):
            answer = await self.desk.desk.ask(
                self.desk.log, self.turn, self.request(call, command), timeout_s=TIMEOUT_S
            )
        assert answer.allowed == expected
        if answer.allowed:
            assert answer.digest == self.request(call, command).digest
            if begin:
                await self.desk.log.append(
                    [Draft("tool.started", self.turn, {})], approvals=self.desk.desk.used(answer)
                )
                del self.model.said[call]

    async def _leave_asked(self, call: int, command: str) -> None:
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                request = self.request(call, command)
                await self.desk.desk.ask(self.desk.log, self.turn, request, timeout_s=TIMEOUT_S)
                raise AssertionError("nobody was asked")

            nursery.start_soon(ask)
            await self.desk.news.until(lambda: self._is_pending(call, command))
            nursery.cancel_scope.cancel()
        self.ids[call] = (await self._latest(call))["id"]
        self.model.said.pop(call, None)
        self.model.open.setdefault(call, (command, self.now_s() + TIMEOUT_S))

    def _expected(self, call: int, command: str) -> bool | None:
        """The answer that is there already; None if somebody has to be asked."""
        self._let_time_pass()
        asked = self.model.open.get(call)
        if asked is not None and asked[0] != command:
            del self.model.open[call]  # withdrawn
            return None
        said = self.model.said.get(call)
        return said[1] if asked is None and said is not None and said[0] == command else None

    def _let_time_pass(self) -> None:
        for call, (command, until_s) in list(self.model.open.items()):
            if until_s <= self.now_s():
                del self.model.open[call]
                self.model.said[call] = (command, False)

    async def decide(self, call: int, *, allow: bool) -> None:
        if call not in self.ids:
            return
        self._let_time_pass()
        kind = "allow" if allow else "deny"
        try:
            await self.desk.desk.decide(self.ids[call], Approver(7), {"decision": kind})
        except Refused as refused:
            code = refused.code
        else:
            code = ""
        asked = self.model.open.pop(call, None)
        assert code == ("" if asked is not None else "conflict")
        if asked is not None:
            self.model.said[call] = (asked[0], allow)

    async def end(self) -> None:
        await self.desk.log.append([Draft("turn.interrupted", self.turn, {})])
        self.turn = await self.desk.begin()
        self.model = Model()

    async def check(self) -> None:
        self._let_time_pass()
        pending = {(item["call"], item["command"]) for item in await self.desk.pending()}
        assert pending == {(f"toolu_{call}", command) for call, (command, _) in self.model.open.items()}

    async def _is_pending(self, call: int, command: str) -> bool:
        mine = [item for item in await self.desk.pending() if item["call"] == f"toolu_{call}"]
        return [item["command"] for item in mine] == [command]

    async def _latest(self, call: int) -> dict[str, Any]:
        return next(item for item in await self.desk.pending() if item["call"] == f"toolu_{call}")


async def act(folder: Path, story: Sequence[Sequence[Step]]) -> None:
    play = Play(folder)
    await play.open()
    play.turn = await play.desk.begin()
    async with play.stack:
        for what, which, command in (step for scene in story for step in scene):
            match what:
                case "ask" | "run":
                    await play.ask(which, command, begin=what == "run")
                case "allow" | "deny":
                    await play.decide(which, allow=what == "allow")
                case "time":
                    play.clock.pass_s(which)
                case "crash":
                    await play.crash()
                case _:
                    await play.end()
            if what != "time":  # to look would resolve what is overdue
                await play.check()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=STORIES)
def test_nothing_runs_but_what_was_allowed_in_time_and_each_answer_once(
    tmp_path_factory: pytest.TempPathFactory, story: Sequence[Sequence[Step]]
) -> None:
    run(act, tmp_path_factory.mktemp("desk"), story)


@pytest.mark.deep
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=STORIES)
def test_nothing_runs_but_what_was_allowed_in_many_more_stories(
    tmp_path_factory: pytest.TempPathFactory, story: Sequence[Sequence[Step]]
) -> None:
    run(act, tmp_path_factory.mktemp("desk"), story)
