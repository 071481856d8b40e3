"""Files of a conversation while its turns run: events in the commit of the call, quotas, several places."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.files.content import is_there
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.sessions.table import Viewer
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run


def bash(command: str) -> Reply:
    return Reply([ToolUse("bash_tool", {"command": command, "description": "d"})])


def results(events: list[Any]) -> list[str]:
    return [event.data["content"] for event in events if event.type == "tool.finished"]


async def listed(kit: Kit, session: str) -> list[str]:
    return [item["path"] for item in (await kit.manager.files.listing(session, ME))["items"]]


def test_changes_stand_behind_the_end_of_their_call(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(
            [bash("echo 1 > a; mkdir d; echo 2 > d/b"), bash("rm a; echo 3 > d/b"), Reply([Text("done")])]
        )
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "go")
            types = [type for type in await kit.types(session) if type.startswith(("file.", "tool.f"))]
            assert types == [
                "tool.finished",
                "file.created",
                "file.created",
                "tool.finished",
                "file.deleted",
                "file.changed",
            ]
            assert await listed(kit, session) == ["d/b"]

    run(main)


def test_a_conversation_that_has_only_talked_keeps_nothing_of_files_in_memory(tmp_path: Path) -> None:
    async def main() -> None:
        talk = Reply([Text("hello")])
        async with open_kit(tmp_path, ScriptedModel([talk, bash("echo 1 > a"), talk, talk])) as kit:
            session = await kit.session()
            live = await kit.manager._table.load(session, None)
            await kit.ask(session, "go")
            assert live.files is None
            await kit.ask(session, "go")
            files = live.files
            assert files is not None, "what was told of its files would have to be read again"
            await kit.ask(session, "go")
            assert live.files is files

    run(main)


def test_files_of_a_message_are_told_as_the_turns_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([Text("seen")])])) as kit:
            session = await kit.session()
            accepted = await kit.manager.submit(session, ME, "look", [("data.csv", b"1,2")])
            await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
            (event,) = [event for event in await kit.events(session) if event.type == "file.created"]
            assert (event.turn, event.data["name"], event.data["size"]) == (accepted.turn, "data.csv", 3)

    run(main)


def test_too_much_is_told_and_nothing_more_is_written_until_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        create = ToolUse("create_file", {"path": "b", "file_text": "x", "description": "d"})
        model = ScriptedModel(
            [
                bash("head -c 300000 /dev/zero > big"),
                Reply([create]),
                bash("rm big"),
                Reply([create]),
                Reply([Text("done")]),
            ]
        )
        defaults = SessionDefaults(workspace_bytes=200_000)
        async with open_kit(tmp_path, model, defaults=defaults) as kit:
            session = await kit.session()
            await kit.ask(session, "go")
            told = results(await kit.events(session))
            assert "the workspace now holds 293.0 KiB; 195.3 KiB are allowed" in told[0]
            assert told[1].startswith("Refused: the workspace holds")
            assert "workspace" not in told[2]
            assert "b: created" in told[3]
            assert await listed(kit, session) == ["b"]

    run(main)


def test_a_call_that_writes_too_much_is_ended_while_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel(
            [bash("while :; do head -c 100000 /dev/zero >> big; sleep 0.05; done"), Reply([Text("done")])]
        )
        defaults = SessionDefaults(workspace_bytes=400_000)
        async with open_kit(tmp_path, model, defaults=defaults) as kit:
            session = await kit.session()
            turn = await kit.ask(session, "go")
            assert turn["result"]["stop_reason"] == "end_turn"
            (told,) = results(await kit.events(session))
            assert "it wrote more than the workspace may hold" in told
            assert "are allowed" in told

    run(main)


def test_a_call_that_hides_what_it_writes_is_ended_and_nothing_more_is_written_until_it_is_seen(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        deep = "/".join(["d"] * 70)
        create = ToolUse("create_file", {"path": "b", "file_text": "x", "description": "d"})
        model = ScriptedModel(
            [
                bash(f"mkdir -p {deep}; echo 1 > {deep}/hidden; sleep 60"),
                Reply([create]),
                bash("rm -r d"),
                Reply([create]),
                Reply([Text("done")]),
            ]
        )
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "go")
            told = results(await kit.events(session))
            assert "or where nobody can look" in told[0]
            assert told[1].startswith("Refused: the workspace cannot be looked at as a whole")
            assert "b: created" in told[3]

    run(main)


def test_a_session_may_have_less_than_the_operator_allows_and_not_more(tmp_path: Path) -> None:
    async def main() -> None:
        defaults = SessionDefaults(workspace_bytes=1000)
        async with open_kit(tmp_path, ScriptedModel(), defaults=defaults) as kit:
            session = await kit.session(limits={"workspace_bytes": 500})
            page = await kit.manager.files.listing(session, ME)
            assert page["quota_bytes"] == 500
            with pytest.raises(Refused, match="more than the operator allows"):
                await kit.session(limits={"workspace_bytes": 1001})

    run(main)


def test_files_of_others_cannot_be_listed_read_written_or_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        other = Viewer(uid=2000)

        async def content() -> Any:
            yield b"x"

        async with open_kit(tmp_path, ScriptedModel()) as kit:
            session, files = await kit.session(), kit.manager.files
            await files.put(session, ME, "a", content())
            calls: list[Any] = [
                lambda: files.listing(session, other),
                lambda: files.open(session, other, "a"),
                lambda: files.put(session, other, "a", content()),
                lambda: files.delete(session, other, "a"),
                lambda: files.purge(session, other),
                lambda: files.fetch(session, other),
                lambda: files.fetch(session, ME, "ses_other"),
            ]
            for call in calls:
                with pytest.raises(Refused) as refused:
                    await call()
                assert refused.value.code in ("not_found", "forbidden")
            assert await listed(kit, session) == ["a"]

    run(main)


def test_a_fork_has_the_files_and_tells_of_none_of_them_again(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([bash("echo 1 > a"), Reply([Text("done")]), bash("echo 2 > b"), Reply([Text("done")])])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "go")
            fork = (await kit.manager.fork(session, ME))["id"]
            before = len(await kit.events(fork))
            await kit.ask(fork, "on")
            told = [event.data["name"] for event in (await kit.events(fork))[before:] if event.type.startswith("file.")]
            assert told == ["b"]
            assert await listed(kit, fork) == ["a", "b"]

    run(main)


def test_a_reset_with_its_files_forgets_them(tmp_path: Path) -> None:
    async def main() -> None:
        model = ScriptedModel([bash("echo 1 > a"), Reply([Text("done")]), bash("echo 1 > a"), Reply([Text("done")])])
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            await kit.ask(session, "go")
            await kit.manager.reset(session, ME, workspace=True)
            assert await listed(kit, session) == []
            await kit.ask(session, "again")
            told = [event.type for event in await kit.events(session) if event.type.startswith("file.")]
            assert told == ["file.created", "file.created"]

    run(main)


class Sent:
    """The body of an upload, sent as far as a test says."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes](0)

    async def piece(self, count: int) -> None:
        await self._send.send(b"x" * count)

    async def end(self) -> None:
        await self._send.aclose()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._receive.__aiter__()


