"""How a repository stands, read off `git status --porcelain=v2 --branch -z` and `git log`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["LOG_FORMAT", "Commit", "GitStatus", "parse_log", "parse_status", "shown"]

LOG_FORMAT: Final = "%h%x00%s%x00"

_MAX_FILES: Final = 15
_MAX_COMMITS: Final = 5
_MAX_LINE: Final = 200
_MAX_SHOWN: Final = 4_000
_UNSEEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: its short id and the first line of its message."""

    sha: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitStatus:
    """How a working tree stands.

    Args:
        branch: its name; None while none is checked out.
        sha: the commit that is checked out; None before the first one.
        upstream: what the branch follows; None for nothing.
        ahead, behind: commits that the upstream lacks, and that the branch lacks.
        staged, unstaged, untracked, conflicts: paths; one may be both staged and unstaged.

    """

    branch: str | None = None
    sha: str | None = None
    upstream: str | None = None
    ahead: int = 0
    behind: int = 0
    staged: Sequence[str] = ()
    unstaged: Sequence[str] = ()
    untracked: Sequence[str] = ()
    conflicts: Sequence[str] = ()
    commits: Sequence[Commit] = ()

    @property
    def changed(self) -> Sequence[str]:
        """Every path that is not as the commit has it, each once, conflicts first."""
        return tuple(dict.fromkeys((*self.conflicts, *self.staged, *self.unstaged, *self.untracked)))

    @property
    def dirty(self) -> bool:
        return bool(self.changed)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with all that there is."""
        return {
            "branch": self.branch,
            "sha": self.sha,
            "upstream": self.upstream,
            "ahead": self.ahead,
            "behind": self.behind,
            "dirty": self.dirty,
            "staged": list(self.staged),
            "unstaged": list(self.unstaged),
            "untracked": list(self.untracked),
            "conflicts": list(self.conflicts),
            "commits": [{"sha": commit.sha, "subject": commit.subject} for commit in self.commits],
        }


def parse_status(text: str, commits: Sequence[Commit] = ()) -> GitStatus:
    """What `git status --porcelain=v2 --branch -z` wrote; a last record that was cut off is left out.

    Kinds of records that are not known here are left out as well: newer versions of git add some.
    """
    head: dict[str, str] = {}
    staged: list[str] = []
    unstaged: list[str] = []
    untracked: list[str] = []
    conflicts: list[str] = []
    for record in _records(text):
        kind, _, rest = record.partition(" ")
        match kind:
            case "#":
                name, _, value = rest.partition(" ")
                head[name] = value
            case "1" | "2":
                fields = rest.split(" ", 7 if kind == "1" else 8)
                if len(fields) == (8 if kind == "1" else 9):
                    state, path = fields[0], fields[-1]
                    staged.extend([path] if state[:1] != "." else [])
                    unstaged.extend([path] if state[1:2] != "." else [])
            case "u":
                fields = rest.split(" ", 9)
                conflicts.extend(fields[-1:] if len(fields) == 10 else [])
            case "?":
                untracked.append(rest)
            case _:
                pass
    ahead, behind = _ahead_behind(head.get("branch.ab", ""))
    branch, sha = head.get("branch.head"), head.get("branch.oid")
    return GitStatus(
        branch=None if branch == "(detached)" else branch,
        sha=None if sha == "(initial)" else sha,
        upstream=head.get("branch.upstream"),
        ahead=ahead,
        behind=behind,
        staged=tuple(staged),
        unstaged=tuple(unstaged),
        untracked=tuple(untracked),
        conflicts=tuple(conflicts),
        commits=tuple(commits),
    )


def _records(text: str) -> Iterator[str]:
    """The records; of a renamed file's two the second is its old name, and left out."""
    parts = iter(text.split("\0")[:-1])  # behind the last one there is nothing, or what was cut off
    for part in parts:
        yield part
        if part.startswith("2 "):
            next(parts, None)


def _ahead_behind(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\+(\d+) -(\d+)", text)
    return (int(found[1]), int(found[2])) if found is not None else (0, 0)


def parse_log(text: str) -> Sequence[Commit]:
    """What `git log` wrote in LOG_FORMAT."""
    parts = [part.removeprefix("\n") for part in text.split("\0")]
    return tuple(Commit(sha, subject) for sha, subject in zip(parts[::2], parts[1::2], strict=False) if sha)


def shown(status: GitStatus) -> str:
    """The status in a few lines for a model, in brackets; names of files and of commits are others' words."""
    where = "no branch" if status.branch is None else f"branch {_line(status.branch)}"
    at = "no commit yet" if status.sha is None else f"at {status.sha[:10]}"
    lines = [f"[git: {where} {at}, {'changed' if status.dirty else 'clean'}{_distance(status)}"]
    if status.dirty:
        counts = {name: len(getattr(status, name)) for name in ("staged", "unstaged", "untracked", "conflicts")}
        lines.append("Files: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
        changed = status.changed
        lines.extend(f"  {_line(path)}" for path in changed[:_MAX_FILES])
        if len(changed) > _MAX_FILES:
            lines.append(f"  and {len(changed) - _MAX_FILES} more")
    if status.commits:
        lines.append("Latest commits:")
        lines.extend(f"  {commit.sha} {_line(commit.subject)}" for commit in status.commits[:_MAX_COMMITS])
    return "\n".join(lines)[:_MAX_SHOWN] + "]"


def _distance(status: GitStatus) -> str:
    if status.upstream is None:
        return ""
    return f", {status.ahead} ahead of and {status.behind} behind {_line(status.upstream)}"


def _line(text: str) -> str:
    line = _UNSEEN.sub(" ", text)
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 1]}…"
