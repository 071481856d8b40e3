"""The board under hypothesis: several holders, crashes of holders and of the board, leases that run out, edits.

The board lives in a trio program of its own, on a clock that is moved by hand; the machine calls into it.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import trio
import trio.testing
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from board_kit import ME
from skill_actors.errors import Refused
from skill_actors.store import SqliteJournal
from skill_actors.workshop.board import Board, Item, Outcome
from skill_actors.workshop.board.item import HELD, WAITING
from skill_actors.workshop.board.rules import implied_status

T = TypeVar("T")
LEASE_S = 60.0

# From which state an item comes to which; None: it was added.
LEGAL = {
    None: {"new", "ready", "blocked"},
    "new": {"ready", "blocked", "cancelled"},
    "ready": {"claimed", "cancelled", "new", "blocked"},
    "claimed": {"in_progress", "done", "failed", "ready", "cancelled"},
    "in_progress": {"done", "failed", "ready", "cancelled"},
    "blocked": {"new", "ready", "cancelled"},
    "failed": {"new", "ready", "blocked", "cancelled"},
    "cancelled": {"new", "ready", "blocked"},
    "done": set(),
}


class Program:
    """A trio program in a thread, with a journal in a folder and the board that is over it now."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main)
        self._thread.start()
        assert self._started.wait(20)

    def _main(self) -> None:
        self.clock = trio.testing.MockClock(rate=0.0, autojump_threshold=math.inf)
        trio.run(self._live, clock=self.clock)

    async def _live(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        async with AsyncExitStack() as stack:
            opened = await SqliteJournal.open(Path(self._folder.name) / "journal.db", reserve_bytes=0)
            self.journal = await stack.enter_async_context(opened)
            self.renew()
            self._started.set()
            await self._end.wait()

    def renew(self) -> None:
        self.board = Board(self.journal.documents, self.journal.documents.apply)

    def call(self, what: Callable[[], Awaitable[T]]) -> T:
        """Run it in the program."""
        return trio.from_thread.run(what, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._end.set, trio_token=self._token)
        self._thread.join(20)
        self._folder.cleanup()


class BoardMachine(RuleBasedStateMachine):
    ids = Bundle("ids")
    tokens = Bundle("tokens")  # of claims, also of those that were lost meanwhile

    def __init__(self) -> None:
        super().__init__()
        self.program = Program()
        self.added = 0
        self.valid: dict[str, str] = {}  # the token that counts, by item
        self.seen_done: set[str] = set()

    def teardown(self) -> None:
        self.program.close()

    @property
    def board(self) -> Board:
        return self.program.board

    def try_(self, what: Callable[[], Awaitable[T]]) -> T | Refused:
        """What it gives, or how it is refused."""

        async def tried() -> T | Refused:
            try:
                return await what()
            except Refused as refused:
                if refused.code not in ("conflict", "bad_request"):
                    raise
                return refused

        return self.program.call(tried)

    # -- what is to be done --------------------------------------------------------------------------------------

    @rule(target=ids, before=st.lists(ids, max_size=3), most=st.integers(1, 3))
    def add(self, before: list[str], most: int) -> str:
        id = f"i{self.added}"
        self.added += 1
        draft = {"id": id, "title": id, "depends_on": before, "max_attempts": most}
        made = self.try_(lambda: self.board.add(ME, [draft]))
        assert not isinstance(made, Refused)
        return id

    @rule(id=ids, before=st.lists(ids, max_size=2))
    def edit(self, id: str, before: list[str]) -> None:
        self.try_(lambda: self.board.edit(ME, id, {"depends_on": before}))

    @rule(id=ids)
    def cancel(self, id: str) -> None:
        if not isinstance(self.try_(lambda: self.board.cancel(ME, id)), Refused):
            self.valid.pop(id, None)

    @rule(id=ids)
    def retry(self, id: str) -> None:
        self.try_(lambda: self.board.retry(ME, id))

    # -- who does it ---------------------------------------------------------------------------------------------

    @rule(target=tokens, claimers=st.integers(1, 4))
    def claim(self, claimers: int) -> Any:
        """Several at once: no two of them get the same item."""

        async def all_at_once() -> list[Item]:
            got: list[Item] = []

            async def one(number: int) -> None:
                item = await self.board.claim(ME, f"h{number}", lease_s=LEASE_S)
                if item is not None:
                    got.append(item)

            async with trio.open_nursery() as nursery:
                for number in range(claimers):
                    nursery.start_soon(one, number)
            return got

        got = self.program.call(all_at_once)
        assert len({item.id for item in got}) == len(got)
        assert not {item.id for item in got} & self.valid.keys()
        claims = []
        for item in got:
            assert item.lease is not None
            self.valid[item.id] = item.lease.token
            claims.append((item.id, item.lease.token))
        return multiple(*claims)

    @rule(claim=tokens)
    def start(self, claim: tuple[str, str]) -> None:
        started = self.try_(lambda: self.board.start(ME, *claim))
        assert isinstance(started, Refused) or self.valid.get(claim[0]) == claim[1]

    @rule(claim=consumes(tokens), how=st.sampled_from(["complete", "fail", "release"]))
    def end(self, claim: tuple[str, str], how: str) -> None:
        id, token = claim
        if how == "complete":
            ended = self.try_(lambda: self.board.complete(ME, id, token, Outcome(result="r")))
        elif how == "fail":
            ended = self.try_(lambda: self.board.fail(ME, id, token, "no"))
        else:
            ended = self.try_(lambda: self.board.release(ME, id, token))
        assert isinstance(ended, Refused) is (self.valid.get(id) != token)
        if not isinstance(ended, Refused):
            del self.valid[id]

    @rule(claim=tokens)
    def heartbeat(self, claim: tuple[str, str]) -> None:
        renewed = self.try_(lambda: self.board.heartbeat(ME, *claim))
        assert isinstance(renewed, Refused) is (self.valid.get(claim[0]) != claim[1])

    # -- what goes wrong -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.valid)
    @rule(claim=tokens)
    def time_passes(self, claim: tuple[str, str]) -> None:
        """One holder is heard of in time, all others die."""

        async def pass_() -> None:
            self.program.clock.jump(LEASE_S * 0.7)
            if self.valid.get(claim[0]) == claim[1]:
                await self.board.heartbeat(ME, *claim)
            self.program.clock.jump(LEASE_S * 0.7)
            await self.board.expire_due()

        self.program.call(pass_)
        self.valid = {id: token for id, token in self.valid.items() if (id, token) == claim}

    @rule()
    def board_dies(self) -> None:
        """Another board takes over: whoever has an item has it still."""

        async def renew() -> None:
            self.program.renew()
            await self.board.summary(ME)

        self.program.call(renew)

    # -- what always holds ---------------------------------------------------------------------------------------

    @invariant()
    def all_is_in_order(self) -> None:
        items = {item.id: item for item in self.program.call(lambda: self.board.list(ME))}
        documents = self.program.call(lambda: self.program.journal.documents.list("item", owner_uid=ME))
        assert {document.name: document.data for document in documents} == {
            id: item.to_dict() for id, item in items.items()
        }
        held = {id: item.lease.token for id, item in items.items() if item.lease is not None}
        assert held == self.valid
        for item in items.values():
            assert (item.lease is not None) is (item.status in HELD)
            assert item.attempts <= item.max_attempts
            if item.status in WAITING:
                assert item.status == implied_status(item, items.get)
            if item.status == "failed":
                assert item.error
            self._history(item)
        done = {id for id, item in items.items() if item.status == "done"}
        assert self.seen_done <= done
        self.seen_done = done

    def _history(self, item: Item) -> None:
        assert item.steps[-1].status == item.status
        if len(item.steps) < 50:
            before: str | None = None
            for step in item.steps:
                assert step.status in LEGAL[before], (before, step.status)
                before = step.status


TestBoardMachine = BoardMachine.TestCase
TestBoardMachine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
