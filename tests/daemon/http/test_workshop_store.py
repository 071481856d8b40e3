"""Values and events of the workshop over HTTP: versions in headers and bodies, owners, bounds, streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from document_kit import event, open_documents
from http_kit import Served, serving
from skill_actors.telemetry import Bus
from skill_actors.workshop.entries import Entries
from skill_actors.workshop.events import Feed
from skilld.client import AsyncClient
from skilld.config import RolesConfig
from skilld.config.roles import RoleConfig, SenderConfig
from skilld.http.peer import Peer
from support import run

STORE, EVENTS = "/v1/workshop/store", "/v1/workshop/events"
USER = Peer(uid=1000, gid=1000, pid=1)
ROLES = RolesConfig(read=RoleConfig(uids=(1000, 1001)), send=SenderConfig(uids=(1000,)))


@asynccontextmanager
async def workshop(folder: Path, peer: Peer | None = None) -> AsyncIterator[tuple[Served, Feed]]:
    """The interface over a real store, to an admin or to somebody."""
    async with open_documents(folder / "state" / "journal.db") as documents:
        feed = Feed(documents, Bus())
        nouns = SimpleNamespace(feed=feed, entries=Entries(documents, feed))
        async with serving(folder, peer=peer, roles=ROLES, workshop=lambda: nouns) as served:
            yield served, feed


def test_a_value_is_put_read_listed_and_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            made = await served.http.put(f"{STORE}/notes/a%2Fb/%C3%BC%20%3F", json={"value": {"n": [1, None]}})
            assert (made.status_code, made.headers["etag"]) == (201, '"1"')
            assert made.json().keys() == {
                "namespace", "key", "version", "created", "updated", "expires", "owner_uid", "size_bytes"
            }  # fmt: skip
            found = await served.http.get(f"{STORE}/notes/a%2Fb/%C3%BC%20%3F")
            assert (found.headers["etag"], found.json()["value"]) == ('"1"', {"n": [1, None]})
            assert found.json()["key"] == "a/b/ü ?"
            again = await served.http.put(f"{STORE}/notes/a/b/ü %3F", json={"value": None})
            assert (again.status_code, again.json()["version"]) == (200, 2)
            for path in (STORE, f"{STORE}/notes", f"{STORE}/notes?prefix=a/"):
                page = (await served.http.get(path)).json()
                assert ([item["key"] for item in page["items"]], page["next"]) == (["a/b/ü ?"], None)
                assert "value" not in page["items"][0]
            assert (await served.http.delete(f"{STORE}/notes/a/b/ü %3F")).status_code == 204
            assert (await served.http.get(f"{STORE}/notes/a/b/ü %3F")).status_code == 404
            await served.http.put(f"{STORE}/notes/x", json={"value": 1})
            cleared = await served.http.delete(f"{STORE}/notes")
            assert (cleared.status_code, cleared.json()) == (200, {"removed": 1})

    run(main)


@pytest.mark.parametrize(
    ("headers", "expected", "status"),
    [
        ({}, None, 200),
        ({}, 1, 200),
        ({}, 0, 409),
        ({}, 2, 409),
        ({"if-match": '"1"'}, None, 200),
        ({"if-match": '"1"'}, 1, 200),
        ({"if-match": '"2"'}, None, 409),
        ({"if-match": '"1"'}, 2, 400),
        ({"if-none-match": "*"}, None, 409),
        ({"if-none-match": "*"}, 0, 409),
        ({"if-none-match": "*"}, 1, 400),
        ({"if-none-match": '"1"'}, None, 400),
        ({"if-match": "1"}, None, 400),
        ({"if-match": "*"}, None, 400),
        ({"if-match": '"0"'}, None, 400),
        ({"if-match": '"' + "9" * 30 + '"'}, None, 400),
        ({}, -1, 400),
        ({}, True, 400),
        ({}, 1.5, 400),
    ],
)
def test_a_change_can_be_for_one_version_alone(
    tmp_path: Path, headers: dict[str, str], expected: Any, status: int
) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            await served.http.put(f"{STORE}/n/k", json={"value": 1})
            body = {"value": 2} if expected is None else {"value": 2, "expected": expected}
            answer = await served.http.put(f"{STORE}/n/k", json=body, headers=headers)
            assert answer.status_code == status
            if status == 409:
                error = answer.json()["error"]
                assert (error["code"], error["details"]["found"]) == ("conflict", 1)
            if status == 200 and "if-match" in headers:
                gone = await served.http.delete(f"{STORE}/n/k", headers=headers)
                assert gone.status_code == 409
                assert (await served.http.delete(f"{STORE}/n/k", headers={"if-match": '"2"'})).status_code == 204

    run(main)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/N/k", 400),
        ("/n/%ff", 400),
        ("/n/a%00b", 400),
        ("/n/a%0ab", 400),
        ("/n/" + "x" * 256, 400),
        ("/n/%2e%2e", 400),
        ("/n/k?owner=x", 400),
        ("/n/k?owner=1001", 403),
        ("/n/k?owner=1000", 404),
        ("/n/k?other=1", 400),
        ("?limit=0", 400),
        ("?limit=1.5", 400),
        ("/n?limit=1001", 400),
        ("/n?prefix=%00", 400),
        ("/n?cursor=%00", 400),
        ("/n?cursor=zzz", 200),
        ("/../../sessions", 400),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, path: str, status: int) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            answer = await served.raw(f"GET {STORE}{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            assert int(answer.split(b" ", 2)[1]) == status, answer

    run(main)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b'{"value": 1, "tll_s": 5}', 400),
        (b'{"value": 1, "ttl_s": 0}', 400),
        (b'{"value": 1, "ttl_s": "5"}', 400),
        (b'{"value": 1, "ttl_s": 1e30}', 400),
        (b'{"value": NaN}', 400),
        (b'{"value": "\\u0000"}', 400),
        (b'{"value": "\\ud800"}', 400),
        (b'{"value": ' + b"[" * 200 + b"]" * 200 + b"}", 400),
        (b'{"value": "' + b"x" * 1_048_577 + b'"}', 413),
        (b'{"value": "' + b"x" * 1_048_565 + b'"}', 413),
        (b'{"value": "' + b"x" * 1_048_564 + b'"}', 201),
        (b'{"value": 5, "ttl_s": 5}', 201),
    ],
    ids=range(13),
)
def test_values_are_checked(tmp_path: Path, body: bytes, status: int) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            answer = await served.http.put(f"{STORE}/n/k", content=body)
            assert answer.status_code == status, answer.text[:300]
            assert len((await served.http.get(f"{STORE}/n")).json()["items"]) == (status == 201)

    run(main)


def test_others_values_are_for_admins_and_writing_is_for_senders(tmp_path: Path) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            await served.http.put(f"{STORE}/n/k", json={"value": "mine"})
        async with workshop(tmp_path, Peer(uid=1001, gid=1001, pid=1)) as (served, _):
            assert (await served.http.get(f"{STORE}/n/k")).status_code == 404
            assert (await served.http.get(f"{STORE}/n/k?owner=1000")).status_code == 403
            assert (await served.http.get(STORE)).json()["items"] == []
            for call in (
                served.http.put(f"{STORE}/n/k", json={"value": 1}),
                served.http.delete(f"{STORE}/n/k"),
                served.http.delete(f"{STORE}/n"),
                served.http.post(EVENTS, json={"topic": "custom.x", "name": "y"}),
            ):
                assert (await call).status_code == 403
        async with workshop(tmp_path, Peer(uid=0, gid=0, pid=1)) as (served, _):
            assert (await served.http.get(f"{STORE}/n/k")).status_code == 404
            assert (await served.http.get(f"{STORE}/n/k?owner=1000")).json()["value"] == "mine"
            assert len((await served.http.get(f"{STORE}/n?owner=1000")).json()["items"]) == 1
            assert (await served.http.delete(f"{STORE}/n/k?owner=1000")).status_code == 204

    run(main)


def test_keys_come_in_pages(tmp_path: Path) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            for number in range(5):
                await served.http.put(f"{STORE}/n/{number}", json={"value": number})
            found, cursor = [], ""
            while cursor is not None:
                page = (await served.http.get(f"{STORE}/n?limit=2&cursor={cursor}")).json()
                found += [item["key"] for item in page["items"]]
                cursor = page["next"]
            assert found == list("01234")

    run(main)


def lines(text: str) -> list[tuple[int, str]]:
    return [(value["seq"], value["type"]) for value in map(json.loads, text.splitlines())]


def test_events_are_read_by_number_topic_name_and_from_the_end(tmp_path: Path) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, feed):
            await feed.apply(
                [], [event(topic="agent", name="error"), event(topic="work", name="added"), event(owner=7), event()]
            )
            for query, expected in (
                ("", [(1, "agent.error"), (2, "work.added"), (4, "custom.x.e")]),
                ("&after=1", [(2, "work.added"), (4, "custom.x.e")]),
                ("&topic=agent,work&name=added", [(2, "work.added")]),
                ("&topic=all&last=1", [(4, "custom.x.e")]),
                ("&last=0", []),
                ("&limit=1", [(1, "agent.error")]),
            ):
                answer = await served.http.get(f"{EVENTS}?follow=false{query}")
                assert (answer.status_code, lines(answer.text)) == (200, expected), query
            resumed = await served.http.get(f"{EVENTS}?follow=false&after=1", headers={"last-event-id": "2"})
            assert lines(resumed.text) == [(4, "custom.x.e")]
            for query in ("topic=agnet", "name=x&topic=work", "after=-1", "after=1.5", "last=501", "limit=0", "x=1"):
                answer = await served.http.get(f"{EVENTS}?follow=false&{query}")
                assert answer.status_code == 400, query
            bad = await served.http.get(f"{EVENTS}?follow=false", headers={"last-event-id": "x"})
            assert bad.status_code == 400

    run(main)


def test_events_are_streamed_as_they_come_and_the_topics_of_users_are_theirs(tmp_path: Path) -> None:
    async def main() -> None:
        async with workshop(tmp_path, USER) as (served, _):
            async with (
                AsyncClient(served.path) as client,
                client.workshop_events(topics=["custom"]) as events,
                trio.open_nursery() as nursery,
            ):

                async def tell() -> None:
                    said = {"topic": "custom.deploy", "name": "done", "data": {"v": "1"}}
                    told = await served.http.post(EVENTS, json=said)
                    assert (told.status_code, told.json()["type"]) == (201, "custom.deploy.done")

                nursery.start_soon(tell)
                heard = await anext(events)
                assert (heard.type, heard.owner_uid, heard.data) == ("custom.deploy.done", 1000, {"v": "1"})
                assert heard.to_dict()["owner_uid"] == 1000
            for body in (
                {"topic": "agent", "name": "created"},
                {"topic": "custom.x", "name": "a.b"},
                {"topic": "custom.x", "name": "y", "data": []},
                {"topic": "custom.x"},
            ):
                assert (await served.http.post(EVENTS, json=body)).status_code == 400
            big = {"topic": "custom.x", "name": "y", "data": {"x": "y" * 70_000}}
            assert (await served.http.post(EVENTS, json=big)).status_code == 413

    run(main)


def test_without_a_workshop_everything_of_it_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            for path in (STORE, f"{STORE}/n/k", f"{EVENTS}?follow=false"):
                answer = await served.http.get(path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")

    run(main)
