"""What is known of a line of bash, and why nothing is known of others."""

from __future__ import annotations

import pytest

from skill_actors.sessions.policy.analysis import analyse_argv, analyse_line


def programs(line: str) -> list[str]:
    """Names of what runs; the line has to be one that can be told."""
    found = analyse_line(line)
    assert not found.opaque, found.opaque
    return [command.program for command in found.commands]


def words(line: str) -> list[list[str]]:
    return [[word.text for word in command.words] for command in analyse_line(line).commands]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("  # only a comment", []),
        ("ls", ["ls"]),
        ("ls;rm x&&cat y||wc|tr a b&\nid", ["ls", "rm", "cat", "wc", "tr", "id"]),
        ("/bin/rm x", ["rm"]),
        ("/usr/local/bin/tool x", ["tool"]),
        ("LANG=C ls", ["ls"]),
        ("r'm' x", ["rm"]),
        ("\\rm x", ["rm"]),
        ('"r"m x', ["rm"]),
        ("r\\\nm x", ["rm"]),
        ("> out rm x", ["rm"]),
        (">&-rm x", ["rm"]),
        ("2>& -rm x", ["rm"]),
        ("echo 2>&1-rm x", ["echo"]),
        ("echo 'rm x; $(id)' \"; rm\" \\; # rm", ["echo"]),
        ("[ -f x ] && [ 1 = 1 ]", ["[", "["]),
        ("env -i LANG=C nice -n 5 timeout -k 1 9 rm x", ["env", "nice", "timeout", "rm"]),
        ("time nohup rm x", ["time", "nohup", "rm"]),
        ("sudo -u root -- rm x", ["sudo", "rm"]),
        ("command -v rm", ["command"]),
        ("command rm", ["command", "rm"]),
        ("exec rm x", ["exec", "rm"]),
        ("busybox rm x", ["busybox", "rm"]),
        ("xargs -0 -n 1 rm -f", ["xargs", "rm"]),
        ("find . -name x -exec rm {} ;", ["find"]),  # the shell ends the command at ;
        ("find . -name x -exec rm {} \\; -execdir ls {} +", ["find", "rm", "ls"]),
        ("find . -delete", ["find", "rm"]),
        ("sort -uo out in", ["sort", "tee"]),
        ("uniq in out", ["uniq", "tee"]),
        ("uniq - out", ["uniq", "tee"]),
        ("uniq -- -in out", ["uniq", "tee"]),
        ("uniq -c in", ["uniq"]),
        ("shuf -no out", ["shuf", "tee"]),
        ("xxd in out", ["xxd", "tee"]),
    ],
)
def test_programs_are_named_whatever_way_they_are_written(line: str, expected: list[str]) -> None:
    assert programs(line) == expected


