"""The file of JSON lines that a program asked for: each event as `timestamp`, `level`, `channel`, `agent_id`, `event`,
`data`, the names and lines that readers of Cylestio Monitor's files know; or as those of its generation B, see
`skilld_monitor.envelope`. Written by the sender, as the program's user, with a daemon or without.

Secrets are masked in it by the built-in rules, whatever the daemon's are: the file is often shown around.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import datetime, timezone

from skilld_monitor.envelope import envelopes
from skilld_monitor.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.scanning.masking import Mask
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["LogFile", "file_for", "lines_of"]

_SLICE = 16
_SAID = ("agent_id", "channel", "event", "name", "data", "attributes", "session_id", "user_id", "tags")
_MODEL_CALLS = ("chat", "text_completion", "embeddings")


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
        mask: the program's own way to mask, see `skilld_monitor.settings.Settings`.

    """

    def __init__(
        self, path: str, agent_id: str, *, full: bool, log_format: str = "A", mask: Mask | None = None
    ) -> None:
        self.path = path
        self._agent = agent_id
        self._full = full
        self._format = log_format
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
        lines = [json.dumps(line, ensure_ascii=False) for line in _masked(self._lines(record), self._rules)]
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

    def _lines(self, record: Record) -> list[dict[str, object]]:
        agent = record.agent or self._agent
        if self._format == "A":
            return lines_of(record, agent, full=self._full)
        place = record.place
        return envelopes(
            name=record.name,
            level=record.level,
            channel=record.channel,
            agent=agent,
            time_us=record.time_us,
            data=record.data,
            trace=None if place is None else place.trace,
            span=None if place is None else place.span or None,
            parent=None if place is None else place.parent,
            duration_ms=record.duration_ms,
            status=record.status,
            session=record.session,
            user=record.user,
            tags=record.tags,
        )

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def lines_of(record: Record, agent_id: str, *, full: bool) -> list[dict[str, object]]:
    """The lines of a record: one, but two for a call where the start is wanted as well."""
    if record.duration_ms is None:
        return [_line(record, agent_id, record.name, record.data, record.time_us)]
    data = dict(record.data) if isinstance(record.data, dict) else {}
    kind = "LLM_call" if data.get("gen_ai.operation.name") in _MODEL_CALLS else "call"
    ending = {"ok": "finish", "error": "error"}.get(str(record.status), str(record.status))
    ended_us = record.time_us + int(record.duration_ms * 1000)
    if kind == "call":
        data.setdefault("function", record.name)
    finish = {**data, "duration": round(record.duration_ms / 1000, 6)}
    if ending == "error":
        finish["error"] = data.get("error.message") or data.get("error.type")
    if kind == "LLM_call" and "gen_ai.output.messages" in data:
        finish["response"] = data["gen_ai.output.messages"]
    lines = [_line(record, agent_id, f"{kind}_{ending}", finish, ended_us)]
    if full:
        start = {"function": record.name} if kind == "call" else {"prompt": data.get("gen_ai.input.messages")}
        lines.insert(0, _line(record, agent_id, f"{kind}_start", start, record.time_us))
    return lines


def _masked(lines: list[dict[str, object]], rules: RuleSet) -> list[dict[str, object]]:
    """The lines, with what the rules find made unreadable; what could not be looked at is left out."""
    for line in lines:
        for key in _SAID:
            if line.get(key):
                try:
                    line[key], _findings = rules.mask(line[key])
                except Exception as error:
                    line[key] = f"<not looked at: {type(error).__name__}>"
    return lines


def _line(record: Record, agent_id: str, event: str, data: object, time_us: int) -> dict[str, object]:
    found: dict[str, object] = {
        "timestamp": _local(time_us).isoformat(),
        "level": record.level,
        "channel": record.channel,
        "agent_id": agent_id,
        "event": event,
        "data": data,
    }
    if record.place is not None:
        found["trace_id"], found["span_id"] = record.place.trace, record.place.span or None
        if record.place.parent is not None:
            found["parent_span_id"] = record.place.parent
    for key, value in (("session_id", record.session), ("user_id", record.user), ("tags", list(record.tags))):
        if value:
            found[key] = value
    return found


def _local(time_us: int) -> datetime:
    """Local and naive, as its readers expect; a time of which the local calendar has none, as that of UTC."""
    try:
        return datetime.fromtimestamp(time_us / 1_000_000)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(time_us / 1_000_000, timezone.utc).replace(tzinfo=None)
