"""The most that a model call can use, from its request alone. Pure; docs/design/ledger.md has the reasons.

A token of text stands for at least one byte of UTF-8, as the text is or in the form NFKC that tokenizers may bring it
into first (where a ligature of three bytes may become a phrase of thirty-three). So its bytes and those that this adds
bound its tokens, and the JSON around it bounds what the API puts between messages and blocks. Pictures and documents
are no text: there the documented maxima hold.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from skill_actors.models.base import ModelRequest
from skill_actors.models.facts import ModelFacts
from skill_actors.sessions.ledger.server_tools import ServerWork, server_work

__all__ = ["IMAGE_TOKENS", "PDF_TOKENS", "CallBound", "bound_of"]

IMAGE_TOKENS: Final = 5_000  # the largest that is not scaled down takes 4,784
PDF_TOKENS: Final = 600 * 8_000  # pages, each as text (up to 3,000) and as a picture
TOOLS_TOKENS: Final = 1_000  # what the API tells the model once about the use of tools: 264 to 804
TYPED_TOOL_TOKENS: Final = 4_000  # of a tool that the API describes itself: the largest documented is 1,500
CONTAINER_SKILL_TOKENS: Final = 2_500  # name and description, 1,088 characters, of each skill in a container
_REQUEST_TOKENS: Final = 500
_IMAGE: Final = '"type": "image"'
_DOCUMENT: Final = '"type": "document"'
_BYTES: Final = ("base64", "url", "file")
# Has all that NFKC makes longer, and is sought one by one: to normalise a hostile text takes seconds.
_GROWING: Final = re.compile(
    "[\u00a8-\u00be\u013f-\u0149\u01c4-\u01c6\u02d8-\u02dd\u0344\u037a\u0384\u0385\u0587\u0675-\u0678\u0958-\u095f"
    "\u09dc-\u09df\u0a33-\u0a5e\u0b5c\u0b5d\u0e33\u0eb3\u0edc\u0edd\u0f43-\u0fb9\u1fc1-\u1fee\u2033-\u2057\u2150-\u2230"
    "\u247d-\u2487\u2a0c-\u2adc\u309b-\u309f\u30ff-\u33fe\ufa6c-\ufefc\U0001d15e-\U0001d1c0\U0001f12a-\U0001f248]"
)
_COUNT_SLACK: Final = (1.05, 500)  # the endpoint's answer is an estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBound:
    """What one call can use.

    Args:
        prompt_tokens: of the first sampling.
        uncounted_tokens: of these, what the API's endpoint does not count.
        answer_tokens: of the output of one sampling.
        window_tokens: nothing sampled can read more; None where it is not known.
        work: what the API's own tools can add to it.
        long_cache: whether something is written to the cache for an hour.
        geo, speed: as the request has them, since they change the price.

    """

    prompt_tokens: int = 0
    uncounted_tokens: int = 0
    answer_tokens: int = 0
    window_tokens: int | None = None
    work: ServerWork = field(default_factory=ServerWork)
    long_cache: bool = False
    geo: str = ""
    speed: str = ""

    @property
    def input_tokens(self) -> int:
        """Of all samplings: each reads the prompt and what those before it wrote and got."""
        growth = self.answer_tokens + self.work.result_tokens
        prompts = (self.prompt_tokens + round_ * growth for round_ in range(self.work.rounds))
        if self.window_tokens is None:
            return sum(prompts)
        return sum(min(prompt, self.window_tokens) for prompt in prompts)

    @property
    def output_tokens(self) -> int:
        return self.answer_tokens * self.work.rounds

    def counted(self, prompt_tokens: int) -> CallBound:
        """The same with the prompt as the API's endpoint counted it, where that is less."""
        factor, more = _COUNT_SLACK
        return replace(
            self, prompt_tokens=min(self.prompt_tokens, int(prompt_tokens * factor) + more + self.uncounted_tokens)
        )


