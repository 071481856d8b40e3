"""A conversation as a file: JSON lines, written by an export and read by an import.

    {"kind": "session", "format": 1, "session": ..., "created": ..., "settings": {...}, "totals": {...}}
    {"kind": "event", "seq": 1, "type": "turn.queued", "time": ..., "turn": ..., "data": {...}}      any number
    {"kind": "end", "events": 1}

Events are as the socket sends them, ascending, blocks merged. The last line tells a whole file from one that was cut.
Files of the workspace and idempotency keys are not in it. Reading checks everything that the rest of the program
relies on in stored events, so that a file made by anybody can do no more than hold a strange conversation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from skill_actors.errors import Refused
from skill_actors.files.names import check_name
from skill_actors.ids import is_id
from skill_actors.models.base import Usage
from skill_actors.sessions.events import EVENT_TYPES, TURN_ENDINGS, Event
from skill_actors.sessions.lineage import turn_order_fault
from skill_actors.sessions.message_files import is_document
from skill_actors.sessions.settings import SETTINGS
from skill_actors.sessions.shown_images import is_image
from skill_actors.store.base import SessionRecord

__all__ = ["FORMAT", "Transcript", "end_line", "event_line", "head_line", "read_transcript"]

FORMAT: Final = 1

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_HOSTED_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MAX_SEQ: Final = 2**53
_MAX_DEPTH: Final = 64
_MAX_COST_USD: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What a file holds. `settings` have their names checked and no more: who makes the session checks the values."""

    session: str
    created: str
    settings: Mapping[str, Any]
    totals: Mapping[str, Any]
    events: Sequence[Event]


def head_line(record: SessionRecord) -> str:
    """The first line."""
    totals = {name: record.totals[name] for name in ("turns", "usage", "cost_usd") if name in record.totals}
    settings = {name: value for name, value in record.settings.items() if name in SETTINGS}
    head = {"kind": "session", "format": FORMAT, "session": record.id, "created": record.created}
    return _dump({**head, "settings": settings, "totals": totals})


def event_line(event: Event) -> str:
    """One event; its session is that of the first line."""
    told = event.to_dict()
    del told["session"]
    return _dump({"kind": "event", **told})


def end_line(events: int) -> str:
    """The last line, after so many events."""
    return _dump({"kind": "end", "events": events})


def read_transcript(raw: bytes) -> Transcript:
    """Read a whole file. Blocks: call it in a worker thread.

    Raises:
        Refused: bad_request naming the line and what is wrong with it.

    """
    lines = _lines(raw.rstrip(b"\r\n"))  # tools for the shell like to add line ends
    number, first = next(lines, (1, None))
    if first is None:
        _refuse(1, "the file is empty")
    head = _Head.read(number, first)
    events: list[Event] = []
    stages: dict[str, str] = {}
    running: str | None = None
    for number, line in lines:
        if line.get("kind") == "end":
            _check_end(number, line, len(events), lines)
            return Transcript(
                session=head.session,
                created=head.created,
                settings=head.settings,
                totals=head.totals,
                events=events,
            )
        event = _event(number, line, head.session, events[-1].seq if events else 0)
        fault = turn_order_fault(event, stages, running)
        if fault is not None:
            _refuse(number, fault)
        if event.turn is not None and event.type.startswith("turn."):
            stages[event.turn] = event.type
            running = _runs_after(event, running)
        events.append(event)
    _refuse(number, "the file ends here without its end line: it was cut off")


def _runs_after(event: Event, running: str | None) -> str | None:
    if event.type == "turn.started":
        return event.turn
    return None if event.type in TURN_ENDINGS and event.turn == running else running


def _check_end(number: int, line: Mapping[str, Any], events: int, rest: Iterator[tuple[int, Any]]) -> None:
    _names(number, line, {"kind", "events"})
    if line["events"] != events or isinstance(line["events"], bool):
        _refuse(number, f"the end line counts {str(line['events'])[:20]} events, and there are {events}")
    more = next(rest, None)
    if more is not None:
        _refuse(more[0], "something follows the end line")


def _lines(raw: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's number and object. Empty lines are not skipped: nothing that we write has any."""
    start, number = 0, 0
    while start < len(raw):
        number += 1
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        yield number, _object(number, raw[start:end])
        start = end + 1


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=lambda name: _refuse(number, f"{name} is not JSON"))
    except UnicodeDecodeError as error:
        _refuse(number, f"not UTF-8 at byte {error.start}")
    except RecursionError:
        _refuse(number, "nested too deeply")
    except ValueError as error:  # JSONDecodeError, and a number too long to be read
        _refuse(number, f"not JSON: {error}")
    if not isinstance(value, dict):
        _refuse(number, "not a JSON object")
    _check_values(number, value)
    return value


