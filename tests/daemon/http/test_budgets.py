"""What was spent and what may be, over the socket: who may ask, and what is taken for a day or a limit."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from http_kit import serving
from skill_actors.sessions.table import Viewer
from skilld.http import descent
from support import run

ROOT = Viewer(uid=0, admin=True)


@pytest.fixture
def as_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is in the server's own process here, which may not do everything."""
    monkeypatch.setattr(descent, "may_descend", lambda pid, ancestor: False)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/budgets", {"name": "day", "usd": 5}),
        ("DELETE", "/v1/budgets/day", None),
        ("PATCH", "/v1/sessions/{id}", {"budget": {"usd": 5}}),
        ("PATCH", "/v1/sessions/{id}", {"policy": {"preset": "full"}}),
    ],
)
def test_what_the_daemon_has_started_loosens_nothing_that_binds_it(
    tmp_path: Path, method: str, path: str, body: dict[str, Any] | None
) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            answer = await served.http.request(method, path.format(id=session), json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
            assert served.budgets.asked == []
            assert (await served.http.patch(f"/v1/sessions/{session}", json={"title": "b"})).status_code == 200

    run(main)


def test_usage_is_asked_for_with_days(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.get("/v1/usage")
            assert answer.json() == {"by": "day", "items": []}
            query = {"by": "user", "since": "2026-01-15", "until": "2026-01-15"}
            assert (await served.http.get("/v1/usage", params=query)).status_code == 200
            day = date(2026, 1, 15)
            assert served.budgets.asked == [(ROOT, "day", None, None), (ROOT, "user", day, day)]

    run(main)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"by": "colour"}, "by='colour'"),
        ({"since": "yesterday"}, "since='yesterday'"),
        ({"until": "2026-02-30"}, "until='2026-02-30'"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "since=2026-01-02 is after until=2026-01-01"),
        ({"uid": "0"}, "unknown query parameter 'uid'"),
    ],
)
def test_what_is_no_question_about_usage_is_refused(tmp_path: Path, query: dict[str, str], named: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.get("/v1/usage", params=query)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
            assert named in answer.json()["error"]["message"]
            assert served.budgets.asked == []

    run(main)


@pytest.mark.usefixtures("as_another_process")
def test_a_cap_is_looked_at_set_and_taken_away_by_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            assert (await served.http.get("/v1/budgets")).json() == {"items": [{"name": None}], "next": None}
            await served.http.get("/v1/budgets", params={"name": "user/1000/day"})
            limits = {"usd": 1, "tokens": None}
            made = await served.http.post("/v1/budgets", json={"name": "user/1000/day", **limits})
            assert (made.status_code, made.json()) == (200, {"name": "user/1000/day"})
            gone = await served.http.delete("/v1/budgets/user/1000/day")
            assert (gone.status_code, gone.content) == (204, b"")
            assert served.budgets.asked == [
                (ROOT, None),
                (ROOT, "user/1000/day"),
                (ROOT, "user/1000/day", limits),
                (ROOT, "user/1000/day"),
            ]

    run(main)


@pytest.mark.parametrize(
    "body",
    [
        {"usd": 1},
        {"name": "", "usd": 1},
        {"name": "x" * 201, "usd": 1},
        {"name": "day", "usd": "1"},
        {"name": "day", "usd": True},
        {"name": "day", "tokens": 1.5},
        {"name": "day", "dollars": 1},
        {"name": "day", "usd": {}},
    ],
)
def test_what_is_no_cap_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.post("/v1/budgets", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
            assert served.budgets.asked == []

    run(main)
