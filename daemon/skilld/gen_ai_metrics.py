"""Model calls once more under OpenTelemetry's names for generative AI, for dashboards that know them.

https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/, with dots and units written as Prometheus has them.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Histogram

from skill_actors.telemetry import Measurements

__all__ = ["GenAiMetrics"]

# The bounds that the conventions ask for.
_TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
_SECOND_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
_INPUTS: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_LABELS: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_OPERATION: Final = "chat"


class GenAiMetrics:
    """`gen_ai.client.token.usage` and `gen_ai.client.operation.duration`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens of a model call.",
            (*_LABELS, "gen_ai_token_type"),
            buckets=_TOKEN_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "How long a model call took.",
            _LABELS,
            buckets=_SECOND_BUCKETS,
            registry=registry,
        )

    def called(self, model: str, facts: Measurements) -> None:
        """A model has answered; `model` is a name that may be a label."""
        about = (_OPERATION, "offline" if model == "offline" else "anthropic", model)
        self._duration.labels(*about).observe(facts.get("duration", 0.0))
        self._tokens.labels(*about, "input").observe(sum(facts.get(name, 0) for name in _INPUTS))
        self._tokens.labels(*about, "output").observe(facts.get("output_tokens", 0))
