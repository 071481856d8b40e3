"""Calls of models, tools and agents under OpenTelemetry's names for generative AI, for dashboards that know them.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ and .../gen-ai/mcp/, with dots and units written as
Prometheus has them. A request of MCP counts for who asks or for who is asked, by whose span it is; a tool that does its
work by one counts as a tool, and as the request for as long as that took.

Both the daemon's own calls and those that programs report. What programs report may name anything: only so many names
become labels, and the rest are `other`. So do only so many sets of them: a few names of each kind make a great many.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram

from skill_actors.telemetry import Measurements
from skilld.counted_histogram import CountedHistogram
from skilld.monitor.batch import MonitorEvent, as_name
from skilld.monitor.calls_below import Calls, CallsBelow
from skilld.monitor.usage import call_use, is_tool, mcp_side, operation_of, request_s

__all__ = ["GenAiMetrics", "Names"]

# The bounds that the conventions ask for.
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
_SECOND_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
_LONG_BUCKETS: Final = tuple(0.1 * 2**power for power in range(13))
_WORKFLOW_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_MCP_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_CALL_BUCKETS: Final = tuple(2**power for power in range(8))
_INPUTS: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_MODEL: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
_OPERATION: Final = "chat"
_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
_CHUNKS: Final = "skilld.time_per_output_chunk"
_MOST_CHUNKS: Final = 1_000_000
_SESSIONS: Final = ("mcp.session", "mcp.client.session", "mcp.server.session")  # ours, and Traceloop's
_OTHER: Final = "other"
_SETS_PER_NAME: Final = 4  # of each histogram: a model with some ways to fail


class Names:
    """The names that may be labels: the first so many of each kind; all others are `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, set[str]] = {}

    def label(self, kind: str, name: object) -> str:
        """The name as a label, which is on one line of a page in UTF-8; empty for what is none."""
        name = as_name(name, 100)
        if not name:
            return ""
        known = self._known.setdefault(kind, set())
        if name in known:
            return name
        if len(known) >= self._most:
            return _OTHER
        known.add(name)
        return name


class GenAiMetrics:
    """Durations and tokens of calls of models, of tools, of agents and of MCP's servers.

    Args:
        max_names: of each kind that reports may make labels of; four times as many sets of labels of a histogram.

    """

    def __init__(self, registry: CollectorRegistry, max_names: int = 50) -> None:
        self._names = Names(max_names)
        self._most_sets = _SETS_PER_NAME * max_names
        self._sets: dict[Hashable, set[tuple[str, ...]]] = {}
        self._calls = CallsBelow()
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a model call.",
            (*_MODEL, "gen_ai_token_type"),
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )

        def seconds(name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> Histogram:
            return Histogram(f"{name}_seconds", text, (*labels, "error_type"), buckets=bounds, registry=registry)

        self._duration = seconds(
            "gen_ai_client_operation_duration", "How long a model call took.", _MODEL, _SECOND_BUCKETS
        )
        self._first_chunk = seconds(
            "gen_ai_client_operation_time_to_first_chunk", "When its first part had come.", _MODEL, _SECOND_BUCKETS
        )
        self._chunks = CountedHistogram(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "From one part of an answer to the next.",
            (*_MODEL, "error_type"),
            _SECOND_BUCKETS,
            registry,
        )
        self._tools = seconds(
            "gen_ai_execute_tool_duration", "How long a tool took.", ("gen_ai_tool_name",), _SECOND_BUCKETS
        )
        self._agents = seconds(
            "gen_ai_invoke_agent_duration", "How long an agent took.", ("gen_ai_agent_name",), _LONG_BUCKETS
        )
        self._workflows = seconds(
            "gen_ai_workflow_duration", "How long a workflow took.", ("gen_ai_workflow_name",), _WORKFLOW_BUCKETS
        )

        def calls(name: str, text: str) -> Histogram:
            return Histogram(name, text, ("gen_ai_agent_name",), buckets=_CALL_BUCKETS, registry=registry)

        self._agent_models = calls("gen_ai_invoke_agent_inference_calls", "Models that an agent called.")
        self._agent_tools = calls("gen_ai_invoke_agent_tool_calls", "Tools that an agent called.")
        request, session = ("mcp_method_name", "gen_ai_tool_name"), ("mcp_protocol_version",)
        self._mcp = {
            "client": seconds(
                "mcp_client_operation_duration", "How long a request to an MCP server took.", request, _MCP_BUCKETS
            ),
            "server": seconds(
                "mcp_server_operation_duration", "How long an MCP server took over a request.", request, _MCP_BUCKETS
            ),
        }
        self._mcp_sessions = {
            side: seconds(
                f"mcp_{side}_session_duration", f"How long a session of an MCP {side} lasted.", session, _MCP_BUCKETS
            )
            for side in ("client", "server")
        }

    def called(self, model: str, facts: Measurements) -> None:
        """A model of the daemon's own has answered; `model` is a name that may be a label."""
        about = (_OPERATION, "offline" if model == "offline" else "anthropic", model, model)
        self._duration.labels(*about, "").observe(facts.get("duration", 0.0))
        self._tokens.labels(*about, "input").observe(sum(facts.get(name, 0) for name in _INPUTS))
        self._tokens.labels(*about, "output").observe(facts.get("output_tokens", 0))

    def reported(self, event: MonitorEvent) -> None:
        """A program has reported a span; what is none of a model, a tool, an agent or MCP is passed over."""
        data = event.data
        if event.duration_us is None or type(data) is not dict:
            return
        took_s, failed, calls = event.duration_us / 1e6, self._failure(event), self._calls.ended(event)
        side = mcp_side(event)
        if side is not None:
            self._reported_request(data, side, request_s(event), failed)
            if not is_tool(event):
                return
        elif event.name in _SESSIONS:
            self._reported_session(event, data, took_s, failed)
            return
        match operation_of(event):
            case "execute_tool":
                tool = self._names.label("tool", data.get("gen_ai.tool.name"))
                self._observe(self._tools, (tool, failed), took_s)
            case "invoke_agent":
                self._reported_agent(data, calls, took_s, failed)
            case "invoke_workflow":
                name = self._names.label("workflow", data.get("gen_ai.workflow.name"))
                self._observe(self._workflows, (name, failed), took_s)
            case operation:
                self._reported_call(event, data, operation, took_s, failed)

    def _reported_request(self, data: Mapping[str, Any], side: str, took_s: float, failed: str) -> None:
        method = self._names.label("method", data["mcp.method.name"])
        tool = self._names.label("tool", data.get("gen_ai.tool.name"))
        self._observe(self._mcp[side], (method, tool, failed), took_s)

    def _reported_session(self, event: MonitorEvent, data: Mapping[str, Any], took_s: float, failed: str) -> None:
        is_server = event.name == "mcp.server.session" or data.get("otel.kind") == "server"
        version = self._names.label("protocol", data.get("mcp.protocol.version"))
        self._observe(self._mcp_sessions["server" if is_server else "client"], (version, failed), took_s)

    def _reported_agent(self, data: Mapping[str, Any], calls: Calls, took_s: float, failed: str) -> None:
        agent = self._names.label("agent", data.get("gen_ai.agent.name"))
        self._observe(self._agents, (agent, failed), took_s)
        if data.get("otel.kind") != "client":  # what one elsewhere calls is not seen here
            self._observe(self._agent_models, (agent,), calls.models)
            self._observe(self._agent_tools, (agent,), calls.tools + calls.requests)

    def _reported_call(
        self, event: MonitorEvent, data: Mapping[str, Any], operation: str, took_s: float, failed: str
    ) -> None:
        use = call_use(event)
        if use is None:
            return
        label = self._names.label
        about = (
            label("operation", operation or _OPERATION),
            label("provider", data.get("gen_ai.provider.name") or data.get("gen_ai.system")),
            label("model", use.model),
            label("model", use.answered),
        )
        self._observe(self._duration, (*about, failed), took_s)
        for kind, tokens in (("input", use.input_tokens), ("output", use.output_tokens)):
            if tokens is not None:
                self._observe(self._tokens, (*about, kind), tokens)
        first_s = data.get(_FIRST_CHUNK)
        if isinstance(first_s, (int, float)) and 0 <= first_s < 1e6:
            self._observe(self._first_chunk, (*about, failed), first_s)
        chunks = _read_chunks(data.get(_CHUNKS))
        if chunks is not None:
            self._chunks.add(self._bounded(self._chunks, (*about, failed)), *chunks)

    def _observe(self, histogram: Histogram, labels: tuple[str, ...], value: float) -> None:
        histogram.labels(*self._bounded(histogram, labels)).observe(value)

    def _bounded(self, histogram: Hashable, labels: tuple[str, ...]) -> tuple[str, ...]:
        known = self._sets.setdefault(histogram, set())
        if labels not in known:
            if len(known) >= self._most_sets:
                return (_OTHER,) * len(labels)
            known.add(labels)
        return labels

    def _failure(self, event: MonitorEvent) -> str:
        if event.status in (None, "ok"):
            return ""
        return self._names.label("error", event.data.get("error.type")) or str(event.status)


def _read_chunks(said: Any) -> tuple[list[int], float] | None:
    """The client's count of a stream's parts by how long each took, and the sum; None for anything else."""
    counts, sum_s = (said.get("counts"), said.get("sum_s")) if isinstance(said, dict) else (None, None)
    if not isinstance(counts, list) or len(counts) > len(_SECOND_BUCKETS) + 1:
        return None
    if not all(type(count) is int and 0 <= count <= _MOST_CHUNKS for count in counts):
        return None
    return (counts, sum_s) if isinstance(sum_s, (int, float)) and 0 <= sum_s < 1e6 else None
