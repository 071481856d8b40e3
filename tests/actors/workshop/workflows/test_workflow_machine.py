"""Workflows under hypothesis: any stages, answers in any order, restarts, a kill while a message is sent, cancels.

The runs live in a trio program of their own, over a journal that each restart opens again; the agents outlive it, as
sessions do. A turn ends when the machine says so.
"""

from __future__ import annotations

import math
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from skill_actors.errors import Refused
from skill_actors.workshop.agents.asking import Message, Sent
from skill_actors.workshop.workflows.definition import Stage, read_workflow
from skill_actors.workshop.workflows.run import Run
from skill_actors.workshop.workflows.runner import _advanced
from skill_actors.workshop.workflows.steps import MAX_CUTS
from workflow_kit import OWNER, ScriptedAgents, WorkflowKit, broke, open_workflows, said

T = TypeVar("T")

NAMES = ("s0", "s1", "s2", "s3", "s4")
SEND_S = 11.0  # longer than the runner waits for a message to be taken, which nothing can cut short
SETTLED_S = 30.0
CALL_S = 60.0  # of real time, for all that is done at once: what hangs fails
ASKED = re.compile(r"<(do|judge) (\w+) (run_\w+)>")


@dataclass
class HeldAgents(ScriptedAgents):
    """Turns stay open until `end` or a cancel; `asked` says what each is for: (do or judge, stage, run)."""

    asked: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    stuck: bool = False  # the next message is taken, and nobody hears of it
    seen: Callable[[str, str, str, Message], None] = field(default=lambda what, stage, run, message: None)
    _news: trio.Event | None = None

    async def cast(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Sent:
        sent = await super().cast(owner_uid, name, text, key=key, timeout_s=timeout_s, options=options)
        if sent.turn not in self.asked:
            found = ASKED.search(text)
            assert found is not None
            what, stage, run = found.groups()
            self.asked[sent.turn] = (what, stage, run)
            self.seen(what, stage, run, self.turns[sent.turn][1])
        if self.stuck:
            await trio.sleep_forever()
        return sent

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]:
        while turn not in self.ended:
            if self._news is None:
                self._news = trio.Event()
            await self._news.wait()
        return self.ended[turn]

    async def cancel_turn(self, owner_uid: int, turn: str) -> None:
        await super().cancel_turn(owner_uid, turn)
        if turn not in self.ended:
            self.end(turn, broke("cancelled", "cancelled"))

    def end(self, turn: str, how: Mapping[str, Any]) -> None:
        self.ended[turn] = how
        news, self._news = self._news, None
        if news is not None:
            news.set()

    def open_turns(self) -> list[str]:
        return [turn for turn in self.turns if turn not in self.ended]


class Program:
    """A trio program in a thread: the runner of today over the journal in a folder."""

    def __init__(self) -> None:
        self.agents = HeldAgents()
        self._folder = tempfile.TemporaryDirectory()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        assert self._started.wait(20)

    def _main(self) -> None:
        self.clock = trio.testing.MockClock(rate=0.0, autojump_threshold=math.inf)
        trio.run(self._live, clock=self.clock)

    async def _live(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.ending = False
        while not self.ending:
            self._kill, self._up, self._down = trio.Event(), trio.Event(), trio.Event()
            async with open_workflows(Path(self._folder.name), self.agents) as self.kit:
                self._up.set()
                self._started.set()
                await self._kill.wait()
            self.agents.stuck = False  # before the next runner sends anything: no clock would end its waiting
            self._down.set()

    async def restart(self) -> None:
        """Kill the runner and close the journal, and open both again."""
        down = self._down
        self._kill.set()
        with trio.CancelScope() as jumping:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._jump_until, down)
                await down.wait()
                jumping.cancel()
        await self._until(lambda: self._up.is_set() and not self._kill.is_set())

    async def _jump_until(self, down: trio.Event) -> None:
        while not down.is_set():
            await real_time()
            if not down.is_set():  # else it would be the time of the next runner
                self.clock.jump(SEND_S)

    async def settle(self) -> None:
        """Wait until nothing goes on but turns. What does not come to rest is stuck."""
        await self._until(self._is_settled)

    async def _until(self, so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + SETTLED_S
        while not so():
            assert time.monotonic() < until_s, [run.to_json() for run in self.kit.runs.going_on()]
            await real_time()

    def _is_settled(self) -> bool:
        open_turns = set(self.agents.open_turns())
        taken = {self.agents.asked[turn][1:] for turn in open_turns} if self.agents.stuck else set()
        for run in self.kit.runs.going_on():
            if run.closing is not None or _advanced(run) is not None:
                return False
            for name, state in run.stages.items():
                turn = state.turn if state.answer is None else state.judging
                if state.status == "running" and turn not in open_turns and (name, run.id) not in taken:
                    return False
        return True

    def call(self, what: Callable[[], Awaitable[T]]) -> T:
        async def within_time() -> T:
            done = threading.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, done)
                try:
                    return await what()
                finally:
                    done.set()
            raise AssertionError("a nursery swallowed it")

        return trio.from_thread.run(within_time, trio_token=self._token)

    async def _watch(self, done: threading.Event) -> None:
        if not await trio.to_thread.run_sync(done.wait, CALL_S, abandon_on_cancel=True):
            raise AssertionError(f"not done within {CALL_S:g} s: {[run.to_json() for run in self.kit.runs.going_on()]}")

    def close(self) -> None:
        def end() -> None:
            self.ending = True
            self._kill.set()

        trio.from_thread.run_sync(end, trio_token=self._token)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._folder.cleanup()


