"""OpenAI's SDK, by the classes of its resources: chat completions, responses and embeddings, synchronous or not."""

from __future__ import annotations

from skilld_monitor.adapters.answers import answer_facts, as_values, get
from skilld_monitor.adapters.watching import Call, kind_of, watched
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED", "OpenAICall"]


class OpenAICall(Call):
    """One chat completion or response."""

    provider = "openai"

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        super().__init__(owner, kwargs, capture)
        self._said: list[str] = []

    def provider_of(self, owner: object) -> str:
        name = type(getattr(owner, "_client", None)).__name__
        return "azure.ai.openai" if "Azure" in name else self.provider

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, self.capture, _content))

    def on_piece(self, piece: object) -> None:
        whole = get(piece, "response")
        if whole is not None:  # of the Responses API: what it is so far, or in the end
            self.on_answer(whole)
            return
        found = answer_facts(piece, frozenset(), _content)
        self.running.data.update(found)
        if "output" in self.capture:
            choices = get(piece, "choices")
            for choice in choices if isinstance(choices, list) else ():
                text = get(get(choice, "delta"), "content")
                if type(text) is str:
                    self._said.append(text)

    def on_end(self) -> None:
        if self._said:
            self.running.data["gen_ai.output.messages"] = plain([{"type": "text", "text": "".join(self._said)}])


class EmbeddingsCall(OpenAICall):
    """One request for embeddings; their numbers are no content that anybody reads."""

    operation = "embeddings"

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, frozenset(), _content))


def _content(answer: object) -> object:
    choices = get(answer, "choices")
    if isinstance(choices, list):
        return [_message(get(choice, "message")) for choice in choices]
    return get(answer, "output_text") or [as_values(item) for item in _list(get(answer, "output"))]


def _message(message: object) -> object:
    return {
        "content": get(message, "content"),
        "tool_calls": [as_values(call) for call in _list(get(message, "tool_calls"))],
    }


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _take(call: Call, result: Any) -> Any:
    kind = kind_of(result)
    if kind in ("stream", "astream"):
        call.stream(result, is_async=kind == "astream")
    elif kind == "response":
        call.running.data["http.response.status_code"] = result.http_response.status_code
        call.ended()
    else:
        call.answered(result)
    return result


def _watcher(sync: str, kind: type[Call], methods: tuple[str, ...]) -> Callable[[ModuleType, Monitoring], None]:
    def watch(module: ModuleType, made: Monitoring) -> None:
        for owner_name, is_async in ((sync, False), (f"Async{sync}", True)):
            owner = getattr(module, owner_name, None)
            for method in methods:
                if hasattr(owner, method):
                    made.patches.replace(owner, method, watched(kind, _take, is_async=is_async))

    return watch


WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {
    "openai.resources.chat.completions.completions": _watcher("Completions", OpenAICall, ("create", "parse")),
    "openai.resources.responses.responses": _watcher("Responses", OpenAICall, ("create", "parse")),
    "openai.resources.embeddings": _watcher("Embeddings", EmbeddingsCall, ("create",)),
}