def _check_values(number: int, root: Any) -> None:
    """Walk without recursion: what a store and a model's API can take, and no deeper than 64 levels."""
    level = [root]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            match value:
                case dict():
                    below.extend(value)
                    below.extend(value.values())
                case list():
                    below.extend(value)
                case int() | float() if not -1e300 < value < 1e300:
                    _refuse(number, "a number is out of range")
                case _:
                    pass
        if not below:
            return
        level = below
    _refuse(number, f"nested more than {_MAX_DEPTH} levels deep")


@dataclass(frozen=True, slots=True)
class _Head:
    session: str
    created: str
    settings: dict[str, Any]
    totals: dict[str, Any]

    @classmethod
    def read(cls, number: int, line: Mapping[str, Any]) -> _Head:
        if line.get("kind") != "session":
            _refuse(number, 'the first line of an exported conversation has "kind": "session"')
        if line.get("format") != FORMAT or isinstance(line.get("format"), bool):
            _refuse(number, f"format {str(line.get('format'))[:20]!r} is unknown here; this program reads {FORMAT}")
        _names(number, line, {"kind", "format", "session", "created", "settings", "totals"})
        _wants(number, isinstance(line["session"], str) and is_id(line["session"], "ses"), "session: not an id")
        _wants(number, isinstance(line["settings"], dict), "settings: not an object")
        _wants(number, _is_plain(line["settings"]), "settings: a text holds a NUL or half a surrogate pair")
        created = _time(number, "created", line["created"])
        return cls(line["session"], created, line["settings"], _totals(number, line["totals"]))


