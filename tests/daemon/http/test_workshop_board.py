"""The board over HTTP: what is taken and what is not, pages and filters, owners, claims that wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from board_agents_kit import PlayedAgents, PlayedCommands
from board_kit import open_board
from http_kit import Served, serving
from skill_actors.workshop.board import Workers
from skilld.config import RolesConfig
from skilld.config.roles import RoleConfig, SenderConfig
from skilld.http.peer import Peer
from support import run

BOARD = "/v1/workshop/board"
ITEMS = f"{BOARD}/items"
USER, OTHER = Peer(uid=1000, gid=1000, pid=1), Peer(uid=1001, gid=1001, pid=1)
ROLES = RolesConfig(
    read=RoleConfig(uids=(1000, 1001)), send=SenderConfig(uids=(1000, 1001)), admin=SenderConfig(uids=(0,))
)


@asynccontextmanager
async def served_board(folder: Path, *peers: Peer) -> AsyncIterator[tuple[Served, ...]]:
    """One board, and the interface to it as each peer has it."""
    async with open_board(folder, running=True) as kit, trio.open_nursery() as nursery:
        documents = kit.journal.documents
        workers = Workers(kit.board, PlayedAgents(nursery), PlayedCommands(), documents, documents.apply)
        await nursery.start(workers.run)
        nouns: Any = SimpleNamespace(board=kit.board, workers=workers)
        if len(peers) == 1:
            async with serving(folder / "a", peer=peers[0], roles=ROLES, workshop=lambda: nouns) as served:
                yield (served,)
        else:
            async with (
                serving(folder / "a", peer=peers[0], roles=ROLES, workshop=lambda: nouns) as one,
                serving(folder / "b", peer=peers[1], roles=ROLES, workshop=lambda: nouns) as two,
            ):
                yield one, two
        nursery.cancel_scope.cancel()


async def add(served: Served, id: str, **fields: Any) -> dict[str, Any]:
    made = await served.http.post(ITEMS, json={"id": id, "title": id, **fields})
    assert made.status_code == 201, made.text
    item: dict[str, Any] = made.json()
    return item


def test_an_item_goes_its_way_by_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with served_board(tmp_path, USER) as (served,):
            made = await served.http.post(ITEMS, json={"title": "Do it"})
            path = made.headers["location"]
            assert made.json()["status"] == "ready"
            await add(served, "after", depends_on=[made.json()["id"]])
            claim = (await served.http.post(f"{BOARD}/claim")).json()
            assert f"{ITEMS}/{claim['item']['id']}" == path
            assert claim["item"]["claimed_by"] == "uid-1000"
            token = {"token": claim["token"]}
            assert claim["token"] not in (await served.http.get(path)).text
            assert (await served.http.post(f"{path}/start", json=token)).json()["status"] == "in_progress"
            assert (await served.http.post(f"{path}/heartbeat", json=token)).status_code == 200
            wrong = await served.http.post(f"{path}/complete", json={"token": "x"})
            assert (wrong.status_code, wrong.json()["error"]["details"]["reason"]) == (409, "lease_lost")
            waits = (await served.http.get(f"{ITEMS}/after")).json()
            assert (waits["status"], waits["waits_for"]) == ("new", [claim["item"]["id"]])
            done = await served.http.post(f"{path}/complete", json={**token, "result": "ok"})
            assert (done.json()["status"], done.json()["result"]) == ("done", "ok")
            assert (await served.http.get(f"{ITEMS}/after")).json()["status"] == "ready"
            assert (await served.http.delete(path)).status_code == 409
            assert (await served.http.delete(f"{ITEMS}/after")).status_code == 204
            assert (await served.http.delete(path)).status_code == 204
            assert (await served.http.get(f"{BOARD}/summary")).json()["total"] == 0

    run(main)


BAD: list[dict[str, Any]] = [
    {},
    {"title": ""},
    {"title": " \n"},
    {"title": "x" * 201},
    {"title": 7},
    {"title": "x", "id": "Upper"},
    {"title": "x", "id": "a/b"},
    {"title": "x", "id": ""},
    {"title": "x", "id": "x" * 65},
    {"title": "x", "type": "nonsense"},
    {"title": "x", "priority": 0},
    {"title": "x", "priority": 6},
    {"title": "x", "priority": True},
    {"title": "x", "max_attempts": 0},
    {"title": "x", "spec": "y" * 65_537},
    {"title": "x", "depends_on": "a"},
    {"title": "x", "depends_on": ["ghost"]},
    {"title": "x", "id": "me", "depends_on": ["me"]},
    {"title": "x", "due": "tomorrow"},
    {"title": "x", "due": "2026-13-01T00:00:00Z"},
    {"title": "x", "labels": {str(n): "v" for n in range(33)}},
    {"title": "x", "verify": {}},
    {"title": "x", "verify": {"argv": "rm -rf /"}},
    {"title": "x", "verify": {"argv": ["a\0b"]}},
    {"title": "x", "verify": {"argv": [""]}},
    {"title": "x", "verify": {"argv": ["a"], "shell": True}},
    {"title": "x", "verify": {"argv": ["a"], "timeout_s": 0}},
    {"title": "x", "verify": {"schema": []}},
    {"title": "x", "meta": {"big": "y" * 20_000}},
    {"title": "x", "status": "done"},
    {"title": "x", "lease": {"token": "t"}},
]


def test_what_is_no_item_is_refused_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with served_board(tmp_path, USER) as (served,):
            for body in BAD:
                answer = await served.http.post(ITEMS, json=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request"), body
            half = await served.http.post(
                ITEMS, content=b'{"title": "\\ud800"}', headers={"content-type": "application/json"}
            )
            assert half.status_code == 400
            assert (await served.http.get(f"{BOARD}/summary")).json()["total"] == 0

    run(main)


def test_the_board_of_another_is_not_there_but_for_an_admin(tmp_path: Path) -> None:
    async def main() -> None:
        async with served_board(tmp_path, USER, OTHER) as (mine, theirs):
            await add(mine, "secret")
            assert (await theirs.http.get(f"{ITEMS}/secret")).status_code == 404
            assert (await theirs.http.get(ITEMS)).json()["items"] == []
            assert (await theirs.http.post(f"{BOARD}/claim")).json()["item"] is None
            assert (await theirs.http.get(f"{ITEMS}?owner=1000")).status_code == 403
            assert (await theirs.http.get(f"{ITEMS}?owner=me")).status_code == 400
        async with served_board(tmp_path / "admin", Peer(uid=0, gid=0, pid=1)) as (served,):
            assert (await served.http.get(f"{ITEMS}?owner=1000")).json()["items"] == []

    run(main)


def test_items_come_in_pages_and_by_what_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with served_board(tmp_path, USER) as (served,):
            for number in range(7):
                await add(served, f"i{number}", priority=5 - number % 2, labels={"odd": str(number % 2)})
            await add(served, "late", due="2020-01-01T00:00:00Z", type="docs", agent="ada")

            async def ids(query: str) -> list[str]:
                answer = await served.http.get(f"{ITEMS}?{query}")
                assert answer.status_code == 200, answer.text
                return [item["id"] for item in answer.json()["items"]]

            found, cursor = [], ""
            while True:
                page = (await served.http.get(f"{ITEMS}?limit=3{cursor}")).json()
                found += [item["id"] for item in page["items"]]
                if page["next"] is None:
                    break
                cursor = f"&cursor={page['next']}"
            assert found == ["late", "i1", "i3", "i5", "i0", "i2", "i4", "i6"] == await ids("")
            assert await ids("label=odd=1") == ["i1", "i3", "i5"]
            assert await ids("overdue=true") == ["late"] == await ids("agent=ada") == await ids("type=docs,code")
            await served.http.post(f"{ITEMS}/i0/claim", json={"holder": "bob"})
            assert await ids("claimed_by=bob") == ["i0"] == await ids("status=claimed,failed")
            for bad in ("status=odd", "cursor=x", "label=odd", "limit=0", "overdue=maybe", "colour=red"):
                assert (await served.http.get(f"{ITEMS}?{bad}")).status_code == 400, bad

    run(main)


def test_a_claim_waits_for_an_item(tmp_path: Path) -> None:
    async def main() -> None:
        async with served_board(tmp_path, USER) as (served,):
            got: list[str] = []

            async def claim() -> None:
                answer = await served.http.post(f"{BOARD}/claim?wait=20", json={"types": ["docs"]}, timeout=30)
                got.append(answer.json()["item"]["id"])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(claim)
                await add(served, "other")
                await add(served, "wanted", type="docs")
            assert got == ["wanted"]
            nothing = await served.http.post(f"{BOARD}/claim?wait=0.05", json={"types": ["docs"]})
            assert nothing.json() == {"item": None, "token": None}

    run(main)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("claim", {"holder": "No Name"}),
        ("claim", {"lease_s": 0.5}),
        ("claim", {"lease_s": 1e9}),
        ("claim", {"types": ["nonsense"]}),
        ("claim?wait=61", {}),
        ("items/a/start", {}),
        ("items/a/complete", {"token": 7}),
        ("workers", {"name": "w", "types": []}),
        ("workers", {"name": "w", "types": ["docs"], "count": 65}),
        ("workers", {"name": "x" * 61, "types": ["docs"]}),
        ("workers", {"name": "w", "types": ["docs"], "lease_s": 1}),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with served_board(tmp_path, USER) as (served,):
            await add(served, "a")
            assert (await served.http.post(f"{BOARD}/{path}", json=body)).status_code == 400
            assert (await served.http.get(f"{ITEMS}/a")).json()["status"] == "ready"

    run(main)


def test_what_the_daemon_has_started_neither_gives_commands_nor_waives_them(tmp_path: Path) -> None:
    import os

    async def main() -> None:
        async with served_board(tmp_path, Peer(uid=1000, gid=1000, pid=os.getpid())) as (served,):
            answer = await served.http.post(ITEMS, json={"title": "x", "verify": {"argv": ["id"]}})
            assert answer.status_code == 403
            await add(served, "a", verify={"schema": {"type": "object"}})
            token = (await served.http.post(f"{ITEMS}/a/claim")).json()["token"]
            waived = await served.http.post(f"{ITEMS}/a/complete", json={"token": token, "waive": "please"})
            assert waived.status_code == 403
            assert (await served.http.patch(f"{ITEMS}/a", json={"verify": None})).status_code == 403
            given = {"name": "w", "types": ["docs"], "settings": {"policy": "open"}}
            assert (await served.http.post(f"{BOARD}/workers", json=given)).status_code == 403
            assert (await served.http.post(ITEMS, json={"title": "plain"})).status_code == 201

    run(main)
