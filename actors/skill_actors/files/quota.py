"""How much a workspace may hold, and what becomes of what would be more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from skill_actors.errors import Refused
from skill_actors.files.watch import Usage

__all__ = ["DEFAULT_QUOTA_BYTES", "Quota", "size_text"]

DEFAULT_QUOTA_BYTES = 1 << 30
_UNSEEN = (
    "the workspace cannot be looked at as a whole: it has too many files, folders that are too deep, or some that "
    "cannot be read"
)


def size_text(count: int) -> str:
    """A number of bytes for people: 999 B, 12.3 MiB."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":
            break
    return f"{value:.1f} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A bound of all files of a workspace together, in bytes."""

    limit_bytes: int = DEFAULT_QUOTA_BYTES

    def is_exceeded(self, usage: Usage) -> bool:
        """Whether nothing may be written. What cannot be seen whole has too much in it: else it would have no bound."""
        return usage.bytes > self.limit_bytes or not usage.complete

    def check_upload(self, usage: Usage, size: int, *, replaced: int = 0) -> None:
        """Refuse an upload of so many bytes in the place of a file of `replaced` bytes.

        Raises:
            Refused: too_large, if it could never fit; storage_full, if it does not now.

        """
        if size > self.limit_bytes:
            raise Refused(
                "too_large",
                f"the file is larger than the whole workspace may be: limits.workspace_bytes = {self.limit_bytes}",
                details={"quota_bytes": self.limit_bytes},
            )
        if not usage.complete:
            raise Refused("storage_full", f"{_UNSEEN}; remove some", details={"quota_bytes": self.limit_bytes})
        if usage.bytes - replaced + size > self.limit_bytes:
            raise Refused(
                "storage_full",
                f"the workspace holds {size_text(usage.bytes)} of {size_text(self.limit_bytes)}: "
                "remove files, or raise limits.workspace_bytes",
                details={"quota_bytes": self.limit_bytes, "used_bytes": usage.bytes},
            )

    def note(self, usage: Usage) -> str:
        """What the model is told after a call that wrote too much; empty if it did not."""
        if not self.is_exceeded(usage):
            return ""
        return (
            f"[{self._too_much(usage, 'now ')}. "
            "create_file and str_replace are refused, and commands that write more are ended, until files are removed]"
        )

    def refusal(self, usage: Usage) -> str:
        """What the model is told instead of a call that would write."""
        return f"Refused: {self._too_much(usage)}. Remove files by bash_tool first."

    def _too_much(self, usage: Usage, when: str = "") -> str:
        if usage.bytes <= self.limit_bytes:
            return _UNSEEN
        return f"the workspace {when}holds {size_text(usage.bytes)}; {size_text(self.limit_bytes)} are allowed"
