"""Anthropic's SDK, by the classes of its resources: every client has them, synchronous or not, old or new, a copy made
by `with_options`, and those that speak to it through a cloud.

`create` with its streams and raw responses, `stream`, `parse`, `count_tokens`, the same of `beta` and of its runner of
tools, batches and their results, and the completions of old. A raw response whose body has been read tells its tokens
too; one whose body is the program's to read does not.
"""

from __future__ import annotations

from skilld_monitor.adapters import anthropic_old
from skilld_monitor.adapters.answers import answer_facts, get, usage_facts
from skilld_monitor.adapters.blocks import Blocks
from skilld_monitor.adapters.content import content
from skilld_monitor.adapters.raw import take, watch_responses
from skilld_monitor.adapters.servers import module_provider
from skilld_monitor.adapters.watching import Call, WatchedAwaitable, called, guarded, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED", "AnthropicCall"]

_PROVIDERS = {"lib.bedrock": "aws.bedrock", "lib.vertex": "gcp.vertex_ai", "lib.foundry": "azure.ai.inference"}
_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_DETAILS = ("cache_creation", "output_tokens_details")


class AnthropicCall(Call):
    """One call, with what its stream has said so far."""

    provider = "anthropic"
    _usage: dict[str, object] | None = None
    _blocks: Blocks | None = None

    def provider_of(self, owner: object) -> str:
        return module_provider(getattr(owner, "_client", None), _PROVIDERS, self.provider)

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, self.capture, _content_of))

    def on_piece(self, piece: object) -> None:
        if self._usage is None:
            self._usage = {}
            self._blocks = Blocks() if "output" in self.capture else None
        kind = get(piece, "type")
        if kind == "message_start":
            message = get(piece, "message")
            self.running.data.update(answer_facts(message))
            self._note_usage(self._usage, get(message, "usage"))
        elif kind == "message_delta":
            reason = get(get(piece, "delta"), "stop_reason")
            if type(reason) is str:
                self.running.data["gen_ai.response.finish_reasons"] = [reason]
            self._note_usage(self._usage, get(piece, "usage"))
        elif self._blocks is not None:
            self._blocks.note(piece)

    def on_end(self) -> None:
        self.running.data.update(usage_facts(self._usage))
        if "output" in self.capture:
            self.running.data["gen_ai.output.messages"] = content((self._blocks or Blocks()).whole())

    @staticmethod
    def _note_usage(noted: dict[str, object], usage: object) -> None:
        """The last word on each count; a count that is not said again stays."""
        for name in _COUNTS:
            value = get(usage, name)
            if type(value) is int:
                noted[name] = value
        for name in _DETAILS:
            details = get(usage, name)
            if details is not None:
                noted[name] = details


def _content_of(answer: object) -> object:
    return get(answer, "content")


class CountTokensCall(AnthropicCall):
    """A question how many tokens a message would have: nobody used them."""

    operation = "count_tokens"

    def on_answer(self, answer: object) -> None:
        counted = get(answer, "input_tokens")
        if type(counted) is int:
            self.running.data["anthropic.message.count_tokens.input_tokens"] = counted


class CompletionCall(AnthropicCall):
    """A completion of a text, as it was before there were messages."""

    operation = "text_completion"

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        super().__init__(owner, kwargs, capture)
        self._said: list[str] = []

    def asked(self, kwargs: dict[str, object]) -> dict[str, object]:
        return super().asked({**kwargs, "max_tokens": kwargs.get("max_tokens_to_sample")})

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, self.capture, lambda found: get(found, "completion")))

    def on_piece(self, piece: object) -> None:
        self.running.data.update(answer_facts(piece))
        said = get(piece, "completion")
        if "output" in self.capture and type(said) is str:
            self._said.append(said)

    def on_end(self) -> None:
        if self._said:
            self.running.data["gen_ai.output.messages"] = content("".join(self._said))


