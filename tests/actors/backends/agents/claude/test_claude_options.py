"""What an operator and a session may say about `claude`, and the command line that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_kit import open_stand_in
from skill_actors.backends.agents.claude.arguments import Places, Shape, command_line, environment, fits
from skill_actors.backends.agents.claude.options import ClaudeOptions, checked
from skill_actors.backends.agents.claude.papers import Papers
from skill_actors.backends.agents.claude.session_options import SessionOptions, check
from skill_actors.backends.base import BackendUnavailable, OptionRefused
from support import run

PLACES = Places(home=Path("/h"), config=Path("/c"), temporary=Path("/t"))
PLAIN = Shape(model=None, effort=None, max_tokens=None, schema=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"programm": "x"}, "there is none such"),
        ({"max_processes": 0}, "at least 1"),
        ({"max_processes": True}, "at least 1"),
        ({"idle_close_s": "long"}, "at least 0"),
        ({"duplex": 1}, "true or false"),
        ({"environment": {"A=B": "x"}}, "variables by name"),
        ({"disallowed_tools": "Bash"}, "list of texts"),
        ({"program": "a\0b"}, "must be text"),
    ],
)
def test_an_operators_mistake_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        checked(options)


def test_a_key_is_in_no_message_and_no_repr() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        checked({"api_key": 12345})
    assert "12345" not in str(caught.value)
    assert "secret" not in repr(ClaudeOptions(api_key="secret", environment={"A": "secret"}))


ALLOWED: list[dict[str, Any]] = [
    {},
    {"permission_mode": "plan", "tools": ["Bash", "Edit"], "disallowed_tools": ["Bash(rm *)"], "max_turns": 3},
    {"tools": [], "max_budget_usd": 2, "effort": "max", "fallback_model": "sonnet,haiku", "betas": ["x-2026-01-01"]},
    {"agents": {"helper": {"description": "d", "prompt": "p", "tools": ["Read"], "model": "haiku"}}, "bare": True},
]


@pytest.mark.parametrize("options", ALLOWED)
def test_options_that_are_accepted_are_so_again(options: dict[str, Any]) -> None:
    once = check(options, ClaudeOptions(), is_root=True)
    assert once == options
    assert check(once, ClaudeOptions(), is_root=True) == once
    SessionOptions.of(once)


@pytest.mark.parametrize(
    "options",
    [
        {"add_dir": "/etc"},
        {"settings": "{}"},
        {"model": "x"},
        {"permission_mode": "yolo"},
        {"permission_mode": "auto"},
        {"permission_mode": "acceptEdits"},
        {"permission_mode": "bypassPermissions"},
        {"allowed_tools": ["Bash"]},
        {"project_settings": True},
        {"tools": ["--dangerously-skip-permissions"]},
        {"tools": "Bash"},
        {"disallowed_tools": ["-x"]},
        {"disallowed_tools": ["Bash(a\nb)"]},
        {"disallowed_tools": ["A"] * 201},
        {"max_turns": 0},
        {"max_turns": 1.5},
        {"max_budget_usd": float("nan")},
        {"max_budget_usd": float("inf")},
        {"max_budget_usd": -1},
        {"fallback_model": "--x"},
        {"fallback_model": "a,,b"},
        {"betas": ["A b"]},
        {"effort": "extreme"},
        {"agents": {"a": {"description": "d"}}},
        {"agents": {"a": {"description": "d", "prompt": "p", "hooks": {}}}},
        {"agents": {"a": {"description": "d", "prompt": "p" * 70_000}}},
        {"environment": {"LD_PRELOAD": "/x"}},
        {"environment": {"TEAM": "a\0b"}},
    ],
    ids=str,
)
def test_what_a_session_may_not_say_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(OptionRefused) as caught:
        check(options, ClaudeOptions(session_variables=("TEAM",)), is_root=False)
    assert caught.value.option == next(iter(options))


def test_the_operator_permits_what_is_not_asked_and_bypass_apart() -> None:
    unasked = ClaudeOptions(unasked=True)
    for options in ({"permission_mode": "auto"}, {"allowed_tools": ["Bash"]}, {"project_settings": True}):
        assert check(options, unasked, is_root=True) == options
    bypass = {"permission_mode": "bypassPermissions"}
    with pytest.raises(OptionRefused, match=r"bypass = true"):
        check(bypass, unasked, is_root=False)
    assert check(bypass, ClaudeOptions(bypass=True), is_root=False) == bypass
    with pytest.raises(OptionRefused, match=r"sandboxed = true"):
        check(bypass, ClaudeOptions(bypass=True), is_root=True)
    assert check(bypass, ClaudeOptions(bypass=True, sandboxed=True), is_root=True) == bypass
    with pytest.raises(OptionRefused, match="at most 5"):
        check({"max_turns": 6}, ClaudeOptions(max_turns=5), is_root=False)


def test_the_command_line_is_this() -> None:
    session = SessionOptions(tools=("Bash",), allowed_tools=("Bash(git log *)", "Edit"), max_turns=3, bare=True)
    shape = Shape(model="opus", effort="low", max_tokens=5, schema={"a": 1}, cap_usd=0.5)
    operator = ClaudeOptions(disallowed_tools=("CronCreate",), api_key_file="/run/a key")
    line = command_line(operator, session, shape, PLACES, resume="ID", fork=True)
    assert line == [
        *("claude", "--print", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"),
        *("--include-partial-messages", "--replay-user-messages", "--permission-prompt-tool", "stdio"),
        *("--model", "opus", "--permission-mode", "default", "--tools", "Bash"),
        *("--allowedTools", "Bash(git log *)", "Edit", "--disallowedTools", "CronCreate"),
        *("--max-turns", "3", "--max-budget-usd", "0.500000", "--effort", "low", "--setting-sources", ""),
        *("--settings", '{"apiKeyHelper": "cat \'/run/a key\'"}', "--strict-mcp-config", "--bare"),
        *("--disable-slash-commands", "--resume", "ID", "--fork-session"),
    ]
    assert "--tools" not in command_line(ClaudeOptions(), SessionOptions(), PLAIN, PLACES, resume=None, fork=True)
    none = command_line(ClaudeOptions(), SessionOptions(tools=()), PLAIN, PLACES, resume=None, fork=False)
    assert none[none.index("--tools") + 1] == ""


def test_a_key_file_keeps_the_key_out_of_the_environment_and_a_session_changes_nothing_of_ours() -> None:
    operator = ClaudeOptions(api_key="k", api_key_file="/key", environment={"A": "operator"})
    session = SessionOptions(environment={"A": "session", "HOME": "/etc", "CLAUDE_CONFIG_DIR": "/etc", "B": "b"})
    env = environment(operator, session, PLAIN, PLACES)
    assert "ANTHROPIC_API_KEY" not in env
    assert (env["A"], env["B"], env["HOME"], env["CLAUDE_CONFIG_DIR"]) == ("operator", "b", "/h", "/c")
    socket = environment(ClaudeOptions(socket="/s"), session, PLAIN, PLACES)
    assert (socket["ANTHROPIC_UNIX_SOCKET"], socket["ANTHROPIC_BASE_URL"]) == ("/s", "http://localhost")


def test_a_process_fits_a_turn_by_its_shape_and_what_is_left_of_its_cap() -> None:
    def shape(cap: float | None, model: str = "a") -> Shape:
        return Shape(model=model, effort=None, max_tokens=None, schema=None, cap_usd=cap)

    assert fits(shape(None), shape(None), 5)
    assert not fits(shape(None), shape(1), 0)
    assert not fits(shape(1), shape(None), 0)
    assert not fits(shape(1), shape(1, "b"), 0)
    assert fits(shape(1), shape(1), 0.5)
    assert not fits(shape(1), shape(1), 0.51)  # too little left
    assert not fits(shape(5), shape(1), 0)  # it could spend more than the turn may


def test_sessions_are_found_from_other_folders_and_nothing_else_is(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "own")
    name = "11111111-1111-4111-8111-111111111111"
    here = papers.config / "projects" / "-a-b"
    here.mkdir(parents=True)
    (here / f"{name}.jsonl").write_text("said")
    assert papers.bring(name, Path("/c_d"))
    assert (papers.config / "projects" / "-c-d" / f"{name}.jsonl").read_text() == "said"
    assert not papers.bring("22222222-1111-4111-8111-111111111111", Path("/c"))
    for odd in ("*", "../../x", "", "-a-b"):
        assert not papers.bring(odd, Path("/c"))
    assert {entry.stat().st_mode & 0o777 for entry in (tmp_path / "own").iterdir()} == {0o700}


def test_check_says_what_to_mend(tmp_path: Path) -> None:
    async def says(words: str, **options: Any) -> None:
        async with open_stand_in(tmp_path, **options) as backend:
            with pytest.raises(BackendUnavailable, match=words):
                await backend.check()

    async def main() -> None:
        await says("no credential", api_key="")
        await says("api_key_file", api_key_file=str(tmp_path / "none"))
        await says("install the claude program", program="no-such-program")
        await says("2.1.196, and 2.1.197 is needed", environment={"STAND_IN_VERSION": "2.1.196 (Claude Code)"})
        await says("says no version", environment={"STAND_IN_VERSION": "hello"})
        await says("has no option --allowedTools", environment={"STAND_IN_HELP": "--print"})
        async with open_stand_in(tmp_path) as backend:
            await backend.check()
            assert (await backend.facts())["version"] == "2.1.197"

    run(main)
