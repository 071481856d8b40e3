"""The Messages API's stream, put together: API events in, model events out. No I/O.

An assembly passes message_start, then any number of blocks (start, deltas, stop; several may be open),
then message_delta, then message_stop. Events and deltas of unknown types are skipped, as the API's
versioning asks of clients; everything else out of order is a protocol error. Blocks keep every
field they came with, known or not, since they must go back unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from skill_actors.models.base import (
    BATCH,
    FAST,
    US,
    Block,
    BlockDelta,
    BlockDone,
    BlockStart,
    MessageDone,
    ModelEvent,
    Usage,
    UsageSoFar,
)
from skill_actors.models.failures import connection_failure, protocol_failure, stream_failure

__all__ = ["MessageAssembly", "count_usage"]

# With these a tool call may have been cut in the middle of its input; it is then no call at all.
_CUT_SHORT: Final = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})


class _OpenBlock:
    """A block of which more may come. Pieces are joined once, at the end."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.kind = str(block["type"])
        self._pieces: dict[str, list[str]] = {}

    def add(self, field: str, piece: str) -> None:
        self._pieces.setdefault(field, []).append(piece)

    def finish(self) -> bool:
        """Put the pieces into the block; False if it is a call whose input is not whole."""
        partial = "".join(self._pieces.pop("input", ()))
        for field, pieces in self._pieces.items():
            self.block[field] = str(self.block.get(field) or "") + "".join(pieces)
        if not partial:
            return True
        try:
            self.block["input"] = json.loads(partial)
        except ValueError:
            return False
        return isinstance(self.block["input"], dict)


class MessageAssembly:
    """One message. Feed it events in the order of the stream; after an error it is spent.

    Args:
        secret: text that must not appear in errors.

    """

    def __init__(self, *, secret: str = "") -> None:
        self.usage = Usage()
        self.done = False
        self._counted = Usage()
        self._summaries = Usage()
        self._last: Usage | None = None  # of the last sampling of an answer that had several
        self._secret = secret
        self._model: str | None = None
        self._id: str | None = None
        self._open: dict[int, _OpenBlock] = {}
        self._finished: dict[int, Block] = {}
        self._cut: int | None = None  # index of a call whose input is not whole
        self._ending: Mapping[str, Any] = {}

    def feed(self, event: object) -> Sequence[ModelEvent]:
        """Take the next event and return what it means, often nothing.

        Raises:
            ModelError: for the API's `error` event, and for events that make no sense here.

        """
        if not isinstance(event, dict):
            raise self._broken(f"an event is not an object: {str(event)[:80]!r}")
        kind = event.get("type")
        if kind == "error":
            raise stream_failure(event, self.usage, secret=self._secret)
        take = self._TAKERS.get(str(kind))
        if take is None:
            return ()
        if self._model is None and kind != "message_start":
            raise self._broken(f"{kind} came before message_start")
        try:
            return take(self, event)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._broken(f"{kind} is malformed: {type(error).__name__} {error}") from error

    def cut(self) -> Exception:
        """The error that it is to have no more events now."""
        return connection_failure("it was closed before the message was complete", self.usage)

    def _count(self, reported: object) -> None:
        """Take in a report; what summaries of the conversation cost is billed beside what it says at its top."""
        self._counted = count_usage(reported, self._counted)
        iterations = _iterations(reported)
        if iterations is not None:
            summaries = [count_usage(each, Usage()) for each in iterations if _is_summary(each)]
            answers = [count_usage(each, Usage()) for each in iterations if not _is_summary(each)]
            self._summaries = sum(summaries, Usage())
            self._last = answers[-1] if answers else None
        tier = self._counted.service_tier  # that of the whole call, in which its parts do not repeat it
        self.usage = replace(self._counted + self._summaries, service_tier=tier)

    def _broken(self, reason: str) -> Exception:
        return protocol_failure(reason, self.usage, secret=self._secret)

    def _message_start(self, event: Mapping[str, Any]) -> Sequence[ModelEvent]:
        if self._model is not None:
            raise ValueError("a second message begins")
        message = event["message"]
        self._model = str(message["model"])
        self._id = str(message["id"]) if message.get("id") else None
        self._count(message.get("usage"))
        if message.get("container"):  # else it comes at the end
            self._ending = {"container": message["container"]}
        return (UsageSoFar(self.usage),)

    def _block_start(self, event: Mapping[str, Any]) -> Sequence[ModelEvent]:
        index = int(event["index"])
        if index in self._open or index in self._finished:
            raise ValueError(f"block {index} begins twice")
        block = _OpenBlock(dict(event["content_block"]))
        self._open[index] = block
        started = BlockStart(index, block.kind)
        if block.kind in ("text", "thinking") and (text := block.block.get(block.kind)):
            return (started, _delta(index, block.kind, str(text)))
        return (started,)

    def _block_delta(self, event: Mapping[str, Any]) -> Sequence[ModelEvent]:
        index = int(event["index"])
        block = self._open[index]
        delta = event["delta"]
        match delta["type"]:
            case "text_delta":
                return self._piece(index, block, "text", delta["text"])
            case "thinking_delta":
                return self._piece(index, block, "thinking", delta["thinking"])
            case "input_json_delta":
                block.add("input", _text(delta["partial_json"]))
            case "signature_delta":
                block.add("signature", _text(delta["signature"]))
            case "compaction_delta":
                _compacted(block, delta)
            case "citations_delta":
                block.block["citations"] = [*(block.block.get("citations") or ()), delta["citation"]]
        return ()

    def _piece(self, index: int, block: _OpenBlock, field: str, piece: object) -> Sequence[ModelEvent]:
        text = _text(piece)
        block.add(field, text)
        return (_delta(index, field, text),) if text else ()

    def _block_stop(self, event: Mapping[str, Any]) -> Sequence[ModelEvent]:
        index = int(event["index"])
        block = self._open.pop(index)
        if not block.finish():
            self._cut = index
            return ()
        self._finished[index] = block.block
        return (BlockDone(index, block.block),)

    def _message_delta(self, event: Mapping[str, Any]) -> Sequence[ModelEvent]:
        delta = event.get("delta") or {}
        self._ending = {**self._ending, **{key: value for key, value in delta.items() if value is not None}}
        self._count(event.get("usage"))
        return ()

    def _message_stop(self, event: Mapping[str, Any]) -> Sequence[ModelEvent]:
        stop_reason = self._ending["stop_reason"]
        if stop_reason not in _CUT_SHORT and (self._open or self._cut is not None):
            index = self._cut if self._cut is not None else min(self._open)
            raise ValueError(f"the message ends with {stop_reason} but its block {index} is not whole")
        self.done = True
        container = self._ending.get("container")
        done = MessageDone(
            model=str(self._model),
            stop_reason=str(stop_reason),
            content=[self._finished[index] for index in sorted(self._finished)],
            usage=self.usage,
            context_tokens=(self._last or self._counted).total_tokens,
            container=str(container["id"]) if container else None,
            stop_details=self._ending.get("stop_details"),
            id=self._id,
        )
        return (done,)

    _TAKERS: Final[Mapping[str, Callable[[MessageAssembly, Mapping[str, Any]], Sequence[ModelEvent]]]] = {
        "message_start": _message_start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
    }


