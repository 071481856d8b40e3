"""Logging of the daemon: lines for people or JSON for machines, on stderr, where journald picks them up."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final, Literal

__all__ = ["set_up_logging"]

_PRIORITY: Final = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # syslog(3), read by journald


class _Text(logging.Formatter):
    """`level logger: message`; time and priority are journald's business where it listens."""

    def __init__(self, *, to_journal: bool) -> None:
        super().__init__("%(name)s: %(message)s" if to_journal else "%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._to_journal = to_journal

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not self._to_journal:
            return text
        priority = f"<{_PRIORITY.get(record.levelname, 6)}>"
        return "\n".join(priority + line for line in text.splitlines())


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
        return json.dumps(fields, ensure_ascii=False)


def set_up_logging(format: Literal["text", "json"], level: str, *, to_journal: bool) -> None:
    """Log everything of `level` and above to stderr. Libraries that log their requests are kept to warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text(to_journal=to_journal))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "anthropic", "pykka", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
