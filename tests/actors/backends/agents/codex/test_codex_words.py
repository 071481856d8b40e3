"""The pure parts of the codex backend: command lines, configuration, totals, items, failures."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.backends.agents.base import AgentSpec, McpServer, Notice, Raw, Said, Spent, ToolBegan, ToolEnded
from skill_actors.backends.agents.codex.arguments import environment, exec_arguments, server_arguments
from skill_actors.backends.agents.codex.asking import asked_of
from skill_actors.backends.agents.codex.configuration import as_toml, configuration, provider
from skill_actors.backends.agents.codex.items import began, change_tool, ended, spelled
from skill_actors.backends.agents.codex.options import CodexOptions, SessionChoice
from skill_actors.backends.agents.codex.outcome import code_of_error, code_of_text
from skill_actors.backends.agents.codex.reading import Reading, parse
from skill_actors.backends.agents.codex.usage import Meter, Totals
from skill_actors.backends.base import BackendUnavailable
from skill_actors.models.base import Usage
from skill_actors.models.prices import PriceTable, Rates

COUNTS = st.integers(min_value=0, max_value=10**9)
FREE = PriceTable(dated=date(2026, 1, 1), web_search_per_1000=Decimal(0), rates={})


def spec(**fields: Any) -> AgentSpec:
    return AgentSpec(agent="ses_1", folder=Path("/work"), **fields)


# Command lines


def test_options_stand_before_the_word_resume_and_the_prompt_is_read_from_stdin() -> None:
    argv = exec_arguments(
        "codex",
        profile="p",
        folder=Path("/work"),
        sandbox="read-only",
        model="m",
        schema=Path("/s"),
        images=[Path("/a"), Path("/b")],
        resume="thread",
    )
    assert argv == [
        *("codex", "exec", "--json", "--skip-git-repo-check", "--color", "never", "--profile", "p"),
        *("--sandbox", "read-only", "--cd", "/work", "--model", "m", "--output-schema", "/s"),
        *("--image=/a", "--image=/b", "resume", "thread", "-"),
    ]


def test_a_server_is_told_what_holds_for_all_and_no_secret() -> None:
    argv = server_arguments("codex", provider(CodexOptions(api_key="sk-secret", base_url="http://x/v1", retries=2)))
    assert argv[:2] == ["codex", "app-server"]
    settings = tomllib.loads("\n".join(argv[3::2]))
    assert settings["analytics"]["enabled"] is False
    assert settings["model_providers"]["skilld"]["base_url"] == "http://x/v1"
    assert settings["model_provider"] == "skilld"
    assert "secret" not in str(argv)


def test_a_program_that_is_logged_in_by_itself_has_its_own_provider() -> None:
    assert "model_provider" not in provider(CodexOptions())


def test_the_environment_is_what_the_operator_says_and_ours() -> None:
    made = environment(
        CodexOptions(environment={"A": "1", "PATH": "/odd"}), home=Path("/h"), temporary=Path("/t"), key="k"
    )
    assert made == {
        "PATH": "/odd",
        "LANG": "C.UTF-8",
        "A": "1",
        "CODEX_HOME": "/h/codex",
        "HOME": "/h/home",
        "TMPDIR": "/t",
        "SKILLD_CODEX_KEY": "k",
    }


# Configuration


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.booleans() | st.integers(min_value=-(2**63), max_value=2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_a_profile_says_what_it_was_made_from(table: dict[str, Any]) -> None:
    assert tomllib.loads(as_toml(table)) == table


def test_a_conversation_is_configured_with_what_it_chose() -> None:
    choice = SessionChoice(network=True, web_search="live", effort="high", features={"goals": False})
    server = McpServer(command=("run", "-x"), environment={"T": "1"})
    made = configuration(spec(system="role", mcp={"a": server}), choice, CodexOptions())
    assert made["sandbox_mode"] == "workspace-write"
    assert made["sandbox_workspace_write"]["network_access"] is True
    assert (made["web_search"], made["model_reasoning_effort"]) == ("live", "high")
    assert (made["features"], made["agents"]) == ({"goals": False}, {"enabled": False})
    assert made["developer_instructions"] == "role"
    assert made["mcp_servers"]["a"] == {
        "command": "run",
        "args": ["-x"],
        "env": {"T": "1"},
        "default_tools_approval_mode": "prompt",
        "required": True,
        "startup_timeout_sec": 30,
    }


def test_a_remote_server_of_tools_has_its_headers_and_without_questions_its_calls_are_approved() -> None:
    server = McpServer(url="https://x/mcp", headers={"Authorization": "Bearer t"})
    made = configuration(spec(mcp={"a": server}), SessionChoice(approval="never"), CodexOptions())
    assert made["mcp_servers"]["a"] == {
        "url": "https://x/mcp",
        "http_headers": {"Authorization": "Bearer t"},
        "default_tools_approval_mode": "approve",
        "required": True,
        "startup_timeout_sec": 30,
    }


@pytest.mark.parametrize("name", ["a.b", "", "a b", 'a"', "ä"])
def test_a_server_whose_name_codex_would_take_apart_is_refused(name: str) -> None:
    with pytest.raises(BackendUnavailable, match="letters, digits"):
        configuration(spec(mcp={name: McpServer(command=("x",))}), SessionChoice(), CodexOptions())


# Totals


@given(st.lists(st.tuples(COUNTS, COUNTS, COUNTS), min_size=1, max_size=8), st.integers(0, 7), st.integers(0, 3))
def test_what_turns_took_adds_up_to_the_last_total(answers: list[tuple[int, int, int]], cut: int, again: int) -> None:
    """However the answers are spread over turns and restarts, and however often a total is told."""
    total, taken = Totals(), Usage()
    remembered = Totals()
    meter = Meter(remembered, FREE)
    for number, (plain, cached, output) in enumerate(answers):
        if number == cut:
            taken += meter.usage
            remembered = Totals.of((meter.totals or Totals()).to_dict())
            meter = Meter(remembered, FREE)
        total = Totals(input=total.input + plain + cached, cached=total.cached + cached, output=total.output + output)
        for _ in range(again + 1):
            meter.tell(total)
    taken += meter.usage
    assert (taken.prompt_tokens, taken.cache_read_tokens) == (total.input, total.cached)
    assert taken.output_tokens == total.output


def test_a_thread_whose_totals_nobody_remembers_pays_for_its_newest_answer_alone() -> None:
    meter = Meter(None, FREE)
    meter.tell(Totals(input=500, output=50), Totals(input=100, output=10))
    assert meter.usage == Usage(input_tokens=100, output_tokens=10)
    told = Meter(None, FREE)
    told.begin(Totals(input=400, output=40))
    told.tell(Totals(input=500, output=50))
    assert told.usage == Usage(input_tokens=100, output_tokens=10)


def test_a_count_that_goes_down_was_begun_anew() -> None:
    assert Totals(input=30, output=5).since(Totals(input=100, output=10)) == Usage(input_tokens=30, output_tokens=5)


@pytest.mark.parametrize(
    "odd", [{"input_tokens": "7"}, {"input_tokens": -5}, {"inputTokens": None}, {"output": 1.5}, {}]
)
def test_counts_that_are_none_are_nothing(odd: dict[str, Any]) -> None:
    assert Totals.of(odd) == Totals()


def test_each_answer_is_priced_by_itself_and_an_unknown_price_is_no_price() -> None:
    def rates(price: int, limit: int | None) -> Rates:
        same = Decimal(price)
        return Rates(
            input=same,
            cache_write_5m=same,
            cache_write_1h=same,
            cache_read=same,
            output=same,
            max_prompt_tokens=limit,
        )

    tiers = {"m": [rates(1, 100), rates(1000, None)]}
    meter = Meter(Totals(), PriceTable(dated=date(2026, 1, 1), web_search_per_1000=Decimal(0), rates=tiers))
    meter.model = "m"
    for number in (1, 2, 3):
        meter.tell(Totals(input=90 * number))
    assert meter.cost_usd == pytest.approx(3 * 90 / 1e6)
    assert (meter.answers, meter.by_model) == (3, {"m": Usage(input_tokens=270)})
    meter.model = "unheard-of"
    meter.tell(Totals(input=300))
    meter.model = "m"
    meter.tell(Totals(input=310))
    assert meter.cost_usd is None


# Items and failures


def test_both_spellings_of_an_item_are_one() -> None:
    new = {
        "type": "commandExecution",
        "id": "1",
        "command": "ls",
        "aggregatedOutput": "x",
        "exitCode": 2,
        "status": "failed",
    }
    old = {"type": "command_execution", "id": "1", "command": "ls", "aggregated_output": "x", "exit_code": 2}
    for item in (spelled(new), spelled(old)):
        assert list(began(item)) == [
            Said([{"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": "ls"}}]),
            ToolBegan("1", "Bash", {"command": "ls"}),
        ]
        assert list(ended(item)) == [ToolEnded("1", "x\n(exit code 2)", True)]


def test_an_item_of_an_unknown_kind_is_kept_as_it_is() -> None:
    item = spelled({"type": "holographicNote", "id": "1", "someThing": [1]})
    assert (list(began(item)), list(ended(item))) == ([], [Raw(item)])


def test_a_tool_that_begins_and_ends_at_once_is_told_whole() -> None:
    reading = Reading(Meter(Totals(), FREE), prefix="t1_")
    item = {"id": "item_0", "type": "web_search", "query": "cats"}
    events = reading.line({"type": "item.completed", "item": item})
    assert [type(event) for event in events] == [Said, ToolBegan, ToolEnded]
    assert events[1] == ToolBegan("t1_item_0", "WebSearch", {"query": "cats"})


def test_calls_that_a_turn_leaves_open_are_ended_with_it() -> None:
    reading = Reading(Meter(Totals(), FREE), "t")
    reading.notification("item/started", {"item": {"type": "commandExecution", "id": "1", "command": "x"}})
    events = reading.notification("turn/completed", {"turn": {"status": "interrupted"}})
    assert list(events) == [ToolEnded("1", "interrupted", True)]
    assert (reading.done, reading.interrupted, reading.failure) == (True, True, None)


@pytest.mark.parametrize("status", [None, "surprising", 7])
def test_a_turn_that_ended_in_no_known_way_has_failed(status: Any) -> None:
    reading = Reading(Meter(Totals(), FREE), "t")
    reading.notification("turn/completed", {"turn": {"status": status}})
    assert reading.failure is not None


NAMES = ["type", "item", "id", "usage", "error", "status", "changes", "result"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "item", "id", "usage", "error", "status", "changes", "result"]), inner
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["item.started", "item.completed", "turn.completed", "turn.failed", "error", "thread.started"]),
    st.sampled_from(["item/started", "item/completed", "turn/completed", "error", "thread/tokenUsage/updated"]),
)
def test_no_message_of_any_shape_breaks_a_reading(value: Any, kind: str, method: str) -> None:
    fields = value if isinstance(value, dict) else {"item": value, "usage": value, "turn": value, "tokenUsage": value}
    reading = Reading(Meter(Totals(), FREE))
    reading.line({**fields, "type": kind})
    reading.notification(method, fields)
    assert reading.partial is not None


@pytest.mark.parametrize("line", [b"", b"\xff", b"[1]", b"7", b"{", b"[" * 100_000, b'"x"'])
def test_a_line_that_is_no_message_is_none(line: bytes) -> None:
    assert parse(line) is None


def test_spending_is_told_once_for_each_new_total() -> None:
    reading = Reading(Meter(Totals(), FREE), "t")
    params = {"tokenUsage": {"total": {"inputTokens": 10, "outputTokens": 1}, "last": {}}}
    first = reading.notification("thread/tokenUsage/updated", params)
    assert [type(event) for event in first] == [Spent]
    assert list(reading.notification("thread/tokenUsage/updated", params)) == []


def test_a_server_of_tools_that_does_not_start_is_told_of() -> None:
    reading = Reading(Meter(Totals(), FREE), "t")
    failed = {"name": "board", "status": "failed", "error": "no such program"}
    [notice] = reading.notification("mcpServer/startupStatus/updated", failed)
    assert isinstance(notice, Notice)
    assert "board cannot be had: no such program" in notice.text
    assert list(reading.notification("mcpServer/startupStatus/updated", {"name": "t", "status": "ready"})) == []


def test_an_error_among_the_items_is_a_note() -> None:
    reading = Reading(Meter(Totals(), FREE))
    item = {"id": "0", "type": "error", "message": "Model metadata not found"}
    assert list(reading.line({"type": "item.completed", "item": item})) == [Notice("Model metadata not found")]
    assert not reading.done


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "x", "codexErrorInfo": "unauthorized"}, "auth"),
        ({"message": "x", "codexErrorInfo": "usageLimitExceeded"}, "overloaded"),
        ({"message": "x", "codexErrorInfo": "cyberPolicy"}, "refused"),
        ({"message": "x", "codexErrorInfo": {"httpConnectionFailed": {"httpStatusCode": 401}}}, "auth"),
        ({"message": "x", "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": 503}}}, "overloaded"),
        ({"message": "x", "codexErrorInfo": {"new": {"httpStatusCode": None}}}, "command_failed"),
        ({"message": "unexpected status 403 Forbidden"}, "auth"),
        ({}, "command_failed"),
    ],
)
def test_errors_have_codes(error: dict[str, Any], code: str) -> None:
    assert code_of_error(error) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("thread/resume failed: no rollout found for thread id x", "session_lost"),
        ("stream disconnected before completion: Overloaded", "io"),
        ("We are currently experiencing high demand", "overloaded"),
        ("error: unexpected argument '--profile' found", "version_mismatch"),
        ("something else", "command_failed"),
    ],
)
def test_words_have_codes(text: str, code: str) -> None:
    assert code_of_text(text) == code


def test_changes_of_files_are_tools_that_policies_know() -> None:
    assert change_tool({"path": "a", "kind": "add", "diff": "x"})[0] == "Write"
    assert change_tool({"path": "a", "kind": {"type": "delete"}})[0] == "Edit"
    assert change_tool(None) == ("Edit", {"file_path": "", "change": "None", "diff": ""})


@pytest.mark.parametrize(
    ("limits", "until_s"),
    [
        ({"primary": {"usedPercent": 100, "resetsAt": 1_800_000_000}, "secondary": None}, 1_800_000_000.0),
        (
            {
                "primary": {"usedPercent": 100, "resetsAt": 1_800_000_000},
                "secondary": {"usedPercent": 100, "resetsAt": 1_900_000_000},
            },
            1_900_000_000.0,
        ),
        ({"primary": {"usedPercent": 99, "resetsAt": 1_800_000_000}}, None),
        ({"primary": {"usedPercent": "100", "resetsAt": 1_800_000_000}}, None),
        ({"primary": {"usedPercent": 100, "resetsAt": None}, "secondary": [1]}, None),
    ],
)
def test_a_limit_that_is_used_up_is_known_until_it_ends(limits: dict[str, Any], until_s: float | None) -> None:
    reading = Reading(Meter(None, FREE))
    assert reading.notification("account/rateLimits/updated", {"rateLimits": limits}) == ()
    assert reading.limited_until_s == until_s


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("unasked", [True, False])
def test_whoever_is_asked_about_a_command_is_told_that_it_may_leave_its_sandbox(outside: bool, unasked: bool) -> None:
    params = {"itemId": "1", "command": "make", "cwd": "/work"}
    asked = asked_of("item/commandExecution/requestApproval", params, None, leaves=outside, unasked=unasked)
    assert asked is not None
    assert ("without the sandbox" in asked.questions[0].input.get("sandbox", "")) == outside
    assert bool(asked.questions[0].beyond) == (outside and not unasked)
    assert asked.questions[0].input["command"] == "make"
