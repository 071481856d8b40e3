"""Which files a call names: what a rule about paths is compared with."""

from __future__ import annotations

import time
from typing import Any

import pytest

from policy_kit import bash_call, ruled
from skill_actors.backends.base import ToolCall
from skill_actors.sessions.policy import Policy, RuleSet

SECRET = ruled({"effect": "deny", "path": ["/etc/**", "secret/**"]}, preset="full")
IN_DOCS = ruled({"effect": "allow", "path": "docs/**"}, {"effect": "deny"})


def decided(rules: RuleSet, call: ToolCall) -> str:
    policy = Policy(tools=["bash_tool", "view", "create_file"], rules=[rules], workspace="/desk")
    return policy.decide(call).verdict


def view(path: Any) -> ToolCall:
    return ToolCall(id="t", name="view", input={"path": path})


@pytest.mark.parametrize(
    "line",
    [
        *(
            "cat /etc/shadow",
            "cat //etc/shadow",
            "cat /desk/secret/x",
            "cat ./secret/x",
            "cat x/../secret/y",
            "ls secret",
        ),
        *("grep -f/etc/shadow x", "grep -rf/etc/shadow x", "grep -rnfsecret/x y", "cp -at/etc/x y", "ls -Isecret"),
        *("dd if=/etc/x", "dd of=secret/x", "ls --x=secret/x", "ls --x=y=/etc/x", "cp x@/etc/y z", "head @/etc/x"),
        *("cat file:///etc/x", "cat file://localhost/etc/x", "cat file:/etc/x", "cat a:/etc/x", "ls a,secret/x"),
        *("cat /proc/self/cwd/secret/x", "cat /proc/self/root/etc/x", "cat /proc/1/task/1/root/etc/x", "cat /dev/fd/9"),
        *("cat /dev/../etc/x", "cat s*/x", "cat se[c]ret/x", "cat se{c,x}ret/f", "cat */x", "cat ~/x", "cat /???/x"),
        *(
            "cd sec*; cat x",
            "cd /; cat etc/x",
            "cd x && cat y",
            "find sub -execdir cat x \\;",
            "cat < secret/x",
            "ls > /etc/x",
        ),
        *(
            "nice cat secret/x",
            "env grep -f/etc/shadow x",
            "xargs cat",
            "find . -exec cat {} +",
            "ls " + "@" * 20 + "/etc/x",
        ),
        "ls /" + "a/" * 3_000,
    ],
)
def test_a_command_that_may_name_a_denied_file_is_denied(line: str) -> None:
    assert decided(SECRET, bash_call(line)) == "deny"


@pytest.mark.parametrize(
    "line",
    [
        *(
            "cat x",
            "cat docs/secret",
            "cat ./a/b",
            "cat ../x",
            "ls -la",
            "grep -rn a docs",
            "ls a:b",
            "cat d*/x",
            "ls --x=y",
        ),
        *("head -c 5 https://host/etc", "cat /proc/cpuinfo", "find . -name x -exec ls -l a \\;", "cat /dev/zero"),
    ],
)
def test_one_that_surely_names_others_is_not(line: str) -> None:
    assert decided(SECRET, bash_call(line)) == "allow"


@pytest.mark.parametrize(
    "path",
    [
        *("/proc/self/root/desk/docs/x", "/proc/self/cwd/docs/x", "/proc/thread-self/root/desk/docs/x", "/dev/fd/7"),
        *("link/../docs/x", "file://docs/x", "skill://s/assets/x", "docs/link/../../docs/x", "a/" * 3_000, "é" * 3_000),
    ],
)
def test_a_path_of_which_only_the_system_knows_what_it_means_is_denied_and_not_allowed(path: str) -> None:
    assert decided(SECRET, view(path)) == "deny"
    assert decided(IN_DOCS, view(path)) == "deny"


def test_what_leads_upwards_from_the_workspace_is_told() -> None:
    assert decided(IN_DOCS, view("../desk/docs/x")) == "allow"
    assert decided(IN_DOCS, view("/../../desk//docs/./x")) == "allow"
    assert decided(SECRET, view("../etc/x")) == "deny"


def test_composed_and_decomposed_letters_are_other_files_as_they_are_to_the_system() -> None:
    rules = ruled({"effect": "allow", "path": "caf\u00e9/**"}, {"effect": "deny"})
    assert decided(rules, view("caf\u00e9/x")) == "allow"
    assert decided(rules, view("cafe\u0301/x")) == "deny"
    assert decided(rules, view("CAF\u00c9/x")) == "deny"


def test_a_hostile_call_and_hostile_rules_are_compared_in_bounded_time() -> None:
    paths = ["**/" + "*a*b" * 8 + f"x{number}/**/y/**/z" for number in range(200)]
    rules = ruled({"effect": "deny", "path": paths}, {"effect": "deny", "path": paths}, preset="full")
    tools = ruled(*[{"effect": "deny", "tool": [f"*{a}_{b}_x" for b in range(200)]} for a in range(200)], preset="full")
    words = ruled({"effect": "deny", "command": ["*" + "a*" * 6 + f"z {n}" for n in range(200)]}, preset="full")
    began = time.process_time()
    for given in (rules, tools, words):
        for line in ("cat" + " " + "a/" * 8_000, "cat " + ("a/" * 15 + "x ") * 490, "cat a/b/c/d a/b/c/d;" * 100):
            decided(given, bash_call(line))
        decided(given, view("a/" * 1_000_000))
    assert time.process_time() - began < 5.0


def test_what_names_too_many_files_to_compare_is_never_allowed_by_its_paths() -> None:
    paths = ["**/" + "*a*b" * 8 + f"x{number}/**" for number in range(200)]
    line = "cat < docs/x " + "a/b/c/d/e " * 480
    restricted = ruled({"effect": "deny", "path": paths}, preset="full")
    permitted = ruled({"effect": "allow", "command": "cat **", "path": ["docs/**", *paths[:199]]}, {"effect": "deny"})
    assert decided(restricted, bash_call(line)) == "deny"
    assert decided(permitted, bash_call(line)) == "deny"
    assert decided(permitted, bash_call("cat < docs/x a/b")) == "allow"
