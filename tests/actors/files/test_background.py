"""The sync behind the turns: what it sends, when it tries again, what a restart goes on with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from skill_actors.files.ref import FileRef
from skill_actors.files.storage import BackgroundSync, LocalStorage, StorageError, StorageReport
from skill_actors.files.storage.base import OnSynced
from skill_actors.telemetry import Bus
from support import run, run_virtual

SESSION = "ses_1"


class Failing(LocalStorage):
    """Fails so many times before it works."""

    def __init__(self, base: Path, times: int, *, retryable: bool = True) -> None:
        super().__init__(base)
        self.left = times
        self.at: list[float] = []
        self._retryable = retryable

    async def sync_to_remote(
        self, session: str, folder: Path, *, on_synced: OnSynced | None = None, **more: Any
    ) -> StorageReport:
        self.at.append(trio.current_time())
        if self.left > 0:
            self.left -= 1
            raise StorageError("storage_write_failed", "not now", retryable=self._retryable)
        return await super().sync_to_remote(session, folder, on_synced=on_synced, **more)


def workspace(folder: Path, **files: str) -> Path:
    root = folder / "workspaces" / SESSION
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name).write_text(text)
    return root


def sync_of(storage: LocalStorage, folder: Path, bus: Bus | None = None, **more: Any) -> BackgroundSync:
    return BackgroundSync(storage, folder / "workspaces", folder / "names", bus or Bus(), **more)


class Heard:
    """Waits for events of a bus without a deadline: a virtual clock would jump to it while a thread works."""

    def __init__(self, name: str, count: int = 1) -> None:
        self.bus = Bus()
        self._left = count
        self._done = trio.Event()
        self.bus.attach("test", [name], self._hear)

    def _hear(self, *_: object) -> None:
        self._left -= 1
        if self._left <= 0:
            self._done.set()

    async def wait(self) -> None:
        await self._done.wait()


async def running(sync: BackgroundSync, main: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync.run)
        await main()
        nursery.cancel_scope.cancel()


async def settled(sync: BackgroundSync) -> None:
    with trio.fail_after(1000):
        while sync.status()["waiting"]:  # noqa: ASYNC110 - seen from outside
            await trio.sleep(0.05)


def test_what_has_changed_is_stored_and_told(tmp_path: Path) -> None:
    async def main() -> None:
        told: list[str] = []

        async def on_synced(_: str, ref: FileRef) -> None:
            told.append(ref.path)
            raise RuntimeError("a callback never ends the sync")

        workspace(tmp_path, a="1", b="2")
        storage = LocalStorage(tmp_path / "remote")
        sync = sync_of(storage, tmp_path, on_synced=on_synced)

        async def work() -> None:
            sync.note(SESSION)
            assert sync.status()["waiting"] == 1
            await settled(sync)

        await running(sync, work)
        assert [ref.path for ref in await storage.list(SESSION)] == ["a", "b"]
        assert told == ["a", "b"]
        assert (sync.status()["synced_files"], sync.status()["synced_bytes"], sync.status()["lag_s"]) == (2, 2, 0)

    run(main)


def test_failures_are_tried_again_with_growing_pauses_while_the_lag_is_shown(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        storage = Failing(tmp_path / "remote", 4)
        failed, synced = Heard("files.sync_failed", 3), Heard("file.synced")
        failed.bus.attach("other", ["file.synced"], synced._hear)
        sync = sync_of(storage, tmp_path, failed.bus)

        async def work() -> None:
            sync.note(SESSION)
            await failed.wait()
            status = sync.status()
            assert status["failing"] == {SESSION: "not now"}
            assert status["lag_s"] >= 2.0
            await synced.wait()

        await running(sync, work)
        pauses = [after - before for before, after in zip(storage.at, storage.at[1:], strict=False)]
        assert len(pauses) == 4
        for number, pause in enumerate(pauses):
            assert 0.8 * 2**number <= pause <= 1.25 * 2**number
        assert [ref.path for ref in await storage.list(SESSION)] == ["a"]

    run_virtual(main)


def test_what_cannot_pass_by_itself_is_tried_seldom(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        storage, synced = Failing(tmp_path / "remote", 1, retryable=False), Heard("file.synced")
        sync = sync_of(storage, tmp_path, synced.bus)

        async def work() -> None:
            sync.note(SESSION)
            await synced.wait()

        await running(sync, work)
        assert storage.at[1] - storage.at[0] >= 240

    run_virtual(main)


def test_a_restart_goes_on_with_what_was_due(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        failed = Heard("files.sync_failed")
        before = sync_of(Failing(tmp_path / "remote", 1000), tmp_path, failed.bus)

        async def once() -> None:
            before.note(SESSION)
            await failed.wait()

        await running(before, once)
        storage, synced = LocalStorage(tmp_path / "remote"), Heard("file.synced")
        await running(sync_of(storage, tmp_path, synced.bus), synced.wait)
        assert [ref.path for ref in await storage.list(SESSION)] == ["a"]

    run_virtual(main)


def test_a_flush_does_not_wait_for_the_pause(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        storage = LocalStorage(tmp_path / "remote")
        sync = sync_of(storage, tmp_path)
        sync.note(SESSION)
        assert await sync.flush(SESSION)
        assert [ref.path for ref in await storage.list(SESSION)] == ["a"]
        assert await sync.flush(SESSION)
        failing = sync_of(Failing(tmp_path / "other", 1000), tmp_path)
        failing.note(SESSION)
        assert not await failing.flush(SESSION, 0.5)

    run(main)


def test_what_changes_during_a_sync_is_sent_with_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        root = workspace(tmp_path, a="1")
        storage = LocalStorage(tmp_path / "remote")
        sync: BackgroundSync

        async def on_synced(_: str, ref: FileRef) -> None:
            if ref.path == "a":
                (root / "late").write_text("x")
                sync.note(SESSION)

        sync = sync_of(storage, tmp_path, on_synced=on_synced)

        async def work() -> None:
            sync.note(SESSION)
            await settled(sync)

        await running(sync, work)
        assert [ref.path for ref in await storage.list(SESSION)] == ["a", "late"]

    run(main)


def test_a_workspace_that_is_gone_is_forgotten_and_its_stored_files_stay(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        storage = LocalStorage(tmp_path / "remote")
        sync = sync_of(storage, tmp_path)
        sync.note(SESSION)
        await sync.flush(SESSION)
        sync.note(SESSION)
        sync.forget(SESSION)
        assert sync.status()["waiting"] == 0
        assert [ref.path for ref in await storage.list(SESSION)] == ["a"]

    run(main)


async def stored(storage: LocalStorage) -> list[str]:
    return [ref.path for ref in await storage.list(SESSION)]


def test_a_file_that_went_while_nobody_looked_goes_from_the_storage_after_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        root, storage = workspace(tmp_path, a="1", b="2"), LocalStorage(tmp_path / "remote")
        before = sync_of(storage, tmp_path)
        before.note(SESSION)
        await before.flush(SESSION)
        (root / "a").unlink()
        after = sync_of(storage, tmp_path)
        after.note(SESSION)
        await after.flush(SESSION)
        assert await stored(storage) == ["b"]

    run(main)


def test_a_workspace_that_was_lost_takes_nothing_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        root, storage = workspace(tmp_path, a="1", b="2"), LocalStorage(tmp_path / "remote")
        sync = sync_of(storage, tmp_path)
        sync.note(SESSION)
        await sync.flush(SESSION)
        root.rename(tmp_path / "lost")
        sync.note(SESSION)
        await sync.flush(SESSION)
        assert await stored(storage) == ["a", "b"]
        workspace(tmp_path, c="3")  # as a turn after the loss makes it
        sync.note(SESSION)
        await sync.flush(SESSION)
        assert await stored(storage) == ["a", "b", "c"]

    run(main)


def test_a_machine_that_has_stored_nothing_removes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        storage = LocalStorage(tmp_path / "remote")
        await storage.write(SESSION, "kept", b"1")
        workspace(tmp_path, a="1")
        sync = sync_of(storage, tmp_path)
        for _ in range(2):
            sync.note(SESSION)
            assert await sync.flush(SESSION)
        assert await stored(storage) == ["a", "kept"]

    run(main)


def test_what_was_emptied_on_purpose_goes_from_the_storage(tmp_path: Path) -> None:
    async def main() -> None:
        root, storage = workspace(tmp_path, a="1"), LocalStorage(tmp_path / "remote")
        sync = sync_of(storage, tmp_path)
        sync.note(SESSION)
        await sync.flush(SESSION)
        root.rename(tmp_path / "removed")
        await sync.emptied(SESSION)
        assert await sync.flush(SESSION)
        assert await stored(storage) == []

    run(main)


class Held(LocalStorage):
    """Begins a round, and does not end it by itself while it is to hold."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.begun = trio.Event()
        self.holds = True

    async def sync_to_remote(
        self, session: str, folder: Path, *, on_synced: OnSynced | None = None, **more: Any
    ) -> StorageReport:
        if self.holds:
            self.begun.set()
            await trio.sleep_forever()
        return await super().sync_to_remote(session, folder, on_synced=on_synced, **more)


