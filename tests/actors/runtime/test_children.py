"""The children of a supervisor: added, ended and looked at from outside, and those that end it with them."""

from __future__ import annotations

from dataclasses import replace

import pykka
import pytest
import trio

from runtime_kit import settle
from skill_actors.runtime import (
    AutoShutdown,
    Backoff,
    ChildError,
    ChildInfo,
    ChildSpec,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitKind,
    Restart,
    StartFailed,
    Strategy,
    Supervisor,
    TrioActor,
    open_system,
)
from skill_actors.runtime.survey import Survey
from supervisor_kit import Leaf, Log, abc, alive, events, ids, leaf, tell, tree
from support import run_virtual


def test_children_are_added_terminated_restarted_and_deleted() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            ref = await inner.start_child(leaf("b", log))
            assert inner.child("b") is ref
            with pytest.raises(ChildError, match="has a child 'b' already"):
                await inner.start_child(leaf("b", log))
            with pytest.raises(ChildError, match="is running"):
                await inner.delete_child("b")
            await inner.terminate_child("b")
            await inner.terminate_child("b")
            assert inner.child("b") is None
            assert ids(inner) == ["a", "b"]
            assert await inner.restart_child("b") is not ref
            await inner.terminate_child("b")
            await inner.delete_child("b")
            for action in (inner.terminate_child, inner.restart_child, inner.delete_child):
                with pytest.raises(ChildError, match=r"no child 'b' \(it has: a\)"):
                    await action("b")
            assert inner.is_alive()
            assert events(system) == []

    run_virtual(main)


def test_a_name_is_unique_and_is_given_back() -> None:
    log: Log = []

    async def main() -> None:
        async with tree(leaf("a", log), log=log) as (system, inner):
            taken = ChildSpec(id="other", factory=lambda: Leaf("other", log), name="a")
            with pytest.raises(StartFailed, match="name 'a' is held"):
                await inner.start_child(taken)
            await inner.terminate_child("a")
            await inner.start_child(taken)
            assert system.directory.ref("a").child_id == "other"

    run_virtual(main)


def test_two_children_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="have the id 'a'"):
        Supervisor([leaf("a", []), leaf("a", [])])


def test_a_refusal_names_the_child_and_the_children_there_are() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), leaf("b", log), log=log) as (_, inner):
            assert inner.child("nobody") is None
            with pytest.raises(ChildError, match=r"^supervisor root/inner has no child 'c' \(it has: a, b\)$"):
                await inner.terminate_child("c")
            significant = leaf("c", log, Restart.TRANSIENT, significant=True)
            with pytest.raises(ChildError, match=r"^supervisor root/inner: child 'c' is significant, but"):
                await inner.start_child(significant)
            for id in "ab":
                await inner.terminate_child(id)
                await inner.delete_child(id)
            with pytest.raises(ChildError, match=r"\(it has: none\)$"):
                await inner.terminate_child("a")

    run_virtual(main)


def test_a_temporary_child_that_is_terminated_is_forgotten() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log), leaf("b", log, Restart.TEMPORARY), log=log) as (_, inner):
            await inner.terminate_child("b")
            assert ids(inner) == ["a"]

    run_virtual(main)


def test_who_asks_for_the_end_of_an_unkillable_child_is_told() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(leaf("a", log, shutdown_s=0.5), log=log) as (system, inner):
            tell(system, "a", "shield")
            await settle()
            with pytest.raises(ChildError, match=r"^child 'a' of root/inner ignores cancellation and could not be"):
                await inner.terminate_child("a")

    run_virtual(main)


def significant(name: str, log: Log, restart: Restart = Restart.TRANSIENT) -> ChildSpec:
    return leaf(name, log, restart, significant=True)


def end_of(message: str, auto: AutoShutdown, *names: str, backoff: Backoff | None = None) -> Log:
    """What the children log when those of `names` are told `message`, one after the other; a and c are significant."""
    log: Log = []
    specs = [significant("a", log), leaf("b", log, Restart.TRANSIENT), significant("c", log, Restart.TEMPORARY)]

    async def main() -> Log:
        inner = ChildSpec(
            id="inner",
            factory=lambda: Supervisor(specs, auto_shutdown=auto, backoff=backoff),
            restart=Restart.TRANSIENT,  # so that it stays down after SHUTDOWN
        )
        async with open_system([inner]) as system:
            log.clear()
            for name in names:
                tell(system, name, message)
                await settle()
            return [*log, system.root.which_children()[0].phase]

    return run_virtual(main)


def test_the_end_of_any_significant_child_ends_the_supervisor() -> None:
    assert end_of("stop", AutoShutdown.ANY_SIGNIFICANT, "a") == ["-a", "-c", "-b", "stopped"]
    assert end_of("stop", AutoShutdown.ANY_SIGNIFICANT, "c") == ["-c", "-b", "-a", "stopped"]
    assert end_of("stop", AutoShutdown.ANY_SIGNIFICANT, "b") == ["-b", "running"]


def test_the_end_of_the_last_significant_child_ends_the_supervisor() -> None:
    assert end_of("stop", AutoShutdown.ALL_SIGNIFICANT, "a") == ["-a", "running"]
    assert end_of("stop", AutoShutdown.ALL_SIGNIFICANT, "a", "b") == ["-a", "-b", "running"]
    assert end_of("stop", AutoShutdown.ALL_SIGNIFICANT, "a", "c") == ["-a", "-c", "-b", "stopped"]


