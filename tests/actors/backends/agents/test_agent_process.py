"""An agent's program as a process: lines in and out, how it is stopped, and that nothing of it is left behind."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from proc_kit import lives, parent_of
from skill_actors.backends import cgroups
from skill_actors.backends.agents.base import AgentError
from skill_actors.backends.agents.process import AgentProcess, ProcessLimits, open_nest, open_process
from skill_actors.backends.resident import Nest
from stand_in_claude import SLEEPER
from support import run

ENV = {"PATH": os.defpath}
# Starts a process that leaves its parent, its session and its group; then does what its arguments say.
FAMILY = f"""
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-ISc", {SLEEPER!r}], stdout=subprocess.PIPE, start_new_session=True)
print(os.getpid(), int(child.stdout.readline()), flush=True)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
if "end" not in sys.argv:
    time.sleep(600)
"""

Body = Callable[[AgentProcess], Awaitable[None]]


def play(
    folder: Path, argv: list[str], body: Body, limits: ProcessLimits | None = None, nest: Nest | None = None
) -> None:
    async def main() -> None:
        async with open_process(argv, cwd=folder, env=ENV, limits=limits, nest=nest) as process:
            await body(process)

    run(main)


def family(*arguments: str) -> list[str]:
    return [sys.executable, "-ISc", FAMILY, *arguments]


async def pids(process: AgentProcess) -> list[int]:
    line = await process.next_line()
    assert line is not None
    return [int(word) for word in line.split()]


def test_lines_go_in_and_come_out_whole(tmp_path: Path) -> None:
    async def body(process: AgentProcess) -> None:
        await process.send(b"one\ntw")
        assert await process.next_line() == b"one"

        async def send() -> None:
            await process.send(b"o\n" + b"x" * 300_000 + b"\nlast")
            await process.close_stdin()
            await process.close_stdin()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            rest = [line async for line in process.lines()]
        assert rest == [b"two", b"x" * 300_000, b"last"]
        assert await process.wait() == 0
        with pytest.raises(AgentError) as caught:
            await process.send(b"more")
        assert caught.value.code == "terminated"

    play(tmp_path, ["cat"], body)


def test_a_line_that_is_too_long_is_an_error_and_bounded(tmp_path: Path) -> None:
    async def body(process: AgentProcess) -> None:
        with pytest.raises(AgentError) as caught:
            await process.next_line()
        assert caught.value.code == "protocol"

    play(tmp_path, ["cat", "/dev/zero"], body, limits=ProcessLimits(max_line_bytes=1 << 20))


def test_the_end_of_stderr_is_kept_and_never_blocks_the_program(tmp_path: Path) -> None:
    async def body(process: AgentProcess) -> None:
        assert await process.wait() == 7
        assert len(process.stderr_tail) <= 100
        assert process.stderr_tail.endswith("the end\ufffd")

    script = "head -c 2000000 /dev/zero | tr '\\0' x >&2; printf 'the end\\377' >&2; exit 7"
    play(tmp_path, ["sh", "-c", script], body, limits=ProcessLimits(stderr_bytes=100))


@pytest.mark.parametrize(("argument", "code"), [("", -signal.SIGTERM), ("deaf", -signal.SIGKILL)])
def test_a_stop_leaves_nothing(tmp_path: Path, argument: str, code: int) -> None:
    async def body(process: AgentProcess) -> None:
        numbers = await pids(process)
        if argument:
            assert await process.next_line() == b"deaf"
        assert [lives(pid) for pid in numbers] == [True, True]
        began_s = trio.current_time()
        assert await process.stop(0.2 if argument else 20.0) == code
        assert trio.current_time() - began_s < 20
        assert [lives(pid) for pid in numbers] == [False, False]
        assert await process.stop() == code

    play(tmp_path, family(argument), body)


def test_what_a_program_leaves_when_it_ends_is_ended(tmp_path: Path) -> None:
    async def body(process: AgentProcess) -> None:
        numbers = await pids(process)
        assert await process.wait() == 0
        assert [lives(pid) for pid in numbers] == [False, False]

    play(tmp_path, family("end"), body)


def test_a_cancelled_block_leaves_nothing_and_whoever_waits_learns_of_it(tmp_path: Path) -> None:
    """Also who is shielded from the cancel, such as a turn that is ended beside its process."""
    numbers: list[int] = []

    async def wait(process: AgentProcess) -> None:
        with trio.CancelScope(shield=True):
            assert await process.wait() == -signal.SIGKILL

    async def main() -> None:
        async with trio.open_nursery() as nursery, open_process(family("deaf"), cwd=tmp_path, env=ENV) as process:
            numbers.extend(await pids(process))
            nursery.start_soon(wait, process)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            await trio.sleep_forever()

    run(main)
    assert [lives(pid) for pid in numbers] == [False, False]


def test_what_is_raised_in_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    async def body(process: AgentProcess) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        play(tmp_path, ["sleep", "600"], body)


@pytest.mark.parametrize(
    ("argv", "folder", "code"),
    [
        (["no-such-program"], ".", "binary_not_found"),
        (["./a-folder"], ".", "binary_not_found"),
        (["./no-format"], ".", "binary_not_found"),
        (["true"], "missing", "io"),
    ],
)
def test_what_cannot_be_started_is_told_apart(tmp_path: Path, argv: list[str], folder: str, code: str) -> None:
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "no-format").write_text("\0\1\2")
    (tmp_path / "no-format").chmod(0o755)

    async def body(process: AgentProcess) -> None:
        raise AssertionError("it runs")

    with pytest.raises(AgentError) as caught:
        play(tmp_path / folder, argv, body)
    assert caught.value.code == code


def test_memory_in_use_is_bounded_with_all_that_was_started(tmp_path: Path) -> None:
    async def body(process: AgentProcess) -> None:
        assert await process.wait() == -signal.SIGKILL
        assert process.limited is not None
        assert "more than" in process.limited

    script = "import os, time; os.fork(); x = b'x' * (60 << 20); time.sleep(600)"  # each alone may
    limits = ProcessLimits(memory_bytes=100 << 20)
    play(tmp_path, [sys.executable, "-ISc", script], body, limits=limits)


def test_the_kernel_holds_a_program_to_its_memory_where_groups_can_be_made(tmp_path: Path) -> None:
    """Faster than anybody looks: what it takes at once never is there."""
    name = f"skilld-test-{secrets.token_hex(8)}"
    group = cgroups.make(cgroups.find_home(), name)
    memory = cgroups.limit_memory(group, name, 1 << 30)
    if group is not None:
        cgroups.end(group)
    cgroups.remove(memory)
    if memory is None:
        pytest.skip("no control group with a limit of memory may be made here")
    said: list[bytes] = []

    async def body(process: AgentProcess) -> None:
        said.extend([line async for line in process.lines()])
        assert await process.wait() == -signal.SIGKILL
        assert process.limited == f"it needed more than {48 << 20} bytes of memory"

    script = "print('begun', flush=True); x = b'x' * (400 << 20); print('has it', flush=True)"
    nest = Nest(secrets.token_hex(8), cgroups.find_home())
    play(tmp_path, [sys.executable, "-ISc", script], body, limits=ProcessLimits(memory_bytes=48 << 20), nest=nest)
    assert said == [b"begun"]
    assert not list(memory.parent.glob(f"*{nest.owner}*")), "a group is left"


def test_the_environment_is_what_was_given_and_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_DAEMON", "x")

    async def body(process: AgentProcess) -> None:
        names = [line.partition(b"=")[0] async for line in process.lines()]
        assert sorted(names) == [b"PATH", b"SKILLD_RUNNER"]

    play(tmp_path, ["env"], body)


DAEMON = """
import os, sys
from pathlib import Path
import trio
from skill_actors.backends.agents.process import open_nest, open_process

