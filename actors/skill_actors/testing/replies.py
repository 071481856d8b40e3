"""What a fake model answers: small values, the same for the HTTP server and for the scripted model.

Reply([Text("Let me look."), ToolUse("bash_tool", {"command": "ls"})])
Reply([Text("a long text")], delay_s=0.05, fail=Cut(after=3))
HttpError(429, retry_after_s=1)
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from skill_actors.models.base import Usage

__all__ = [
    "Answer",
    "CodeEdit",
    "CodeExecution",
    "Compaction",
    "Cut",
    "Failure",
    "Garbage",
    "HangUp",
    "HttpError",
    "Part",
    "RedactedThinking",
    "Reply",
    "Respond",
    "ServerToolUse",
    "Stall",
    "StreamError",
    "Text",
    "Thinking",
    "ToolUse",
    "Waitable",
    "Whole",
    "parse_answer",
]


class Waitable(Protocol):
    """A trio.Event, or anything else to wait for."""

    async def wait(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """Without a signature it gets one that the fake server will know again."""

    thinking: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class RedactedThinking:
    data: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a client tool. `raw_json` is streamed in place of `input`, to show input that is cut or broken."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    raw_json: str | None = None


@dataclass(frozen=True, slots=True)
class ServerToolUse:
    """A call of a tool that the API runs itself."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """Any block that arrives in one piece, such as the result of a server tool."""

    block: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Compaction:
    """The summary that the API puts in place of all that was said before; None where none could be made."""

    content: str | None


Half = Literal["call", "result"]


@dataclass(frozen=True, slots=True)
class CodeExecution:
    """A command that the API runs in its container: the call and its result, and the files it makes, by name.

    Args:
        error: the API's code in place of a result, such as "execution_time_exceeded".
        half: "call" leaves the result out, for a turn that pauses; "result" gives that of the call that waits.

    """

    command: str = ""
    stdout: str = ""
    stderr: str = ""
    return_code: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str | None = None
    half: Half | None = None
    id: str | None = None

    @property
    def input(self) -> Mapping[str, Any]:
        return {"command": self.command}


@dataclass(frozen=True, slots=True)
class CodeEdit:
    """A call of the API's text editor in its container, and its result; `error` and `half` as for CodeExecution."""

    command: Literal["view", "create", "str_replace"]
    path: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    error: str | None = None
    half: Half | None = None
    id: str | None = None

    @property
    def input(self) -> Mapping[str, Any]:
        return {"command": self.command, "path": self.path, **self.fields}

    @property
    def result(self) -> dict[str, Any]:
        kind = f"text_editor_code_execution_{self.command}_result"
        match self.command:
            case "view":
                lines = self.text.count("\n") + 1
                return {"type": kind, "file_type": "text", "content": self.text, "num_lines": lines, "start_line": 1}
            case "create":
                return {"type": kind, "is_file_update": False}
            case "str_replace":
                return {"type": kind, "lines": self.text.splitlines()}


Part = Text | Thinking | RedactedThinking | ToolUse | ServerToolUse | Whole | Compaction | CodeExecution | CodeEdit


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamError:
    """An `error` event in place of the delta number `after` (from 0), and the end of the response."""

    after: int = 0
    type: str = "overloaded_error"
    message: str = "Overloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """Nothing more after `after` deltas, for ever; the connection stays open."""

    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The connection is closed after `after` deltas, in the middle of the next event or between events."""

    after: int = 0
    mid_event: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """`text` goes out as it is after `after` deltas, then the response ends as if all were well."""

    after: int = 0
    text: str = 'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'


Failure = StreamError | Stall | Cut | Garbage


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the model.

    Args:
        blocks: what it says, in order.
        stop_reason: None means tool_use if the last block is a ToolUse, else end_turn.
        usage: None means counted by the meter, which then also keeps the answer within its limits; see `metering`.
        iterations: the samplings that the answer took, in the API's words, where there were several.
        context_management: what the API did about the context, in its words.
        container: id of the one it ran in, or its whole description; None where `CodeExecution` makes one.
        delay_s: wait before each delta; `first_delay_s`: wait before the first event.
        chunk_chars: length of a delta; odd, so that chunks end in the middle of words and escapes.
        stamped: the server puts time.monotonic_ns() for @NOW@ in a delta as it sends it; with "@NOW@ " as text and
            6 chunk_chars a reader on the same machine can tell how old each delta is.
        holds: wait for the event before the delta of that number (from 0, over the whole message).
        fail: what goes wrong on the way.

    """

    blocks: Sequence[Part] = ()
    stop_reason: str | None = None
    stop_details: Mapping[str, Any] | None = None
    usage: Usage | None = None
    iterations: Sequence[Mapping[str, Any]] = ()
    context_management: Mapping[str, Any] | None = None
    model: str | None = None
    container: str | Mapping[str, Any] | None = None
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    chunk_chars: int = 7
    stamped: bool = False
    holds: Mapping[int, Waitable] = field(default_factory=dict)
    fail: Failure | None = None


@dataclass(frozen=True, slots=True)
class HttpError:
    """An answer that is no message. `text`, where given, is the whole body (a proxy's page, say); `details` are the
    error's."""

    status: int
    type: str | None = None
    message: str = "scripted failure"
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    delay_s: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is closed without any answer."""


Answer = Reply | HttpError | HangUp
Respond = Callable[[Mapping[str, Any]], Answer]

_PARTS: Mapping[str, type[Any]] = {
    "text": Text,
    "thinking": Thinking,
    "redacted_thinking": RedactedThinking,
    "tool_use": ToolUse,
    "server_tool_use": ServerToolUse,
    "whole": Whole,
    "compaction": Compaction,
    "code_execution": CodeExecution,
    "code_edit": CodeEdit,
}
_FAILURES: Mapping[str, type[Any]] = {"stream_error": StreamError, "stall": Stall, "cut": Cut, "garbage": Garbage}


def parse_answer(data: Mapping[str, Any]) -> Answer:
    """An answer written as JSON: the fields of Reply, HttpError ({"status": 429, ...}) or HangUp ({"hang_up": true}).

    Blocks name their kind: {"kind": "text", "text": "..."}, {"kind": "tool_use", "name": "...", "input": {}}; so do
    failures: {"kind": "cut", "after": 3}. Files of a code_execution are base64, by name.

    Raises:
        ValueError: if a kind or a field is unknown, or one is missing.

    """
    try:
        if data.get("hang_up"):
            return HangUp()
        if "status" in data:
            return HttpError(**data)
        fields = dict(data)
        fields["blocks"] = [_of_kind(part, _PARTS) for part in fields.get("blocks", ())]
        if usage := fields.get("usage"):
            fields["usage"] = Usage(**usage)
        if fail := fields.get("fail"):
            fields["fail"] = _of_kind(fail, _FAILURES)
        return Reply(**fields)
    except TypeError as error:
        raise ValueError(f"a scripted answer is not understood: {error}") from error


def _of_kind(data: Mapping[str, Any], kinds: Mapping[str, type[Any]]) -> Any:
    kind = str(data.get("kind"))
    if kind not in kinds:
        raise ValueError(f"a scripted answer names the kind {kind!r}; known are {', '.join(sorted(kinds))}")
    fields = {name: value for name, value in data.items() if name != "kind"}
    if kind == "code_execution":
        fields["files"] = {name: base64.b64decode(text) for name, text in fields.pop("files", {}).items()}
    return kinds[kind](**fields)