def test_a_significant_child_that_is_restarted_has_not_ended() -> None:
    assert end_of("crash", AutoShutdown.ANY_SIGNIFICANT, "a") == ["-a", "+a", "running"]
    # c ends for good while a waits for its restart, which still counts as there
    assert end_of("crash", AutoShutdown.ALL_SIGNIFICANT, "a", "c", backoff=Backoff(initial_s=5)) == [
        *("-a", "-c"),
        "running",
    ]


def test_a_supervisor_may_watch_others() -> None:
    seen: list[ExitKind] = []

    class Watching(Supervisor):
        def on_down(self, down: Down) -> None:
            seen.append(down.reason.kind)

        async def setup(self) -> None:
            await super().setup()
            self.monitor(self.directory.ref("a"))

    async def main() -> None:
        watching = ChildSpec(id="watching", factory=Watching)
        async with open_system([leaf("a", []), watching]) as system:
            await system.root.terminate_child("a")
            await settle()
            assert seen == [ExitKind.SHUTDOWN]

    run_virtual(main)


def test_pykkas_registry_and_the_directory_know_a_child_while_it_lives() -> None:
    async def main() -> None:
        nameless = ChildSpec(id="nameless", factory=TrioActor, restart=Restart.TRANSIENT)
        async with tree(leaf("a", [], Restart.TRANSIENT), nameless, log=[]) as (system, inner):
            refs = [inner.child("a"), inner.child("nameless")]
            assert set(system.directory.names()) == {"inner", "a"}
            for ref in refs:
                assert ref is not None
                assert pykka.ActorRegistry.get_by_urn(ref.actor_urn) is ref
                await ref.stop(block=False)
            await settle()
            assert set(system.directory.names()) == {"inner"}
            assert [pykka.ActorRegistry.get_by_urn(ref.actor_urn) for ref in refs if ref is not None] == [None, None]

    run_virtual(main)


def test_a_look_at_the_children_shows_each_as_it_is() -> None:
    async def main() -> None:
        log: Log = []
        specs = [
            leaf("a", log, isolated=True, backoff=Backoff(initial_s=1)),
            leaf("b", log, Restart.TRANSIENT),
            leaf("c", log, isolated=True, backoff=Backoff(initial_s=50, max_s=50)),
        ]
        async with tree(*specs, log=log) as (system, inner):
            for _ in range(2):
                tell(system, "a", "crash")
                await trio.sleep(10)
            tell(system, "b", "stop")
            tell(system, "c", "crash")
            await settle()
            shown = [replace(child, ref=None, oldest_message_s=0.0) for child in inner.which_children()]

        def info(id: str, phase: str, restart: Restart, *, restarts: int = 0, isolated: bool = False) -> ChildInfo:
            return ChildInfo(
                id=id,
                template=id,
                path=f"root/inner/{id}",
                actor_class="Leaf",
                phase=phase,
                restarts=restarts,
                mailbox_depth=0,
                restart=restart.value,
                isolated=isolated,
            )

        assert shown == [
            info("a", "running", Restart.PERMANENT, restarts=2, isolated=True),
            info("b", "stopped", Restart.TRANSIENT),
            info("c", "waiting", Restart.PERMANENT, isolated=True),
        ]

    run_virtual(main)


def test_ending_one_child_for_good_does_not_start_another_that_was_ended_so() -> None:
    async def main() -> None:
        log: Log = []
        async with tree(*abc(log), log=log, strategy=Strategy.ONE_FOR_ALL) as (_, inner):
            await inner.terminate_child("c")
            await inner.terminate_child("b")
            assert alive(inner) == ["a"]

    run_virtual(main)


def test_reports_name_the_supervisor_by_its_path() -> None:
    async def main() -> None:
        async with tree(leaf("a", []), log=[]) as (system, _):
            tell(system, "a", "crash")
            await settle()
            assert {(one.supervisor, one.child) for one in system.reports.recent()} == {("root/inner", "a")}

    run_virtual(main)


def test_a_child_that_could_never_be_made_has_no_class_yet() -> None:
    def broken() -> TrioActor:
        raise OSError("cannot be made")

    async def main() -> None:
        spec = ChildSpec(id="a", factory=broken, isolated=True)
        async with open_system([spec]) as system:
            (child,) = system.root.which_children()
            assert (child.phase, child.actor_class) == ("waiting", "")

    run_virtual(main)


def test_a_look_with_a_survey_shows_only_what_it_chooses_at_any_depth() -> None:
    async def main() -> None:
        rooms = ChildSpec(id="rooms", factory=lambda: DynamicSupervisor("room"), name="rooms")
        async with tree(rooms, log=[]) as (system, inner):
            dynamic = system.directory.ref("rooms")
            assert isinstance(dynamic, DynamicSupervisorRef)
            for number in range(5):
                await dynamic.spawn(TrioActor, id=str(number))
            shown = system.tree(Survey(most=2))
            assert shown.children is not None
            (inner_info,) = shown.children
            assert inner_info.children is not None
            (rooms_info,) = inner_info.children
            assert rooms_info.children is not None
            assert (len(rooms_info.children), rooms_info.children_total) == (2, 5)
            supervisor = inner._actor_weakref()
            assert supervisor is not None
            assert list(supervisor._refs()) == [dynamic]

    run_virtual(main)
