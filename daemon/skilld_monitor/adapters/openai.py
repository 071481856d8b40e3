"""OpenAI's SDK, by the classes of its resources: chat completions, responses, embeddings and the completions of old,
synchronous or not, with their streams, raw responses and helpers; whoever serves the same API elsewhere, such as Azure.
"""

from __future__ import annotations

from skilld_monitor.adapters.answers import answer_facts, get
from skilld_monitor.adapters.choices import Choices, listed, message_content
from skilld_monitor.adapters.content import content
from skilld_monitor.adapters.raw import take, watch_responses
from skilld_monitor.adapters.servers import host_of, module_provider
from skilld_monitor.adapters.watching import Call, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED", "OpenAICall"]

_CLASSES = {"lib.azure": "azure.ai.openai", "lib.bedrock": "aws.bedrock"}
_HOSTS = {
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "amazonaws.com": "aws.bedrock",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
}
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")


class OpenAICall(Call):
    """One chat completion or response."""

    provider = "openai"
    _choices: Choices | None = None

    def provider_of(self, owner: object) -> str:
        host = host_of(owner)
        for suffix, name in _HOSTS.items():
            if host.endswith(suffix) and host[: -len(suffix)][-1:] in ("", ".", "-"):
                return name
        return module_provider(getattr(owner, "_client", None), _CLASSES, self.provider)

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, self.capture, _said))
        status = get(answer, "status")
        if get(answer, "object") == "response" and type(status) is str:
            why = get(get(answer, "incomplete_details"), "reason")
            self.running.data["gen_ai.response.finish_reasons"] = [why if type(why) is str else status]

    def on_piece(self, piece: object) -> None:
        whole = get(piece, "response")
        if whole is not None:  # of the Responses API: what it is so far, or in the end
            if get(piece, "type") in _LAST_EVENTS:
                self.on_answer(whole)
            return
        if get(piece, "id") is not None:
            self.running.data.update(answer_facts(piece))
            if self._choices is None:
                self._choices = Choices()
            self._choices.note(piece, content="output" in self.capture)

    def on_end(self) -> None:
        if self._choices is None:
            return
        reasons = self._choices.reasons
        if reasons:
            self.running.data["gen_ai.response.finish_reasons"] = list(reasons.values())
        said = self._choices.whole()
        if said:
            self.running.data["gen_ai.output.messages"] = content(said)


class CompletionCall(OpenAICall):
    """A completion of a text, as it was before there were chats."""

    operation = "text_completion"


class EmbeddingsCall(OpenAICall):
    """One request for embeddings; their numbers are no content that anybody reads."""

    operation = "embeddings"

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer))


def _said(answer: object) -> object:
    choices = get(answer, "choices")
    if isinstance(choices, list):
        return [_choice(choice) for choice in choices]
    return _output(listed(get(answer, "output")))


def _choice(choice: object) -> object:
    message = get(choice, "message")
    return get(choice, "text") if message is None else message_content(message)


def _output(items: list[Any]) -> object:
    """The text alone where there is nothing else; what tools are to be called with is part of what was said."""
    texts: list[str] = []
    for item in items:
        parts = listed(get(item, "content"))
        if get(item, "type") != "message" or any(type(get(part, "text")) is not str for part in parts):
            return items
        texts.extend(str(get(part, "text")) for part in parts)
    return "".join(texts)


def _watcher(sync: str, kind: type[Call], methods: tuple[str, ...]) -> Callable[[ModuleType, Monitoring], None]:
    def watch(module: ModuleType, made: Monitoring) -> None:
        for owner_name, is_async in ((sync, False), (f"Async{sync}", True)):
            owner = getattr(module, owner_name, None)
            for method in methods:
                if hasattr(owner, method):
                    made.patches.replace(owner, method, watched(kind, take, is_async=is_async))

    return watch


_chat = _watcher("Completions", OpenAICall, ("create", "parse"))

WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {
    "openai.resources.chat.completions.completions": _chat,
    "openai.resources.chat.completions": _chat,  # where older versions have the classes
    "openai.resources.beta.chat.completions": _watcher("Completions", OpenAICall, ("parse",)),
    "openai.resources.responses.responses": _watcher("Responses", OpenAICall, ("create", "parse")),
    "openai.resources.embeddings": _watcher("Embeddings", EmbeddingsCall, ("create",)),
    "openai.resources.completions": _watcher("Completions", CompletionCall, ("create",)),
    "openai._response": watch_responses,
    "openai._legacy_response": watch_responses,
}
