"""What LangChain's and LangGraph's callbacks say of a run, in OpenTelemetry's names. Decisions only, no state.

Nothing is reported that a run did not say, and what was said in it only as far as `capture` allows.
"""

from __future__ import annotations

import sys
from itertools import islice

from skilld_monitor.adapters.answers import get, request_facts
from skilld_monitor.adapters.content import content
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Facts = dict[str, object]

__all__ = [
    "as_messages",
    "asked_facts",
    "cut_name",
    "is_hidden",
    "is_watched_below",
    "model_facts",
    "name_of",
    "node_facts",
    "said_facts",
    "session_of",
    "shown",
    "tags_of",
    "went_to",
]

_MAX_NAME_CHARS = 150
_MAX_TRIGGERS = 16
_MAX_DEPTH = 4
_MAX_ITEMS = 256
_STEP = "graph:step:"
_INTERNAL_TAGS = ("seq:step", "map:key", "graph:step", "langsmith:", "condition:", "branch:", "transform:")
_PROVIDERS = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
# By LangChain's name for the module, whose SDK its classes call; by that, who is asked, and what is called.
_SDKS_BELOW: Mapping[tuple[str, ...], str] = {
    ("langchain", "chat_models", "anthropic"): "anthropic",
    ("langchain", "chat_models", "azure_openai"): "openai",
    ("langchain", "chat_models", "openai"): "openai",
    ("langchain", "llms", "openai"): "openai",
}
_PROVIDERS_BELOW = {"anthropic": ("anthropic",), "openai": ("azure", "azure_openai", "openai")}
_CALLED_BELOW = {
    "anthropic": (("anthropic.resources.messages", "Messages"),),
    "openai": (("openai.resources.chat.completions", "Completions"),),
}
_SETTINGS = {
    "ls_model_name": "gen_ai.request.model",
    "ls_temperature": "gen_ai.request.temperature",
    "ls_max_tokens": "gen_ai.request.max_tokens",
}
_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


def cut_name(text: object) -> str:
    return str(text)[:_MAX_NAME_CHARS]


def name_of(serialized: object, said: object) -> str:
    """Of a run: the name that it was given, else that of its class."""
    path = get(serialized, "id")
    found = said or get(serialized, "name") or (path[-1] if isinstance(path, list) and path else "")
    return cut_name(found or "run")


def is_hidden(tags: Sequence[str] | None) -> bool:
    """Whether the framework asks tracers to leave it out."""
    return bool(tags) and "langsmith:hidden" in (tags or ())


def tags_of(tags: Sequence[str] | None) -> tuple[str, ...]:
    """The program's own."""
    return tuple(str(tag)[:64] for tag in tags or () if not str(tag).startswith(_INTERNAL_TAGS))[:20]


def session_of(metadata: Mapping[str, object] | None) -> str | None:
    """The conversation that a run belongs to: LangGraph's thread, or what the program calls its session."""
    for name in ("thread_id", "session_id", "conversation_id"):
        value = (metadata or {}).get(name)
        if type(value) in (str, int) and str(value):
            return str(value)[:200]
    return None


def model_facts(
    operation: str, metadata: Mapping[str, object] | None, parameters: object, capture: frozenset[str]
) -> Facts:
    """Of a call of a model that begins: who is asked, and how."""
    facts: Facts = {"gen_ai.operation.name": operation}
    known = metadata or {}
    provider = known.get("ls_provider")
    if type(provider) is str and provider:
        facts["gen_ai.provider.name"] = _PROVIDERS.get(provider, provider[:64])
    for name, attribute in _SETTINGS.items():
        value = known.get(name)
        if type(value) in (str, int, float):
            facts[attribute] = value
    if isinstance(parameters, dict):
        said = request_facts({key: parameters[key] for key in parameters if key not in ("messages", "input")}, capture)
        named = parameters.get("model_name")
        if type(named) is str:
            said.setdefault("gen_ai.request.model", named)
        facts.update(said)
    return facts


def is_watched_below(metadata: Mapping[str, object] | None, serialized: object) -> bool:
    """Whether the model is asked by an SDK that is watched itself. By LangChain's own name for its class: what a class
    of the program's calls itself, and with it `ls_provider`, says nothing of that."""
    path = get(serialized, "id") if get(serialized, "type") == "constructor" else None
    sdk = _SDKS_BELOW.get(tuple(map(str, path[:-1]))) if isinstance(path, (list, tuple)) else None
    return sdk is not None and (metadata or {}).get("ls_provider") in _PROVIDERS_BELOW[sdk] and _is_watched(sdk)


def _is_watched(sdk: str) -> bool:
    """Not of a version of it that our adapter does not know."""
    for name, kind in _CALLED_BELOW[sdk]:
        owner = getattr(sys.modules.get(name), kind, None)
        if getattr(getattr(owner, "create", None), "__skilld_monitor__", False):
            return True
    return False


def as_messages(messages: Sequence[object]) -> list[object]:
    """What a model is asked, as mappings and text."""
    return [message if isinstance(message, str) else _message(message) for message in messages]


def asked_facts(messages: Sequence[object], capture: frozenset[str]) -> Facts:
    """Of the messages that a model is asked with."""
    facts: Facts = {}
    system = [message for message in messages if get(message, "type") == "system"]
    others = [message for message in messages if get(message, "type") != "system"]
    if "system" in capture and system:
        facts["gen_ai.system_instructions"] = content([get(message, "content") for message in system])
    if "input" in capture and others:
        facts["gen_ai.input.messages"] = content([_message(message) for message in others])
    return facts


