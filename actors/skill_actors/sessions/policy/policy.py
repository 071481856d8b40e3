"""One function decides whether a tool call may run: `decide(call) -> allow | deny | ask`."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Final, Literal

from skill_actors.backends.base import ToolCall
from skill_actors.backends.native import NATIVE
from skill_actors.backends.routing import HAND_OVER, HOSTED_NAMES
from skill_actors.backends.tool_source import SOURCES, SOURCES_READ, WORKSHOP
from skill_actors.sessions.policy.analysis import Analysis, analyse_argv, analyse_line, opaque
from skill_actors.sessions.policy.mentions import mentioned
from skill_actors.sessions.policy.rules import Facts, Finding, RuleSet, Where, strictest
from skill_actors.sessions.policy.shown import shown
from skill_actors.skills.activation import LOAD_SKILL
from skill_actors.skills.allowed_tools import ToolRule, covers, read_rules
from skill_actors.skills.base import Skill

__all__ = ["ActiveSkill", "Decision", "Policy"]

_HOSTED: Final = "anthropic"
_INTERPRETERS: Final = frozenset({"bash", "python3", "sh"})
_BASH: Final = "bash_tool"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a call.

    Args:
        verdict: what the policy says.
        reason: told to the model when the call does not run.
        rule: where the rule stands that has decided, such as `policy.rules[2]`; None if it was none.
        why: told to whoever approves: the rule's reason, and what could not be told of the call.

    """

    verdict: Literal["allow", "deny", "ask"]
    reason: str = ""
    rule: str | None = None
    why: str = ""


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
    """What a session may run: the tools it offers, less what the rules deny, or want to be asked about.

    Of several sets of rules the strictest verdict holds. `allowed-tools` of the active skills turns ask into allow
    where the skill's source is trusted. It never overrides a denial.

    Args:
        tools: names the model was offered; a call of any other tool is denied, whoever asks for it.
        rules: the operator's, and the session's.
        active: the skills in use when the model made the call.
        skill_roots: folders of skills, active or not; to read there needs no approval. Where their names are the values
            of a mapping, rules can say which skill's code a command runs.
        restrict: whether `allowed-tools` of the active skills, of those that have any, is a limit as well. Lists of
            skills that are not trusted do not widen those of trusted ones. Reading skills is not limited.
        place: where the calls go that name no other.
        backend: of that place.
        backends: of all places, by name.
        confined: whether what runs there is kept there by more than its own good will.
        owner_uid: whose session it is.
        workspace: of the place, as tools see it.
        natives: names of native tools, and whose skill each is.
        sources: names of tools of sources, the source of each, and whether the operator says that it only reads.
        changed: names of those that say something else of themselves than when they were called before.
        entry: the name of the skill whose entry command a call with `argv` is.
        gets_secret: whether a call would get a secret of a skill.

    """

    tools: Collection[str]
    rules: Sequence[RuleSet] = ()
    active: Sequence[ActiveSkill] = ()
    skill_roots: Collection[str] = ()
    restrict: bool = False
    place: str = ""
    backend: str = ""
    backends: Mapping[str, str] = field(default_factory=dict)
    confined: bool = False
    owner_uid: int | None = None
    workspace: str = "/"
    natives: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()
    entry: str | None = None
    gets_secret: Callable[[ToolCall], bool] | None = None

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
        found, author = self._judge(self.facts(call, name))
        unsettled = self._unsettled(call, found)
        rule = None if found.rule is None else found.rule.label
        why = "; ".join(filter(None, (_why(found), unsettled)))
        if found.effect == "deny":
            return Decision("deny", _denial(call.name, author, why), rule, why)
        if self._reads_skill(call, found):
            return Decision("allow", rule=rule)
        if self.restrict and not self._is_within_limits(call):
            names = ", ".join(active.skill.name for active in self.active)
            return Decision("deny", f"Not run: the active skills ({names}) do not list this call in allowed-tools.")
        if unsettled or (found.effect == "ask" and not self._is_approved(call)):
            told = f" ({why})" if why else ""
            reason = f"Not run: {call.name} needs an approval, and nobody can give one{told}.{self._hint()}"
            return Decision("ask", reason, rule, why)
        return Decision("allow", rule=rule)

    def _unsettled(self, call: ToolCall, found: Finding) -> str:
        """Why a call of a source's tool needs somebody to look at it, whatever a skill allows; "" if it does not."""
        if call.argv is not None or call.name not in self.sources:
            return ""
        if call.name in self.changed:
            return "its tool says something else of itself than when this conversation called it before"
        source, reads = self.sources[call.name]
        asked = found.rule is None and not reads and source != WORKSHOP
        return f"no rule allows tools of {source} that may do more than read" if asked else ""

    def denies_tool(self, name: str, *, offered: str | None = None) -> bool:
        """Whether rules keep the tool from running at all, whatever it is called with."""
        facts = self._bare_facts(ToolCall(id="", name=name, input={}), name if offered is None else offered)
        return any(rules.denies_tool(facts) for rules in self.rules)

    def _judge(self, facts: Facts) -> tuple[Finding, str]:
        """The strictest verdict, and whose it is."""
        found, author = Finding("allow"), "daemon"
        for rules in self.rules:
            judged = rules.judge(facts)
            if strictest(found, judged) is judged and judged is not found:
                found, author = judged, rules.name
        return found, author

    # What rules see of a call

    def facts(self, call: ToolCall, offered: str) -> Facts:
        """The call as rules see it; what it runs is looked into if a rule asks for that."""
        bare = self._bare_facts(call, offered)
        if not any(rules.looks_inside for rules in self.rules):
            return bare
        analysis = analysis_of(call)
        by_skill = any(rules.asks_for_skills for rules in self.rules)
        return replace(
            bare,
            skills=frozenset(self._runs_code_of(call, analysis)) if by_skill else frozenset(),
            mentioned=frozenset(self._mentioned(call, analysis)) if by_skill else frozenset(),
            secret=self.gets_secret is not None and self.gets_secret(call),
            analysis=analysis,
            paths=_paths_of(call),
        )

    def _bare_facts(self, call: ToolCall, offered: str) -> Facts:
        where, source, confined = Where(self.place, self.backend), None, self.confined
        if call.argv is not None:
            pass
        elif call.name in self.natives:
            where, confined = Where(NATIVE, NATIVE), False
        elif call.name in self.sources:
            source_name, reads = self.sources[call.name]
            backend = SOURCES_READ if reads else WORKSHOP if source_name == WORKSHOP else SOURCES
            where, confined = Where(f"{SOURCES}:{source_name}", backend), False
        elif call.name in HOSTED_NAMES:
            hosted = next((name for name, backend in self.backends.items() if backend == _HOSTED), _HOSTED)
            where, confined = Where(hosted, _HOSTED), True
        elif call.name == HAND_OVER:
            where, source = self._named_place(call, "to"), self._named_place(call, "from")
        names = frozenset({call.name, offered})
        return Facts(
            names=names, where=where, source=source, uid=self.owner_uid, confined=confined, workspace=self.workspace
        )

    def _named_place(self, call: ToolCall, key: str) -> Where:
        place = str(call.input.get(key, ""))
        return Where(place, self.backends.get(place, ""))

    def _names_of_skills(self) -> Mapping[str, str]:
        return self.skill_roots if isinstance(self.skill_roots, Mapping) else {}

    def _runs_code_of(self, call: ToolCall, analysis: Analysis | None) -> Collection[str]:
        if call.argv is not None and self.entry is not None:
            return {self.entry}
        if call.name in self.natives:
            return {self.natives[call.name]}
        if analysis is None or len(analysis.commands) != 1 or analysis.opaque:
            return ()
        (command,) = analysis.commands
        words = [word.text if word.sure else "" for word in command.words[:2]]
        file = words[0] if words and words[0] not in _INTERPRETERS else "".join(words[1:2])
        file = posixpath.normpath(file) if file and ".." not in file else ""
        return {name for root, name in self._names_of_skills().items() if file.startswith(f"{root}/")}

    def _mentioned(self, call: ToolCall, analysis: Analysis | None) -> Collection[str]:
        """Skills whose folder a command may name, or whose instructions are asked for."""
        if call.name == LOAD_SKILL:
            return {str(call.input.get("name"))}
        if analysis is None or call.name in HOSTED_NAMES:
            return ()
        return mentioned(analysis, self._names_of_skills(), self.workspace)

    # Skills

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

    def _reads_skill(self, call: ToolCall, found: Finding) -> bool:
        if call.name == LOAD_SKILL:
            return found.effect == "allow"
        path = call.input.get("path")
        if call.name != "view" or call.argv is not None or not isinstance(path, str):
            return False
        path = posixpath.normpath(path)
        return any(path == root or path.startswith(f"{root}/") for root in self.skill_roots)


def analysis_of(call: ToolCall) -> Analysis | None:
    """What the call runs; None if it is no call that runs commands."""
    if call.argv is not None:
        return analyse_argv(call.argv)
    if call.name in HOSTED_NAMES:
        return opaque("the code is not seen before the API has run it")
    if call.name != _BASH:
        return None
    command = call.input.get("command")
    return analyse_line(command) if isinstance(command, str) else opaque("there is no command")


def _paths_of(call: ToolCall) -> tuple[str, ...]:
    path = call.input.get("name" if call.name == HAND_OVER else "path")
    return (path,) if isinstance(path, str) else ()


def _why(found: Finding) -> str:
    reason = "" if found.rule is None else shown(found.rule.reason)
    doubt = f"it cannot be told what the command does: {found.doubt}" if found.doubt else ""
    return "; ".join(filter(None, (reason, doubt)))


def _denial(tool: str, author: str, why: str) -> str:
    told = f" ({why})" if why else ""
    return f"The policy of this {author} denies {tool}{told}. It was not run. Do without it."
