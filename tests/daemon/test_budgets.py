"""What the socket says of money, over a real ledger: who sees what, who may set what, and what is left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.models.prices import load_prices
from skill_actors.sessions.ledger import Account, BudgetExceeded, Cap, Ledger, Limits
from skill_actors.sessions.table import Viewer
from skill_actors.store import SqliteJournal
from skill_actors.telemetry import Bus
from skilld import budgets
from skilld.budget_caps import configured_caps, current_caps
from skilld.budgets import Budgets
from skilld.config import BudgetConfig
from support import run

ROOT = Viewer(uid=0, admin=True)
ALICE, BOB = Viewer(uid=1000), Viewer(uid=2000)
MINE, HIS = "ses_" + "a" * 26, "ses_" + "b" * 26
OWNERS = {MINE: 1000, HIS: 2000}


class Sessions:
    """Two, of two users."""

    async def get(self, session: str, viewer: Viewer) -> dict[str, Any]:
        if session not in OWNERS or not (viewer.admin or OWNERS[session] == viewer.uid):
            raise Refused("not_found", "no such session")
        return {"id": session}


@dataclass
class Desk:
    budgets: Budgets
    ledger: Ledger
    config: list[Cap]
    now: list[str]
    audited: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    async def spend(self, session: str = MINE, *, usd: float = 0.0, tools: int = 0) -> None:
        account = Account(session=session, turn="trn_" + "c" * 26, owner_uid=OWNERS[session])
        await self.ledger.add_cost(account, usd)
        for _ in range(tools):
            await self.ledger.charge_tool(account)

    async def tool(self, session: str = MINE) -> None:
        await self.spend(session, tools=1)


@asynccontextmanager
async def open_desk(folder: Path, *config: Cap) -> AsyncIterator[Desk]:
    caps, now = list(config), ["2026-01-15T23:59:00.000Z"]
    async with await SqliteJournal.open(folder / "journal.db") as journal:
        ledger = Ledger(journal.ledger, prices=load_prices(), bus=Bus(), caps=lambda: tuple(caps), clock=lambda: now[0])
        audited: list[tuple[str, Mapping[str, Any]]] = []
        budgets = Budgets(
            ledger, journal.ledger, lambda: tuple(caps), Sessions(), lambda what, facts: audited.append((what, facts))
        )
        yield Desk(budgets, ledger, caps, now, audited)


def cap(name: str, **limits: Any) -> Cap:
    return Cap(name=name, limits=Limits(**limits), source="config")


def named(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(item["name"], item["source"]) for item in found]


def test_the_configurations_keys_become_caps_and_what_is_empty_none() -> None:
    assert configured_caps(BudgetConfig()) == ()
    config = BudgetConfig(turn={"usd": 1}, user_day={"tokens": 5}, month={"seconds": 1.5}, total={"tool_calls": 0})
    assert {item.name: item.limits.to_json() for item in configured_caps(config)} == {
        "turn": {"usd": 1},
        "user/day": {"tokens": 5},
        "global/month": {"seconds": 1.5},
        "global": {"tool_calls": 0},
    }


def test_caps_of_the_configuration_are_made_anew_only_when_it_is_another() -> None:
    now = [BudgetConfig(day={"usd": 1})]
    caps = current_caps(lambda: now[0])
    assert caps() is caps()
    now[0] = BudgetConfig(day={"usd": 2})
    assert [item.limits.usd for item in caps()] == [2]


def test_one_sees_what_one_has_spent_and_an_admin_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            await desk.spend(MINE, usd=1.25, tools=2)
            await desk.spend(HIS, usd=0.5)
            hers = await desk.budgets.usage(ALICE, "session", None, None)
            assert hers["items"] == [{"key": MINE, **hers["total"]}]
            assert hers["total"] == {
                "cost_usd": 1.25,
                "known_usd": 1.25,
                "held_usd": 0.0,
                "tokens": 0,
                "seconds": 0.0,
                "tool_calls": 2,
            }
            all_ = await desk.budgets.usage(ROOT, "user", None, None)
            assert {item["key"]: item["known_usd"] for item in all_["items"]} == {"1000": 1.25, "2000": 0.5}
            assert all_["total"]["known_usd"] == 1.75
            none = await desk.budgets.usage(ROOT, "day", date(2026, 1, 16), None)
            assert (none["items"], none["total"]["known_usd"]) == ([], 0.0)
            assert len((await desk.budgets.usage(ROOT, "day", date(2026, 1, 15), date(2026, 1, 15)))["items"]) == 1

    run(main)


def test_the_total_is_that_of_all_also_where_not_all_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "_MOST_ITEMS", 1)

    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            await desk.spend(MINE, usd=1.25)
            await desk.spend(HIS, usd=0.5)
            found = await desk.budgets.usage(ROOT, "session", None, None)
            assert [item["key"] for item in found["items"]] == [MINE]
            assert found["total"]["known_usd"] == 1.75

    run(main)


def test_a_cap_shows_what_is_used_and_left_and_one_of_each_shows_neither(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, cap("turn", usd=1.0), cap("user/day", usd=5.0, tool_calls=3)) as desk:
            await desk.spend(usd=1.5, tools=1)
            turn, day = await desk.budgets.caps(ALICE, None)
            assert (turn["name"], turn["used"], turn["held"], turn["left"]) == ("turn", None, None, None)
            assert day["used"] == {"usd": 1.5, "tokens": 0, "seconds": 0.0, "tool_calls": 1}
            assert day["left"] == {"usd": 3.5, "tokens": None, "seconds": None, "tool_calls": 2}
            assert (day["source"], day["by_uid"]) == ("config", None)
            (his,) = await desk.budgets.caps(BOB, "user/day")
            assert his["left"]["usd"] == 5.0
            (nobodys,) = await desk.budgets.caps(ROOT, "user/day")
            assert nobodys["used"] is None

    run(main)


def test_a_cap_that_is_set_holds_at_once_and_after_a_restart_until_it_is_unset(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            made = await desk.budgets.set_cap(ROOT, "day", {"tool_calls": 1})
            assert (made["name"], made["source"], made["by_uid"]) == ("global/day", "set", 0)
            await desk.tool()
            with pytest.raises(BudgetExceeded, match="global/day"):
                await desk.tool()
        async with open_desk(tmp_path) as desk:
            with pytest.raises(BudgetExceeded, match="skillctl budget set global/day --tool-calls"):
                await desk.tool(HIS)
            desk.now[0] = "2026-01-16T00:00:00.000Z"
            await desk.tool()
            with pytest.raises(BudgetExceeded):
                await desk.tool()
            await desk.budgets.unset_cap(ROOT, "global/day")
            await desk.tool()
            with pytest.raises(Refused, match="no cap 'global/day' is set"):
                await desk.budgets.unset_cap(ROOT, "day")

    run(main)


def test_a_users_day_ends_for_that_user_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, cap("user/day", tool_calls=1), cap("global/day", tool_calls=2)) as desk:
            await desk.tool(MINE)
            with pytest.raises(BudgetExceeded, match="user/day"):
                await desk.tool(MINE)
            await desk.tool(HIS)
            await desk.budgets.set_cap(ROOT, "user/1000/day", {"tool_calls": 9})
            with pytest.raises(BudgetExceeded, match="user/day"):
                await desk.tool(MINE)  # the cap of each user binds this one too
            await desk.budgets.set_cap(ROOT, "user/day", {"tool_calls": 9})
            with pytest.raises(BudgetExceeded, match="global/day"):
                await desk.tool(MINE)

    run(main)


def test_a_limit_that_is_not_named_stays_also_one_of_the_configuration(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, cap("global/day", usd=10.0, tokens=1000)) as desk:
            made = await desk.budgets.set_cap(ROOT, "day", {"usd": 20})
            assert made["limits"] == {"usd": 20, "tokens": 1000, "seconds": None, "tool_calls": None}
            made = await desk.budgets.set_cap(ROOT, "day", {"tool_calls": 5, "tokens": None})
            assert made["limits"] == {"usd": 20, "tokens": None, "seconds": None, "tool_calls": 5}
            assert named(await desk.budgets.caps(ROOT, None)) == [("global/day", "set")]
            await desk.budgets.unset_cap(ROOT, "day")
            (back,) = await desk.budgets.caps(ROOT, None)
            assert (back["source"], back["limits"]["usd"]) == ("config", 10.0)

    run(main)


def test_limits_that_are_set_at_once_all_stay(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            async with trio.open_nursery() as nursery:
                for change in ({"usd": 5}, {"tokens": 6}, {"seconds": 7}, {"tool_calls": 8}):
                    nursery.start_soon(desk.budgets.set_cap, ROOT, "day", change)
            (day,) = await desk.budgets.caps(ROOT, "day")
            assert day["limits"] == {"usd": 5, "tokens": 6, "seconds": 7, "tool_calls": 8}

    run(main)


def test_a_cap_without_a_limit_is_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            await desk.budgets.set_cap(ROOT, "day", {"usd": 20})
            gone = await desk.budgets.set_cap(ROOT, "day", {"usd": None})
            assert set(gone["limits"].values()) == {None}
            assert await desk.budgets.caps(ROOT, None) == []

    run(main)


@pytest.mark.parametrize(
    ("name", "limits", "said"),
    [
        ("dya", {"usd": 1}, "'dya' is no cap"),
        ("user/alice", {"usd": 1}, "is no cap"),
        ("session/../x", {"usd": 1}, "is no cap"),
        ("day\n", {"usd": 1}, "is no cap"),
        ("day", {"usd": -1}, "usd must be a number from 0"),
        ("day", {"usd": float("nan")}, "usd must be"),
        ("day", {"usd": float("inf")}, "usd must be"),
        ("day", {"tokens": 10**18}, "tokens must be"),
    ],
)
def test_what_is_no_cap_is_not_set(tmp_path: Path, name: str, limits: dict[str, Any], said: str) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            with pytest.raises(Refused, match=said) as caught:
                await desk.budgets.set_cap(ROOT, name, limits)
            assert caught.value.code == "bad_request"
            assert (await desk.budgets.caps(ROOT, None), desk.audited) == ([], [])

    run(main)


def test_others_set_caps_on_their_own_sessions_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            for name in ("day", "user/1000", "session", "turn", "agent/x"):
                with pytest.raises(Refused, match="is set by an admin") as caught:
                    await desk.budgets.set_cap(ALICE, name, {"usd": 1})
                assert caught.value.code == "forbidden"
            with pytest.raises(Refused) as caught:
                await desk.budgets.set_cap(ALICE, f"session/{HIS}", {"usd": 1})
            assert caught.value.code == "not_found"
            made = await desk.budgets.set_cap(ALICE, f"session/{MINE}", {"tool_calls": 1})
            assert made["by_uid"] == 1000
            assert (await desk.budgets.set_cap(ALICE, f"session/{MINE}", {"tool_calls": 2}))["left"]["tool_calls"] == 2
            assert named(await desk.budgets.caps(ALICE, None)) == [(f"session/{MINE}", "set")]
            assert await desk.budgets.caps(BOB, None) == []
            await desk.budgets.unset_cap(ALICE, f"session/{MINE}")
            assert await desk.budgets.caps(ALICE, None) == []

    run(main)


def test_an_owner_neither_widens_what_holds_for_each_session_nor_changes_what_an_admin_has_set(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, cap("session", usd=2.0)) as desk:
            with pytest.raises(Refused, match="beyond the 2"):
                await desk.budgets.set_cap(ALICE, f"session/{MINE}", {"usd": 2.5})
            await desk.budgets.set_cap(ALICE, f"session/{MINE}", {"usd": 2.0})
            await desk.budgets.set_cap(ROOT, f"session/{MINE}", {"usd": 1.0})
            for change in ({"usd": 1.5}, {"usd": None}, {"usd": 0.5}):
                with pytest.raises(Refused, match="set by uid 0") as caught:
                    await desk.budgets.set_cap(ALICE, f"session/{MINE}", change)
                assert caught.value.code == "forbidden"
            with pytest.raises(Refused, match="set by uid 0"):
                await desk.budgets.unset_cap(ALICE, f"session/{MINE}")

    run(main)


def test_caps_of_somebody_else_are_not_shown(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            for name in ("user/2000", "user/2000/day", f"session/{HIS}", "agent/helper"):
                await desk.budgets.set_cap(ROOT, name, {"usd": 1})
            assert await desk.budgets.caps(ALICE, None) == []
            for name in ("user/2000", "user/2000/day", f"session/{HIS}"):
                with pytest.raises(Refused) as caught:
                    await desk.budgets.caps(ALICE, name)
                assert caught.value.code in ("forbidden", "not_found")
            assert named(await desk.budgets.caps(BOB, "user/2000")) == [("user/2000", "set")]
            assert len(await desk.budgets.caps(ROOT, None)) == 4

    run(main)


def test_who_sets_and_unsets_is_in_the_audit_log(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            await desk.budgets.set_cap(ALICE, f"session/{MINE}", {"usd": 1})
            await desk.budgets.unset_cap(ROOT, f"session/{MINE}")
            facts = {"name": f"session/{MINE}", "limits": {"usd": 1}}
            assert desk.audited == [
                ("budget.set", {"uid": 1000, **facts}),
                ("budget.unset", {"uid": 0, **facts}),
            ]

    run(main)


def test_a_session_that_is_not_there_gets_no_cap_but_one_that_is_gone_can_lose_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path) as desk:
            nobodys = f"session/ses_{'z' * 26}"
            with pytest.raises(Refused, match="no such session"):
                await desk.budgets.set_cap(ROOT, nobodys, {"usd": 1.0})
            assert await desk.budgets.caps(ROOT, None) == []
            await desk.ledger.set_cap(nobodys, Limits(usd=1.0), 0)  # as it stands once its session is deleted
            await desk.budgets.unset_cap(ROOT, nobodys)
            assert await desk.budgets.caps(ROOT, None) == []

    run(main)
