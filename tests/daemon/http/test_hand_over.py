"""The route that hands files over: what it takes, and what it refuses before anybody is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from http_kit import serving
from skill_actors.ids import new_id
from support import run


def test_a_file_is_handed_over_as_the_body_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = (await served.http.post("/v1/sessions", json={})).json()["id"]
            body = {"name": "a/b.txt", "from": "local", "to": "build"}
            answer = await served.http.post(f"/v1/sessions/{session}/hand-over", json=body)
            assert answer.status_code == 200
            assert answer.json()["place"] == "build"
            assert served.sessions.asked[-1] == ("hand_over", session, body)
            assert (await served.http.post(f"/v1/sessions/{new_id('ses')}/hand-over", json=body)).status_code == 404

    run(main)


@pytest.mark.parametrize(
    "body", [{}, {"name": "a"}, {"name": 1, "from": "a", "to": "b"}, {"name": "a", "from": "a", "to": "b", "x": 1}]
)
def test_a_body_that_makes_no_sense_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = (await served.http.post("/v1/sessions", json={})).json()["id"]
            answer = await served.http.post(f"/v1/sessions/{session}/hand-over", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")

    run(main)
