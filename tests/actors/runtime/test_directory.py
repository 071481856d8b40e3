"""Names of actors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio

from skill_actors.runtime import Ask, ChildSpec, Directory, NameNotRegistered, Timeout, TrioActor, open_system
from support import run_virtual


@dataclass(frozen=True, slots=True)
class Who(Ask[str]):
    pass


class Named(TrioActor):
    async def setup(self) -> None:
        await trio.sleep(1)

    def on_receive(self, message: Any) -> str:
        if message == "crash":
            raise ValueError("crash")
        return self.actor_urn


def spec() -> ChildSpec:
    return ChildSpec(id="n", factory=Named, name="n")


def test_a_named_ref_follows_the_name_over_a_restart() -> None:
    async def main() -> None:
        async with open_system([spec()]) as system:
            named = system.directory.named("n")
            first = await named.call(Who())
            named.tell("crash")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(NameNotRegistered, match="no living actor is named 'n'"):
                await named.call(Who())
            with pytest.raises(NameNotRegistered):
                named.tell("anything")
            assert await named.call(Who(), wait_s=5) != first
            await named.send("anything", wait_s=5)
            assert list(system.directory.names()) == ["n"]
        assert system.directory.whereis("n") is None

    run_virtual(main)


def test_waiting_for_a_name_is_bounded() -> None:
    async def main() -> None:
        directory = Directory()
        with pytest.raises(Timeout, match="nobody was named 'x' within 3 s"):
            await directory.wait("x", timeout=3)
        assert trio.current_time() == pytest.approx(3)

    run_virtual(main)


def test_a_held_name_is_refused_and_only_its_holder_gives_it_back() -> None:
    directory = Directory()
    one, two = Named(), Named()
    directory.register("n", one.actor_ref)
    directory.register("n", one.actor_ref)
    with pytest.raises(ValueError, match="name 'n' is held by Named"):
        directory.register("n", two.actor_ref)
    assert not directory.unregister("n", two.actor_ref)
    assert directory.ref("n") is one.actor_ref
    assert directory.unregister("n", one.actor_ref)
    with pytest.raises(NameNotRegistered, match="names: none"):
        directory.ref("n")
