"""The resident runner, spoken to by frames, as hostile as calls and peers may be."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proc_kit import state_of
from skill_actors.backends import local_boot
from skill_actors.backends.frames import (
    CANCEL,
    CREDIT,
    DONE,
    HEADER,
    HELLO,
    MAX_FRAME_BYTES,
    RUN,
    STDOUT,
    Frames,
    frame,
)


class Peer:
    """The daemon's side, blocking, with a deadline for everything."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-E", local_boot.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._frames = Frames()
        self._ready: list[tuple[int, int, bytes | None]] = []

    def send(self, kind: int, call: int, payload: bytes = b"") -> None:
        os.write(self.stdin, frame(kind, call, payload))

    def run(self, call: int, command: str, **fields: Any) -> None:
        job = {
            "argv": ["bash", "-c", command],
            "cwd": "/",
            "env": {"PATH": os.environ["PATH"]},
            "folders": [],
            "limits": {},
            "timeout_s": 20,
            "max_chars": 1_000,
            "window_bytes": 100_000,
            "stream_chars": 0,
            "spill": {"folders": [], "name": "never", "max_bytes": 0, "after_chars": 10**9},
        }
        self.send(RUN, call, json.dumps(job | fields).encode())

    def receive(self, within_s: float = 30) -> tuple[int, int, bytes | None]:
        deadline = time.monotonic() + within_s
        while not self._ready:
            if not select.select([self.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the runner says nothing")
            data = os.read(self.stdout, 65_536)
            if not data:
                raise EOFError("the runner is gone")
            self._ready += self._frames.feed(data)
        return self._ready.pop(0)

    def done(self) -> tuple[int, dict[str, Any]]:
        """The next result, skipping output."""
        while True:
            kind, call, payload = self.receive()
            if kind == DONE:
                return call, json.loads(payload or b"")

    def close(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        self.process.wait()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    assert made.receive()[0] == HELLO
    try:
        yield made
    finally:
        made.close()


def running(seconds: str) -> bool:
    """Whether some process sleeps for exactly this many seconds."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path("/proc", name, "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
    return False


def wait_until(condition: Any, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def test_frames_come_out_as_they_went_in_however_they_are_cut() -> None:
    sent = [(1, 7, b""), (18, 8, b"x" * 300), (20, 9, b"{}")]
    data = b"".join(frame(*each) for each in sent)
    frames = Frames()
    assert [got for byte in data for got in frames.feed(bytes([byte]))] == sent
    assert Frames().feed(data) == sent


def test_a_frame_beyond_the_limit_is_skipped_and_the_next_one_read() -> None:
    frames = Frames(max_bytes=10)
    assert frames.feed(frame(1, 5, b"x" * 1_000)[:500]) == [(1, 5, None)]
    assert frames.feed(frame(1, 5, b"x" * 1_000)[500:] + frame(2, 6, b"ok")) == [(2, 6, b"ok")]


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"argv": []}', b'{"timeout_s": "x", "max_chars": 1}', b"[" * 100_000],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_next_one_runs(peer: Peer, payload: bytes) -> None:
    peer.send(RUN, 1, payload)
    call, done = peer.done()
    assert (call, done["outcome"]) == (1, "refused")
    peer.run(2, "echo fine")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"


@pytest.mark.parametrize(
    "fields",
    [
        {"argv": 3},
        {"argv": []},
        {"argv": ["a\0b"]},
        {"argv": [None]},
        {"env": {"A": 1}},
        {"env": {"A=B": "x"}},
        {"cwd": "/no/such/folder"},
        {"cwd": 5},
        {"limits": {"unknown": 1}},
        {"limits": {"cpu_s": "x"}},
        {"limits": {"total_processes": "x"}},
        {"limits": {"total_processes": 1.5}},
        {"limits": 5},
        {"limits": None},
        {"limits": ["total_cpu_s"]},
        {"timeout_s": 1e400},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"timeout_s": [1]},
        {"max_chars": None},
        {"window_bytes": "x"},
        {"stream_chars": {}},
        {"spill": {}},
        {"spill": {"folders": 5, "name": "x", "max_bytes": 1, "after_chars": 0}},
        {"spill": {"folders": [], "name": "x", "max_bytes": [], "after_chars": 0}},
        {"spill": {"folders": [], "name": "x", "max_bytes": 1, "after_chars": None}},
        {"folders": ["/proc/new"]},
    ],
)
def test_a_job_that_cannot_be_started_says_so(peer: Peer, fields: dict[str, Any]) -> None:
    peer.run(1, "echo no", **fields)
    _, done = peer.done()
    assert done["outcome"] == "refused" or done["error"], done
    peer.run(2, "echo fine")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"


def test_a_request_that_is_too_large_is_refused_and_the_next_one_runs(peer: Peer) -> None:
    os.write(peer.stdin, HEADER.pack(MAX_FRAME_BYTES + 1, RUN, 1))
    left = MAX_FRAME_BYTES + 1
    while left:
        left -= os.write(peer.stdin, bytes(min(left, 65_536)))
    assert peer.done()[1]["outcome"] == "refused"
    peer.run(2, "echo fine")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"


def test_frames_for_unknown_calls_and_of_unknown_kinds_are_ignored(peer: Peer) -> None:
    for kind in (0, CREDIT, CANCEL, DONE, 255):
        peer.send(kind, 99, b"anything")
    peer.run(1, "sleep 0.2; echo fine")
    for kind in (0, DONE, 255):
        peer.send(kind, 1, b"anything")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"


def test_the_end_of_stdin_kills_everything_and_ends_the_runner(peer: Peer) -> None:
    peer.run(1, "(setsid sleep 7101 &); (env -i setsid sleep 7102 &); sleep 7103")
    wait_until(lambda: running("7101") and running("7102") and running("7103"))
    assert peer.process.stdin is not None
    peer.process.stdin.close()
    assert peer.process.wait(30) == 0
    assert not running("7101")
    assert not running("7102")
    assert not running("7103")


def test_a_killed_runner_takes_its_calls_with_it(peer: Peer) -> None:
    peer.run(1, "(setsid sleep 7201 &); (env -i setsid sleep 7202 &); sleep 7203")
    wait_until(lambda: running("7201") and running("7202") and running("7203"))
    peer.process.kill()
    wait_until(lambda: not (running("7201") or running("7202") or running("7203")))


def test_a_killed_keeper_loses_its_call_and_no_other(peer: Peer, tmp_path: Path) -> None:
    until = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done"
    peer.run(1, f"(setsid sleep 7302 &); echo other; {until}; echo survived")
    wait_until(lambda: running("7302"))
    peer.run(2, "(setsid sleep 7301 &); (env -i setsid sleep 7303 &); sleep 0.1; kill -9 $PPID; sleep 7304")
    call, done = peer.done()
    assert (call, done["outcome"]) == (2, "lost")
    assert not running("7301")
    assert not running("7303")
    assert not running("7304")
    assert running("7302")
    (tmp_path / "go").touch()
    call, done = peer.done()
    assert (call, done["stdout"]["head"]) == (1, "other\nsurvived\n")
    assert not running("7302")


def test_a_stopped_keeper_is_killed_when_its_call_has_to_end(peer: Peer) -> None:
    peer.run(1, "kill -STOP $PPID; sleep 7401", timeout_s=0.2)
    call, done = peer.done()
    assert (call, done["outcome"]) == (1, "timeout")
    assert not running("7401")


def test_killed_spare_keepers_are_replaced(peer: Peer) -> None:
    for number in range(1, 4):
        kill = f"for p in $(cat /proc/[0-9]*/stat | awk '$4 == {peer.process.pid} {{print $1}}'); do "
        kill += "[ $p = $PPID ] || kill -9 $p; done"
        peer.run(number, kill)
        assert peer.done()[1]["outcome"] == "exited"
    peer.run(9, "echo fine")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"


@pytest.mark.parametrize("victim", ["spare", "its child"])
def test_a_spare_keeper_that_is_killed_as_a_call_comes_costs_that_call_nothing(peer: Peer, victim: str) -> None:
    def below(pid: int) -> list[int]:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    wait_until(lambda: any(map(below, below(peer.process.pid))))
    (spare,) = below(peer.process.pid)
    (child,) = below(spare)
    peer.process.send_signal(signal.SIGSTOP)  # so that it hears of both at once
    os.kill(spare if victim == "spare" else child, signal.SIGKILL)
    # Dead; or it has said so.
    wait_until(lambda: state_of(spare) == "Z" or (not state_of(child) and state_of(spare) == "S"))
    peer.run(1, "echo one")
    peer.process.send_signal(signal.SIGCONT)
    for number, words in ((1, "one"), (2, "two")):
        if number == 2:
            peer.run(2, "echo two")
        call, done = peer.done()
        assert (call, done["outcome"], done["stdout"]["head"]) == (number, "exited", f"{words}\n")


def test_output_waits_for_credit(peer: Peer) -> None:
    peer.run(1, "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2", stream_chars=10_000_000)
    got = 0
    with contextlib.suppress(TimeoutError):
        while True:
            kind, _, payload = peer.receive(30 if got < 100_000 else 0.5)  # only then does silence say anything
            assert kind == STDOUT
            got += len(payload or b"")
    assert 100_000 <= got < 300_000
    peer.send(CREDIT, 1, got.to_bytes(4, "big"))
    while (received := peer.receive())[0] != DONE:
        size = len(received[2] or b"")
        got += size
        peer.send(CREDIT, 1, size.to_bytes(4, "big"))
    assert got == 1_000_004


def test_what_is_in_the_pipes_at_the_end_comes_without_credit_and_whole(peer: Peer) -> None:
    """The link counts on how much that can be: two pipes, made as large as the kernel lets them be."""
    fill = "import fcntl, os; fcntl.fcntl(1, 1031, 1 << 20); os.write(1, b'\\xff' * (1 << 20))"
    peer.run(1, f'sleep 0.2; python3 -c "{fill}"', stream_chars=10_000_000, window_bytes=1)
    got = 0
    while (received := peer.receive())[0] != DONE:
        got += len(received[2] or b"")
    assert got == 3 << 20


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072])
def test_no_byte_is_lost_of_any_size(peer: Peer, size: int) -> None:
    for number in range(1, 9):
        peer.run(number, f"head -c {size} /dev/zero | tr '\\0' x; head -c {size} /dev/zero >&2", max_chars=200_000)
    for _ in range(8):
        _, done = peer.done()
        assert (done["code"], done["stdout"]["head"], done["stderr"]["head"]) == (0, "x" * size, "\0" * size)


def test_a_request_that_never_becomes_whole_holds_up_no_other_and_ends_with_stdin(peer: Peer) -> None:
    peer.run(1, "sleep 7501")
    os.write(peer.stdin, frame(RUN, 2, b"x" * 1_000)[:-1])
    wait_until(lambda: running("7501"))
    peer.process.stdin.close()  # type: ignore[union-attr]
    assert peer.process.wait(30) == 0
    assert not running("7501")


def test_the_spill_file_has_a_limit(peer: Peer, tmp_path: Path) -> None:
    spill = {"folders": ["a", "b"], "name": "out", "max_bytes": 100_000, "after_chars": 100}
    peer.run(1, "yes | head -c 3000000; echo end", cwd=str(tmp_path), spill=spill)
    _, done = peer.done()
    assert done["spill"] == {"bytes": 100_000, "cut": True, "error": None}
    assert (tmp_path / "a/b/out").read_bytes() == b"y\n" * 50_000
    assert done["stdout"]["chars"] == 3_000_004
    assert done["stdout"]["tail"].endswith("y\nend\n")
    assert len(done["stdout"]["head"]) == len(done["stdout"]["tail"]) == 1_000


@pytest.mark.parametrize(
    "spill",
    [{"folders": ["a\0b"]}, {"folders": ["\ud800"]}, {"name": "a\0b"}, {"name": ""}, {"name": "a/b"}, {"name": ".."}],
)
def test_a_spill_file_that_cannot_be_named_costs_the_file_and_nothing_else(
    peer: Peer, tmp_path: Path, spill: dict[str, Any]
) -> None:
    usual = {"folders": [], "name": "out", "max_bytes": 100_000, "after_chars": 10}
    peer.run(1, "seq 1000", cwd=str(tmp_path), spill=usual | spill)
    _, done = peer.done()
    assert done["stdout"]["chars"] == 3_893
    assert done["spill"]["error"]
    peer.run(2, "echo fine")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"


def test_the_spill_file_is_not_written_through_a_link(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").symlink_to("../elsewhere")
    spill = {"folders": ["a"], "name": "out", "max_bytes": 100_000, "after_chars": 100}
    peer.run(1, "seq 1000", cwd=str(tmp_path / "work"), spill=spill)
    _, done = peer.done()
    assert (done["code"], done["spill"]["bytes"]) == (0, 0)
    assert done["spill"]["error"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_limits_hold(peer: Peer) -> None:
    peer.run(1, "ulimit -c; ulimit -n; ulimit -f", limits={"open_files": 64, "file_bytes": 2_048_000})
    assert peer.done()[1]["stdout"]["head"] == "0\n64\n2000\n"
    peer.run(2, "while :; do :; done", limits={"cpu_s": 1})
    assert peer.done()[1]["code"] in (-signal.SIGKILL, -signal.SIGXCPU)


def test_a_call_starts_with_ordinary_signals_and_three_descriptors(peer: Peer) -> None:
    peer.run(
        1, "grep -E 'SigIgn|SigBlk|NoNewPrivs' /proc/self/status; ls /proc/$$/fd; ps -o sid= -p $$ | tr -d ' '; echo $$"
    )
    lines = peer.done()[1]["stdout"]["head"].split()
    ignored = int(lines[3], 16) & ~(3 << 31)  # 32 and 33 are the C library's own: nobody can set them back
    assert [*lines[:3], ignored, *lines[4:9]] == ["SigBlk:", "0" * 16, "SigIgn:", 0, "NoNewPrivs:", "1", "0", "1", "2"]
    assert lines[9] == lines[10]


def test_no_descriptor_and_no_zombie_is_left_after_many_calls(peer: Peer) -> None:
    def state() -> tuple[int, int]:
        children = [
            stat
            for name in filter(str.isdigit, os.listdir("/proc"))
            if (stat := read_stat(name)) and int(stat.rpartition(")")[2].split()[1]) == peer.process.pid
        ]
        return len(os.listdir(f"/proc/{peer.process.pid}/fd")), len(children)

    def read_stat(name: str) -> str:
        with contextlib.suppress(OSError):
            return Path("/proc", name, "stat").read_text()
        return ""

    before = (7, 1)  # the standard streams, and the spare keeper with its two sockets and two pipes
    wait_until(lambda: state() == before)
    for number in range(2, 30):
        peer.run(number, "sleep 60 & echo x", timeout_s=5 if number % 2 else 0)
        peer.done()
    peer.run(30, ":")
    peer.done()
    wait_until(lambda: state() == before)


def test_ctrl_c_does_not_end_the_runner(peer: Peer) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        peer.process.send_signal(number)
    peer.run(1, "echo fine")
    assert peer.done()[1]["stdout"]["head"] == "fine\n"
