"""An event as generation B of Cylestio Monitor wrote it: schema 1.0, its names and attributes; a call as two of them.

Whatever of ours has no name there stays under its own, so that nothing is lost on the way.
"""

from __future__ import annotations

import os
import sys
from binascii import crc32
from datetime import datetime, timedelta, timezone

from skilld_monitor.said import gravest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skilld_monitor.scanning.findings import Finding

__all__ = ["ALERT", "LIFE", "RUN", "SCHEMA_VERSION", "envelopes", "host_facts", "process_facts", "session_of"]

SCHEMA_VERSION = "1.0"
RUN = "skilld.run"  # of the program, in the attributes of each line
ALERT = "skilld.alert"  # true in those of a line that tells what was found in a call
LIFE = {"monitoring_enabled": "monitoring.start", "monitoring_disabled": "monitoring.stop"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SAMPLE_CHARS = 100
_RUN_CHARS = 32

# Of an event, what generation B has beside the attributes, and of which kind it is there.
_ASIDE: dict[str, type] = {"event_category": str, "performance": dict, "model": dict, "security": dict}

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
_ARGUMENTS = {
    "messages": "gen_ai.input.messages",
    "model": "gen_ai.request.model",
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "stop_sequences": "gen_ai.request.stop_sequences",
    "system": "gen_ai.system_instructions",
}
_ANSWER = {
    "gen_ai.response.id": "llm.response.id",
    "gen_ai.response.finish_reasons": "llm.response.stop_reason",
    "gen_ai.output.messages": "llm.response.content",
    "gen_ai.usage.input_tokens": "llm.usage.input_tokens",
    "gen_ai.usage.output_tokens": "llm.usage.output_tokens",
    "gen_ai.tool.call.result": "tool.result",
}


def host_facts() -> dict[str, object]:
    """What generation B says of the host in each line."""
    host = os.uname()
    return {
        "env.os.type": host.sysname,
        "env.os.version": host.version,
        "env.machine.type": host.machine,
        "host.name": host.nodename,
        "os.type": host.sysname,
        "os.version": host.release,
    }


def process_facts() -> dict[str, object]:
    """What it says of the host and of this process."""
    python = sys.version.split()[0]
    return {
        **host_facts(),
        "env.python.version": python,
        "process.id": os.getpid(),
        "process.runtime.name": "python",
        "process.runtime.version": python,
    }


def session_of(run: str) -> str | None:
    """The session of a run where nobody named one: its id, spelled as a UUID. None where there is no run."""
    return "-".join((run[:8], run[8:12], run[12:16], run[16:20], run[20:])) if len(run) == _RUN_CHARS else None


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
    run: str = "",
    around: Mapping[str, object] | None = None,
    asked: Sequence[Finding] = (),
    answered: Sequence[Finding] = (),
) -> list[dict[str, object]]:
    """One line of an event, two of a span that has ended, of its beginning and of its end; before each of these one
    more of what was found in what was said, as generation B has them.

    Args:
        duration_ms: None for an event, as is `status`.
        run: what is in no trace, or of no session, is of one for all of the run.
        around: attributes of each line, such as `process_facts`.
        asked: what was found in what a model was asked; with samples.
        answered: likewise in its answer.

    """
    said = {"session.id": session or session_of(run), "user.id": user, "tags": list(tags) or None}
    stamp = {RUN: run} if run else {}
    context = {**(around or {}), **{key: value for key, value in said.items() if value is not None}}

    def line(named: str, when_us: float, weight: str, attributes: Mapping[str, object]) -> dict[str, object]:
        return {
            "schema_version": SCHEMA_VERSION,
            "timestamp": _timestamp(when_us),
            "trace_id": trace or run or None,
            "span_id": span,
            "parent_span_id": parent,
            "name": named,
            "level": weight,
            "attributes": {**context, **attributes, **stamp},
            "agent_id": agent,
            "channel": channel,
        }

    def alert(when_us: float, findings: Sequence[Finding]) -> list[dict[str, object]]:
        attributes = _alert(findings, facts.get("gen_ai.provider.name"), _timestamp(when_us))
        if not attributes:
            return []
        grave = attributes["security.alert_level"]
        weight = "SECURITY_ALERT" if grave == "dangerous" else "WARNING"
        return [line(f"security.content.{grave}", when_us, weight, attributes)]

    facts: dict[str, object] = dict(data) if isinstance(data, dict) else {} if data is None else {"data": data}
    facts.pop(ALERT, None)  # a program that says so would have its event passed over where lines are read
    if duration_ms is None:
        aside = {key: facts.pop(key) for key, kind in _ASIDE.items() if isinstance(facts.get(key), kind) and facts[key]}
        if name in LIFE:
            facts.setdefault("agent.id", agent)
        return [{**line(LIFE.get(name, name), time_us, level, facts), **aside}]
    begins, ends, fails = _NAMES.get(_operation(facts), (f"{name}.start", f"{name}.end", f"{name}.error"))
    asked_of = {theirs: facts[ours] for ours, theirs in _REQUEST.items() if ours in facts}
    if begins != "llm.call.start" and "llm.request.type" in asked_of:
        asked_of["gen_ai.operation.name"] = asked_of.pop("llm.request.type")  # there it is said of models alone
    if "llm.request.data" in asked_of:
        asked_of["llm.request.data"] = _request(facts)
    came = {**asked_of, **_answer(facts), **{key: value for key, value in facts.items() if key not in _KNOWN}}
    came["status"], came["duration_ms"] = status, round(duration_ms)
    ended_us = time_us + duration_ms * 1000
    if ends == "llm.call.finish":
        came["llm.response.duration_ms"] = round(duration_ms)
        asked_of["llm.request.timestamp"] = _timestamp(time_us)
        came["llm.response.timestamp"] = _timestamp(ended_us)
    has_failed = status == "error"
    if begins == "tool.execution":
        came["tool.status"] = "success" if status == "ok" else status
    return [
        *alert(time_us, asked),
        line(begins, time_us, "INFO", {**asked_of, **_grave(asked)}),
        *alert(ended_us, answered),
        line(
            fails if has_failed else ends, ended_us, "ERROR" if has_failed else level, {**came, **_described(answered)}
        ),
    ]


