"""No wording of a command gets past a rule: tricks of every kind around a denied one, put together at random."""

from __future__ import annotations

import re
import shlex
from base64 import b64encode
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_kit import bash_call, ruled
from skill_actors.sessions.policy import Policy, RuleSet

DENIED = ruled({"effect": "deny", "command": "rm **", "reason": "nothing is removed"}, preset="full")
ASKED = ruled({"effect": "ask", "command": "rm **"}, preset="full")
LISTED = ruled(
    {"effect": "allow", "tool": "Bash", "command": ["ls **", "echo **", "cat **", "env **", "true", "tool **"]},
    {"effect": "deny"},
)
READ_ONLY = ruled(preset="read-only")
GUARDED = ruled(preset="guarded")
EVERY = pytest.mark.parametrize("rules", [DENIED, ASKED, LISTED, READ_ONLY, GUARDED])


def verdict(rules: RuleSet, line: object) -> str:
    return Policy(tools=["bash_tool"], rules=[rules], workspace="/desk").decide(bash_call(line)).verdict


def one_char(char: str) -> st.SearchStrategy[str]:
    number = ord(char)
    return st.sampled_from(
        [
            *(char, f"\\{char}", f"'{char}'", f'"{char}"', f"''{char}", f'{char}""', f"\\\n{char}", f"$'{char}'"),
            *(f"$'\\x{number:02x}'", f"$'\\{number:03o}'", f"$'\\u{number:04x}'", f"{char}$@", f"{char}${{x}}"),
            *(f"$(printf {char})", f"`printf {char}`", f"[{char}]", f"{{{char},}}", f'$"{char}"'),
        ]
    )


names = st.one_of(
    st.tuples(one_char("r"), one_char("m")).map("".join),
    st.sampled_from(
        [
            *(
                "rm",
                "/bin/rm",
                "//bin/rm",
                "/usr/bin/rm",
                "/bin/./rm",
                "/usr/../bin/rm",
                "./rm",
                "~/rm",
                "/proc/self/root/bin/rm",
            ),
            *("r?", "/bin/r*", "{rm,-r}", "$RM", "${RM:-rm}", "${x-r}m", "$(which rm)", "`which rm`", "$'\\162\\155'"),
            *(
                "$(echo cm0K | base64 -d)",
                "${!x}",
                "$(<cmd)",
                "r$IFS'm'",
                "$0",
                "!rm",
                "!!",
                "^ls^rm",
                "%rm",
                "unlink -- x; rm",
            ),
        ]
    ),
)
gaps = st.sampled_from(
    [" ", "\t", "  ", " \\\n", "${IFS}", "$IFS$9", "{,}", " -- ", " -rf ", " >x ", " 2>&1 ", " <&- "]
)
targets = st.sampled_from(
    ["x", "/data", "*", "~", "'a b'", "-rf /", "$HOME", "x # harmless", "--no-preserve-root /", ""]
)


@st.composite
def removals(draw: st.DrawFn) -> str:
    return draw(names) + draw(gaps) + draw(targets)


def around(trick: str, line: str) -> str:
    """The line with a trick around it."""
    encoded = b64encode(line.encode(errors="replace")).decode()
    told = {"LINE": line, "QUOTED": shlex.quote(line), "REPR": repr(line), "BASE64": encoded}
    return re.sub("|".join(told), lambda found: told[found[0]], trick)


