"""Claims of items a second, through the board and through the socket, beside bare commits of documents, in one run.

    python benchmarks/board_claims.py [--items N] [--claimers 1,16,48] [--directory DIR] [--json]

`bare` puts documents of the size of an item, each changed at the version it has, as many at a time as there are
claimers, and nothing else: no event, no choice. `board` is Board.claim of the best item that is ready. `socket` is
POST /v1/workshop/board/claim of a real daemon over as many connections, each kept open; `http` is GET /v1/version over
them, which is all that its server can do. DIR should be on the disk that will hold the state.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trio
from _daemon import daemon

from skill_actors.store import SqliteJournal
from skill_actors.store.documents import Change
from skill_actors.workshop.board import Board

ME = 1000
_AT_ONCE = 500
_SPEC = "x" * 300
_HEADERS = b"host: skilld\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
_LOOK = b"GET /v1/version HTTP/1.1\r\nhost: skilld\r\n\r\n"
_CLAIM = b"POST /v1/workshop/board/claim HTTP/1.1\r\n" + _HEADERS + b"{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table: operations a second."""

    claimers: int
    bare_per_s: float
    board_per_s: float
    socket_per_s: float
    http_per_s: float

    @property
    def ratio(self) -> float:
        """Of the board to bare commits."""
        return self.board_per_s / self.bare_per_s

    @property
    def socket_ratio(self) -> float:
        """Of the socket to bare commits."""
        return self.socket_per_s / self.bare_per_s


def drafts(count: int) -> list[dict[str, object]]:
    """Items without dependencies."""
    return [{"id": f"i{number}", "title": "An item", "spec": _SPEC} for number in range(count)]


async def rate_of(claimers: int, count: int, one: Callable[[int], Awaitable[bool]]) -> float:
    """How often a second `one` is done by so many at a time, until `count` are done."""
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            if not await one(number):
                raise RuntimeError("there was nothing left to claim")

    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(claimers):
            nursery.start_soon(worker)
    return count / (time.perf_counter() - began_s)


async def bare(directory: Path, claimers: int, count: int) -> float:
    """Bare commits of documents a second."""
    async with await SqliteJournal.open(directory / "bare.db", reserve_bytes=0) as journal:
        documents = journal.documents
        board = Board(documents, documents.apply)
        for start in range(0, count, _AT_ONCE):
            await board.add(ME, drafts(count)[start : start + _AT_ONCE])
        stored = {item.id: item.to_dict() for item in await board.list(ME)}

        async def put(number: int) -> bool:
            id = f"i{number}"
            change = Change(kind="item", id=f"{ME}/{id}", owner_uid=ME, data=stored[id], expected=1)
            return bool((await documents.apply([change])).documents)

        return await rate_of(claimers, count, put)


async def through_board(directory: Path, claimers: int, count: int) -> float:
    """Claims a second through the board."""
    async with await SqliteJournal.open(directory / "board.db", reserve_bytes=0) as journal:
        board = Board(journal.documents, journal.documents.apply)
        for start in range(0, count, _AT_ONCE):
            await board.add(ME, drafts(count)[start : start + _AT_ONCE])

        async def claim(number: int) -> bool:
            return await board.claim(ME, "me") is not None

        return await rate_of(claimers, count, claim)


async def over_socket(path: Path, claimers: int, count: int, request: bytes, expected: bytes) -> float:
    """Requests a second over so many connections."""
    free: list[trio.SocketStream] = [await trio.open_unix_socket(str(path)) for _ in range(claimers)]

    async def claim(number: int) -> bool:
        stream = free.pop()
        await stream.send_all(request)
        answer = await _answer(stream)
        free.append(stream)
        if expected not in answer:
            raise RuntimeError(answer.decode())
        return True

    try:
        return await rate_of(claimers, count, claim)
    finally:
        for stream in free:
            await stream.aclose()


async def _answer(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive_some()
    return body


def through_socket(directory: Path, claimers: int, count: int) -> tuple[float, float]:
    """Claims a second of a fresh daemon, and requests that do next to nothing."""
    with daemon(directory) as client:
        for draft in drafts(count):
            client.add_item(str(draft["title"]), id=draft["id"], spec=draft["spec"])
        socket = directory / "skilld.sock"
        claims = trio.run(over_socket, socket, claimers, count, _CLAIM, b'"token":"')
        return claims, trio.run(over_socket, socket, claimers, count, _LOOK, b"version")


def measure(directory: Path, claimers: int, items: int) -> Line:
    """One line; bare commits are measured before and after, since disks drift."""
    count = max(items if claimers > 1 else items // 10, claimers * 2)
    folders = [directory / f"{claimers}-{part}" for part in ("before", "board", "socket", "after")]
    for folder in folders:
        folder.mkdir()
    first = trio.run(bare, folders[0], claimers, count)
    board = trio.run(through_board, folders[1], claimers, count)
    socket, http = through_socket(folders[2], claimers, count)
    last = trio.run(bare, folders[3], claimers, count)
    return Line(
        claimers=claimers,
        bare_per_s=statistics.fmean([first, last]),
        board_per_s=board,
        socket_per_s=socket,
        http_per_s=http,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3_000)
    parser.add_argument("--claimers", default="1,16,48")
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        lines = [measure(Path(directory), int(claimers), options.items) for claimers in options.claimers.split(",")]
    if options.json:
        print(json.dumps([asdict(line) | {"ratio": line.ratio, "socket_ratio": line.socket_ratio} for line in lines]))
        return
    print("claimers  bare/s  board claims/s  ratio  socket claims/s  ratio  http/s")
    for line in lines:
        print(
            f"{line.claimers:8d}  {line.bare_per_s:6.0f}  {line.board_per_s:14.0f}  {line.ratio:5.2f}  "
            f"{line.socket_per_s:15.0f}  {line.socket_ratio:5.2f}  {line.http_per_s:6.0f}"
        )


if __name__ == "__main__":
    main()
