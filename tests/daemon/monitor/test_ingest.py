"""The ingest socket: what is no batch is told so and dropped, and nobody's connection is another's trouble."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from monitor_kit import LIMITS, Collector, collecting
from skilld.monitor import ingest
from skilld.monitor.batch import MAX_EVENTS, BadBatch, read_batch
from skilld.monitor.inspected import NO_POLICY
from skilld.monitor.rates import Rate, RateTable

RUN = "0123456789abcdef" * 2


def event(seq: Any = 1, **changes: Any) -> dict[str, Any]:
    return {"seq": seq, "time_us": 1_700_000_000_000_000, "name": "x", "level": "INFO", "data": {"n": seq}, **changes}


def batch(*events: Any, **changes: Any) -> dict[str, Any]:
    return {"batch": 1, "run": RUN, "agent": "shop", "pid": 7, "events": list(events), **changes}


class Talk:
    """A connection, by lines."""

    def __init__(self, collector: Collector) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(collector.path))
        self.file = self.socket.makefile("rb")

    def send(self, raw: bytes | dict[str, Any]) -> None:
        self.socket.sendall(raw if isinstance(raw, bytes) else json.dumps(raw).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.readline() or b"{}")
        return found

    def code(self) -> str:
        """Of the error that is answered; the connection ends behind it."""
        code = str(self.answer()["error"]["code"])
        self.socket.shutdown(socket.SHUT_WR)
        assert self.file.read() == b""
        return code


@contextmanager
def talking(collector: Collector) -> Iterator[Talk]:
    talk = Talk(collector)
    try:
        yield talk
    finally:
        talk.file.close()
        talk.socket.close()


def test_a_batch_is_acknowledged_when_it_is_stored_and_stamped_by_the_kernel(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(batch(event(1), event(2, duration_ms=1.5, status="ok", trace="a" * 32, span="b" * 16)))
        assert talk.answer() == {"ack": 1, "stored": 2, "refused": 0, "policy": "none"}
        first, second = collector.events()
        assert (first["uid"], first["sender_pid"], first["pid"]) == (os.getuid(), os.getpid(), 7)
        assert (second["duration_ms"], second["trace"], second["time"]) == (
            1.5,
            "a" * 32,
            "2023-11-14T22:13:20.000000Z",
        )


BAD_EVENTS: list[Any] = [
    None,
    [],
    {},
    event(seq=-1),
    event(seq=True),
    event(seq=1.5),
    event(seq=1 << 70),
    event(time_us="now"),
    event(name=""),
    event(name=7),
    event(level="LOUD"),
    event(duration_ms=-1),
    event(duration_ms=float("nan")),
    event(duration_ms=True, status="wrong"),
    event(trace="xyz"),
    event(span="a" * 33),
    event(data="x" * (300 << 10)),
]


def test_an_event_that_is_none_is_refused_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(batch(event(1), *BAD_EVENTS, event(2)))
        assert talk.answer() == {"ack": 1, "stored": 2, "refused": len(BAD_EVENTS), "policy": "none"}


BAD_LINES = [
    b"GET / HTTP/1.1\r\n",
    b"\x00\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b"7\n",
    b"{}\n",
    b"\n",
    json.dumps(batch(event(), run="short!")).encode() + b"\n",
    json.dumps(batch(event(), batch=-1)).encode() + b"\n",
    json.dumps(batch(*[0] * (MAX_EVENTS + 1))).encode() + b"\n",
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_line_that_is_no_batch_ends_the_connection_and_no_other(tmp_path: Path, line: bytes) -> None:
    with collecting(tmp_path) as collector, talking(collector) as neighbour, talking(collector) as talk:
        talk.send(line)
        assert talk.code() == "bad"
        neighbour.send(batch(event()))
        assert neighbour.answer()["stored"] == 1
        assert collector.drops == {"bad": 1}


def test_what_has_no_end_or_takes_for_ever_is_dropped_and_counted(tmp_path: Path) -> None:
    with collecting(tmp_path, limits=replace(LIMITS, max_line_bytes=10_000)) as collector:
        with talking(collector) as talk:
            talk.send(b"x" * 10_001)
            assert talk.code() == "too_large"
        assert collector.drops == {"too_large": 1}
    with collecting(tmp_path / "slow", limits=replace(LIMITS, line_s=0.2)) as collector:
        with talking(collector) as talk:
            talk.send(b"{")
            assert talk.code() == "slow"
        with talking(collector) as idle:
            time.sleep(0.5)  # longer than a line may take: but none has begun
            idle.send(batch(event()))
            assert idle.answer()["stored"] == 1
        assert collector.drops == {"slow": 1}


def test_half_a_batch_and_a_half_closed_connection_leave_nothing_behind(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        with talking(collector) as talk:
            talk.send(json.dumps(batch(event())).encode())
        with talking(collector) as talk:
            talk.send(batch(event()))
            talk.socket.shutdown(socket.SHUT_WR)
            assert talk.answer()["stored"] == 1
            assert talk.answer() == {}
        assert collector.count() == 1


def test_who_does_not_read_answers_holds_up_nobody(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector, talking(collector) as rude, talking(collector) as polite:
        for number in range(200):
            rude.send(batch(batch=number))
        polite.send(batch(event()))
        assert polite.answer()["stored"] == 1


def test_one_user_has_so_many_connections_and_events_and_no_more(tmp_path: Path) -> None:
    limits = replace(LIMITS, connections=2, rate=Rate(10, 1e9))
    with collecting(tmp_path, limits=limits) as collector, talking(collector) as one:
        with talking(collector) as two:
            two.send(batch())
            assert two.answer()["ack"] == 1
            with talking(collector) as three:
                assert three.code() == "overloaded"
        one.send(batch(*map(event, range(100))))
        assert one.answer()["stored"] == 100, "a burst is allowed"
        one.send(batch(*map(event, range(100, 200))))
        assert one.code() == "overloaded"
        assert collector.count() == 100


def test_a_run_of_one_user_is_not_that_of_another(tmp_path: Path) -> None:
    """Numbers are counted per user and run: nobody can make somebody else's events look like repetitions."""
    from skilld.monitor.inspected import Inspected, Origin

    with collecting(tmp_path) as collector:
        found = Inspected(read_batch(json.dumps(batch(event())).encode()))
        assert collector.store.write([(found, Origin(1, 1))])[0].stored == 1
        assert collector.store.write([(found, Origin(2, 1))])[0].stored == 1
        assert collector.store.write([(found, Origin(1, 9))])[0].duplicates == 1