def _totals(number: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= {"turns", "usage", "cost_usd"}:
        _refuse(number, "totals: expected an object with turns, usage and cost_usd")
    usage = value.get("usage", {})
    known = isinstance(usage, dict) and set(usage) <= set(Usage().to_dict())
    _wants(number, known and all(map(_is_count, usage.values())), "totals.usage: expected counts of tokens")
    _wants(number, _is_count(value.get("turns", 0)), "totals.turns: expected a count")
    _wants(number, _is_sum(value.get("cost_usd", 0.0)), "totals.cost_usd: expected a sum or null")
    return value


def _event(number: int, line: Mapping[str, Any], session: str, before: int) -> Event:
    if line.get("kind") != "event":
        _refuse(number, f'"kind" is {str(line.get("kind"))[:40]!r}; expected event or end')
    _names(number, line, {"kind", "seq", "type", "time", "turn", "data"})
    seq, type, turn, data = line["seq"], line["type"], line["turn"], line["data"]
    if not isinstance(type, str) or type not in EVENT_TYPES:
        _refuse(number, f"type {str(type)[:60]!r} is unknown here")
    _wants(number, _is_count(seq) and seq > before, f"seq: expected a number above {before}, got {str(seq)[:30]}")
    good = turn is None or (isinstance(turn, str) and is_id(turn, "trn"))
    _wants(number, good, "turn: expected the id of a turn, or null")
    _wants(number, isinstance(data, dict), "data: expected an object")
    if type in _DATA:
        _wants(number, _DATA[type](data), f"data: not that of a {type} event")
    time = _time(number, "time", line["time"])
    return Event(seq=seq, type=type, time=time, session=session, turn=turn, data=data)


def _time(number: int, name: str, value: Any) -> str:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        _refuse(number, f"{name}: expected a time in UTC such as 2026-01-15T03:29:51.606Z")
    return value


def _names(number: int, line: Mapping[str, Any], wanted: set[str]) -> None:
    missing, extra = sorted(wanted - set(line)), sorted(set(line) - wanted)
    if missing:
        _refuse(number, f"{missing[0]} is missing")
    if extra:
        _refuse(number, f"unknown field {extra[0][:60]!r}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_SEQ


def _is_sum(value: Any) -> bool:
    """US dollars, or None where a price is unknown."""
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_COST_USD


def _is_plain(value: Any) -> bool:
    """Whether all texts of a JSON value are such as a request may hold; see `_check_values` for its depth."""
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
        case dict():
            return all(_is_plain(name) and _is_plain(inner) for name, inner in value.items())
        case list():
            return all(map(_is_plain, value))
        case _:
            return True


def _wants(number: int, good: bool, fault: str) -> None:
    if not good:
        _refuse(number, fault)


def _refuse(number: int, fault: str) -> NoReturn:
    raise Refused("bad_request", f"line {number}: {fault}", details={"line": number})


# What reads stored events relies on these shapes, and on no others.


def _queued(data: dict[str, Any]) -> bool:
    text, files = data.get("text"), data.get("files", [])
    named = isinstance(files, list) and all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in files)
    shown = _are(data.get("images", []), is_image) and _are(data.get("documents", []), is_document)
    return isinstance(text, str) and "\0" not in text and named and shown


def _are(value: Any, good: Callable[[object], bool]) -> bool:
    """Whether this is a list of named files of a message, each of them good."""
    return isinstance(value, list) and all(good(item) and isinstance(item.get("name"), str) for item in value)


def _compacted(data: dict[str, Any]) -> bool:
    summary, kept_from = data.get("summary"), data.get("kept_from_seq")
    good = summary is None or (isinstance(summary, str) and "\0" not in summary)
    return good and (kept_from is None or _is_count(kept_from))


def _message(data: dict[str, Any]) -> bool:
    content, usage = data.get("content"), data.get("usage")
    if not isinstance(content, list) or not isinstance(data.get("model"), str):
        return False
    if not isinstance(data.get("container"), str | None):
        return False
    if data.get("seen_seq") is not None and not _is_count(data["seen_seq"]):
        return False
    return (usage is None or _is_usage(usage)) and all(isinstance(block, dict) and _block(block) for block in content)


def _block(block: dict[str, Any]) -> bool:
    match block.get("type"):
        case "text":
            return isinstance(block.get("text"), str)
        case "tool_use":
            return isinstance(block.get("id"), str) and isinstance(block.get("name"), str)
        case "compaction":
            return isinstance(block.get("content"), str | None)
        case kind:
            return isinstance(kind, str) and kind != "tool_result"  # results come from tool.finished events


def _delta(data: dict[str, Any]) -> bool:
    return isinstance(data.get("text"), str)


def _tool(data: dict[str, Any]) -> bool:
    return isinstance(data.get("id"), str)


def _tool_finished(data: dict[str, Any]) -> bool:
    content, images = data.get("content"), data.get("images", [])
    shown = isinstance(images, list) and all(map(is_image, images))
    return _tool(data) and isinstance(content, str) and shown and _is_duration(data.get("duration_ms"))


def _ending(data: dict[str, Any]) -> bool:
    error, ambiguous = data.get("error", {}), data.get("ambiguous", [])
    return (
        isinstance(data.get("text"), str)
        and isinstance(data.get("stop_reason"), str)
        and isinstance(error, dict)
        and all(isinstance(each, str) for each in error.values())
        and isinstance(ambiguous, list)
        and all(isinstance(each, str) for each in ambiguous)
        and _is_usage(data.get("usage"))
        and _is_sum(data.get("cost_usd"))
        and _is_duration(data.get("duration_ms"))
    )


def _file(data: dict[str, Any]) -> bool:
    name, file_id, size = data.get("name"), data.get("file_id"), data.get("size")
    texts = (data.get(field) for field in ("source", "checksum", "modified", "content_type"))
    if not isinstance(name, str) or not (size is None or _is_count(size)):
        return False
    if not all(isinstance(text, str | None) for text in texts):
        return False
    return file_id is None or (_is_hosted_id(file_id) and data.get("source") is not None and _is_file_name(name))


def _is_hosted_id(value: Any) -> bool:
    return isinstance(value, str) and _HOSTED_ID.fullmatch(value) is not None


def _is_file_name(name: str) -> bool:
    try:
        check_name(name)
    except Refused:
        return False
    return True


def _is_usage(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


def _is_duration(value: Any) -> bool:
    return value is None or _is_count(value)


_DATA: Final[Mapping[str, Callable[[dict[str, Any]], bool]]] = {
    **dict.fromkeys(TURN_ENDINGS, _ending),
    **dict.fromkeys(("file.created", "file.changed", "file.deleted"), _file),
    "turn.queued": _queued,
    "turn.steered": _queued,
    "session.compacted": _compacted,
    "model.message": _message,
    "model.delta": _delta,
    "tool.started": _tool,
    "tool.output": _tool,
    "tool.finished": _tool_finished,
}


def _dump(value: Mapping[str, Any]) -> str:
    """One line. Lone surrogates, which tools do print, are escaped, so that the line is UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
