"""The page for readers who come from AgentWorkshop: nothing is left out, and what it names is there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from doc_kit import ROOT
from skill_actors.backends.agents.base import AgentResult, AgentSession
from skill_actors.backends.agents.claude.arguments import FLAGS
from skill_actors.backends.agents.claude.session_options import SessionOptions
from skill_actors.workshop.agents.settings import AgentSettings
from skill_actors.workshop.event_names import is_known
from skill_actors.workshop.guides import GUIDES
from skilld.cli.app import skillctl
from skilld.dashboard.assets import load_assets
from skilld.mcp.tools import TOOLS

PAGE = ROOT / "docs/agent-workshop.md"
CONFIGURATION = {
    *("configure", "backend", "backend_config", "context", "max_cost_usd", "mcp", "persistence", "dashboard"),
    *("git_context", "model", "max_turns", "permission_mode", "max_budget_usd", "effort", "log_level", "load"),
    *("stop", "reset_all", "flush"),
}
AGENTS = {
    *("agent", "agents", "dismiss", "reset", "profile", "from_profile", "profiles", "status", "info", "result"),
    *("history", "cost", "total_cost", "budget", "reset_budget", "allowed_tools", "disallowed_tools"),
    *("dangerously_skip_permissions", "worktree", "mcp_config", "add_dir", "settings", "append_system_prompt"),
    *("no_session_persistence", "workshop_tools", "skill", "timeout"),
}
SPEAKING = {"ask", "cast", "await", "await_all", "pipe", "fan"}
SHARED = {
    *("put", "get", "store_keys", "store_delete", "store", "events", "watch", "unwatch", "clear_events", "every"),
    *("schedules", "cancel", "git_summary", "git_diff"),
}
BOARD = {
    *("work", "board", "work_item", "claim_work", "start_work", "complete_work", "fail_work", "cancel_work"),
    *("work_from_result", "board_worker", "workers"),
}
WORKFLOWS = {"workflow", "run_workflow", "reset_workflow", "workflow_status", "workflows"}
CALLBACKS = {
    *("start_session", "send_message", "session_id", "history", "last_result", "total_cost", "turn_count"),
    "stop_session",
}
RESULT = {"result", "session_id", "cost_usd", "is_error", "duration_ms", "num_turns"}
EVENTS = {
    *("created", "dismissed", "reset", "ask_complete", "cast_complete", "error", "crashed", "added", "claimed"),
    *("started", "completed", "failed", "cancelled", "ready", "blocked", "put", "delete", "clear", "defined", "tick"),
}
TELEMETRY = {
    *("ask.start", "cast.start", "ask.stop", "cast.stop", "ask.error", "cast.error", "agent_created"),
    *("agent_dismissed", "agent_crashed", "work_added", "work_completed", "work_failed", "schedule_tick"),
    *("board_worker_started", "board_worker_completed"),
}
THE_21 = {
    *("configure", "create_agent", "from_profile", "agents", "reset", "dismiss", "ask", "cast", "await", "await_all"),
    *("pipe", "fan", "status", "result", "info", "cost", "add_work", "board", "claim_work", "complete_work"),
    "fail_work",
}
ERRORS = {
    *("timeout", "budget_exceeded", "queue_full", "no_result", "crash", "exit", "invalid_transition", "not_found"),
    "already_running",
}
PAGES = {"Overview", "Board", "Workers", "Config", "Git", "Reference"}
PROGRAM = {"daemon", "stop", "status", "board", "workers", "workflows", "cost", "events", "load", "console"}
LINK = r"\[[^\]]+\]\(\.\./tests/[\w/]+\.py\)"
FEATURES = 32
LIMITS = 24

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the page is in the repository")


def section(heading: str) -> str:
    """What is below a heading."""
    found = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert found, heading
    return found


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("| ")]
    return [re.split(r" \| ", line.strip("| ")) for line in lines[1:]]


def code(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("Configuration", CONFIGURATION),
        ("Agents", AGENTS),
        ("Speaking", SPEAKING),
        ("Values, events and times", SHARED),
        ("The board", BOARD),
        ("Workflows", WORKFLOWS),
        ("Backends", CALLBACKS),
        ("Events", EVENTS),
        ("Errors", ERRORS),
        ("Telemetry", TELEMETRY),
        ("The dashboard", PAGES),
        ("The program aw", PROGRAM),
    ],
)
def test_nothing_of_theirs_is_without_a_row(heading: str, names: set[str]) -> None:
    assert {name for row in rows(heading) for name in code(row[0])} == names


def test_results_tools_guides_and_setups_are_all_named() -> None:
    backends = code(section("Backends"))
    assert backends >= RESULT
    assert set(AgentResult.__dataclass_fields__) >= RESULT
    assert {name for name in CALLBACKS if hasattr(AgentSession, name)} == CALLBACKS - {"start_session"}
    assert code(section("Tools over MCP")) - {"turn"} == THE_21
    assert {each.name for each in TOOLS} > THE_21
    named = code(section("Guides and set-ups")) - {"AGENTS.md", "--workshop-tools"}
    setups = {path.parent.name for path in (ROOT / "examples/setups").glob("*/workshop.toml")}
    assert named == set(GUIDES) | setups
    assert len(setups) == 11


def commands() -> list[str]:
    """Every call of skillctl in the page."""
    return sorted(each for each in code(PAGE.read_text()) if each.startswith("skillctl "))


@pytest.mark.parametrize("call", commands())
def test_every_command_of_the_page_is_there_with_its_options(call: str) -> None:
    command: click.Command = skillctl
    words = call.split()[1:]
    while words and isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, call
        command = found
    offered = {option for each in command.params for option in each.opts}
    assert {word for word in words if word.startswith("--")} <= offered


def test_every_event_of_ours_that_the_page_names_is_one() -> None:
    ours = {name for row in rows("Events") for name in code(row[1]) if "NAME" not in name and " " not in name}
    told = {name.removeprefix("workshop.") for row in rows("Telemetry") for name in code(row[1])}
    for name in ours | {each for each in told if not each.startswith("turn.")}:
        assert is_known(*name.split(".")), name


def test_the_pages_that_it_names_are_those_of_our_dashboard() -> None:
    ours = set(re.findall(r'\["[a-z]+", "([A-Z][a-z]+)", [a-z]+\]', load_assets()["app.js"].content.decode()))
    told = {name for row in rows("The dashboard") for name in re.findall(r"\b[A-Z][a-z]+\b", row[1])}
    new = {"Agents", "Workflows", "Approvals"}
    assert ours == told | new
    assert all(name in section("The dashboard").partition("New are")[2] for name in new)


def test_what_it_says_that_we_say_to_the_program_is_said() -> None:
    told, _, none = section("Backends").partition("the daemon's own to say: ")[2].partition(". What names")
    assert len(code(told)) > 5
    assert {f"--{flag}" for flag in code(told)} <= FLAGS
    ours = {each.name for kind in (SessionOptions, AgentSettings) for each in fields(kind)}
    assert "agents" in ours
    assert {flag.replace("-", "_") for flag in code(none)} & ours == set()


def shown() -> list[tuple[str, str]]:
    """The name and the file of each test that the page names."""
    return re.findall(r"\[([^\]]+)\]\(\.\./(tests/[\w/]+\.py)\)", PAGE.read_text())


@pytest.mark.parametrize(("name", "file"), shown(), ids=lambda value: str(value)[:60])
def test_every_test_that_the_page_names_is_there(name: str, file: str) -> None:
    text = Path(ROOT, file).read_text()
    assert re.search(rf"^def test_{name.replace(' ', '_')}\(", text, re.MULTILINE)


def test_no_limit_and_no_feature_is_without_its_test() -> None:
    limits = rows("Its limits")
    assert {int(row[0]) for row in limits} == set(range(1, LIMITS + 1))
    features = rows("What there is more")
    assert len({row[0] for row in features}) == FEATURES
    for row in (*limits, *features):
        assert len(row) == 3
        assert re.fullmatch(rf"{LINK}(, {LINK})*", row[2]), row
