"""One function decides whether a tool call may run: `decide(call) -> allow | deny | ask`."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Literal

from skill_actors.backends.base import ToolCall
from skill_actors.skills.activation import LOAD_SKILL
from skill_actors.skills.allowed_tools import ToolRule, covers, read_rules
from skill_actors.skills.base import Skill

__all__ = ["ActiveSkill", "Decision", "Policy"]


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is told to the model when the call does not run."""

    verdict: Literal["allow", "deny", "ask"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ActiveSkill:
    """A skill in use, and what its `allowed-tools` mean where its folder is.

    Args:
        skill: in the version that the turn is pinned to.
        root: its folder as the tools see it.

    """

    skill: Skill
    root: InitVar[str]
    rules: Sequence[ToolRule] = field(init=False, repr=False)

    def __post_init__(self, root: str) -> None:
        files = frozenset(self.skill.files)
        rules, _ = read_rules(self.skill.allowed_tools)
        object.__setattr__(self, "rules", tuple(rule.located(root, files) for rule in rules))

    def lists(self, call: ToolCall) -> bool:
        """Whether the skill's `allowed-tools` cover the call."""
        return covers(self.rules, call.name, call.input, call.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a session may run: the tools it offers, less what the operator denies, or wants to be asked about.

    `allowed-tools` of the active skills turns ask into allow where the skill's source is trusted. It never overrides
    a denial.

    Args:
        tools: names the model was offered; a call of any other tool is denied, whoever asks for it.
        deny: names of tools that never run.
        ask: names of tools that run only with an approval.
        active: the skills in use when the model made the call.
        skill_roots: folders of skills, active or not; to read there needs no approval.
        restrict: whether `allowed-tools` of the active skills, of those that have any, is a limit as well. Lists of
            skills that are not trusted do not widen those of trusted ones. Reading skills is not limited.

    """

    tools: Collection[str]
    deny: Collection[str] = ()
    ask: Collection[str] = ()
    active: Sequence[ActiveSkill] = ()
    skill_roots: Collection[str] = ()
    restrict: bool = False

    def decide(self, call: ToolCall, *, offered: str | None = None) -> Decision:
        """What becomes of the call.

        Args:
            call: by the name that its tool has where it runs, which is what rules are about.
            offered: the name that the model knows the tool by, if that is another one; rules may name it as well.

        """
        name = call.name if offered is None else offered
        if name not in self.tools:
            known = ", ".join(sorted(self.tools)) or "none"
            return Decision("deny", f"There is no tool {name[:100]!r} in this conversation. Offered: {known}.")
        if call.name in self.deny or name in self.deny:
            return Decision("deny", f"The policy of this daemon denies {call.name}. It was not run. Do without it.")
        if self._reads_skill(call):
            return Decision("allow")
        if self.restrict and not self._is_within_limits(call):
            names = ", ".join(active.skill.name for active in self.active)
            return Decision("deny", f"Not run: the active skills ({names}) do not list this call in allowed-tools.")
        if (call.name in self.ask or name in self.ask) and not self._is_approved(call):
            return Decision("ask", f"Not run: {call.name} needs an approval, and nobody can give one.{self._hint()}")
        return Decision("allow")

    def _hint(self) -> str:
        """What a skill allows ends with the turn, and the model cannot know that."""
        return "" if self.active else " If a skill allows this call, load that skill in this turn."

    def _is_within_limits(self, call: ToolCall) -> bool:
        for trusted in (True, False):
            limits = [each for each in self.active if each.skill.allowed_tools and each.skill.trusted == trusted]
            if limits and not any(each.lists(call) for each in limits):
                return False
        return True

    def _is_approved(self, call: ToolCall) -> bool:
        return any(each.skill.trusted and each.lists(call) for each in self.active)

    def _reads_skill(self, call: ToolCall) -> bool:
        if call.name == LOAD_SKILL:
            return call.name not in self.ask
        path = call.input.get("path")
        if call.name != "view" or call.argv is not None or not isinstance(path, str):
            return False
        path = posixpath.normpath(path)
        return any(path == root or path.startswith(f"{root}/") for root in self.skill_roots)
