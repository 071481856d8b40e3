"""How a command ends when it does not end well: one line on stderr, and an exit code that scripts can rely on."""

from __future__ import annotations

from typing import IO, Any, Final

import click

from skilld.client import ConnectionLost, DaemonUnreachable, RequestTimeout, SkilldError

__all__ = ["EXIT", "Failure", "exit_code_of"]


class EXIT:
    """Exit codes of skillctl."""

    DONE: Final = 0
    FAILED: Final = 1
    USAGE: Final = 2
    WAITING_FOR_APPROVAL: Final = 3
    UNREACHABLE: Final = 4
    REFUSED: Final = 5
    TIMED_OUT: Final = 124
    CANCELLED: Final = 130


_REFUSALS: Final = frozenset({"budget_exceeded", "policy_denied"})
_TIMEOUTS: Final = frozenset({"timeout", "turn_timeout"})


class Failure(click.ClickException):
    """Ends the program with `message` on stderr and this exit code."""

    def __init__(self, message: str, exit_code: int = EXIT.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance too

    @classmethod
    def of(cls, error: SkilldError) -> Failure:
        """What to tell the user of an error of the client library."""
        message = error.message
        if error.retry_after_s is not None:
            message += f" (try again in {error.retry_after_s:g} s)"
        key = error.details.get("idempotency_key")
        if key is not None:
            message += f"; send again with --key {key} and it is taken once"
        return cls(message, _exit_code_of_error(error))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the one line."""
        from skilld.cli.output import one_line

        click.echo(f"skillctl: error: {one_line(self.message)}", file=file, err=file is None)


def _exit_code_of_error(error: SkilldError) -> int:
    if isinstance(error, DaemonUnreachable | ConnectionLost):
        return EXIT.UNREACHABLE
    if isinstance(error, RequestTimeout):
        return EXIT.TIMED_OUT
    return EXIT.REFUSED if error.code in _REFUSALS else EXIT.FAILED


def exit_code_of(status: str, code: str | None) -> int:
    """The exit code for a turn that ended as `status` (finished, failed, ...) for the reason `code`."""
    if status == "finished":
        return EXIT.DONE
    if status == "cancelled":
        return EXIT.CANCELLED
    if code in _TIMEOUTS:
        return EXIT.TIMED_OUT
    return EXIT.REFUSED if code in _REFUSALS else EXIT.FAILED