def test_words_are_what_the_program_gets() -> None:
    assert words("grep 'a b' \"c\\\"d\\e\" f\\ g '' h#i") == [["grep", "a b", 'c"d\\e', "f g", "", "h#i"]]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("echo $HOME", "in the place of $"),
        ('echo "$HOME"', "in the place of $"),
        ("echo `id`", "in the place of `"),
        ("echo $'\\x72m'", "in the place of $"),
        ("r$(echo m) x", "in the place of $"),
        ("(rm x)", "parentheses"),
        ("f() { rm x; }; f", "parentheses"),
        ("cat <(rm x)", "parentheses"),
        ("a=(1 2)", "parentheses"),
        ("{ rm x; }", "grammar"),
        ("{rm,x}", "place of a program's name"),
        ("r? x", "place of a program's name"),
        ("~/bin/x", "place of a program's name"),
        ("if true; then rm x; fi", "grammar"),
        ("! rm x", "grammar"),
        ("[[ -f x ]]", "place of a program's name"),
        ("coproc rm", "grammar"),
        ("cat <<E\nx\nE", "here-document"),
        ("cat <<< x", "here-document"),
        ("rm 'x", "not closed"),
        ('rm "x', "not closed"),
        ("rm x\\", "ends with a backslash"),
        ("rm x &&", "nothing stands behind &&"),
        ("| rm x", "nothing stands before |"),
        ("rm >", "nothing stands behind >"),
        ("a;;b", "it has ;;"),
        ("PATH=. ls", "PATH may change"),
        ("LD_PRELOAD=x ls", "LD_PRELOAD may change"),
        ("X=1", "sets the variable X for later"),
        ("LANG=C; ls", "sets the variable LANG for later"),
        ("IFS=x ls", "IFS may change"),
        ("LANG+=C ls", "adds to a variable"),
        ("ls\0", "cannot be seen (\\x00)"),
        ("ls\r", "cannot be seen (\\r)"),
        ("rm\u200b x", "cannot be seen (\\u200b)"),
        ("ls \u202etxt.exe", "cannot be seen (\\u202e)"),
        ("ls\u00a0x", "cannot be seen (\\xa0)"),
        ("ls \ud800", "cannot be seen (\\ud800)"),
        ("\u0433m x", "U+0433"),
        ("r\uff4d x", "U+FF4D"),
        ("eval 'rm x'", "eval runs text"),
        (". ./x", ". runs text"),
        ("source x", "source runs text"),
        ("alias ls=rm; ls", "alias runs text, or changes"),
        ("hash -p /tmp/x ls; ls", "hash runs text, or changes"),
        ("export PATH=.", "export runs text, or changes"),
        ("exec 3<>/dev/tcp/h/1", "opens a connection"),
        ("cat {x}<y", "choose a descriptor"),
        ("ls 9999999999>x", "very many digits"),
        ("time >x -- rm", "takes them for a program"),
        ("%1", "no plain name"),
        ("-x", "no plain name"),
        ("ls " + "x" * 20_000, "longer than 16,384"),
        ("env " * 20 + "rm", "too many wrappers"),
        ("ls;" * 101, "more than 100 commands"),
        ("ls" + " a" * 500, "500 words"),
    ],
)
def test_what_is_not_certain_is_opaque_and_the_reason_is_told(line: str, why: str) -> None:
    found = analyse_line(line)
    assert why in found.opaque
    assert found.commands == ()
    assert not found.plain


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("bash -c 'rm x'", "bash runs other code"),
        ("python3 -c 1", "python3 runs other code"),
        ("awk 1", "awk runs other code"),
        ("make", "make runs other code"),
        ("ssh host rm", "ssh runs other code"),
        ("./rm x", "outside of the system's folders"),
        ("/tmp/ls", "outside of the system's folders"),
        ("/bin/../tmp/ls", "outside of the system's folders"),
        ("frobnicate x", "not known what frobnicate runs"),
        ("env -S 'rm x'", "-S is not known here"),
        ("env --split-string=rm", "is not known here"),
        ("env PATH=. ls", "'PATH' may change what is run"),
        ("sudo -s", "-s is not known here"),
        ("xargs -I{} {} x", "name of the program comes from its input"),
        ("find . -exec {} \\;", "that of a file"),
        ("find . -exec rm x", "no end"),
        ("find . *", "may take for options"),
        ("timeout 5* rm", "comes from the shell"),
        ("timeout", "is missing"),
        ("exec > out", "exec alone"),
        ("sort --compress-prog=rm x", "a program to compress with"),
        ("sort *", "may take for options"),
        ("sed s/a/b/e", "a script that may run commands"),
        ("sed -n 1p -i x", "a script that may run commands"),
        ("test -v 'a[$(rm x)]'", "a test of a variable"),
        ("printf -v 'a[x]' 1", "sets a variable"),
        ("wait -np 'a[$(rm x)]'", "sets a variable"),
        ("tree -aR", "has a shell read the names of folders"),
        ("python3.11 -c 1", "python3.11 runs other code"),
        ("curl https://host/", "curl runs other code"),
    ],
)
def test_programs_that_may_run_others_are_in_doubt(line: str, why: str) -> None:
    found = analyse_line(line)
    assert not found.opaque
    assert any(command.doubt and why in command.doubt.reason for command in found.commands), found
    assert not found.plain


@pytest.mark.parametrize(
    "line", ["sed -n '2,$p' x", "sed 5q x", "find . -name '*.py'", "find s*/d -type f", "sort -u x"]
)
def test_the_usual_forms_of_such_programs_are_not(line: str) -> None:
    assert analyse_line(line).plain


def test_words_that_the_shell_fills_in_are_not_sure() -> None:
    (command,) = analyse_line("ls a*b c?d [e] {f,g} ~h i~j k=~l {} [ ] '*' \\* \"?\" x{}y").commands
    unsure = [word.text for word in command.words if not word.sure]
    assert unsure == ["a*b", "c?d", "[e]", "{f,g}", "~h", "k=~l"]


def test_files_that_the_shell_opens_are_told() -> None:
    (command,) = analyse_line("tool < in > out 2>> err 2>&1 >/dev/null >&both &> all >*x").commands
    assert [(each.path, each.writes) for each in command.redirects] == [
        ("in", False),
        ("out", True),
        ("err", True),
        ("both", True),
        ("all", True),
        (None, True),
    ]
    assert analyse_line("cd x; ls").moves
    assert not analyse_line("ls; echo cd").moves


def test_arguments_without_a_shell_are_no_grammar() -> None:
    found = analyse_argv(("/usr/bin/env", "rm", "$x;", "*"))
    assert [command.program for command in found.commands] == ["env", "rm"]
    assert found.plain
    assert analyse_argv(("if", "x")).opaque
    assert "outside" in str(analyse_argv(("/skills/s/run", "x")).commands[0].doubt)


def test_long_lines_are_judged_at_once() -> None:
    import time

    began = time.process_time()
    for line in (
        "ls;" * 5_000,
        "a'b'" * 4_000,
        "env " * 4_000,
        '"\\"' * 5_000,
        "\\\n" * 8_000,
        "find " + "-exec a + " * 1_500,
    ):
        analyse_line(line)
    assert time.process_time() - began < 5.0