AROUND: Final = (
    *("LINE", "ls; LINE", "ls&&LINE", "ls || LINE", "ls | LINE", "ls|&LINE", "ls & LINE", "ls\nLINE"),
    *("# a comment\nLINE", "ls # '\nLINE # '", "echo '#' ; LINE", "echo \\\n;LINE", "echo '\n' \"\n\"\nLINE"),
    *("echo \\\\;LINE", "true;LINE;true", "LINE &", "LINE\n\n", "\nLINE", ">&-LINE", ">x LINE", "2>&1 LINE"),
    *("<x LINE", "echo 'a'\\''b';LINE", 'echo "a\\"";LINE', "echo a#b;LINE", "(LINE)", "{ LINE; }", "! LINE"),
    *("time LINE", "if LINE; then ls; fi", "for x in a; do LINE; done", "f(){ LINE; };f"),
    *("case x in x) LINE;; esac", "while LINE; do ls; done", "coproc LINE", "function f { LINE\n}\nf"),
    *("echo $(LINE)", "echo `LINE`", 'echo "$(LINE)"', "cat <(LINE)", "echo x >(LINE)", "x=$(LINE)"),
    *("[[ a == $(LINE) ]]", "(( a[$(LINE)] ))", "echo ${x:-$(LINE)}", "select x in a; do LINE; done"),
    *("until LINE; do :; done", "exec LINE", "eval QUOTED", "trap QUOTED EXIT", "command LINE"),
    *("alias ls=QUOTED\nls", "shopt -s expand_aliases;alias a=QUOTED\na", "builtin command LINE"),
    *("builtin eval QUOTED", "command -p LINE", ". <(echo QUOTED)", "source /dev/stdin <<< QUOTED"),
    *("PATH=.:$PATH LINE", "PATH=/tmp ls; LINE", "X=1 LINE", "LANG=C LINE", "hash -p /bin/rm ls; ls; LINE"),
    *("enable -f x y; LINE", "mapfile -C LINE -c 1 a", "bash -c QUOTED", "sh -c QUOTED", "bash <<< QUOTED"),
    *("echo BASE64 | base64 -d | sh", "echo QUOTED | bash", "bash <<E\nLINE\nE", "sh <<'E'\nLINE\nE"),
    *("printf '%s' QUOTED > x; sh x", "sh -s <x;LINE", "python3 -c 'import os;os.system(REPR)'"),
    *("perl -e 'system(REPR)'", "ruby -e '`LINE`'", "awk 'BEGIN{system(\"LINE\")}'", "node -e 'x(REPR)'"),
    *("make -f- <<< 'x:;LINE'", "php -r QUOTED", "sed '1e LINE' x", "ed <<< '!LINE'", "vim -c '!LINE'"),
    *("env LINE", "env -i LINE", "env A=b LINE", "env -S QUOTED", "nice LINE", "nice -n 5 LINE", "nohup LINE"),
    *("timeout 5 LINE", "timeout -s KILL 5s LINE", "stdbuf -oL LINE", "setsid -w LINE", "ionice -c3 LINE"),
    *("sudo LINE", "sudo -u root -- LINE", "doas LINE", "su -c QUOTED", "busybox LINE", "toybox LINE"),
    *("xargs LINE", "echo x | xargs -n1 LINE", "xargs -I{} LINE {}", "echo QUOTED | xargs -0 sh -c"),
    *("xargs -a x LINE", "find . -exec LINE \\;", "find . -type f -execdir LINE {} +", "find . -ok LINE ';'"),
    *("find . -name y -o -delete; LINE", "parallel LINE ::: x", "watch LINE", "script -c QUOTED x"),
    *("flock x LINE", "chroot / LINE", "unshare LINE", "ssh localhost LINE", "strace LINE"),
    *("git -c alias.x='!LINE' x", "tar --to-command='LINE' -xf x", "/lib64/ld-linux-x86-64.so.2 /bin/LINE"),
    *("some-wrapper LINE", "./wrapper LINE", "sort --compress-program='LINE' x", "sort -S1 --comp=LINE"),
    *("taskset 1 LINE", "at now <<< 'LINE'"),
)
# What cannot be read. Around other tricks these could put the command into quotes, where it is none.
BROKEN: Final = (
    *("LINE\x00", "ls\x00;LINE", "ls\r\nLINE", "\u200bLINE", "ls\u2028LINE", "\u202eLINE", "ls \x1b[2K\rLINE"),
    *("ls 'LINE", 'ls "LINE', "ls \\\n\\\n;LINE", "é;LINE", "ls \ud800;LINE"),
)


@EVERY
@pytest.mark.parametrize("trick", [*AROUND, *BROKEN], ids=ascii)
def test_every_trick_alone_gets_nothing_past_a_rule(rules: RuleSet, trick: str) -> None:
    line = around(trick, "rm -rf /data")
    assert verdict(rules, line) in ("deny", "ask"), line


@EVERY
@pytest.mark.parametrize("before", [":;" * 9_000, " " * 17_000, "ls;" * 100_000, "'" * 16_001, "env " * 3_000])
def test_what_stands_behind_very_much_is_seen_or_all_is_refused(rules: RuleSet, before: str) -> None:
    assert verdict(rules, f"{before}rm -rf /data") in ("deny", "ask")


@EVERY
@settings(max_examples=400, deadline=None)
@given(line=removals(), tricks=st.lists(st.sampled_from(AROUND), max_size=3))
def test_no_wording_gets_a_denied_command_allowed(rules: RuleSet, line: str, tricks: list[str]) -> None:
    for trick in tricks:
        line = around(trick, line)
    assert verdict(rules, line) in ("deny", "ask"), line


@pytest.mark.deep
@EVERY
@settings(max_examples=5_000, deadline=None)
@given(line=removals(), tricks=st.lists(st.sampled_from(AROUND), max_size=5))
def test_no_wording_of_very_many_does(rules: RuleSet, line: str, tricks: list[str]) -> None:
    for trick in tricks:
        line = around(trick, line)
    assert verdict(rules, line) in ("deny", "ask"), line


@EVERY
@pytest.mark.parametrize("line", [None, 7, "", ["rm", "x"], {"a": 1}, b"rm"])
def test_what_is_no_line_is_not_allowed_by_a_list(rules: RuleSet, line: object) -> None:
    if rules in (LISTED, READ_ONLY, GUARDED):
        assert verdict(rules, line) != "allow"


@pytest.mark.parametrize(
    "line",
    [
        "r\uff4d x",
        "\u0433m x",
        "r\u0301m x",
        "\uff4c\uff53",
        "l\u0455",
        "l\u200ds",
        "\ufeffls",
        "ls\u3164x",
        "cat\u00a0x",
    ],
)
def test_what_only_looks_like_an_allowed_program_is_not_one(line: str) -> None:
    for rules in (DENIED, LISTED, READ_ONLY, GUARDED):
        assert verdict(rules, line) != "allow"


def test_a_command_of_an_argv_is_judged_by_its_words() -> None:
    from skill_actors.backends.base import ToolCall

    def judged(*argv: str) -> str:
        call = ToolCall(id="t", name="bash_tool", input={"command": "ls"}, argv=argv)
        return Policy(tools=["bash_tool"], rules=[DENIED]).decide(call).verdict

    assert judged("rm", "x") == "deny"
    assert judged("/usr/bin/env", "rm", "x") == "deny"
    assert judged("/skills/s/scripts/run", "x") == "deny"  # it may run one
    assert judged("echo", "$(rm x)", ";", "rm") == "allow"


@given(text=st.text(max_size=60))
def test_whatever_stands_in_quotes_is_an_argument(text: str) -> None:
    line = f"echo {shlex.quote(text)}"
    if text.isprintable() and text.isascii():
        assert verdict(DENIED, line) == "allow"
        assert verdict(LISTED, line) == "allow"
