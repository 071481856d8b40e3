"""Why an actor ended, and how its error is kept without keeping the frames it passed through."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from typing import Final

import trio

__all__ = ["ExitKind", "ExitReason", "detached", "drop_frames", "format_error", "split_cancelled"]

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
    text = "".join(traceback.format_exception(error)).rstrip()
    return text if len(text) <= _MAX_TRACE_CHARS else "[...]\n" + text[-_MAX_TRACE_CHARS:]


def detached(error: BaseException) -> BaseException:
    """A copy that shares no future frames with `error`, which somebody else is about to raise again.

    An exception gathers the frames of whoever raises it, for as long as it lives. An exception that cannot be
    copied without running its own code is returned itself.
    """
    try:
        copy = type(error).__new__(type(error), *error.args)
        copy.__dict__.update(error.__dict__)
    except Exception:
        return error
    copy.__traceback__ = error.__traceback__
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    copy.__suppress_context__ = error.__suppress_context__
    return copy


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
