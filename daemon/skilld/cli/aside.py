"""What a person types at the terminal while an answer is written: it is said to the turn that runs.

idle --a turn begins--> listening --a line--> the daemon is told, listening
listening --a question is asked at the terminal--> hushed --it is settled--> listening
listening --the turn ends--> idle; a line that is not whole yet stays for the prompt

A thread listens, since the answer is read in the main one; it waits for the terminal and for a pipe that ends it.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from skilld.cli.output import Console
from skilld.client import Client, SkilldError
from skilld.client.wire import Accepted

__all__ = ["Aside"]

_MAX_BYTES: Final = 65_536  # of one line; a terminal gives at most 4,096


class Aside:
    """Listens at the terminal for as long as it is open. Used as a context manager, any number of times.

    Attributes:
        queued: what came too late for the turn, and has one of its own; in its order.
        later: what is for the prompt: lines that begin with a colon.

    """

    def __init__(self, client: Client, session: str, console: Console) -> None:
        self._client = client
        self._session = session
        self._console = console
        self._thread: threading.Thread | None = None
        self._end: int | None = None
        self.queued: list[Accepted] = []
        self.later: list[str] = []

    def __enter__(self) -> Aside:
        stop, self._end = os.pipe()
        self._thread = threading.Thread(target=self._listen, args=(stop,), name="aside", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        thread, self._thread = self._thread, None
        end, self._end = self._end, None
        if end is not None:
            os.close(end)
        if thread is not None:
            thread.join()

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Leave the terminal to somebody else for as long as the block lasts."""
        if self._thread is None:
            yield
            return
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def _listen(self, stop: int) -> None:
        terminal = sys.stdin.fileno()
        try:
            while stop not in select.select([terminal, stop], [], [])[0]:
                typed = os.read(terminal, _MAX_BYTES)
                if not typed:  # the end of the input is for the prompt to see
                    return
                for line in typed.decode("utf-8", "replace").splitlines():
                    self._say(line.strip())
        except OSError as error:
            self._console.warn(f"[nothing more can be said to this turn: {error.strerror}]")
        finally:
            os.close(stop)

    def _say(self, text: str) -> None:
        if not text:
            return
        if text.startswith(":"):
            self.later.append(text)
            self._console.note(f"[{text.split()[0]}: when the turn has ended]")
            return
        try:
            accepted = self._client.steer(self._session, text)
        except SkilldError as error:
            self._console.warn(f"[not said: {error}]")
            return
        if accepted.status == "steered":
            self._console.note("[said to the turn that runs]")
        else:
            self.queued.append(accepted)
            self._console.note("[comes next, in a turn of its own]")