async def main():
    nest = await open_nest("ownerof" + sys.argv[2], "test")
    async with open_process(sys.argv[3:], cwd=Path("/"), env={"PATH": os.defpath}, nest=nest) as process:
        Path(sys.argv[1]).write_bytes(await process.next_line() + b" ")
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("launcher_too", [False, True])
def test_nothing_outlives_a_daemon_that_is_killed(tmp_path: Path, launcher_too: bool) -> None:
    note, owner = tmp_path / "note", os.urandom(8).hex()
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(note), owner, *family("deaf")])
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_bytes().endswith(b" ")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    numbers = [int(word) for word in note.read_bytes().split()]
    launcher = parent_of(numbers[0])
    if launcher_too:
        os.kill(launcher, signal.SIGSTOP)  # so that it does nothing between the two
    daemon.kill()
    daemon.wait()
    if launcher_too:
        os.kill(launcher, signal.SIGKILL)
        run(open_nest, f"ownerof{owner}", "test")  # the next life ends what is left
    while any(map(lives, numbers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_job_of_a_launcher_is_in_no_command_line(tmp_path: Path) -> None:
    async def main() -> None:
        env = {**ENV, "KEY": "a-secret"}
        async with open_process(["sleep", "600"], cwd=tmp_path, env=env) as process:
            told = [Path(f"/proc/{parent_of(process.pid)}/{name}") for name in ("cmdline", "environ")]
            assert [b"a-secret" in path.read_bytes() for path in told] == [False, False]

    run(main)


def test_messages_of_a_launcher_are_lines_of_json(tmp_path: Path) -> None:
    """A name with a line's end in it is a name, and no message of its own."""

    async def body(process: AgentProcess) -> None:
        line = await process.next_line()
        assert line is not None
        assert json.loads(line) == ["a\nb", "\u2028"]

    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    play(tmp_path, [sys.executable, "-c", script, "a\nb", "\u2028"], body)
