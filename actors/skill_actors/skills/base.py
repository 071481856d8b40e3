"""What a skill is once it is loaded, and the immutable snapshot that the Registry publishes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skill_actors.native import NativeCode

__all__ = ["Diagnostic", "NativePart", "Skill", "SkillFailure", "SkillSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding about a skill: `code` is stable, `line` counts from 1 in SKILL.md."""

    code: str
    message: str
    severity: Literal["error", "warning"] = "warning"
    line: int | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativePart:
    """The class of a native skill, by callback the tools that it offers, and whether its calls may run side by side."""

    code: NativeCode
    tools: Mapping[str, Mapping[str, Any]]
    parallel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A loaded skill. Nothing here is read from disk again; `digest` names exactly this content.

    Args:
        name: NFKC; the key. Never used as a path.
        root: the live folder it was read from.
        digest: sha256 (hex) over the relative paths, modes and contents of all its files.
        entry: the entry command as argv relative to the root, else None: `metadata.skilld-entry`, else the only
            regular file in scripts/.
        files: relative POSIX paths of its regular files, sorted.
        trusted: whether its source may pre-approve tools.
        package: the `.skill` file that `root` was unpacked from, None if the author's folder is `root` itself.
        native: its class, where it is a native skill and its folder is trusted with code.

    """

    name: str
    description: str
    root: Path
    digest: str
    body: str = ""
    license: str | None = None
    compatibility: str | None = None
    allowed_tools: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)  # unknown fields, kept
    entry: tuple[str, ...] | None = None
    files: tuple[str, ...] = ()
    trusted: bool = False
    package: Path | None = None
    native: NativePart | None = None
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillFailure:
    """A folder that holds a SKILL.md which could not be loaded. `kept` tells that an older version still serves."""

    path: Path
    diagnostics: Sequence[Diagnostic]
    kept: str | None = None  # name of the skill whose last good version is still in use


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSnapshot:
    """All skills at one moment. Immutable: whoever holds it sees the same skills whatever happens on disk."""

    generation: int = 0
    skills: Mapping[str, Skill] = field(default_factory=dict)  # by name, sorted
    failures: Sequence[SkillFailure] = ()
    loaded_at: str = ""

    @property
    def digest(self) -> str:
        """sha256 (hex) over the names and digests of all skills: the same skills have the same."""
        total = hashlib.sha256()
        for name, skill in self.skills.items():
            total.update(f"{name}\0{skill.digest}\n".encode())
        return total.hexdigest()
