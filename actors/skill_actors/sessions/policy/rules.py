"""Rules, and sets of them: the first rule that holds gives the verdict of its set.

A rule that allows holds only for what it surely means; one that denies or asks holds also for what it may mean. A call
of several commands is judged command by command, and the strictest verdict is that of the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from skill_actors.sessions.policy.analysis import Analysis, Command
from skill_actors.sessions.policy.patterns import CommandPattern, PathPattern, fits, path_parts

__all__ = ["Effect", "Facts", "Finding", "Rule", "RuleSet", "Where", "strictest"]

Effect = Literal["allow", "ask", "deny"]

_STRICTNESS: Final = ("allow", "ask", "deny")


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
        """What it says of one command of a call; None if it does not hold."""
        if not self._fits_call(facts):
            return None
        return self._allows(facts, unit) if self.effect == "allow" else self._restricts(facts, unit)

    def _fits_call(self, facts: Facts) -> bool:
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
        if self.paths and not self._covers_files(facts, unit):
            return None
        return Finding("allow", self)

    def _covers_files(self, facts: Facts, unit: _Unit) -> bool:
        """Whether there are files, and all are named. What a command does besides opening some, they do not say."""
        if facts.analysis is not None and not self.commands:
            return False
        files = unit.files(facts)
        return bool(files) and all(path is not None and _meant(path, self.paths, facts) for path in files)

    def _permits(self, unit: _Unit) -> bool:
        """Whether the command is one that the patterns surely mean. It opens no files but those that `paths` mean."""
        command = unit.command
        if command is None or (command.redirects and not self.paths):
            return False
        for pattern in self.commands:
            if pattern.surely(command.program, command.words) and self._trusts(command, pattern):
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
        if self.commands:
            found.append(unit.runs(self.commands))
        if self.paths:
            found.append(unit.touches(self.paths, facts))
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
        for unit in self._units(facts):
            found = strictest(found, self._first(facts, unit))
        return found

    def denies_tool(self, facts: Facts) -> bool:
        """Whether every call of a tool is denied, whatever stands in it."""
        unit = _Unit(facts)
        for rule in self.rules:
            if rule.about_all_calls:
                finding = rule.verdict(facts, unit)
                if finding is not None:
                    return finding.effect == "deny"
            elif rule.effect != "deny" and rule._fits_call(facts):
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

    def _units(self, facts: Facts) -> Sequence[_Unit]:
        analysis = facts.analysis
        if analysis is None or analysis.opaque or not analysis.commands:
            return [_Unit(facts)]
        return [_Unit(facts, command) for command in analysis.commands]

    def _first(self, facts: Facts, unit: _Unit) -> Finding:
        """By the first rule that holds. Of a wrapper that only runs what comes next, only by those that restrict it."""
        for rule in self.rules:
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


@dataclass(frozen=True, slots=True)
class _Unit:
    """One command of a call, or the whole of a call that runs none or is opaque."""

    facts: Facts
    command: Command | None = None

    @property
    def counts(self) -> bool:
        return self.command is None or self.command.counts

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

    def files(self, facts: Facts) -> Sequence[str | None]:
        """Those that it surely opens; None for one that cannot be known."""
        if facts.analysis is None:
            return facts.paths
        if self.command is None:
            return [None]
        moved = facts.analysis.moves
        paths = (redirect.path for redirect in self.command.redirects)
        return [None if path is None or (moved and not path.startswith("/")) else path for path in paths]

    def touches(self, patterns: Sequence[PathPattern], facts: Facts) -> bool | None:
        """Whether it names one of these files; likewise."""
        if facts.analysis is None:
            return True if any(_meant(path, patterns, facts) for path in facts.paths) else None
        if self.command is None:
            return False if self.doubt else None
        named = list(_named(self.command, facts.analysis.moves))
        if any(isinstance(path, str) and _meant(path, patterns, facts) for path in named):
            return True
        unsure = any(_may_be(path, patterns, facts) for path in named if not isinstance(path, str))
        return False if unsure or self.doubt else None


@dataclass(frozen=True, slots=True)
class _Begins:
    """A path of which only the beginning is known, since the shell puts in the rest."""

    text: str


def _named(command: Command, moved: bool) -> Iterator[str | _Begins | None]:
    """What of the command may be paths; None for one of which nothing is known."""
    for redirect in command.redirects:
        yield None if redirect.path is None or (moved and not redirect.path.startswith("/")) else redirect.path
    for word in command.words[1:]:
        texts = {word.text, word.text.partition("=")[2]}
        if word.text.startswith("-"):
            texts |= {word.text[2:]}
        for text in texts if word.sure else {word.text}:
            if not word.sure:
                yield _begins(text, moved)
            elif text:
                relative = not text.startswith(("/", "-"))
                yield None if moved and relative else text


def _begins(text: str, moved: bool) -> _Begins | None:
    """Of a word that is not sure. With braces, or .. in it, it may become any path."""
    if not text or ".." in text or "=" in text or text[0] in "-~" or "{" in text:
        return None
    if moved and not text.startswith("/"):
        return None
    return _Begins(re.split(r"[*?\[]", text, maxsplit=1)[0])


def _may_be(path: _Begins | None, patterns: Sequence[PathPattern], facts: Facts) -> bool:
    return path is None or any(pattern.may_match(path.text, facts.workspace) for pattern in patterns)


def _meant(path: str, patterns: Sequence[PathPattern], facts: Facts) -> bool:
    parts, workspace = path_parts(path, facts.workspace), path_parts(facts.workspace)
    return any(pattern.matches(parts, workspace) for pattern in patterns)
