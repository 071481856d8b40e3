"""What is known of programs: which run nothing but themselves, which run other code, and which cannot be told.

`doubt_of` answers for one command. A program that is not in the lists here is in doubt: there are hundreds that can be
made to run another one by an option, and a list of those would never be whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from skill_actors.sessions.policy.lexer import Opaque, Word

__all__ = ["Doubt", "always_in_doubt", "doubt_of", "effects_of", "moves", "program_of"]

STANDARD_FOLDERS: Final = frozenset(
    {"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"},
)
_MOVES: Final = frozenset({"cd", "popd", "pushd"})
_RUNS_ELSEWHERE: Final = frozenset({"-execdir", "-okdir"})  # of find: in the folder of each file


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_NAME: Final = re.compile(r"[A-Za-z0-9_./:][A-Za-z0-9_./:+-]*|\[")
_RESERVED: Final = _words(
    "if then elif else fi do done case esac while until for select in function coproc { } ! [[ ]]",
)
# Builtins of bash after which later words of the line mean something else, or that run text.
_MEANING: Final = _words(
    ". alias bg bind break caller compgen complete compopt continue declare disown enable eval export fc fg getopts",
    "hash history jobs let local logout mapfile read readarray readonly return set shift shopt source suspend trap",
    "typeset unalias unset",
)
_KNOWN: Final = _words(
    # builtins
    ": true false echo pwd cd printf test [ exit type umask wait kill",
    # what reads
    "cat tac head tail wc ls dir vdir stat du df cut tr grep egrep fgrep nl od fold fmt expand unexpand column paste",
    "join comm cmp diff uniq sort strings hexdump sed basename dirname realpath readlink seq sleep date id whoami",
    "groups uname nproc uptime free ps pgrep which md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum",
    "sum base64 base32 numfmt tsort rev shuf factor jq tty logname printenv lsof find dig host",
    # what writes
    "tee touch mkdir rmdir cp mv rm ln link unlink chmod chown chgrp mktemp dd truncate csplit shred sync mkfifo",
    "mknod xxd gzip gunzip bzip2 bunzip2 xz unxz tree hostname pkill killall file ping",
)
_RUNS_CODE: Final = _words(
    "sh bash dash ash zsh ksh mksh fish csh tcsh rbash python python2 python3 pypy pypy3 perl ruby node nodejs deno",
    "bun php lua luajit tclsh wish expect awk gawk mawk nawk make gmake cmake ninja ssh scp sftp rsync parallel script",
    "watch flock su runuser pkexec chroot unshare nsenter systemd-run at batch crontab screen tmux gdb strace ltrace",
    "ed ex vi vim nvim emacs nano less more man git npm npx yarn pnpm pip pip3 uv uvx pipx cargo go java javac docker",
    "podman kubectl sqlite3 psql mysql tar zip unzip m4 osascript taskset chrt setarch linux32 linux64",
    "bundle rake gem irb tsx ts-node poetry hatch tox nox pytest Rscript R julia octave ghci runghc groovy scala",
    "jshell dotnet pwsh elvish nu gcc g++ cc clang ld openssl gpg wget nc ncat netcat socat telnet ftp run-parts",
    "setpriv capsh prlimit runcon bwrap firejail proot fakeroot split dpkg apt apt-get rpm dnf yum snap flatpak",
    "systemctl service start-stop-daemon logrotate rpmbuild go-task just bazel gradle mvn ant scons meson hg svn",
    "bzr helm terraform ansible ansible-playbook vagrant gnuplot tex latex pdflatex xelatex lualatex gs",
    # which reads what to load from a file in the home of commands, the workspace
    "curl",
)
_VERSION: Final = re.compile(r"-?[0-9][0-9.]*$")  # python3.11, gcc-12
_SAFE_SED: Final = re.compile(r"(?:[0-9]+|\$)?(?:,(?:\+?[0-9]+|\$))?[pdq=]")


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the words of a command do not say all that it runs.

    `level` is "code" where it is known to run other code, and "unknown" where it is not known what it runs.
    """

    level: Literal["code", "unknown"]
    reason: str


def program_of(word: Word) -> str:
    """What the program is called: its base name, if it lies in one of the system's folders; else its whole path.

    Raises:
        Opaque: a shell, or a reader, could take the word for another program, or for none.

    """
    text = word.text
    for char in text:
        if not char.isascii():
            raise Opaque(f"the name of a program holds {char!r} (U+{ord(char):04X}), which only looks like a letter")
    if not word.sure:
        raise Opaque("the shell would put something else in the place of a program's name")
    if text in _RESERVED:
        raise Opaque(f"it has {text!r}, a word of the shell's grammar")
    if not _NAME.fullmatch(text):
        raise Opaque(f"{text[:60]!r} is no plain name of a program")
    if text in _MEANING:
        raise Opaque(f"{text} runs text, or changes what later words mean")
    folder, slash, name = text.rpartition("/")
    return name if slash and name and folder in STANDARD_FOLDERS else text


