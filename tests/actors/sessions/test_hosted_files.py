"""Files of conversations with hosted execution: handed over, made there, asked for, and gone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

from hosted_play import Play, made, play
from session_kit import ME
from skill_actors.errors import Refused
from skill_actors.sessions.history import History
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing import (
    CodeExecution,
    Cut,
    HttpError,
    Reply,
    ServerToolUse,
    Text,
    ToolUse,
    Whole,
)


def test_files_are_handed_over_to_the_container_and_from_it(tmp_path: Path) -> None:
    def over(name: str, source: str, target: str) -> ToolUse:
        return ToolUse("hand_over", {"name": name, "from": source, "to": target})

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["local", "anthropic"])
        make = ToolUse("create_file", {"path": "in/data.csv", "file_text": "1,2", "description": "d"})
        await at.turn(session, Reply([make]), Reply([over("in/data.csv", "local", "anthropic")]), Reply([Text("x")]))
        kinds = [block["type"] for block in at.last["messages"][-1]["content"]]
        assert kinds == ["tool_result", "container_upload"]
        await at.turn(session, made("out.xlsx", b"PK2"))
        (container,) = at.model.hosted.containers.values()
        assert [at.hosted.api.files[id].content for id in container.uploads] == [b"1,2"]
        fetch = Reply([over("out.xlsx", "anthropic", "local")])
        look = Reply([ToolUse("bash_tool", {"command": "cat out.xlsx", "description": "d"})])
        await at.turn(session, fetch, look, Reply([Text("x")]))
        assert at.last["messages"][-1]["content"][0]["content"].startswith("PK2")
        lost = Reply([over("nowhere.xlsx", "anthropic", "local"), over("nowhere", "local", "anthropic")])
        await at.turn(session, lost, Reply([Text("x")]))
        said = [block["content"] for block in at.last["messages"][-1]["content"]]
        assert "no file 'nowhere.xlsx'" in said[0]
        assert "no file 'nowhere'" in said[1]

    play(tmp_path, story)


def test_files_of_a_message_go_to_the_container_where_there_is_no_other_place(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, made(), files=[("data.csv", b"1,2")])
        kinds = [block["type"] for block in at.last["messages"][0]["content"]]
        assert kinds == ["text", "text", "container_upload"]
        (container,) = at.model.hosted.containers.values()
        (uploaded,) = container.uploads
        assert at.hosted.api.files[uploaded].content == b"1,2"
        listed = (await at.kit.manager.files.listing(session, ME))["items"]
        assert sorted(item["path"] for item in listed) == ["data.csv", "report.xlsx"]
        mixed = await at.kit.session(backends=["local", "anthropic"])
        await at.turn(mixed, Reply([Text("x")]), files=[("data.csv", b"1,2")])
        assert [block["type"] for block in at.last["messages"][0]["content"]] == ["text", "text"]

    play(tmp_path, story)


def test_names_that_a_server_gives_are_safe_and_never_twice(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a/b.txt", ".skilld", "x\0y", "b.txt", "", "." * 300]

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        for name in names:
            await at.turn(session, made(name, name.encode()))
        found = [data["name"] for data in await at.data(session, "file.created")]
        assert len({name.casefold() for name in found}) == len(names)
        for name in found:
            assert "/" not in name
            assert not name.startswith(".")
            _, file = await at.kit.manager.files.open(session, ME, name)
            file.close()
        inside = {path.name for path in (at.folder / session).iterdir()}
        assert set(found) <= inside

    play(tmp_path, story)


def test_a_file_whose_name_cannot_be_asked_for_is_known_by_its_id_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        at.model.enqueue(made())
        at.hosted.why = "the API is down"
        turn = await at.kit.ask(session, "go")
        assert turn["status"] == "finished"
        (created,) = await at.data(session, "file.created")
        assert created["name"] == created["file_id"]
        with pytest.raises(Refused, match="API is down") as refused:
            await at.kit.manager.files.open(session, ME, created["name"])
        assert refused.value.code == "backend_unavailable"

    play(tmp_path, story)


def test_what_code_had_done_when_the_answer_was_cut_is_kept_with_its_files(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        half = CodeExecution("two", half="call")
        cut = Reply([CodeExecution("one", files={"a.txt": b"1"}), half, Text("and " * 40)], fail=Cut(after=12))
        at.model.enqueue(cut)
        failed = await at.kit.ask(session, "go")
        assert failed["result"]["error"]["code"] == "model_connection"
        (message,) = await at.data(session, "model.message")
        assert [block["type"] for block in message["content"]] == [
            "server_tool_use", "bash_code_execution_tool_result", "text"
        ]  # fmt: skip
        await at.turn(session, Reply([Text("on")]))
        assert [data["name"] for data in await at.data(session, "file.created")] == ["a.txt"]

    play(tmp_path, story)


def test_a_cancel_while_a_files_name_is_asked_for_keeps_what_was_said(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        asked = trio.Event()

        async def wait() -> None:
            asked.set()
            await trio.sleep_forever()

        at.hosted.before_facts = wait
        session = await at.kit.session(backends=["anthropic"])
        at.model.enqueue(made(said="all said"))
        accepted = await at.kit.manager.submit(session, ME, "go")
        await asked.wait()
        await at.kit.manager.cancel(session, ME)
        turn = await at.kit.manager.get_turn(accepted.turn, ME, wait_s=20)
        assert turn["result"]["text"] == "all said"
        at.hosted.before_facts = None
        await at.turn(session, Reply([Text("x")]))
        assert [data["name"] for data in await at.data(session, "file.created")] == ["report.xlsx"]

    play(tmp_path, story)


def test_thousands_of_files_of_one_name_are_told_at_once_and_hold_nothing_up(tmp_path: Path) -> None:
    count = 5_000

    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        many = [{"type": "bash_code_execution_output", "file_id": f"file_{n}"} for n in range(count)]
        ran = {"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": many}
        result = Whole({"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": ran})
        for n in range(count):
            at.model.hosted.files.files[f"file_{n}"] = at.model.hosted.files.add("same.csv", b"", downloadable=True)
        at.model.enqueue(Reply([ServerToolUse(code_name, {"command": "x"}, "srvtoolu_1"), result, Text("x")]))
        began = time.monotonic()
        turn = await at.kit.ask(session, "go")
        assert turn["status"] == "finished"
        assert time.monotonic() - began < 20
        names = [data["name"] for data in await at.data(session, "file.created")]
        assert (names[0], names[1], names[-1]) == ("same.csv", "same (2).csv", f"same ({count}).csv")

    code_name = "bash_code_execution"
    play(tmp_path, story)


def test_a_server_that_is_slow_to_name_files_holds_a_turn_up_once_and_not_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skill_actors.sessions.hosted_files._FACTS_S", 0.1)

    async def story(at: Play) -> None:
        asked: list[None] = []

        async def never() -> None:
            asked.append(None)
            await trio.sleep_forever()

        at.hosted.before_facts = never
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, Reply([CodeExecution("x", files={f"{n}.txt": b"" for n in range(40)}), Text("x")]))
        told = await at.data(session, "file.created")
        assert len(told) == 40
        assert all(data["name"] == data["file_id"] for data in told)
        assert len(asked) == 8, "for the rest there was no time"

    play(tmp_path, story)


def test_a_file_that_is_gone_at_the_api_is_given_up_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        for name in ("gone.txt", "kept.txt"):
            await at.turn(session, Reply([CodeExecution("x"), Text("x")]), files=[(name, b"1")])
        gone, kept = (data["file_id"] for data in await at.data(session, "file.created") if data.get("uploaded"))
        del at.model.hosted.files.files[gone]
        await at.turn(session, Reply([Text("y")]))
        await at.turn(session, Reply([Text("z")]))
        assert str(at.last["messages"]).count("container_upload") == 1
        assert kept in str(at.last["messages"])
        assert "the file 'gone.txt', which was given to you, is not at the API any more" in str(at.last["messages"])
        (told,) = await at.data(session, "file.deleted")
        assert (told["name"], told["file_id"]) == ("gone.txt", gone)
        assert await at.data(session, "session.container_lost") == []
        anew = History(await at.kit.events(session)).messages()
        assert anew[:-1] == at.last["messages"], "and read anew it is the same"

    play(tmp_path, story)


def test_a_refusal_that_names_no_file_of_ours_is_passed_on(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, Reply([CodeExecution("x"), Text("x")]), files=[("a.txt", b"1")])
        (sent,) = [data for data in await at.data(session, "file.created") if data.get("uploaded")]
        for message in ("File not found: file_other", f"File not found: {sent['file_id']}x"):
            at.model.enqueue(HttpError(404, message=message))
            failed = await at.kit.ask(session, "go")
            assert failed["result"]["error"]["code"] == "model_not_found"
        assert await at.data(session, "file.deleted") == []

    play(tmp_path, story)


def test_an_import_gives_no_file_to_a_container_by_the_ids_that_it_brings(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["anthropic"])
        await at.turn(session, Reply([CodeExecution("x"), Text("x")]), files=[("a.txt", b"1")])
        async with at.kit.manager.export(session, ME) as pieces:
            raw = "\n".join([line async for line in pieces]).encode()
        copy = (await at.kit.manager.import_session(ME.uid, raw))["id"]
        at.model.hosted.files.files.clear()
        await at.turn(copy, Reply([Text("y")]))
        assert "container_upload" not in str(at.last["messages"])

    play(tmp_path, story)


def test_what_a_model_has_made_at_the_api_does_not_fill_more_than_the_workspace_may_hold(tmp_path: Path) -> None:
    async def story(at: Play) -> None:
        session = await at.kit.session(backends=["local", "anthropic"])
        await at.turn(session, Reply([CodeExecution("x", files={f"{n}.bin": b"x" * 400 for n in range(3)}), Text("x")]))
        for name in ("0.bin", "1.bin"):
            _, file = await at.kit.manager.files.open(session, ME, name)
            file.close()
        with pytest.raises(Refused) as refused:
            await at.kit.manager.files.open(session, ME, "2.bin")
        assert refused.value.code == "storage_full"
        over = ToolUse("hand_over", {"name": "2.bin", "from": "anthropic", "to": "local"})
        await at.turn(session, Reply([over]), Reply([Text("x")]))
        (said,) = await at.data(session, "tool.finished")
        assert said["is_error"]
        assert "remove files" in said["content"]
        assert len(at.hosted.downloads) == 2

    play(tmp_path, story, defaults=SessionDefaults(workspace_bytes=1_000))
