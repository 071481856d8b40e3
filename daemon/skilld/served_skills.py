"""The skills in force: what the registry publishes, judged by what the operator approved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from skill_actors.skills.approvals import Approvals
from skill_actors.skills.base import SkillFailure, SkillSnapshot
from skill_actors.skills.registry import PublishedSkills
from skilld.config import SkillsConfig

__all__ = ["ServedSkills", "skill_approvals"]


def skill_approvals(config: SkillsConfig, state: Path) -> Approvals | None:
    """The approvals of this daemon, which are still to be read; None where the trust of a source is enough."""
    if config.approval == "source":
        return None
    return Approvals(state / "approvals.json", lambda skill: skill.name in config.secrets)


class ServedSkills:
    """What turns, and whoever asks, are given. Judged once for each load and each approval; any thread may read.

    Args:
        approvals: None where every version has what its source is trusted with.

    """

    def __init__(self, published: PublishedSkills, approvals: Approvals | None = None) -> None:
        self._published = published
        self._approvals = approvals
        self._judged: tuple[SkillSnapshot, Mapping[str, str], SkillSnapshot] | None = None  # of what, by what, and how

    @property
    def snapshot(self) -> SkillSnapshot:
        """The skills of this moment: the same object while nothing changes."""
        published = self._published.snapshot
        if self._approvals is None:
            return published
        approved, known = self._approvals.approved, self._judged
        if known is not None and known[0] is published and known[1] is approved:
            return known[2]
        judged = _with_failure(self._approvals.judge(published), self._approvals.failure)
        self._judged = (published, approved, judged)
        return judged


def _with_failure(snapshot: SkillSnapshot, failure: SkillFailure | None) -> SkillSnapshot:
    return snapshot if failure is None else replace(snapshot, failures=(failure, *snapshot.failures))
