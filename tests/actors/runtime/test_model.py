"""The supervisor against a reference model of OTP's rules, over random children, exits, commands and failing starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from skill_actors.runtime import (
    AutoShutdown,
    Backoff,
    ChildError,
    ChildSpec,
    Restart,
    StartFailed,
    Strategy,
    Supervisor,
    SupervisorRef,
    TrioActor,
    open_system,
)
from support import run_virtual

PERIOD_S = 5.0
BACKOFF = Backoff(initial_s=1, factor=2, max_s=4, reset_s=10)
ISOLATED = Backoff(initial_s=0.7, factor=2, max_s=2.9, reset_s=10)  # never due at the same moment as the other

Do = Literal["crash", "stop", "kill", "terminate", "restart", "delete", "add", "break"]


class Kind(NamedTuple):
    """What a child is."""

    restart: Restart
    isolated: bool = False
    significant: bool = False


class Step(NamedTuple):
    """After `delay_s`, do something with a child; `times` is how many of its next starts a "break" spoils."""

    delay_s: float
    do: Do
    name: str
    times: int


@dataclass
class Setting:
    """A supervisor and its first children."""

    strategy: Strategy
    limit: int
    backoff: Backoff | None
    auto_shutdown: AutoShutdown
    kinds: dict[str, Kind]


@dataclass
class Child:
    """A child as the model sees it: it runs, waits (`due`), or is stopped."""

    kind: Kind
    running: bool = False
    due: tuple[float, bool] | None = None  # when, and whether the budget has paid for it
    attempt: int = 0
    started_at: float | None = None


@dataclass
class Model:
    """OTP's rules, and ours for waits and isolated children, without tasks or messages."""

    setting: Setting
    children: dict[str, Child] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    alive: bool = True

    def start(self, name: str, now: float) -> bool:
        self.starts[name] = self.starts.get(name, 0) + 1
        child = self.children[name]
        child.due = None
        if self.broken.get(name, 0) > 0:
            self.broken[name] -= 1
            return False
        child.running, child.started_at = True, now
        return True

    def start_each(self, names: Sequence[str], now: float) -> None:
        for name in names:
            if self.children[name].running or self.start(name, now):
                continue
            if self.children[name].kind.isolated:
                self.wait(name, ISOLATED, now, counted=False)
            else:
                return self.restart(name, now)
        return None

    def wait(self, name: str, backoff: Backoff, now: float, *, counted: bool) -> None:
        child = self.children[name]
        if child.started_at is not None and now - child.started_at >= backoff.reset_s:
            child.attempt = 0
        child.started_at = None
        child.due = (now + backoff.delay_s(child.attempt), counted)
        child.attempt += 1

    def group(self, name: str) -> list[str]:
        names = list(self.children)
        match self.setting.strategy:
            case Strategy.ONE_FOR_ONE:
                return [name]
            case Strategy.ONE_FOR_ALL:
                return names
            case Strategy.REST_FOR_ONE:
                return names[names.index(name) :]

    def restart(self, name: str, now: float) -> None:
        self.times = [*(time for time in self.times if time >= now - PERIOD_S), now]
        if len(self.times) > self.setting.limit:
            self.alive = False
            return
        for other in self.group(name):
            self.children[other].running, self.children[other].due = False, None
            self.drop_temporary(other)
        if self.setting.backoff is None:
            self.start_each(self.group(name), now)
        else:
            self.wait(name, self.setting.backoff, now, counted=True)

    def drop_temporary(self, name: str) -> None:
        if self.children[name].kind.restart is Restart.TEMPORARY:
            del self.children[name]

    def exit(self, name: str, abnormal: bool, now: float) -> None:
        child = self.children[name]
        child.running = False
        kind = child.kind
        if kind.restart is Restart.PERMANENT or (kind.restart is Restart.TRANSIENT and abnormal):
            self.wait(name, ISOLATED, now, counted=False) if kind.isolated else self.restart(name, now)
            return
        self.drop_temporary(name)
        mode = self.setting.auto_shutdown
        if kind.significant and mode is not AutoShutdown.NEVER:
            rest = [other for other in self.children.values() if other.kind.significant]
            left = any(other.running or other.due is not None for other in rest)
            self.alive = mode is AutoShutdown.ALL_SIGNIFICANT and left

    def pass_time(self, now: float) -> None:
        """Do what falls due until `now`."""
        while self.alive:
            waiting = [(child.due, name) for name, child in self.children.items() if child.due is not None]
            if not waiting or min(waiting)[0][0] > now:
                return
            (time, counted), name = min(waiting)
            self.children[name].due = None
            if self.children[name].kind.isolated:
                self.start_each([name], time)
            elif counted:
                self.start_each(self.group(name), time)
            else:
                self.restart(name, time)

    def command(self, do: Do, name: str, now: float) -> type[Exception] | None:
        """Terminate, restart, delete or add; what is raised."""
        child = self.children.get(name)
        if do == "add":
            return self.add(name, now)
        if child is None or (do != "terminate" and (child.running or child.due is not None)):
            return ChildError
        if do == "terminate":
            self.terminate(name, child, now)
        elif do == "delete":
            del self.children[name]
        elif not self.start(name, now):
            return StartFailed
        return None

    def add(self, name: str, now: float) -> type[Exception] | None:
        if name in self.children:
            return ChildError
        self.children[name] = Child(ADDED)
        if self.start(name, now):
            return None
        del self.children[name]
        return StartFailed

    def terminate(self, name: str, child: Child, now: float) -> None:
        held_up = child.due is not None and not child.kind.isolated
        child.running, child.due = False, None
        if held_up:
            self.start_each([other for other in self.group(name) if other != name], now)
        self.drop_temporary(name)

    def shown(self) -> list[tuple[str, str]]:
        def phase(child: Child) -> str:
            return "running" if child.running else "stopped" if child.due is None else "waiting"

        return [(name, phase(child)) for name, child in self.children.items()]


