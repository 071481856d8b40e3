"""Files through the client library: every transport sends and fetches them piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from http_kit import serving
from skilld.client import AsyncClient, Client, SkilldError, Upload
from skilld.http import ServerLimits
from support import run

SESSION = "ses_aaaaaaaaaaaaaaaaaaaaaaaaaa"
BODY = bytes(range(256)) * 4000
SMALL = ServerLimits(max_body_bytes=1000)


def pieces() -> Iterator[bytes]:
    return (BODY[start : start + 10_000] for start in range(0, len(BODY), 10_000))


def by_hand(path: Path, transport: Literal["httpx", "plain"]) -> None:
    with Client(path, transport=transport) as client:
        assert client.put_file(SESSION, "a b/ü.bin", BODY)["size"] == len(BODY)
        assert client.put_file(SESSION, "said", Upload(pieces, len(BODY)))["size"] == len(BODY)
        assert client.put_file(SESSION, "unsaid", Upload(pieces, None))["size"] == len(BODY)
        assert client.put_file(SESSION, "empty", b"")["size"] == 0
        for name in ("a b/ü.bin", "said", "unsaid"):
            assert client.read_file(SESSION, name) == BODY
        with client.open_file(SESSION, "said") as answer:
            assert answer.headers["content-length"] == str(len(BODY))
            assert b"".join(answer.chunks()) == BODY
        with pytest.raises(SkilldError) as found:
            client.put_file(SESSION, "said", b"x", replace=False)
        assert found.value.code == "conflict"
        with pytest.raises(SkilldError) as found:
            client.read_file(SESSION, "nothing")
        assert found.value.code == "not_found"
        client.delete_file(SESSION, "said")
        assert {item["path"] for item in client.files(SESSION)["items"]} == {"a b/ü.bin", "unsaid", "empty"}
        assert client.fetch_stored_files(SESSION, stored="other")["files"] == ["other"]
        assert client.purge_stored_files(SESSION)["files"] == []
        assert client.file_url(SESSION, "x") == "https://storage/x"


@pytest.mark.parametrize("transport", ["httpx", "plain"])
def test_files_go_both_ways_whatever_their_size(tmp_path: Path, transport: Literal["httpx", "plain"]) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=SMALL) as served:
            await trio.to_thread.run_sync(by_hand, served.path, transport)

    run(main)


def test_the_same_from_a_trio_program(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=SMALL) as served, AsyncClient(served.path) as client:
            assert (await client.put_file(SESSION, "a", Upload(pieces, len(BODY))))["size"] == len(BODY)
            assert await client.read_file(SESSION, "a") == BODY
            async with client.open_file(SESSION, "a") as parts:
                assert len(await anext(parts)) > 0  # and leaves before its end
            with pytest.raises(SkilldError) as found:
                await client.read_file(SESSION, "nothing")
            assert found.value.code == "not_found"
            await client.delete_file(SESSION, "a")
            assert (await client.files(SESSION))["items"] == []
            assert await client.file_url(SESSION, "x", expires_s=5) == "https://storage/x"
            assert (await client.fetch_stored_files(SESSION))["files"] == [None]
            assert (await client.purge_stored_files(SESSION))["files"] == []

    run(main)


def test_what_has_another_length_than_was_said_is_not_sent_as_a_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:

            def send(size: int) -> Any:
                with Client(served.path, transport="plain") as client:
                    return client.put_file(SESSION, "wrong", Upload(pieces, size))

            for size in (len(BODY) - 1, len(BODY) + 1):
                with pytest.raises(ValueError, match="length"):
                    await trio.to_thread.run_sync(send, size)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert [path.name for path in (tmp_path / "files").iterdir() if path.name == "wrong"] == []

    run(main)
