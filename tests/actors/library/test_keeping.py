"""Files of a conversation in a storage: kept as they change, there again under the same id, deleted when asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from s3_kit import bucket_server, options
from skill_actors.files.storage import LocalStorage, S3Storage, StorageError, StorageReport
from skill_actors.library import SessionFile, SkillError, new_hybrid, new_local
from support import run, run_virtual


def write(text: str) -> dict[str, str]:
    return {"command": f"echo {text} > {text}", "description": "d"}


def test_files_are_kept_and_there_again_under_the_same_id(tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path / "kept")
        synced: list[tuple[str, str]] = []

        def tell(file: SessionFile) -> None:
            synced.append((file.source, file.name))

        async with new_hybrid(
            ["local", ("local", {"name": "build"})], storage=storage, session_id="mine", on_file_synced=tell
        ) as session:
            await session.run("bash_tool", **write("one"))
            await session.run("build_bash_tool", **write("two"))
            await session.sync()
            assert sorted(synced) == [("build", "two"), ("local", "one")]
        async with new_hybrid(["local", ("local", {"name": "build"})], storage=storage, session_id="mine") as session:
            assert await session.read_file("one", "local") == b"one\n"
            assert await session.read_file("two", "build") == b"two\n"
            assert session.created_files == []  # nobody made them just now
            assert sorted(await session.delete_remote()) == ["one", "two"]
            assert await session.delete_remote() == []
            assert await session.read_file("one") == b"one\n"
        async with new_local(storage=storage, session_id="mine") as session:
            assert await session.files() == []

    run(main)


def test_what_changed_last_is_kept_at_the_end_of_the_block_also_when_it_is_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path / "kept")
        with trio.CancelScope() as scope:
            async with new_local(storage=storage, session_id="mine") as session:
                await session.run("bash_tool", **write("late"))
                scope.cancel()
                await trio.sleep_forever()
        assert await storage.read("mine", "late") == b"late\n"

    run(main)


class Flaky(LocalStorage):
    """Fails so many times, then works."""

    def __init__(self, base: Path, failures: int, *, retryable: bool = True) -> None:
        super().__init__(base)
        self.left = failures
        self.attempts = 0
        self._retryable = retryable

    async def sync_to_remote(self, session: str, folder: Path, **options: Any) -> StorageReport:
        self.attempts += 1
        if self.left > 0:
            self.left -= 1
            raise StorageError("storage_write_failed", "the bucket is away", retryable=self._retryable)
        return await super().sync_to_remote(session, folder, **options)


def test_a_storage_that_is_away_is_tried_again_and_no_turn_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        storage = Flaky(tmp_path / "kept", 3)
        synced = trio.Event()
        async with new_local(
            working_directory=tmp_path / "w",
            storage=storage,
            session_id="mine",
            on_file_synced=lambda _file: synced.set(),
        ) as session:
            await session.put_file("a", b"1")
            await synced.wait()
            assert storage.attempts == 4
            storage.left = 1
            with pytest.raises(SkillError) as failed:
                await session.sync()
            assert (failed.value.code, failed.value.retryable) == ("storage_write_failed", True)

    run_virtual(main)


def test_a_storage_that_stays_away_does_not_keep_the_program_nor_hide_its_error(tmp_path: Path) -> None:
    async def fail() -> None:
        storage = Flaky(tmp_path / "kept", 10**6, retryable=False)
        async with new_local(working_directory=tmp_path / "w", storage=storage) as session:
            await session.put_file("a", b"1")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        run_virtual(fail)


class Raising(LocalStorage):
    """Somebody else's, which raises what no storage should."""

    async def sync_to_remote(self, session: str, folder: Path, **options: Any) -> StorageReport:
        raise ZeroDivisionError("in the storage")

    async def cleanup(self, session: str) -> None:
        raise ZeroDivisionError("in the storage")


def test_a_storage_that_raises_what_it_should_not_ends_no_conversation(tmp_path: Path) -> None:
    async def main() -> None:
        async with new_local(working_directory=tmp_path / "w", storage=Raising(tmp_path / "kept")) as session:
            await session.put_file("a", b"1")
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)
            with pytest.raises(SkillError) as failed:
                await session.sync()
            assert (failed.value.code, failed.value.session) == ("storage_write_failed", session)
            assert isinstance(failed.value.__cause__, ZeroDivisionError)

    run_virtual(main)


def test_the_files_of_a_place_are_never_those_of_another_conversation(tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path / "kept")
        async with new_hybrid(["local", ("local", {"name": "build"})], storage=storage, session_id="mine") as session:
            await session.put_file("secret", b"1", "build")
        async with new_local(storage=storage, session_id="mine-build") as other:
            assert await other.files() == []

    run(main)


class Partial(LocalStorage):
    """One of the files cannot be brought, kept or deleted."""

    async def sync_from_remote(self, session: str, folder: Path, **options: Any) -> StorageReport:
        return StorageReport(failed={"bad": "it is damaged"})


def test_a_file_that_cannot_be_brought_is_an_error_when_the_conversation_opens(tmp_path: Path) -> None:
    opened: Sequence[object] = []

    async def main() -> None:
        with pytest.raises(SkillError) as failed:
            async with new_local(storage=Partial(tmp_path), session_id="mine"):
                raise AssertionError(opened)
        assert failed.value.code == "storage_read_failed"
        assert failed.value.details == {"path": "bad", "reason": "it is damaged", "failed": {"bad": "it is damaged"}}

    run(main)


def test_a_bucket_has_the_files_for_another_machine_and_tells_of_each(tmp_path: Path) -> None:
    async def main(url: str) -> None:
        synced: list[str] = []
        here = S3Storage(options(url, tmp_path / "here"))
        async with new_local(
            storage=here, session_id="mine", on_file_synced=lambda file: synced.append(file.name)
        ) as session:
            await session.run("bash_tool", **write("one"))
            await session.put_file("deep/two words.txt", b"2")
        assert sorted(synced) == ["deep/two words.txt", "one"]
        await here.aclose()
        there = S3Storage(options(url, tmp_path / "there"))
        async with new_local(storage=there, session_id="mine") as session:
            assert await session.read_file("deep/two words.txt") == b"2"
            assert len(await session.delete_remote()) == 2
        assert await there.list("mine") == []
        await there.aclose()

    with bucket_server() as url:
        run(main, url)