ADDED = Kind(Restart.TRANSIENT)


class Counted(TrioActor):
    """Counts its starts; spoils some of them."""

    def __init__(self, name: str, starts: dict[str, int], broken: dict[str, int]) -> None:
        super().__init__()
        self.name, self.starts, self.broken = name, starts, broken

    def on_start(self) -> None:
        self.starts[self.name] = self.starts.get(self.name, 0) + 1
        if self.broken.get(self.name, 0) > 0:
            self.broken[self.name] -= 1
            raise OSError("broken")

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            raise ValueError("crash")
        self.stop()


@dataclass
class Real:
    """The supervisor under test."""

    ref: SupervisorRef[Any]
    spec: Callable[[str, Kind], ChildSpec]
    broken: dict[str, int]

    def exit(self, do: Do, name: str) -> bool:
        """End a child by itself; whether it ran."""
        child = self.ref.child(name)
        if child is None:
            return False
        if do == "kill":
            child._cell.kill()
        else:
            child.tell(do)
        return True

    async def command(self, do: Do, name: str) -> type[Exception] | None:
        actions: Mapping[str, Callable[[], Any]] = {
            "terminate": lambda: self.ref.terminate_child(name),
            "restart": lambda: self.ref.restart_child(name),
            "delete": lambda: self.ref.delete_child(name),
            "add": lambda: self.ref.start_child(self.spec(name, ADDED)),
        }
        try:
            await actions[do]()
        except (ChildError, StartFailed) as error:
            return type(error)
        return None

    def shown(self) -> list[tuple[str, str]]:
        return [(info.id, info.phase) for info in self.ref.which_children()]


async def play(setting: Setting, steps: list[Step]) -> None:
    model = Model(setting, {name: Child(kind) for name, kind in setting.kinds.items()})
    starts: dict[str, int] = {}
    broken: dict[str, int] = {}

    def spec(name: str, kind: Kind) -> ChildSpec:
        factory = lambda: Counted(name, starts, broken)  # noqa: E731
        return ChildSpec(
            id=name,
            factory=factory,
            restart=kind.restart,
            isolated=kind.isolated,
            significant=kind.significant,
            backoff=ISOLATED,
        )

    def supervisor() -> Supervisor:
        return Supervisor(
            [spec(name, kind) for name, kind in setting.kinds.items()],
            strategy=setting.strategy,
            max_restarts=setting.limit,
            period_s=PERIOD_S,
            backoff=setting.backoff,
            auto_shutdown=setting.auto_shutdown,
        )

    async with open_system(
        [ChildSpec(id="inner", factory=supervisor, restart=Restart.TEMPORARY, name="inner")]
    ) as system:
        ref = system.directory.ref("inner")
        assert isinstance(ref, SupervisorRef)
        model.start_each(list(setting.kinds), trio.current_time())
        real = Real(ref, spec, broken)
        for number, step in enumerate(steps):
            await trio.sleep(step.delay_s + number / 1000)  # so that nothing falls due at the moment of a step
            await trio.testing.wait_all_tasks_blocked()
            model.pass_time(trio.current_time())
            if model.alive:
                await perform(step, model, real)
            assert ref.is_alive() is model.alive
            assert starts == model.starts
            if not model.alive:
                return
            assert real.shown() == model.shown()


async def perform(step: Step, model: Model, real: Real) -> None:
    """One step, in both."""
    now = trio.current_time()
    match step.do:
        case "break":
            real.broken[step.name] = model.broken[step.name] = step.times
        case "crash" | "stop" | "kill":
            if real.exit(step.do, step.name):
                await trio.testing.wait_all_tasks_blocked()
                model.exit(step.name, step.do != "stop", now)
        case _:
            assert await real.command(step.do, step.name) == model.command(step.do, step.name, now)
            await trio.testing.wait_all_tasks_blocked()


NAMES = "abcde"
STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.0, 0.5, 1.0, 2.5, 5.0, 6.0, 12.0]),
        st.sampled_from(["crash", "crash", "crash", "stop", "kill", "terminate", "restart", "delete", "add", "break"]),
        st.sampled_from(NAMES),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=16,
)
PLAIN = [Kind(restart) for restart in Restart] + [Kind(Restart.PERMANENT, isolated=True)]
SIGNIFICANT = [Kind(Restart.TRANSIENT, significant=True), Kind(Restart.TEMPORARY, significant=True)]


@st.composite
def settings_of_supervisors(draw: st.DrawFn) -> Setting:
    mode = draw(st.sampled_from(AutoShutdown))
    kinds = st.sampled_from(PLAIN if mode is AutoShutdown.NEVER else PLAIN + SIGNIFICANT + SIGNIFICANT)
    found = draw(st.lists(kinds, min_size=1, max_size=5))
    return Setting(
        draw(st.sampled_from(Strategy)),
        draw(st.integers(0, 4)),
        draw(st.sampled_from([None, BACKOFF])),
        mode,
        dict(zip(NAMES, found, strict=False)),
    )


@settings(max_examples=1_500, deadline=None)
@given(settings_of_supervisors(), STEPS)
def test_the_supervisor_agrees_with_otp(setting: Setting, steps: list[Step]) -> None:
    run_virtual(play, setting, steps)


@pytest.mark.deep
@settings(max_examples=10_000, deadline=None)
@given(settings_of_supervisors(), STEPS)
def test_the_supervisor_agrees_with_otp_at_length(setting: Setting, steps: list[Step]) -> None:
    run_virtual(play, setting, steps)
