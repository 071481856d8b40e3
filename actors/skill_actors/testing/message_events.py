"""The event sequence of the Messages API for a scripted reply, as the API documents it. Pure.

The steps of a reply are the events in order, and between them waits and failures; the HTTP server writes them out, the
scripted model feeds them to the same assembly that reads the real stream.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from skill_actors.models.base import Block, Usage
from skill_actors.testing.replies import (
    CodeEdit,
    CodeExecution,
    Compaction,
    Failure,
    Part,
    RedactedThinking,
    Reply,
    ServerToolUse,
    Text,
    Thinking,
    ToolUse,
    Waitable,
    Whole,
)
from skill_actors.testing.tokens import block_tokens

__all__ = [
    "Event",
    "Fail",
    "Hold",
    "Sleep",
    "Step",
    "blocks_of",
    "error_body",
    "message_of",
    "reported_usage",
    "sign",
    "steps",
]

Event = dict[str, Any]

# Block fields that are streamed by deltas, and the delta's type and field.
_STREAMED = {
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "signature": ("signature_delta", "signature"),
    "input": ("input_json_delta", "partial_json"),
}


_ID_CHARS = 20


@dataclass(frozen=True, slots=True)
class Sleep:
    delay_s: float


@dataclass(frozen=True, slots=True)
class Hold:
    until: Waitable


@dataclass(frozen=True, slots=True)
class Fail:
    """What comes next goes wrong; `cut` is the event that is sent only in part."""

    failure: Failure
    cut: Event


Step = Event | Sleep | Hold | Fail


def steps(reply: Reply, request: Mapping[str, Any]) -> Iterator[Step]:
    """All that happens in a streamed answer, in order. A Fail is the last step where there is one."""
    if reply.first_delay_s:
        yield Sleep(reply.first_delay_s)
    deltas = 0
    for event in _events(reply, request):
        is_delta = event["type"] == "content_block_delta"
        if is_delta or event["type"] == "message_delta":
            if reply.fail is not None and (deltas == reply.fail.after or not is_delta):
                yield Fail(reply.fail, event)
                return
            if is_delta and deltas in reply.holds:
                yield Hold(reply.holds[deltas])
            if is_delta and reply.delay_s:
                yield Sleep(reply.delay_s)
            deltas += is_delta
        yield event


def message_of(reply: Reply, request: Mapping[str, Any]) -> Event:
    """The answer to a request without `stream`."""
    content, seed = _content(reply, request)
    return {
        **_empty_message(reply, request, seed),
        "content": content,
        "stop_reason": _stop_reason(reply),
        "stop_details": reply.stop_details,
        "container": _container(reply),
        "usage": {**reported_usage(_counted(reply, content)), **_iterations(reply)},
        **_management(reply),
    }


def blocks_of(reply: Reply) -> list[Block]:
    """The finished blocks of an answer but for their ids, which come from the request."""
    return [_block(part, "0" * _ID_CHARS) for part in reply.blocks]


def error_body(kind: str, message: str) -> Event:
    """The body of an error, in a response and in a stream."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def sign(thinking: str) -> str:
    """The signature that the fake API puts under thinking, and knows again."""
    return "fake" + base64.b64encode(hashlib.sha256(thinking.encode("utf-8", "replace")).digest()).decode("ascii")


def _events(reply: Reply, request: Mapping[str, Any]) -> Iterator[Event]:
    content, seed = _content(reply, request)
    usage = _counted(reply, content)
    start = {**_empty_message(reply, request, seed), "usage": reported_usage(usage, output_tokens=1)}
    yield {"type": "message_start", "message": start}
    for index, (part, block) in enumerate(zip(reply.blocks, content, strict=True)):
        yield from _block_events(index, part, block, reply.chunk_chars)
    delta: Event = {"stop_reason": _stop_reason(reply), "stop_sequence": None}
    if reply.stop_details is not None:
        delta["stop_details"] = dict(reply.stop_details)
    if reply.container is not None:
        delta["container"] = _container(reply)
    cumulative = {**reported_usage(usage), **_iterations(reply)}
    del cumulative["cache_creation"], cumulative["service_tier"]
    yield {"type": "message_delta", "delta": delta, "usage": cumulative, **_management(reply)}
    yield {"type": "message_stop"}


