"""The file of JSON lines that a program asked for, the lines that readers of Cylestio Monitor's files know: those of
its generation A, see `skilld_monitor.lines`, or B, see `skilld_monitor.envelope`. Written by the sender, as the
program's user, with a daemon or without.

Secrets are masked in it by the built-in rules, whatever the daemon's are: the file is often shown around.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

from skilld_monitor.envelope import envelopes, process_facts
from skilld_monitor.lines import lines_of
from skilld_monitor.records import Record
from skilld_monitor.said import Said, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skilld_monitor.scanning.masking import Mask
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["LogFile", "file_for"]

_SLICE = 16
_HEAD = ("agent_id", "channel", "event", "session_id", "user_id", "tags")


def file_for(named: str, agent_id: str, began_s: float) -> str:
    """The file that a program means. In a folder `AGENT_monitoring_YYYYmmdd_HHMMSS.json`, in local time; a name without
    an ending gets `.json`."""
    path = os.path.abspath(os.path.expanduser(named))
    if os.path.isdir(path) or named.endswith(os.sep):
        safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in agent_id)
        stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(began_s))
        return os.path.join(path, f"{safe}_monitoring_{stamp}.json")
    return path if os.path.splitext(path)[1] else f"{path}.json"


class LogFile:
    """Appends lines to a file; its folders are made when the first line is written.

    Args:
        full: whether content is in them, and a line for the start of each call.
        log_format: `A` or `B`, whose lines they are; those of B always have the start.
        run: of the program, 32 hexadecimal digits; in lines of B.
        mask: the program's own way to mask, see `skilld_monitor.settings.Settings`.

    """

    def __init__(
        self,
        path: str,
        agent_id: str,
        *,
        full: bool,
        log_format: str = "A",
        run: str = "",
        mask: Mask | None = None,
    ) -> None:
        self.path = path
        self._agent = agent_id
        self._full = full
        self._format = log_format
        self._run = run
        self._process: dict[str, object] = {}
        self._mask = mask
        self._rules: RuleSet | None = None
        self._fd = -1

    def write(self, records: list[Record]) -> int:
        """Append the lines of these records; how many cannot be said in any. Raises OSError."""
        raw = bytearray()
        unsaid = 0
        for index, record in enumerate(records, 1):
            try:
                raw += self._encoded(record)
            except (ValueError, TypeError, OverflowError, RecursionError):  # a value that is none of the plain ones
                unsaid += 1
            if index % _SLICE == 0:
                time.sleep(0)  # the program's threads wait for the interpreter meanwhile
        if self._fd < 0:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._append(raw)
        return unsaid

    def _encoded(self, record: Record) -> bytes:
        if self._rules is None:
            from skilld_monitor.scanning.builtin import builtin

            self._rules = builtin(self._mask)
        made = self._lines_a if self._format == "A" else self._lines_b
        lines = [json.dumps(line, ensure_ascii=False) for line in made(record, self._rules)]
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")

    def _append(self, raw: bytearray) -> None:
        written = 0
        try:
            while written < len(raw):
                written += os.write(self._fd, memoryview(raw)[written:])
        except OSError:
            self._cut(written - 1 - raw.rfind(b"\n", 0, written))
            raise

    def _cut(self, half_bytes: int) -> None:
        """Take back the half of a line, which the next one would go on; not where others have written since."""
        with suppress(OSError):  # such as of a pipe
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if half_bytes and os.fstat(self._fd).st_size == end:
                os.ftruncate(self._fd, end - half_bytes)

    def _lines_a(self, record: Record, rules: RuleSet) -> list[dict[str, object]]:
        lines = lines_of(record, record.agent or self._agent, rules, full=self._full)
        for line in lines:
            for key in _HEAD:
                if line.get(key):
                    line[key], _found = shown(line[key], rules)
        return lines

    def _lines_b(self, record: Record, rules: RuleSet) -> list[dict[str, object]]:
        def masked(value: object) -> Any:
            return shown(value, rules)[0] if value else value

        if not self._process:
            self._process = process_facts()
        place = record.place
        said = Said(record.data, rules) if record.duration_ms is not None else None
        return envelopes(
            name=masked(record.name),
            level=record.level,
            channel=masked(record.channel),
            agent=masked(record.agent or self._agent),
            time_us=record.time_us,
            data=shown(record.data, rules)[0] if said is None else said.data,
            trace=None if place is None else place.trace,
            span=None if place is None else place.span or None,
            parent=None if place is None else place.parent,
            duration_ms=record.duration_ms,
            status=record.status,
            session=masked(record.session),
            user=masked(record.user),
            tags=masked(record.tags),
            run=self._run,
            around=self._process,
            asked=() if said is None else said.latest,
            answered=() if said is None else said.answered,
        )

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