def _request(facts: Mapping[str, object]) -> dict[str, object]:
    """What was asked, all of it in one place, under the names of the SDKs' arguments."""
    return {theirs: facts[ours] for theirs, ours in _ARGUMENTS.items() if ours in facts}


def _grave(findings: Sequence[Finding]) -> dict[str, object]:
    """How grave the worst of it is, and by which rules: what they found is nobody's business."""
    worst = gravest(findings)
    if worst is None:
        return {}
    rules = dict.fromkeys(finding.rule for finding in findings if finding.category == worst.category)
    return {"security.alert_level": worst.alert, "security.keywords": list(rules)}


def _described(findings: Sequence[Finding]) -> dict[str, object]:
    worst = gravest(findings)
    if worst is None:
        return {}
    return {
        **_grave(findings),
        "security.category": worst.category,
        "security.severity": worst.severity,
        "security.description": f"{worst.category.replace('_', ' ')} by rule {worst.rule}",
    }


def _alert(findings: Sequence[Finding], vendor: object, when: str) -> dict[str, object]:
    worst = gravest(findings)
    if worst is None:
        return {}
    found = _described(findings)
    digest = crc32(f"{when}-{found['security.keywords']}".encode())
    return {
        ALERT: True,
        **({} if vendor is None else {"llm.vendor": vendor}),
        **found,
        "security.content_sample": worst.sample[:_SAMPLE_CHARS],
        "security.detection_time": when,
        "security.message_id": f"security-{digest:08x}",
    }


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
