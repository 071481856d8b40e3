"""GET /v1/version through the socket, beside a bare trio echo and beside a bare ASGI app on the same server.

Each kind is asked in turns of a few hundred requests over one kept connection, so that a noisy moment hits all.
Where hypercorn is installed, the same bare app is served by it too: what the choice of our own h11 loop rests on.

    python benchmarks/socket_round_trip.py [ROUNDS]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio

from skill_actors.skills.base import SkillSnapshot
from skill_actors.telemetry import Bus
from skilld.config import RolesConfig
from skilld.http import HttpServer, ServerLimits, Services, build_app, open_listener
from skilld.http.services import Readiness

REQUEST = b"GET /v1/version HTTP/1.1\r\nhost: skilld\r\n\r\n"
BODY = b'{"version":"0","api":"v1"}'
PER_TURN = 200


class NoSkills:
    """What the version does not need."""

    snapshot = SkillSnapshot()
    approved: Mapping[str, str] = MappingProxyType({})

    async def unmet(self, snapshot: SkillSnapshot) -> Mapping[str, Any]:
        return {}

    async def reload(self, name: str | None) -> Mapping[str, Any]:
        return {}

    async def push(self, package: bytes) -> Mapping[str, Any]:
        return {}

    async def remove(self, name: str) -> Mapping[str, Any]:
        return {}

    async def approve(self, name: str, digest: str, by_uid: int) -> Mapping[str, Any]:
        return {}

    async def revoke(self, name: str, by_uid: int) -> Mapping[str, Any]:
        return {}

    def changes(self, after: int, *, live: bool) -> Any:
        raise AssertionError("asking for the version follows no changes")


def whole_app() -> Any:
    """The real interface; sessions are not touched by the version."""

    async def nothing() -> bytes:
        return b""

    missing: Any = None
    services = Services(
        sessions=missing,
        budgets=missing,
        approvals=missing,
        files=missing,
        hand_overs=missing,
        skills=NoSkills(),
        status=dict,
        ready=Readiness,
        metrics=nothing,
        backends=missing,
        prices=dict,
        tree=lambda _viewer, _most: {},
        backup=missing,
        shutdown=lambda: None,
        reload=missing,
        roles=RolesConfig,
        version="0",
        bus=Bus(),
        own_uid=0,
        audit=lambda _what, _facts: None,
    )
    return build_app(services)


async def bare_app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    headers = [(b"content-length", str(len(BODY)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


async def serve_ours(path: Path, app: Any, *, task_status: trio.TaskStatus[None]) -> None:
    server = HttpServer(app, ServerLimits(), "0")
    await server.serve(open_listener(path, {}), task_status=task_status)


async def serve_each(
    path: Path, handler: Callable[[trio.SocketStream], Awaitable[None]], *, task_status: trio.TaskStatus[None]
) -> None:
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(str(path))
        sock.listen()
        await trio.serve_listeners(handler, [trio.SocketListener(sock)], task_status=_Started(task_status))


class _Started:
    """Passes on that serving has begun, without the listeners."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status

    def started(self, _value: object = None) -> None:
        self._task_status.started()


async def echo(stream: trio.SocketStream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


def hypercorn_handler() -> Callable[[trio.SocketStream], Awaitable[None]] | None:
    try:
        from hypercorn.app_wrappers import ASGIWrapper
        from hypercorn.config import Config as HypercornConfig
        from hypercorn.trio.tcp_server import TCPServer
        from hypercorn.trio.worker_context import WorkerContext
        from hypercorn.typing import ConnectionState, LifespanState
    except ImportError:
        return None
    app: Any = bare_app
    config, context = HypercornConfig(), WorkerContext(None)
    config.keep_alive_max_requests = sys.maxsize

    async def handle(stream: Any) -> None:
        await TCPServer(ASGIWrapper(app), config, context, ConnectionState(LifespanState()), stream).run()

    return handle


async def ask(stream: trio.SocketStream, samples: list[float]) -> None:
    for _ in range(PER_TURN):
        began = time.perf_counter()
        await stream.send_all(REQUEST)
        answer = b""
        while not answer.endswith((BODY, REQUEST)):  # the head may come on its own
            answer += await stream.receive_some(4096)
        samples.append(time.perf_counter() - began)


async def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_each, base / "echo", echo)
            await nursery.start(serve_ours, base / "bare", bare_app)
            await nursery.start(serve_ours, base / "skilld", whole_app())
            kinds = {"bare trio echo": "echo", "bare ASGI app, our server": "bare", "skilld": "skilld"}
            handler = hypercorn_handler()
            if handler is not None:
                await nursery.start(serve_each, base / "hypercorn", handler)
                kinds["bare ASGI app, hypercorn"] = "hypercorn"
            streams = {kind: await trio.open_unix_socket(str(base / name)) for kind, name in kinds.items()}
            samples: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, stream in streams.items():
                    await ask(stream, samples[kind])
            for stream in streams.values():
                await stream.aclose()
            nursery.cancel_scope.cancel()
    report(samples)


def report(samples: Mapping[str, list[float]]) -> None:
    floor = statistics.median(samples["bare trio echo"])
    app = statistics.median(samples["bare ASGI app, our server"])
    print(f"{'GET /v1/version':28} {'p50 us':>8} {'p99 us':>8} {'req/s':>8} {'x echo':>7} {'x bare app':>10}")
    for kind, times in samples.items():
        middle = statistics.median(times)
        last = statistics.quantiles(times, n=100)[98]
        ratios = f"{middle / floor:7.2f} {middle / app:10.2f}"
        print(f"{kind:28} {middle * 1e6:8.0f} {last * 1e6:8.0f} {len(times) / sum(times):8.0f} {ratios}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rounds", type=int, nargs="?", default=10)
    trio.run(main, parser.parse_args().rounds)
