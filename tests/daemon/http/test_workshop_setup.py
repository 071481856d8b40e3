"""A whole workshop over HTTP: what an admin sees of others', a setup file, budgets, how all of it stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from http_kit import Served, serving
from setup_kit import SetupKit, open_shop
from skill_actors.workshop.workflows.runner import Runner
from skilld.config import RolesConfig
from skilld.config.roles import RoleConfig, SenderConfig
from skilld.http.peer import Peer
from support import run

W = "/v1/workshop"
USER, OTHER, ADMIN = (Peer(uid=uid, gid=uid, pid=1) for uid in (1000, 1001, 7))
ROLES = RolesConfig(
    read=RoleConfig(uids=(1000, 1001)), send=SenderConfig(uids=(1000, 1001)), admin=SenderConfig(uids=(0, 7))
)
STAGE = {"name": "one", "agent": "a", "prompt": "do"}
FILE = {
    "agents": {"a": {"queue": 2}},
    "workflows": {"w": {"stage": [STAGE]}},
    "schedules": {"s": {"agent": "a", "prompt": "x", "every_s": 9000}},
}


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[SetupKit, Served, Served, Served]]:
    """One workshop, as a user, another and an admin have it; the admin's uid is another one again."""
    async with open_shop(folder) as kit:
        shop = kit.shop
        nouns: Any = SimpleNamespace(
            agents=shop.desk,
            board=shop.board,
            workers=shop.workers,
            schedules=shop.schedules,
            runs=shop.runs,
            runner=Runner(shop.runs, shop.desk, shop.board),
            setup_files=kit.files,
        )
        async with (
            serving(folder / "a", peer=USER, roles=ROLES, workshop=lambda: nouns) as user,
            serving(folder / "b", peer=OTHER, roles=ROLES, workshop=lambda: nouns) as other,
            serving(folder / "c", peer=ADMIN, roles=ROLES, workshop=lambda: nouns) as admin,
        ):
            yield kit, user, other, admin