def test_names_are_text_of_one_line_and_cannot_steer_a_terminal() -> None:
    found = read_batch(json.dumps(batch(event(name="a\x1b[31m\nb", channel="\u202e"), agent="x\x00")).encode())
    assert (found.events[0].name, found.events[0].channel, found.agent) == ("a?[31m?b", "?", "x?")


def test_a_lone_surrogate_is_stored_as_what_a_file_can_hold(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(json.dumps(batch(event(data={"k\ud800": "\udfff"}))).encode() + b"\n")
        assert talk.answer()["stored"] == 1
        assert collector.events()[0]["data"] == {"k?": "?"}


def test_a_bucket_fills_up_again_and_never_beyond_its_rim() -> None:
    table = RateTable(Rate(10, 1000))
    assert table.take(1, 100, 0, 0.0) == 0
    assert table.take(1, 5, 0, 0.0) == 0.5
    assert table.take(2, 5, 0, 0.0) == 0, "another user has another bucket"
    assert table.take(1, 0, 0, 0.5) == 0
    assert table.take(1, 100, 0, 1000.0) == 0
    assert table.take(1, 10, 0, 1000.0) == 1
    assert table.take(3, 0, 11_000, 0.0) == 1


def test_forgetting_users_gives_nobody_more_than_a_full_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.rates._MOST_USERS", 100)
    table = RateTable(Rate(10, 1000))
    table.take(0, 200, 0, 0.0)
    for uid in range(1, 500):
        table.take(uid, 1, 1, 0.0)
    assert table.take(0, 0, 0, 0.0) == 10


@pytest.mark.parametrize("line", [b"", b"null", b'"x"', b"{]"])
def test_reading_a_batch_raises_nothing_else(line: bytes) -> None:
    with pytest.raises(BadBatch):
        read_batch(line)


def failing(_batches: object) -> Any:
    raise OSError("disk full")


def test_what_cannot_be_stored_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        write: Callable[..., Any] = collector.store.write
        monkeypatch.setattr(collector.store, "write", failing)
        talk.send(batch(event()))
        assert talk.code() == "overloaded", "the client keeps it, and comes again"
        assert collector.drops == {"failed": 1}
        monkeypatch.setattr(collector.store, "write", write)
        with talking(collector) as again:
            again.send(batch(event()))
            assert again.answer()["stored"] == 1


def test_a_connection_that_fails_here_is_told_so_and_not_closed_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        with monkeypatch.context() as patched:
            patched.setattr("skilld.monitor.ingest.NO_POLICY", {})
            talk.send(batch(event()))
            assert talk.code() == "overloaded"
        assert collector.drops == {"failed": 1}
        with talking(collector) as again:
            again.send(batch(event()))
            assert again.answer()["stored"] == 0, "it was kept, but that could not be said"


def test_who_is_sent_away_a_hundred_times_at_once_keeps_nobody_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "_GOODBYE_S", 20.0)  # at once: none is over before the last has come
    with collecting(tmp_path, limits=replace(LIMITS, connections=1)) as collector, talking(collector) as one:
        one.send(batch())
        assert one.answer()["ack"] == 1
        crowd = [Talk(collector) for _ in range(100)]
        answers = [talk.answer() for talk in crowd]
        for talk in crowd:
            talk.file.close()
            talk.socket.close()
        assert {} in answers, "the last of them get no goodbye"
        assert collector.drops == {"crowded": 100}
        one.send(batch(event(), batch=2))
        assert one.answer()["stored"] == 1