def said_facts(response: object, capture: frozenset[str]) -> Facts:
    """Of what a model answered, as the framework understood it."""
    facts: Facts = {}
    generations = [made for row in _list(get(response, "generations")) for made in _list(row)]
    messages = [found for made in generations if (found := get(made, "message")) is not None]
    for message in messages:
        facts.update(_message_facts(message))
    if "gen_ai.usage.input_tokens" not in facts and "langchain.cached" not in facts:
        facts.update(_older_usage(get(response, "llm_output")))
    reasons = [reason for made in generations if (reason := _reason(made)) is not None]
    if reasons:
        facts["gen_ai.response.finish_reasons"] = reasons
    if "output" in capture:
        said: list[object] = [_message(message) for message in messages] or [get(made, "text") for made in generations]
        if said:
            facts["gen_ai.output.messages"] = content(said)
    return facts


def _message_facts(message: object) -> Facts:
    facts: Facts = {}
    told = get(message, "response_metadata")
    for names, attribute in ((("id",), "gen_ai.response.id"), (("model_name", "model"), "gen_ai.response.model")):
        said = [found for name in names if type(found := get(told, name)) is str and found]
        if said:
            facts[attribute] = said[0]
    usage = get(message, "usage_metadata")
    if not isinstance(usage, dict):
        return facts
    if usage.get("total_cost") == 0:  # out of the program's cache: nobody was asked, and nothing used
        return {**facts, "langchain.cached": True}
    sent, read = usage.get("input_token_details"), usage.get("output_token_details")
    for attribute, value in (
        ("gen_ai.usage.input_tokens", usage.get("input_tokens")),
        ("gen_ai.usage.output_tokens", usage.get("output_tokens")),
        ("gen_ai.usage.cache_read.input_tokens", get(sent, "cache_read")),
        ("gen_ai.usage.cache_write.input_tokens", get(sent, "cache_creation")),
        ("gen_ai.usage.reasoning.output_tokens", get(read, "reasoning")),
    ):
        if type(value) is int:
            facts[attribute] = value
    return facts


def _older_usage(output: object) -> Facts:
    """Of models that know nothing of messages."""
    usage = get(output, "token_usage") or get(output, "usage")
    facts: Facts = {}
    for names, attribute in (
        (("prompt_tokens", "input_tokens"), "gen_ai.usage.input_tokens"),
        (("completion_tokens", "output_tokens"), "gen_ai.usage.output_tokens"),
    ):
        counts = [found for name in names if type(found := get(usage, name)) is int]
        if counts:
            facts[attribute] = counts[0]
    return facts


def _reason(generation: object) -> str | None:
    told = get(get(generation, "message"), "response_metadata")
    for place in (told, get(generation, "generation_info")):
        for name in ("stop_reason", "finish_reason"):
            value = get(place, name)
            if type(value) is str:
                return value
    return None


def _message(message: object) -> object:
    kind = str(get(message, "type"))
    found: Facts = {"role": _ROLES.get(kind, kind), "content": get(message, "content")}
    for name in ("tool_calls", "tool_call_id"):
        value = get(message, name)
        if value:
            found[name] = value
    return found


def node_facts(
    name: str, tags: Sequence[str] | None, metadata: Mapping[str, object] | None
) -> tuple[int, Facts] | None:
    """The step and the facts of a node of a graph; None of a run that is none, such as a chain inside of one."""
    step = next((tag[len(_STEP) :] for tag in tags or () if tag.startswith(_STEP)), "")
    known = metadata or {}
    if not step.lstrip("-").isdigit() or known.get("langgraph_node") != name:
        return None
    facts: Facts = {"langgraph.node": name, "langgraph.step": int(step)}
    triggers = known.get("langgraph_triggers")
    if isinstance(triggers, (list, tuple)):
        facts["langgraph.triggers"] = [cut_name(trigger) for trigger in triggers[:_MAX_TRIGGERS]]
    return int(step), facts


def went_to(output: object) -> Facts:
    """Where a node's `Command` goes, if that says so and does not leave it to the graph."""
    if type(output).__name__ != "Command":
        return {}
    goto = get(output, "goto")
    found = list(goto) if isinstance(goto, (list, tuple)) else [goto] if goto else []
    names = [cut_name(one if isinstance(one, str) else get(one, "node")) for one in found[:_MAX_TRIGGERS]]
    return {"langgraph.goto": names} if names else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def shown(value: object) -> object:
    """Inputs and outputs of chains, tools and nodes: messages in them as messages. Never raises."""
    try:
        return plain(_shown(value, _MAX_DEPTH))
    except Exception as error:  # somebody's class
        return f"<{type(value).__name__}, unreadable: {type(error).__name__}>"


def _shown(value: object, depth: int) -> object:
    if hasattr(value, "content") and hasattr(value, "type"):
        return _message(value)
    if depth > 0 and isinstance(value, dict):
        return {name: _shown(item, depth - 1) for name, item in list(islice(value.items(), _MAX_ITEMS))}
    if depth > 0 and isinstance(value, (list, tuple)):
        return [_shown(item, depth - 1) for item in value[:_MAX_ITEMS]]
    return content(value)