async def apply(place: Served, file: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    answer = await place.http.post(f"{W}/setup", json={"file": FILE if file is None else file, **how})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def names(place: Served, path: str, name: str = "name") -> list[Any]:
    answer = await place.http.get(f"{W}/{path}")
    assert answer.status_code == 200, answer.text
    return [item[name] for item in answer.json()["items"]]


SEEN = (
    *("agents", "agents/a", "agents/a/history", "cost", "profiles", "workflows", "workflows/w", "schedules"),
    *("schedules/s", "runs", "status", "budget", "setup", "config", "board/summary", "board/workers"),
)


@pytest.mark.parametrize("path", SEEN)
def test_an_admin_sees_what_is_others_and_nobody_else_does(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_, user, other, admin):
            await apply(user)
            own = await user.http.get(f"{W}/{path}")
            assert own.status_code == 200, own.text
            assert (await admin.http.get(f"{W}/{path}?owner=1000")).json() == own.json()
            refused = await other.http.get(f"{W}/{path}?owner=1000")
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
            assert (await other.http.get(f"{W}/{path}?owner=me")).status_code == 400

    run(main)


def test_an_admin_lists_what_is_everybodys(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_, user, other, admin):
            await apply(user)
            await apply(other, {"agents": {"b": {}}, "schedules": {"t": {"agent": "b", "prompt": "x", "every_s": 9}}})
            begun = (await user.http.post(f"{W}/workflows/w/run", json={})).json()["id"]
            assert await names(admin, "agents?owner=all") == ["a", "b"]
            assert await names(admin, "agents?owner=all", "owner_uid") == [1000, 1001]
            assert await names(admin, "schedules?owner=all") == ["s", "t"]
            assert await names(admin, "schedules?owner=all", "owner_uid") == [1000, 1001]
            assert await names(admin, "runs?owner=all", "id") == [begun]
            assert await names(admin, "runs?owner=all", "owner_uid") == [1000]
            assert await names(admin, "agents") == []
            for path in ("agents", "schedules", "runs"):
                assert (await user.http.get(f"{W}/{path}?owner=all")).status_code == 403
            assert (await admin.http.get(f"{W}/status?owner=all")).status_code == 400

    run(main)


def test_a_file_is_applied_exported_and_refused_with_all_its_faults(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (_, user, other, _admin):
            shown = await apply(user, dry_run=True)
            assert (shown["applied"], len(shown["steps"]), await names(user, "agents")) == (False, 3, [])
            assert (await apply(user, plan=shown["plan"]))["applied"] is True
            found = (await user.http.get(f"{W}/setup?name=x")).json()
            assert (found["file"]["name"], found["left_out"]) == ("x", [])
            assert (await apply(other, found["file"]))["applied"] is True
            assert await names(other, "agents") == ["a"]
            bad = {"file": {"agents": {"a": {"modle": 1}, "b": {"queue": "x"}}}, "dry_run": True}
            refused = await user.http.post(f"{W}/setup", json=bad)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (400, "bad_request")
            assert [fault["keys"] for fault in error["details"]["faults"]] == [
                ["agents", "a", "modle"],
                ["agents", "b", "queue"],
            ]
            gone = await user.http.post(f"{W}/setup", json={"file": FILE, "plan": shown["plan"]})
            assert (gone.status_code, gone.json()["error"]["code"]) == (409, "conflict")
            bodies: list[dict[str, Any]] = [{}, {"file": []}, {"file": {}, "dryrun": True}, {"file": {}, "prune": 1}]
            for body in bodies:
                assert (await user.http.post(f"{W}/setup", json=body)).status_code == 400, body

    run(main)


def test_budgets_are_shown_set_and_begun_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (kit, user, _, _admin):
            await apply(user)
            await kit.desk.ask("a", "hello")
            spent = (await user.http.get(f"{W}/budget")).json()["total"]["known_usd"]
            assert spent > 0
            session = (await kit.desk.view("a"))["session"]
            one = (await user.http.patch(f"{W}/budget", json={"agent": "a", "usd": 2.0})).json()["agents"][0]
            assert (one["limit_usd"], one["left_usd"]) == (2.0, pytest.approx(2.0 - spent))
            assert (await kit.desk.view("a"))["session"] == session
            reset = (await user.http.post(f"{W}/budget/reset")).json()
            assert (reset["total"]["since_usd"], reset["total"]["known_usd"]) == (0.0, pytest.approx(spent))
            assert reset["agents"][0]["left_usd"] == pytest.approx(2.0 - spent)  # the cap counts all of it still
            await kit.desk.ask("a", "again")
            after = (await user.http.get(f"{W}/budget")).json()
            assert after["total"]["since_usd"] == pytest.approx(after["total"]["known_usd"] - spent)
            assert after["total"]["since_usd"] > 0
            bodies: list[dict[str, Any]] = [{}, {"usd": -1}, {"usd": "2"}, {"usd": 1, "agent": 3}]
            for body in bodies:
                assert (await user.http.patch(f"{W}/budget", json=body)).status_code == 400, body
            assert (await user.http.patch(f"{W}/budget", json={"usd": 1, "agent": "nobody"})).status_code == 404

    run(main)


def test_all_agents_together_are_held_by_their_cap_after_a_reset_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (kit, user, _, _admin):
            await user.http.patch(f"{W}/budget", json={"usd": 0.5})
            await apply(user)
            assert (await kit.desk.ask("a", "hello"))["status"] == "finished"
            total = (await user.http.get(f"{W}/budget")).json()["total"]
            assert total["left_usd"] == pytest.approx(0.5 - total["known_usd"])
            await user.http.patch(f"{W}/budget", json={"usd": 0.0})
            await user.http.post(f"{W}/budget/reset")
            turn = await kit.desk.ask("a", "again")
            assert (turn["status"], turn["result"]["error"]["code"]) == ("failed", "budget_exceeded")

    run(main)


def test_a_workflow_is_reset(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (kit, user, _, _admin):
            await apply(user)
            for _ in range(2):
                run_ = (await user.http.post(f"{W}/workflows/w/run", json={})).json()["id"]
                await kit.shop.runs.change(f"1000/{run_}", ended)
            assert len(await names(user, "runs", "id")) == 2
            answer = await user.http.post(f"{W}/workflows/w/reset")
            assert answer.json() == {"cancelled": 0, "forgotten": 2}
            assert await names(user, "runs", "id") == []
            assert await names(user, "workflows") == ["w"]
            assert (await user.http.post(f"{W}/workflows/nobody/reset")).status_code == 404

    run(main)


def ended(run: Any) -> Any:
    from dataclasses import replace

    from skill_actors.workshop.workflows.runs import Changed

    return Changed(replace(run, status="completed"), "completed", {})
