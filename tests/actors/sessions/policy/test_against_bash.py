"""What the analysis says of a line, against what a real bash runs for it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bash_kit import STUBS, WRAPPERS, Bash
from skill_actors.sessions.policy.analysis import Analysis, analyse_line

SILENT = {
    *WRAPPERS,
    "time",
    "command",
    "exec",
    "builtin",
    "",
}  # the real ones, and words of the shell: they leave no trace
EXAMPLES = 150
DEEP = 10_000

names = st.sampled_from(["rm", "ls", "cat", "git", "tool", "echo", "test", "true", "foo-bar", "x_1"])
plain = st.text(alphabet="ab1-=.,:@%+/#_é", min_size=1, max_size=5)
inside = st.text(alphabet="ab $`;|&<>(){}*?~!#'\n\t\"\\é", max_size=6)


def is_word(text: str) -> bool:
    """Whether a word is left, and no comment, when line ends are taken out."""
    return text.replace("\\\n", "")[:1] not in ("", "#")


def double_quoted(text: str) -> str:
    for char in '\\"$`':
        text = text.replace(char, f"\\{char}")
    return f'"{text}"'


def single_quoted(text: str) -> str:
    return "'" + text.replace("'", "") + "'"


def escaped(text: str) -> str:
    return "".join(f"\\{char}" for char in text if char != "\n")


pieces = st.one_of(
    plain, inside.map(double_quoted), inside.map(single_quoted), inside.map(escaped).filter(bool), st.just("\\\n")
)
arguments = st.lists(pieces, min_size=1, max_size=3).map("".join).filter(is_word)
programs = st.one_of(
    names,
    names.map(single_quoted),
    names.map(double_quoted),
    names.map(lambda name: f"\\{name}" if name[0] not in "\n" else name),
    names.map(lambda name: f"{name[0]}''{name[1:]}"),
    names.map(lambda name: f'{name[0]}\\\n"{name[1:]}"'),
)
redirects = st.sampled_from(
    ["> out", ">> out", ">|out", "2>&1", "2> err", "< in.txt", "&> all", ">&2", "<> in.txt", "2>/dev/null", "&>>all"]
)
assignments = st.sampled_from(["LANG=C", "TZ='a b'", 'NO_COLOR="1"', "LC_ALL=C"])
wrappers = st.sampled_from(
    ["env", "env LANG=C", "nice -n 1", "nice", "nohup", "timeout 9", "stdbuf -oL", "setsid -w", "env --"]
)
stubs = st.sampled_from(["rm", "ls", "cat", "git", "tool", "grep", "[", "test", "echo"])


@st.composite
def commands(draw: st.DrawFn) -> str:
    wrapped = [*draw(st.sampled_from([[], [], ["time"], ["command"]])), *draw(st.lists(wrappers, max_size=2))]
    words = [*draw(st.lists(assignments, max_size=1))] if not wrapped else []
    if wrapped:
        words += [*wrapped, draw(stubs)]
    else:
        words.append(draw(programs))
    words += draw(st.lists(arguments, max_size=3))
    for redirect in draw(st.lists(redirects, max_size=2)):
        words.insert(draw(st.integers(0 if not wrapped else len(words), len(words))), redirect)
    return draw(st.sampled_from([" ", "  ", "\t", " \\\n "])).join(words)


@st.composite
def lines(draw: st.DrawFn) -> str:
    parts = [draw(commands())]
    for _ in range(draw(st.integers(0, 4))):
        parts.append(
            draw(st.sampled_from([";", " ; ", "&&", " && ", "||", " | ", "|", " & ", "\n", "|&", "\n\n", " # x'\n"]))
        )
        command = draw(commands())
        parts.append(f" {command}" if parts[-1] == ";" else command)  # else ;&> would begin with ;&
    parts.append(draw(st.sampled_from(["", ";", " &", "\n", " # comment $x", " #"])))
    return "".join(parts)


soup = st.text(alphabet=" \t\n;&|<>'\"\\#=ab12{}[]*?~!,.-+$()`^%:@é", max_size=14)
tokens = st.lists(
    st.sampled_from(
        [
            *(
                "a",
                "rm",
                "ls",
                "echo",
                " ",
                " ",
                " ",
                "\n",
                ";",
                "&&",
                "||",
                "|",
                "&",
                ">",
                "<",
                ">>",
                ">&",
                "2",
                "1",
                "#",
            ),
            *("'", '"', "\\", "\\\n", "=", "{", "}", "[", "]", "*", "!", "time", "if", "then", "-", "--", "LANG=", "é"),
            *(
                "env",
                "nice",
                "command",
                "x",
                "'a b'",
                '"c"',
                "$",
                "`",
                "(",
                ")",
                "~",
                "-n",
                "-p",
                "coproc",
                "exec",
                "-v",
            ),
        ]
    ),
    max_size=9,
).map("".join)


@pytest.fixture(scope="module")
def bash() -> Iterator[Bash]:
    with tempfile.TemporaryDirectory(prefix="bash-") as folder:
        yield Bash(Path(folder))


def may_run(line: str, found: Analysis) -> bool:
    """Nothing that is not certain, and nothing that would get past the stubs."""
    if found.opaque or any(command.doubt and "not certain" in command.doubt.reason for command in found.commands):
        return False
    if any("/" in command.program for command in found.commands):
        return False
    return not any(
        command.program in SILENT and any(word.text in ("-i", "-p") for word in command.words)
        for command in found.commands
    )


def is_recorded(found: Analysis) -> bool:
    """Whether all that runs leaves a trace: what the real wrappers do not find does not."""
    programs = {command.program for command in found.commands}
    return programs.isdisjoint({*WRAPPERS, "exec"}) or programs - SILENT <= set(STUBS)


def check(bash: Bash, line: str, *, exact: bool) -> None:
    found = analyse_line(line)
    if not may_run(line, found):
        return
    named = [command for command in found.commands if command.program not in SILENT]
    sure = all(word.sure for command in named for word in command.words)
    ran = bash.run(line)
    if sure:
        said = Counter((command.program, *(word.text for word in command.words[1:])) for command in named)
        done = Counter(ran)
    else:
        said = Counter((command.program,) for command in named)
        done = Counter(call[:1] for call in ran)
    assert done <= said, (line, ran, named)
    if exact and is_recorded(found):
        assert set(done) == set(said), (line, ran, named)
        assert done == said or "&&" in line or "||" in line, (line, ran, named)


hypothesis = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
hypothesis_deep = settings(parent=hypothesis, max_examples=DEEP)


@hypothesis
@given(line=lines())
@example(line="rm a && ls b || cat c")
def test_well_formed_lines_run_exactly_what_the_analysis_names(bash: Bash, line: str) -> None:
    assert not analyse_line(line).opaque, (line, analyse_line(line).opaque)
    check(bash, line, exact=True)


@settings(parent=hypothesis, max_examples=3 * EXAMPLES)  # most are opaque, and cost nothing
@given(line=soup | tokens)
@example(line="2\\\n>a b")
@example(line="a&\\\n&b")
@example(line="a{b}>c")
@example(line=">&-rm x")
@example(line="rm <& \\\n-cat x")
@example(line="time>a --")
@example(line="ls 9999999999>a")
@example(line="time&&a")
@example(line="a; time -p --||b")
@example(line="time; a")
@example(line="'time'&&a")
def test_of_any_line_nothing_is_run_that_the_analysis_does_not_name(bash: Bash, line: str) -> None:
    check(bash, line, exact=not any(char in line for char in "<>"))


@pytest.mark.deep
@hypothesis_deep
@given(line=lines() | soup | tokens)
def test_very_many_lines(bash: Bash, line: str) -> None:
    check(bash, line, exact=False)
