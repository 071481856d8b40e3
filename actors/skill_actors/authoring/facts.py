"""A skill in figures and names, JSON-ready: what it is, what it needs, what it holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from skill_actors.authoring.folder import SkillFolder
from skill_actors.authoring.trial_file import trial_files
from skill_actors.skills.base import Skill
from skill_actors.skills.requirements import Host, requirements_of

__all__ = ["facts_of"]

_CHARS_A_TOKEN = 4  # of English; what a model makes of it differs a little


def facts_of(folder: SkillFolder, *, path: str) -> dict[str, Any]:
    """All that can be said without running it. `path` is the PATH in which its programs are looked for. Blocks."""
    skill = folder.skill
    problems = folder.failure.diagnostics if folder.failure is not None else ()
    if skill is not None:
        problems = (*skill.diagnostics, *requirements_of(skill).malformed)
    return {
        "name": folder.name,
        "path": str(folder.root),
        "loads": skill is not None,
        **(_of_skill(skill, path) if skill is not None else {"unmet": []}),
        "tests": len(trial_files(folder)),
        "bytes": folder.size_bytes,
        "problems": [asdict(problem) for problem in problems],
        "files": [
            {"path": entry.path, "bytes": entry.size, "executable": entry.executable}
            for entry in folder.inventory.files.values()
        ],
    }


def _of_skill(skill: Skill, path: str) -> dict[str, Any]:
    needs = requirements_of(skill)
    # Which variables the daemon gives is known to the daemon only: none is called unmet here.
    host = Host(path=path, environment=needs.environment)
    return {
        "description": skill.description,
        "license": skill.license,
        "compatibility": skill.compatibility,
        "digest": skill.digest,
        "entry": list(skill.entry) if skill.entry is not None else None,
        "allowed_tools": list(skill.allowed_tools),
        "metadata": dict(skill.metadata),
        "needs": {
            "binaries": list(needs.binaries),
            "environment": list(needs.environment),
            "packages": [f"{name}>={lowest}" if lowest else name for name, lowest in needs.packages],
        },
        "unmet": [unmet.to_dict() for unmet in host.unmet([skill]).get(skill.name, ())],
        "catalogue_tokens": -(-len(skill.name + skill.description) // _CHARS_A_TOKEN),
        "body_tokens": -(-len(skill.body) // _CHARS_A_TOKEN),
    }
