"""The offline model: no network, no language understanding, the same answer to the same question.

It exists so that everything around a model can be used, shown and tested without one, and it says so.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import trio

from skill_actors.models.base import (
    Block,
    BlockDelta,
    BlockDone,
    BlockStart,
    Message,
    MessageDone,
    ModelError,
    ModelEvent,
    ModelRequest,
    SkillHint,
    Usage,
)
from skill_actors.models.offline_choice import best_skill, paths_named

__all__ = ["OFFLINE_MODEL", "OfflineModel"]

OFFLINE_MODEL: Final = "offline"
_TOOL: Final = "bash_tool"
_MAX_DELTAS: Final = 200
_MAX_QUESTION_CHARS: Final = 20_000
_NOTE: Final = (
    "I am the offline model, not a language model: I only match the words of a message with the names and "
    "descriptions of skills and run the one that fits best."
)


class OfflineModel:
    """A Model that chooses a skill by words and runs its entry command on the paths that the message names."""

    @property
    def provider(self) -> str:
        return "offline"

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Answer; see Model.stream. It fails only where the answer has to keep to a schema, which it cannot."""
        if "output_config" in request.extra:
            why = "the offline model is not a language model, and cannot answer by a schema"
            raise ModelError(why, code="invalid_request")
        async with aclosing(_events(request)) as events:
            yield events

    async def count_tokens(self, request: ModelRequest) -> int:
        """Words, which is what it counts as its usage."""
        return _usage(request, ()).input_tokens

    async def aclose(self) -> None:
        """Nothing is held open."""


async def _events(request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
    content = answer(request)
    for index, block in enumerate(content):
        yield BlockStart(index, block["type"])
        if block["type"] == "text":
            for piece in _pieces(block["text"]):
                await trio.lowlevel.checkpoint()  # an answer may be long: others take their turn, a cancel gets in
                yield BlockDelta(index, "text", piece)
        yield BlockDone(index, block)
    stop_reason = "tool_use" if content[-1]["type"] == "tool_use" else "end_turn"
    yield MessageDone(model=OFFLINE_MODEL, stop_reason=stop_reason, content=content, usage=_usage(request, content))


def answer(request: ModelRequest) -> list[Block]:
    """What the offline model says to a request: a text, and the call of a tool where a skill is to be run. Pure."""
    question, results = _asked(request.messages)
    skill = best_skill(question, request.skills)
    if results:
        return [_text(_report(skill, results))]
    if skill is None:
        return [_text(_introduction(request.skills))]
    if skill.entry is None:
        return [_text(f"The skill {skill.name} fits, but it has no command that I could run.\n\n{_NOTE}")]
    if not any(tool.get("name") == _TOOL for tool in request.tools):
        return [_text(f"The skill {skill.name} fits, but this conversation has no {_TOOL} to run it with.\n\n{_NOTE}")]
    return [_text(f"Using the skill {skill.name}."), _call(skill.name, skill.entry, question, request.messages)]


def _asked(messages: Sequence[Message]) -> tuple[str, Sequence[Block]]:
    """The last thing a person said, and the results of tools that came after it."""
    results: list[Block] = []
    for message in reversed(messages):
        if message["role"] != "user":
            continue
        blocks = _blocks(message)
        results[:0] = [block for block in blocks if block["type"] == "tool_result"]
        text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
        # Text beside results is a note of the session (of a restart, say), not a question.
        if text.strip() and not any(block["type"] == "tool_result" for block in blocks):
            return text[:_MAX_QUESTION_CHARS], results
    return "", results


def _blocks(message: Message) -> Sequence[Block]:
    content = message["content"]
    return [_text(content)] if isinstance(content, str) else content


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _call(name: str, entry: Sequence[str], question: str, messages: Sequence[Message]) -> Block:
    paths = paths_named(question)
    command = " ".join([*map(shlex.quote, entry), *map(_quoted_path, paths)])
    digest = hashlib.sha256(json.dumps(messages, sort_keys=True, default=str).encode()).hexdigest()
    description = f"Run the skill {name}" + (f" on {', '.join(paths)}" if paths else "")
    return {
        "type": "tool_use",
        "id": f"toolu_offline{digest[:20]}",
        "name": _TOOL,
        "input": {"command": command, "description": description},
    }


def _quoted_path(path: str) -> str:
    """Quoted for the shell, but for a leading ~/, which it is to expand."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") and path != "~/" else shlex.quote(path)


def _report(skill: SkillHint | None, results: Sequence[Block]) -> str:
    subject = f"The skill {skill.name}" if skill else "The tool"
    verb = "failed" if any(result.get("is_error") for result in results) else "answered"
    output = "\n".join(_output(result) for result in results).strip() or "(no output)"
    return f"{subject} {verb}:\n\n{output}\n\n{_NOTE}"


def _output(result: Mapping[str, Any]) -> str:
    content = result.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def _introduction(skills: Sequence[SkillHint]) -> str:
    if not skills:
        return f"{_NOTE} There are no skills here yet: put a folder with a SKILL.md into a skills folder."
    listed = "\n".join(f"- {skill.name}: {skill.description}" for skill in sorted(skills, key=lambda s: s.name))
    how = "Write what you want in words of its description, or /skill-name arguments to run one as it is."
    return f"{_NOTE} No skill fits this message.\n\nSkills here:\n{listed}\n\n{how}"


def _pieces(text: str) -> Iterator[str]:
    """The text in chunks of some words, at most about 200 of them."""
    words = re.findall(r"\s*\S+\s*", text) or [text]
    step = max(2, -(-len(words) // _MAX_DELTAS))
    for start in range(0, len(words), step):
        yield "".join(words[start : start + step])


def _usage(request: ModelRequest, content: Sequence[Block]) -> Usage:
    """Words, counted; a price of 0 belongs to them."""
    said = [request.system, *(json.dumps(message["content"], ensure_ascii=False) for message in request.messages)]
    answered = [json.dumps(block.get("input", block.get("text")), ensure_ascii=False) for block in content]
    return Usage(input_tokens=_words(said), output_tokens=_words(answered))


def _words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)