def test_who_says_hello_is_told_what_it_has_to_look_at_unless_it_has_it(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send({"hello": 1, "agent": "shop", "run": RUN, "policy": ""})
        assert talk.answer() == {"policy": NO_POLICY}
        talk.send({"hello": 1, "agent": "shop", "run": RUN, "policy": NO_POLICY["version"]})
        assert talk.answer() == {"policy": None}
        talk.send(batch(event()))
        assert talk.answer()["policy"] == NO_POLICY["version"]


def test_who_says_hello_is_sent_what_was_made_before(tmp_path: Path) -> None:
    """All rules are in it: to make it anew for each who asks would take the daemon's time from everybody."""
    line = b'{"policy":   "for shop"}\n'
    made: dict[str, Any] = {
        "policy_for": lambda _agent: {"version": "7"},
        "policy_line": lambda agent: line.replace(b"shop", agent.encode()),
    }
    with collecting(tmp_path, **made) as collector, talking(collector) as talk:
        talk.send({"hello": 1, "agent": "stall", "policy": "6"})
        assert talk.file.readline() == line.replace(b"shop", b"stall")
        talk.send({"hello": 1, "agent": "stall", "policy": "7"})
        assert talk.answer() == {"policy": None}


@pytest.mark.parametrize(
    "hello", [{"hello": None}, {"hello": 1, "agent": 7, "policy": []}, {"hello": {}, "events": []}]
)
def test_a_greeting_of_any_shape_is_answered(tmp_path: Path, hello: dict[str, Any]) -> None:
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(hello)
        assert talk.answer() == {"policy": NO_POLICY}


def test_bytes_are_counted_before_the_line_is_read_and_greetings_too(tmp_path: Path) -> None:
    limits = replace(LIMITS, rate=Rate(1e6, 1_000))
    with collecting(tmp_path, limits=limits) as collector:
        with talking(collector) as talk:
            talk.send({"hello": 1, "agent": "x" * 20_000})
            assert talk.answer() == {"policy": NO_POLICY}, "once, from a full bucket"
            talk.send(b"{" * 20_000 + b"\n")
            assert talk.code() == "overloaded", "what it is nobody looked at"
        assert collector.drops == {"overloaded": 1}


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each large line whose events were counted, whether nothing else could go on meanwhile."""
    count, alone = ingest._count, list[bool]()

    def counted(line: bytes) -> int:
        alone.append(trio.lowlevel.in_trio_run())
        return count(line)

    monkeypatch.setattr(ingest, "_count", counted)
    return alone


def test_events_of_a_large_line_are_counted_where_they_hold_up_nobody(tmp_path: Path, counting: list[bool]) -> None:
    with collecting(tmp_path, limits=replace(LIMITS, rate=Rate(20, 1e9))) as collector:
        with talking(collector) as talk:
            talk.send(batch(*map(event, range(150)), event(150, data="x" * (100 << 10))))
            assert talk.answer()["stored"] == 151
            assert counting == [False]
            talk.send(batch(*map(event, range(200, 399)), event(399, data="x" * (100 << 10))))
            assert talk.code() == "overloaded", "151 of 200, and 200 more: for seven seconds"
        with talking(collector) as talk:
            talk.send(batch(*map(event, range(400, 440))))
            assert talk.answer()["stored"] == 40, "49 are left"


def test_nobody_counts_events_of_what_is_too_large_to_come_now(tmp_path: Path, counting: list[bool]) -> None:
    line = b"{" * (100 << 10) + b"\n"
    with collecting(tmp_path, limits=replace(LIMITS, rate=Rate(1e6, 10_000))) as collector:
        with talking(collector) as talk:
            talk.send(line)
            assert talk.code() == "bad"
        with talking(collector) as talk:
            talk.send(line)
            assert talk.code() == "overloaded"
    assert len(counting) == 1, "the first time only"


@pytest.mark.parametrize("shift", range(7))
def test_a_name_on_the_border_of_two_parts_is_counted_once(shift: int) -> None:
    line = b" " * ((64 << 10) - shift) + b'"seq"' + b" " * (128 << 10) + b'"seq"' + b" " * (40 << 10) + b'"seq'
    assert ingest._count(line) == line.count(b'"seq"') == 2


def test_greetings_count_as_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.monitor.ingest._HELLOS_PER_S", 0.2)
    limits = replace(LIMITS, rate=Rate(10, 1e9))
    with collecting(tmp_path, limits=limits) as collector, talking(collector) as talk:
        for number in range(3):  # each is five seconds' worth, of ten that there are; one is owed
            talk.send({"hello": 1, "agent": f"a{number}"})
            assert talk.answer() == {"policy": NO_POLICY}
        talk.send(batch(event()))
        assert talk.code() == "overloaded"


def test_what_was_sent_away_is_not_counted_and_may_come_when_the_bucket_is_full(tmp_path: Path) -> None:
    """Else a batch larger than all that may come at once would come again and again, and never be taken."""
    limits = replace(LIMITS, rate=Rate(20, 1e9))
    with collecting(tmp_path, limits=limits) as collector:
        with talking(collector) as talk:
            talk.send(batch(*map(event, range(200))))
            assert talk.answer()["stored"] == 200
        for _ in range(20):
            with talking(collector) as talk:
                talk.send(batch(*map(event, range(200, 500))))
                assert talk.code() == "overloaded"
        with talking(collector) as talk:
            talk.send(batch(*map(event, range(200, 202))))
            assert talk.answer()["stored"] == 2, "nothing was charged for what was not taken"
    with collecting(tmp_path / "other", limits=limits) as collector, talking(collector) as talk:
        talk.send(batch(*map(event, range(300))))
        assert talk.answer()["stored"] == 300, "more than ten seconds of it, from a full bucket"


def test_what_was_sent_away_for_its_events_has_cost_no_bytes(tmp_path: Path) -> None:
    first, second = batch(*map(event, range(200))), batch(*map(event, range(200, 400)))
    limits = replace(LIMITS, rate=Rate(20, len(json.dumps(first)) * 3 / 10))
    with collecting(tmp_path, limits=limits) as collector:
        with talking(collector) as talk:
            talk.send(first)
            assert talk.answer()["stored"] == 200
        for _ in range(5):
            with talking(collector) as talk:
                talk.send(second)
                assert talk.code() == "overloaded"
        with talking(collector) as talk:
            talk.send(batch(event(200, data={"text": "x" * len(json.dumps(first))})))
            assert talk.answer()["stored"] == 1, "two thirds of the bytes are left"


@pytest.mark.parametrize(
    ("named", "data"),
    [
        (b'"s\\u0065q"', {}),  # the same name, spelled so that nobody counts it before it is read
        (b'"seq"', {"seq": [{"seq": n} for n in range(40)]}),
    ],
)
def test_what_is_taken_is_what_there_is_in_the_end(tmp_path: Path, named: bytes, data: dict[str, Any]) -> None:
    limits = replace(LIMITS, rate=Rate(20, 1e9))
    with collecting(tmp_path, limits=limits) as collector, talking(collector) as talk:
        for start, count in ((0, 150), (150, 200)):
            line = json.dumps(batch(event(start, data=data), *map(event, range(start + 1, start + count)))).encode()
            talk.send(line.replace(b'"seq"', named) + b"\n")
            if start == 0:
                assert talk.answer()["stored"] == 150
        assert talk.code() == "overloaded", "150 of 200, and 200 more: for seven seconds"
        with talking(collector) as other:
            other.send(batch(*map(event, range(400, 440))))
            assert other.answer()["stored"] == 40, "50 are left"


def test_what_a_program_says_of_an_event_is_kept_with_it_and_bounded(tmp_path: Path) -> None:
    said = {"session": "s" * 300, "user": "u\n1", "agent": "clerk", "tags": ["a", 7, "b" * 100, *"x" * 50]}
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(
            batch(event(1, **said, masked=["card"]), event(2, session=7, user="", tags="x", agent=None, masked={}))
        )
        assert talk.answer()["stored"] == 2
        first, second = collector.events()
        assert (len(first["session"]), first["user"], first["agent"]) == (200, "u?1", "clerk")
        assert (first["tags"][:2], len(first["tags"]), first["masked"]) == (["a", "b" * 64], 19, ["card"])
        assert (second["session"], second["user"], second["agent"]) == (None, None, "shop")
        assert (second["tags"], second["masked"]) == ([], [])


def test_numbers_that_json_does_not_know_and_deep_nesting_are_stored_as_what_every_reader_reads(tmp_path: Path) -> None:
    deep = b'{"a":' * 400 + b"1" + b"}" * 400
    line = json.dumps(batch(event(1, data={"n": float("nan"), "m": float("inf")}), event(2, data="DEEP"))).encode()
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(line.replace(b'"DEEP"', deep) + b"\n")
        assert talk.answer()["ack"] == 1
        assert collector.events()[0]["data"] == {"n": None, "m": None}


@pytest.mark.parametrize("beside", [b'"\\ud800"', b"[" * 400 + b"]" * 400], ids=["a lone surrogate", "deep nesting"])
def test_nor_do_they_come_in_beside_what_the_quick_reader_does_not_take(tmp_path: Path, beside: bytes) -> None:
    line = json.dumps(batch(event(data={"n": float("nan"), "m": [float("-inf")], "k": "BESIDE"}))).encode()
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(line.replace(b'"BESIDE"', beside) + b"\n")
        assert talk.answer()["stored"] == 1
        (found,) = collector.events()
        assert (found["data"]["n"], found["data"]["m"]) == (None, [None])
        json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("levels", [501, 700, 940])
def test_what_nobody_could_read_again_is_not_stored(tmp_path: Path, levels: int) -> None:
    """A page that one event is in would fail for everybody, and who follows the store would never get past it."""
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    with collecting(tmp_path) as collector, talking(collector) as talk:
        talk.send(json.dumps(batch(event(1, data="DEEP"), event(2))).encode().replace(b'"DEEP"', deep) + b"\n")
        answer = talk.answer()
        assert (answer["stored"], answer["refused"]) == (1, 1)
        assert len(collector.events()) == 1
