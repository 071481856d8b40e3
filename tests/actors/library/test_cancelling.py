"""A conversation that is cancelled at whatever step, and many in a row: its history can go on, and nothing is left."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from loop_kit import MemoryExecutor, Script, call, says, uses
from skill_actors.files.storage import LocalStorage
from skill_actors.library import Session, new_hybrid, new_local, sync
from skill_actors.library.history import check_history
from support import run


class CancelAt(trio.abc.Instrument):
    """Cancels a scope before a step of whatever task; steps count from 1, while there is a scope."""

    def __init__(self, step: int) -> None:
        self.scope: trio.CancelScope | None = None
        self._left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.scope is not None:
            self._left -= 1
            if self._left == 0:
                self.scope.cancel()


async def _wait(*_: object) -> None:
    await trio.lowlevel.checkpoint()


CALLBACKS: Any = dict.fromkeys(("on_tool_call", "on_tool_result", "on_response", "on_file_created"), _wait)


async def turn_cancelled_at(step: int, opening: Callable[[], AbstractAsyncContextManager[Session]]) -> bool:
    """Whether the turn was cancelled, and had not ended before. Then a further one has to work."""
    canceller = CancelAt(step)
    calls = [call(f"toolu_{n}", "bash_tool", command=f"echo {n} > f{n}", description="d") for n in range(2)]
    trio.lowlevel.add_instrument(canceller)
    try:
        async with opening() as session:
            with trio.CancelScope() as canceller.scope:
                await session.chat("go", Script(uses(*calls), says("done")))
            cancelled, canceller.scope = canceller.scope.cancelled_caught, None
            assert check_history(session.messages) == session.messages
            response, _ = await session.chat("again", Script(says("fine")))
            assert response.text == "fine"
            assert check_history(session.messages) == session.messages
            await session.run("bash_tool", command="true", description="d")
    finally:
        trio.lowlevel.remove_instrument(canceller)
    return cancelled


@pytest.mark.parametrize("kind", ["memory", "local", "stored"])
def test_a_turn_that_is_cancelled_at_any_step_leaves_a_conversation_that_goes_on(kind: str, tmp_path: Path) -> None:
    def opening() -> AbstractAsyncContextManager[Session]:
        if kind == "memory":
            return new_local(executor=MemoryExecutor(), **CALLBACKS)
        options: dict[str, Any] = {"storage": LocalStorage(tmp_path)} if kind == "stored" else {}
        return new_local(**CALLBACKS, **options)

    every, step = (1, 1) if kind == "memory" else (4, 1)
    while run(turn_cancelled_at, step, opening):  # each has its own time: there are many
        step += every
    assert step > 10


@pytest.mark.parametrize("places", [["local"], ["local", ("local", {"name": "build"})]], ids=["one", "two"])
def test_a_conversation_that_is_cancelled_while_it_opens_leaves_nothing(
    places: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def opened_by(step: int) -> bool:
        canceller = CancelAt(step)
        trio.lowlevel.add_instrument(canceller)
        with trio.CancelScope() as scope:
            canceller.scope = scope
            async with new_hybrid(places):
                canceller.scope = None
        trio.lowlevel.remove_instrument(canceller)
        return not scope.cancelled_caught

    step = 1
    while not run(opened_by, step):
        assert os.listdir(tmp_path) == []
        step += 3
    assert step > 10
    assert list(tmp_path.iterdir()) == []


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _children() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()


def test_a_thousand_conversations_leave_no_files_no_threads_and_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def many(times: int, executor: Any) -> None:
        for _ in range(times):
            async with new_local(executor=executor() if callable(executor) else executor) as session:
                used = uses(call("toolu_1", "bash_tool", command="true", description="d"))
                await session.chat("hi", Script(used, says("ok")))

    run(many, 5, MemoryExecutor)  # what is made once is made
    run(many, 2, "local")
    gc.collect()
    files, children, threads = _open_files(), _children(), threading.active_count()
    for _ in range(20):  # each part has its own time: all of them take long where the machine is busy
        run(many, 49, MemoryExecutor)
        run(many, 1, "local")
    gc.collect()
    assert _open_files() <= files
    assert _children() == children
    assert threading.active_count() <= threads + 5  # trio keeps some for ten seconds
    assert list(tmp_path.iterdir()) == []


def test_a_hundred_conversations_of_a_script_leave_no_files_and_no_threads() -> None:
    def many(times: int) -> None:
        for _ in range(times):
            with sync.new_local(executor=MemoryExecutor()) as session:
                session.chat("hi", Script(says("ok")))

    many(5)
    files, threads = _open_files(), threading.active_count()
    many(100)
    assert _open_files() <= files
    assert threading.active_count() <= threads + 5
