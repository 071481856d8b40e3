"""Answers that hold for a session: for which calls, for how long, and how they are taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from approval_kit import Desk, open_desk
from approval_questions import ALLOW, ANN, BEN, Asked, refused
from skill_actors.errors import Refused
from skill_actors.sessions.approvals import ApprovalRequest, Approver, DeskLimits, NamedFile
from skill_actors.sessions.log import Draft
from support import run


async def allowed_for_session(desk: Desk, turn: str, **request: Any) -> str:
    asked = Asked(desk, desk.request(turn, **request))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)
        (id,) = await desk.waiting()
        await desk.desk.decide(id, ANN, {"decision": "allow", "scope": "session"})
    return id


async def is_asked(desk: Desk, request: ApprovalRequest) -> bool:
    """Whether somebody is asked; the question is left."""
    asked = Asked(desk, request)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run)

        async def asks() -> None:
            await desk.waiting()
            asked.scope.cancel()

        nursery.start_soon(asks)
        await asked.done.wait()
        nursery.cancel_scope.cancel()
    if asked.answer is None:
        await desk.log.append([Draft("turn.finished", request.turn, {})])
    return asked.answer is None


def test_what_is_allowed_for_the_session_is_found_again_after_a_restart_listed_and_can_be_taken_back(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            id = await allowed_for_session(desk, await desk.begin())
        async with open_desk(tmp_path) as desk:
            turn = await desk.begin()
            assert not await is_asked(desk, desk.request(turn, "toolu_9"))
            listed = (await desk.desk.list(None, status="allowed"))["items"]
            assert [(item["id"], item["decision"]["scope"]) for item in listed] == [(id, "session")]
            taken = await desk.desk.revoke(id, BEN)
            assert (taken["status"], taken["decision"]["revoked"]["by_uid"]) == ("cancelled", 1002)
            assert await is_asked(desk, desk.request(turn, "toolu_10"))
            with refused("conflict", "not one that holds"):
                await desk.desk.revoke(id, BEN)
        async with open_desk(tmp_path) as desk:
            assert await is_asked(desk, desk.request(await desk.begin(), "toolu_11"))

    run(main)


def test_of_two_who_take_it_back_at_once_one_is_first_and_the_other_hears_it(tmp_path: Path) -> None:
    async def main() -> None:
        won: list[int] = []
        lost: list[str] = []
        async with open_desk(tmp_path) as desk:
            id = await allowed_for_session(desk, await desk.begin())

            async def take_back(by: Approver) -> None:
                try:
                    await desk.desk.revoke(id, by)
                    won.append(by.uid)
                except Refused as refusal:
                    lost.append(refusal.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(take_back, ANN)
                nursery.start_soon(take_back, BEN)
            revoked = (await desk.desk.get(id, None))["decision"]["revoked"]
        assert (len(won), lost) == (1, ["conflict"])
        assert revoked["by_uid"] == won[0]

    run(main)


SAME = [{"input": {"command": "rm -r build", "description": "another description"}}, {"reason": "x", "rule": "y"}]
OTHER = [
    {"input": {"command": "rm -r build ", "description": "d"}},
    {"input": {"command": "rm -r build; ls", "description": "d"}},
    {"tool": "other"},
    {"place": "box"},
    {"backend": "docker"},
    {"cwd": "/"},
    {"environment": ("TOKEN",)},
    {"skill": {"name": "a", "digest": "1"}},
    {"argv": ("rm", "-r", "build")},
]


@pytest.mark.parametrize("changes", SAME + OTHER)
def test_an_answer_for_the_session_is_for_the_same_words_in_the_same_place(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            turn = await desk.begin()
            await allowed_for_session(desk, turn)
            assert await is_asked(desk, desk.request(turn, "toolu_2", **changes)) == (changes in OTHER)

    run(main)


def test_of_a_tool_that_writes_a_file_it_is_for_that_file_whatever_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            turn = await desk.begin()
            await allowed_for_session(desk, turn, tool="create_file", input={"path": "a.txt", "file_text": "1"})
            for path, asked in (("./a.txt", False), ("b.txt", True), ("a.txt/../b.txt", True)):
                given = {"path": path, "file_text": "2"}
                request = desk.request(await desk.begin(), f"toolu_{path}", tool="create_file", input=given)
                assert await is_asked(desk, request) == asked

    run(main)


def test_for_a_file_it_holds_once_the_file_is_there_and_not_for_a_link_in_its_place(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            given = {"path": "a.txt", "file_text": "1"}
            turn = await desk.begin()
            await allowed_for_session(desk, turn, tool="create_file", input=given)
            for file, asked in (
                (NamedFile(path="a.txt", sha256="1" * 64), False),
                (NamedFile(path="a.txt", sha256="2" * 64), False),
                (NamedFile(path="a.txt", sha256="2" * 64, note="a link to hooks/x"), True),
                (NamedFile(path="a.txt", note="would be in /srv"), True),
            ):
                request = desk.request(
                    await desk.begin(), f"toolu_{file}", tool="create_file", input=given, files=(file,)
                )
                assert await is_asked(desk, request) == asked

    run(main)


def test_a_reset_begins_without_what_was_allowed_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            await allowed_for_session(desk, await desk.begin())
            await desk.log.reset(Draft("session.reset", None, {}))
            assert await is_asked(desk, desk.request(await desk.begin(), "toolu_2"))

    run(main)


def test_answers_for_one_session_are_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, limits=DeskLimits(standing=1)) as desk, trio.open_nursery() as nursery:
            turn = await desk.begin()
            await allowed_for_session(desk, turn)
            request = desk.request(turn, "toolu_2", input={"command": "ls", "description": "d"})
            nursery.start_soon(Asked(desk, request).run)
            (id,) = await desk.waiting()
            with refused("bad_request", "scope: 1 answers"):
                await desk.desk.decide(id, ANN, {"decision": "allow", "scope": "session"})
            await desk.desk.decide(id, ANN, ALLOW)  # it was still pending

    run(main)
