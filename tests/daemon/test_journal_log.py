"""Log records as the journal takes them, and what happens while it does not."""

from __future__ import annotations

import logging
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skilld.journal_log import JournalHandler, encode_fields, record_fields

SESSION, TURN = "ses_" + "a" * 26, "trn_" + "b2" * 13


class Kept(logging.Handler):
    """Where records go otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """A datagram socket where the journal's would be."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "journal"))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def otherwise() -> Kept:
    return Kept()


@pytest.fixture
def handler(tmp_path: Path, otherwise: Kept) -> Iterator[JournalHandler]:
    made = JournalHandler(otherwise, tmp_path / "journal")
    yield made
    made.close()


def record(message: str, *args: object, level: int = logging.INFO, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord("skilld.test", level, "/x.py", 7, message, args, sys.exc_info() if error else None, "f")


def decode(datagram: bytes) -> dict[str, str]:
    """The fields of a datagram, by the protocol's own rules."""
    fields: dict[str, str] = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", datagram)
            value, datagram = datagram[8 : 8 + size], datagram[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_a_record_has_its_words_its_priority_and_its_place(handler: JournalHandler, journal: socket.socket) -> None:
    handler.handle(record("turn %s of session %s ended", TURN, SESSION, level=logging.WARNING))
    fields = decode(journal.recv(65_536))
    assert fields["MESSAGE"] == f"turn {TURN} of session {SESSION} ended"
    assert (fields["PRIORITY"], fields["LOGGER"], fields["SYSLOG_IDENTIFIER"]) == ("4", "skilld.test", "skilld")
    assert (fields["CODE_FILE"], fields["CODE_LINE"], fields["CODE_FUNC"]) == ("/x.py", "7", "f")
    assert (fields["SKILLD_SESSION"], fields["SKILLD_TURN"]) == (SESSION, TURN)


def test_what_names_no_conversation_has_no_such_field() -> None:
    fields = record_fields(record("ses_short and xses_" + "a" * 26), logging.Formatter())
    assert fields.keys().isdisjoint({"SKILLD_SESSION", "SKILLD_TURN", "ERROR"})


def test_a_message_cannot_forge_a_field(handler: JournalHandler, journal: socket.socket) -> None:
    handler.handle(record("%s", "harmless\nPRIORITY=0\nSKILLD_SESSION=forged\n"))
    fields = decode(journal.recv(65_536))
    assert fields["MESSAGE"] == "harmless\nPRIORITY=0\nSKILLD_SESSION=forged\n"
    assert fields["PRIORITY"] == "6"
    assert "SKILLD_SESSION" not in fields


def test_an_exception_is_a_field_of_its_own(handler: JournalHandler, journal: socket.socket) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        handler.handle(record("it failed", error=True))
    fields = decode(journal.recv(65_536))
    assert fields["MESSAGE"] == "it failed"
    assert fields["ERROR"].endswith("ValueError: no such thing")


def test_a_record_beyond_a_datagram_goes_in_a_sealed_file(handler: JournalHandler, journal: socket.socket) -> None:
    handler.handle(record("%s", "x" * 900_000))
    _, fds, _, _ = socket.recv_fds(journal, 10, 1)
    with open(fds[0], "rb") as file:
        file.seek(0)
        assert decode(file.read())["MESSAGE"] == "x" * 900_000
    assert len(fds) == 1


def test_values_are_cut_at_a_mebibyte() -> None:
    assert len(encode_fields({"MESSAGE": "x" * (2 << 20)})) == (1 << 20) + len("MESSAGE=\n")


def test_without_a_journal_records_go_elsewhere(handler: JournalHandler, otherwise: Kept) -> None:
    handler.handle(record("nobody listens"))
    assert otherwise.messages == ["nobody listens"]


def test_a_journal_that_does_not_read_holds_nobody_up(
    handler: JournalHandler, journal: socket.socket, otherwise: Kept
) -> None:
    for number in range(5000):
        handler.handle(record("line %d", number))
    assert otherwise.messages[-1] == "line 4999"
    assert decode(journal.recv(65_536))["MESSAGE"] == "line 0"


def test_text_that_is_no_unicode_is_sent_all_the_same(handler: JournalHandler, journal: socket.socket) -> None:
    handler.handle(record("a \udc80 b"))
    assert decode(journal.recv(65_536))["MESSAGE"] == "a ? b"
