"""An event as generation A of Cylestio Monitor wrote it: `timestamp`, `level`, `channel`, `agent_id`, `event`, `data`.

A call is a line of its end, `LLM_call_finish` or `call_finish`, and in full one of its start before it. What is content
there is text: a prompt, arguments and a result as JSON, an answer as what was said. `alert` is how grave the worst is
that the rules find in a prompt or an answer: none, suspicious or dangerous. Whatever of ours has no name there stays
under its own, so that nothing is lost on the way.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from skilld_monitor.said import ANSWER, PROMPT, Said, alert_of, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.records import Record
    from skilld_monitor.scanning.rule_set import RuleSet

    Data = dict[str, object]

__all__ = ["lines_of"]

_MODEL_CALLS = ("chat", "text_completion", "embeddings", "generate_content")
_ARGUMENTS, _RESULT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
_SPOKEN = ("text", "content", "parts")  # where a block or a message has what it says


def lines_of(record: Record, agent_id: str, rules: RuleSet, *, full: bool) -> list[Data]:
    """The lines of a record, with what the rules find in its data made unreadable.

    Args:
        full: whether a call has a line of its start, with what it was given.

    """
    if record.duration_ms is None:
        return [_line(record, agent_id, record.name, shown(record.data, rules)[0], record.time_us)]
    said = Said(record.data, rules)
    ending = {"ok": "finish", "error": "error"}.get(str(record.status), str(record.status))
    if said.data.get("gen_ai.operation.name") in _MODEL_CALLS:
        kind = "LLM_call"
        start, finish = _of_model(said, full=full, is_whole=ending == "finish")
    else:
        kind = "call"
        said.data.setdefault("function", shown(record.name, rules)[0])
        start, finish = _of_function(said.data, full=full)
    finish["duration"] = round(record.duration_ms / 1000, 6)
    if ending == "error":
        finish["error"] = said.data.get("error.message") or said.data.get("error.type")
    ended_us = record.time_us + int(record.duration_ms * 1000)
    lines = [_line(record, agent_id, f"{kind}_{ending}", finish, ended_us)]
    if full:
        lines.insert(0, _line(record, agent_id, f"{kind}_start", start, record.time_us) | {"level": "INFO"})
    return lines


def _of_model(said: Said, *, full: bool, is_whole: bool) -> tuple[Data, Data]:
    """The data of its start and of its end; without a start its end has what was asked, as it was."""
    start: Data = {"prompt": "", "alert": alert_of(said.asked)}
    finish = dict(said.data)
    if full and PROMPT in finish:
        start["prompt"] = json.dumps(finish.pop(PROMPT))
    if ANSWER in finish or (full and is_whole):
        finish["response"] = _text_of(finish.pop(ANSWER, ""))
        finish["alert"] = alert_of(said.answered)
    return start, finish


def _of_function(data: Data, *, full: bool) -> tuple[Data, Data]:
    """As `_of_model`. A span of the program's own has neither arguments nor a result; its attributes are its own."""
    finish = dict(data)
    given = _arguments(finish) if full else {}
    for name in (_RESULT, *(("result",) if "function.name" in finish else ())):
        if name in finish:
            finish["result"] = json.dumps(finish.pop(name))
    args, kwargs = given.get("args", []), given.get("kwargs", {})
    return {"function": finish["function"], "args": json.dumps(args), "kwargs": json.dumps(kwargs)}, finish


def _arguments(finish: Data) -> Data:
    """What a function or a tool was called with, taken out of the data."""
    if "function.name" in finish:
        return {name: finish.pop(name) for name in ("args", "kwargs") if name in finish}
    if _ARGUMENTS not in finish:
        return {}
    given = finish.pop(_ARGUMENTS)
    if not isinstance(given, dict):
        return {"args": [given]}
    placed = given.get("args")
    if not isinstance(placed, list):
        return {"kwargs": given}
    return {"args": placed, "kwargs": {name: value for name, value in given.items() if name != "args"}}


def _text_of(answer: object) -> str:
    """An answer as text: the texts of its blocks and messages, a line each; other blocks, as of a tool, as JSON."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, list):
        return "\n".join(map(_text_of, answer))
    if isinstance(answer, dict):
        spoken = next((answer[name] for name in _SPOKEN if isinstance(answer.get(name), (str, list))), None)
        calls = answer.get("tool_calls")
        found = [] if spoken is None else [_text_of(spoken)]
        if isinstance(calls, list):
            found += [json.dumps(call) for call in calls]
        if found:
            return "\n".join(filter(None, found))
    return json.dumps(answer)


def _line(record: Record, agent_id: str, event: str, data: object, time_us: int) -> Data:
    found: Data = {
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
