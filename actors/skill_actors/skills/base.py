"""What a skill is once it is loaded, and the immutable snapshot that the Registry publishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["Diagnostic", "Skill", "SkillFailure", "SkillSnapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding about a skill: `code` is stable, `line` counts from 1 in SKILL.md."""

    code: str
    message: str
    severity: Literal["error", "warning"] = "warning"
    line: int | None = None
    remedy: str = ""


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

    def select(self, names: Sequence[str] | None) -> Mapping[str, Skill]:
        """The skills a session may use: all with None, else those named. Unknown names are simply absent."""
        if names is None:
            return self.skills
        return {name: self.skills[name] for name in names if name in self.skills}
