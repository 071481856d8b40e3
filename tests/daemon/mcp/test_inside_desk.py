"""The desk of the workshop's tools within the daemon: in whose name, how long, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from starlette.types import Receive, Scope, Send

from skill_actors.errors import Refused
from skilld.client.errors import RequestTimeout
from skilld.http.peer import Peer
from skilld.mcp import inside_desk
from skilld.mcp.inside_desk import McpDesk
from support import run_virtual

USER = Peer(uid=1000, gid=1000, pid=77, groups=frozenset({50}))
AGENT = Peer(uid=1000, gid=-1, pid=78, agent="ses_a", own=True)


@dataclass
class Interface:
    """Notes who asks for what."""

    calls: list[tuple[Peer, str, str]] = field(default_factory=list)
    answer: Callable[[str], Any] = lambda path: {}
    hangs: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append((scope["skilld.peer"], scope["method"], scope["path"]))
        if self.hangs:
            await trio.sleep_forever()
        body = json.dumps(self.answer(scope["path"])).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def open_desk(interface: Interface, *, idle_s: float = 100.0) -> AsyncIterator[McpDesk]:
    desk = McpDesk(lambda: interface, lambda session: "boss" if session == "ses_a" else None, idle_s=idle_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.run)
        await trio.testing.wait_all_tasks_blocked()
        yield desk
        nursery.cancel_scope.cancel()


def test_each_caller_asks_in_its_own_name_whichever_process_it_was() -> None:
    async def main() -> None:
        interface = Interface(answer=lambda path: {"items": []})
        async with open_desk(interface) as desk:
            for peer in (USER, AGENT, Peer(uid=1000, gid=1000, pid=99, groups=frozenset({50}))):
                async with desk.desk(peer) as found:
                    await found.client.agents()
                    assert found.agent == ("boss" if peer.agent else None)
            assert desk.callers == 2
        assert [(peer.uid, peer.agent, peer.own, peer.pid) for peer, _, _ in interface.calls] == [
            (1000, None, False, 0),
            (1000, "ses_a", True, 0),
            (1000, None, False, 0),
        ]

    run_virtual(main)


def test_who_does_not_call_any_more_is_let_go_of_and_gives_back_its_claims() -> None:
    async def main() -> None:
        interface = Interface()
        async with open_desk(interface) as desk:
            async with desk.desk(AGENT) as found:
                found.claims.add("w1", "token")
            await trio.sleep(99)
            assert desk.callers == 1
            await trio.sleep(2)
            assert desk.callers == 0
            assert ("POST", "/v1/workshop/board/items/w1/fail") in [call[1:] for call in interface.calls]

    run_virtual(main)


def test_one_that_is_in_the_middle_of_a_call_is_not_let_go_of() -> None:
    async def main() -> None:
        async with open_desk(Interface()) as desk:
            async with desk.desk(AGENT):
                desk.let_go(AGENT)
                await trio.sleep(1000)
                assert desk.callers == 1
            desk.let_go(AGENT)
            await trio.sleep(1)
            assert desk.callers == 0
            desk.let_go(AGENT)

    run_virtual(main)


def test_there_is_a_bound_and_no_desk_where_the_daemon_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(inside_desk, "MAX_CALLERS", 1)
        async with open_desk(Interface()) as desk:
            async with desk.desk(USER):
                pass
            with pytest.raises(Refused) as refused:
                async with desk.desk(AGENT):
                    pass
        assert refused.value.code == "overloaded"
        idle = McpDesk(Interface, lambda session: None)
        with pytest.raises(Refused) as refused:
            async with idle.desk(USER):
                pass
        assert refused.value.code == "draining"

    run_virtual(main)


def test_a_call_that_takes_too_long_is_an_error_of_the_call() -> None:
    async def main() -> None:
        async with open_desk(Interface(hangs=True)) as desk, desk.desk(USER) as found:
            with pytest.raises(RequestTimeout):
                await found.client.agents()

    run_virtual(main)
