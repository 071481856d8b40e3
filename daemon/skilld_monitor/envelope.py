"""An event as generation B of Cylestio Monitor wrote it: schema 1.0, its names and attributes; a call as two of them.

Whatever of ours has no name there stays under its own, so that nothing is lost on the way.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SCHEMA_VERSION", "envelopes"]

SCHEMA_VERSION = "1.0"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# By what a call does, the names at its beginning, at its end, and where it failed.
_NAMES = {
    "chat": ("llm.call.start", "llm.call.finish", "llm.call.error"),
    "text_completion": ("llm.call.start", "llm.call.finish", "llm.call.error"),
    "generate_content": ("llm.call.start", "llm.call.finish", "llm.call.error"),
    "embeddings": ("llm.call.start", "llm.call.finish", "llm.call.error"),
    "execute_tool": ("tool.execution", "tool.result", "tool.error"),
    "invoke_agent": ("agent.invoke.start", "agent.invoke.end", "agent.invoke.error"),
    "retrieval": ("retrieval.query", "retrieval.result", "retrieval.error"),
}
_REQUEST = {
    "gen_ai.system": "llm.vendor",  # as it was called before; the newer name wins
    "gen_ai.provider.name": "llm.vendor",
    "gen_ai.request.model": "llm.model",
    "gen_ai.operation.name": "llm.request.type",
    "gen_ai.request.max_tokens": "llm.request.max_tokens",
    "gen_ai.request.temperature": "llm.request.temperature",
    "gen_ai.request.top_p": "llm.request.top_p",
    "gen_ai.request.top_k": "llm.request.top_k",
    "gen_ai.input.messages": "llm.request.data",
    "gen_ai.tool.name": "tool.name",
    "gen_ai.tool.call.id": "tool.id",
    "gen_ai.tool.call.arguments": "tool.params",
    "gen_ai.agent.name": "agent.name",
    "function.name": "function.name",
    "function.module": "function.module",
}
_ANSWER = {
    "gen_ai.response.id": "llm.response.id",
    "gen_ai.response.finish_reasons": "llm.response.stop_reason",
    "gen_ai.output.messages": "llm.response.content",
    "gen_ai.usage.input_tokens": "llm.usage.input_tokens",
    "gen_ai.usage.output_tokens": "llm.usage.output_tokens",
    "gen_ai.tool.call.result": "tool.result",
}


def envelopes(
    *,
    name: str,
    level: str,
    channel: str,
    agent: str,
    time_us: int,
    data: object,
    trace: str | None,
    span: str | None,
    parent: str | None,
    duration_ms: float | None,
    status: str | None,
    session: str | None = None,
    user: str | None = None,
    tags: Sequence[str] = (),
) -> list[dict[str, object]]:
    """One line of an event, two of a span that has ended: of its beginning, and of its end.

    Args:
        duration_ms: None for an event, as is `status`.

    """
    said = {"session.id": session, "user.id": user, "tags": list(tags) or None}
    context = {key: value for key, value in said.items() if value is not None}

    def line(named: str, when_us: float, weight: str, attributes: Mapping[str, object]) -> dict[str, object]:
        return {
            "schema_version": SCHEMA_VERSION,
            "timestamp": _timestamp(when_us),
            "trace_id": trace,
            "span_id": span,
            "parent_span_id": parent,
            "name": named,
            "level": weight,
            "attributes": {**context, **attributes},
            "agent_id": agent,
            "channel": channel,
        }

    facts: dict[str, object] = dict(data) if isinstance(data, dict) else {} if data is None else {"data": data}
    if duration_ms is None:
        return [line(name, time_us, level, facts)]
    begins, ends, fails = _NAMES.get(_operation(facts), (f"{name}.start", f"{name}.end", f"{name}.error"))
    asked = {theirs: facts[ours] for ours, theirs in _REQUEST.items() if ours in facts}
    if begins != "llm.call.start" and "llm.request.type" in asked:
        asked["gen_ai.operation.name"] = asked.pop("llm.request.type")  # there it is said of models alone
    answered = {**asked, **_answer(facts), **{key: value for key, value in facts.items() if key not in _KNOWN}}
    answered["status"], answered["duration_ms"] = status, round(duration_ms)
    if ends == "llm.call.finish":
        answered["llm.response.duration_ms"] = round(duration_ms)
    has_failed = status == "error"
    if begins == "tool.execution":
        answered["tool.status"] = "success" if status == "ok" else status
    return [
        line(begins, time_us, "INFO", asked),
        line(fails if has_failed else ends, time_us + duration_ms * 1000, "ERROR" if has_failed else level, answered),
    ]


_KNOWN = frozenset({*_REQUEST, *_ANSWER} - {"function.name", "function.module"})


def _operation(facts: Mapping[str, object]) -> str:
    """What the call does; one that names a tool and nothing else is a tool's."""
    return str(facts.get("gen_ai.operation.name") or ("execute_tool" if "gen_ai.tool.name" in facts else ""))


def _answer(facts: Mapping[str, object]) -> dict[str, object]:
    found = {theirs: facts[ours] for ours, theirs in _ANSWER.items() if ours in facts}
    reasons = found.get("llm.response.stop_reason")
    if isinstance(reasons, list):  # one for each choice; there it is text
        found["llm.response.stop_reason"] = ",".join(map(str, reasons))
    tokens = [found.get(f"llm.usage.{kind}_tokens") for kind in ("input", "output")]
    if all(isinstance(count, int) for count in tokens):
        found["llm.usage.total_tokens"] = sum(count for count in tokens if isinstance(count, int))
    return found


def _timestamp(when_us: float) -> str:
    """In UTC with microseconds and Z; that of 1970 where a clock says what no calendar has."""
    try:
        when = _EPOCH + timedelta(microseconds=when_us)
    except OverflowError:
        when = _EPOCH
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"
