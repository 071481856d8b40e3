"""Bad native skills in this process: what they may hurt is themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from native_kit import code_in, write_native
from skill_actors.backends import Host, InlineNatives, ToolCall, ToolContext, WorkspaceSpec, open_native
from skill_actors.backends.native_inline import InlineLate
from skill_actors.native import Context, NativeCode, NativeSkill, SkillInfo, code
from skill_actors.runtime import WorkerError
from support import run

BODY = """
import pathlib, time

def held():
    pathlib.Path({go!r} + ".awaited").touch()
    while not pathlib.Path({go!r}).exists():
        time.sleep(0.005)

{at_import}
class Skill(NativeSkill):
    skill_info = SkillInfo(name="faulty", description="d", allowed_tools=["execute"])
    parallel = True

    def __init__(self):
        {at_start}

    def execute(self, command: str, context: Context) -> str:
        {at_call}
        return "done"
"""


def skill(folder: Path, go: Path, *, holds: str = "") -> NativeCode:
    """One that waits for the file `go` at its import, its start or its calls."""
    word = {place: "held()" if place == holds else "pass" for place in ("at_import", "at_start", "at_call")}
    write_native(folder, "faulty", BODY.format(go=str(go), **word))
    return code_in(folder / "faulty", version=folder.name)


async def answer(natives: InlineNatives, one: NativeCode, timeout_s: float) -> bytes:
    async def emit(_piece: Any) -> None:
        raise AssertionError("there is no output")

    request: dict[str, Any] = {"kind": "execute", "input": {"command": ""}, "session": "s", "readable": []}
    request |= {"workspace": "/", "environment": {}}
    return await natives.call(one, request, timeout_s=timeout_s, emit=emit)


def test_a_constructor_that_hangs_takes_one_thread_and_holds_up_no_other_skill(tmp_path: Path) -> None:
    bad, good = (skill(tmp_path / name, tmp_path / "go", holds=where) for name, where in (("1", "at_start"), ("2", "")))

    async def main() -> None:
        natives = InlineNatives(Host(), threads=2)
        for _ in range(3):
            async with trio.open_nursery() as nursery:

                async def fail() -> None:
                    with pytest.raises(InlineLate, match="was not made within"):
                        await answer(natives, bad, 0.3)

                nursery.start_soon(fail)
                nursery.start_soon(fail)
                await trio.sleep(0.05)
                with trio.fail_after(5):  # it is not even slower
                    assert await answer(natives, good, 20) == b"done"
            natives.sweep()
        assert natives.abandoned == 1
        (tmp_path / "go").touch()
        assert await answer(natives, bad, 20) == b"done"
        assert natives.abandoned == 0

    run(main)


def test_an_import_that_hangs_leaves_what_is_loaded_alone_and_the_rest_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_OTHERS_S", 0.1)
    made = [("1", "at_import"), ("2", ""), ("3", "")]
    bad, loaded, late = (skill(tmp_path / name, tmp_path / "go", holds=where) for name, where in made)

    async def main() -> None:
        natives = InlineNatives(Host())
        assert await answer(natives, loaded, 20) == b"done"
        with pytest.raises(InlineLate):
            await answer(natives, bad, 0.2)
        while not (tmp_path / "go.awaited").exists():  # noqa: ASYNC110  # its thread may be later still
            await trio.sleep(0.005)
        assert await answer(natives, loaded, 20) == b"done"
        with pytest.raises(WorkerError, match="another skill's import has not ended"):
            await answer(natives, late, 20)
        (tmp_path / "go").touch()
        while natives.abandoned:  # noqa: ASYNC110  # a thread ends
            await trio.sleep(0.005)
        assert await answer(natives, late, 20) == b"done"

    run(main)


def test_a_skill_whose_calls_hang_has_its_share_of_the_threads_and_no_more(tmp_path: Path) -> None:
    bad, good = (skill(tmp_path / name, tmp_path / "go", holds=where) for name, where in (("1", "at_call"), ("2", "")))

    async def main() -> None:
        natives = InlineNatives(Host(), threads=4, per_skill=2)
        natives.offer(bad, code.load_beside(bad)())  # it is made already: that takes nothing of its calls' time
        said: list[str] = []

        async def hang() -> None:
            with pytest.raises(InlineLate) as late:
                await answer(natives, bad, 0.3)
            said.append(str(late.value))

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(hang)
            assert await answer(natives, good, 20) == b"done"
        assert natives.abandoned == 2
        assert sum("was left alone" in words for words in said) == 2
        assert said[-1] == "skill 'faulty' was busy with other calls, 2 of them abandoned for 0.3 s"
        (tmp_path / "go").touch()

    run(main)


class Leaving(NativeSkill):
    """Raises what ends a program, where it has one."""

    skill_info = SkillInfo(name="leaving", description="d", allowed_tools=("execute", "read"))
    what: BaseException

    def execute(self, command: str, context: Context) -> str:
        raise self.what

    async def read(self, path: str, context: Context) -> str:
        raise self.what


@pytest.mark.parametrize("tool", ["execute", "read"])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (GeneratorExit, "GeneratorExit"),
        (lambda: BaseExceptionGroup("many", [SystemExit(4)]), "BaseExceptionGroup: many (1 sub-exception)"),
    ],
)
def test_what_would_end_a_program_is_an_error_of_the_call(
    tool: str, what: Callable[[], BaseException], said: str, tmp_path: Path
) -> None:
    leaving = Leaving()
    leaving.what = what()
    key = {"execute": "command", "read": "path"}[tool]

    async def main() -> None:
        async with open_native([leaving]) as executor:
            room = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
            result = await room.execute(ToolCall(id="1", name=f"leaving_{tool}", input={key: ""}), ToolContext())
            assert (result.outcome, result.content) == ("error", said)

    run(main)


def test_a_cancelled_coroutine_that_hides_it_in_a_group_is_cancelled_all_the_same(tmp_path: Path) -> None:
    begun = threading.Event()

    class Grouping(NativeSkill):
        skill_info = SkillInfo(name="grouping", description="d", allowed_tools=("execute",))

        async def execute(self, command: str, context: Context) -> str:
            begun.set()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                raise BaseExceptionGroup("hidden", [error]) from None
            return "never"

    async def main() -> None:
        async with open_native([Grouping]) as executor:
            room = await executor.open(WorkspaceSpec(session="s", root=tmp_path))
            call = ToolCall(id="1", name="grouping_execute", input={"command": ""})
            result = await room.execute(call, ToolContext(timeout_s=0.2))
            assert begun.is_set()
            assert result.outcome == "timeout"

    run(main)
