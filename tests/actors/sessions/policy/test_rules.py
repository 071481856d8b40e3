"""Which rule holds for a call: its conditions, the order, several sets, and what cannot be told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from policy_kit import bash_call, ruled
from skill_actors.backends.base import ToolCall
from skill_actors.sessions.policy import ActiveSkill, Decision, Policy, RuleSet, parse_policy
from skill_actors.skills import Skill

TOOLS = ("view", "bash_tool", "create_file", "str_replace", "load_skill", "hand_over", "code_execution", "x_execute")


def call(tool: str, argv: tuple[str, ...] | None = None, /, **input: Any) -> ToolCall:
    return ToolCall(id="t", name=tool, input=input, argv=argv)


def decide(asked: ToolCall, *rules: Any, preset: str | None = None, **policy: Any) -> Decision:
    given: dict[str, Any] = {"place": "local", "backend": "local", "workspace": "/desk/s"}
    given |= {"backends": {"local": "local", "box": "docker", "cloud": "anthropic"}, "natives": {"x_execute": "x"}}
    return Policy(tools=TOOLS, rules=[ruled(*rules, preset=preset)], **(given | policy)).decide(asked)


def verdict(asked: ToolCall | str, *rules: Any, **policy: Any) -> str:
    return decide(bash_call(asked) if isinstance(asked, str) else asked, *rules, **policy).verdict


# Order, and sets


def test_the_first_rule_that_holds_decides_and_without_any_a_call_is_allowed() -> None:
    rules = ({"effect": "allow", "command": "ls"}, {"effect": "deny", "command": "ls **"})
    assert [verdict(line, *rules) for line in ("ls", "ls -l", "cat x")] == ["allow", "deny", "allow"]


def test_every_command_of_a_line_is_judged_and_the_strictest_verdict_holds() -> None:
    rules = (
        {"effect": "allow", "command": ["ls **", "wc **"]},
        {"effect": "deny", "command": "rm **", "opaque": "ask"},
        {"effect": "ask"},
    )
    lines = {"ls | wc -l": "allow", "ls; cat x": "ask", "cat x && rm y": "deny", "rm x & ls": "deny", "ls $X": "ask"}
    assert {line: verdict(line, *rules) for line in lines} == lines


def test_of_two_sets_of_rules_the_stricter_holds_whichever_is_whose() -> None:
    def both(operators: RuleSet, sessions: dict[str, Any], line: str) -> str:
        sets = [operators, parse_policy(sessions).rule_set]
        return Policy(tools=TOOLS, rules=sets).decide(bash_call(line)).verdict

    denies = {"rules": [{"effect": "deny", "command": "rm **"}]}
    assert both(ruled({"effect": "deny", "command": "rm **"}), {"preset": "full"}, "rm x") == "deny"
    assert both(ruled({"effect": "ask"}), {"rules": [{"effect": "allow", "command": "ls"}]}, "ls") == "ask"
    assert both(ruled(preset="full"), denies, "rm x") == "deny"
    assert both(ruled(preset="full"), denies, "ls") == "allow"
    assert both(ruled({"effect": "ask"}), denies, "rm x") == "deny"
    assert both(ruled({"effect": "deny", "tool": "Bash"}), {"preset": "guarded"}, "ls") == "deny"


def test_who_denies_is_told_with_the_reason_and_the_place_of_the_rule() -> None:
    found = decide(bash_call("rm x"), {"effect": "deny", "command": "rm **", "reason": "not\x1b[2J here"})
    assert found.rule == "policy.rules[0]"
    assert found.reason.startswith("The policy of this daemon denies bash_tool (not\\x1b[2J here). It was not run.")
    session = parse_policy({"rules": [{"effect": "deny", "tool": "Bash"}]}).rule_set
    found = Policy(tools=TOOLS, rules=[RuleSet(), session]).decide(bash_call("ls"))
    assert found.reason.startswith("The policy of this conversation denies bash_tool.")
    found = decide(bash_call("echo $X"), {"effect": "ask", "command": "rm **"})
    assert found.verdict == "ask"
    assert "it cannot be told what the command does: the shell would put something else" in found.why


# Commands


def test_what_allows_means_its_words_and_what_restricts_all_that_begin_with_them() -> None:
    allow = ({"effect": "allow", "command": ["tool status", "tool log **", "tool show *"]}, {"effect": "deny"})
    lines = {
        "tool status": "allow",
        "tool status x": "deny",
        "tool log": "allow",
        "tool log a b": "allow",
        "tool show a": "allow",
        "tool show a b": "deny",
        "tool": "deny",
    }
    assert {line: verdict(line, *allow) for line in lines} == lines
    for pattern in ("tool push", "tool push *", "tool push **", "tool push:*", "/usr/bin/tool push"):
        restrict = {"effect": "deny", "command": pattern, "opaque": "allow"}
        assert verdict("tool push", restrict) == "deny", pattern
        assert verdict("tool push -f x", restrict) == "deny", pattern
        assert verdict("/usr/local/bin/tool push", restrict) == "deny", pattern
        assert verdict("./tool push", restrict) == "deny", pattern
        assert verdict("tool pull", restrict) == "allow", pattern


def test_words_that_the_shell_fills_in_count_against_whoever_wrote_them() -> None:
    allow = ({"effect": "allow", "command": ["cat *", "ls **"]}, {"effect": "deny"})
    assert [verdict(line, *allow) for line in ("cat a", "cat *", "ls *")] == ["allow", "deny", "allow"]
    deny = {"effect": "deny", "command": "cp -f **"}
    assert [verdict(line, deny) for line in ("cp -f a", "cp {-f,a}", "cp ? b", "cp a *")] == ["deny"] * 3 + ["allow"]


def test_a_rule_may_take_what_cannot_be_told_upon_itself() -> None:
    assert verdict("echo $X", {"effect": "deny", "command": "rm **"}) == "deny"
    assert verdict("echo $X", {"effect": "deny", "command": "rm **", "opaque": "ask"}) == "ask"
    assert verdict("echo $X", {"effect": "deny", "command": "rm **", "opaque": "allow"}) == "allow"
    assert verdict("rm $X", {"effect": "deny", "command": "rm **", "opaque": "allow"}) == "allow"
    assert verdict("rm x", {"effect": "deny", "command": "rm **", "opaque": "allow"}) == "deny"


def test_a_program_that_runs_other_code_is_allowed_only_by_a_rule_that_says_so() -> None:
    rest = {"effect": "deny"}
    assert verdict("python3 x.py", {"effect": "allow", "command": "**"}, rest) == "deny"
    said = {"effect": "allow", "command": "python3 *.py **", "opaque": "allow"}
    assert verdict("python3 x.py -v", said, rest) == "allow"
    assert verdict("python3 -c x.py", said, rest) == "deny"
    assert verdict("python3 x.py; rm y", said, rest) == "deny"
    assert verdict("python3 x.py $(rm y)", said, rest) == "deny"
    assert verdict("frobnicate x", {"effect": "allow", "command": "frobnicate **"}, rest) == "allow"
    assert verdict("frobnicate x", {"effect": "allow", "command": "* **"}, rest) == "deny"
    assert verdict("./frobnicate x", {"effect": "allow", "command": "frobnicate **"}, rest) == "deny"


def test_a_wrapper_needs_no_rule_of_its_own_but_one_that_does_more_does() -> None:
    rules = ({"effect": "allow", "command": ["ls **", "find **"]}, {"effect": "deny"})
    lines = {
        "env nice ls": "allow",
        "timeout 5 ls -l": "allow",
        "sudo ls": "deny",
        "xargs ls": "deny",
        "find . -exec ls {} +": "allow",
        "find . -exec rm {} +": "deny",
        "find . -delete": "deny",
    }
    assert {line: verdict(line, *rules) for line in lines} == lines
    assert verdict("env ls", {"effect": "deny", "command": "env **"}) == "deny"


def test_what_allows_a_command_does_not_allow_the_files_that_the_shell_opens_for_it() -> None:
    rest = {"effect": "deny"}
    plain = {"effect": "allow", "command": "echo **"}
    named = {"effect": "allow", "command": "echo **", "path": "out/**"}
    lines = {
        "echo x": ("allow", "deny"),
        "echo x 2>&1 >/dev/null": ("allow", "deny"),
        "echo x > out/a": ("deny", "allow"),
        "echo x > out/../a": ("deny", "deny"),
        "echo x > /desk/s/out/a": ("deny", "allow"),
        "echo x > out/a 2> b": ("deny", "deny"),
        "echo x > out/*": ("deny", "deny"),
        "cd x; echo x > out/a": ("deny", "deny"),
    }
    found = {line: (verdict(line, plain, rest), verdict(line, named, rest)) for line in lines}
    assert found == lines
    assert verdict("rm -rf / > out/a", {"effect": "allow", "path": "out/**"}, rest) == "deny"


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "secret/a",
        "./secret//a",
        "x/../secret/a",
        "/desk/s/secret/a",
        "/desk/../desk/s/secret",
        "//desk/s/secret/b/c",
    ],
)
def test_paths_are_compared_as_tools_see_them(path: str) -> None:
    deny = {"effect": "deny", "path": "secret/**"}
    for tool in ("view", "create_file", "str_replace"):
        assert verdict(call(tool, path=path), deny) == "deny"
    assert verdict(call("hand_over", name=path, **{"from": "local", "to": "box"}), deny) == "deny"
    behind_a_name = "x/.." in path or "k/.." in path  # which may be a link: then nobody knows where `..` leads
    allow = {"effect": "allow", "path": "secret/**"}
    assert verdict(call("view", path=path), allow, {"effect": "deny"}) == ("deny" if behind_a_name else "allow")


def test_other_paths_are_not_meant() -> None:
    deny = {"effect": "deny", "path": ["secret/**", "/etc/*.conf", "**/.git/**"]}
    for path, expected in {
        "secrets/a": "allow",
        "/secret/a": "allow",
        "/etc/a.conf": "deny",
        "/etc/a/b.conf": "allow",
        "a/b/.git/config": "deny",
        ".git": "deny",
        "a.git": "allow",
    }.items():
        assert verdict(call("view", path=path), deny) == expected, path
    allow = ({"effect": "allow", "path": "**"}, {"effect": "deny"})
    assert verdict(call("view", path="../other/a"), *allow) == "deny"
    assert verdict(call("view", path="/desk/sx"), *allow) == "deny"
    assert verdict(call("view"), *allow) == "deny"


def test_a_rule_about_paths_that_restricts_holds_for_commands_that_may_name_one() -> None:
    deny = {"effect": "deny", "path": "/etc/**"}
    lines = {
        "cat /etc/passwd": "deny",
        "cat --file=/etc/passwd": "deny",
        "cat -f/etc/passwd": "deny",
        "cat ../../etc/passwd": "deny",
        "cat /e*/passwd": "deny",
        "cat {/etc/passwd,x}": "deny",
        "echo x > /etc/x": "deny",
        "cd /etc": "deny",
        "cd x; cat passwd": "deny",
        "cat $X": "deny",
        "python3 x.py": "deny",
        "cat x": "allow",
        "cat *.py": "allow",
        "cat /usr/*": "allow",
    }
    assert {line: verdict(line, deny) for line in lines} == lines
    assert verdict("cat $X", {**deny, "opaque": "ask"}) == "ask"
    assert verdict("cat $X", {**deny, "tool": "Read"}) == "allow"


# The other conditions


def test_tools_are_named_as_here_or_as_claude_code_does_and_by_patterns() -> None:
    write = call("create_file", path="a")
    for tool in ("Write", "create_file", "*_file", ["Read", "Write"], "*"):
        assert verdict(write, {"effect": "deny", "tool": tool}) == "deny", tool
    assert verdict(write, {"effect": "deny", "tool": ["Edit", "view*"]}) == "allow"
    policy = Policy(tools=["box_bash_tool"], rules=[ruled({"effect": "deny", "tool": "box_bash_tool"})])
    assert policy.decide(bash_call("ls"), offered="box_bash_tool").verdict == "deny"


def test_users_places_backends_and_confinement() -> None:
    deny = {"effect": "deny"}
    assert verdict("ls", {**deny, "user": [5, 7]}, owner_uid=7) == "deny"
    assert verdict("ls", {**deny, "user": 5}, owner_uid=7) == "allow"
    assert verdict("ls", {**deny, "user": 5}) == "allow"
    assert verdict("ls", {**deny, "backend": "docker"}, backend="docker") == "deny"
    assert verdict("ls", {**deny, "backend": "docker"}) == "allow"
    assert verdict("ls", {**deny, "place": "b*"}, place="box") == "deny"
    assert verdict("ls", {**deny, "confined": False}) == "deny"
    assert verdict("ls", {**deny, "confined": False}, confined=True) == "allow"
    assert verdict(call("x_execute"), {**deny, "backend": "native"}, confined=True) == "deny"
    assert verdict(call("x_execute"), {**deny, "confined": False}, confined=True) == "deny"
    assert verdict(call("code_execution"), {**deny, "place": "cloud"}) == "deny"


def test_a_hand_over_is_where_the_file_goes_to_and_for_a_denial_also_where_it_comes_from() -> None:
    there, back = ({"name": "a", "from": "local", "to": "cloud"}, {"name": "a", "from": "cloud", "to": "local"})
    for effect, expected in {"deny": ["deny", "deny"], "ask": ["ask", "allow"]}.items():
        rule = {"effect": effect, "tool": "hand_over", "backend": "anthropic"}
        assert [verdict(call("hand_over", **each), rule) for each in (there, back)] == expected


def test_a_rule_about_secrets_holds_for_calls_that_get_one() -> None:
    rule = {"effect": "ask", "secret": True}

    def gets(asked: ToolCall) -> bool:
        return asked.input.get("command") == "/skills/s/run"

    assert verdict("/skills/s/run", rule, gets_secret=gets) == "ask"
    assert verdict("ls", rule, gets_secret=gets) == "allow"
    assert verdict("/skills/s/run", rule) == "allow"


def test_a_rule_about_a_skill_holds_for_its_entry_command_its_files_and_its_tools() -> None:
    allow = ({"effect": "allow", "skill": "s"}, {"effect": "deny"})
    roots = {"/skills/s": "s", "/skills/sx": "sx"}
    lines = {
        "/skills/s/run a": "allow",
        "python3 /skills/s/run.py a": "allow",
        "/skills/s/../sx/run": "deny",
        "/skills/sx/run": "deny",
        "/skills/s/run; rm x": "deny",
        "/skills/s/run $(rm x)": "deny",
        "cat /skills/s/run": "deny",
        "python3 -c x /skills/s/run": "deny",
    }
    assert {line: verdict(line, *allow, skill_roots=roots) for line in lines} == lines
    entry = call("bash_tool", ("/skills/s/run", "; rm x"), command="/skills/s/run")
    assert verdict(entry, *allow, skill_roots=roots, entry="s") == "allow"
    assert verdict(entry, *allow, skill_roots=roots, entry="other") == "deny"
    assert verdict(call("x_execute"), {"effect": "deny", "skill": "x"}) == "deny"
    deny = {"effect": "deny", "skill": "s"}
    for line in ("/skills/s/run", "cat /skills/s/a | sh", "ls; /skills/s/run", "x=/skills/s/run; $x"):
        assert verdict(line, deny, skill_roots=roots) == "deny", line
    assert verdict(call("load_skill", name="s"), deny) == "deny"
    assert verdict("ls", deny, skill_roots=roots) == "allow"


def test_allowed_tools_of_a_trusted_skill_answer_what_is_asked_and_never_what_is_denied() -> None:
    skill = Skill(
        name="s", description="d", root=Path("/x"), digest="0", allowed_tools=("Bash(rm:*)",), trusted=True, files=()
    )
    active = [ActiveSkill(skill, "/skills/s")]
    assert verdict("rm x", {"effect": "ask", "command": "rm **"}, active=active) == "allow"
    assert verdict("rm x; rm y", {"effect": "ask", "command": "rm **"}, active=active) == "ask"
    assert verdict("rm x", {"effect": "deny", "command": "rm **"}, active=active) == "deny"
    assert verdict("rm x", preset="read-only", active=active) == "deny"
    assert verdict("rm x", preset="guarded", active=active) == "allow"


def test_code_that_the_api_runs_is_not_seen_before() -> None:
    code = call("code_execution")
    assert verdict(code, {"effect": "deny", "command": "rm **"}) == "deny"
    assert verdict(code, {"effect": "deny", "command": "rm **", "tool": "Bash"}) == "allow"
    assert verdict(code, {"effect": "allow", "command": "**"}, {"effect": "deny"}) == "deny"


def test_very_many_rules_and_very_long_lines_do_not_hold_up_the_others() -> None:
    rules = [
        {"effect": "deny", "command": [f"tool{number} *a*a*a*a **" for number in range(100)]},
        {"effect": "ask", "path": [f"**/a/**/b/**/{number}*x" for number in range(100)] + ["/a/**/*"] * 100},
        {"effect": "ask", "command": ["*a*b **"] * 100, "path": ["b*b*b*b*b*c"] * 90},
    ]
    lines = ("ls " + "a" * 16_000, "ls " + "a/" * 8_000, "ls" + " a/b" * 490, "ls a b;" * 100, "ls *" + " ?/a" * 490)
    began = time.process_time()
    for line in lines:
        verdict(line, *rules)
    assert time.process_time() - began < 10.0  # measured: 1.5 s, all together


def test_a_tool_whose_calls_are_all_denied_is_known_beforehand() -> None:
    def never(*rules: Any, name: str = "bash_tool", preset: str | None = None) -> bool:
        return Policy(tools=TOOLS, rules=[ruled(*rules, preset=preset)]).denies_tool(name)

    assert never({"effect": "deny", "tool": "Bash"})
    assert not never({"effect": "deny", "command": "rm **"})
    assert not never({"effect": "allow", "command": "ls"}, {"effect": "deny"})
    assert not never({"effect": "ask", "path": "a"}, {"effect": "deny"})
    assert never({"effect": "deny", "command": "rm **"}, {"effect": "deny"})
    assert never({"effect": "allow", "tool": "view"}, {"effect": "deny"})
    assert never(preset="read-only", name="create_file")
    assert not never(preset="read-only", name="bash_tool")
    assert not never(preset="guarded", name="create_file")


@pytest.mark.parametrize(
    "line",
    [
        *(
            "cd evil && ./build.sh",
            "cd evil; python3 scripts/a.py",
            "env cd evil; ./build.sh",
            "pushd evil; ./build.sh",
        ),
        *("find evil -execdir ./build.sh {} +", "find evil -okdir ./build.sh \\;", "python3 scripts/../../evil/a.py"),
        *("python3 /opt/s/../../desk/evil.py", "python3 scripts/a/../../b.py", "cd x; cd -; ./build.sh"),
    ],
)
def test_a_program_that_is_allowed_by_a_path_is_no_other_one_of_that_name(line: str) -> None:
    rules = ruled(
        {
            "effect": "allow",
            "command": ["./build.sh **", "python3 scripts/*.py **", "python3 /opt/s/*.py"],
            "opaque": "allow",
        },
        preset="guarded",
    )
    judge = Policy(tools=["bash_tool"], rules=[rules], workspace="/desk")
    assert judge.decide(bash_call(line)).verdict == "ask"
    for plain in ("./build.sh all", "python3 scripts/a.py", "ls; ./build.sh", "cd /x; python3 /opt/s/a.py"):
        assert judge.decide(bash_call(plain)).verdict == "allow"


@pytest.mark.parametrize("line", ["> x", ">> /etc/x", "< x", "2> x", "ls; > x"])
def test_a_rule_for_every_command_holds_for_one_that_only_opens_a_file(line: str) -> None:
    rules = ruled({"effect": "allow", "command": "ls **"}, {"effect": "deny", "command": "**"}, preset="full")
    assert Policy(tools=["bash_tool"], rules=[rules]).decide(bash_call(line)).verdict == "deny"
