"""What is reported arrives once: with the daemon there, away, slow, or back again; and at the end of any process."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from monitor_kit import LIMITS, Collector, collecting, run_program
from skilld_monitor import Monitoring, enable_monitoring, log_event, losses, sender
from skilld_monitor.delivery import MAX_BATCH_RECORDS, Closed, Delivery, DeliveryError, Refusal
from skilld_monitor.log_file import LogFile
from skilld_monitor.losses import losses_of
from skilld_monitor.records import Record
from skilld_monitor.spool import Spool, batches
from skilld_monitor.spool import left_behind as left_behind_files

BURST = 5_000
HEAD: dict[str, object] = {"run": "a" * 32, "agent": "shop", "pid": 1}
PROGRAM = """
import skilld_monitor
made = skilld_monitor.enable_monitoring("shop")
for n in range({count}):
    skilld_monitor.log_event("burst", {{"n": n}})
{rest}
"""


def record(seq: int, **extra: object) -> bytes:
    return json.dumps({"seq": seq, "time_us": 1, "name": "x", "level": "INFO", "data": None, **extra}).encode()


def numbers(collector: Collector) -> list[int]:
    """Those of the burst, oldest first."""
    rows = collector.store.ask(
        lambda db: list(db.execute("SELECT data ->> 'n' FROM event WHERE name = 'burst' ORDER BY id"))
    )
    return [int(number) for (number,) in rows]


@contextmanager
def deaf(path: Path) -> Iterator[socket.socket]:
    """Somebody who listens and never answers, as a stopped daemon."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield listening


def test_a_short_program_delivers_all_of_a_burst_at_its_end(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        done = run_program(PROGRAM.format(count=BURST, rest=""), tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert numbers(collector) == list(range(BURST))
    assert list((tmp_path / "spool").glob("*")) == []


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("import os, signal; os.kill(os.getpid(), signal.SIGHUP)", -1),
        ("import threading, time; threading.Thread(target=time.sleep, args=(0.1,)).start()", 0),
    ],
    ids=["exit", "exception", "SIGTERM", "SIGHUP", "thread"],
)
def test_however_a_program_ends_it_delivers(tmp_path: Path, rest: str, status: int) -> None:
    with collecting(tmp_path) as collector:
        assert run_program(PROGRAM.format(count=50, rest=rest), tmp_path).returncode == status
        assert numbers(collector) == list(range(50))


def test_a_program_with_a_handler_of_its_own_for_sigterm_keeps_it(tmp_path: Path) -> None:
    program = """
import os, signal, skilld_monitor
signal.signal(signal.SIGTERM, lambda number, frame: print("mine"))
skilld_monitor.enable_monitoring("shop")
os.kill(os.getpid(), signal.SIGTERM)
skilld_monitor.disable_monitoring()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
skilld_monitor.enable_monitoring("shop")
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
skilld_monitor.disable_monitoring()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    assert run_program(program, tmp_path).stdout == "mine\nTrue\n"


def test_forked_children_report_under_runs_of_their_own_and_nothing_comes_twice(tmp_path: Path) -> None:
    rest = """
import os, sys, multiprocessing
def child():
    for n in range(1000, 1010):
        skilld_monitor.log_event("burst", {"n": n})
pid = os.fork()
if pid == 0:
    child()
    sys.exit()
os.waitpid(pid, 0)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
"""
    with collecting(tmp_path) as collector:
        done = run_program(PROGRAM.format(count=100, rest=rest), tmp_path)
        assert done.returncode == 0, done.stderr
        assert sorted(numbers(collector)) == sorted([*range(100), *range(1000, 1010), *range(1000, 1010)])
        assert len({event["run"] for event in collector.events()}) == 3


def test_without_a_daemon_all_waits_in_a_private_file_and_the_next_program_brings_it(tmp_path: Path) -> None:
    done = run_program(PROGRAM.format(count=BURST, rest=""), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (file,) = (tmp_path / "spool").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with collecting(tmp_path) as collector:
        run_program(PROGRAM.format(count=0, rest=""), tmp_path)
        assert numbers(collector) == list(range(BURST))
    assert not file.exists()


@pytest.mark.alone
@pytest.mark.parametrize("since_s", [0, 0.3], ids=["at once", "while an answer is waited for"])
def test_a_daemon_that_does_not_answer_holds_up_no_call_and_the_end_only_so_long(
    tmp_path: Path, since_s: float
) -> None:
    rest = f"""
