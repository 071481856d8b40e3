"""Forks, resets, exports, imports and filtered lists over the socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from http_kit import serving
from skill_actors.ids import new_id
from skill_actors.sessions.wanted import Wanted
from support import run


def test_a_fork_is_made_where_the_body_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            path = f"/v1/sessions/{session}/fork"
            made = await served.http.post(path, json={"after": 7, "title": "x"}, headers={"Idempotency-Key": "k"})
            assert made.status_code == 201
            assert made.headers["location"] == f"/v1/sessions/{made.json()['id']}"
            assert (await served.http.post(path)).status_code == 201
            assert served.sessions.asked == [("fork", session, 7, "x", "k"), ("fork", session, None, None, None)]
            for bad in ({"after": -1}, {"after": "7"}, {"after": 1.5}, {"at": 7}, {"title": 3}):
                assert (await served.http.post(path, json=bad)).status_code == 400
            assert (await served.http.post(f"/v1/sessions/{new_id('ses')}/fork")).status_code == 404

    run(main)


def test_a_reset_keeps_the_files_unless_it_is_told_not_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            path = f"/v1/sessions/{session}/reset"
            assert (await served.http.post(path)).json()["id"] == session
            assert (await served.http.post(path, json={"workspace": True})).status_code == 200
            assert served.sessions.asked == [("reset", session, False), ("reset", session, True)]
            assert (await served.http.post(path, json={"workspace": "yes"})).status_code == 400

    run(main)


def test_an_export_is_lines_and_an_import_is_taken_as_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            for number in range(2000):  # more than one piece
                served.sessions.publish(session, "tool.output", text=f"é{number}" * 20)
            answer = await served.http.get(f"/v1/sessions/{session}/export")
            assert answer.headers["content-type"] == "application/x-ndjson"
            assert answer.headers["content-disposition"] == f'attachment; filename="{session}.jsonl"'
            assert answer.text.splitlines() == [event.to_json() for event in served.sessions.sessions[session].events]
            missing = await served.http.get(f"/v1/sessions/{new_id('ses')}/export")
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
            raw = b'{"not": "checked here"}\n\xff'
            made = await served.http.post("/v1/sessions/import", content=raw, headers={"Idempotency-Key": "k"})
            assert made.status_code == 201
            assert served.sessions.asked == [("import", raw, "k")]
            packed = await served.http.post("/v1/sessions/import", content=raw, headers={"Content-Encoding": "gzip"})
            assert packed.status_code == 400

    run(main)


def test_filters_of_a_list_are_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            query = {"status": "idle", "label": "a=b", "title": "T", "q": "x", "since": "2026-01-15T04:29:51+01:00"}
            assert (await served.http.get("/v1/sessions", params=query)).status_code == 200
            assert served.sessions.wanted == Wanted(
                status="idle", label="a=b", title="T", text="x", since="2026-01-15T03:29:51.000Z"
            )
            assert (await served.http.get("/v1/sessions")).status_code == 200
            assert served.sessions.wanted is None

    run(main)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "asleep"),
        ("status", ""),
        ("since", "yesterday"),
        ("since", "2026-01-15T03:29:51"),
        ("since", "0001-01-01T00:00:00+23:00"),
        ("title", "x" * 401),
    ],
)
def test_a_filter_that_cannot_be_one_is_named(tmp_path: Path, name: str, value: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.get("/v1/sessions", params={name: value})
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].startswith(name)

    run(main)
