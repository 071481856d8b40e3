"""A line of bash as simple commands, where that is certain; where it is not, the line is opaque, with the reason.

What is understood: words, quotes, backslashes, `;` `&` `&&` `||` `|` `|&` and newlines between commands, assignments in
front of one, comments, and redirections. Everything else that a shell would make something of (expansions of any kind,
subshells, here-documents, ...) makes the line opaque: it is not guessed at. Names of files that the shell puts in
for `*`, `?`, `[...]`, `{...}` and `~` are allowed for in arguments; such a word is not *sure*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from skill_actors.sessions.policy.shown import is_visible, shown
from skill_actors.skills.allowed_tools import MAX_LINE_CHARS

__all__ = ["Opaque", "Redirect", "SimpleCommand", "Word", "split_line", "sure_words"]

_BLANKS: Final = " \t"
_ENDS_WORD: Final = frozenset(" \t\n;&|<>()")
_OPERATORS: Final = ("&>>", "&>", "&&", "||", "|&", ";;", ";&", ";", "&", "|", "\n")  # each before what it begins with
_REDIRECTIONS: Final = ("<<<", "<<", "<>", "<&", ">>", ">|", ">&", "<", ">")
_GOES_ON: Final = frozenset({"&&", "||", "|", "|&"})
_GLOB: Final = frozenset("*?[")
_ESCAPED_IN_QUOTES: Final = frozenset('$`"\\')
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
_DESCRIPTOR: Final = re.compile(r"[0-9]+-?|-")
_MAX_DESCRIPTOR_DIGITS: Final = 9  # of more, bash makes a word if the number is too large
_NO_FILES: Final = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/stdin"})
_NETWORK: Final = ("/dev/tcp", "/dev/udp")


class Opaque(Exception):
    """What a line does cannot be told for certain. The message says why."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command.

    Args:
        text: without its quotes.
        sure: whether the program gets this text as one word, and not what the shell puts in its place.
        quoted_from: the place in the text where the first quoted character is; its length if there is none.

    """

    text: str
    sure: bool = True
    quoted_from: int = 0

    @property
    def may_be_option(self) -> bool:
        """Whether a program could take it, or what stands in its place, for an option."""
        return self.text.startswith("-") or (not self.sure and self.text[:1] in ("", *"*?[{~"))


@dataclass(frozen=True, slots=True)
class Redirect:
    """A file that the shell opens for a command. `path` is None where it cannot be known."""

    path: str | None
    writes: bool


@dataclass(frozen=True, slots=True)
class SimpleCommand:
    """What stands between two operators.

    Args:
        words: the program and its arguments; none if there are but assignments and redirections.
        assigned: names of the variables that are set for it.
        redirects: files that the shell opens; not /dev/null and what is open already.

    """

    words: tuple[Word, ...]
    assigned: tuple[str, ...] = ()
    redirects: tuple[Redirect, ...] = ()


def split_line(line: str) -> tuple[SimpleCommand, ...]:
    """The simple commands of a line, in their order; none if it is empty.

    Raises:
        Opaque: it is not certain what they are, or the line is longer than `MAX_LINE_CHARS`.

    """
    _check_characters(line)
    return tuple(_commands(_tokens(line)))


def _check_characters(line: str) -> None:
    if len(line) > MAX_LINE_CHARS:
        raise Opaque(f"it is longer than {MAX_LINE_CHARS:,} characters")
    for char in line:
        if char not in "\n\t" and not is_visible(char):
            raise Opaque(f"it holds a character that cannot be seen ({shown(char)})")


@dataclass(frozen=True, slots=True)
class _Operator:
    text: str


@dataclass(frozen=True, slots=True)
class _Redirection:
    text: str


def _tokens(line: str) -> Iterator[Word | _Operator | _Redirection]:
    at = 0
    closes = False  # whether a descriptor is about to be named, where - is a word of its own: `>&-rm x` runs rm
    while at < len(line):
        if line[at] in _BLANKS:
            at += 1
        elif line.startswith("\\\n", at):
            at += 2
        elif line[at] == "#":
            end = line.find("\n", at)
            at = len(line) if end < 0 else end
        elif line[at] in ";&|\n":
            operator = next(each for each in _OPERATORS if line.startswith(each, at))
            yield _Redirection(operator) if ">" in operator else _Operator(operator)
            at += len(operator)
        elif line[at] in "<>":
            redirection = next(each for each in _REDIRECTIONS if line.startswith(each, at))
            yield _Redirection(redirection)
            at += len(redirection)
            closes = redirection in ("<&", ">&")
        elif closes and line[at] == "-":
            yield Word("-", True, 1)
            at += 1
            closes = False
        else:
            closes = False
            word, at = _WordReader(line, at).read()
            if line[at : at + 1] in ("<", ">") and _is_descriptor(word):
                continue  # the redirection is for this one, whichever it is
            yield word


def _is_descriptor(word: Word) -> bool:
    if "{" in word.text[: word.quoted_from]:
        raise Opaque("it lets the shell choose a descriptor ({name}>)")
    if not (word.text.isascii() and word.text.isdigit() and word.quoted_from == len(word.text)):
        return False
    if len(word.text) > _MAX_DESCRIPTOR_DIGITS:
        raise Opaque("it has a descriptor with very many digits")
    return True


class _WordReader:
    """Reads one word that begins at a place in the line."""

    def __init__(self, line: str, at: int) -> None:
        self._line = line
        self._at = at
        self._text: list[str] = []
        self._quoted_from: int | None = None
        self._sure = True
        self._braces = False

    def read(self) -> tuple[Word, int]:
        """The word, and the place behind it. Raises Opaque."""
        line = self._line
        while self._at < len(line) and line[self._at] not in _ENDS_WORD:
            char = line[self._at]
            if char == "\\":
                self._backslash()
            elif char == "'":
                self._single_quotes()
            elif char == '"':
                self._double_quotes()
            else:
                self._unquoted(char)
                self._at += 1
        if line[self._at : self._at + 1] in ("(", ")"):
            raise Opaque("it has parentheses: a subshell, a function or an expansion")
        text = "".join(self._text)
        quoted_from = len(text) if self._quoted_from is None else self._quoted_from
        if text == "[" and quoted_from == len(text):
            self._sure = True  # nothing closes it
        if self._braces and ("," in text or ".." in text):
            self._sure = False
        return Word(text, self._sure, quoted_from), self._at

    def _unquoted(self, char: str) -> None:
        if char in "$`":
            raise _expansion(char)
        if char in _GLOB or (char == "~" and (not self._text or self._text[-1] in ":=")):
            self._sure = False
        self._braces = self._braces or char == "{"
        self._text.append(char)

    def _quote(self, text: str) -> None:
        if self._quoted_from is None:
            self._quoted_from = len(self._text)
        self._text.extend(text)

    def _backslash(self) -> None:
        following = self._line[self._at + 1 : self._at + 2]
        if not following:
            raise Opaque("it ends with a backslash")
        if following != "\n":
            self._quote(following)
        self._at += 2

    def _single_quotes(self) -> None:
        end = self._line.find("'", self._at + 1)
        if end < 0:
            raise Opaque("a quote is not closed")
        self._quote(self._line[self._at + 1 : end])
        self._at = end + 1

    def _double_quotes(self) -> None:
        line, at = self._line, self._at + 1
        self._quote("")
        while line[at : at + 1] != '"':
            char = line[at : at + 1]
            if not char:
                raise Opaque("a quote is not closed")
            if char in "$`":
                raise _expansion(char)
            if char == "\\" and line[at + 1 : at + 2] in _ESCAPED_IN_QUOTES and at + 1 < len(line):
                at += 1
                char = line[at]
            elif char == "\\" and line[at + 1 : at + 2] == "\n":
                at += 1
                char = ""
            self._quote(char)
            at += 1
        self._at = at + 1


def _expansion(char: str) -> Opaque:
    return Opaque("the shell would put something else in the place of " + ("`...`" if char == "`" else "$..."))


class _Building:
    """A simple command of which not all has been read."""

    def __init__(self) -> None:
        self.words: list[Word] = []
        self.assigned: list[str] = []
        self.redirects: list[Redirect] = []
        self.empty = True

    def add(self, word: Word) -> None:
        self.empty = False
        found = None if self.words else _ASSIGNMENT.match(word.text)
        if found is None or found.end() > word.quoted_from:
            self.words.append(word)
        elif found[2]:
            raise Opaque("it adds to a variable")
        else:
            self.assigned.append(found[1])

    def redirect(self, operator: str, target: Word) -> None:
        self.empty = False
        if operator.startswith("<<"):
            raise Opaque("it has a here-document")
        if operator in ("<&", ">&") and target.sure and _DESCRIPTOR.fullmatch(target.text):
            return
        if operator == "<&":
            raise Opaque("it opens something that cannot be told")
        if target.text.startswith(_NETWORK):
            raise Opaque("it opens a connection")
        if not (target.sure and target.text in _NO_FILES):
            self.redirects.append(Redirect(target.text if target.sure else None, operator != "<"))

    @property
    def times_nothing(self) -> bool:
        """Whether it is the shell's own word `time`, perhaps with options, and no command behind it."""
        plain = [word.text if word.quoted_from == len(word.text) else "" for word in self.words]
        return not self.assigned and plain in (["time"], ["time", "-p"], ["time", "--"], ["time", "-p", "--"])

    def built(self) -> SimpleCommand:
        return SimpleCommand(tuple(self.words), tuple(self.assigned), tuple(self.redirects))