def _block_events(index: int, part: Part, block: Block, chunk_chars: int) -> Iterator[Event]:
    if isinstance(part, Compaction):
        yield from _summary_events(index, block)
        return
    streamed = () if isinstance(part, Whole | RedactedThinking) else [name for name in _STREAMED if name in block]
    empty = {name: {} if name == "input" else "" for name in streamed}
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
    if index == 0:
        yield {"type": "ping"}
    for name in streamed:
        kind, field = _STREAMED[name]
        for chunk in _chunks(name, part, block, chunk_chars):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: chunk}}
    yield {"type": "content_block_stop", "index": index}


def _summary_events(index: int, block: Block) -> Iterator[Event]:
    """A summary comes in one piece, however long it is."""
    yield {"type": "content_block_start", "index": index, "content_block": {"type": "compaction", "content": None}}
    delta = {"type": "compaction_delta", "content": block["content"], "encrypted_content": None}
    yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _chunks(name: str, part: Part, block: Block, chunk_chars: int) -> Sequence[str]:
    if name == "signature":
        return [block[name]]
    if name != "input":
        return _cut(block[name], chunk_chars)
    raw = part.raw_json if isinstance(part, ToolUse) else None
    # The API begins the input with an empty piece, and sends nothing more for an input without fields.
    return ["", *_cut(raw if raw is not None else json.dumps(block[name]) if block[name] else "", chunk_chars)]


def _cut(text: str, chunk_chars: int) -> list[str]:
    return [text[start : start + chunk_chars] for start in range(0, len(text), chunk_chars)]


def _content(reply: Reply, request: Mapping[str, Any]) -> tuple[list[Block], str]:
    """The finished blocks, and a seed for ids: the same request gets the same ids, another one others."""
    seed = hashlib.sha256(json.dumps([request.get("messages"), repr(reply.blocks)]).encode()).hexdigest()
    return [_block(part, f"{seed[: _ID_CHARS - 2]}{index:02}") for index, part in enumerate(reply.blocks)], seed


def _block(part: Part, id: str) -> Block:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Thinking(thinking, signature):
            known = signature if signature is not None else sign(thinking)
            return {"type": "thinking", "thinking": thinking, "signature": known}
        case RedactedThinking(data):
            return {"type": "redacted_thinking", "data": data}
        case ToolUse():
            return {"type": "tool_use", "id": part.id or f"toolu_{id}", "name": part.name, "input": dict(part.input)}
        case ServerToolUse():
            fields = {"id": part.id or f"srvtoolu_{id}", "name": part.name, "input": dict(part.input)}
            return {"type": "server_tool_use", **fields}
        case Whole(block):
            return dict(block)
        case Compaction(summary):
            return {"type": "compaction", "content": summary}
        case CodeExecution() | CodeEdit():
            raise TypeError(f"{type(part).__name__} is played by the hosted side before events are made of it")
        case _:
            assert_never(part)


def _empty_message(reply: Reply, request: Mapping[str, Any], seed: str) -> Event:
    return {
        "id": f"msg_{seed[:24]}",
        "type": "message",
        "role": "assistant",
        "model": reply.model or request.get("model", "fake"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(reply: Reply) -> str:
    if reply.stop_reason is not None:
        return reply.stop_reason
    return "tool_use" if reply.blocks and isinstance(reply.blocks[-1], ToolUse) else "end_turn"


def _container(reply: Reply) -> Event | None:
    if isinstance(reply.container, Mapping):
        return dict(reply.container)
    return {"id": reply.container, "expires_at": "2099-01-01T00:00:00Z"} if reply.container else None


def _counted(reply: Reply, content: Sequence[Block]) -> Usage:
    """The usage that the reply has, by itself or from the meter; without either only what it says is counted."""
    return reply.usage or Usage(output_tokens=sum(block_tokens(block) for block in content))


def _iterations(reply: Reply) -> Event:
    return {"iterations": [dict(each) for each in reply.iterations]} if reply.iterations else {}


def _management(reply: Reply) -> Event:
    return {} if reply.context_management is None else {"context_management": dict(reply.context_management)}


def reported_usage(usage: Usage, *, output_tokens: int | None = None) -> Event:
    """Usage in the API's words. `output_tokens`: those of the moment; what tools of the server did comes at the end."""
    reported: Event = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens if output_tokens is None else output_tokens,
        "service_tier": usage.service_tier or "standard",
    }
    reported |= {name: word for name in ("inference_geo", "speed") if (word := getattr(usage, name))}
    on_server = {"web_search_requests": usage.web_search_requests}
    if usage.code_execution_requests:
        on_server["code_execution_requests"] = usage.code_execution_requests
    if any(on_server.values()) and output_tokens is None:
        reported["server_tool_use"] = on_server
    return reported
