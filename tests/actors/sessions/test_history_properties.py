"""Whatever events there are, and in whatever order, the API takes what is made of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from history_kit import Script, text, use
from skill_actors.models.base import ModelRequest
from skill_actors.models.context_management import COMPACTION_BETA
from skill_actors.models.facts import facts_of
from skill_actors.models.request import request_body
from skill_actors.sessions.events import TURN_ENDINGS, Event
from skill_actors.sessions.history import History
from skill_actors.sessions.lineage import branch_of
from skill_actors.testing.context_edits import check_context
from skill_actors.testing.request_check import check_request

TOOLS: list[dict[str, Any]] = [
    {"name": "bash_tool", "input_schema": {"type": "object"}},
    {"type": "code_execution_20260521", "name": "code_execution"},
]
STEPS = (
    *("ask", "ask pinned", "queue", "start", "end", "cut", "answer", "think", "tools", "tools seen", "compaction"),
    *("no compaction", "pause", "partial", "tool starts", "tool ends", "loads", "skill changes", "skill gone", "steer"),
    *("steer with file", "compacted", "compacted late", "not compacted", "restarted", "forked", "imported", "upload"),
    *("upload gone", "container lost", "made", "reset", "compact turn"),
    *("code runs", "code and tool", "code ends", "code ends, compacted", "summary only"),
)


class Chaos:
    """Events that no engine would make, but for the ids of calls, which are as unique as the API makes them."""

    def __init__(self) -> None:
        self.script = Script()
        self.numbers = itertools.count(1)
        self.turn = "t0"
        self.open: list[str] = []
        self.paused: set[str] = set()
        self.running_code: str | None = None  # a call of the API's own tool that may get its result in the next answer

    def step(self, name: str, number: int) -> None:
        before = self.running_code
        self.any_step(name, number)
        if self.running_code == before and name not in ("tool starts", "tool ends", "upload", "compacted"):
            self.running_code = None

    def any_step(self, name: str, number: int) -> None:
        script, n = self.script, next(self.numbers)
        match name:
            case "ask" | "ask pinned" | "compact turn":
                self.turn = f"t{n}"
                flags = {"ask": {}, "ask pinned": {"pinned": True}, "compact turn": {"compact": True}}[name]
                script.ask("" if flags.get("compact") else f"question {n}", self.turn, **flags)
            case "queue":
                script.add("turn.queued", f"q{number}", text=f"later {n}", files=[{"name": "a.csv", "size": 1}])
            case "start":
                self.turn = f"q{number}"
                script.add("turn.started", self.turn)
            case "end" | "cut":
                script.add("turn.finished" if name == "end" else "turn.interrupted", self.turn)
            case "upload" | "made":
                uploaded = {"uploaded": True} if name == "upload" else {}
                script.add("file.created", self.turn, file_id=f"file_{number}", name=f"n{number}", **uploaded)
            case "upload gone":
                script.add("file.deleted", self.turn, file_id=f"file_{number}", name=f"n{number}")
            case "container lost" | "restarted" | "forked" | "imported" | "reset":
                script.add(f"session.{name.replace(' ', '_')}", None)
            case "compacted" | "compacted late" | "not compacted":
                kept = {} if name == "compacted late" else {"kept_from_seq": number * len(script.events) // 9}
                script.add("session.compacted", self.turn, summary=None if "not" in name else f"sum {n}", **kept)
            case "steer" | "steer with file":
                files = [{"name": "b.csv", "size": 1}] if "file" in name else []
                script.add("turn.steered", self.turn, text=f"steered {n}", files=files)
            case "skill changes" | "skill gone":
                folder = None if "gone" in name else "/b"
                script.add("skill.changed", self.turn, name=f"s{number}", content=f"k{n % 2}", folder=folder)
            case _:
                self.model_step(name, number, n)

    def model_step(self, name: str, number: int, n: int) -> None:
        script = self.script
        match name:
            case "answer" | "partial":
                script.say(text(f"answer {n}"), turn=self.turn)
            case "think":
                script.say({"type": "thinking", "thinking": "hm", "signature": "real"}, turn=self.turn)
            case "tools" | "tools seen":
                self.open = [f"call_{n}_{index}" for index in range(1 + number % 3)]
                seen = {"seen_seq": len(script.events) - number} if "seen" in name else {}
                content = [text("wait"), *map(use, self.open)]
                script.add("model.message", self.turn, content=content, **seen)
            case "compaction" | "no compaction":
                block = {"type": "compaction", "content": f"theirs {n}" if name == "compaction" else None}
                self.open = [f"call_{n}"] if number % 2 else []
                script.say(block, text("on"), *map(use, self.open), turn=self.turn)
            case "pause":
                self.open, self.running_code = [], f"srv_{n}"
                self.paused.add(f"srv_{n}")
                script.add("model.message", self.turn, content=[code(f"srv_{n}")], stop_reason="pause_turn")
            case "code runs":
                self.open = []
                script.say(code(f"srv_{n}"), code_result(f"srv_{n}"), text("ran"), turn=self.turn)
            case "code and tool":
                self.open, self.running_code = [f"call_{n}"], f"srv_{n}"
                script.say(code(f"srv_{n}"), use(f"call_{n}"), turn=self.turn)
            case "code ends" | "code ends, compacted" if self.running_code is not None:
                summary = [{"type": "compaction", "content": f"theirs {n}"}] if "compacted" in name else []
                script.say(*summary, code_result(self.running_code), text("ran"), turn=self.turn)
                self.open, self.running_code = [], None
            case "summary only":
                self.open = []
                script.say({"type": "compaction", "content": ("theirs", "", None)[number % 3]}, turn=self.turn)
            case "tool starts" if self.open:
                script.add("tool.started", self.turn, id=self.open[number % len(self.open)])
            case "tool ends" if self.open:
                script.add("tool.finished", self.turn, id=self.open.pop(), content="out", is_error=bool(number % 2))
            case "loads" if self.open:
                loaded = {"name": f"s{number}", "content": f"k{n % 2}", "folder": "/a"}
                script.add("tool.finished", self.turn, id=self.open.pop(), content="use it " * n, skill_loaded=loaded)
            case _:
                pass


def code(id: str) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": id, "name": "code_execution", "input": {}}


def code_result(id: str) -> dict[str, Any]:
    return {"type": "code_execution_tool_result", "tool_use_id": id, "content": {"type": "code_execution_result"}}


def faults(events: list[Event], paused: set[str]) -> Iterator[tuple[int, str]]:
    """What the API would say at each point at which a model could be asked."""
    history = History()
    for event in events:
        history.add(event)
        if not history.messages() or history.open_calls() or (history.paused and not history.is_open):
            continue
        for model in ("claude-sonnet-5-5", "claude-haiku-4-5"):
            fault = refusal(history, model, paused)
            if fault is not None:
                yield event.seq, fault


def refusal(history: History, model: str, paused: set[str]) -> str | None:
    """What the API would say to a request of this model; None if it would take it."""
    compacts = facts_of(model).compaction
    if history.paused and not compacts:  # no turn changes its model
        return None
    messages = history.messages(api_summaries=compacts)
    body = request_body(ModelRequest(model=model, messages=messages, tools=TOOLS, cache=True))
    betas = [COMPACTION_BETA] if compacts else []
    return check_request(body, paused) or check_context(body, betas) if body["messages"] else None


CHAOS = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=60)


def made_of(steps: list[tuple[str, int]]) -> Chaos:
    chaos = Chaos()
    for name, number in steps:
        chaos.step(name, number)
    return chaos


@settings(max_examples=300, deadline=None)
@given(CHAOS)
def test_the_api_takes_every_prefix(steps: list[tuple[str, int]]) -> None:
    chaos = made_of(steps)
    assert list(faults(chaos.script.events, chaos.paused)) == []


@pytest.mark.deep
@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), min_size=60, max_size=300))
def test_the_api_takes_every_prefix_of_long_conversations(steps: list[tuple[str, int]]) -> None:
    chaos = made_of(steps)
    assert list(faults(chaos.script.events, chaos.paused)) == []


@settings(max_examples=200, deadline=None)
@given(CHAOS)
def test_what_is_pinned_and_what_the_running_turn_was_asked_stays_word_for_word(steps: list[tuple[str, int]]) -> None:
    """Unless the API makes the summary: then what is pinned is there again with the user's next message."""
    history, pins = History(), set[str]()
    for event in made_of(steps).script.events:
        running, before, said = history.running, own(history), str(history.messages())
        if event.type == "turn.queued" and event.data.get("pinned"):
            pins.add(str(event.data["text"]))
        must = {pin for pin in pins if f"'{pin}'" in said}
        history.add(event)
        if event.type == "session.reset" or theirs(event):
            continue
        must |= before if history.running == running else set()
        said = str(history.messages())
        assert all(f"'{each}'" in said for each in must)


def own(history: History) -> set[str]:
    """What the user has said in the turn that runs."""
    pieces = [piece for piece in history.pieces if piece.kind == "said" and piece.turn == history.running is not None]
    return {str(block["text"]) for piece in pieces for block in piece.content}


def theirs(event: Event) -> bool:
    content = event.data.get("content", ()) if event.type == "model.message" else ()
    return any(block["type"] == "compaction" and block["content"] for block in content)


@settings(max_examples=100, deadline=None)
@given(CHAOS)
def test_a_fork_is_as_good(steps: list[tuple[str, int]]) -> None:
    """Numbers that events name each other by are those of the copy."""
    chaos = made_of(steps)
    ended = {event.turn for event in chaos.script.events if event.type in TURN_ENDINGS}
    queued = {event.turn for event in chaos.script.events if event.type == "turn.queued"}
    if ended <= queued:
        forked = list(branch_of(chaos.script.events, "s2").events)
        assert list(faults(forked, chaos.paused)) == []
