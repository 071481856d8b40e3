"""A long conversation with tools, billed by the fake API's meter: what caching and compaction save, and that all holds.

`benchmarks/long_conversation.py` is the same over HTTP and with 500 turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from session_kit import open_kit
from skill_actors.models import ModelRequest, Usage
from skill_actors.models.context_management import MIN_COMPACTION_TOKENS
from skill_actors.sessions.compaction import CompactionMode, CompactionSettings
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.testing import Answer, Meter, Reply, ScriptedModel, Text, ToolUse
from support import run

TURNS = 40
LINES = 400
WINDOW_SHARE = 0.05  # of a million: the least at which the API compacts
DOOR = "The door is blue."


def respond(body: Mapping[str, Any]) -> Answer:
    """A tool for each question, in every other turn two; then an answer. A summary where no tools are offered."""
    last = body["messages"][-1]["content"]
    if not body.get("tools"):
        return Reply([Text(f"{DOOR} All the rest was numbers.")], chunk_chars=500)
    if any(block["type"] == "tool_result" for block in last):
        return Reply([Text("That was it. " * 20)], chunk_chars=500)
    number = int(next(block["text"] for block in reversed(last) if block["type"] == "text").split()[1])
    command = {"command": f"seq {number} {number + LINES}", "description": "Look"}
    return Reply([Text("Let me look."), *[ToolUse("bash_tool", command)] * (1 + number % 2)], chunk_chars=500)


class Judged(ScriptedModel):
    """Answers by `respond`, and does without the cache where it is told to."""

    def __init__(self, *, cache: bool) -> None:
        super().__init__(respond=respond, meter=Meter(now=lambda: 0.0, summarise=lambda _: DOOR))
        self.cache = cache

    def stream(self, request: ModelRequest) -> Any:
        if not self.cache:
            request = ModelRequest(**{name: getattr(request, name) for name in request.__slots__ if name != "cache"})
        return super().stream(request)


async def converse(folder: Path, mode: CompactionMode, *, cache: bool = True) -> Judged:
    """The conversation; every turn ends well, and each call of a tool has one result."""
    model = Judged(cache=cache)
    defaults = SessionDefaults(compaction=CompactionSettings(compact_at=WINDOW_SHARE, mode=mode))
    async with open_kit(folder, model, defaults=defaults) as kit:
        session = await kit.session()
        for number in range(TURNS):
            turn = await kit.ask(session, f"Question {number} of many. {DOOR}")
            assert turn["status"] == "finished", turn
        called, answered = Counter[str](), Counter[str]()
        for event in await kit.events(session):
            if event.type == "model.message":
                called.update(block["id"] for block in event.data["content"] if block["type"] == "tool_use")
            elif event.type == "tool.finished":
                answered[event.data["id"]] += 1
        assert called == answered
        assert set(answered.values()) == {1}
        assert len(answered) == TURNS * 3 // 2
    return model


def usage_of(model: Judged) -> Usage:
    return sum((entry.usage for entry in model.meter.bill), Usage())


def test_a_cached_conversation_costs_a_fraction_and_reads_nearly_all_of_its_input(tmp_path: Path) -> None:
    async def main() -> None:
        plain = await converse(tmp_path / "plain", "off", cache=False)
        cached = await converse(tmp_path / "cached", "off")
        # The same conversation; only ids differ.
        assert usage_of(plain).prompt_tokens == pytest.approx(usage_of(cached).prompt_tokens, rel=0.01)
        assert usage_of(plain).cache_read_tokens == 0
        assert usage_of(cached).cache_read_tokens > 0.9 * usage_of(cached).prompt_tokens
        assert plain.meter.billed_nanousd > 5 * cached.meter.billed_nanousd

    for name in ("plain", "cached"):
        (tmp_path / name).mkdir()
    run(main)


@pytest.mark.parametrize("mode", ["server", "own"])
def test_a_compacted_conversation_stays_short_and_knows_what_was_said(tmp_path: Path, mode: CompactionMode) -> None:
    async def main() -> None:
        model = await converse(tmp_path, mode)
        summaries = sum(entry.summaries for entry in model.meter.bill) + len(model.meter.bill) - 2 * TURNS
        assert summaries >= 1
        prompts = [entry.usage.prompt_tokens for entry in model.meter.bill if not entry.summaries]
        assert max(prompts) < MIN_COMPACTION_TOKENS * 1.3
        assert min(prompts[prompts.index(max(prompts)) :]) < 0.6 * max(prompts)
        assert DOOR in str(model.requests[-1].messages)

    run(main)
