"""What a model's answer says of itself, whichever SDK read it: ids, models, why it ended, what it used.

Names are those of OpenTelemetry's conventions for generative AI. `gen_ai.usage.input_tokens` counts all tokens that
went in, those that were read from a cache and written to it too. Nothing is reported that the answer did not say.
"""

from __future__ import annotations

from skilld_monitor.adapters.content import content as content_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["answer_facts", "get", "request_facts", "usage_facts"]

_REQUEST = {
    "model": "gen_ai.request.model",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "dimensions": "gen_ai.embeddings.dimension.count",
    "stream": "gen_ai.request.stream",
}
_MAX_STOPS = 16
_CONTENT = {
    "system": ("system", "gen_ai.system_instructions"),
    "instructions": ("system", "gen_ai.system_instructions"),
    "messages": ("input", "gen_ai.input.messages"),
    "input": ("input", "gen_ai.input.messages"),
    "prompt": ("input", "gen_ai.input.messages"),
    "tools": ("tools", "gen_ai.tool.definitions"),
}
_UNGIVEN = ("NotGiven", "Omit")  # what SDKs put where the program said nothing


_MAX_KNOWN = 256
_names: dict[type, frozenset[str]] = {}


def get(thing: object, name: str) -> object:
    """An attribute, or an item of a mapping; None where there is none.

    Asked in vain for an attribute, pydantic's objects take 5 us to say so, which adds up to more than all the rest.
    """
    if thing is None:
        return None
    if isinstance(thing, dict):
        return thing.get(name)
    found = getattr(thing, "__dict__", None)
    if found is not None and name in found:
        return found[name]
    kind = type(thing)
    if not hasattr(kind, "__pydantic_core_schema__"):
        return getattr(thing, name, None)
    extra = thing.__pydantic_extra__  # type: ignore[attr-defined]
    if extra is not None and name in extra:
        return extra[name]
    return getattr(thing, name) if name in _names_of(kind) else None


def _names_of(kind: type) -> frozenset[str]:
    """What the class and those that it derives from define."""
    names = _names.get(kind)
    if names is None:
        names = frozenset(name for base in kind.__mro__ for name in vars(base))
        if len(_names) < _MAX_KNOWN:
            _names[kind] = names
    return names


def request_facts(kwargs: Mapping[str, object], capture: frozenset[str]) -> dict[str, object]:
    """Of a call by its keyword arguments; content only as far as `capture` allows."""
    found: dict[str, object] = {}
    for name, attribute in _REQUEST.items():
        value = kwargs.get(name)
        if type(value) in (str, int, float, bool):
            found[attribute] = value
    stops = kwargs.get("stop_sequences") or kwargs.get("stop")
    if isinstance(stops, list) and len(stops) <= _MAX_STOPS and all(type(stop) is str for stop in stops):
        found["gen_ai.request.stop_sequences"] = list(stops)
    if capture:
        for name, (field, attribute) in _CONTENT.items():
            if field in capture and name in kwargs and type(kwargs[name]).__name__ not in _UNGIVEN:
                found[attribute] = content_of(kwargs[name])
    return found


def answer_facts(answer: object, capture: frozenset[str], content: Callable[[object], object]) -> dict[str, object]:
    """Of a whole answer; `content` finds what was said in it."""
    found: dict[str, object] = {}
    for name, attribute in (("id", "gen_ai.response.id"), ("model", "gen_ai.response.model")):
        value = get(answer, name)
        if type(value) is str:
            found[attribute] = value
    reason = get(answer, "stop_reason")
    if type(reason) is str:
        found["gen_ai.response.finish_reasons"] = [reason]
    choices = get(answer, "choices")
    if isinstance(choices, list):
        reasons = [reason for choice in choices if type(reason := get(choice, "finish_reason")) is str]
        if reasons:
            found["gen_ai.response.finish_reasons"] = reasons
    found.update(usage_facts(get(answer, "usage")))
    if "output" in capture:
        found["gen_ai.output.messages"] = content_of(content(answer))
    return found


def usage_facts(usage: object) -> dict[str, object]:
    """Of `usage` in Anthropic's words (cached tokens apart) or in OpenAI's (cached tokens within)."""
    found: dict[str, object] = {}
    if usage is None:
        return found
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    sent = _count(usage, "input_tokens")
    if sent is not None:
        found["gen_ai.usage.input_tokens"] = sent + (read or 0) + (written or 0)
    prompt = _count(usage, "prompt_tokens")
    if prompt is not None:
        found["gen_ai.usage.input_tokens"] = prompt
    for name in ("output_tokens", "completion_tokens"):
        value = _count(usage, name)
        if value is not None:
            found["gen_ai.usage.output_tokens"] = value
    for details in (get(usage, "prompt_tokens_details"), get(usage, "input_tokens_details")):
        if read is None:
            read = _count(details, "cached_tokens")
    for details in (get(usage, "completion_tokens_details"), get(usage, "output_tokens_details")):
        for name in ("reasoning_tokens", "thinking_tokens"):
            reasoning = _count(details, name)
            if reasoning is not None:
                found["gen_ai.usage.reasoning.output_tokens"] = reasoning
    if read is not None:
        found["gen_ai.usage.cache_read.input_tokens"] = read
    if written is not None:
        found["gen_ai.usage.cache_write.input_tokens"] = written
    kept = get(usage, "cache_creation")  # how long what is written stays, which has a price of its own
    for name in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"):
        value = _count(kept, name)
        if value is not None:
            found[f"anthropic.usage.cache_creation.{name}"] = value
    return found


def _count(usage: object, name: str) -> int | None:
    value = None if usage is None else get(usage, name)
    return value if type(value) is int else None
