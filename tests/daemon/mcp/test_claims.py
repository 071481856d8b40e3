from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from skilld.client import AsyncClient, DaemonUnreachable, SkilldError
from skilld.mcp.claims import Claims
from skilld.mcp.tool import ToolFailure


class Board:
    """A board at which leases are renewed and attempts fail, unless `error` says otherwise."""

    def __init__(self) -> None:
        self.renewed: list[tuple[str, str, float]] = []
        self.failed: list[tuple[str, str]] = []
        self.error: SkilldError | None = None

    async def renew_item(self, id: str, token: str) -> dict[str, Any]:
        self.renewed.append((id, token, trio.current_time()))
        if self.error is not None:
            raise self.error
        return {}

    async def fail_item(self, id: str, token: str, error: str) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.failed.append((id, token))
        return {}


def claims_at(board: Board) -> Claims:
    return Claims(cast("AsyncClient", board), renew_s=10)


async def run_for(claims: Claims, time_s: float) -> None:
    with trio.move_on_after(time_s):
        await claims.run()


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0)


def test_a_lease_is_renewed_again_and_again(clock: MockClock) -> None:
    board = Board()
    claims = claims_at(board)
    claims.add("a", "t")
    trio.run(run_for, claims, 35, clock=clock)
    assert [(id, token) for id, token, _ in board.renewed] == [("a", "t")] * 3


def test_a_daemon_that_is_away_costs_no_claim(clock: MockClock) -> None:
    board = Board()
    board.error = DaemonUnreachable("s", "gone")
    claims = claims_at(board)
    claims.add("a", "t")
    trio.run(run_for, claims, 35, clock=clock)
    assert (len(board.renewed), claims.token("a")) == (3, "t")


def test_a_lease_that_is_lost_is_forgotten_and_said(clock: MockClock) -> None:
    board = Board()
    board.error = SkilldError("conflict", "somebody else has it", status=409)
    claims = claims_at(board)
    claims.add("a", "t")
    trio.run(run_for, claims, 35, clock=clock)
    assert len(board.renewed) == 1
    with pytest.raises(ToolFailure, match="claim it first"):
        claims.token("a")


def test_what_is_still_claimed_at_the_end_is_given_back_once() -> None:
    board = Board()
    claims = claims_at(board)
    claims.add("a", "t")
    claims.add("b", "u")
    claims.forget("b")
    trio.run(claims.give_back)
    trio.run(claims.give_back)
    assert board.failed == [("a", "t")]


def test_the_end_is_not_held_up_by_a_daemon_that_is_away() -> None:
    board = Board()
    board.error = DaemonUnreachable("s", "gone")
    claims = claims_at(board)
    claims.add("a", "t")
    trio.run(claims.give_back)
    assert board.failed == []
