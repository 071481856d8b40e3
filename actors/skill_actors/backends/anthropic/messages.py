"""Requests of the Messages API with hosted execution, and what comes back. Pure: send them by whatever you have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.backends.anthropic.container import CODE_EXECUTION, code_execution_tool
from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.backends.anthropic.results import CreatedFile, blocks_of, created_files, extract_text
from skill_actors.models.assembly import count_usage
from skill_actors.models.base import Block, Message, MessageDone, Usage

__all__ = ["PAUSED", "HostedResponse", "build_request", "complete", "parse_response", "response_of"]

PAUSED: Final = "pause_turn"
_SHOWN_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedResponse:
    """One answer.

    Args:
        id: the API's name for it, None where it was not told.
        container_id: where its code ran, None if the answer names none.
        expires_at: RFC 3339, a moving limit: a container that is used lasts longer.
        files: that its code made, each once.
        server_tool_calls: how often the API's own tools were called, by name.

    """

    stop_reason: str
    content: Sequence[Block]
    usage: Usage = field(default_factory=Usage)
    id: str | None = None
    model: str = ""
    container_id: str | None = None
    expires_at: str | None = None
    files: Sequence[CreatedFile] = ()
    server_tool_calls: Mapping[str, int] = field(default_factory=dict)
    stop_details: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """What it says, its text blocks joined as they came."""
        return extract_text(self.content)

    @property
    def is_paused(self) -> bool:
        """Whether the API waits to be asked to go on."""
        return self.stop_reason == PAUSED


def build_request(
    messages: Sequence[Message],
    container: Mapping[str, Any] | None = None,
    *,
    model: str,
    max_tokens: int = 8192,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    metadata: Mapping[str, Any] | None = None,
    code_execution: str = CODE_EXECUTION,
) -> dict[str, Any]:
    """The body for `POST /v1/messages`, with the code execution tool before the other `tools`.

    Args:
        container: of `container_config`; left out if it is empty.
        code_execution: type of the tool, where `tools` has none.

    """
    listed = [dict(tool) for tool in tools]
    if not any(str(tool.get("type", "")).startswith("code_execution_") for tool in listed):
        listed.insert(0, code_execution_tool(code_execution))
    request: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "messages": list(messages), "tools": listed}
    if container:
        request["container"] = dict(container)
    if system:
        request["system"] = system
    if metadata:
        request["metadata"] = dict(metadata)
    return request


def parse_response(response: object) -> HostedResponse:
    """Read an answer: a body of the API as JSON, as text, or as an object of its SDK.

    Raises:
        HostedError: "anthropic_api_error", if it is an error of the API, in whatever form, or no whole answer.

    """
    body = _body(response)
    if isinstance(body, MessageDone):
        return response_of(body)
    if body.get("type") == "error" or "error" in body:
        raise _told(body)
    stop_reason, content = body.get("stop_reason"), body.get("content")
    if not isinstance(stop_reason, str) or not stop_reason:
        raise _unreadable("it has no stop_reason, so nobody can tell whether it is whole")
    if not isinstance(content, list | tuple) or not all(
        isinstance(block, Mapping) and isinstance(block.get("type"), str) for block in content
    ):
        raise _unreadable("its content is not a list of blocks")
    container, details = body.get("container"), body.get("stop_details")
    is_known = isinstance(container, Mapping) and isinstance(container.get("id"), str)
    return HostedResponse(
        stop_reason=stop_reason,
        content=[dict(block) for block in content],
        usage=_usage(body.get("usage")),
        id=str(body["id"]) if body.get("id") else None,
        model=str(body.get("model") or ""),
        container_id=container["id"] if is_known else None,
        expires_at=container.get("expires_at") if is_known else None,
        files=created_files(content),
        server_tool_calls=_server_calls(content),
        stop_details=dict(details) if isinstance(details, Mapping) else None,
    )


def response_of(answer: MessageDone) -> HostedResponse:
    """The answer of a `Model`."""
    return HostedResponse(
        stop_reason=answer.stop_reason,
        content=list(answer.content),
        usage=answer.usage,
        id=getattr(answer, "id", None),
        model=answer.model,
        container_id=answer.container,
        files=created_files(answer.content),
        server_tool_calls=_server_calls(answer.content),
        stop_details=answer.stop_details,
    )


def complete(response: object) -> bool:
    """Whether the turn has ended with this answer, a `HostedResponse` or what `parse_response` takes."""
    known = response if isinstance(response, HostedResponse) else parse_response(response)
    return not known.is_paused


def _body(response: object) -> Any:
    if isinstance(response, MessageDone):
        return response
    dump = getattr(response, "model_dump", None)
    body = dump(mode="json", exclude_none=True, warnings=False) if callable(dump) else response
    if isinstance(body, str | bytes):
        try:
            body = json.loads(body)
        except ValueError:
            raise _unreadable(f"it begins with {body[:80]!r}") from None
    if not isinstance(body, Mapping):
        raise _unreadable(f"it is {type(body).__name__}, not an object")
    return body


def _told(body: Mapping[str, Any]) -> HostedError:
    """The error that an API, or what stands before it, answered with: an object with a type, or just a text."""
    error = body.get("error")
    told = error if isinstance(error, Mapping) else {"message": error}
    kind, message = str(told.get("type") or "error"), str(told.get("message") or "no reason given")[:_SHOWN_CHARS]
    details = {"api_type": kind, "api_message": message, "request_id": body.get("request_id")}
    if isinstance(more := told.get("details"), Mapping):
        details["error_code"] = more.get("error_code")
    return HostedError(
        "anthropic_api_error",
        f"the API answered with {kind}: {message}",
        details={name: value for name, value in details.items() if value is not None},
        retryable=kind in ("api_error", "overloaded_error", "rate_limit_error", "timeout_error", "conflict_error"),
    )


def _unreadable(why: str) -> HostedError:
    return HostedError("anthropic_api_error", f"the answer cannot be used: {why}", details={"reason": why})


def _usage(reported: object) -> Usage:
    try:
        return count_usage(reported, Usage())
    except (TypeError, ValueError, AttributeError) as error:
        raise _unreadable(str(error)) from None


def _server_calls(content: object) -> dict[str, int]:
    calls = Counter(str(block.get("name")) for block in blocks_of(content) if block.get("type") == "server_tool_use")
    return dict(calls)