def _compacted(block: _OpenBlock, delta: Mapping[str, Any]) -> None:
    """A summary; null means that none could be made. What comes with it goes back unchanged."""
    if delta.get("content") is not None:
        block.add("content", _text(delta["content"]))
    for name, value in delta.items():
        if name not in ("type", "content") and value is not None:
            block.block[name] = value


def _iterations(reported: object) -> list[dict[str, Any]] | None:
    """The samplings that one answer took, where the report tells of each."""
    found = reported.get("iterations") if isinstance(reported, dict) else None
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise TypeError(f"iterations are not a list of reports: {str(found)[:80]!r}")
    return found


def _is_summary(iteration: Mapping[str, Any]) -> bool:
    return iteration.get("type") == "compaction"


def _delta(index: int, kind: str, text: str) -> BlockDelta:
    return BlockDelta(index, "thinking" if kind == "thinking" else "text", text)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(f"text expected, not {str(value)[:80]!r}")


def count_usage(reported: object, before: Usage) -> Usage:
    """Usage after a report. Counts are cumulative: each field that is there replaces what was known.

    Raises:
        TypeError: if the report is no object, nor null.
        ValueError: if a field of it is no count.

    """
    if reported is None:
        return before
    if not isinstance(reported, dict):
        raise TypeError(f"usage is not an object: {str(reported)[:80]!r}")
    lifetimes = reported.get("cache_creation") or {}
    one_hour = _count(lifetimes, "ephemeral_1h_input_tokens", before.cache_write_1h_tokens)
    on_server = reported.get("server_tool_use") or {}
    written = before.cache_write_5m_tokens + before.cache_write_1h_tokens
    written = _count(reported, "cache_creation_input_tokens", written)
    return Usage(
        input_tokens=_count(reported, "input_tokens", before.input_tokens),
        output_tokens=_count(reported, "output_tokens", before.output_tokens),
        cache_read_tokens=_count(reported, "cache_read_input_tokens", before.cache_read_tokens),
        cache_write_5m_tokens=_count(lifetimes, "ephemeral_5m_input_tokens", max(0, written - one_hour)),
        cache_write_1h_tokens=one_hour,
        web_search_requests=_count(on_server, "web_search_requests", before.web_search_requests),
        code_execution_requests=_count(on_server, "code_execution_requests", before.code_execution_requests),
        service_tier=_word(reported, "service_tier", BATCH, before.service_tier),
        inference_geo=_word(reported, "inference_geo", US, before.inference_geo),
        speed=_word(reported, "speed", FAST, before.speed),
    )


def _word(table: Mapping[str, Any], key: str, dear: str, before: str) -> str:
    """The word if it is the one that changes the price."""
    value = table.get(key)
    return before if value is None else dear if value == dear else ""


def _count(table: Mapping[str, Any], key: str, before: int) -> int:
    value = table.get(key)
    if value is None:
        return before
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is not a count: {str(value)[:80]!r}")
    return value
