"""Calls of models, tools and agents under OpenTelemetry's names for generative AI, for dashboards that know them.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/, with dots and units written as Prometheus has them.
Both the daemon's own calls and those that programs report. What programs report may name anything: only so many names
become labels, and the rest are `other`. So do only so many sets of them: a few names of each kind make a great many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Histogram

from skill_actors.telemetry import Measurements
from skilld.monitor.batch import MonitorEvent, as_name
from skilld.monitor.usage import call_use, operation_of

__all__ = ["GenAiMetrics", "Names"]

# The bounds that the conventions ask for.
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
_SECOND_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
_LONG_BUCKETS: Final = tuple(0.1 * 2**power for power in range(13))
_INPUTS: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_MODEL: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
_OPERATION: Final = "chat"
_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
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
        self._sets: dict[Histogram, set[tuple[str, ...]]] = {}
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
        self._tools = seconds(
            "gen_ai_execute_tool_duration", "How long a tool took.", ("gen_ai_tool_name",), _LONG_BUCKETS
        )
        self._agents = seconds(
            "gen_ai_invoke_agent_duration", "How long an agent took.", ("gen_ai_agent_name",), _LONG_BUCKETS
        )
        self._workflows = seconds(
            "gen_ai_workflow_duration", "How long a workflow took.", ("gen_ai_workflow_name",), _LONG_BUCKETS
        )
        self._mcp = seconds(
            "mcp_client_operation_duration",
            "How long a request to an MCP server took.",
            ("mcp_method_name", "gen_ai_tool_name"),
            _SECOND_BUCKETS,
        )

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
        took_s, failed = event.duration_us / 1e6, self._failure(event)
        if (method := data.get("mcp.method.name")) is not None:
            tool = self._names.label("tool", data.get("gen_ai.tool.name"))
            self._observe(self._mcp, (self._names.label("method", method), tool, failed), took_s)
            return
        match operation_of(event):
            case "execute_tool":
                tool = self._names.label("tool", data.get("gen_ai.tool.name"))
                self._observe(self._tools, (tool, failed), took_s)
            case "invoke_agent":
                agent = self._names.label("agent", data.get("gen_ai.agent.name"))
                self._observe(self._agents, (agent, failed), took_s)
            case "invoke_workflow":
                name = self._names.label("workflow", data.get("gen_ai.workflow.name"))
                self._observe(self._workflows, (name, failed), took_s)
            case operation:
                self._reported_call(event, data, operation, took_s, failed)

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

    def _observe(self, histogram: Histogram, labels: tuple[str, ...], value: float) -> None:
        known = self._sets.setdefault(histogram, set())
        if labels not in known:
            if len(known) < self._most_sets:
                known.add(labels)
            else:
                labels = (_OTHER,) * len(labels)
        histogram.labels(*labels).observe(value)

    def _failure(self, event: MonitorEvent) -> str:
        if event.status in (None, "ok"):
            return ""
        return self._names.label("error", event.data.get("error.type")) or str(event.status)