async def real_time() -> None:
    """Let threads have a moment, which the program's own clock does not know of."""
    await trio.to_thread.run_sync(time.sleep, 0.001)


# -- what is performed ----------------------------------------------------------------------------------------------


@st.composite
def stages_of(draw: st.DrawFn, name: str, before: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "prompt": f"<do {name} {{run}}>"}
    made[draw(st.sampled_from(["agent", "profile"]))] = "worker"
    made["after"] = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
    if before and draw(st.integers(0, 3)) == 0:
        asked: dict[str, Any] = draw(
            st.sampled_from([{"is": "done"}, {"is": "failed"}, {"is": "skipped"}, {"contains": "good"}])
        )
        made["when"] = {"stage": draw(st.sampled_from(before)), **asked}
    if draw(st.booleans()):
        made["until"] = {"contains": "good", "rounds": draw(st.integers(1, 3))}
        if draw(st.booleans()):
            made["until"] |= {"judge": "judge", "prompt": f"<judge {name} {{run}}> {{result}}"}
    made["retries"] = draw(st.integers(0, 2))
    made["go_on"] = draw(st.booleans())
    if draw(st.integers(0, 3)) == 0:
        made["usd"] = 1.0
    return made


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    """A definition that can be performed; its stages stand in any order."""
    names = list(NAMES[: draw(st.integers(1, len(NAMES)))])
    made = [draw(stages_of(name, names[:number])) for number, name in enumerate(names)]
    whole = {"usd": 2.0} if draw(st.integers(0, 3)) == 0 else {}
    return {"stage": draw(st.permutations(made)), **whole}


OUTCOMES = st.sampled_from(["bad", "failed", "good", "good", "bad", "interrupted", "empty"])


def ending(how: str, cost_usd: float | None) -> Mapping[str, Any]:
    match how:
        case "good" | "bad":
            return said(f"a {how} answer", cost_usd)
        case "empty":
            return said(" ", cost_usd)
        case _:
            return broke(status=how)


class WorkflowMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.program = Program()
        self.agents = self.program.agents
        self.agents.seen = self.look_at_message
        self.runs: list[str] = []
        self.over: dict[str, Mapping[str, Any]] = {}
        self.turns_at_cancel: dict[str, int] = {}
        self.wrong: list[str] = []  # found inside the program, where an assertion would be an agent's fault

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.program.close()

    @property
    def kit(self) -> WorkflowKit:
        return self.program.kit

    # -- what is done ---------------------------------------------------------------------------------------------

    @initialize(definition=workflows())
    def first(self, definition: dict[str, Any]) -> None:
        self.begin(definition)

    @precondition(lambda self: len(self.runs) < 6 and len(self.agents.open_turns()) < 5)
    @rule(definition=workflows())
    def begin(self, definition: dict[str, Any]) -> None:
        async def begin() -> str:
            await self.kit.runs.define(OWNER, "flow", definition)
            run = await self.kit.runs.begin(OWNER, "flow", {})
            await self.program.settle()
            return run.id

        self.runs.append(self.program.call(begin))

    @precondition(lambda self: self.agents.open_turns())
    @rule(
        answers=st.lists(
            st.tuples(OUTCOMES, st.sampled_from([0.0, 0.3, 0.9, None]), st.integers(0, 9)), min_size=4, max_size=10
        )
    )
    def answer(self, answers: list[tuple[str, float | None, int]]) -> None:
        """Some turns end, one after the other."""
        for how, cost_usd, which in answers:
            turns = self.open_turns()
            if not turns:
                return
            turn = turns[which % len(turns)]
            budget = (self.agents.turns[turn][1].options or {}).get("budget", {}).get("usd")
            if budget is not None and cost_usd is not None:
                cost_usd = min(cost_usd, budget)  # the ledger's part, which is to keep a turn within it
            self.end(turn, ending(how, cost_usd))

    @precondition(lambda self: self.agents.open_turns())
    @rule(data=st.data())
    def cut_again_and_again(self, data: st.DataObject) -> None:
        """A stage that ends the daemon whenever it is performed is given up."""
        first = data.draw(st.sampled_from(self.open_turns()))
        _, name, id = self.agents.asked[first]
        for _ in range(MAX_CUTS + 1):
            cut = [turn for turn in self.open_turns() if self.agents.asked[turn][1:] == (name, id)]
            if cut:
                self.end(cut[0], ending("interrupted", 0.0))
        run = self.program.call(lambda: self.kit.runs.get(OWNER, id))
        assert run.stages[name].status == "failed"

    @rule()
    def restart(self) -> None:
        self.program.call(self.program.restart)
        self.program.call(self.program.settle)

    @precondition(lambda self: self.agents.open_turns())
    @rule(data=st.data())
    def killed_while_it_sends(self, data: st.DataObject) -> None:
        """What follows an answer is sent and taken, and the daemon ends before it has noted the turn."""
        turn = data.draw(st.sampled_from(self.open_turns()))
        self.agents.stuck = True
        self.end(turn, ending("good", 0.0))
        self.restart()

    @precondition(lambda self: len(self.agents.turns) > 5)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = self.runs[data.draw(st.integers(0, len(self.runs) - 1))]

        async def cancel() -> Run:
            ended = await self.kit.runner.cancel(OWNER, id)
            await self.program.settle()
            return ended

        assert self.program.call(cancel).status != "running"
        self.turns_at_cancel.setdefault(id, self.turns_of(id))

    @rule(name=st.sampled_from(NAMES))
    def workflow_changes(self, name: str) -> None:
        """A definition that is replaced changes no run."""
        other = {"stage": [{"name": name, "prompt": "<do x run_x>", "agent": "worker"}]}
        self.program.call(lambda: self.kit.runs.define(OWNER, "flow", other))

    def end(self, turn: str, how: Mapping[str, Any]) -> None:
        async def end() -> None:
            self.agents.end(turn, how)
            await self.program.settle()

        self.program.call(end)

    def open_turns(self) -> list[str]:
        """In an order that is the same whenever the same is done: tasks of a trio program take turns at random."""
        asked = self.agents.asked
        return sorted(self.agents.open_turns(), key=lambda turn: (self.runs.index(asked[turn][2]), asked[turn]))

    def turns_of(self, id: str) -> int:
        return sum(run == id for _, _, run in self.agents.asked.values())

    # -- what always holds ----------------------------------------------------------------------------------------

    def look_at_message(self, what: str, name: str, id: str, message: Message) -> None:
        """As it is taken: the stage's inputs are there, and nobody else is at it."""
        run = self.kit.runs.now(f"{OWNER}/{id}")
        if run is None or run.closing is not None:
            self.wrong.append(f"{id} is over, and {name} was asked")
            return
        stage = run.definition[name]
        self.wrong += [f"{name} before {other}" for other in stage.waits_for if not run.stages[other].is_over]
        at_it = [
            turn for turn in self.agents.open_turns() if self.agents.asked.get(turn, ("", "", ""))[1:] == (name, id)
        ]
        if len(at_it) > 1:
            self.wrong.append(f"{name} twice at once")
        if what == "do":
            results = [run.stages[other].result for other in stage.after]
            self.wrong += [f"{name} without a result" for result in results if result not in message.text]

    @invariant()
    def all_is_in_order(self) -> None:
        assert self.wrong == []
        for id in self.runs:
            run = self.program.call(lambda id=id: self.kit.runs.get(OWNER, id))  # type: ignore[misc]
            self.look_at_stages(run)
            if run.status == "running":
                assert any(state.status == "running" for state in run.stages.values())
            else:
                self.look_at_end(run)
        asked = Counter((stage, run) for _, stage, run in self.agents.asked.values())
        for (name, id), count in asked.items():
            stage = self.program.call(lambda id=id: self.kit.runs.get(OWNER, id)).definition[name]  # type: ignore[misc]
            assert count <= most_turns(stage)
        self.look_at_agents()

    def look_at_stages(self, run: Run) -> None:
        for stage in run.definition.stage:
            state = run.stages[stage.name]
            assert state.attempt <= stage.retries + 1
            assert state.round <= (1 if stage.until is None else stage.until.rounds)
            assert state.cuts <= MAX_CUTS
            if state.status != "waiting" and state.status != "cancelled":
                assert all(run.stages[other].is_over for other in stage.waits_for)
                assert (state.status == "skipped") is (not is_wanted(run, stage)), stage.name
            if state.status in ("failed", "skipped"):
                assert state.error
            if state.status == "done":
                assert state.result
            if stage.usd is not None and state.cost_usd is not None:
                assert state.cost_usd <= stage.usd + 1e-6
        if run.definition.usd is not None and run.cost_usd is not None:
            assert run.cost_usd <= run.definition.usd + 1e-6

    def look_at_end(self, run: Run) -> None:
        statuses = {name: state.status for name, state in run.stages.items()}
        assert all(state.is_over for state in run.stages.values())
        assert not (run.error or "").startswith("internal")
        broken = [name for name, status in statuses.items() if status == "failed" and not run.definition[name].go_on]
        if run.status == "completed":
            assert not broken
            assert "cancelled" not in statuses.values()
        elif run.status == "failed":
            assert broken
        assert self.over.setdefault(run.id, run.to_json()) == run.to_json()
        assert self.turns_at_cancel.get(run.id, self.turns_of(run.id)) == self.turns_of(run.id)
        if not self.agents.stuck:
            assert [turn for turn in self.agents.open_turns() if self.agents.asked[turn][2] == run.id] == []

    def look_at_agents(self) -> None:
        """Those that were made for a stage are there as long as it is under way."""
        going_on = self.kit.runs.going_on()
        under_way = sum(
            state.status == "running" and run.definition[name].profile is not None
            for run in going_on
            for name, state in run.stages.items()
        )
        assert len(self.agents.made) <= under_way

    def everything_ends(self) -> None:
        """Answered for long enough, every run comes to its end."""
        for _ in range(1_000):
            turns = self.agents.open_turns()
            if not turns:
                break
            self.end(turns[0], ending("good", 0.0))
            self.all_is_in_order()
        for id in self.runs:
            assert self.program.call(lambda id=id: self.kit.runs.get(OWNER, id)).status != "running"  # type: ignore[misc]