class BatchCall(AnthropicCall):
    """A batch that is handed in. What it costs is known when its results are."""

    operation = "create_batch"

    def asked(self, kwargs: dict[str, object]) -> dict[str, object]:
        requests = kwargs.get("requests")
        if not isinstance(requests, (list, tuple)):  # what can be read only once is not read here
            return {}
        found: dict[str, object] = {"anthropic.message.batch.request_count": len(requests)}
        models = {get(get(request, "params"), "model") for request in requests}
        if len(models) == 1 and type(model := models.pop()) is str:
            found["gen_ai.request.model"] = model
        if "input" in self.capture:
            found["gen_ai.input.messages"] = content(requests)
        return found

    def on_answer(self, answer: object) -> None:
        for name in ("id", "processing_status"):
            value = get(answer, name)
            if type(value) is str:
                self.running.data[f"anthropic.message.batch.{name}"] = value


class BatchResultsCall(AnthropicCall):
    """The results of a batch, read one by one. They may be read again, so what they used is summed up under names of
    its own, and no usage of this call."""

    operation = "batch_results"

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        super().__init__(owner, kwargs, capture)
        self._sums: dict[str, int] = {}

    def on_piece(self, piece: object) -> None:
        result = get(piece, "result")
        self._add(f"anthropic.message.batch.{get(result, 'type')}", 1)
        for name, value in usage_facts(get(get(result, "message"), "usage")).items():
            if type(value) is int and name.startswith("gen_ai.usage."):
                self._add(f"anthropic.message.batch.{name[len('gen_ai.') :]}", value)

    def on_end(self) -> None:
        self.running.data.update(self._sums)

    def _add(self, name: str, value: int) -> None:
        self._sums[name] = self._sums.get(name, 0) + value


def _take_manager(call_of: Callable[[], Call], manager: Any) -> Any:
    """What `stream` returned: it makes its request when it is entered, and so does the span."""
    name = next((name for name in vars(manager) if name.endswith("__api_request")), None)
    if name is None:
        return manager
    request = getattr(manager, name)
    if callable(request):
        setattr(manager, name, lambda: called(call_of(), request, take))
    else:
        setattr(manager, name, WatchedAwaitable(request, call_of, take))
    return manager


def _watched_stream(original: Any) -> Any:
    import functools

    from skilld_monitor.monitoring import active

    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        on = active()
        if on is None:
            return original(self, *args, **kwargs)
        passed = guarded(AnthropicCall, self, kwargs, on)
        manager = original(self, *args, **passed)
        facts = {**passed, "stream": True}
        return _take_manager(lambda: AnthropicCall(self, facts, on.settings.capture), manager)

    return stream


_METHODS: Mapping[str, type[Call]] = {"create": AnthropicCall, "parse": AnthropicCall, "count_tokens": CountTokensCall}
_COMPLETIONS: Mapping[str, type[Call]] = {"create": CompletionCall}
_BATCHES: Mapping[str, type[Call]] = {"create": BatchCall, "results": BatchResultsCall}


def _watcher(sync: str, methods: Mapping[str, type[Call]]) -> Callable[[ModuleType, Monitoring], None]:
    def watch(module: ModuleType, made: Monitoring) -> None:
        for owner_name, is_async in ((sync, False), (f"Async{sync}", True)):
            owner = getattr(module, owner_name, None)
            for method, kind in methods.items():
                if hasattr(owner, method):
                    made.patches.replace(owner, method, watched(kind, take, is_async=is_async))
            if hasattr(owner, "stream"):
                made.patches.replace(owner, "stream", _watched_stream)

    return watch


_messages, _batches = _watcher("Messages", _METHODS), _watcher("Batches", _BATCHES)

WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {
    "anthropic.resources.messages.messages": _messages,
    "anthropic.resources.messages": _messages,  # where older versions have the classes, and newer ones the same again
    "anthropic.resources.messages.batches": _batches,
    "anthropic.resources.beta.messages.messages": _messages,
    "anthropic.resources.beta.messages": _messages,
    "anthropic.resources.beta.messages.batches": _batches,
    "anthropic.resources.beta.prompt_caching.messages": _messages,
    "anthropic.resources.completions": _watcher("Completions", _COMPLETIONS),
    "anthropic.lib.bedrock._beta_messages": _messages,
    "anthropic.lib.vertex._beta_messages": _messages,
    **anthropic_old.WATCHED,
    "anthropic._response": watch_responses,
    "anthropic._legacy_response": watch_responses,
}