import time
time.sleep({since_s})
began = time.perf_counter()
skilld_monitor.log_event("burst", {{"n": 50}})
assert time.perf_counter() - began < 0.05
"""
    with deaf(tmp_path / "monitor.sock"):
        began_s = time.monotonic()
        env = {"SKILLD_MONITOR_EXIT_TIMEOUT_S": "1"}
        done = run_program(PROGRAM.format(count=50, rest=rest), tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - began_s < 10
    (tmp_path / "monitor.sock").unlink()
    with collecting(tmp_path) as collector:
        run_program(PROGRAM.format(count=0, rest=""), tmp_path)
        assert numbers(collector) == list(range(51))


def test_a_program_whose_threads_are_all_busy_does_not_hold_up_delivery(tmp_path: Path) -> None:
    rest = """
import threading
over = []
def work():
    while not over:
        sum(range(1_000))
for _ in range(8):
    threading.Thread(target=work).start()
for n in range(10_000):
    skilld_monitor.log_event("burst", {"n": n})
print(made.flush(60))
over.append(True)
"""
    with collecting(tmp_path) as collector:
        assert run_program(PROGRAM.format(count=0, rest=rest), tmp_path).stdout == "True\n"
        assert numbers(collector) == list(range(10_000))


def test_a_daemon_that_comes_back_gets_what_it_missed_in_order(tmp_path: Path) -> None:
    made = enable_monitoring("shop")
    log_event("burst", {"n": 0})
    assert made.flush()
    assert made.stats().spooled > 0
    assert f"{tmp_path / 'm/monitor.sock'}: [Errno 2] No such file" in made.delivery_problem()
    with collecting(tmp_path / "m") as collector:
        log_event("burst", {"n": 1})
        collector.wait(2, name="burst")
        assert numbers(collector) == [0, 1]
    log_event("burst", {"n": 2})
    with collecting(tmp_path / "m") as collector:
        log_event("burst", {"n": 3})
        collector.wait(4, name="burst")
        assert numbers(collector) == [0, 1, 2, 3]
        assert made.flush()
        settle(made)
    report = made.disable()
    assert (report.spooled, report.dropped) == (1, 0)  # that it was switched off


def settle(made: Monitoring) -> None:
    """Until it has read that what it sent from the spool is written."""
    deadline_s = time.monotonic() + 30
    while made.stats().spooled:
        assert time.monotonic() < deadline_s, made.stats()
        time.sleep(0.01)


def test_what_of_the_spool_has_arrived_is_sent_and_counted_once(tmp_path: Path) -> None:
    head: dict[str, object] = {"run": "b" * 32}
    spool = Spool(str(tmp_path), head, 1 << 20)
    spool.add([record(n) for n in range(MAX_BATCH_RECORDS + 10)])
    first, second = spool.batches()
    assert (len(first), len(second)) == (MAX_BATCH_RECORDS, 10)
    spool.sent(first)
    assert list(spool.batches()) == [second]
    spool.add([record(9999)])
    assert list(spool.batches()) == [[*second, record(9999)]]
    spool.clear()
    spool.add([record(1)])
    assert list(spool.batches()) == [[record(1)]]
    spool.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to try")
def test_a_spool_whose_head_found_no_room_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(str(tmp_path), {"run": "b" * 32}, 1 << 20)
    write = os.write
    with monkeypatch.context() as patched, open("/dev/full", "wb", buffering=0) as full:
        patched.setattr(os, "write", lambda _fd, raw: write(full.fileno(), raw))
        with pytest.raises(OSError, match="No space"):
            spool.add([record(1)])
    assert list(tmp_path.iterdir()) == []
    assert spool.add([record(1)]) == 1
    assert list(spool.batches()) == [[record(1)]]
    spool.close()


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (-1, 0), (1, 1), (7, 1)])
def test_of_a_batch_a_full_disk_keeps_what_fits(tmp_path: Path, room: int, kept: int) -> None:
    """`room` is for how many bytes more than the second record there is place; 0 for none at all."""
    spool = Spool(str(tmp_path), {"run": "b" * 32}, 1 << 20)
    assert spool.add([record(1)]) == 1
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    room += len(record(2)) if room else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(spool) + room, old[1]))
    try:
        if kept:
            assert spool.add([record(2), record(3), record(4)]) == kept
        else:
            with pytest.raises(OSError, match="too large"):
                spool.add([record(2), record(3), record(4)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert spool.add([record(5)]) == 1
    whole = [record(1), *[record(2)][:kept], record(5)]
    assert list(spool.batches()) == [whole]
    assert len(spool) == sum(path.stat().st_size for path in tmp_path.iterdir())
    spool.close()


def test_a_program_that_was_suspended_in_the_middle_of_a_batch_sends_it_again(tmp_path: Path) -> None:
    path = tmp_path / "m" / "monitor.sock"
    with deaf(path) as listening:
        made = enable_monitoring("shop")
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 20)
            connection.sendall(b'{"error": {"code": "slow", "message": "a batch took longer than 10 s"}}\n')
        assert made.flush()
        assert (made.stats().spooled, made.stats().refused) == (1, 0)
    path.unlink()
    with collecting(tmp_path / "m") as collector:
        assert [event["name"] for event in collector.wait(1)] == ["monitoring_enabled"]
        settle(made)


def test_a_batch_that_is_sent_twice_is_kept_once(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        for _ in range(2):
            delivery = Delivery(str(collector.path))
            assert delivery.send(HEAD, [record(1), record(2)], 5) == 0
            delivery.close()
        assert collector.count() == 2
        assert [written.duplicates for _, written in collector.written] == [0, 2]


def test_a_connection_that_the_daemon_ended_is_made_again_within_the_call(tmp_path: Path) -> None:
    delivery = Delivery(str(tmp_path / "m" / "monitor.sock"))
    with collecting(tmp_path / "m"):
        delivery.send(HEAD, [record(1)], 5)
    with collecting(tmp_path / "m") as collector:
        delivery.send(HEAD, [record(2)], 5)
        assert collector.count() == 2
    with pytest.raises(DeliveryError):
        delivery.send(HEAD, [record(3)], 5)


def test_a_batch_follows_before_the_one_before_is_acknowledged(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        delivery = Delivery(str(collector.path))
        with pytest.raises(Closed):
            delivery.begin(HEAD, [record(1)], 5)
        delivery.send(HEAD, [record(1)], 5)
        delivery.begin(HEAD, [record(2), b"7"], 5)
        delivery.begin(HEAD, [record(3), record(4)], 5)
        assert [delivery.finish(5), delivery.finish(5)] == [1, 0]
        with pytest.raises(Closed):
            delivery.finish(5)
        assert (collector.count(), delivery.connected) == (4, False)


def test_what_was_refused_behind_others_takes_none_of_them_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches, of which the second is too large for this daemon; the third is on its way by then."""
    is_queued, handle = threading.Event(), sender.Sender._handle

    def handle_later(self: sender.Sender, record: Record | None) -> None:
        assert is_queued.wait(30), "else a batch ends wherever the program has come"
        handle(self, record)

    with collecting(tmp_path / "m", limits=replace(LIMITS, max_line_bytes=300 << 10)) as collector:
        made = enable_monitoring("shop")
        assert made.flush()
        monkeypatch.setattr(sender.Sender, "_handle", handle_later)
        for n in range(3 * MAX_BATCH_RECORDS):
            log_event("burst", {"n": n, "text": "y" * (200 if n // MAX_BATCH_RECORDS == 1 else 1)})
        is_queued.set()
        report = made.disable()
        assert collector.drops["too_large"] >= 1
        assert (report.refused + report.delivered, report.spooled, report.dropped) == (report.accepted, 0, 0)
        assert {0, MAX_BATCH_RECORDS - 1000, 3 * MAX_BATCH_RECORDS - 1} <= set(numbers(collector))
        assert len(numbers(collector)) == collector.count() - 2 == report.delivered - 2, "beside its own two"


def test_what_the_daemon_will_never_take_is_counted_and_not_sent_for_ever(tmp_path: Path) -> None:
    with collecting(tmp_path / "m", limits=replace(LIMITS, max_line_bytes=1000)) as collector:
        made = enable_monitoring("shop")
        log_event("x", {"text": "y" * 2000})
        report = made.disable()
        assert report.refused >= 1
        assert (report.refused + report.delivered, report.spooled, report.dropped) == (report.accepted, 0, 0)
        assert collector.drops["too_large"] >= 1


def left_behind(folder: Path, name: str, *lines: bytes) -> Path:
    """A file in the spool, as a program that has ended left it."""
    (folder / "spool").mkdir(exist_ok=True)
    path = folder / "spool" / f"{name}.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_what_another_program_left_and_the_daemon_will_never_take_is_counted_and_named(tmp_path: Path) -> None:
    none = left_behind(tmp_path, "c", json.dumps({"run": "no digits"}).encode(), record(1), record(2))
    some = left_behind(tmp_path, "d", json.dumps(HEAD).encode(), record(1), b'{"seq":"none"}', record(3))
    with collecting(tmp_path / "m") as collector:
        made = enable_monitoring("shop")
        log_event("x")
        assert made.flush(10)
        collector.wait(2, agent="shop", name="x")
        report = made.disable()
        (ended,) = collector.wait(1, name="monitoring_disabled")
    assert (report.others_refused, report.refused, report.dropped) == (3, 0, 0)
    assert (ended["data"]["others_refused"], ended["data"]["others_unreadable"]) == (3, 0)
    assert [line.partition(": ")[0] for line in ended["data"]["others"]] == [str(none), str(some)]
    assert f"{none}: bad: run: expected 32 hexadecimal digits" in made.problem
    assert not none.exists()
    assert not some.exists()


@pytest.mark.parametrize("content", [b"no head", b"[1]", b"[" * 50_000])
def test_a_file_in_the_spool_that_is_none_is_named_and_left(tmp_path: Path, content: bytes) -> None:
    path = left_behind(tmp_path, "c", content, record(1))
    left_behind(tmp_path, "empty")
    (tmp_path / "spool" / "link.jsonl").symlink_to(path)
    with collecting(tmp_path / "m") as collector:
        made = enable_monitoring("shop")
        log_event("x")
        assert made.flush(10)
        made._health_due_us = 0
        log_event("y")
        report = made.disable()
        (health,) = collector.events(name="monitoring_health")
    assert (health["level"], health["data"]["others_unreadable"]) == ("WARNING", 2), "nothing is lost with an empty one"
    assert [str(path) in line for line in health["data"]["others"]] == [True, False]
    assert report.others_refused == 0
    assert path.exists()


def test_what_another_program_left_is_counted_once_however_often_it_is_tried(tmp_path: Path) -> None:
    """The second batch finds no daemon; all of the file comes again."""
    lines = [b'{"seq":"none"}'] * MAX_BATCH_RECORDS
    left_behind(tmp_path, "c", json.dumps(HEAD).encode(), *lines, record(1))
    spool, refused, kept = str(tmp_path / "spool"), [], losses_of("e" * 32)
    with collecting(tmp_path / "m") as collector:
        for _ in range(2):
            delivery = Delivery(str(collector.path))
            for _, fd, head in left_behind_files(spool, f"{spool}/{'e' * 32}.jsonl"):
                delivery.send(head, next(iter(batches(fd))), 5)
            refused.append(kept.refused)
            delivery.close()
    assert refused == [MAX_BATCH_RECORDS] * 2


def test_who_may_not_report_is_told_so(tmp_path: Path) -> None:
    with (
        collecting(tmp_path, allowed=lambda _peer: False) as collector,
        pytest.raises(Refusal, match="may not report"),
    ):
        Delivery(str(collector.path)).send(HEAD, [record(1)], 5)


def test_a_spool_that_is_full_takes_no_more_and_says_how_much_it_did_not(tmp_path: Path) -> None:
    made = enable_monitoring("shop", max_spool_bytes=2000)
    for n in range(100):
        log_event("burst", {"n": n})
    report = made.disable()
    assert report.dropped > 50
    assert report.spooled + report.dropped == report.accepted
    (file,) = (tmp_path / "spool").iterdir()
    assert file.stat().st_size <= 2000


def test_a_spool_that_cannot_be_written_costs_events_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = enable_monitoring("shop", spool_dir=str(tmp_path / "file" / "spool"))
    log_event("x")
    report = made.disable()
    assert report.dropped == report.accepted


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to try")
def test_a_log_file_on_a_full_disk_costs_no_delivery(tmp_path: Path) -> None:
    with collecting(tmp_path / "m") as collector:
        os.symlink("/dev/full", tmp_path / "full.json")
        made = enable_monitoring("shop", log_file=tmp_path / "full.json")
        log_event("x")
        assert made.disable().delivered == 3
        assert collector.count() == 3


def test_a_spawned_pool_of_workers_is_watched_if_its_workers_say_so(tmp_path: Path) -> None:
    assert "fork" in multiprocessing.get_all_start_methods()
    with collecting(tmp_path) as collector:
        program = tmp_path / "pool.py"
        program.write_text(
            "import multiprocessing, skilld_monitor\n"
            "def work(n):\n"
            "    skilld_monitor.log_event('burst', {'n': n})\n"
            "def begin():\n"
            "    skilld_monitor.enable_monitoring('worker')\n"
            "if __name__ == '__main__':\n"
            "    with multiprocessing.get_context('spawn').Pool(2, begin) as pool:\n"
            "        pool.map(work, range(10))\n"
            "        pool.close()\n"
            "        pool.join()\n"
        )
        env = {
            **os.environ,
            "SKILLD_MONITOR_SOCKET": str(collector.path),
            "SKILLD_MONITOR_SPOOL": str(tmp_path / "spool"),
            "SKILLD_MONITOR_EXIT_TIMEOUT_S": "30",
        }
        subprocess.run([sys.executable, str(program)], env=env, check=True, timeout=90)
        assert sorted(numbers(collector)) == list(range(10))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_that_switches_it_on_itself_delivers_at_its_end(tmp_path: Path, method: str) -> None:
    with collecting(tmp_path) as collector:
        program = tmp_path / "child.py"
        program.write_text(
            "import multiprocessing\n"
            "def work():\n"
            "    import skilld_monitor\n"
            "    skilld_monitor.enable_monitoring('worker')\n"
            "    skilld_monitor.log_event('burst', {'n': 1})\n"
            "if __name__ == '__main__':\n"
            f"    child = multiprocessing.get_context({method!r}).Process(target=work)\n"
            "    child.start()\n"
            "    child.join()\n"
        )
        done = run_program(f"import runpy; runpy.run_path({str(program)!r}, run_name='__main__')", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert numbers(collector) == [1]


HELD = """
import threading
from skilld_monitor import sender
go_on, handle = threading.Event(), sender.Sender._handle
sender.Sender._handle = lambda self, record: (go_on.wait(30), handle(self, record))
"""


def test_what_was_not_handled_in_time_when_it_was_switched_off_is_at_the_end_of_the_program(tmp_path: Path) -> None:
    text = HELD + PROGRAM.format(count=2_000, rest="print(made.disable(0.0).complete)\ngo_on.set()")
    done = run_program(text, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    (file,) = (tmp_path / "spool").iterdir()
    assert len(file.read_bytes().splitlines()) == 1 + 2_002


def test_where_no_thread_can_be_started_for_a_while_one_is_started_later(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(sender, "_START_AGAIN_S", 0.05)
        full.setattr(threading.Thread, "start", no_more_threads)
        made = enable_monitoring("shop")
        assert made.delivery_problem() == "no thread can be started"
    time.sleep(0.06)
    log_event("x")
    assert made.flush(10)
    assert collector.count() == 2
    assert made.delivery_problem() == ""


def test_at_the_end_what_waits_is_in_the_spool_before_it_is_in_the_programs_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_more_threads)  # so that the end of it does all
    written, real = [], LogFile.write

    def write(file: LogFile, records: list[Record]) -> int:
        written.append(len(list((tmp_path / "spool").glob("*"))))
        return real(file, records)

    monkeypatch.setattr(LogFile, "write", write)
    made = enable_monitoring("shop", log_file="log")
    log_event("x")
    assert made.disable(10).spooled == 3
    assert written == [1]
    assert made.log_path is not None
    assert len(Path(made.log_path).read_text().splitlines()) == 3


def no_more_threads(_thread: threading.Thread) -> None:
    """As the system says it where a process may have no more."""
    raise RuntimeError("can't start new thread")


def test_runs_that_are_over_leave_nothing_behind(collector: Collector) -> None:
    before = len(losses._of_runs)
    for _ in range(5):
        enable_monitoring("shop").disable(10)
    gc.collect()
    assert len(losses._of_runs) <= before
