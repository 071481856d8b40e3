"""What a call would run as, whole: what an approver is shown, and what is compared before it runs. Pure.

The digest is over everything that decides what happens, in one way of writing it. It also covers whose call it is, so
that an approval of one session, turn or call is none of another.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from skill_actors.sessions.policy.shown import shown

__all__ = ["ApprovalRequest", "NamedFile", "canonical"]

_FORM: Final = 1  # of what is hashed: another form has other digests
_SHOWN_CHARS: Final = 400
_NOT_BOUND: Final = frozenset({"reason", "rule", "session", "turn", "call"})

# What differs, as the model and the approver are told.
_NAMES: Final[Mapping[str, str]] = {
    "tool": "the tool",
    "place": "the place",
    "backend": "the backend",
    "input": "the input",
    "argv": "the command",
    "cwd": "the folder it runs in",
    "environment": "the variables it gets",
    "skill": "the version of the skill or tool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A file that a call names, and that is there.

    Args:
        path: as the call names it.
        sha256: of its content, in hex; None if it has none that can be hashed: then `note` says what it is.
        note: what else decides what would be opened under this name: where a link leads to, or the kind of thing.

    """

    path: str
    sha256: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, **({"note": self.note} if self.note else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A call that needs an approval.

    Args:
        session, turn, call: whose it is.
        tool: by the name that it has in its place.
        input: what it is called with: for paths in place of references to artifacts, these.
        argv: where no shell is in play: the words of the program that runs.
        cwd: as the tool sees it; None where a tool has none.
        environment: names of the variables that a command finds, its secrets among them, sorted.
        files: that the call names, sorted by path.
        skill: name and digest of the one whose code or files the call uses, or of a tool server (mcp:NAME) and tool.
        reason: why it is not simply allowed.
        rule: of the policy, that says so.

    """

    session: str
    turn: str
    call: str
    tool: str
    place: str
    backend: str
    input: Mapping[str, Any]
    argv: tuple[str, ...] | None = None
    cwd: str | None = None
    environment: tuple[str, ...] = ()
    files: tuple[NamedFile, ...] = ()
    skill: Mapping[str, str] | None = None
    reason: str = ""
    rule: str | None = None

    @property
    def command(self) -> str | None:
        """The command as one text; None for what is none."""
        if self.argv is not None:
            return shlex.join(self.argv)
        command = self.input.get("command")
        return command if isinstance(command, str) else None

    @property
    def digest(self) -> str:
        """sha256 (hex) over all that decides what happens, and whose call it is."""
        bound = {"form": _FORM, "session": self.session, "turn": self.turn, "call": self.call, **self._bound()}
        return hashlib.sha256(canonical(bound)).hexdigest()

    def _bound(self) -> dict[str, Any]:
        told = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _NOT_BOUND}
        return {**told, "files": [file.to_dict() for file in self.files]}

    def changes(self, now: ApprovalRequest) -> Sequence[str]:
        """What is not as it is here any more, in words; none if the same would run."""
        return [
            text for name, text in _NAMES.items() if canonical(getattr(self, name)) != canonical(getattr(now, name))
        ] + _file_changes(self.files, now.files)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the digest and the line that people are shown."""
        return {
            "session": self.session,
            "turn": self.turn,
            "call": self.call,
            "tool": self.tool,
            "place": self.place,
            "backend": self.backend,
            "input": dict(self.input),
            "command": self.command,
            "argv": None if self.argv is None else list(self.argv),
            "cwd": self.cwd,
            "environment": list(self.environment),
            "files": [file.to_dict() for file in self.files],
            "skill": None if self.skill is None else dict(self.skill),
            "reason": self.reason,
            "rule": self.rule,
            "digest": self.digest,
            "shown": self.shown(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ApprovalRequest:
        """What `to_dict` has written. Raises KeyError, TypeError for what is not."""
        return cls(
            session=value["session"],
            turn=value["turn"],
            call=value["call"],
            tool=value["tool"],
            place=value["place"],
            backend=value["backend"],
            input=value["input"],
            argv=None if value["argv"] is None else tuple(value["argv"]),
            cwd=value["cwd"],
            environment=tuple(value["environment"]),
            files=tuple(NamedFile(**file) for file in value["files"]),
            skill=value["skill"],
            reason=value["reason"],
            rule=value["rule"],
        )

    def shown(self) -> str:
        """One line for people: nothing in it can move a cursor, hide, or turn around what stands beside it."""
        command = self.command
        what = canonical(self.input).decode("utf-8", "backslashreplace") if command is None else command
        return _cut(f"{shown(self.tool)}: {shown(what)}")


def canonical(value: object) -> bytes:
    """One way of writing a JSON value. Lone surrogates, which models do write, are escaped as all that is not ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()


def _file_changes(before: Sequence[NamedFile], now: Sequence[NamedFile]) -> list[str]:
    old, new = ({file.path: file for file in files} for files in (before, now))
    told = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            told.append(f"the file {shown(path)}, which is gone")
        elif path not in old:
            told.append(f"the file {shown(path)}, which was not there")
        elif old[path] != new[path]:
            told.append(f"the file {shown(path)}")
    return told


def _cut(line: str) -> str:
    """The line, without its middle if it is long: begin and end are where people look."""
    if len(line) <= _SHOWN_CHARS:
        return line
    half = (_SHOWN_CHARS - 40) // 2
    return f"{line[:half]} [... {len(line) - 2 * half} characters ...] {line[-half:]}"
