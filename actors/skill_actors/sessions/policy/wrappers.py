"""Programs that run what stands in their arguments, taken off: `env nice -n 5 rm x` runs `rm x`.

Each is described by the options that it has. Where one has an option that is not listed here, what it runs is not
certain, and nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from skill_actors.sessions.policy.lexer import Word

__all__ = ["HARMLESS_VARIABLES", "Unclear", "Wrapped", "unwrap"]

# What may be set for a command without changing what runs; of all other variables that is not known.
HARMLESS_VARIABLES: Final = re.compile(
    r"LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|NO_COLOR|FORCE_COLOR|CLICOLOR|COLUMNS|LINES|CI|DEBIAN_FRONTEND"
)


class Unclear(Exception):
    """What a wrapper runs cannot be told. The message says why."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What a wrapper runs, and whether running it that way needs to be permitted as well.

    Args:
        commands: the words of each command that it runs.
        counts: whether the wrapper does more than to run them, as sudo does.

    """

    commands: tuple[tuple[Word, ...], ...]
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wrapper:
    """How its arguments are written.

    Args:
        flags: letters of options without a value.
        values: letters of options with one.
        long_flags: names of long options without a value.
        long_values: of those with one.
        positionals: how many words stand between the options and the command.
        assigns: whether NAME=VALUE may stand there too.
        counts: as in `Wrapped`.

    """

    flags: str = ""
    values: str = ""
    long_flags: frozenset[str] = frozenset()
    long_values: frozenset[str] = frozenset()
    positionals: int = 0
    assigns: bool = False
    counts: bool = False


def _names(text: str) -> frozenset[str]:
    return frozenset(f"--{name}" for name in text.split())


_WRAPPERS: Final[Mapping[str, _Wrapper]] = {
    "builtin": _Wrapper(),
    "busybox": _Wrapper(),
    "command": _Wrapper(flags="p"),
    "doas": _Wrapper(flags="n", values="u", counts=True),
    "env": _Wrapper(
        flags="i", values="u", long_flags=_names("ignore-environment"), long_values=_names("unset"), assigns=True
    ),
    "exec": _Wrapper(flags="cl", values="a"),
    "ionice": _Wrapper(flags="t", values="cn", long_flags=_names("ignore"), long_values=_names("class classdata")),
    "nice": _Wrapper(flags="0123456789", values="n", long_values=_names("adjustment")),
    "nohup": _Wrapper(),
    "setsid": _Wrapper(flags="cfw", long_flags=_names("ctty fork wait")),
    "stdbuf": _Wrapper(values="ioe", long_values=_names("input output error")),
    "sudo": _Wrapper(
        flags="nEHkSP",
        values="ug",
        long_flags=_names("non-interactive preserve-env set-home stdin"),
        long_values=_names("user group"),
        assigns=True,
        counts=True,
    ),
    "time": _Wrapper(flags="p"),
    "timeout": _Wrapper(
        flags="v",
        values="sk",
        long_flags=_names("preserve-status foreground verbose"),
        long_values=_names("signal kill-after"),
        positionals=1,
    ),
    "toybox": _Wrapper(),
    "xargs": _Wrapper(
        flags="0rtx",
        values="nPLIdas",
        long_flags=_names("null no-run-if-empty verbose exit"),
        long_values=_names("max-args max-procs max-lines delimiter arg-file max-chars"),
        counts=True,
    ),
}

_TAIL: Final = Word("", False)  # words that come from elsewhere
_EXECUTES: Final = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def unwrap(program: str, words: Sequence[Word]) -> Wrapped | None:
    """What the command runs by its arguments; None if it is no wrapper, or runs nothing this time.

    Args:
        program: its base name.
        words: of the command, the program's first.

    Raises:
        Unclear: it runs something, and it is not certain what.

    """
    special = _SPECIAL.get(program)
    if special is not None:
        return special(words)
    wrapper = _WRAPPERS.get(program)
    if wrapper is None:
        return None
    at, _ = _behind_options(words, wrapper)
    return _inner(words[at:], wrapper)


def _inner(words: Sequence[Word], wrapper: _Wrapper) -> Wrapped | None:
    return Wrapped((tuple(words),), wrapper.counts) if words else None


def _unwrap_command(words: Sequence[Word]) -> Wrapped | None:
    """`command -v NAME` only tells what it would run."""
    if len(words) > 1 and words[1].sure and words[1].text in ("-v", "-V"):
        return None
    return _inner(words[_behind_options(words, _WRAPPERS["command"])[0] :], _WRAPPERS["command"])


def _unwrap_exec(words: Sequence[Word]) -> Wrapped | None:
    at, _ = _behind_options(words, _WRAPPERS["exec"])
    if at >= len(words):
        raise Unclear("exec alone changes where the output of later commands goes")
    return _inner(words[at:], _WRAPPERS["exec"])


def _unwrap_applet(words: Sequence[Word]) -> Wrapped | None:
    if len(words) > 1 and words[1].sure and words[1].text.startswith("-"):
        return None  # it tells what it has
    return _inner(words[1:], _WRAPPERS["busybox"])


def _unwrap_xargs(words: Sequence[Word]) -> Wrapped | None:
    at, values = _behind_options(words, _WRAPPERS["xargs"])
    command = list(words[at:])
    if not command:
        return None
    replaced = values.get("I")
    if replaced is not None:
        if not replaced or replaced in command[0].text:
            raise Unclear("the name of the program comes from its input")
        command[1:] = [replace(word, sure=False) if replaced in word.text else word for word in command[1:]]
    return Wrapped(((*command, _TAIL),), True)


def _unwrap_find(words: Sequence[Word]) -> Wrapped | None:
    commands = []
    for at, word in enumerate(words):
        if word.text in _EXECUTES:
            commands.append(tuple(_executed(words[at + 1 :])))
    return Wrapped(tuple(commands), True) if commands else None


def _executed(words: Sequence[Word]) -> Iterator[Word]:
    before = ""
    for number, word in enumerate(words):
        if word.text == ";" or (word.text == "+" and before == "{}"):
            return
        if number == 0 and "{}" in word.text:
            raise Unclear("the name of the program is that of a file")
        yield replace(word, sure=False) if "{}" in word.text else word
        before = word.text
    raise Unclear("its -exec has no end")


_SPECIAL: Final[Mapping[str, Callable[[Sequence[Word]], Wrapped | None]]] = {
    "busybox": _unwrap_applet,
    "command": _unwrap_command,
    "exec": _unwrap_exec,
    "find": _unwrap_find,
    "toybox": _unwrap_applet,
    "xargs": _unwrap_xargs,
}


def _behind_options(words: Sequence[Word], wrapper: _Wrapper) -> tuple[int, Mapping[str, str]]:
    """Where the command begins, and the values of options by letter or name. Raises Unclear."""
    at, values = 1, dict[str, str]()
    while at < len(words) and words[at].may_be_option:
        text = _sure(words, at)
        if text == "--":
            at += 1
            break
        if text.startswith("--"):
            at = _long(words, at, wrapper, values)
        elif text == "-":
            raise Unclear("it has a lone -")
        else:
            at = _short(words, at, wrapper, values)
    for _ in range(wrapper.positionals):
        _sure(words, at)
        at += 1
    while wrapper.assigns and at < len(words) and "=" in words[at].text:
        name = words[at].text.partition("=")[0]
        if not HARMLESS_VARIABLES.fullmatch(name):
            raise Unclear(f"the variable {name[:40]!r} may change what is run")
        at += 1
    return at, values


def _sure(words: Sequence[Word], at: int) -> str:
    if at >= len(words) or not words[at].sure:
        raise Unclear("one of its arguments is missing, or comes from the shell")
    return words[at].text


def _long(words: Sequence[Word], at: int, wrapper: _Wrapper, values: dict[str, str]) -> int:
    name, equals, value = words[at].text.partition("=")
    if name in wrapper.long_flags and not equals:
        return at + 1
    if name not in wrapper.long_values:
        raise Unclear(f"the option {name[:40]!r} is not known here")
    values[name] = value if equals else _sure(words, at + 1)
    return at + (1 if equals else 2)


def _short(words: Sequence[Word], at: int, wrapper: _Wrapper, values: dict[str, str]) -> int:
    text = words[at].text
    for place, letter in enumerate(text[1:], 1):
        if letter in wrapper.values:
            rest = text[place + 1 :]
            values[letter] = rest or _sure(words, at + 1)
            return at + (1 if rest else 2)
        if letter not in wrapper.flags:
            raise Unclear(f"the option -{letter} is not known here")
    return at + 1
