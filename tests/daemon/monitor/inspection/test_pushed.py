"""What programs are told to do: rules that redact or block, and a version that changes with every change."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from skilld.config import MonitorPolicyConfig, PolicyOverride
from skilld.monitor.batch import batch_of
from skilld.monitor.inspection.acting import Acting
from skilld.monitor.inspection.inspector import NOT_SCANNED, shown_agent, with_names
from skilld.monitor.inspection.pushed import Pushed, policy_for
from skilld_monitor.scanning import builtin, read_rules

RULES = builtin()
KEY = "secret.aws-access-key-id"
DANGER = "command.recursive-remove"
CHANNELS = ("LLM", "TOOL", "API")


def config(*overrides: PolicyOverride, **more: object) -> MonitorPolicyConfig:
    return MonitorPolicyConfig(overrides=overrides, **more)  # type: ignore[arg-type]


def test_by_default_programs_are_told_to_do_nothing() -> None:
    told = policy_for(config(), RULES, "shop")
    assert (told["mode"], told["fail"], told["dry_run"], told["rules"], told["modes"]) == (
        "observe",
        "open",
        False,
        [],
        {},
    )
    assert policy_for(config(mode="alert"), RULES, "shop")["rules"] == []


def test_all_rules_are_pushed_where_all_block() -> None:
    told = policy_for(config(mode="block"), RULES, "shop")
    assert len(read_rules(told["rules"])) == len(RULES)
    assert set(told["modes"].values()) == {"block"}
    assert policy_for(config(mode="block"), None, "shop")["rules"] == []


def test_the_last_override_that_fits_decides() -> None:
    made = config(
        PolicyOverride(category="sensitive_data", mode="redact"),
        PolicyOverride(agent="shop", rule=KEY, mode="block"),
        PolicyOverride(agent="shop", fail="closed"),
        PolicyOverride(agent="tests", mode="observe", dry_run=True),
    )
    other = policy_for(made, RULES, "other")
    assert (other["mode"], other["modes"][KEY], other["fail"]) == ("observe", "redact", "open")
    assert {rule["category"] for rule in other["rules"]} == {"sensitive_data"}
    shop = policy_for(made, RULES, "shop")
    assert (shop["modes"][KEY], shop["fail"]) == ("block", "closed")
    tests = policy_for(made, RULES, "tests")
    assert (tests["modes"], tests["dry_run"]) == ({}, True)


def test_the_version_is_another_for_another_policy_and_the_same_for_the_same() -> None:
    versions = {
        policy_for(made, rules, "shop")["version"]
        for made in (
            config(),
            config(mode="alert"),
            config(mode="block"),
            config(mode="block", fail="closed"),
            config(mode="block", dry_run=True),
            config(PolicyOverride(rule=KEY, mode="block")),
        )
        for rules in (RULES,)
    }
    assert len(versions) == 6
    assert (
        policy_for(config(mode="block"), builtin(), "a")["version"]
        == policy_for(config(mode="block"), RULES, "b")["version"]
    )


def test_it_is_made_once_for_an_agent_and_anew_when_something_changes() -> None:
    pushed, made = Pushed(), config(mode="block")
    first = pushed.policy_for(made, RULES, "shop")
    assert pushed.policy_for(made, RULES, "shop") is first
    line = pushed.line_for(made, RULES, "shop")
    assert json.loads(line) == {"policy": first}
    assert pushed.line_for(made, RULES, "stall") is line, "and sent as it is"
    for number in range(300):
        assert pushed.policy_for(made, RULES, f"agent-{number}") is first, "nothing is said of it alone"
    named = config(PolicyOverride(agent="tests", mode="observe"), mode="block")
    assert pushed.policy_for(named, RULES, "tests")["rules"] == []
    assert json.loads(pushed.line_for(named, RULES, "tests"))["policy"]["rules"] == []
    assert pushed.policy_for(named, RULES, "shop")["rules"] == first["rules"]
    assert pushed.policy_for(named, RULES, "tests")["rules"] == []
    assert pushed.policy_for(config(), RULES, "shop")["rules"] == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"agent": "shop"}, "says nothing"),
        ({"rule": "x", "fail": "closed"}, "what is said of channels, a category or a rule is its mode"),
        ({"category": "sensitive_data", "mode": "block", "dry_run": True}, "hold for whole agents"),
        ({"channels": ["LLM"]}, "says nothing"),
        ({"channels": ["LLM"], "fail": "closed"}, "what is said of channels, a category or a rule is its mode"),
        ({"channels": ["LLM"], "mode": "alert", "dry_run": True}, "hold for whole agents"),
        (
            {"channels": ["LLM"], "mode": "redact"},
            "'redact' holds in programs whatever the channel.*'observe' and 'ale",
        ),
        ({"channels": ["LLM"], "rule": KEY, "mode": "block"}, "write it without channels"),
        ({"channels": ["*"], "mode": "alert"}, "is no channel"),
        ({"mode": "forbid"}, "'observe', 'alert', 'redact' or 'block'"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(fields: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        PolicyOverride(**fields)  # type: ignore[arg-type]


def test_an_agent_whose_name_is_masked_is_known_by_what_is_shown_of_it() -> None:
    name = "mailer-ops@example.com"
    made = config(PolicyOverride(agent=name, mode="block"))
    shown = with_names(RULES, batch_of({"batch": 1, "run": "a" * 32, "agent": name, "events": []})).agent
    assert shown != name
    assert Acting(made, RULES).on(shown, KEY, "LLM") == ("block", True)
    assert Acting(made, RULES).on("another", KEY, "LLM") == ("allow", False)
    assert shown_agent(RULES, "x" * 300) == "x" * 200, "as it is stored"


def test_what_was_done_is_said_in_the_words_of_opentelemetry() -> None:
    made = config(PolicyOverride(category="sensitive_data", mode="redact"), PolicyOverride(agent="dry", dry_run=True))
    acting = Acting(made, RULES)
    assert acting.on("shop", KEY, "LLM") == ("modify", True)
    assert acting.on("dry", KEY, "LLM") == ("allow", True)
    assert acting.on("shop", "of-nobody", "LLM") == ("allow", False)
    assert Acting(config(mode="block"), RULES).on("shop", KEY, "LLM") == ("block", True)


def test_whether_sinks_are_told_can_hang_on_the_channel() -> None:
    made = config(
        PolicyOverride(channels=("LLM", "TOOL"), category="sensitive_data", mode="alert"),
        PolicyOverride(channels=("TOOL",), agent="tests", mode="observe"),
    )
    acting = Acting(made, RULES)
    told = {(agent, channel): acting.on(agent, KEY, channel)[1] for agent in ("shop", "tests") for channel in CHANNELS}
    assert [which for which, is_told in told.items() if is_told] == [
        ("shop", "LLM"),
        ("shop", "TOOL"),
        ("tests", "LLM"),
    ]
    assert acting.on("shop", DANGER, "LLM") == ("allow", False), "of another category"


def test_nothing_that_is_said_of_channels_reaches_programs() -> None:
    """Such as that in one channel nobody is told: what redacts or blocks goes on doing so, and is said to."""
    made = config(
        PolicyOverride(channels=("TOOL",), mode="observe"),
        PolicyOverride(channels=("LLM",), rule=KEY, agent="shop", mode="alert"),
        mode="block",
    )
    plain = config(mode="block")
    for agent in ("shop", "other"):
        assert policy_for(made, RULES, agent) == policy_for(plain, RULES, agent)
    assert Acting(made, RULES).on("shop", KEY, "TOOL") == ("block", False)
    assert Acting(made, RULES).on("shop", KEY, "LLM") == ("block", True)


def test_of_what_could_not_be_looked_at_it_can_be_said_by_channel_and_agent_that_it_is_told() -> None:
    loud = Acting(
        config(PolicyOverride(channels=("LLM",), mode="alert"), PolicyOverride(agent="a", mode="alert")), RULES
    )
    assert loud.on("shop", NOT_SCANNED, "LLM") == ("allow", True)
    assert loud.on("a", NOT_SCANNED, "API") == ("allow", True)
    assert loud.on("shop", NOT_SCANNED, "API") == ("allow", False)
    quiet = Acting(config(PolicyOverride(channels=("LLM",), mode="observe"), mode="alert"), RULES)
    assert quiet.on("shop", NOT_SCANNED, "LLM") == ("allow", True), "nobody knows what it was"
    assert quiet.on("shop", KEY, "LLM") == ("allow", False)
