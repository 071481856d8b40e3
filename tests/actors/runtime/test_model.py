"""The supervisor against a reference model of OTP's rules, over random children and crashes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_actors.runtime import ChildSpec, Restart, Strategy, Supervisor, SupervisorRef, TrioActor, open_system
from support import run_virtual

PERIOD_S = 5.0


@dataclass
class Model:
    """OTP in twenty lines: who is listed, who runs, how often each was started, whether the supervisor lives."""

    strategy: Strategy
    limit: int
    kinds: dict[str, Restart]
    running: dict[str, bool] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    alive: bool = True

    def __post_init__(self) -> None:
        for name in self.kinds:
            self.running[name], self.starts[name] = True, 1

    def exit(self, name: str, abnormal: bool, now: float) -> None:
        if not self.alive or not self.running.get(name):
            return
        self.running[name] = False
        kind = self.kinds[name]
        if kind is Restart.TEMPORARY:
            del self.running[name]
        if kind is Restart.TEMPORARY or (kind is Restart.TRANSIENT and not abnormal):
            return
        self.times = [*(time for time in self.times if time >= now - PERIOD_S), now]
        if len(self.times) > self.limit:
            self.alive = False
            return
        names = list(self.running)
        if self.strategy is Strategy.ONE_FOR_ONE:
            names = [name]
        elif self.strategy is Strategy.REST_FOR_ONE:
            names = names[names.index(name) :]
        for other in names:
            if self.kinds[other] is Restart.TEMPORARY:
                del self.running[other]
            else:
                self.running[other] = True
                self.starts[other] += 1


class Counted(TrioActor):
    def __init__(self, name: str, starts: dict[str, int]) -> None:
        super().__init__()
        self.name, self.starts = name, starts

    def on_start(self) -> None:
        self.starts[self.name] = self.starts.get(self.name, 0) + 1

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("crash")
        self.stop()


async def play(
    strategy: Strategy, limit: int, kinds: dict[str, Restart], schedule: list[tuple[float, str, bool]]
) -> None:
    model = Model(strategy, limit, kinds)
    starts: dict[str, int] = {}

    def factory(name: str) -> Any:
        return lambda: Counted(name, starts)

    specs = [ChildSpec(id=name, factory=factory(name), restart=kind) for name, kind in kinds.items()]
    inner = ChildSpec(
        id="inner",
        factory=lambda: Supervisor(specs, strategy=strategy, max_restarts=limit, period_s=PERIOD_S),
        restart=Restart.TEMPORARY,
        name="inner",
    )
    async with open_system([inner]) as system:
        ref = system.directory.ref("inner")
        assert isinstance(ref, SupervisorRef)
        for delay_s, name, abnormal in schedule:
            await trio.sleep(delay_s)
            child = ref.child(name)
            if child is not None:
                child.tell("crash" if abnormal else "stop")
                await trio.testing.wait_all_tasks_blocked()
            model.exit(name, abnormal, trio.current_time())
            assert ref.is_alive() is model.alive
            assert starts == model.starts
            if not model.alive:
                return
            listed = {info.id: info.phase == "running" for info in ref.which_children()}
            assert list(listed.items()) == list(model.running.items())


names = st.sampled_from("abcde")
schedules = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.5, 5.0, 6.0]), names, st.booleans()), min_size=1, max_size=12
)
children = st.lists(st.sampled_from(Restart), min_size=1, max_size=5).map(
    lambda kinds: dict(zip("abcde", kinds, strict=False))
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(Strategy), st.integers(0, 4), children, schedules)
def test_the_supervisor_agrees_with_otp(
    strategy: Strategy, limit: int, kinds: dict[str, Restart], schedule: list[tuple[float, str, bool]]
) -> None:
    run_virtual(play, strategy, limit, kinds, schedule)


@pytest.mark.deep
@settings(max_examples=5_000, deadline=None)
@given(st.sampled_from(Strategy), st.integers(0, 4), children, schedules)
def test_the_supervisor_agrees_with_otp_at_length(
    strategy: Strategy, limit: int, kinds: dict[str, Restart], schedule: list[tuple[float, str, bool]]
) -> None:
    run_virtual(play, strategy, limit, kinds, schedule)
