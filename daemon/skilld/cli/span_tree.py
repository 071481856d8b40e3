"""A trace as lines of text: its spans as a tree with bars on one axis of time, events under their spans. No I/O.

What was found in a span or an event stands below it.

What programs report need be no tree: a parent may be missing, name itself in a circle, or be there twice. Every span
and event is drawn exactly once all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from skilld.cli.output import one_line

__all__ = ["TraceLine", "draw_trace", "duration_text", "trace_summary"]

Event = Mapping[str, Any]

_MOST_DEPTH: Final = 24  # further down all stand below each other; earlier where there is no room for names
_LEAST_NAME: Final = 24  # with the lines before it
_LEAST_TITLE: Final = 15  # of that, without them
_MOST_BAR: Final = 40
_LEAST_BAR: Final = 8
_MOST_DATA: Final = 160


class TraceLine(NamedTuple):
    """A line of the drawing; `failed` for a span or an event that says so."""

    text: str
    failed: bool


@dataclass(eq=False, slots=True)
class _Node:
    """A span with what is below it, or an event."""

    event: Event
    begin_us: int
    end_us: int
    is_span: bool
    note: str = ""
    above: _Node | None = None
    children: list[_Node] = field(default_factory=list)


def trace_summary(events: Sequence[Event]) -> dict[str, Any]:
    """What a trace adds up to: agents, when it began, how long it took, spans, events, errors, tokens, cost."""
    nodes = [_node(event) for event in events]
    spans = [node for node in nodes if node.is_span]
    begin_us, end_us = _ends(nodes)
    costs = [event["cost_usd"] for event in events if event.get("cost_usd") is not None]
    return {
        "agents": sorted({str(event["agent"]) for event in events}),
        "begin": min((str(event["time"]) for event in events if event["time"]), default=None),
        "duration_ms": (end_us - begin_us) / 1000,
        "spans": len(spans),
        "events": len(nodes) - len(spans),
        "errors": sum(_failed(node) for node in nodes),
        "input_tokens": sum(event.get("input_tokens") or 0 for event in events),
        "output_tokens": sum(event.get("output_tokens") or 0 for event in events),
        "cost_usd": sum(costs) if costs else None,
    }


def draw_trace(events: Sequence[Event], columns: int, findings: Sequence[Event] = ()) -> Iterator[TraceLine]:
    """The lines of a trace, for a terminal of so many columns."""
    found: dict[int, list[Event]] = {}
    for finding in findings:
        found.setdefault(finding["event"], []).append(finding)
    nodes = [_node(event) for event in events]
    axis = _Axis(*_ends(nodes), columns)
    room = max(_LEAST_NAME, columns - axis.width - 12)
    placed = list(_placed(_tree(nodes), min(_MOST_DEPTH, (room - _LEAST_TITLE) // 3)))
    longest = max((len(lead) + len(_title(node)) for lead, _, node in placed), default=0)
    name_width = max(_LEAST_NAME, min(room, longest))
    for lead, below, node in placed:
        if node.is_span:
            title = one_line_kept(f"{lead}{one_line(_title(node))}", name_width)
            text = f"{title.ljust(name_width)} {axis.bar(node)} {_facts(node)}"
        else:
            text = f"{lead}{_event_text(node.event)}"
        yield TraceLine(one_line_kept(text, columns), _failed(node))
        for finding in found.get(node.event["id"], ()):
            yield TraceLine(one_line_kept(f"{below}{_finding_text(finding)}", columns), finding["severity"] == "high")


def one_line_kept(text: str, width: int) -> str:
    """The text without what could steer a terminal, its blanks as they are."""
    safe = "".join(letter if letter.isprintable() else " " for letter in text).rstrip()
    return safe if len(safe) <= width else f"{safe[: width - 1]}…"


def duration_text(duration_ms: float) -> str:
    """Milliseconds for people."""
    if duration_ms < 1:
        return f"{duration_ms * 1000:.0f} µs"
    if duration_ms < 1000:
        return f"{duration_ms:.3g} ms" if duration_ms < 100 else f"{duration_ms:.0f} ms"
    return f"{duration_ms / 1000:.2f} s" if duration_ms < 60_000 else f"{duration_ms / 60_000:.1f} min"


class _Axis:
    """From the first beginning of a trace to its last end."""

    def __init__(self, begin_us: int, end_us: int, columns: int) -> None:
        self._begin_us = begin_us
        self._length_us = max(1, end_us - begin_us)
        self.width = max(_LEAST_BAR, min(_MOST_BAR, columns // 4))

    def bar(self, node: _Node) -> str:
        """When in all of it the span was open."""
        first = max(0, min(self.width - 1, (node.begin_us - self._begin_us) * self.width // self._length_us))
        last = min(self.width, max(first + 1, -(-(node.end_us - self._begin_us) * self.width // self._length_us)))
        return " " * first + "█" * (last - first) + " " * (self.width - last)


def _node(event: Event) -> _Node:
    begin_us = _time_us(event["time"])
    is_span = event["duration_ms"] is not None and event["span"] is not None
    took_us = round(event["duration_ms"] * 1000) if event["duration_ms"] is not None else 0
    return _Node(event, begin_us, begin_us + took_us, is_span)


def _ends(nodes: Sequence[_Node]) -> tuple[int, int]:
    """The first beginning and the last end. Who says no time is at neither."""
    timed = [node for node in nodes if node.begin_us]
    return min((node.begin_us for node in timed), default=0), max((node.end_us for node in timed), default=0)


def _tree(nodes: Sequence[_Node]) -> list[_Node]:
    """The nodes that have nothing above them, all others below them."""
    spans: dict[str, _Node] = {}
    for node in nodes:
        if node.is_span:
            spans.setdefault(node.event["span"], node)
    top = list[_Node]()
    for node in nodes:
        above = node.event["parent"] if node.is_span else node.event["span"] or node.event["parent"]
        parent = spans.get(above) if above else None
        if parent is None or parent is node:
            node.note = f"(of {str(above)[:8]}, which is not here)" if above and parent is None else ""
            top.append(node)
        else:
            node.above = parent
            parent.children.append(node)
    _open_circles(nodes, top)
    for node in nodes:
        node.children.sort(key=_order)
    return sorted(top, key=_order)


def _open_circles(nodes: Sequence[_Node], top: list[_Node]) -> None:
    """Spans that are each other's parents hang on nothing: the first of each circle becomes a top one."""
    reached = set[int]()
    _reach(top, reached)
    for node in sorted(nodes, key=_order):
        if id(node) in reached:
            continue
        if node.above is not None:
            node.above.children.remove(node)
        node.note = "(its parents are a circle)"
        top.append(node)
        _reach([node], reached)


