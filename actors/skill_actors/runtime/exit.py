"""Why an actor ended, and how its error is kept without keeping the frames it passed through."""

from __future__ import annotations

import copy
import traceback
from dataclasses import dataclass
from enum import Enum
from types import WrapperDescriptorType
from typing import Final

import trio

__all__ = ["ExitKind", "ExitReason", "detached", "drop_frames", "format_error", "leaving", "split_cancelled"]

_MAX_TRACE_CHARS: Final = 8_000


class ExitKind(Enum):
    """OTP's kinds of exit. NORMAL: the actor's own wish. SHUTDOWN: its supervisor's. The others are abnormal."""

    NORMAL = "normal"
    SHUTDOWN = "shutdown"
    KILLED = "killed"
    CRASH = "crash"
    INIT = "init"


_ABNORMAL: Final = frozenset({ExitKind.KILLED, ExitKind.CRASH, ExitKind.INIT})


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why an actor ended. `error` has no traceback once the exit has been reported."""

    kind: ExitKind
    error: BaseException | None = None

    @property
    def abnormal(self) -> bool:
        """Whether a transient child that ends so is restarted."""
        return self.kind in _ABNORMAL

    def __str__(self) -> str:
        return self.kind.value if self.error is None else f"{self.kind.value}: {_summary(self.error)}"


def _summary(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[:500]


def format_error(error: BaseException) -> str:
    """The traceback as text, at most about 8,000 characters of it, the end kept."""
    told = traceback.TracebackException.from_exception(error)
    _leave_out_carets(told)
    text = "".join(told.format()).rstrip()
    return text if len(text) <= _MAX_TRACE_CHARS else "[...]\n" + text[-_MAX_TRACE_CHARS:]


def _leave_out_carets(told: traceback.TracebackException) -> None:
    """To find the columns that carets point at, each line is parsed: half of the time that a traceback takes."""
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        one = pending.pop()
        if one is not None:
            for frame in one.stack:
                frame.colno = None
            pending += [one.__cause__, one.__context__, *(one.exceptions or ())]


def detached(error: BaseException) -> BaseException:
    """A copy that shares no future frames with `error`, which somebody else is about to raise again.

    An exception gathers the frames of whoever raises it, for as long as it lives. An exception that cannot be
    copied without running its own code is returned itself.
    """
    try:
        if isinstance(type(error).__init__, WrapperDescriptorType):  # Python's: some keep what is not in `args`
            twin = copy.copy(error)
        else:
            twin = type(error).__new__(type(error), *error.args)
            twin.__dict__.update(error.__dict__)
    except Exception:
        return error
    twin.__traceback__ = error.__traceback__
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    return twin


def drop_frames(error: BaseException | None) -> None:
    """Forget the traceback of `error` and of all that it was caused by or made of."""
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions


def split_cancelled(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """`error` as (the part that is trio's cancellation, the rest); each None if there is none of it."""
    if isinstance(error, trio.Cancelled):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error


def leaving(error: BaseException) -> BaseException:
    """The SystemExit or KeyboardInterrupt in `error`, which may be a nursery's group of one; else `error` itself."""
    pending = [error]
    while pending:
        one = pending.pop()
        if isinstance(one, SystemExit | KeyboardInterrupt):
            return one
        if isinstance(one, BaseExceptionGroup):
            pending += reversed(one.exceptions)
    return error
