"""For authors of skills: making, judging, packing and trying a skill's folder. Needs no daemon."""

from skill_actors.authoring.audit import audit
from skill_actors.authoring.findings import SEVERITIES, Finding, Severity, at_least
from skill_actors.authoring.folder import NoSkill, SkillFolder, look_into, open_skill
from skill_actors.authoring.lint import lint
from skill_actors.authoring.packing import CannotPack, pack, write_package
from skill_actors.authoring.template import BadTemplate, make_skill
from skill_actors.authoring.trials import TrialResult, run_trials

__all__ = [
    "SEVERITIES",
    "BadTemplate",
    "CannotPack",
    "Finding",
    "NoSkill",
    "Severity",
    "SkillFolder",
    "TrialResult",
    "at_least",
    "audit",
    "lint",
    "look_into",
    "make_skill",
    "open_skill",
    "pack",
    "run_trials",
    "write_package",
]
