"""Asks the person at the terminal about calls that wait for an approval.

asking --a, s, d--> the daemon is told --> settled
       --e--> editor --> the change is shown --y--> the daemon is told --> settled, or asking again if it is refused
       --l, Ctrl-D--> left: it waits on, for another answer
Ctrl-C is the caller's. What was typed before the question is thrown away: it was no answer to it.
"""

from __future__ import annotations

import json
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal

import click

from skilld.cli.approval_card import BAR, GOES_ON, card_of
from skilld.cli.inert import inert, inert_lines, pieces
from skilld.cli.output import Console, columns_of, is_terminal
from skilld.client import Client, SkilldError

__all__ = ["Inquiry", "hint"]

_QUESTION: Final = "[a]llow once, allow for the [s]ession, [e]dit, [d]eny, [l]eave it"
_MORE: Final = ", [v]iew all of it"
_WORDS: Final = ("allow", "session", "edit", "deny", "leave", "view", "yes", "no")
_ANSWERS: Final[Mapping[str, str]] = {typed: word[0] for word in _WORDS for typed in (word, word[0])}
_INDENT: Final = "  "
_FINAL: Final = frozenset({"conflict", "not_found"})


def hint(view: Mapping[str, Any]) -> str:
    """What to do about an approval that is left."""
    id = inert(str(view.get("id")))
    return f"decide with: skillctl approve {id}, or: skillctl deny {id} --reason TEXT"


class Inquiry:
    """Asks at the terminal, if there is one: then stdin and stderr are both terminals."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console
        self.possible = is_terminal(sys.stdin) and is_terminal(sys.stderr)

    def settle(self, approval: str, *, ask: bool = True) -> bool:
        """Whether the call waits no longer: it was decided before, or is now. Else the user is told what to do.

        Args:
            ask: whether to ask, where that is possible.

        """
        try:
            view = self._client.approval(approval)
        except SkilldError as error:
            if error.code != "not_found":
                raise
            return True
        if view["status"] != "pending" or (ask and self.possible and self._ask(view)):
            return True
        self._console.warn(f"waiting for approval {inert(approval)}; {hint(view)}")
        return False

    def _ask(self, view: Mapping[str, Any]) -> bool:
        columns = columns_of(sys.stderr)
        card = card_of(view, datetime.now(UTC), columns=columns)
        self._print(card.lines)
        question = f"{_QUESTION}{'' if card.whole else _MORE}: "
        while True:
            match self._answer(question):
                case "a":
                    settled = self._decide(view, "allow")
                case "s":
                    settled = self._decide(view, "allow", scope="session")
                case "d":
                    reason = self._line("why, for the model (may be empty): ")
                    if reason is None:
                        continue
                    settled = self._decide(view, "deny", reason=reason or None)
                case "e":
                    settled = self._edit(view)
                case "v":
                    whole = card_of(view, datetime.now(UTC), complete=True, columns=columns)
                    click.echo_via_pager("\n".join(whole.lines) + "\n")
                    continue
                case "l" | None:
                    return False
                case _:
                    continue
            if settled is not None:
                return settled

    def _decide(
        self,
        view: Mapping[str, Any],
        decision: Literal["allow", "deny", "edit"],
        *,
        scope: Literal["once", "session"] = "once",
        input: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> bool | None:
        """Whether it is settled; None: to be asked again, since the daemon did not take this answer."""
        try:
            self._client.decide(view["id"], decision, scope=scope, input=input, reason=reason)
        except SkilldError as error:
            if error.status is None:
                raise
            self._console.warn(inert(error.message))
            if error.code == "forbidden":
                return False
            return True if error.code in _FINAL else None
        return True

    def _edit(self, view: Mapping[str, Any]) -> bool | None:
        """As `_decide`. The command alone where there is one that an editor shows as it is, else the whole input."""
        given = dict(view["input"])
        command = given.get("command")
        plain = isinstance(command, str) and all(c.isprintable() or c in "\n\t" for c in command)
        text = str(command) if plain else json.dumps(given, indent=2)
        try:
            edited = click.edit(text.rstrip("\n") + "\n", extension=".sh" if plain else ".json")
        except click.ClickException as error:
            self._console.warn(error.format_message())
            return None
        if edited is None or edited.rstrip("\n") == text.rstrip("\n"):
            self._console.warn("nothing was changed")
            return None
        changed = {**given, "command": edited.rstrip("\n")} if plain else _object(edited)
        if changed is None:
            self._console.warn("that is no JSON object")
            return None
        room = max((columns_of(sys.stderr) or 0) - len(_INDENT + BAR), 1)
        for line in inert_lines(edited.rstrip("\n")):
            first, *rest = pieces(line, room)
            self._print([f"{_INDENT}{BAR}{first}", *(f"{_INDENT}{GOES_ON}{piece}" for piece in rest)])
        if self._answer("run this instead? [y]es, [n]o: ") != "y":
            return None
        return self._decide(view, "edit", input=changed)

    def _answer(self, question: str) -> str | None:
        """The letter of what is typed, "" if that is no answer: "stop" is not "s". None at the end of the input."""
        line = self._line(question)
        return None if line is None else _ANSWERS.get(line.lower(), "")

    def _line(self, question: str) -> str | None:
        """What is typed, without blanks around it; None at the end of the input. What is no text is asked for again."""
        while True:
            with suppress(termios.error):
                termios.tcflush(sys.stdin, termios.TCIFLUSH)
            print(question, end="", file=sys.stderr, flush=True)
            try:
                line = sys.stdin.readline()
                line.encode()  # half a surrogate pair, where the locale is none of UTF-8
            except UnicodeError:
                self._console.warn("that is not valid UTF-8")
                continue
            if not line:
                print(file=sys.stderr, flush=True)
                return None
            return line.strip()

    def _print(self, lines: Sequence[str]) -> None:
        self._console.end_line()
        for line in lines:
            print(line, file=sys.stderr)
        sys.stderr.flush()


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
