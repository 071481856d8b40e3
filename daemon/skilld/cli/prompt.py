"""Messages typed by a person: edited with readline, remembered, of one line or several."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from skilld.cli.output import is_terminal

__all__ = ["Prompt", "history_file"]

_BLOCK: Final = '"""'
_MAX_REMEMBERED: Final = 1000


def history_file(env: Mapping[str, str]) -> Path:
    """Where what was typed is remembered: $XDG_STATE_HOME/skilld/chat_history, else below ~/.local/state."""
    base = env.get("XDG_STATE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".local/state"
    return folder / "skilld/chat_history"


class Prompt:
    """Asks for one message after the other. Use it as a context manager: what was typed is remembered at its end.

    Args:
        history: the file that it is remembered in; None for nowhere.
        complete: words that may follow what was typed, given that.

    """

    def __init__(self, history: Path | None, complete: Callable[[str], Sequence[str]]) -> None:
        self._history = history
        self._complete = complete
        self._found: Sequence[str] = ()
        self._edited = is_terminal(sys.stdin) and is_terminal(sys.stdout)

    def __enter__(self) -> Prompt:
        if self._edited:
            import readline

            readline.set_completer_delims(" \t\n")
            readline.set_completer(self._next)
            readline.parse_and_bind("tab: complete")
            # A paste of several lines is one text, and not a message for each line.
            readline.parse_and_bind("set enable-bracketed-paste on")
            if self._history is not None:
                with contextlib.suppress(OSError):
                    readline.read_history_file(self._history)
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._edited:
            return
        import readline

        readline.set_completer(None)
        if self._history is not None:
            with contextlib.suppress(OSError):  # not worth an error at the end of a conversation
                _make_private(self._history)
                readline.set_history_length(_MAX_REMEMBERED)
                readline.write_history_file(self._history)

    @property
    def is_edited(self) -> bool:
        """Whether a person types at a terminal."""
        return self._edited

    def ask(self) -> str:
        """The next message, which may be blank.

        A line that ends in a backslash goes on in the next one; between two lines of \"\"\" every line belongs to it.

        Raises:
            EOFError: there is no more.
            KeyboardInterrupt: what was typed so far is given up.

        """
        line = self._line("> ")
        if line.strip() == _BLOCK:
            return self._block()
        lines = [line]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._line("… "))
        return "\n".join(lines)

    def _block(self) -> str:
        lines: list[str] = []
        while (line := self._line("… ")).strip() != _BLOCK:
            lines.append(line)
        return "\n".join(lines)

    def _line(self, before: str) -> str:
        if self._edited:
            return input(before)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _next(self, word: str, number: int) -> str | None:
        """What readline asks until there is no more."""
        if number == 0:
            self._found = self._complete(word)
        return self._found[number] if number < len(self._found) else None


def _make_private(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    os.chmod(file, 0o600)