def bound_of(request: ModelRequest, facts: ModelFacts) -> CallBound:
    """The bound of a request; a long one takes milliseconds, so ask in a worker thread."""
    size = _Size()
    size.add_text(request.system)
    for message in request.messages:
        size.add_message(message)
    for tool in request.tools:
        size.add(tool)
    size.add(request.extra, times=2)  # a schema is also told to the model in words
    container = request.extra.get("container")
    skills = container.get("skills", ()) if isinstance(container, Mapping) else ()
    typed = sum(tool.get("type", "custom") != "custom" for tool in request.tools)
    uncounted = CONTAINER_SKILL_TOKENS * len(skills)
    prompt = (
        size.tokens + _REQUEST_TOKENS + (TOOLS_TOKENS if request.tools else 0) + TYPED_TOOL_TOKENS * typed + uncounted
    )
    window = facts.context_tokens if facts.known else None
    return CallBound(
        prompt_tokens=prompt if window is None else min(prompt, window),
        uncounted_tokens=uncounted,
        answer_tokens=request.max_tokens,
        window_tokens=window,
        work=server_work(request, facts),
        long_cache=size.long_cache,
        geo=str(request.extra.get("inference_geo", "")),
        speed=str(request.extra.get("speed", "")),
    )


class _Size:
    """Adds up bounds of parts of a request."""

    def __init__(self) -> None:
        self.tokens = 0
        self.long_cache = False

    def add_text(self, text: str) -> None:
        if text.isascii():
            self.tokens += len(text)
            return
        # Half a surrogate pair is sent as U+FFFD, which takes three bytes as well.
        self.tokens += len(text.encode("utf-8", "surrogatepass"))
        self.tokens += sum(_growth(char) * times for char, times in Counter(_GROWING.findall(text)).items())

    def add(self, value: Mapping[str, Any], times: int = 1) -> None:
        """A part of the request, by the bytes of its JSON. What may be a picture or document counts as that, too."""
        text = json.dumps(value, ensure_ascii=False, default=dict)
        self.long_cache = self.long_cache or '"ttl": "1h"' in text
        for _ in range(times):
            self.add_text(text)
        self.tokens += IMAGE_TOKENS * text.count(_IMAGE) + PDF_TOKENS * text.count(_DOCUMENT)

    def add_message(self, message: Mapping[str, Any]) -> None:
        content = message.get("content")
        if isinstance(content, str):
            self.add(message)
            return
        self.add({**message, "content": []})
        self._add_blocks(content)

    def _add_blocks(self, blocks: object) -> None:
        """Only here are pictures and documents what they say: anywhere else their bytes are text as well."""
        for block in blocks if isinstance(blocks, list | tuple) else ():
            source = block.get("source")
            kind = source.get("type") if isinstance(source, Mapping) else None
            match block.get("type"):
                case "image" if kind in _BYTES:
                    self.tokens += IMAGE_TOKENS
                    self.add(_without(block, "type", "source"))
                case "document" if kind in _BYTES:
                    self.tokens += PDF_TOKENS
                    self.add(_without(block, "type", "source"))
                case "document" if kind == "text":
                    self.add({**block, "type": "text"})
                case "document" if kind == "content" and isinstance(source, Mapping):
                    self.add(_without(block, "type", "source"))
                    self._add_content(source.get("content"))
                case "tool_result" if not isinstance(block.get("content"), str):
                    self.add({**block, "content": []})
                    self._add_content(block.get("content"))
                case _:
                    self.add(block)

    def _add_content(self, content: object) -> None:
        if isinstance(content, str):
            self.add_text(content)
        else:
            self._add_blocks(content)


@functools.cache
def _growth(char: str) -> int:
    """How many bytes of UTF-8 its form NFKC has more."""
    return max(0, len(unicodedata.normalize("NFKC", char).encode()) - len(char.encode()))


def _without(block: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return {name: value for name, value in block.items() if name not in names}
