"""Log records to systemd's journal with fields, by its native protocol.

A field is `NAME=value` and a newline; a value with newlines of its own is `NAME`, newline, its length in eight bytes,
the value, newline. What is too large for a datagram goes in a sealed memory file (systemd.io/JOURNAL_NATIVE_PROTOCOL).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from skilld.log_text import visible

__all__ = ["JOURNAL_SOCKET", "JournalHandler", "encode_fields", "record_fields"]

JOURNAL_SOCKET: Final = Path("/run/systemd/journal/socket")

_PRIORITY: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # syslog(3)
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_IDS: Final = {
    "SKILLD_SESSION": re.compile(r"\bses_[a-z2-7]{26}\b"),
    "SKILLD_TURN": re.compile(r"\btrn_[a-z2-7]{26}\b"),
}
_MAX_VALUE_BYTES: Final = 1 << 20


def record_fields(record: logging.LogRecord, formatter: logging.Formatter) -> dict[str, str]:
    """The fields of a record: its words, where they come from, and the conversation and turn that they name."""
    message = record.getMessage()
    fields = {
        "MESSAGE": visible(message),
        "PRIORITY": str(_PRIORITY.get(record.levelname, 6)),
        "SYSLOG_IDENTIFIER": "skilld",
        "LOGGER": record.name,
        "THREAD_NAME": str(record.threadName),
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": str(record.funcName),
    }
    for name, pattern in _IDS.items():
        found = pattern.search(message)
        if found is not None:
            fields[name] = found.group()
    if record.exc_info:
        fields["ERROR"] = visible(formatter.formatException(record.exc_info))
    return fields


def encode_fields(fields: Mapping[str, str]) -> bytes:
    """As the journal takes them; values beyond 1 MiB are cut."""
    return b"".join(_encoded(fields))


def _encoded(fields: Mapping[str, str]) -> Iterator[bytes]:
    for name, text in fields.items():
        value = text.encode("utf-8", "replace")[:_MAX_VALUE_BYTES]
        if b"\n" in value:
            yield b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value)
        else:
            yield b"%s=%s\n" % (name.encode(), value)


class JournalHandler(logging.Handler):
    """Sends each record to the journal, and never waits for it: what it does not take goes to `otherwise`.

    Args:
        otherwise: where records go while the journal is away, or full.
        address: the journal's socket.

    """

    def __init__(self, otherwise: logging.Handler, address: Path = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._otherwise = otherwise
        self._address = str(address)
        self._formatter = logging.Formatter()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(encode_fields(record_fields(record, self._formatter)))
        except OSError:
            self._otherwise.handle(record)
        except Exception:  # as every handler does: a record that cannot be formatted must not end who logs it
            self.handleError(record)

    def _send(self, datagram: bytes) -> None:
        """Raises OSError."""
        try:
            self._socket.sendto(datagram, self._address)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(datagram)

    def _send_as_file(self, content: bytes) -> None:
        fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        with os.fdopen(fd, "wb", buffering=0) as file:
            file.write(content)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))
            self._socket.sendmsg([], [passed], 0, self._address)

    def close(self) -> None:
        self._socket.close()
        super().close()