def _reach(start: Sequence[_Node], reached: set[int]) -> None:
    waiting = list(start)
    while waiting:
        node = waiting.pop()
        if id(node) not in reached:
            reached.add(id(node))
            waiting += node.children


def _order(node: _Node) -> tuple[int, int]:
    return node.begin_us, int(node.event["id"])


def _placed(top: Sequence[_Node], most_depth: int) -> Iterator[tuple[str, str, _Node]]:
    """Each node with what is drawn before it, and before what stands below it; parents before children."""
    waiting = [("", "", node, 0) for node in reversed(top)]
    while waiting:
        lead, below, node, depth = waiting.pop()
        yield lead, f"{below}│  " if node.children else f"{below}   ", node
        deeper = depth < most_depth
        for number, child in enumerate(reversed(node.children)):
            corner, line = ("└─ ", "   ") if number == 0 else ("├─ ", "│  ")
            waiting.append((below + corner, below + line if deeper else below, child, depth + 1))


def _title(node: _Node) -> str:
    return " ".join(filter(None, (str(node.event["name"]), node.note)))


def _facts(node: _Node) -> str:
    """What is known of a span: duration, status, model, tokens, cost, why it failed."""
    event = node.event
    said = [f"{duration_text(event['duration_ms']):>8}", str(event["status"] or "")]
    if event.get("model") and str(event["model"]) not in str(event["name"]):
        said.append(str(event["model"]))
    if event.get("input_tokens") is not None or event.get("output_tokens") is not None:
        said.append(f"{event.get('input_tokens') or 0} in {event.get('output_tokens') or 0} out")
    if event.get("cost_usd") is not None:
        said.append(f"${event['cost_usd']:.6f}".rstrip("0").rstrip("."))
    if isinstance(event["data"], Mapping) and (why := event["data"].get("error.type")):
        said.append(str(why)[:60])
    return " ".join(filter(None, said))


def _event_text(event: Event) -> str:
    data = "" if event["data"] in ({}, None) else " " + json.dumps(event["data"], ensure_ascii=False)[:_MOST_DATA]
    return f"· {event['level']} {event['channel']} {event['name']}{data}"


def _finding_text(finding: Event) -> str:
    said = f"! {finding['severity']} {finding['category']} {finding['rule']} ({finding['direction']})"
    return f"{said}: {finding['sample']}" if finding["sample"] else said


def _failed(node: _Node) -> bool:
    return node.event["status"] == "error" or node.event["level"] in ("ERROR", "CRITICAL")


def _time_us(text: str | None) -> int:
    """0 where the program's clock said what no calendar has."""
    if text is None:
        return 0
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