def always_in_doubt(program: str) -> bool:
    """Whether no arguments make it certain what the program runs, since it is there to run other code."""
    return "/" in program or _runs_code(program)


def moves(program: str, words: Sequence[Word]) -> bool:
    """Whether a relative path means another file for what is run by this command, or after it."""
    return program in _MOVES or (program == "find" and any(word.text in _RUNS_ELSEWHERE for word in words))


def _runs_code(program: str) -> bool:
    return program in _RUNS_CODE or _VERSION.sub("", program) in _RUNS_CODE


def doubt_of(program: str, words: Sequence[Word]) -> Doubt | None:
    """None if the command runs nothing but this program.

    Args:
        program: as `program_of` names it.
        words: of the command, the program's first.

    """
    if "/" in program:
        return Doubt("code", f"{program[:60]} is a program outside of the system's folders")
    if _runs_code(program):
        return Doubt("code", f"{program} runs other code")
    if program not in _KNOWN:
        return Doubt("unknown", f"it is not known what {program[:60]} runs")
    judge = _JUDGED.get(program)
    why = None if judge is None else judge(words[1:])
    return None if why is None else Doubt("code", f"{program} with {why}")


def effects_of(program: str, words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    """What a command does besides, as commands that would do the same: it removes or writes files."""
    effect = _EFFECTS.get(program)
    if effect is not None:
        yield from effect(words[1:])


def _judge_test(words: Sequence[Word]) -> str | None:
    """-v and -R look up a variable, whose name may hold code."""
    risky = any(word.text in ("-v", "-R") or (word.may_be_option and not word.sure) for word in words)
    return "a test of a variable" if risky else None


def _judge_letter(letter: str, effect: str) -> Callable[[Sequence[Word]], str | None]:
    """An option, wherever it stands among others: `wait -np NAME`."""

    def judge(words: Sequence[Word]) -> str | None:
        risky = any(word.may_be_option and (letter in word.text or not word.sure) for word in words)
        return f"-{letter}, which {effect}" if risky else None

    return judge


def _judge_sort(words: Sequence[Word]) -> str | None:
    for word in words:
        if word.may_be_option and not word.sure:
            return "names of files that it may take for options"
        name = word.text.partition("=")[0]
        if name.startswith("--c") and "--compress-program".startswith(name):
            return "a program to compress with"
    return None


def _judge_sed(words: Sequence[Word]) -> str | None:
    """Only what prints or leaves out lines by their numbers: other scripts can run commands and write files."""
    texts = [word.text for word in words]
    if any(word.may_be_option and not word.sure for word in words):
        return "names of files that it may take for options"
    if texts and texts[0] in ("-n", "-nE", "-En", "-E", "-u"):
        texts = texts[1:]
    plain = bool(texts) and bool(_SAFE_SED.fullmatch(texts[0])) and not any(t.startswith("-") for t in texts[1:])
    return None if plain else "a script that may run commands"


def _judge_options(words: Sequence[Word]) -> str | None:
    unsure = any(word.may_be_option and not word.sure for word in words)
    return "names of files that it may take for options" if unsure else None


_JUDGED: Final[Mapping[str, Callable[[Sequence[Word]], str | None]]] = {
    "[": _judge_test,
    "test": _judge_test,
    "printf": _judge_letter("v", "sets a variable"),
    "wait": _judge_letter("p", "sets a variable"),
    "tree": _judge_letter("R", "has a shell read the names of folders"),
    "sort": _judge_sort,
    "sed": _judge_sed,
    "find": _judge_options,
}


_REMOVES: Final = (Word("rm"), Word("", False))
_WRITES: Final = (Word("tee"), Word("", False))


def _effects_of_find(words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    if any(word.text == "-delete" for word in words):
        yield _REMOVES
    if any(word.text.startswith(("-fprint", "-fls")) for word in words):
        yield _WRITES


def _effects_of_option(letter: str, long: str) -> Callable[[Sequence[Word]], Iterator[tuple[Word, ...]]]:
    """An option that names a file to write, alone or behind others: `-uo FILE`, `--out=FILE`."""

    def effects(words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
        for word in words:
            begins = long if word.text.startswith("--") else letter
            if word.may_be_option and (begins in word.text or not word.sure):
                yield _WRITES
                return

    return effects


def _effects_of_uniq(words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    """Its second file is written; what is taken for one too many is but asked about once too often."""
    texts = [word.text for word in words]
    options = texts[: texts.index("--")] if "--" in texts else texts
    files = sum(text == "-" or not text.startswith("-") for text in options) + len(texts[len(options) + 1 :])
    if files > 1 or not all(word.sure for word in words):
        yield _WRITES


_EFFECTS: Final[Mapping[str, Callable[[Sequence[Word]], Iterator[tuple[Word, ...]]]]] = {
    "find": _effects_of_find,
    "file": _effects_of_option("C", "--c"),
    "shuf": _effects_of_option("o", "--o"),
    "sort": _effects_of_option("o", "--o"),
    "tree": _effects_of_option("o", "--o"),
    "uniq": _effects_of_uniq,
    "xxd": _effects_of_uniq,
}
