"""Generation B's `events.factories`: dictionaries in its envelope. `api_client.send_event_to_api` reports one."""

from __future__ import annotations

from skilld_monitor.compat.utils.event_utils import create_event_dict, format_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any, Optional, Union

    Event = dict[str, Any]
    When = Optional[Union[datetime, str]]

__all__ = [
    "create_agent_shutdown_event",
    "create_agent_startup_event",
    "create_error_event",
    "create_llm_request_event",
    "create_llm_response_event",
    "create_system_event",
    "create_tool_call_event",
    "create_tool_result_event",
]


def create_llm_request_event(
    agent_id: str,
    provider: str,
    model: str,
    prompt: object,
    timestamp: When = None,
    request_timestamp: When = None,
    trace_id: str | None = None,
    attributes: dict[str, Any] | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`llm.request`: what is asked of a model. More attributes go below `llm.request.`, `attributes` as they are."""
    asked = "timestamp" if request_timestamp is None else "request_timestamp"
    said = {
        **(attributes or {}),
        "llm.provider": provider,
        "llm.vendor": provider,
        "llm.model": model,
        "llm.request.prompt": prompt,
        f"llm.request.{asked}": format_timestamp(timestamp if request_timestamp is None else request_timestamp),
    }
    return _event("llm.request", agent_id, said, "llm.request", more, timestamp, trace_id, span_id)


def create_llm_response_event(
    agent_id: str,
    provider: str,
    model: str,
    response: object,
    prompt: object = None,
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`llm.response`: what a model answered. More attributes go below `llm.response.`."""
    attributes = {
        "llm.vendor": provider,
        "llm.model": model,
        "llm.response.content": response,
        "llm.response.timestamp": format_timestamp(timestamp),
    }
    if prompt is not None:
        attributes["llm.request.prompt"] = prompt
    return _event("llm.response", agent_id, attributes, "llm.response", more, timestamp, trace_id, span_id)


def create_tool_call_event(
    agent_id: str,
    tool_name: str,
    inputs: dict[str, Any],
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`tool.call`: a tool is about to run. More attributes go below `tool.`."""
    attributes = {
        "tool.name": tool_name,
        "tool.call.inputs": inputs,
        "tool.call.timestamp": format_timestamp(timestamp),
    }
    return _event("tool.call", agent_id, attributes, "tool", more, timestamp, trace_id, span_id)


def create_tool_result_event(
    agent_id: str,
    tool_name: str,
    inputs: dict[str, Any],
    output: object,
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`tool.result`: what a tool gave. More attributes go below `tool.`."""
    attributes = {
        "tool.name": tool_name,
        "tool.call.inputs": inputs,
        "tool.result.output": output,
        "tool.result.timestamp": format_timestamp(timestamp),
    }
    return _event("tool.result", agent_id, attributes, "tool", more, timestamp, trace_id, span_id)


def create_system_event(
    agent_id: str,
    event_type: str,
    data: dict[str, Any],
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    level: str = "INFO",
    **more: object,
) -> Event:
    """`system.EVENT_TYPE`. More attributes go below `system.`."""
    attributes = {"system.type": event_type, **data, "system.timestamp": format_timestamp(timestamp)}
    name = f"system.{event_type}"
    return _event(name, agent_id, attributes, "system", more, timestamp, trace_id, span_id, level)


def create_agent_startup_event(
    agent_id: str,
    version: str | None = None,
    configuration: dict[str, Any] | None = None,
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`agent.startup`. More attributes go below `agent.`."""
    given = {"agent.version": version, "agent.configuration": configuration}
    attributes = {**_known(given), "agent.startup.timestamp": format_timestamp(timestamp)}
    return _event("agent.startup", agent_id, attributes, "agent", more, timestamp, trace_id, span_id)


def create_agent_shutdown_event(
    agent_id: str,
    reason: str | None = None,
    metrics: dict[str, Any] | None = None,
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`agent.shutdown`. More attributes go below `agent.`."""
    given = {"agent.shutdown.reason": reason, "agent.metrics": metrics}
    attributes = {**_known(given), "agent.shutdown.timestamp": format_timestamp(timestamp)}
    return _event("agent.shutdown", agent_id, attributes, "agent", more, timestamp, trace_id, span_id)


def create_error_event(
    agent_id: str,
    error_type: str,
    message: str,
    stack_trace: str | None = None,
    timestamp: When = None,
    trace_id: str | None = None,
    span_id: str | None = None,
    **more: object,
) -> Event:
    """`error`, at level ERROR. More attributes go below `error.`."""
    given = {"error.type": error_type, "error.message": message, "error.stack_trace": stack_trace}
    attributes = {**_known(given), "error.timestamp": format_timestamp(timestamp)}
    return _event("error", agent_id, attributes, "error", more, timestamp, trace_id, span_id, "ERROR")


def _known(given: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in given.items() if value is not None}


def _event(
    name: str,
    agent_id: str,
    attributes: dict[str, Any],
    below: str,
    more: dict[str, object],
    timestamp: When,
    trace_id: str | None,
    span_id: str | None,
    level: str = "INFO",
) -> Event:
    parent = more.pop("parent_span_id", None)
    return create_event_dict(
        name,
        {**attributes, **{f"{below}.{key}": value for key, value in more.items()}},
        level,
        agent_id,
        timestamp,
        trace_id,
        span_id,
        None if parent is None else str(parent),
    )
