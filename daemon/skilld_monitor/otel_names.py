"""What others call that for which OpenTelemetry has names: OpenInference, Traceloop, and OpenTelemetry itself before.

Who watches a program and who is sent its spans read them by these. Pure.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["in_our_names", "is_gen_ai", "kind_in_others_words"]

_OPERATION = "gen_ai.operation.name"
_OPENINFERENCE, _TRACELOOP = "openinference.span.kind", "traceloop.span.kind"
_REQUEST_TYPE = "llm.request.type"  # Traceloop's, of a call of a model

# Of several that mean the same the one that stands first here counts, and none where the name of today is there too.
_RENAMED = {
    "gen_ai.system": "gen_ai.provider.name",
    "gen_ai.usage.prompt_tokens": "gen_ai.usage.input_tokens",
    "gen_ai.usage.completion_tokens": "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.is_streaming": "gen_ai.request.stream",
    # OpenInference's
    "llm.request.model_name": "gen_ai.request.model",
    "llm.model_name": "gen_ai.request.model",
    "llm.response.model_name": "gen_ai.response.model",
    "llm.provider": "gen_ai.provider.name",
    "llm.system": "gen_ai.provider.name",
    "llm.token_count.prompt": "gen_ai.usage.input_tokens",
    "llm.token_count.completion": "gen_ai.usage.output_tokens",
    "llm.token_count.prompt_details.cache_read": "gen_ai.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_write": "gen_ai.usage.cache_write.input_tokens",
    "llm.token_count.completion_details.reasoning": "gen_ai.usage.reasoning.output_tokens",
    # Traceloop's, before it took those of OpenTelemetry
    "llm.vendor": "gen_ai.provider.name",
    "llm.request.model": "gen_ai.request.model",
    "llm.response.model": "gen_ai.response.model",
    "llm.request.max_tokens": "gen_ai.request.max_tokens",
    "llm.temperature": "gen_ai.request.temperature",
    "llm.top_p": "gen_ai.request.top_p",
    "llm.top_k": "gen_ai.request.top_k",
    "llm.frequency_penalty": "gen_ai.request.frequency_penalty",
    "llm.presence_penalty": "gen_ai.request.presence_penalty",
    "llm.is_streaming": "gen_ai.request.stream",
    "llm.usage.prompt_tokens": "gen_ai.usage.input_tokens",
    "llm.usage.completion_tokens": "gen_ai.usage.output_tokens",
    "llm.usage.reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    "session.id": "gen_ai.conversation.id",
}
# Names that mean this in OpenInference's spans, and may mean anything in others.
_OF_OPENINFERENCE = {
    "embedding.model_name": "gen_ai.request.model",
    "agent.name": "gen_ai.agent.name",
    "tool.name": "gen_ai.tool.name",
    "tool.id": "gen_ai.tool.call.id",
}
# By Traceloop's kind, what `traceloop.entity.name` names.
_ENTITIES = {"tool": "gen_ai.tool.name", "agent": "gen_ai.agent.name", "workflow": "gen_ai.workflow.name"}
_KINDS = {
    "LLM": "llm",
    "EMBEDDING": "llm",
    "TOOL": "tool",
    "AGENT": "agent",
    "CHAIN": "agent",
    "tool": "tool",
    "agent": "agent",
    "task": "agent",
    "workflow": "agent",
}
_OPERATIONS = {
    "LLM": "chat",
    "EMBEDDING": "embeddings",
    "TOOL": "execute_tool",
    "AGENT": "invoke_agent",
    "RETRIEVER": "retrieval",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "workflow": "invoke_workflow",
}
_REQUEST_TYPES = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings", "rerank": "rerank"}


def is_gen_ai(attributes: Mapping[str, Any]) -> bool:
    """Whether it tells of a model, an agent or a tool, in whoever's words."""
    if _OPENINFERENCE in attributes or _TRACELOOP in attributes:
        return True
    return any(name.startswith(("gen_ai.", "mcp.", "llm.")) for name in attributes)


def kind_in_others_words(attributes: Mapping[str, Any]) -> str | None:
    """`llm`, `tool` or `agent`; `other` for what is none of these, None for what does not say so in others' words."""
    kind = _kind(attributes)
    if kind is not None:
        return _KINDS.get(kind, "other")
    return "llm" if type(attributes.get(_REQUEST_TYPE)) is str else None


def in_our_names(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of what tells of a model, an agent or a tool under OpenTelemetry's names of today, with the
    operation where only another's word for it is there. What has no such name keeps its own."""
    kind, table = _kind(attributes), _RENAMED
    if _OPENINFERENCE in attributes:
        table = {**_RENAMED, **_OF_OPENINFERENCE}
    named: dict[str, Any] = {}  # first, as whoever has room for only so many leaves out the last
    for name, ours in table.items():
        if name in attributes:
            named.setdefault(ours, attributes[name])
    entity = attributes.get("traceloop.entity.name")
    if kind in _ENTITIES and entity is not None:
        named.setdefault(_ENTITIES[kind], entity)
    operation = _operation(kind, attributes.get(_REQUEST_TYPE))
    if operation is not None:
        named.setdefault(_OPERATION, operation)
    return {**named, **{name: value for name, value in attributes.items() if name not in table}}


def _operation(kind: str | None, request_type: object) -> str | None:
    if kind in _OPERATIONS:
        return _OPERATIONS[kind]
    return _REQUEST_TYPES.get(request_type) if type(request_type) is str else None


def _kind(attributes: Mapping[str, Any]) -> str | None:
    """As it is called there."""
    for name in (_OPENINFERENCE, _TRACELOOP):
        kind = attributes.get(name)
        if type(kind) is str:
            return kind
    return None
