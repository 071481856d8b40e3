"""Line formats: how one line of each kind of log is recognized, and where its time and level come from.

A parser takes (text, newest) and gives a Line, or None when the line is of another kind. The kinds exclude one
another, so the order of trying changes the speed and not the result, but for `iso` and `plain`, which come last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple

LEVELS = ("debug", "info", "warning", "error", "critical")
UNKNOWN = "unknown"
PRIORITIES = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")

NAMES = {
    **dict.fromkeys(("emerg", "emergency", "alert", "crit", "critical", "fatal", "panic"), "critical"),
    **dict.fromkeys(("err", "error", "severe"), "error"),
    **dict.fromkeys(("warn", "warning"), "warning"),
    **dict.fromkeys(("info", "information", "informational", "notice", "ok"), "info"),
    **dict.fromkeys(("debug", "trace", "verbose"), "debug"),
}
STATED = re.compile(
    r"[\[(<|]?\s*(emerg(?:ency)?|alert|crit(?:ical)?|fatal|panic|err(?:or)?|severe|warn(?:ing)?|info|notice|debug|trace)"
    r"\s*(?:[\])>|:,]|\s-\s|\s+(?=\S))",
    re.IGNORECASE,
)
PAIR = re.compile(r"(?:^|[\s,])(?:level|lvl|severity)=\"?([a-z]+)", re.IGNORECASE)
UPPER_WORDS = ("EMERG", "ALERT", "CRIT", "FATAL", "ERROR", "WARN", "INFO", "NOTICE", "DEBUG", "TRACE")
UPPER = re.compile(r"\b(EMERG|ALERT|CRITICAL|CRIT|FATAL|ERROR|WARNING|WARN|INFO|NOTICE|DEBUG|TRACE)\b")
# Looking for plain words first is several times faster than the expressions, and most lines have none.
HINTS = ("err", "fail", "except", "segfault", "panic", "fatal", "critical", "memory", "warn", "deprec", "time", "retry")
HARMLESS = re.compile(
    r"\b(?:no|zero|0|without(?: any)?)\s+(?:errors?|fail(?:ed|ures?)|exceptions?|warnings?|timeouts?)\b"
    r"|\b(?:errors?|fail(?:ed|ures?)|exceptions?|warnings?|timeouts?)\s*[=:]\s*(?:0\b|none\b|false\b|null\b)",
    re.IGNORECASE,
)
ERRORS = re.compile(
    r"(?<![\w./-])(?:errors?|failed|failures?|exceptions?|segfault|panic|fatal|critical|out of memory)(?![\w/-]|\.\w)",
    re.IGNORECASE,
)
WARNINGS = re.compile(
    r"(?<![\w./-])(?:warn|warnings?|deprecated|timeouts?|timed out|retrying)(?![\w/-]|\.\w)", re.IGNORECASE
)
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, 1)}


class Line(NamedTuple):
    """What one line says. `time` has a zone; `source` is the program, host or client, where the format names one."""

    format: str
    time: datetime | None
    level: str
    message: str
    source: str = ""


def stated_level(text: str) -> str | None:
    """The level that the text itself states at its beginning (`ERROR: x`, `[warn] x`, `level=info`), else None."""
    head = text[:200]
    match = STATED.match(head) or (PAIR.search(head) if "=" in head else None)
    if match and (name := NAMES.get(match[1].lower())):
        return name
    head = head[:80]
    if any(word in head for word in UPPER_WORDS) and (match := UPPER.search(head)):
        return NAMES[match[1].lower()]
    return None


def keyword_level(text: str) -> str:
    """The level guessed from words of a text that states none."""
    text = text[:4096]
    lowered = text.lower()
    if not any(hint in lowered for hint in HINTS):
        return UNKNOWN
    text = HARMLESS.sub("", text)
    return "error" if ERRORS.search(text) else "warning" if WARNINGS.search(text) else UNKNOWN


def text_level(text: str) -> str:
    """The stated level of a text, else the guessed one."""
    return stated_level(text) or keyword_level(text)


# --- times -----------------------------------------------------------------------------------------------------------

ISO_TIME = re.compile(
    r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r"\s?(?:(Z|UTC)(?!\w)|([+-])(\d\d):?(\d\d)(?!\d))?"
)


@lru_cache(maxsize=256)
def iso_time(text: str) -> datetime | None:
    """The time a text begins with; None where that is no real time. Without a zone it is local time."""
    match = ISO_TIME.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, utc, sign, zone_h, zone_m = match.groups()
    try:
        zone = timezone.utc if utc else None
        if sign:
            offset = timedelta(hours=int(zone_h), minutes=int(zone_m))
            zone = timezone(-offset if sign == "-" else offset)
        micros = int(((fraction or "") + "000000")[:6])
        # Second 60 is a leap second, which datetime does not know.
        time = datetime(int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), micros, zone)
        return time if zone else time.astimezone()
    except (ValueError, OverflowError):
        return None


def epoch_time(value: float) -> datetime | None:
    """The time of a number of seconds, milli-, micro- or nanoseconds since 1970; None outside 1973 to 5138."""
    for unit in (1, 1e3, 1e6, 1e9):
        if 1e8 <= value / unit < 1e11:
            return datetime.fromtimestamp(value / unit, timezone.utc)
    return None


@lru_cache(maxsize=256)
def yearless_time(month: str, day: str, clock: str, newest: datetime) -> datetime | None:
    """The latest such time that is not more than a day after `newest`; None where there is none."""
    hour, minute, second = (int(part) for part in clock.split(":"))
    for year in (newest.year, newest.year - 1, newest.year - 2, newest.year - 3, newest.year - 4):
        try:
            time = datetime(year, MONTHS[month], int(day), hour, minute, min(second, 59)).astimezone()
        except (ValueError, OverflowError):  # 29 February exists in one year of four
            continue
        if time - newest <= timedelta(days=1):
            return time
    return None


# --- formats ---------------------------------------------------------------------------------------------------------

RFC3164 = re.compile(
    r"(?:<(\d{1,3})>)?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(\d{1,2}) (\d\d:\d\d:\d\d) (\S+) "
    r"(?:([^\s:\[]+)(?:\[[^\]]*\])?: ?)?(.*)"
)
RFC5424 = re.compile(r"<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) (-|\[(?:[^\]\"]|\"(?:[^\"\\]|\\.)*\")*\])+ ?(.*)")
ISO_SYSLOG = re.compile(r"(?:<(\d{1,3})>)?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*) (\S+) ([^\s:\[]+)(?:\[[^\]]*\])?: ?(.*)")
DPKG = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) "
    r"(?:(startup (?:archives|packages) \S+)$|(status [a-z-]+|install|upgrade|configure|trigproc|remove|purge|disappear"
    r"|conffile) \S)"
)
COMBINED = re.compile(
    r"(\S+) \S+ .{1,200}? \[(\d\d)/(\w{3})/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})\] \"((?:[^\"\\]|\\.)*)\" (\d{3}) "
    r"(?:\d+|-)(.*)"
)
NGINX_ERROR = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)")
LEADING_TIME = re.compile(r"[\[(]?(" + ISO_TIME.pattern + r")[\])]?[\s,:|-]*")


def _priority_level(priority: str | None, text: str) -> str:
    if priority is not None and int(priority) < 192:
        return PRIORITIES[int(priority) % 8]
    return text_level(text)


def _rfc3164(text: str, newest: datetime) -> Line | None:
    if not (match := RFC3164.match(text)):
        return None
    priority, month, day, clock, host, tag, message = match.groups()
    time = yearless_time(month, day, clock, newest)
    return Line("syslog", time, _priority_level(priority, message), message, tag or host)


def _rfc5424(text: str, newest: datetime) -> Line | None:
    if not (match := RFC5424.match(text)):
        return None
    message = match[8].lstrip("\ufeff")
    return Line("syslog", iso_time(match[2]), _priority_level(match[1], message), message, match[4])


def _iso_syslog(text: str, newest: datetime) -> Line | None:
    if not (match := ISO_SYSLOG.match(text)):
        return None
    return Line("syslog", iso_time(match[2]), _priority_level(match[1], match[5]), match[5], match[4])


def _dpkg(text: str, newest: datetime) -> Line | None:
    if not (match := DPKG.match(text)):
        return None
    return Line("dpkg", iso_time(match[1]), "info", match[2] or f"{match[3]} <package>", "dpkg")


def _combined(text: str, newest: datetime) -> Line | None:
    if not (match := COMBINED.match(text)):
        return None
    client, day, month, year, clock, zone, request, status, _ = match.groups()
    time = iso_time(f"{year}-{MONTHS.get(month, 0):02d}-{day}T{clock}{zone}")
    path = request.partition("?")[0].rpartition(" HTTP/")[0] or request.partition("?")[0]
    return Line("combined", time, _status_level(int(status)), f"{path} {status}", client)


def _nginx_error(text: str, newest: datetime) -> Line | None:
    if not (match := NGINX_ERROR.match(text)):
        return None
    return Line("nginx-error", iso_time(match[1]), NAMES.get(match[2].lower(), UNKNOWN), match[3], "nginx")


def _json(text: str, newest: datetime) -> Line | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    message = _first_text(value, ("message", "msg", "MESSAGE", "event", "log", "error", "err"))
    time = _json_time(value)
    return Line("json", time, _json_level(value, message), message, _first_text(value, ("logger", "name", "service")))


def _iso(text: str, newest: datetime) -> Line | None:
    if not (match := LEADING_TIME.match(text)):
        return None
    message = text[match.end() :]
    return Line("iso", iso_time(match[1]), text_level(message), message)


def _plain(text: str, newest: datetime) -> Line | None:
    return Line("plain", None, text_level(text), text)


def _status_level(status: int) -> str:
    return "error" if status >= 500 else "warning" if status >= 400 else "info"


def _first_text(value: dict[str, Any], keys: tuple[str, ...]) -> str:
    found = next((value[key] for key in keys if isinstance(value.get(key), str) and value[key]), "")
    return str(found).rstrip("\n")


def _json_level(value: dict[str, Any], message: str) -> str:
    nested = value.get("log")
    stated = [value.get(key) for key in ("level", "severity", "levelname", "lvl", "log.level", "PRIORITY")]
    stated.append(nested.get("level") if isinstance(nested, dict) else None)
    for level in stated:
        if (name := _level_name(level)) is not None:
            return name
    for key in ("status", "status_code"):
        status = value.get(key)
        if isinstance(status, int) and 100 <= status <= 599:
            return _status_level(status)
    return text_level(message)


def _level_name(level: object) -> str | None:
    if isinstance(level, str) and not level.isascii():
        return None
    if isinstance(level, str) and not level.isdigit():
        return NAMES.get(level.strip().lower())
    if isinstance(level, bool) or not isinstance(level, (int, str)) or len(str(level)) > 3:
        return None
    number = int(level)
    if 0 <= number <= 7:
        return PRIORITIES[number]
    return {1: "debug", 2: "debug", 3: "info", 4: "warning", 5: "error", 6: "critical"}.get(number // 10)


def _json_time(value: dict[str, Any]) -> datetime | None:
    keys = ("time", "timestamp", "@timestamp", "ts", "asctime", "datetime", "__REALTIME_TIMESTAMP")
    found = next((value[key] for key in keys if value.get(key)), None)
    if isinstance(found, str):
        if (time := iso_time(found[:64])) is not None:
            return time
        found = int(found) if found.isascii() and found.isdigit() and len(found) < 20 else None
    if isinstance(found, (int, float)) and not isinstance(found, bool) and 0 < found < 1e20:
        return epoch_time(found)
    return None


Parser = Callable[[str, datetime], "Line | None"]
PARSERS: dict[str, tuple[Parser, ...]] = {
    "json": (_json,),
    "dpkg": (_dpkg,),
    "syslog": (_rfc3164, _rfc5424, _iso_syslog),
    "combined": (_combined,),
    "nginx-error": (_nginx_error,),
    "iso": (_iso,),
    "plain": (_plain,),
}
FORMATS = tuple(PARSERS)
UNPARSED = "unparsed"


def parse_line(text: str, *, newest: datetime, hint: str | None = None, only: str | None = None) -> Line:
    """What one line says.

    Args:
        text: the line, without its break.
        newest: no time without a year is taken to lie after this one.
        hint: the format of the line before, tried first.
        only: the one format to try; a line that does not fit it comes back as "unparsed".

    """
    names = (only,) if only else (hint, *FORMATS) if hint in FORMATS[:-2] else FORMATS
    for name in names:
        for parser in PARSERS[str(name)]:
            if line := parser(text, newest):
                return line
    return Line(UNPARSED, None, text_level(text), text)
