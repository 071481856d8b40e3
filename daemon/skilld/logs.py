"""Logging of the daemon: lines for people or JSON for machines on stderr, or entries with fields in the journal."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final, Literal

from skilld.journal_log import JournalHandler
from skilld.log_text import indented, visible

__all__ = ["LogFormat", "set_up_logging"]

LogFormat = Literal["text", "json", "journal"]

_PRIORITY: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # syslog(3), read by journald
_SIGNERS = ("boto3", "botocore", "s3transfer")


class _Text(logging.Formatter):
    """`level logger: message`; time and priority are journald's business where it listens."""

    def __init__(self, *, to_journal: bool) -> None:
        super().__init__("%(name)s: %(message)s" if to_journal else "%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._to_journal = to_journal

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITY.get(record.levelname, 6)}>" if self._to_journal else ""
        return "\n".join(priority + line for line in indented(super().format(record)))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        created = time.gmtime(record.created)
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", created) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps({name: visible(text) for name, text in fields.items()}, ensure_ascii=False)


def set_up_logging(format: LogFormat, level: str, *, to_journal: bool) -> None:
    """Log everything of `level` and above. Libraries that log their requests are kept to warnings.

    Args:
        format: "journal" sends fields to systemd's journal, and text to stderr while there is none.
        to_journal: whether stderr is the journal's.

    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text(to_journal=to_journal))
    if format == "journal":
        handler = JournalHandler(handler)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # botocore's requests hold the tokens that sign them.
    for noisy in (*("httpx", "httpx2", "httpcore", "httpcore2", "anthropic", "pykka", "watchfiles"), *_SIGNERS):
        logging.getLogger(noisy).setLevel(logging.WARNING)
