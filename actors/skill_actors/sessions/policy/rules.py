"""Rules, and sets of them: the first rule that holds gives the verdict of its set.

A rule that allows holds only for what it surely means; one that denies or asks holds also for what it may mean. A call
of several commands is judged command by command, and the strictest verdict is that of the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from skill_actors.sessions.policy.analysis import Analysis, Command
from skill_actors.sessions.policy.named import Name, opened_by, path_name, steps, words_of
from skill_actors.sessions.policy.patterns import CommandPattern, PathPattern, fits, path_parts

__all__ = ["Effect", "Facts", "Finding", "Rule", "RuleSet", "Where", "strictest"]

Effect = Literal["allow", "ask", "deny"]

_STRICTNESS: Final = ("allow", "ask", "deny")
_MAX_STEPS: Final = 500_000  # of comparisons of paths for one call, some tenths of a second


@dataclass(frozen=True, slots=True)
class Where:
    """A place, and what runs things there."""

    place: str
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A call, as rules see it.

    Args:
        names: of the tool: where it runs, and that under which the model knows it.
        where: the place that it acts on; of a file that is handed over, the one that it goes to.
        source: where such a file comes from; else None.
        uid: of the user whose conversation it is; None if nobody knows.
        skills: names of those whose code it surely runs.
        mentioned: names of those whose code it may run.
        secret: whether it would get a secret of a skill.
        confined: whether what it runs is kept in its place by more than its own good will.
        analysis: what it runs; None if it runs no commands.
        paths: that it names.
        workspace: as tools see it.

    """

    names: frozenset[str]
    where: Where
    source: Where | None = None
    uid: int | None = None
    skills: frozenset[str] = frozenset()
    mentioned: frozenset[str] = frozenset()
    secret: bool = False
    confined: bool = False
    analysis: Analysis | None = None
    paths: tuple[str, ...] = ()
    workspace: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for the calls that it describes: all of its conditions; of a condition with several values, one.

    Args:
        effect: the verdict.
        label: where it is written, such as `policy.rules[0]`.
        tools: patterns of names.
        skills: likewise, of the skills whose code runs.
        backends: likewise.
        places: likewise.
        commands: patterns of what is run.
        paths: patterns of the files that are named.
        users: ids of users.
        secret: whether the call would get a secret of a skill.
        confined: whether what runs is confined.
        opaque: of a rule that denies or asks: its verdict where it cannot be told whether it holds; "allow" passes on
            to the next rule. Of one that allows: "allow" lets it hold for a program that runs other code.
        reason: told with the verdict.

    """

    effect: Effect
    label: str = ""
    tools: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    commands: tuple[CommandPattern, ...] = ()
    paths: tuple[PathPattern, ...] = ()
    users: tuple[int, ...] = ()
    secret: bool | None = None
    confined: bool | None = None
    opaque: Effect | None = None
    reason: str = ""

    @property
    def about_all_calls(self) -> bool:
        """Whether it holds for every call of its tools in a place, or for none."""
        return not (self.skills or self.commands or self.paths) and self.secret is None

    def verdict(self, facts: Facts, unit: _Unit) -> Finding | None:
        """What it says of one command of a call that `fits_call`; None if it does not hold."""
        return self._allows(facts, unit) if self.effect == "allow" else self._restricts(facts, unit)

    def fits_call(self, facts: Facts) -> bool:
        """Whether it is about such calls, whatever they run."""
        if self.tools and not any(fits(pattern, name) for pattern in self.tools for name in facts.names):
            return False
        if self.users and facts.uid not in self.users:
            return False
        if self.secret is not None and self.secret != facts.secret:
            return False
        if self.confined is not None and self.confined != facts.confined:
            return False
        return self._is_there(facts.where) or (
            self.effect == "deny" and facts.source is not None and self._is_there(facts.source)
        )

    def _is_there(self, where: Where) -> bool:
        return (not self.backends or any(fits(pattern, where.backend) for pattern in self.backends)) and (
            not self.places or any(fits(pattern, where.place) for pattern in self.places)
        )

    # What surely holds

    def _allows(self, facts: Facts, unit: _Unit) -> Finding | None:
        if self.skills and not any(fits(pattern, name) for pattern in self.skills for name in unit.skills(facts)):
            return None
        if self.commands and not self._permits(unit):
            return None
        if self.paths and not self._covers_files(unit):
            return None
        return Finding("allow", self)

    def _covers_files(self, unit: _Unit) -> bool:
        """Whether there are files, and all are named. What a command does besides opening some, they do not say."""
        if unit.facts.analysis is not None and not self.commands:
            return False
        workspace, files = path_parts(unit.facts.workspace), unit.opened
        return bool(files) and all(
            file is not None and any(pattern.matches(file, workspace) for pattern in self.paths) for file in files
        )

    def _permits(self, unit: _Unit) -> bool:
        """Whether the command is one that the patterns surely mean. It opens no files but those that `paths` mean."""
        command = unit.command
        if command is None or (command.redirects and not self.paths):
            return False
        for pattern in self.commands:
            if pattern.surely(command.program, command.words, moved=unit.moved) and self._trusts(command, pattern):
                return True
        return False

    def _trusts(self, command: Command, pattern: CommandPattern) -> bool:
        if command.doubt is None or self.opaque == "allow":
            return True
        return command.doubt.level == "unknown" and pattern.named

    # What may hold

    def _restricts(self, facts: Facts, unit: _Unit) -> Finding | None:
        if self.skills and not any(
            fits(pattern, name) for pattern in self.skills for name in facts.mentioned | unit.skills(facts)
        ):
            return None
        sure = self._sure(facts, unit)
        if sure is None:
            return None
        if sure:
            return Finding(self.effect, self)
        effect = self.opaque or self.effect
        doubt = unit.doubt or "it cannot be told which files it means"
        return None if effect == "allow" else Finding(effect, self, doubt)

    def _sure(self, facts: Facts, unit: _Unit) -> bool | None:
        """True where it holds, False where it may hold, None where it does not."""
        found: list[bool | None] = []
        if self.skills and facts.analysis is not None and facts.analysis.opaque:
            found.append(False)
        if self.commands:
            found.append(unit.runs(self.commands))
        if self.paths:
            found.append(unit.touches(self.paths))
        if None in found:
            return None
        return False not in found


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, the rule that gave it (None: no rule held), and what could not be told of the call, if that is why."""

    effect: Effect
    rule: Rule | None = None
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules of one author, in their order. What none of them holds for is allowed.

    Args:
        name: whose they are, for messages: "daemon" or "conversation".
        rules: those of a preset come last.

    """

    name: str = "daemon"
    rules: tuple[Rule, ...] = ()

    def judge(self, facts: Facts) -> Finding:
        """The verdict over a whole call."""
        found = Finding("allow")
        rules = [rule for rule in self.rules if rule.fits_call(facts)]
        for unit in _comparable(_units(facts), rules):
            found = strictest(found, _first(rules, facts, unit))
        return found

    def denies_tool(self, facts: Facts) -> bool:
        """Whether every call of a tool is denied, whatever stands in it."""
        for rule in self.rules:
            if not rule.fits_call(facts):
                continue
            if rule.about_all_calls:
                return rule.effect == "deny"
            if rule.effect != "deny":
                return False
        return False

    @property
    def looks_inside(self) -> bool:
        """Whether a rule asks for more than the tool, the place and the user."""
        return not all(rule.about_all_calls for rule in self.rules)

    @property
    def asks_for_skills(self) -> bool:
        """Whether a rule is about the skill whose code runs."""
        return any(rule.skills for rule in self.rules)


def _units(facts: Facts) -> Sequence[_Unit]:
    analysis = facts.analysis
    if analysis is None or analysis.opaque or not analysis.commands:
        return [_Unit(facts)]
    return [_Unit(facts, command) for command in analysis.commands]


def _comparable(units: Sequence[_Unit], rules: Sequence[Rule]) -> Sequence[_Unit]:
    """The same, without the files if there are so many that all other conversations would wait."""
    patterns = [pattern for rule in rules for pattern in rule.paths]
    if not patterns or sum(steps(unit.named, patterns) for unit in units) <= _MAX_STEPS:
        return units
    return [replace(unit, vague=True) for unit in units]


def _first(rules: Sequence[Rule], facts: Facts, unit: _Unit) -> Finding:
    """By the first rule that holds. Of a wrapper that only runs what comes next, only by those that restrict it."""
    for rule in rules:
        if not unit.counts and not (rule.commands and rule.effect != "allow"):
            continue
        finding = rule.verdict(facts, unit)
        if finding is not None:
            return finding
    return Finding("allow")


def strictest(one: Finding, other: Finding) -> Finding:
    """The stricter of two findings; of equal ones the one with a rule, then the first."""
    ranks = [(_STRICTNESS.index(each.effect), each.rule is not None) for each in (one, other)]
    return other if ranks[1] > ranks[0] else one


@dataclass(frozen=True)
class _Unit:
    """One command of a call, or the whole of a call that runs none or is opaque.

    `vague` says that its files are not told: it names too many.
    """

    facts: Facts
    command: Command | None = None
    vague: bool = False

    @property
    def counts(self) -> bool:
        return self.command is None or self.command.counts

    @property
    def moved(self) -> bool:
        """Whether it may run in another folder than the workspace."""
        return self.facts.analysis is not None and self.facts.analysis.moves

    @property
    def doubt(self) -> str:
        """Why it cannot be told what it runs; "" if it can."""
        analysis = self.facts.analysis
        if analysis is not None and analysis.opaque:
            return analysis.opaque
        if self.command is None or self.command.doubt is None:
            return ""
        return self.command.doubt.reason

    def skills(self, facts: Facts) -> frozenset[str]:
        """Those whose code it surely runs. Of a line of several commands, that cannot be said of one."""
        analysis = facts.analysis
        alone = analysis is None or len(analysis.commands) <= 1
        return facts.skills if alone else frozenset()

    def runs(self, patterns: Sequence[CommandPattern]) -> bool | None:
        """Whether it is one of these commands: True, None for no, False where that cannot be told."""
        command = self.command
        if command is not None and any(pattern.maybe(command.program, command.words) for pattern in patterns):
            return True
        return False if self.doubt else None

    @cached_property
    def opened(self) -> Sequence[tuple[str, ...] | None]:
        """Files that it surely opens; None for one that cannot be known."""
        facts = self.facts
        if self.vague:
            return [None]
        if facts.analysis is None:
            return [path_name(path, facts.workspace) for path in facts.paths]
        if self.command is None:
            return [None]
        return opened_by(self.command, facts.analysis.moves, facts.workspace)

    @cached_property
    def named(self) -> Sequence[Name]:
        """All that it may name."""
        facts = self.facts
        if self.vague or facts.analysis is None or self.command is None:
            return self.opened
        return [*self.opened, *words_of(self.command, facts.analysis.moves, facts.workspace)]

    def touches(self, patterns: Sequence[PathPattern]) -> bool | None:
        """Whether it names one of these files; likewise."""
        if self.facts.analysis is not None and self.command is None:
            return False if self.doubt else None
        workspace, unsure = path_parts(self.facts.workspace), bool(self.doubt)
        for name in self.named:
            if isinstance(name, tuple):
                if any(pattern.matches(name, workspace) for pattern in patterns):
                    return True
            elif not unsure:
                unsure = name is None or any(p.may_match(name.text, self.facts.workspace) for p in patterns)
        return False if unsure else None