def test_a_flush_that_was_cut_off_leaves_the_rest_to_the_background(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        storage = Held(tmp_path / "remote")
        sync = sync_of(storage, tmp_path)

        async def work() -> None:
            sync.note(SESSION)
            assert not await sync.flush(SESSION, 0.05)
            storage.holds = False  # it may have been cut off before it came so far
            await settled(sync)

        await running(sync, work)
        assert await stored(storage) == ["a"]

    run(main)


def test_a_session_that_goes_ends_its_round_before_anything_looks_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        storage = Held(tmp_path / "remote")
        sync = sync_of(storage, tmp_path)

        async def work() -> None:
            sync.note(SESSION)
            await storage.begun.wait()
            sync.forget(SESSION)
            assert await sync.flush(SESSION)  # there is none under way, and nothing is due
            assert list((tmp_path / "names").glob("*")) == []

        await running(sync, work)

    run(main)


def test_what_changed_while_nobody_listened_is_found_and_what_did_not_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        root, storage = workspace(tmp_path, a="1"), Failing(tmp_path / "remote", 0)

        async def lived(sync: BackgroundSync) -> None:
            async def work() -> None:
                while sync.is_due(SESSION):  # noqa: ASYNC110 - seen from outside
                    await trio.sleep(0.02)

            with trio.fail_after(20):
                await running(sync, work)

        for content, rounds in ((None, 1), (None, 1), ("2", 2), (None, 2)):
            if content is not None:
                (root / "a").write_text(content)
            await lived(sync_of(storage, tmp_path))
            assert len(storage.at) == rounds
        assert await storage.read(SESSION, "a") == b"2"

    run(main)


def test_folders_that_are_no_workspaces_are_not_stored(tmp_path: Path) -> None:
    async def main() -> None:
        workspace(tmp_path, a="1")
        (tmp_path / "workspaces" / "not a session!").mkdir()
        (tmp_path / "workspaces" / "not a session!" / "x").write_text("x")
        (tmp_path / "workspaces" / "link").symlink_to(tmp_path)
        synced = Heard("file.synced")
        sync = sync_of(LocalStorage(tmp_path / "remote"), tmp_path, synced.bus)
        await running(sync, synced.wait)
        assert sorted(path.name for path in (tmp_path / "remote").iterdir()) == [SESSION]

    run(main)
