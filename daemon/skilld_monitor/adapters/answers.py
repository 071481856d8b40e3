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
_SCALARS = (str, int, float, bool)
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


_DETAILS = (
    *("cache_creation", "input_tokens_details", "output_tokens_details"),
    *("prompt_tokens_details", "completion_tokens_details"),
)
_COUNTS = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("prompt_tokens", "completion_tokens"),
)
_DETAILED = (
    *("cached_tokens", "reasoning_tokens", "thinking_tokens"),
    *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
)
_ANSWER = ("id", "model", "stop_reason", "choices", "usage")
_NO_CONTENT: frozenset[str] = frozenset()
_MAX_KNOWN = 256
_names: dict[type, frozenset[str]] = {}
_models: dict[type, bool] = {}


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
    extra = getattr(thing, "__pydantic_extra__", None)  # a dataclass of pydantic's has none
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
    for name, value in kwargs.items():
        if name in _REQUEST and type(value) in _SCALARS:
            found[_REQUEST[name]] = value
    for name in ("stop_sequences", "stop"):
        stops = kwargs.get(name) if name in kwargs else None
        if isinstance(stops, list) and len(stops) <= _MAX_STOPS and all(type(stop) is str for stop in stops):
            found["gen_ai.request.stop_sequences"] = list(stops)
    if capture:
        for name, (field, attribute) in _CONTENT.items():
            if field in capture and name in kwargs and type(kwargs[name]).__name__ not in _UNGIVEN:
                found[attribute] = content_of(kwargs[name])
    return found


def _fields(thing: object, names: tuple[str, ...]) -> Mapping[str, object]:
    """Those of a mapping or of a pydantic object, by name; of anything else, what it has under these names."""
    kind = type(thing)
    if kind is dict:
        return thing  # type: ignore[return-value]  # mypy does not follow `kind is dict`
    is_model = _models.get(kind)
    if is_model is None:
        is_model = hasattr(kind, "__pydantic_core_schema__")
        if len(_models) < _MAX_KNOWN:
            _models[kind] = is_model
    if not is_model:
        return {name: get(thing, name) for name in names}
    fields: dict[str, object] = thing.__dict__
    extra = getattr(thing, "__pydantic_extra__", None)
    defined = [name for name in names if name not in fields and name in _names_of(kind)]
    if not extra and not defined:
        return fields
    return {**{name: getattr(thing, name) for name in defined}, **fields, **(extra or {})}


def answer_facts(
    answer: object, capture: frozenset[str] = _NO_CONTENT, content: Callable[[object], object] | None = None
) -> dict[str, object]:
    """Of a whole answer; `content` finds what was said in it."""
    said = _fields(answer, _ANSWER)
    found: dict[str, object] = {}
    for name in ("id", "model"):
        value = said.get(name)
        if type(value) is str:
            found[f"gen_ai.response.{name}"] = value
    reason = said.get("stop_reason")
    if type(reason) is str:
        found["gen_ai.response.finish_reasons"] = [reason]
    choices = said.get("choices")
    if isinstance(choices, list):
        reasons = [reason for choice in choices if type(reason := get(choice, "finish_reason")) is str]
        if reasons:
            found["gen_ai.response.finish_reasons"] = reasons
    usage = said.get("usage")
    if usage is not None:
        found.update(usage_facts(usage))
    if content is not None and "output" in capture:
        found["gen_ai.output.messages"] = content_of(content(answer))
    return found


def usage_facts(usage: object) -> dict[str, object]:
    """Of `usage` in Anthropic's words (cached tokens apart) or in OpenAI's (cached tokens within)."""
    found: dict[str, object] = {}
    if usage is None:
        return found
    said = _fields(usage, (*_COUNTS, *_DETAILS))
    counts = _counts(said)
    read, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
    if "input_tokens" in counts:
        found["gen_ai.usage.input_tokens"] = counts["input_tokens"] + (read or 0) + (written or 0)
    if "prompt_tokens" in counts:
        found["gen_ai.usage.input_tokens"] = counts["prompt_tokens"]
    for name in ("output_tokens", "completion_tokens"):
        if name in counts:
            found["gen_ai.usage.output_tokens"] = counts[name]
    for name, details in said.items():
        if details is not None and name in _DETAILS:
            within = _counts(_fields(details, _DETAILED))
            if read is None:
                read = within.get("cached_tokens")
            for part in ("reasoning_tokens", "thinking_tokens"):
                if part in within:
                    found["gen_ai.usage.reasoning.output_tokens"] = within[part]
            for part in ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"):  # each has a price of its own
                if part in within:
                    found[f"anthropic.usage.cache_creation.{part}"] = within[part]
    if read is not None:
        found["gen_ai.usage.cache_read.input_tokens"] = read
    if written is not None:
        found["gen_ai.usage.cache_write.input_tokens"] = written
    return found


def _counts(said: Mapping[str, object]) -> dict[str, int]:
    return {name: value for name, value in said.items() if type(value) is int}
