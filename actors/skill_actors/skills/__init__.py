"""Skills: folders with a SKILL.md, found, loaded leniently, watched, and published as immutable snapshots."""

from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.catalogue import catalogue, is_listed
from skill_actors.skills.copies import CopyError, SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.entry import entry_argv
from skill_actors.skills.library import Library, ReloadSummary
from skill_actors.skills.loader import load_skill
from skill_actors.skills.registry import FoldersChanged, PublishedSkills, Registry, Reload, UnknownSkill
from skill_actors.skills.watcher import Watcher

__all__ = [
    "CopyError",
    "Diagnostic",
    "FoldersChanged",
    "Library",
    "PublishedSkills",
    "Registry",
    "Reload",
    "ReloadSummary",
    "Skill",
    "SkillCopies",
    "SkillFailure",
    "SkillSnapshot",
    "Source",
    "UnknownSkill",
    "Watcher",
    "catalogue",
    "entry_argv",
    "is_listed",
    "load_skill",
]
