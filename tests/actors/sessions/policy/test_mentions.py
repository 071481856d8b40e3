"""A rule about a skill holds for every line that may run its code, however its folder is written."""

from __future__ import annotations

import time

import pytest

from policy_kit import bash_call, ruled
from skill_actors.sessions.policy import Policy

ROOTS = {"/skills/evil": "evil", "/skills/ok": "ok"}


def verdict(line: str, **rule: str) -> str:
    rules = ruled({"effect": "deny", "skill": "evil", **rule}, preset="full")
    policy = Policy(tools=["bash_tool"], rules=[rules], workspace="/desk", skill_roots=ROOTS)
    return policy.decide(bash_call(line)).verdict


@pytest.mark.parametrize(
    "line",
    [
        *(
            "/skills/evil/run",
            "python3 /skills/evil/a.py",
            "/skills/ev''il/run",
            "\\/skills/evil/run",
            "sh '/skills/evil/run'",
        ),
        *(
            "/skills//evil/run",
            "/skills/./evil/run",
            "/skills/ok/../evil/run",
            "../skills/evil/run",
            "nice /skills/evil/run",
        ),
        *("cd /skills && evil/run", "cd /skills; cd evil; ./run", "cd / && skills/evil/run", "cd /skills/evil; ./run"),
        *(
            "sh /skills/e*/run",
            "sh /skills/{evil,ok}/run",
            "sh /skills/e{v,x}il/run",
            "sh /sk*/evil/run",
            "sh /*/*/run",
        ),
        *("x=/skills/ev; ${x}il/run", "sh $(echo /skills/evil/run)", "(/skills/evil/run)", "sh <<< /skills/evil/run"),
        *("bash -c '/skills/evil/run'", "bash -c '/skills/ev\"\"il/run'", "bash -c '/skills/ev\\il/run'"),
        *(
            "cp -r /skills x",
            "ln -s /skills x",
            "find /skills -name run -exec sh {} +",
            "cp /skills/evil/run x",
            "ls /skills/evil",
            "sh skill://evil/assets/run",
            "skill://evil/assets/run x",
        ),
    ],
)
def test_a_line_that_may_run_a_denied_skill_is_denied(line: str) -> None:
    assert verdict(line) == "deny"


@pytest.mark.parametrize(
    "line", ["ls", "python3 /skills/ok/a.py", "cat *", "cd docs && ls x", "echo evil", "ls -l a/b"]
)
def test_other_lines_are_not(line: str) -> None:
    assert verdict(line) == "allow"


def test_a_rule_can_pass_on_what_cannot_be_told() -> None:
    assert verdict("echo $x", opaque="allow") == "allow"
    assert verdict("/skills/evil/run", opaque="allow") == "deny"
    assert verdict("echo $x") == "deny"


def test_very_many_skills_are_compared_at_once() -> None:
    rules = ruled({"effect": "deny", "skill": "*_7"}, preset="full")
    roots = {f"/var/lib/skills/s_{number}": f"s_{number}" for number in range(3_000)}
    policy = Policy(tools=["bash_tool"], rules=[rules], workspace="/desk", skill_roots=roots)
    began = time.process_time()
    assert policy.decide(bash_call("cd x; ls " + "a/b/c/d/e/f " * 480)).verdict == "allow"
    assert policy.decide(bash_call("cd /; ls " + "a* " * 480 + "var/lib/skills/s_7")).verdict == "deny"
    assert time.process_time() - began < 3.0
