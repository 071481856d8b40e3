"""Approvals on the socket: who sees which, who decides, what is noted, and what is told as it happens."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from http_kit import Served, serving, wait_until
from skill_actors.ids import new_id
from skilld.client import AsyncClient, Event
from skilld.config import RoleConfig, RolesConfig, SenderConfig
from skilld.http.approval_feed import follow_approvals
from skilld.http.descent import may_descend
from skilld.http.peer import Peer
from support import run

ME = 0
PEER = Peer(uid=ME, gid=100, pid=1)
OTHER = 54_321
ANOTHER = Peer(uid=OTHER, gid=OTHER, pid=1)
ALLOW = {"decision": "allow"}


def real_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test as one that pytest can call."""

    @functools.wraps(test)
    def call(**given: Any) -> None:
        run(functools.partial(test, **given))

    return call


@asynccontextmanager
async def served_to(tmp_path: Path, peer: Peer = PEER, roles: RolesConfig | None = None) -> AsyncIterator[Served]:
    """A server for which every connection is this peer's."""
    async with serving(tmp_path, roles=roles, own_uid=1, peer=peer) as served:
        yield served


@real_time
async def test_pages_and_filters_reach_the_desk(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        session = new_id("ses")
        made = [served.approvals.add(session=session) for _ in range(3)]
        listed = (await served.http.get(f"/v1/approvals?session={session}&limit=2")).json()
        assert [view["id"] for view in listed["items"]] == [made[2]["id"], made[1]["id"]]
        rest = (await served.http.get(f"/v1/approvals?limit=2&cursor={listed['next']}&status=all")).json()
        assert [view["id"] for view in rest["items"]] == [made[0]["id"]]
        assert served.approvals.pages == [("pending", session, 2, None), (None, None, 2, "2")]
        assert (await served.http.get(f"/v1/approvals/{made[0]['id']}")).json() == made[0]


@pytest.mark.parametrize(
    "query", ["status=open", "session=ses_1", "limit=0", "limit=1001", "cursor=1&cursor=2", "owner=0", "status=%1b[2J"]
)
@real_time
async def test_what_is_no_filter_is_refused(tmp_path: Path, query: str) -> None:
    async with served_to(tmp_path) as served:
        answer = await served.http.get(f"/v1/approvals?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
        assert "\x1b" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decision": "maybe"},
        {"decision": "allow", "scope": "for ever"},
        {"decision": "allow", "digest": "x"},
        {"decision": "edit", "input": "ls"},
        {"decision": "deny", "reason": 5},
    ],
)
@real_time
async def test_what_is_no_decision_is_refused_and_decides_nothing(tmp_path: Path, body: dict[str, Any]) -> None:
    async with served_to(tmp_path) as served:
        made = served.approvals.add()
        answer = await served.http.post(f"/v1/approvals/{made['id']}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
        assert (made["status"], served.approvals.said) == ("pending", [])


@real_time
async def test_the_first_word_counts_and_the_second_is_told_whose_it_was(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        made = served.approvals.add()
        path = f"/v1/approvals/{made['id']}"
        said = {"decision": "deny", "scope": "once", "reason": "not here"}
        assert (await served.http.post(path, json=said)).json()["status"] == "denied"
        late = await served.http.post(path, json=ALLOW)
        assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
        assert f"uid {ME}" in late.json()["error"]["message"]
        assert served.approvals.said == [(ME, said)]
        for id in ("apr_x", "apr_" + "a" * 26, new_id("ses"), "%2e%2e"):
            assert (await served.http.post(f"/v1/approvals/{id}", json=ALLOW)).status_code == 404


@real_time
async def test_what_was_allowed_for_a_session_can_be_taken_back(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        made = served.approvals.add()
        path = f"/v1/approvals/{made['id']}"
        assert (await served.http.delete(path)).status_code == 409
        await served.http.post(path, json={"decision": "allow", "scope": "session"})
        assert (await served.http.delete(path)).json()["status"] == "cancelled"
        assert [facts["decision"] for what, facts in served.audited if what == "approval"] == ["allow", "revoke"]


@real_time
async def test_who_decided_what_is_noted_without_what_was_said(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        made = served.approvals.add(reason="the s3cret rule", shown="bash_tool: s3cret", command="s3cret")
        said = {"decision": "edit", "input": {"command": "s3cret"}, "reason": "s3cret"}
        await served.http.post(f"/v1/approvals/{made['id']}", json=said)
        (noted,) = [facts for what, facts in served.audited if what == "approval"]
        assert noted == {
            "uid": ME,
            "gid": PEER.gid,
            "pid": PEER.pid,
            "decision": "edit",
            "scope": "once",
            **{name: made[name] for name in ("id", "session", "turn", "call", "status", "digest")},
        }
        assert "s3cret" not in json.dumps(served.audited)


@pytest.mark.parametrize("role", ["read", "send"])
@real_time
async def test_without_the_role_one_sees_ones_own_and_decides_none(tmp_path: Path, role: str) -> None:
    users = {"read": RolesConfig(read=RoleConfig(uids=(OTHER,))), "send": RolesConfig(send=SenderConfig(uids=(OTHER,)))}
    async with served_to(tmp_path, ANOTHER, users[role]) as served:
        foreign, own = served.approvals.add(owner_uid=7), served.approvals.add(owner_uid=OTHER)
        listed = (await served.http.get("/v1/approvals")).json()["items"]
        assert [view["id"] for view in listed] == [own["id"]]
        assert (await served.http.get(f"/v1/approvals/{foreign['id']}")).status_code == 404
        for view in (foreign, own):
            refused = await served.http.post(f"/v1/approvals/{view['id']}", json=ALLOW)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
            assert "[roles.approve]" in refused.json()["error"]["message"]
            assert (await served.http.delete(f"/v1/approvals/{view['id']}")).status_code == 403
        assert served.approvals.said == []
        events = (await served.http.get("/v1/approvals/events?follow=false")).text
        assert [json.loads(line)["data"]["id"] for line in events.splitlines()] == [own["id"]]


@real_time
async def test_with_the_role_one_decides_about_all_and_sees_no_session(tmp_path: Path) -> None:
    async with served_to(tmp_path, ANOTHER, RolesConfig(approve=RoleConfig(uids=(OTHER,)))) as served:
        foreign = served.approvals.add(owner_uid=7)
        assert (await served.http.get("/v1/approvals")).json()["items"] == [foreign]
        assert (await served.http.post(f"/v1/approvals/{foreign['id']}", json=ALLOW)).status_code == 200
        assert (await served.http.get("/v1/sessions")).json()["items"] == []
        assert (await served.http.post("/v1/sessions", json={})).status_code == 403
        assert (await served.http.post("/v1/shutdown")).status_code == 403


@real_time
async def test_a_process_that_the_daemon_has_started_decides_nothing(tmp_path: Path) -> None:
    """Here the server runs in this process, so that a child of ours is what a tool is to the daemon."""
    async with serving(tmp_path) as served:
        made = served.approvals.add()
        program = (
            "import http.client, socket, sys\n"
            "connection = http.client.HTTPConnection('skilld')\n"
            "connection.sock = socket.socket(socket.AF_UNIX)\n"
            "connection.sock.connect(sys.argv[1])\n"
            "connection.request('POST', sys.argv[2], '{\"decision\": \"allow\"}')\n"
            "answer = connection.getresponse()\n"
            "print(answer.status, answer.read().decode())\n"
        )
        command = [sys.executable, "-c", program, str(served.path), f"/v1/approvals/{made['id']}"]
        # The shell between them is gone while the program asks: an orphan has another parent than the one it had.
        for shown in (command, ["sh", "-c", '"$@" & wait', "sh", *command]):
            done = await trio.run_process(shown, capture_stdout=True)
            assert done.stdout.startswith(b"403 "), done.stdout
            assert b"was started by the daemon" in done.stdout
        assert made["status"] == "pending"


def test_descent_is_told_by_parents_and_what_is_gone_counts_as_ours(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert may_descend(child.pid, os.getpid())
        assert not may_descend(os.getpid(), child.pid)
        child.kill()
    assert may_descend(child.pid, 1)
    assert may_descend(os.getpid(), os.getpid())
    assert not may_descend(0, os.getpid())
    for pid, name, parent in ((7, "x) S 1 (", 5), (5, "sh", 9), (9, "skilld", 1)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / f"{pid}/stat").write_text(f"{pid} ({name}) S {parent} 1 1 0")
    assert may_descend(7, 9, tmp_path)
    assert not may_descend(7, 8, tmp_path)
    (tmp_path / "9/stat").write_text("9 (skilld) S 7 1 1 0")  # no such tree: it must end all the same
    assert may_descend(7, 8, tmp_path)


@real_time
async def test_a_follower_is_told_what_waits_then_what_comes_and_is_decided(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served, trio.open_nursery() as nursery:
        first, second = served.approvals.add(), served.approvals.add()
        found: list[Event] = []

        async def follow() -> None:
            async with AsyncClient(served.path) as client, client.approval_events() as events:
                while len(found) < 4:
                    found.append(await anext(events))

        nursery.start_soon(follow)
        await wait_until(lambda: len(served.approvals.pages) == 1)
        third = served.approvals.add()
        await served.http.post(f"/v1/approvals/{first['id']}", json=ALLOW)
    told = [(event.seq, event.type, event.data["id"]) for event in found]
    assert told == [
        (1, "approval.requested", first["id"]),
        (2, "approval.requested", second["id"]),
        (3, "approval.requested", third["id"]),
        (4, "approval.resolved", first["id"]),
    ]
    assert (found[3].session, found[3].turn) == (first["session"], first["turn"])
    assert found[3].data["status"] == "allowed"


@real_time
async def test_a_slow_follower_is_told_how_things_are_and_each_once(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        opened = follow_approvals(served.approvals, served.bus, None, session=None, live=True)
        async with opened as events:
            waiting = served.approvals.add()
            assert (await anext(events)).data == waiting
            for _ in range(500):
                served.bus.emit("approval.requested", {"count": 1}, {"id": waiting["id"]})
            late = served.approvals.add()
            assert [(await anext(events)).data["id"] for _ in range(2)] == [waiting["id"], late["id"]]
            with trio.move_on_after(0.1) as nothing:
                await anext(events)
            assert nothing.cancelled_caught
        before = served.approvals.pages.copy()
        served.approvals.add()  # nobody listens any more
        assert served.approvals.pages == before


@real_time
async def test_a_follower_of_one_session_and_one_of_an_approval_that_is_gone(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        mine = new_id("ses")
        first = served.approvals.add(session=mine)
        opened = follow_approvals(served.approvals, served.bus, None, session=mine, live=True)
        async with opened as events:
            assert (await anext(events)).data == first  # what comes from here on is news
            gone = served.approvals.add(session=mine)
            del served.approvals.kept[gone["id"]]
            served.approvals.add()
            here = served.approvals.add(session=mine)
            with trio.fail_after(20):
                assert (await anext(events)).data == here


@real_time
async def test_all_pages_of_what_waits_are_told(tmp_path: Path) -> None:
    async with served_to(tmp_path) as served:
        made = [served.approvals.add()["id"] for _ in range(1_100)]
        lines = (await served.http.get("/v1/approvals/events?follow=false")).text.splitlines()
        assert [json.loads(line)["data"]["id"] for line in lines] == made
