"""Options of a session's backends: checked when it is made, copied or read in, and when its workspace opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from loop_kit import MemoryExecutor
from session_kit import ME, Kit, open_kit
from skill_actors.backends import OptionRefused, WorkspaceSpec
from skill_actors.errors import Refused
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run


class Rooms(MemoryExecutor):
    """Takes one option, `rooms`, up to what the operator permits; `opened` has what it was opened with."""

    name = "rooms"

    def __init__(self) -> None:
        super().__init__()
        self.most = 10
        self.opened: list[Mapping[str, Any]] = []

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, value in options.items():
            if name != "rooms":
                raise OptionRefused("rooms", name, value, "there is only rooms")
            if int(value) > self.most:
                raise OptionRefused("rooms", name, value, f"the operator permits {self.most} (rooms.most)")
        return {name: int(value) for name, value in options.items()}

    async def open(self, spec: WorkspaceSpec) -> MemoryExecutor:
        self.opened.append(spec.options)
        return await super().open(spec)


def model() -> ScriptedModel:
    return ScriptedModel([Reply([ToolUse("bash_tool", {"command": "x"})]), Reply([Text("done")])] * 3)


def chosen(value: Any = "7", option: str = "rooms") -> list[Any]:
    return [{"backend": "rooms", "options": {option: value}}]


async def export(kit: Kit, session: str) -> bytes:
    async with kit.manager.export(session, ME) as lines:
        return b"".join([f"{line}\n".encode() async for line in lines])


def test_options_are_written_in_one_way_shown_and_reach_the_workspace(tmp_path: Path) -> None:
    rooms = Rooms()

    async def main() -> None:
        async with open_kit(tmp_path, model(), executors=lambda local: {"local": local, "rooms": rooms}) as kit:
            session = await kit.session(backends=chosen())
            assert (await kit.manager.get(session, ME))["backends"] == chosen(7)
            assert (await kit.ask(session, "go"))["status"] == "finished"
            assert rooms.opened == [{"rooms": 7}]

    run(main)


@pytest.mark.parametrize(
    ("backends", "says"),
    [
        (chosen(11), r"option rooms is 11, but the operator permits 10 \(rooms.most\)"),
        (chosen(1, "doors"), "option doors is 1, but there is only rooms"),
        (
            [{"backend": "local", "options": {"cpus": 2}}],
            "local backend's option cpus is 2, but this backend takes no",
        ),
    ],
)
def test_what_is_not_permitted_is_refused_before_anything_is_stored(
    tmp_path: Path, backends: list[Any], says: str
) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, model(), executors=lambda local: {"local": local, "rooms": Rooms()}) as kit:
            with pytest.raises(Refused, match=says) as caught:
                await kit.session(backends=backends)
            assert caught.value.code == "bad_request"
            assert caught.value.details == {"option": next(iter(backends[0]["options"]))}
            assert (await kit.manager.list(ME))["items"] == []

    run(main)


def test_a_fork_and_an_import_have_the_same_options_and_are_checked_again(tmp_path: Path) -> None:
    rooms = Rooms()

    async def main() -> None:
        async with open_kit(tmp_path, model(), executors=lambda local: {"local": local, "rooms": rooms}) as kit:
            session = await kit.session(backends=chosen())
            await kit.ask(session, "go")
            raw = await export(kit, session)
            forked = await kit.manager.fork(session, ME)
            imported = await kit.manager.import_session(ME.uid, raw)
            assert forked["backends"] == imported["backends"] == chosen(7)
            rooms.most = 5
            with pytest.raises(Refused, match=r"not permitted any more: .*the operator permits 5") as caught:
                await kit.manager.fork(session, ME)
            assert caught.value.code == "backend_unavailable"
            with pytest.raises(Refused, match="the operator permits 5"):
                await kit.manager.import_session(ME.uid, raw)
            assert len((await kit.manager.list(ME))["items"]) == 3

    run(main)


def test_where_a_limit_was_lowered_the_turn_fails_and_says_which(tmp_path: Path) -> None:
    """Nothing is cut down in silence, and the session is there for the day when the limit is raised again."""
    rooms = Rooms()

    async def main() -> None:
        async with open_kit(tmp_path, model(), executors=lambda local: {"local": local, "rooms": rooms}) as kit:
            session = await kit.session(backends=chosen())
            rooms.most = 5
            turn = await kit.ask(session, "go")
            assert rooms.opened == []
            assert turn["status"] == "failed"
            assert turn["result"]["error"]["code"] == "backend_unavailable"
            assert "option rooms is 7, but the operator permits 5 (rooms.most)" in turn["result"]["error"]["message"]
            rooms.most = 10
            assert (await kit.ask(session, "again"))["status"] == "finished"

    run(main)


def test_a_session_that_was_stored_with_names_still_loads(tmp_path: Path) -> None:
    rooms = Rooms()

    async def main() -> None:
        async with open_kit(tmp_path, model(), executors=lambda local: {"local": local, "rooms": rooms}) as kit:
            session = await kit.session(backends=["rooms"])
            record = await kit.journal.get_session(session)
            assert record is not None
            assert record.settings["backends"] == ["rooms"]
            await kit.ask(session, "go")
            assert rooms.opened == [{}]

    run(main)