def test_two_uploads_at_once_together_have_to_fit(tmp_path: Path) -> None:
    async def main() -> None:
        defaults = SessionDefaults(workspace_bytes=2_000_000)
        async with open_kit(tmp_path, ScriptedModel([]), defaults=defaults) as kit:
            session, codes = await kit.session(), []
            bodies = {"a": Sent(), "b": Sent()}

            async def put(name: str) -> None:
                try:
                    await kit.manager.files.put(session, ME, name, bodies[name])
                    codes.append("stored")
                except Refused as refused:
                    codes.append(refused.code)
                    for _ in range(5):  # what it is still sent
                        await anext(aiter(bodies[name]), None)

            async with trio.open_nursery() as nursery:
                for name in bodies:
                    nursery.start_soon(put, name)
                for _ in range(5):
                    for body in bodies.values():
                        await body.piece(300_000)
                for body in bodies.values():
                    await body.end()
            assert sorted(codes) == ["storage_full", "stored"]
            assert (await kit.manager.files.usage(session, ME))["used_bytes"] == 1_500_000

    run(main)


def test_an_upload_does_not_count_twice_because_somebody_looks_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        defaults = SessionDefaults(workspace_bytes=1_000_000)
        async with open_kit(tmp_path, ScriptedModel([]), defaults=defaults) as kit:
            session, body = await kit.session(), Sent()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.manager.files.put, session, ME, "a", body)
                for _ in range(3):
                    await body.piece(300_000)
                    await kit.manager.files.usage(session, ME)
                await body.end()
            assert await listed(kit, session) == ["a"]

    run(main)


def test_what_lies_behind_a_link_can_not_be_told_from_what_is_not_there(tmp_path: Path) -> None:
    async def main() -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "there").write_text("secret")
        async with open_kit(tmp_path, ScriptedModel([])) as kit:
            session = await kit.session()
            (tmp_path / "workspaces" / session).mkdir(parents=True)
            (tmp_path / "workspaces" / session / "link").symlink_to(outside)
            told = []
            for name in ("link/there", "link/none"):
                with pytest.raises(Refused) as caught:
                    await kit.manager.files.open(session, ME, name)
                told.append((caught.value.code, caught.value.message.replace(name, "")))
            assert told[0] == told[1]
            assert not is_there(tmp_path / "workspaces" / session, "link/there")

    run(main)
