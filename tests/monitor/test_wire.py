"""The client's side of the wire: it says hello, keeps the policy it is told, and waits where it may not report yet."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from monitor_kit import collecting
from skilld_monitor import enable_monitoring, log_event
from skilld_monitor.delivery import Delivery, DeliveryError
from skilld_monitor.scanning import builtin, rules_as_json
from skilld_monitor.scanning.stored import masked_record

KEY = "sk-ant-api03-" + "aB3dE5fG7h" * 4
JSON = dict[str, Any]


class Daemon:
    """Listens, answers as it is told to, and keeps what was said."""

    def __init__(self, path: Path) -> None:
        self.policy: JSON | None = None
        self.knows_hello = True
        self.raw: bytes | None = None  # instead of any answer
        self.lines: list[JSON] = []
        path.parent.mkdir(exist_ok=True)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def said(self, name: str) -> list[JSON]:
        return [line for line in self.lines if name in line]

    def _serve(self) -> None:
        threads = []
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=self._converse, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join(10)

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as file:
            for raw in file:
                line = json.loads(raw)
                self.lines.append(line)
                raw_answer = self.raw  # the test may take it away meanwhile
                file.write(json.dumps(self._answer(line)).encode() + b"\n" if raw_answer is None else raw_answer)
                file.flush()
                if "hello" in line and not self.knows_hello:
                    return

    def _answer(self, line: JSON) -> JSON:
        version = "" if self.policy is None else self.policy["version"]
        if "hello" in line:
            if not self.knows_hello:
                return {"error": {"code": "bad", "message": "no batch"}}
            return {"policy": None if line["policy"] == version else self.policy}
        return {"ack": line["batch"], "stored": len(line["events"]), "refused": 0, "policy": version}


@contextmanager
def daemon(path: Path) -> Iterator[Daemon]:
    made = Daemon(path)
    try:
        yield made
    finally:
        made.close()


def policy(version: str) -> JSON:
    return {
        "version": version,
        "mode": "block",
        "fail": "open",
        "dry_run": False,
        "rules": rules_as_json(builtin())[:3],
    }


def until(what: Any, within_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_connection_begins_with_hello_and_the_policy_is_kept(tmp_path: Path) -> None:
    with daemon(tmp_path / "m" / "monitor.sock") as there:
        there.policy = policy("v1")
        made = enable_monitoring("shop")
        until(lambda: made.policy.is_active)  # which it is after it has the version
        (hello,) = there.said("hello")
        assert hello == {"hello": 1, "agent": "shop", "run": made.run, "policy": ""}
        assert there.lines[0] is hello
        assert made.policy.version == "v1"
        made.disable()
        again = enable_monitoring("shop")
        assert again.policy.is_active, "from the cache, before a word was said"
        until(lambda: len(there.said("hello")) == 2)
        assert there.said("hello")[-1]["policy"] == "v1"
        again.disable()


def test_a_policy_that_changes_is_asked_for_once_an_acknowledgement_says_so(tmp_path: Path) -> None:
    with daemon(tmp_path / "m" / "monitor.sock") as there:
        there.policy = policy("v1")
        made = enable_monitoring("shop")
        until(lambda: made.policy.version == "v1")
        there.policy = policy("v2")
        deadline_s = time.monotonic() + 30
        while made.policy.version != "v2":
            assert time.monotonic() < deadline_s
            log_event("x")
            time.sleep(0.1)
        assert len(there.said("hello")) == 2
        assert made.disable().refused == 0


def test_a_daemon_that_knows_no_hello_gets_batches_alone(tmp_path: Path) -> None:
    with daemon(tmp_path / "m" / "monitor.sock") as there:
        there.knows_hello = False
        made = enable_monitoring("shop")
        log_event("x")
        report = made.disable()
        assert (report.delivered, report.spooled, report.refused) == (report.accepted, 0, 0)
        assert len(there.said("hello")) == 1
        assert not made.policy.is_known


def test_a_program_may_ask_for_the_policy_before_it_reports_anything(tmp_path: Path) -> None:
    with daemon(tmp_path / "m" / "monitor.sock") as there:
        there.policy = policy("v1")
        made = enable_monitoring("shop", debug_level="CRITICAL")
        assert not made.policy.is_known
        made.ask_policy()
        assert made.policy.wait_known(30)
        assert there.said("events") == []
        made.disable()


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 200_000 + b"\n",
        b'{"policy":' * 100_000 + b"\n",
        b'{"policy": [1]}\n',
        b'{"policy": "v1"}\n',
        b"\xff\xfe\n",
        b"\0\n",
        b'{"policy": ' + b"9" * 5_000 + b"}\n",
    ],
)
def test_no_answer_ends_the_sender_or_reaches_the_program_and_all_arrives_once_it_is_one(
    tmp_path: Path, raw: bytes
) -> None:
    with daemon(tmp_path / "m" / "monitor.sock") as there:
        there.raw = raw
        made = enable_monitoring("shop")
        log_event("x")
        until(made.delivery_problem)
        assert made.policy.version == ""
        there.raw = None
        report = made.disable()
        assert (report.refused, report.dropped) == (0, 0)
        assert "x" in [event["name"] for line in there.said("batch") for event in line["events"]]


@pytest.mark.parametrize(("refused", "counted"), [(-5, 0), (10**9, 2), (True, 1), ("all", 0)])
def test_what_the_daemon_says_it_refused_is_no_more_than_it_was_sent(
    tmp_path: Path, refused: object, counted: int
) -> None:
    with daemon(tmp_path / "m" / "monitor.sock") as there:
        there.raw = json.dumps({"ack": 1, "refused": refused}).encode() + b"\n"
        delivery = Delivery(str(tmp_path / "m" / "monitor.sock"))
        assert delivery.send({"run": "r"}, [b"{}", b"{}"], 5.0) == counted
        delivery.close()


def test_saying_hello_to_nobody_is_an_error_of_delivery(tmp_path: Path) -> None:
    delivery = Delivery(str(tmp_path / "none.sock"), lambda: {"hello": 1})
    with pytest.raises(DeliveryError):
        delivery.greet(1.0)
    assert not delivery.connected


def test_what_may_not_be_reported_yet_waits_and_arrives_once_it_may(tmp_path: Path) -> None:
    allowed = [False]
    with collecting(tmp_path / "m", allowed=lambda peer: allowed[0]) as collector:
        made = enable_monitoring("shop")
        log_event("early")
        assert made.flush(10)
        report = made.disable()
        assert (report.refused, report.dropped, report.spooled) == (0, 0, report.accepted)
        assert "may not report" in made.delivery_problem()
        assert collector.count() == 0
        allowed[0] = True
        with enable_monitoring("shop"):
            log_event("late")
            collector.wait(1, name="early")
            collector.wait(1, name="late")


def test_what_waits_in_a_file_has_no_secret_in_it_and_says_what_was_masked(tmp_path: Path) -> None:
    made = enable_monitoring("shop")
    log_event("leak", {"prompt": f"use {KEY}", "nested": [{KEY: "name"}], "password": "plainword", "n": 7})
    log_event("fine", {"text": "the attack on Rome"})
    log_event("elsewhere", {}, KEY)
    assert made.flush(10)
    made.disable()
    (file,) = (tmp_path / "spool").glob("*.jsonl")
    text = file.read_text(encoding="utf-8")
    assert KEY not in text
    assert "plainword" not in text
    records = {record["name"]: record for record in map(json.loads, text.splitlines()[1:])}
    assert records["leak"]["masked"] == ["secret.anthropic-key", "secret.named-field"]
    assert records["leak"]["data"]["n"] == 7
    assert "masked" not in records["fine"]
    assert records["fine"]["data"] == {"text": "the attack on Rome"}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"seq": 1, "data": ' + b"[" * 5000 + b"]" * 5000 + b"}"])
def test_a_record_that_cannot_be_masked_goes_without_its_content(raw: bytes) -> None:
    assert KEY.encode() not in masked_record(raw + KEY.encode(), builtin())
    assert isinstance(json.loads(masked_record(raw, builtin())), (dict, list))