def is_wanted(run: Run, stage: Stage) -> bool:
    """Whether a stage whose inputs are over is performed."""
    asked = stage.when
    if asked is not None:
        other = run.stages[asked.stage]
        if other.status != (asked.ended or "done") or (asked.contains or "") not in other.result:
            return False
    return all(
        run.stages[name].status == "done"
        or (run.stages[name].status == "failed" and run.definition[name].go_on)
        or (asked is not None and asked.stage == name)
        for name in stage.after
    )


def most_turns(stage: Stage) -> int:
    rounds = 1 if stage.until is None else stage.until.rounds
    judged = 2 if stage.until is not None and stage.until.judge is not None else 1
    return (stage.retries + 1) * rounds * (MAX_CUTS + judged)


TestWorkflowMachine = WorkflowMachine.TestCase
TestWorkflowMachine.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink what fails takes minutes: the long one does it
)


@pytest.mark.deep
def test_workflows_over_long_histories() -> None:
    run_state_machine_as_test(
        WorkflowMachine,
        settings=settings(
            max_examples=500, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


# -- what is refused --------------------------------------------------------------------------------------------------


def can_be_performed(given: Mapping[str, Any]) -> bool:
    """By the words of the manual: names are there once, wait for what there is and not for each other, and a prompt
    speaks of what is waited for."""
    stages = {stage["name"]: stage for stage in given["stage"]}
    waits = {
        name: {*stage["after"], *([stage["when"]["stage"]] if "when" in stage else [])}
        for name, stage in stages.items()
    }
    if len(stages) < len(given["stage"]) or not all(others <= set(stages) for others in waits.values()):
        return False
    behind = {name: set(others) for name, others in waits.items()}
    for _ in stages:
        for others in behind.values():
            others |= {far for name in set(others) for far in behind[name]}
    if any(name in others for name, others in behind.items()):
        return False
    return all(
        place in behind[name] | {"run"}
        for name, stage in stages.items()
        for place in re.findall(r"{(\w+)}", stage["prompt"])
    )


@st.composite
def any_workflows(draw: st.DrawFn) -> dict[str, Any]:
    names = st.sampled_from(NAMES)
    stages = []
    for name in (
        draw(st.lists(names, min_size=1, max_size=5)) if draw(st.booleans()) else NAMES[: draw(st.integers(1, 5))]
    ):
        place = draw(st.sampled_from(["", "", "{run}"]) | names.map(lambda other: f"{{{other}}}"))
        stage: dict[str, Any] = {"name": name, "prompt": f"do {place}", "agent": "worker"}
        stage["after"] = draw(st.lists(names, max_size=2, unique=True))
        if draw(st.integers(0, 4)) == 0:
            stage["when"] = {"stage": draw(names), "is": "done"}
        stages.append(stage)
    return {"stage": stages}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_workflows() | workflows())
def test_what_cannot_be_performed_is_refused_and_nothing_else(definition: dict[str, Any]) -> None:
    if can_be_performed(definition):
        assert [stage.name for stage in read_workflow(definition).stage] == [
            each["name"] for each in definition["stage"]
        ]
        return
    with pytest.raises(Refused) as refused:
        read_workflow(definition)
    assert refused.value.code == "bad_request"
