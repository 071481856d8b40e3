"""A hundred conversations that answer, and five beside them whose tools do their worst, in one real daemon.

Used by the end-to-end test, and by the benchmark that judges the figures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h11
import trio

import offenders_backend
import worker_targets
from e2e.harness import Daemon, running

OFFENCES: Final = ("spin", "block", "leak", "flood", "deaf")
NEIGHBOURS: Final = 100
AGAIN_S: Final = 1.0  # an offender that was killed at once has to think about its next offence, as a model would
_CONFIG: Final = """
[limits]
connections_per_peer = 1000
running_turns = 256

[backends]
default = ["local", "offenders"]
"""


class Caller(trio.abc.AsyncResource):
    """One kept connection to the daemon's socket, light enough to measure with."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT)

    @classmethod
    async def connect(cls, socket: Path) -> Caller:
        return cls(await trio.open_unix_socket(str(socket)))

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON; anything but 2xx fails."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = [("host", "skilld"), ("content-type", "application/json"), ("content-length", str(len(data)))]
        sent = self._connection.send(h11.Request(method=method, target=path, headers=headers)) or b""
        sent += self._connection.send(h11.Data(data=data)) or b""
        sent += self._connection.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(sent)
        status, content = 0, b""
        while True:
            event = self._connection.next_event()
            match event:
                case h11.NEED_DATA:
                    self._connection.receive_data(await self._stream.receive_some(65_536))
                case h11.Response():
                    status = event.status_code
                case h11.Data():
                    content += bytes(event.data)
                case h11.EndOfMessage():
                    break
                case _:
                    raise AssertionError(f"{method} {path}: {event!r}")
        self._connection.start_next_cycle()
        assert 200 <= status < 300, (method, path, status, content)
        return json.loads(content)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def turn(self, session: str, text: str) -> dict[str, Any]:
        """Send a message and wait for its ending."""
        accepted = await self.ask("POST", f"/v1/sessions/{session}/messages", {"text": text})
        ended: dict[str, Any] = await self.ask("GET", f"/v1/turns/{accepted['turn']}?wait=30")
        return ended


@contextmanager
def fake_api() -> Iterator[str]:
    """The address of a fake Messages API in a process of its own, which answers as each message directs."""
    command = [sys.executable, "-m", "skill_actors.testing.fake_api"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def install(folder: Path) -> None:
    """What `pip install` of the offenders' package would leave in a folder of the path."""
    for module in (offenders_backend, worker_targets):
        assert module.__file__ is not None
        shutil.copy(module.__file__, folder)
    info = folder / "offenders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: offenders\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[skilld.backends]\noffenders = offenders_backend:open_offenders\n")


@contextmanager
def neighbourhood(folder: Path) -> Iterator[Daemon]:
    """A daemon with the offenders' backend, and a model that answers."""
    packages = folder / "packages"
    packages.mkdir()
    install(packages)
    with fake_api() as url:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": url, "PYTHONPATH": str(packages)}
        with running(folder, config=_CONFIG, env=env) as daemon:
            yield daemon


@dataclass(slots=True)
class Seen:
    """What a phase has shown. Seconds."""

    turns_s: list[float] = field(default_factory=list)
    live_s: list[float] = field(default_factory=list)
    offences: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # the tool results, by tool


@dataclass(slots=True)
class Neighbourhood:
    """The conversations of one daemon, by the ones who hold them."""

    socket: Path
    neighbours: list[tuple[Caller, str]]
    offenders: dict[str, tuple[Caller, str]]

    @classmethod
    @asynccontextmanager
    async def settled(cls, socket: Path, neighbours: int = NEIGHBOURS) -> AsyncIterator[Neighbourhood]:
        """Open them all, and let each have had one turn."""
        made = cls(socket, [], {})
        try:
            for _ in range(neighbours):
                made.neighbours.append(await made._open("local"))
            for offence in OFFENCES:
                made.offenders[offence] = await made._open("offenders")
            async with trio.open_nursery() as nursery:
                for caller, session in made.neighbours:
                    nursery.start_soon(caller.turn, session, "hello")
            yield made
        finally:
            for caller, _ in [*made.neighbours, *made.offenders.values()]:
                await trio.aclose_forcefully(caller)

    async def _open(self, backend: str) -> tuple[Caller, str]:
        caller = await Caller.connect(self.socket)
        created = await caller.ask("POST", "/v1/sessions", {"backends": [backend]})
        return caller, created["id"]

    async def phase(self, seconds: float, *, pace_s: float, offences: Sequence[str] = ()) -> Seen:
        """Let the neighbours talk, each once in `pace_s` seconds, while these offences are committed over and over."""
        seen, until = Seen(), trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for offence in offences:
                nursery.start_soon(self._offend, offence, until, seen)
            nursery.start_soon(self._probe, until, seen)
            for number, (caller, session) in enumerate(self.neighbours):
                first_s = pace_s * number / len(self.neighbours)
                nursery.start_soon(self._talk, caller, session, first_s, pace_s, until, seen)
        return seen

    async def _talk(
        self, caller: Caller, session: str, first_s: float, pace_s: float, until: float, seen: Seen
    ) -> None:
        due = trio.current_time() + first_s
        while due < until:
            await trio.sleep_until(due)
            began = time.perf_counter()
            turn = await caller.turn(session, "say something\n#words 20")
            seen.turns_s.append(time.perf_counter() - began)
            assert turn["status"] == "finished", turn
            due += pace_s

    async def _probe(self, until: float, seen: Seen) -> None:
        caller = await Caller.connect(self.socket)
        while trio.current_time() < until:
            began = time.perf_counter()
            await caller.ask("GET", "/v1/health/live")
            seen.live_s.append(time.perf_counter() - began)
            await trio.sleep(0.01)
        await caller.aclose()

    async def _offend(self, offence: str, until: float, seen: Seen) -> None:
        caller, session = self.offenders[offence]
        seen.offences[offence] = []
        while (began := trio.current_time()) < until:
            turn = await caller.turn(session, f"do it\n#call {offence} {{}}")
            assert turn["status"] == "finished", turn
            seen.offences[offence].append({"text": turn["result"]["text"]})
            await trio.sleep_until(began + AGAIN_S)

    async def good_turn(self, offence: str) -> dict[str, Any]:
        """A turn of an offender's conversation whose tool behaves."""
        caller, session = self.offenders[offence]
        return await caller.turn(session, "now behave\n#call echo {}")


def p99_ms(values_s: Sequence[float]) -> float:
    """The 99th percentile, in milliseconds."""
    ordered = sorted(values_s)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000


def p50_ms(values_s: Sequence[float]) -> float:
    return sorted(values_s)[len(values_s) // 2] * 1000
