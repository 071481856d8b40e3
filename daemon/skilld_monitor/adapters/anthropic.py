"""Anthropic's SDK, by the classes of its messages: every client has them, synchronous or not, old or new, a copy made
by `with_options`, and those that speak to it through a cloud.

`create` with its streams and raw responses, `stream`, `parse`, and the same of `beta`. A raw response whose body
has been read tells its tokens too; one whose body is the program's to read does not.
"""

from __future__ import annotations

from skilld_monitor.adapters.answers import answer_facts, get, usage_facts
from skilld_monitor.adapters.watching import Call, WatchedAwaitable, kind_of, taken, watched
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED", "AnthropicCall"]

_PROVIDERS = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "foundry": "azure.ai.inference"}
_RAW_HEADER = "X-Stainless-Raw-Response"


class AnthropicCall(Call):
    """One call, with what its stream has said so far."""

    provider = "anthropic"

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        super().__init__(owner, kwargs, capture)
        self._usage: dict[str, object] = {}
        self._said: list[str] = []

    def provider_of(self, owner: object) -> str:
        module = type(getattr(owner, "_client", None)).__module__
        return next((name for part, name in _PROVIDERS.items() if part in module), self.provider)

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, self.capture, lambda found: get(found, "content")))

    def on_piece(self, piece: object) -> None:
        kind = get(piece, "type")
        if kind == "message_start":
            message = get(piece, "message")
            self.running.data.update(answer_facts(message, frozenset(), lambda _found: None))
            self._note_usage(get(message, "usage"))
        elif kind == "message_delta":
            reason = get(get(piece, "delta"), "stop_reason")
            if type(reason) is str:
                self.running.data["gen_ai.response.finish_reasons"] = [reason]
            self._note_usage(get(piece, "usage"))
        elif kind == "content_block_delta" and "output" in self.capture:
            text = get(get(piece, "delta"), "text")
            if type(text) is str:
                self._said.append(text)

    def on_end(self) -> None:
        self.running.data.update(usage_facts(self._usage))
        if self._said:
            self.running.data["gen_ai.output.messages"] = plain([{"type": "text", "text": "".join(self._said)}])

    def _note_usage(self, usage: object) -> None:
        """The last word on each count; a count that is not said again stays."""
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            value = get(usage, name)
            if type(value) is int:
                self._usage[name] = value


def _take(call: Call, result: Any) -> Any:
    """What `create` and `parse` returned: an answer, a stream of one, or the response itself."""
    kind = kind_of(result)
    if kind in ("stream", "astream"):
        call.stream(result, is_async=kind == "astream")
    elif kind == "response":
        _read_raw(call, result)
    else:
        call.answered(result)
    return result


def _read_raw(call: Call, result: Any) -> None:
    """The body that has been read belongs to nobody alone: look into it. One that has not is left."""
    response = result.http_response
    call.running.data["http.response.status_code"] = response.status_code
    if not getattr(response, "is_stream_consumed", False) or "event-stream" in response.headers.get("content-type", ""):
        call.ended()
        return
    from json import loads

    def read(_none: object) -> None:
        call.on_answer(loads(response.content))

    call._guard(read, None)
    call.running.end()


def _take_manager(call_of: Callable[[], Call], manager: Any) -> Any:
    """What `stream` returned: it makes its request when it is entered, and so does the span."""
    name = next((name for name in vars(manager) if name.endswith("__api_request")), None)
    if name is None:
        return manager
    request = getattr(manager, name)
    if callable(request):

        def begin() -> Any:
            call = call_of()
            try:
                made = request()
            except BaseException as error:
                call.failed(error)
                raise
            return taken(_take, call, made)

        setattr(manager, name, begin)
    else:
        setattr(manager, name, WatchedAwaitable(request, call_of, _take))
    return manager


def _watched_stream(original: Any) -> Any:
    import functools

    from skilld_monitor.monitoring import active

    @functools.wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        manager = original(self, *args, **kwargs)
        on = active()
        if on is None:
            return manager
        facts = {**kwargs, "stream": True}
        return _take_manager(lambda: AnthropicCall(self, facts, on.settings.capture), manager)

    return stream


def _watch(module: ModuleType, made: Monitoring) -> None:
    for owner_name, is_async in (("Messages", False), ("AsyncMessages", True)):
        owner = getattr(module, owner_name, None)
        if owner is None:
            continue
        for method in ("create", "parse"):
            if hasattr(owner, method):
                made.patches.replace(owner, method, watched(AnthropicCall, _take, is_async=is_async))
        if hasattr(owner, "stream"):
            made.patches.replace(owner, "stream", _watched_stream)


WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {
    "anthropic.resources.messages.messages": _watch,
    "anthropic.resources.messages": _watch,  # where older versions have the classes, and newer ones the same again
    "anthropic.resources.beta.messages.messages": _watch,
    "anthropic.resources.beta.messages": _watch,
    "anthropic.lib.bedrock._beta_messages": _watch,
    "anthropic.lib.vertex._beta_messages": _watch,
}
