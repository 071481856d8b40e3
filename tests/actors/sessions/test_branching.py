"""Forks, resets, exports and imports: what a conversation made from another one has, and what it does not share."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.sessions.events import Event
from skill_actors.sessions.notes import FORKED, IMPORTED
from skill_actors.sessions.table import Viewer
from skill_actors.sessions.uploads import remove_workspace
from skill_actors.store import StorageFull
from skill_actors.store.base import SessionMissing, SessionRecord
from skill_actors.testing import Reply, ScriptedModel, Text, ToolUse
from support import run


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


def refused(code: str, says: str = "") -> Any:
    return pytest.raises(Refused, match=f"(?s).*{re.escape(says)}", check=lambda error: error.code == code)


def echo() -> ScriptedModel:
    """Answers with how many user messages it was shown."""
    return ScriptedModel(respond=lambda body: Reply([Text(f"seen {_said(body['messages'])}")]))


def _said(messages: list[dict[str, Any]]) -> list[str]:
    blocks = [block for m in messages if m["role"] == "user" for block in m["content"] if block["type"] == "text"]
    return [block["text"] for block in blocks if not block["text"].startswith("[")]


async def export(kit: Kit, session: str, viewer: Viewer = ME) -> bytes:
    async with kit.manager.export(session, viewer) as lines:
        return b"".join([f"{line}\n".encode() async for line in lines])


def bare(events: list[Event]) -> list[tuple[Any, ...]]:
    """What is the same in a copy: everything but the ids of session and turns."""
    turns: dict[str | None, int] = {None: 0}
    return [(e.seq, e.type, e.time, turns.setdefault(e.turn, len(turns)), e.data) for e in events]


def test_a_fork_goes_on_from_a_copy_and_leaves_the_original_as_it_is(tmp_path: Path) -> None:
    model = echo()

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            source = await kit.session(title="talk", labels={"team": "a"}, system="be brief")
            await kit.ask(source, "one")
            before = await kit.events(source)
            made = await kit.manager.fork(source, ME)
            fork = made["id"]
            assert made["title"] == "talk (fork)"
            assert made["labels"] == {"team": "a"}
            assert made["forked_from"] == {"session": source, "seq": before[-1].seq}
            assert (made["turns"], made["cost_usd"]) == (0, 0.0)
            copied = await kit.events(fork)
            assert bare(copied[:-1]) == bare(before)
            assert copied[-1].type == "session.forked"
            assert not {e.turn for e in copied} & {e.turn for e in before if e.turn}
            assert (await kit.ask(fork, "two"))["result"]["text"] == "seen ['one', 'two']"
            assert FORKED in str(model.requests[-1].messages)
            assert model.requests[-1].system.startswith("be brief")
            assert (await kit.ask(source, "three"))["result"]["text"] == "seen ['one', 'three']"
            assert bare(await kit.events(source))[: len(before)] == bare(before)

    run(main)


@pytest.mark.parametrize("place", range(9))
def test_a_fork_at_any_event_has_the_turns_that_had_ended_by_then(tmp_path: Path, place: int) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            await kit.ask(source, "two")
            events = await kit.events(source)
            after = events[-1].seq * place // 8
            ended = [e.seq for e in events if e.type == "turn.finished" and e.seq <= after]
            made = await kit.manager.fork(source, ME, after=after)
            assert made["forked_from"]["seq"] == (ended[-1] if ended else 0)
            assert len(await kit.events(made["id"])) == made["last_seq"] == (ended[-1] if ended else 0) + 1
            seen = ["one", "two"][: len(ended)]
            assert (await kit.ask(made["id"], "x"))["result"]["text"] == f"seen {[*seen, 'x']}"

    run(main)


def test_a_fork_while_a_turn_runs_and_others_wait_has_none_of_them(tmp_path: Path) -> None:
    go = trio.Event()
    model = ScriptedModel([Reply([Text("a")]), Reply([Text("b")], holds={0: go})], respond=lambda _: Reply([Text("c")]))

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            running = await kit.manager.submit(source, ME, "two")
            waiting = await kit.manager.submit(source, ME, "three")
            while model.running == 0:  # noqa: ASYNC110
                await trio.sleep(0.01)
            fork = (await kit.manager.fork(source, ME))["id"]
            asked = [e.data["text"] for e in await kit.events(fork) if e.type == "turn.queued"]
            assert asked == ["one"]
            assert (await kit.manager.get(fork, ME))["status"] == "idle"
            go.set()
            for accepted in (running, waiting):
                assert (await kit.manager.get_turn(accepted.turn, ME, wait_s=10))["status"] == "finished"
            assert [e.data["text"] for e in await kit.events(fork) if e.type == "turn.queued"] == ["one"]

    run(main)


def test_files_are_copied_and_not_shared(tmp_path: Path) -> None:
    make = bash("mkdir d; echo 1 > d/a; ln -s d/a link; ln -s /etc/passwd out; chmod 750 d; chmod 700 d/a")
    model = ScriptedModel([Reply([make]), Reply([Text("made")]), Reply([bash("cat d/a; echo 2 > d/a; cat link")]),
                           Reply([Text("done")])])  # fmt: skip

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            source = await kit.session()
            await kit.ask(source, "go")
            fork = (await kit.manager.fork(source, ME))["id"]
            await kit.ask(fork, "go on")
            (printed,) = [e.data["content"] for e in await kit.events(fork) if e.type == "tool.finished"][1:]
            assert printed.split()[:2] == ["1", "2"]
            old, new = (tmp_path / "workspaces" / each for each in (source, fork))
            assert (old / "d/a").read_text() == "1\n"
            assert (new / "d/a").stat().st_mode & 0o777 == 0o700
            assert (new / "d").stat().st_mode & 0o777 == 0o750
            assert (os.readlink(new / "link"), os.readlink(new / "out")) == ("d/a", "/etc/passwd")
            await kit.manager.delete(source, ME)
            assert (new / "d/a").read_text() == "2\n"
            assert not old.exists()

    run(main)


def test_a_fork_belongs_to_the_owner_of_the_original_and_others_cannot_make_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            with refused("not_found"):
                await kit.manager.fork(source, Viewer(uid=2))
            with refused("not_found"):
                await export(kit, source, Viewer(uid=2))
            with refused("not_found"):
                await kit.manager.reset(source, Viewer(uid=2))
            made = await kit.manager.fork(source, Viewer(uid=0, admin=True))
            assert made["owner_uid"] == ME.uid

    run(main)


def test_forks_under_one_key_are_one_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("echo 1 > f")]), Reply([Text("x")])])) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            made: list[str] = []

            async def one() -> None:
                made.append((await kit.manager.fork(source, ME, idempotency_key="k"))["id"])

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(one)
            assert len(set(made)) == 1
            assert (tmp_path / "workspaces" / made[0] / "f").read_text() == "1\n"
            with refused("idempotency_conflict"):
                await kit.manager.fork(source, ME, after=0, idempotency_key="k")
            assert len((await kit.manager.list(ME))["items"]) == 2

    run(main)


@pytest.mark.parametrize("after", [-1, 10_000])
def test_a_fork_at_an_event_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path, after: int) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            source = await kit.session()
            with refused("bad_request", "is not an event"):
                await kit.manager.fork(source, ME, after=after)
            with refused("not_found"):
                await kit.manager.fork(new_id("ses"), ME)
            assert len((await kit.manager.list(ME))["items"]) == 1

    run(main)


def test_a_fork_that_a_full_disk_refuses_leaves_no_files(tmp_path: Path) -> None:
    full = False

    class Disk:
        def __init__(self, journal: Any) -> None:
            self._journal = journal

        def __getattr__(self, name: str) -> Any:
            return getattr(self._journal, name)

        async def create_session(self, record: Any, **rest: Any) -> None:
            if full:
                raise StorageFull("no room")
            await self._journal.create_session(record, **rest)

    async def main() -> None:
        nonlocal full
        model = ScriptedModel([Reply([bash("echo 1 > f")]), Reply([Text("x")])])
        async with open_kit(tmp_path, model, wrap=Disk) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            full = True
            with refused("storage_full"):
                await kit.manager.fork(source, ME)
            assert [each.name for each in (tmp_path / "workspaces").iterdir()] == [source]

    run(main)


def test_what_a_crash_in_mid_fork_left_is_swept_at_the_next_start_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("echo 1 > f")]), Reply([Text("x")])])) as kit:
            session = await kit.session()
            await kit.ask(session, "one")
            root = tmp_path / "workspaces"
            (root / new_id("ses") / "d").mkdir(parents=True)
            (root / "notes").mkdir()
            await kit.manager.sweep_workspaces(await kit.manager.workspaces())
            assert sorted(each.name for each in root.iterdir()) == sorted(["notes", session])

    run(main)


def test_a_reset_begins_anew_and_keeps_what_happened(tmp_path: Path) -> None:
    model = echo()

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session(title="talk")
            await kit.ask(session, "one")
            shown = await kit.manager.reset(session, ME)
            assert (shown["id"], shown["title"], shown["turns"]) == (session, "talk", 1)
            assert (await kit.ask(session, "two"))["result"]["text"] == "seen ['two']"
            assert len(model.requests[-1].messages) == 1
            asked = [e.data["text"] for e in await kit.events(session) if e.type == "turn.queued"]
            assert asked == ["one", "two"]
        async with open_kit(tmp_path, model) as kit:  # also for those who read it from the store
            assert (await kit.ask(session, "three"))["result"]["text"] == "seen ['two', 'three']"
            old = next(e.seq for e in await kit.events(session) if e.type == "session.reset") - 1
            fork = (await kit.manager.fork(session, ME, after=old))["id"]
            assert (await kit.ask(fork, "x"))["result"]["text"] == "seen ['one', 'x']"

    run(main)


def test_a_reset_cancels_what_runs_and_waits_and_can_take_the_files(tmp_path: Path) -> None:
    model = ScriptedModel([Reply([bash("echo 1 > f; sleep 60")])], respond=lambda _: Reply([Text("fresh")]))

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            session = await kit.session()
            turns = [(await kit.manager.submit(session, ME, text)).turn for text in ("go", "wait")]
            file = tmp_path / "workspaces" / session / "f"
            while not file.exists():  # noqa: ASYNC110
                await trio.sleep(0.01)
            await kit.manager.reset(session, ME)
            assert file.exists()
            for turn in turns:
                assert (await kit.manager.get_turn(turn, ME))["status"] == "cancelled"
            await kit.manager.reset(session, ME, workspace=True)
            assert not file.parent.exists()
            assert (await kit.ask(session, "again"))["result"]["text"] == "fresh"
            assert [e.data["workspace"] for e in await kit.events(session) if e.type == "session.reset"] == [
                False,
                True,
            ]

    run(main)


def test_what_was_before_a_reset_is_never_read_again_for_a_turn(tmp_path: Path) -> None:
    asked: list[int] = []

    class Watched:
        def __init__(self, journal: Any) -> None:
            self._journal = journal

        def __getattr__(self, name: str) -> Any:
            return getattr(self._journal, name)

        async def read_events(self, session: str, *, after: int = 0, **rest: Any) -> Any:
            asked.append(after)
            return await self._journal.read_events(session, after=after, **rest)

    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            session = await kit.session()
            await kit.ask(session, "one")
            last = (await kit.manager.reset(session, ME))["last_seq"]
            assert (await kit.ask(session, "two"))["result"]["text"] == "seen ['two']"
        async with open_kit(tmp_path, echo(), wrap=Watched) as kit:
            await kit.manager.update(session, ME, {"title": "kept"})
            assert (await kit.ask(session, "three"))["result"]["text"] == "seen ['two', 'three']"
            assert min(asked) == last - 1
            copy = (await kit.manager.fork(session, ME))["id"]
            assert (await kit.ask(copy, "four"))["result"]["text"] == "seen ['two', 'three', 'four']"
            taken_in = (await kit.manager.import_session(ME.uid, await export(kit, session)))["id"]
            assert (await kit.ask(taken_in, "five"))["result"]["text"] == "seen ['two', 'three', 'five']"

    run(main)


def test_an_export_comes_back_equal_and_is_told_to_be_imported(tmp_path: Path) -> None:
    model = ScriptedModel(
        [Reply([Text("look"), bash("echo a; printf 'x\\0y\\xff'")]), Reply([Text("é\u2028\U0001f600")])],
        respond=lambda _: Reply([Text("more")]),
    )

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            source = await kit.session(title="talk", labels={"a": "b"}, system="s", limits={"iterations": 5})
            await kit.ask(source, "go")
            raw = await export(kit, source)
            made = await kit.manager.import_session(7, raw)
            session, him = made["id"], Viewer(uid=7)
            before = await kit.manager.get(source, ME)
            same = set(made) - {"id", "owner_uid", "updated", "last_seq", "context"}
            assert {name: made[name] for name in same} == {name: before[name] for name in same}
            async with kit.manager.export(session, him) as lines:
                again = [json.loads(line) async for line in lines]
            first = [json.loads(line) for line in raw.splitlines()]
            assert len(again) == len(first) + 1
            assert again[-2]["type"] == "session.imported"
            for one, other in zip(first[1:-1], again[1:-2], strict=True):
                assert {**one, "turn": None} == {**other, "turn": None}
            accepted = await kit.manager.submit(session, him, "on")
            assert (await kit.manager.get_turn(accepted.turn, him, wait_s=10))["result"]["text"] == "more"
            assert IMPORTED in str(model.requests[-1].messages)
            *told, last = model.requests[-1].messages[:4]
            assert told == model.requests[1].messages
            assert last["content"] == [{"type": "text", "text": "é\u2028\U0001f600"}]

    run(main)


def test_a_turn_that_had_not_ended_is_exported_and_never_runs_after_an_import(tmp_path: Path) -> None:
    go = trio.Event()
    model = ScriptedModel([Reply([Text("a")], holds={0: go})])

    async def main() -> None:
        async with open_kit(tmp_path, model) as kit:
            source = await kit.session()
            await kit.manager.submit(source, ME, "runs")
            await kit.manager.submit(source, ME, "waits")
            while model.running == 0:  # noqa: ASYNC110
                await trio.sleep(0.01)
            raw = await export(kit, source)
            assert raw.count(b'"turn.queued"') == 2
            made = await kit.manager.import_session(ME.uid, raw)
            assert await kit.types(made["id"]) == ["session.imported"]
            assert made["status"] == "idle"
            await kit.manager.cancel(source, ME, queued=True)
            go.set()

    run(main)


def test_an_import_is_one_session_under_one_key_and_settings_are_checked(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            raw = await export(kit, source)
            made = [(await kit.manager.import_session(ME.uid, raw, "k"))["id"] for _ in range(2)]
            assert made[0] == made[1]
            with refused("idempotency_conflict"):
                await kit.manager.import_session(ME.uid, raw.replace(b'"one"', b'"eno"'), "k")
            with refused("backend_unavailable"):
                await kit.manager.import_session(ME.uid, raw.replace(b'"settings":{', b'"settings":{"backends":["x"],'))
            with refused("bad_request", "unknown field"):
                await kit.manager.import_session(ME.uid, raw.replace(b'"settings":{', b'"settings":{"colour":"x",'))
            for forged in (b'"parents":["ses_a"],', b'"agent":"a",'):  # whose caps bind it, nobody chooses
                with refused("bad_request", "unknown field"):
                    await kit.manager.import_session(ME.uid, raw.replace(b'"settings":{', b'"settings":{' + forged))
            assert len((await kit.manager.list(ME))["items"]) == 2

    run(main)


def test_a_fork_is_bound_by_the_caps_that_bind_its_source(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo(), caps=[]) as kit:
            parent, child = await kit.session(budget={"usd": 0}), new_id("ses")
            await kit.ask(parent, "the budget is known from here on")
            time = "2026-01-01T00:00:00.000Z"
            record = SessionRecord(
                id=child, owner_uid=ME.uid, created=time, updated=time, settings={"parents": [parent]}
            )
            await kit.journal.create_session(record)
            fork = (await kit.manager.fork(child, ME))["id"]
            for session in (child, fork):
                refused = (await kit.ask(session, "go"))["result"]["error"]
                assert (refused["code"], parent in refused["message"]) == ("budget_exceeded", True)

    run(main)


def test_the_first_message_gives_a_title_where_there_is_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            plain, titled = await kit.session(), await kit.session(title="mine")
            for session in (plain, titled):
                await kit.ask(session, f"\n  find {'the ' * 30}log\nand more")
                await kit.ask(session, "second")
            shown = (await kit.manager.get(plain, ME))["title"]
            assert shown.startswith("find the the")
            assert shown.endswith("…")
            assert len(shown) <= 60
            assert (await kit.manager.get(titled, ME))["title"] == "mine"
            files = await kit.session()
            await kit.manager.submit(files, ME, "", [("a.txt", b"1"), ("b.txt", b"2")])
            assert (await kit.manager.get(files, ME))["title"] == "a.txt, b.txt"
            assert (await kit.manager.update(plain, ME, {"title": None}))["title"] == ""
            await kit.ask(plain, "third")
            assert (await kit.manager.get(plain, ME))["title"] == ""

    run(main)


def test_an_export_of_a_session_that_is_deleted_meanwhile_is_cut_and_not_taken_for_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            session = await kit.session()
            await kit.ask(session, "one")
            told = []

            async def read() -> None:
                async with kit.manager.export(session, ME) as lines:
                    async for line in lines:
                        told.append(json.loads(line))
                        if len(told) == 1:
                            await kit.manager.delete(session, ME)

            with pytest.raises(SessionMissing):
                await read()
            assert "end" not in [line["kind"] for line in told]

    run(main)


async def once_there_is_room(make: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """What `make` gives when it is no longer refused as overloaded."""
    with trio.fail_after(30):
        while True:
            try:
                return await make()
            except Refused as error:
                if error.code != "overloaded" or not error.retry_after_s:
                    raise
            await trio.sleep(0.05)


def test_a_key_whose_session_was_deleted_makes_another_as_soon_as_its_events_are_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, echo()) as kit:
            session = (await kit.manager.create(ME.uid, {}, "k"))["id"]
            await kit.ask(session, "one")
            await kit.manager.delete(session, ME)
            made = await once_there_is_room(lambda: kit.manager.create(ME.uid, {}, "k"))
            assert made["id"] == session
            assert made["last_seq"] == 0

    run(main)


def test_files_of_a_session_that_is_being_made_are_not_swept(tmp_path: Path) -> None:
    copied, go_on = trio.Event(), trio.Event()

    class Slow:
        def __init__(self, journal: Any) -> None:
            self._journal = journal

        def __getattr__(self, name: str) -> Any:
            return getattr(self._journal, name)

        async def create_session(self, record: Any, **rest: Any) -> None:
            if "forked_from" in record.settings:
                copied.set()
                await go_on.wait()
            await self._journal.create_session(record, **rest)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("echo 1 > f")]), Reply([Text("x")])])
        async with open_kit(tmp_path, model, wrap=Slow) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            made: list[str] = []

            async def fork() -> None:
                made.append((await kit.manager.fork(source, ME))["id"])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fork)
                await copied.wait()
                await kit.manager.sweep_workspaces(await kit.manager.ownerless_workspaces())
                go_on.set()
            assert (tmp_path / "workspaces" / made[0] / "f").read_text() == "1\n"

    run(main)


def test_the_files_of_a_fork_stay_where_the_session_that_had_its_key_is_deleted_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are gone before its files are: the next one under the key must not be made in between."""
    deleting, go_on = trio.Event(), trio.Event()

    async def slow_remove(root: Path, session: str) -> None:
        deleting.set()
        await go_on.wait()
        await remove_workspace(root, session)

    async def main() -> None:
        model = ScriptedModel([Reply([bash("echo 1 > f")]), Reply([Text("x")])])
        async with open_kit(tmp_path, model) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            first = (await kit.manager.fork(source, ME, after=0, idempotency_key="k"))["id"]
            monkeypatch.setattr("skill_actors.sessions.manager.remove_workspace", slow_remove)

            async def again() -> None:
                made = await once_there_is_room(lambda: kit.manager.fork(source, ME, idempotency_key="k"))
                assert made["id"] == first

            async with trio.open_nursery() as nursery:
                nursery.start_soon(kit.manager.delete, first, ME)
                await deleting.wait()
                nursery.start_soon(again)
                await trio.sleep(0.5)  # long enough for a fork that does not wait
                go_on.set()
            assert (tmp_path / "workspaces" / first / "f").read_text() == "1\n"

    run(main)


def test_a_fork_that_is_given_up_stops_copying_and_leaves_no_files(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_kit(tmp_path, ScriptedModel([Reply([bash("echo 1 > f")]), Reply([Text("x")])])) as kit:
            source = await kit.session()
            await kit.ask(source, "one")
            for name in map(str, range(3000)):
                (tmp_path / "workspaces" / source / name).write_bytes(b"x" * 4096)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(kit.manager.fork, source, ME)
                    while len(list((tmp_path / "workspaces").iterdir())) == 1:
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            assert scope.cancelled_caught
            assert [each.name for each in (tmp_path / "workspaces").iterdir()] == [source]

    run(main)