def _commands(tokens: Iterator[Word | _Operator | _Redirection]) -> Iterator[SimpleCommand]:
    building, pending, before = _Building(), "", "\n"
    for token in tokens:
        if pending and not isinstance(token, Word):
            raise Opaque(f"nothing stands behind {pending}")
        match token:
            case Word() if pending:
                building.redirect(pending, token)
                pending = ""
            case Word():
                building.add(token)
            case _Redirection(text):
                pending = text
            case _Operator(text):
                _check_operator(text, building)
                if not building.empty:
                    yield building.built()
                    building, before = _Building(), text
    if pending:
        raise Opaque(f"nothing stands behind {pending}")
    if not building.empty:
        yield building.built()
    elif before in _GOES_ON:
        raise Opaque(f"nothing stands behind {before}")


def _check_operator(text: str, building: _Building) -> None:
    if text in (";;", ";&"):
        raise Opaque(f"it has {text}")
    if building.empty and text != "\n":
        raise Opaque(f"nothing stands before {text}")
    if text not in ("\n", ";") and building.times_nothing:
        raise Opaque(f"time has no command before {text}, and bash takes none of such a line")


def sure_words(argv: Sequence[str]) -> tuple[Word, ...]:
    """Words that no shell reads."""
    return tuple(Word(text, True, 0) for text in argv)
