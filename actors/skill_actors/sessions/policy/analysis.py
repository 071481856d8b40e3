"""What a call of a shell, or of a program with its arguments, would run: every program by name, or why that is unknown.

The answer errs to one side only: where it names programs without doubt, no others are run, and where anything in the
line could make a shell do something else, the line is *opaque* and the reason is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from skill_actors.sessions.policy.lexer import Opaque, Redirect, SimpleCommand, Word, split_line, sure_words
from skill_actors.sessions.policy.programs import Doubt, doubt_of, effects_of, moves, program_of
from skill_actors.sessions.policy.wrappers import HARMLESS_VARIABLES, Unclear, Wrapped, unwrap

__all__ = ["Analysis", "Command", "analyse_argv", "analyse_line", "opaque"]

_MAX_DEPTH = 8  # wrappers in wrappers
_MAX_COMMANDS = 100  # all are compared with all rules, and everybody else waits meanwhile
_MAX_WORDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with its arguments.

    Args:
        program: its name, "" if the command only opens files.
        words: the program's first, as it was written.
        doubt: why it may run other programs too; None if it surely does not.
        redirects: files that the shell opens for it.
        counts: whether it has to be permitted itself. Not so for a wrapper that does nothing but run another command.

    """

    program: str
    words: tuple[Word, ...]
    doubt: Doubt | None = None
    redirects: tuple[Redirect, ...] = ()
    counts: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What a line runs.

    Args:
        commands: in the order in which they stand there; what a wrapper runs comes after it. None if it is opaque.
        opaque: why that cannot be told; "" if it can.
        moves: whether a relative path may mean something else than in the folder where the line begins.

    """

    commands: tuple[Command, ...] = ()
    opaque: str = ""
    moves: bool = False

    @property
    def plain(self) -> bool:
        """Whether it runs the programs of `commands` and no others, for certain."""
        return not self.opaque and all(command.doubt is None for command in self.commands)


def opaque(reason: str) -> Analysis:
    """Of something that cannot be looked into."""
    return Analysis(opaque=reason)


def analyse_line(line: str) -> Analysis:
    """What bash would run for a line, which may have line ends in it."""
    try:
        return _analysed(split_line(line))
    except Opaque as found:
        return opaque(str(found))


def analyse_argv(argv: Sequence[str]) -> Analysis:
    """What running a program with these arguments, without a shell, would run."""
    try:
        return _analysed([SimpleCommand(sure_words(argv))])
    except Opaque as found:
        return opaque(str(found))


def _analysed(simple: Sequence[SimpleCommand]) -> Analysis:
    if len(simple) > _MAX_COMMANDS or sum(len(each.words) for each in simple) > _MAX_WORDS:
        raise Opaque(f"it has more than {_MAX_COMMANDS} commands, or {_MAX_WORDS} words")
    commands = tuple(command for each in simple for command in _resolved(each))
    return Analysis(commands=commands, moves=any(moves(command.program, command.words) for command in commands))


def _resolved(simple: SimpleCommand) -> Iterator[Command]:
    """Raises Opaque."""
    for name in simple.assigned:
        if not simple.words:
            raise Opaque(f"it sets the variable {name[:40]} for later commands")
        if not HARMLESS_VARIABLES.fullmatch(name):
            raise Opaque(f"the variable {name[:40]} may change what is run")
    if simple.words:
        yield from _layers(simple.words, simple.redirects, 0)
    elif simple.redirects:
        yield Command(program="", words=(), redirects=simple.redirects)


def _layers(words: tuple[Word, ...], redirects: tuple[Redirect, ...], depth: int) -> Iterator[Command]:
    """The command and all that it runs. Raises Opaque."""
    if depth > _MAX_DEPTH:
        raise Opaque("it has too many wrappers in wrappers")
    program = program_of(words[0])
    if program == "time" and redirects and len(words) > 1 and words[1].may_be_option:
        raise Opaque("time has options behind a redirection, where bash takes them for a program")
    try:
        wrapped = unwrap(program, words)
    except Unclear as found:
        doubt = Doubt("code", f"what {program} runs is not certain: {found}")
        yield Command(program=program, words=words, doubt=doubt, redirects=redirects)
        return
    if wrapped is None:
        yield Command(program=program, words=words, doubt=_doubt(program, words), redirects=redirects)
    else:
        yield _outer(program, words, redirects, wrapped)
        for inner in wrapped.commands:
            yield from _layers(inner, redirects, depth + 1)
    for effect in effects_of(program, words):
        yield Command(program=effect[0].text, words=effect)


def _doubt(program: str, words: tuple[Word, ...]) -> Doubt | None:
    """A wrapper that wraps nothing, such as `env` alone, is itself known."""
    return None if program in ("command", "xargs", "env") else doubt_of(program, words)


def _outer(program: str, words: tuple[Word, ...], redirects: tuple[Redirect, ...], wrapped: Wrapped) -> Command:
    doubt = doubt_of(program, words) if program == "find" else None
    return Command(program=program, words=words, doubt=doubt, redirects=redirects, counts=wrapped.counts)
