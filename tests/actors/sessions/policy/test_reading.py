"""Rules and the session setting as they are written: what is wrong is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.sessions.policy import PRESETS, parse_policy, parse_rules, preset_set


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("deny", r"rules\[0\]: expected an object"),
        ({}, r"rules\[0\].effect: expected allow, ask or deny, got None"),
        ({"effect": "refuse"}, "got 'refuse'"),
        ({"effect": "deny", "comand": "rm"}, "unknown field 'comand'; command?"),
        ({"effect": "deny", "tool": "Wriet"}, r"rules\[0\].tool: 'Wriet' is no tool; there are Bash"),
        ({"effect": "deny", "tool": []}, "list of 1 to"),
        ({"effect": "deny", "tool": 7}, "expected text"),
        ({"effect": "deny", "tool": [""]}, "1 to 1000 characters"),
        ({"effect": "deny", "command": ["rm", "x" * 2_000]}, "1 to 1000 characters"),
        ({"effect": "deny", "command": "rm 'x"}, "no pattern of words"),
        ({"effect": "deny", "command": "rm ** x"}, "only at the end"),
        ({"effect": "deny", "command": "$RM"}, "can be no program"),
        ({"effect": "deny", "command": "\u0433m"}, "can be no program"),
        ({"effect": "deny", "command": "eval **"}, "can be no program"),
        ({"effect": "deny", "command": "a*b*c*d*e*f*g*h*i*j"}, "at most 8 times"),
        ({"effect": "allow", "command": "python3.11 **"}, "python3.11 can run other code"),
        ({"effect": "allow", "command": "curl https://host/ **"}, "curl can run other code"),
        ({"effect": "deny", "path": "../x"}, r"a pattern has no \.\."),
        ({"effect": "deny", "path": "~/x"}, "stands for nothing here"),
        ({"effect": "deny", "path": "/**/a" * 5}, "at most 4 times"),
        ({"effect": "deny", "path": "a**"}, "whole parts of a path"),
        ({"effect": "deny", "user": "root"}, "expected the id of a user"),
        ({"effect": "deny", "user": True}, "expected the id of a user"),
        ({"effect": "deny", "user": -1}, "expected the id of a user"),
        ({"effect": "deny", "user": []}, "list of users"),
        ({"effect": "deny", "secret": "yes"}, "expected true or false"),
        ({"effect": "deny", "opaque": "ask"}, "the rule has none of them"),
        ({"effect": "allow", "command": "ls", "opaque": "deny"}, "has opaque = allow, or none"),
        ({"effect": "allow", "command": "git log **"}, "git can run other code"),
        ({"effect": "allow", "command": "./build.sh"}, "can run other code"),
        ({"effect": "deny", "reason": "x" * 501}, "at most 500 characters"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(rule: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_rules([rule], "rules")


def test_a_list_of_rules_is_a_list_and_not_too_long() -> None:
    for given_ in ("x", {"effect": "deny"}, 7, None):
        with pytest.raises(ValueError, match="expected a list of rules"):
            parse_rules(given_)
    with pytest.raises(ValueError, match="at most 500 patterns of commands, paths and skills in all"):
        parse_rules([{"effect": "deny", "command": ["rm"] * 100, "path": "a"}] * 5)
    with pytest.raises(ValueError, match="at most 200 rules"):
        parse_rules([{"effect": "deny"}] * 201)


def test_users_are_known_by_name_where_there_is_somebody_to_ask() -> None:
    names = {"ada": 7}
    (rule,) = parse_rules([{"effect": "deny", "user": ["ada", 5]}], users=names.__getitem__)
    assert rule.users == (7, 5)
    with pytest.raises(ValueError, match="there is no user 'bob' on this host"):
        parse_rules([{"effect": "deny", "user": "bob"}], users=names.__getitem__)


def test_the_setting_of_a_session() -> None:
    assert parse_policy(None).on_ask == "wait"
    assert parse_policy({}).rule_set.rules == ()
    policy = parse_policy({"preset": "guarded", "rules": [{"effect": "deny", "tool": "Write"}], "on_ask": "deny"})
    assert policy.on_ask == "deny"
    assert [rule.label for rule in policy.rule_set.rules][:2] == ["session.policy.rules[0]", "guarded[0]"]


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ([], "policy: expected an object with preset, rules, on_ask"),
        ({"presets": "full"}, "unknown field 'presets'; preset"),
        ({"preset": "safe"}, "policy.preset: expected one of read-only, guarded, workspace, full, got 'safe'"),
        ({"preset": ["full"]}, "policy.preset"),
        ({"on_ask": "allow"}, "policy.on_ask: expected wait or deny, got 'allow'"),
        ({"rules": [{"effect": "deny", "user": 5}]}, "belongs to one user"),
        ({"rules": [{"effect": "deny", "path": ["a"] * 51}]}, "at most 50 patterns of commands, paths and skills"),
        ({"rules": [{"effect": "x"}]}, r"policy.rules\[0\].effect"),
    ],
)
def test_what_is_wrong_with_the_setting_is_named(setting: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_policy(setting)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["preset", "rules", "on_ask", "effect", "tool", "command", "path"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_anything_else_is_refused_in_one_way(value: Any) -> None:
    try:
        policy = parse_policy(value)
    except ValueError as error:
        said = str(error)
    else:
        said = f"policy.on_ask: {policy.on_ask}"
    assert said.startswith("policy")


def test_every_preset_is_written_as_anybody_could_write_it() -> None:
    for name, raw in PRESETS.items():
        written = parse_rules(list(raw))
        assert [rule.effect for rule in written] == [rule.effect for rule in preset_set(name)]
