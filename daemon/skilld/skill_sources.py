"""Where this daemon's skills come from, in which order, and which of them may be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from skill_actors.skills.choice import SkillRules
from skill_actors.skills.discovery import Source
from skill_actors.skills.projects import SKILL_FOLDERS
from skilld import paths
from skilld.config import SkillsConfig

__all__ = ["SYSTEM_FOLDER", "skill_rules", "skill_sources"]

SYSTEM_FOLDER: Final = Path("/etc/skilld/skills")


def skill_sources(config: SkillsConfig, environ: Mapping[str, str]) -> list[Source]:
    """In order of precedence: configured folders, the user's, the system's, those that came with the program."""
    return list(_sources(config, environ))


def skill_rules(config: SkillsConfig) -> SkillRules:
    """What the configuration allows everybody, and denies everybody."""
    return SkillRules(allow=config.allow, deny=config.deny)


def _sources(config: SkillsConfig, environ: Mapping[str, str]) -> Iterator[Source]:
    for path in config.paths:
        yield Source(path=path, trusted=any(path.is_relative_to(folder) for folder in config.trusted))
    if config.user:
        for name in SKILL_FOLDERS:
            yield Source(path=paths.home(environ) / name, trusted=True, optional=True)
    if config.system:
        yield Source(path=SYSTEM_FOLDER, trusted=True, optional=True)
    bundled = paths.data_dir("skills") if config.bundled else None
    if bundled is not None:
        yield Source(path=bundled, trusted=True)
