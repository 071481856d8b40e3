"""Where calls of tools run: one place of a conversation, as the calls of one message of the model find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from skill_actors.backends.base import Workspace
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.policy import Policy, RuleSet

__all__ = ["Site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place, as the calls of one message of the model find it.

    Args:
        place: its name.
        backend: likewise.
        workspace: None if it could not be opened; then `why` says the reason.
        policy: over its tools by the names that they have there.
        rules_now: those of the policy, as they are at the moment: it may be changed while a call waits for somebody.
        grants: gives calls the secrets they are due, and says what has to be hidden.
        further: what `ActiveSkills` calls it; None for the main place.
        alone: whether the conversation has no other.

    """

    place: str
    backend: str
    workspace: Workspace | None
    policy: Policy
    rules_now: Callable[[], Sequence[RuleSet]]
    grants: Grants
    why: str = ""
    further: str | None = None
    alone: bool = True

    @property
    def shown(self) -> str:
        """For a sentence that says who could not do something."""
        return f"The {self.backend} backend" if self.alone else f"The place {self.place} ({self.backend})"

    @property
    def policy_now(self) -> Policy:
        """The policy, with the rules as they are now."""
        return replace(self.policy, rules=self.rules_now())
