"""What the model reads of a finished call: both streams, the exit, and what was cut. Pure functions."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Collection
from dataclasses import replace
from typing import Final, Literal

from .link import Done, Output
from .redaction import Redactor

__all__ = ["NOTE_CHARS", "OWN_FOLDER", "clean", "compose", "file_name", "file_of_output", "hide", "outcome_of"]

OWN_FOLDER: Final = ".skilld"  # in the workspace: temporary files, and outputs too long for the model
NOTE_CHARS: Final = 600  # at most, of notes; output longer than the limit less these goes to a file


def outcome_of(done: Done) -> Literal["ok", "error", "timeout", "cancelled"]:
    """The tool result's outcome."""
    if done.outcome in ("timeout", "cancelled"):
        return "timeout" if done.outcome == "timeout" else "cancelled"
    return "ok" if done.outcome == "exited" and done.code == 0 and done.error is None else "error"


def compose(done: Done, *, timeout_s: float, max_chars: int, output_file: str | None) -> str:
    """Standard output, then standard error under a heading, then notes in square brackets; at most `max_chars`.

    Of a stream that is too long the beginning and the end are kept. `output_file` is where the whole is.
    """
    notes = _notes(done, timeout_s)
    room = max(0, max_chars - NOTE_CHARS)
    out_room, err_room = _share(room, done.stdout.chars, done.stderr.chars)
    cut = done.stdout.chars > out_room or done.stderr.chars > err_room
    if cut:
        notes.append(_where_the_rest_is(done, output_file))
    parts = [_fit(done.stdout, out_room)]
    if done.stderr.chars:
        parts += ["[stderr]", _fit(done.stderr, err_room)]
    parts += notes
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    return clean(text or "(no output)")[:max_chars]


def clean(text: str) -> str:
    """Text that every store and every API takes: valid UTF-8 without NUL."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def file_name(call: str) -> str:
    """The call's id, if it can be a file name, else a digest of it: ids come from the model's side."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", call):
        return call
    return hashlib.sha256(call.encode(errors="replace")).hexdigest()[:32]


def file_of_output(call: str) -> str:
    """Where the whole output of this call goes if it is too long for the model, relative to the workspace."""
    return f"{OWN_FOLDER}/output/{file_name(call)}.txt"


def hide(done: Done, values: Collection[str]) -> Done:
    """The same without these values, and without what a cut has left of one."""
    redactor = Redactor(values)
    return replace(done, stdout=_hide(done.stdout, redactor), stderr=_hide(done.stderr, redactor))


def _hide(output: Output, redactor: Redactor) -> Output:
    held = len(output.head) + len(output.tail)
    if held == output.chars:
        text = redactor.text(output.head + output.tail)
        return Output(head=text, chars=len(text))
    head, tail = redactor.cut(output.head, output.tail)
    return Output(head=head, tail=tail, chars=output.chars - held + len(head) + len(tail))


def _share(room: int, out_chars: int, err_chars: int) -> tuple[int, int]:
    """How much of `room` either stream may have: half, and what the other one leaves."""
    half = room // 2
    err_room = min(err_chars, max(half, room - out_chars))
    return min(out_chars, room - err_room), err_room


def _fit(output: Output, room: int) -> str:
    if output.chars <= room:
        return (output.head + output.tail)[:room]
    first = room // 2
    last = room - first
    end = (output.head + output.tail)[-last:] if last else ""
    return f"{output.head[:first]}\n[... {output.chars - room} characters are left out ...]\n{end}"


def _notes(done: Done, timeout_s: float) -> list[str]:
    notes: list[str] = []
    match done.outcome:
        case "exited" if done.error is not None:
            notes.append(f"[the command could not be started: {done.error[:300]}]")
        case "exited" if done.code is not None and done.code < 0:
            notes.append(f"[ended by signal {_signal_name(-done.code)}]")
        case "exited" if done.code:
            notes.append(f"[exit code {done.code}]")
        case "timeout":
            notes.append(f"[timed out after {timeout_s:g} s; the command and all it had started were killed]")
        case "limited":
            notes.append(f"[{done.error}; the command and all it had started were killed]")
        case "cancelled":
            notes.append("[cancelled; the command and all it had started were killed]")
        case "refused":
            notes.append(f"[the command was not started: {(done.error or '')[:300]}]")
        case "lost":
            notes.append(
                "[the process that runs the commands of this workspace was killed, and with it this command and all it "
                "had started; how far it came is unknown; the next command gets a new one]"
            )
    if done.ended:
        notes.append(f"[{done.ended} processes that it left in the background were killed]")
    if done.left:
        notes.append(f"[{done.left} of its processes could not be killed]")
    return notes


def _where_the_rest_is(done: Done, output_file: str | None) -> str:
    spill = done.spill
    if spill is None or output_file is None:
        return "[the output is cut]"
    if spill.error is not None:
        return f"[the output is cut; its file {output_file} has only {spill.bytes} bytes: {spill.error[:100]}]"
    if spill.cut:
        return f"[the output is cut; its first {spill.bytes} bytes are in {output_file}]"
    return f"[the output is cut; the whole ({spill.bytes} bytes, both streams as they came) is in {output_file}]"


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)
