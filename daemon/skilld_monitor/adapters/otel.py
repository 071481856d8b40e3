"""OpenTelemetry's spans in this process: those of models and MCP become records, and no call is reported twice.

Newer SDKs trace themselves once the program sets a tracer provider, and other instrumentation may be there too. The
class of OpenTelemetry's spans is looked at, when the program has loaded its SDK: each span that begins is asked where
it is, each that ends whether it is one of models (`gen_ai.*`), of MCP, or of what another instrumentation calls so.

- One inside a watched call, of its kind, is that call: no record of its own. The first gives the call its ids, all
  give it what they know.
- One around a watched call, of its kind, is that call too: the call takes its ids, once.
- Any other is a record with its own ids, and parent of what is opened inside it.
- Spans of other kinds (HTTP, databases) are none of ours. They are parents only where nothing of ours is open.

Where a span of ours is outermost and OpenTelemetry began a trace of its own below, ours keeps its trace, so that the
tree is whole, and says `otel.trace_id` and `otel.span_id`.
"""

from __future__ import annotations

import functools
import sys

from skilld_monitor.adapters.covering import Cover, current_cover, on_covering
from skilld_monitor.adapters.otel_facts import facts_of, is_of_server, kind_of_span
from skilld_monitor.context import Who, current_who
from skilld_monitor.monitoring import active
from skilld_monitor.records import Record
from skilld_monitor.spans import Running
from skilld_monitor.trace import Place, current, follow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED"]

_NOTE = "_skilld_monitor_note"
_CHANNELS = {"mcp": "MCP", "mcp server": "MCP", "tool": "TOOL"}


class _Note:
    """What is known of a span under way.

    Args:
        place: where it is in our trace.
        above: the span that was open when it began, by its id.
        kind: what it is of those that we report, as far as its beginning says.
        cover: the watched call inside which it began.

    """

    __slots__ = ("above", "cover", "kind", "linked", "place", "taken", "who")

    def __init__(self, place: Place, above: str | None, kind: str | None, cover: Cover | None, linked: bool) -> None:
        self.place = place
        self.above = above
        self.kind = kind
        self.cover = cover
        self.linked = linked  # it has ids of its own in another trace
        self.taken = False  # a watched call inside it is reported in its place
        self.who: Who = current_who()


def _watch(module: ModuleType, made: Monitoring) -> None:
    api = sys.modules["opentelemetry.trace"]  # its SDK does not load without it
    innermost = functools.partial(_innermost, api.get_current_span)
    made.patches.replace(module.Span, "start", functools.partial(_watched_start, api.get_current_span))
    made.patches.replace(module.Span, "end", _watched_end)
    made.patches.on_restore(follow(innermost))
    made.patches.on_restore(on_covering(functools.partial(_take_outer, api.get_current_span)))


def _watched_start(current_span: Callable[[], Any], original: Any) -> Any:
    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        on = active()
        if on is not None:
            try:
                _note_start(self, current_span())
            except Exception as error:
                on.problem = f"a span of OpenTelemetry is not read: {type(error).__name__}: {error}"
        return result

    return start


def _watched_end(original: Any) -> Any:
    @functools.wraps(original)
    def end(self: Any, *args: Any, **kwargs: Any) -> Any:
        is_first = getattr(self, "end_time", None) is None
        result = original(self, *args, **kwargs)
        on = active()
        if on is not None and is_first:
            try:
                _note_end(self, on)
            except Exception as error:
                on.problem = f"a span of OpenTelemetry is not read: {type(error).__name__}: {error}"
        return result

    return end


def _note_start(span: Any, around: Any) -> None:
    own = span.get_span_context()
    trace_id, span_id = f"{own.trace_id:032x}", f"{own.span_id:016x}"
    kind, cover = kind_of_span(span), current_cover()
    parent = span.parent
    ours = current()
    if parent is not None and parent.span_id != around.get_span_context().span_id:  # it was given another one
        ours = _place_of(parent)
    place = Place(trace_id, span_id, None if parent is None else f"{parent.span_id:016x}")
    if ours is not None:
        place = Place(ours.trace, span_id, ours.span, above=ours, flags=ours.flags, state=ours.state)
    linked = place.trace != trace_id
    if cover is not None and cover.kind == kind:
        place = _adopt(cover, place, trace_id, linked)
    setattr(span, _NOTE, _Note(place, None if ours is None else ours.span, kind, cover, linked))


def _adopt(cover: Cover, place: Place, trace_id: str, linked: bool) -> Place:
    """The call's place: it takes the ids of the first span that is the same call."""
    running = cover.running
    if not cover.adopted:
        cover.adopted = True
        if linked or not _move(running, place):
            running.data.update({"otel.trace_id": trace_id, "otel.span_id": place.span})
    return running.place


def _move(running: Running, place: Place) -> bool:
    """Give it these ids, if it has only just begun; one that is part of another's keeps those of the other."""
    if type(running) is not Running:
        return False
    running.place.trace, running.place.span = place.trace, place.span
    return True


def _take_outer(current_span: Callable[[], Any], cover: Cover) -> None:
    """A call that begins where a span of its kind is innermost is what that span is about."""
    note = getattr(current_span(), _NOTE, None)
    if note is None or note.taken or note.kind != cover.kind or note.cover is not None:
        return
    running = cover.running
    if running.place.parent == note.place.span and _move(running, note.place):
        running.place.parent = note.place.parent
        note.taken = cover.adopted = True


def _innermost(current_span: Callable[[], Any], ours: Place | None) -> Place | None:
    """Never raises: OpenTelemetry's own part of it does not, and ours asks for nothing that may be missing."""
    span = current_span()
    own = span.get_span_context()
    if not own.is_valid:
        return ours
    note = getattr(span, _NOTE, None)
    if note is not None and note.kind is not None and note.above == (None if ours is None else ours.span):
        place: Place = note.place
        return place
    return ours if ours is not None else _place_of(own)


def _place_of(context: Any) -> Place:
    """Where a span of the program's own is, which is none of those that we report."""
    trace, span, flags = f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{int(context.trace_flags):02x}"
    return Place(trace, span, flags=flags, state=context.trace_state.to_header())


def _note_end(span: Any, on: Monitoring) -> None:
    kind = kind_of_span(span)
    note = getattr(span, _NOTE, None)
    if kind is None or note is None:
        return
    attributes: Mapping[str, object] = span.attributes or {}
    capture, cover = on.settings.capture, note.cover
    if cover is not None and cover.kind == kind:
        facts = facts_of(attributes, capture, cover.running.data)
        facts.pop("error.type", None)  # in the SDK's words; the call's own is the class of what it raised
        cover.running.learn(facts)
    elif not note.taken:
        on.report(_record(span, note, kind, facts_of(attributes, capture)))


def _record(span: Any, note: _Note, kind: str, facts: dict[str, object]) -> Record:
    if note.linked:
        own = span.get_span_context()
        facts.update({"otel.trace_id": f"{own.trace_id:032x}", "otel.span_id": f"{own.span_id:016x}"})
    if is_of_server(span):
        facts["otel.kind"] = "server"
    failed = span.status.status_code.name == "ERROR"
    return Record(
        str(span.name)[:200],
        facts,
        channel=_CHANNELS.get(kind, "LLM"),
        level="ERROR" if failed else "INFO",
        place=note.place,
        time_us=span.start_time // 1000,
        duration_ms=(span.end_time - span.start_time) / 1_000_000,
        status="error" if failed else "ok",
        who=note.who,
    )


WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {"opentelemetry.sdk.trace": _watch}
