"""Skills: folders with a SKILL.md, found, loaded leniently, watched, and published as immutable snapshots."""

from skill_actors.skills.base import Diagnostic, Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.catalogue import catalogue, is_listed
from skill_actors.skills.changes import SkillChange, SkillChanges
from skill_actors.skills.copies import CopyError, SkillCopies
from skill_actors.skills.discovery import Source
from skill_actors.skills.entry import entry_argv
from skill_actors.skills.library import Library, ReloadSummary
from skill_actors.skills.loader import load_skill
from skill_actors.skills.loading import load, load_all, load_skill_file
from skill_actors.skills.lookup import find, find_matching, index
from skill_actors.skills.packages import PackageCache
from skill_actors.skills.prompting import build_system_prompt, system_prompt
from skill_actors.skills.pushed import PushedPackages
from skill_actors.skills.registries import registry_spec
from skill_actors.skills.registry import (
    FoldersChanged,
    PublishedSkills,
    Push,
    Register,
    Registry,
    Reload,
    RemovePushed,
    UnknownSkill,
    Unregister,
)
from skill_actors.skills.resources import ResourceError, read_resource, read_resource_bytes, resources_of
from skill_actors.skills.validate import Verdict, validate_skill
from skill_actors.skills.watcher import Watcher

__all__ = [
    "CopyError",
    "Diagnostic",
    "FoldersChanged",
    "Library",
    "PackageCache",
    "PublishedSkills",
    "Push",
    "PushedPackages",
    "Register",
    "Registry",
    "Reload",
    "ReloadSummary",
    "RemovePushed",
    "ResourceError",
    "Skill",
    "SkillChange",
    "SkillChanges",
    "SkillCopies",
    "SkillFailure",
    "SkillSnapshot",
    "Source",
    "UnknownSkill",
    "Unregister",
    "Verdict",
    "Watcher",
    "build_system_prompt",
    "catalogue",
    "entry_argv",
    "find",
    "find_matching",
    "index",
    "is_listed",
    "load",
    "load_all",
    "load_skill",
    "load_skill_file",
    "read_resource",
    "read_resource_bytes",
    "registry_spec",
    "resources_of",
    "system_prompt",
    "validate_skill",
]
