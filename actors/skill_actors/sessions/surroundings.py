"""What a session needs of its surroundings, filled once by whoever builds the tree."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from skill_actors.backends.agents.base import AgentBackend
from skill_actors.backends.base import Executor
from skill_actors.backends.native import NativeCalls
from skill_actors.backends.tool_source import ToolSources
from skill_actors.files.artifacts import ArtifactLimits
from skill_actors.files.quota import DEFAULT_QUOTA_BYTES
from skill_actors.models.base import Model
from skill_actors.sessions.agents.bridge import NO_BRIDGE, BridgeOf
from skill_actors.sessions.approvals import ApprovalDesk
from skill_actors.sessions.bill import PriceUsd
from skill_actors.sessions.compaction import CompactionSettings
from skill_actors.sessions.hosted import Hosted
from skill_actors.sessions.ledger import Ledger
from skill_actors.sessions.ledger.agents import DEFAULT_TURN_TOKENS, DEFAULT_TURN_USD
from skill_actors.sessions.policy import RuleSet
from skill_actors.sessions.screening import Screen
from skill_actors.sessions.slots import TurnSlots
from skill_actors.skills.base import Skill, SkillSnapshot
from skill_actors.skills.projects import Projects
from skill_actors.skills.secrets import SkillSecrets
from skill_actors.store.base import Journal
from skill_actors.telemetry import Bus

__all__ = ["AgentAllowance", "PinnedSkill", "SessionDefaults", "SkillUses", "Surroundings"]


@dataclass(slots=True, kw_only=True)
class SessionDefaults:
    """Limits where a session sets none; seconds, characters and counts. May change while sessions run."""

    iterations: int = 25
    pauses: int = 10
    tool_timeout_s: float = 120.0
    turn_timeout_s: float = 1800.0
    tool_output_chars: int = 30_000
    queued_messages: int = 16
    queued_total: int = 4096
    parallel_tools: int = 8
    max_tokens: int = 8192
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    max_message_chars: int = 4 * 1024 * 1024
    idle_unload_s: float = 600.0
    catalogue_tokens: int = 10_000
    restrict_to_allowed_tools: bool = False
    policy: RuleSet = field(default_factory=RuleSet)
    approval_timeout_s: float = 3600.0
    hand_over_bytes: int = 100 * 1024 * 1024
    workspace_bytes: int = DEFAULT_QUOTA_BYTES

    def take_over(self, other: SessionDefaults) -> None:
        """Become equal to the other, for all who hold this one."""
        for item in fields(other):
            setattr(self, item.name, getattr(other, item.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAllowance:
    """What the operator lets one turn of an agent set aside where a cap bounds it.

    Args:
        turn_usd, turn_tokens: at most so much.
        answer_usd: the most that one answer of its model may cost; None: by the prices.
        model: of conversations that name none; "" for the one that the program chooses.

    """

    turn_usd: float = DEFAULT_TURN_USD
    turn_tokens: int = DEFAULT_TURN_TOKENS
    answer_usd: float | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class PinnedSkill:
    """A skill as a turn sees it: this content, copied to this read-only folder."""

    skill: Skill
    copy: Path


class SkillUses:
    """In how many turns each skill was used since the start, in powers of two, so that ranks seldom change."""

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}
        self._ranks: Mapping[str, int] = {}

    def add(self, name: str) -> None:
        """One more turn has used it."""
        turns = self._turns[name] = self._turns.get(name, 0) + 1
        if turns.bit_length() != self._ranks.get(name):
            self._ranks = {**self._ranks, name: turns.bit_length()}

    def ranks(self) -> Mapping[str, int]:
        """By name; what is absent was not used. It never changes: whoever keeps it shares it with others."""
        return self._ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything outside a conversation that a conversation touches.

    Args:
        resolve_model: a model's name (None: the default) to the model and the name it is called by; raises
            Refused("backend_unavailable") where no configured model answers to it.
        price_usd: what usage of a model costs, by the model's name; None where the price is unknown.
        skills: the snapshot in force now.
        pin: copies of these skills' files, in the same order; runs in a worker thread.
        executors: backends by name.
        agents: agent backends by name; a session has one of them, and then no other place.
        agent_allowance: what a turn of one of them may set aside, by its name.
        default_backends: what a session gets that names none.
        slots: how many turns run at once in all, and who is next.
        workspaces: the folder of all workspaces.
        natives: runs the tools of native skills; None where there are none.
        skill_uses: counted here, so that the catalogue knows what to keep whole.
        secrets: what the commands of single skills get besides.
        projects: where skills of a session's `cwd` are found; None: no session has one.
        role_permits: which skills a user's roles permit, by the user's uid; None: all.
        artifacts: how large artifacts may be, and from where they are fetched.
        hosted: the API's side of the hosted place; None: no session has one.
        ledger: what everything may cost, and has cost; None: nothing is counted.
        approvals: asks people about calls; None: a call that needs an approval is denied.
        bridge: what the programs of agents are given besides their own tools.
        tool_sources: open the sources of further tools, for the sessions that have some.
        screen: looks into messages and calls of tools before they are taken in or run; None: nobody does.
        resting: before which time of trio's clock no turn of a session may begin; for whoever lets one rest.

    """

    journal: Journal
    resolve_model: Callable[[str | None], tuple[Model, str]]
    price_usd: PriceUsd
    skills: Callable[[], SkillSnapshot]
    pin: Callable[[Sequence[Skill]], Awaitable[Sequence[Path]]]
    executors: Mapping[str, Executor]
    default_backends: tuple[str, ...]
    slots: TurnSlots
    workspaces: Path
    bus: Bus
    defaults: SessionDefaults = field(default_factory=SessionDefaults)
    agents: Mapping[str, AgentBackend] = field(default_factory=dict)
    agent_allowance: Callable[[str], AgentAllowance] = lambda _name: AgentAllowance()
    natives: NativeCalls | None = None
    random: random.Random = field(default_factory=random.Random)
    skill_uses: SkillUses = field(default_factory=SkillUses)
    secrets: SkillSecrets = field(default_factory=SkillSecrets)
    projects: Projects | None = None
    role_permits: Callable[[int], Awaitable[Callable[[str], bool] | None]] | None = None
    hosted: Hosted | None = None
    ledger: Ledger | None = None
    approvals: ApprovalDesk | None = None
    artifacts: ArtifactLimits = field(default_factory=ArtifactLimits)
    bridge: BridgeOf = lambda _record: NO_BRIDGE
    tool_sources: Sequence[ToolSources] = ()
    screen: Screen | None = None
    resting: dict[str, float] = field(default_factory=dict)
