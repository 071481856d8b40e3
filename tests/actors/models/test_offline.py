"""The offline model: which skill it takes, what it runs, what it says."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from skill_actors.models import (
    BlockDelta,
    Message,
    MessageDone,
    ModelRequest,
    OfflineModel,
    SkillHint,
    cost_usd,
)
from skill_actors.models.offline_choice import best_skill, paths_named
from skill_actors.models.request import request_body
from skill_actors.testing import check_request
from support import run, run_virtual

ECHO = SkillHint(name="echo", description="Prints its arguments back.", entry=("/s/echo/scripts/echo.py",))
LOGS = SkillHint(
    name="log-analyzer",
    description="Analyzes system, package and web server logs: counts per level, error rates, health.",
    entry=("python3", "/s/log analyzer/analyze.py"),
)
NOTES = SkillHint(name="notes", description="How to write release notes for customers.", entry=None)
SKILLS = (NOTES, LOGS, ECHO)
BASH = {"name": "bash_tool", "description": "", "input_schema": {"type": "object"}}


def user(text: str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def answered(*messages: Message, skills: tuple[SkillHint, ...] = SKILLS, tools: Any = (BASH,)) -> MessageDone:
    request = ModelRequest(model="offline", messages=messages, skills=skills, tools=tools, system="Be good.")
    assert check_request(request_body(request)) is None

    async def main() -> MessageDone:
        async with OfflineModel().stream(request) as events:
            made = [event async for event in events]
        done = made[-1]
        assert isinstance(done, MessageDone)
        texts = [block["text"] for block in done.content if block["type"] == "text"]
        assert "".join(event.text for event in made if isinstance(event, BlockDelta)) == "".join(texts)
        return done

    return run_virtual(main)


@pytest.mark.parametrize(
    ("message", "skill"),
    [
        ("analyze the log /var/log/dpkg.log", LOGS),
        ("Please analyse my logs", LOGS),
        ("how healthy is this server, what are the error rates?", LOGS),
        ("echo /var/log/syslog", ECHO),
        ("echo hello", ECHO),
        ("write the release notes", NOTES),
        ("what is the weather", None),
        ("hello", None),
        ("", None),
        ("please use a skill and help me with this", None),
    ],
)
def test_the_skill_is_chosen_by_the_words_of_the_message(message: str, skill: SkillHint | None) -> None:
    assert best_skill(message, SKILLS) == skill


def test_ties_go_to_the_first_by_name() -> None:
    twins = [SkillHint(name=name, description="Counts words.", entry=None) for name in ("b", "a", "c")]
    chosen = best_skill("count the words", twins)
    assert chosen is not None
    assert chosen.name == "a"


@pytest.mark.parametrize(
    ("message", "paths"),
    [
        ("analyze /var/log/dpkg.log, then ~/x and ./y/z.", ("/var/log/dpkg.log", "~/x", "./y/z")),
        ('read "/my files/a b.txt" (or ../c)', ("/my files/a b.txt", "../c")),
        ("see https://example.org/a/b", ()),
        ("and/or 24/7 1/2/2026 / //", ()),
        ("-rf/x --output=/etc/passwd", ()),
        ("app.log, e.g. report.CSV; see node.js", ("app.log", "report.CSV")),
        ("/a /a /b", ("/a", "/b")),
        ("don't look at 'it", ()),
        ("bad\0/path", ()),
    ],
)
def test_paths_are_found_in_messages(message: str, paths: tuple[str, ...]) -> None:
    assert paths_named(message) == paths


def test_it_runs_the_entry_command_on_the_paths_named() -> None:
    done = answered(user("analyze the log '/var/log/my app.log' and ~/b; rm.log"))
    assert done.stop_reason == "tool_use"
    text, call = done.content
    assert "log-analyzer" in text["text"]
    assert (call["type"], call["name"]) == ("tool_use", "bash_tool")
    command = call["input"]["command"]
    assert shlex.split(command) == [
        "python3",
        "/s/log analyzer/analyze.py",
        "/var/log/my app.log",
        "~/b",
        "rm.log",
    ]
    assert " ~/b " in command, "the shell must be able to expand it"
    assert "log-analyzer" in call["input"]["description"]


@pytest.mark.parametrize("path", ["/tmp/$(reboot)", "/tmp/`x`", "/tmp/a;b", "~/$(reboot)", "/tmp/a'b"])
def test_nothing_in_a_path_is_run_by_the_shell(path: str) -> None:
    command = answered(user(f'analyze the log "{path}"')).content[1]["input"]["command"]
    assert shlex.split(command)[-1] == path
    assert shlex.quote(path.removeprefix("~/")) in command


def test_after_the_tool_it_gives_the_output_and_names_the_skill_and_itself() -> None:
    question = user("analyze the log /var/log/dpkg.log")
    first = answered(question)
    result = {"type": "tool_result", "tool_use_id": first.content[1]["id"], "content": "health: OK\n"}
    done = answered(question, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]})
    assert (done.stop_reason, done.model) == ("end_turn", "offline")
    text = done.content[0]["text"]
    assert "The skill log-analyzer answered:\n\nhealth: OK" in text
    assert "not a language model" in text


def test_a_failed_tool_is_said_to_have_failed() -> None:
    first = answered(user("echo hi"))
    result = {
        "type": "tool_result",
        "tool_use_id": first.content[1]["id"],
        "content": [{"type": "text", "text": "boom"}],
        "is_error": True,
    }
    history = (user("echo hi"), {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]})
    assert "echo failed:\n\nboom" in answered(*history).content[0]["text"]


def test_a_new_question_after_an_answer_is_a_new_choice_with_a_new_id() -> None:
    first = answered(user("echo hi"))
    result = {"type": "tool_result", "tool_use_id": first.content[1]["id"], "content": "hi"}
    done = answered(
        user("echo hi"),
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
        user("echo hi"),
    )
    assert done.stop_reason == "tool_use"
    assert done.content[1]["id"] != first.content[1]["id"]


def test_without_a_fitting_skill_it_lists_what_there_is_and_says_what_it_is() -> None:
    text = answered(user("what is the weather")).content[0]["text"]
    assert "not a language model" in text
    assert text.index("- echo:") < text.index("- log-analyzer:") < text.index("- notes:")


def test_without_any_skill_it_says_how_to_add_one() -> None:
    assert "SKILL.md" in answered(user("hello"), skills=()).content[0]["text"]


def test_a_skill_without_a_command_and_a_conversation_without_the_tool_are_said() -> None:
    assert "no command" in answered(user("write the release notes")).content[0]["text"]
    assert "no bash_tool" in answered(user("echo hi"), tools=()).content[0]["text"]


def test_the_same_request_gets_the_same_answer_and_costs_nothing() -> None:
    one, two = answered(user("echo hi")), answered(user("echo hi"))
    assert one == two
    assert one.usage.output_tokens > 0
    assert cost_usd(one.model, one.usage) == 0.0


def test_a_huge_message_is_answered_soon() -> None:
    async def main() -> None:
        words = "/a/b analyze \"'" * 100_000
        request = ModelRequest(model="offline", messages=[user(words)], skills=SKILLS, tools=[BASH])
        async with OfflineModel().stream(request) as events:
            async for _ in events:
                pass

    run(main)
