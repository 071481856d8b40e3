"""Looks into batches before they are stored: every text in them is masked, and what was found is told beside them.

Nothing that was not looked at is stored: where the time of a batch is over, or a rule fails on a text, the content is
left out and a finding says so. Pure but for the memory of what was told; runs in threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from skilld.monitor.batch import MAX_RAW_NAME_CHARS, Batch, MonitorEvent, as_json, as_name
from skilld.monitor.inspected import Found, Inspected, Origin
from skilld.monitor.inspection.directions import (
    INPUT,
    PART_LISTS,
    direction_of,
    direction_of_message,
    direction_of_part,
)
from skilld.monitor.inspection.pushed import Pushed
from skilld.monitor.naming import cut_agent
from skilld_monitor.scanning import DIRECTIONS, Direction, Finding, RuleSet

if TYPE_CHECKING:
    from skilld.config import MonitorConfig, MonitorPolicyConfig
    from skilld.monitor.inspection.book import RuleBook

__all__ = ["NOT_SCANNED", "Inspector", "shown_agent", "with_names"]

_log = logging.getLogger(__name__)

NOT_SCANNED: Final = "not-scanned"
"""The rule of the finding that says that content was left out."""

_MAX_RULE_CHARS: Final = 200
_HALF_CHARS: Final = 512  # of a secret that may stand at the end of a name that was cut as it came
_UNSEEN_NAME: Final = "[not looked at]"
_MAX_FINDINGS: Final = 100  # of one event; they are one for each rule and direction anyhow
_MOST_SAID: Final = 20
_MOST_TOLD: Final = 20_000
_TOLD_S: Final = 3_600.0


class Inspector:
    """Looks into what programs report. Safe to use from several threads.

    Args:
        config: the section in force.
        now: seconds that only go on.
        busy: seconds that this thread was busy: a batch is bounded by the work that it makes, not by other programs.

    """

    def __init__(
        self,
        book: RuleBook,
        config: Callable[[], MonitorConfig],
        *,
        now: Callable[[], float] = time.monotonic,
        busy: Callable[[], float] = time.thread_time,
    ) -> None:
        self._book = book
        self._config = config
        self._now = now
        self._busy = busy
        self._told = _Told()
        self._pushed = Pushed()
        self._complained = False

    def policy_for(self, agent: str) -> Mapping[str, Any]:
        """What this program has to do itself before its calls."""
        return self._pushed.policy_for(*self._policy(), agent)

    def policy_line(self, agent: str) -> bytes:
        """The same as it is sent."""
        return self._pushed.line_for(*self._policy(), agent)

    def _policy(self) -> tuple[MonitorPolicyConfig, RuleSet | None]:
        config = self._config()
        return config.policy, self._book.rules if config.scan.enabled else None

    def inspect(self, batch: Batch, origin: Origin) -> Inspected:
        """The batch, masked, and what was found in it."""
        scan = self._config().scan
        if not scan.enabled:
            return Inspected(batch)
        rules = self._book.rules
        ends_at = self._busy() + scan.batch_timeout_s
        batch = with_names(rules, batch)
        events: list[MonitorEvent] = []
        found: list[Found] = []
        for index, event in enumerate(batch.events):
            look = _Look(rules, self._told, (origin.uid, batch.run, event.session, event.user), self._now())
            if self._busy() >= ends_at:
                shown = look.without_content(event, "there was no time to look at it")
            else:
                shown = self._look_at(look, event)
            events.append(shown)
            found.extend(Found(index, finding, finding.sample) for finding in look.findings())
        if all(shown is event for shown, event in zip(events, batch.events, strict=True)):
            return Inspected(batch, tuple(found))
        return Inspected(replace(batch, events=tuple(events)), tuple(found))

    def _look_at(self, look: _Look, event: MonitorEvent) -> MonitorEvent:
        try:
            return look.at(event)
        except Exception as error:  # of a rule that fails on a text; what it failed on is not stored
            if not self._complained:
                _log.exception("an event cannot be looked into; it is stored without its data, as further ones are")
            self._complained = True
            return look.without_content(event, f"it could not be looked at: {type(error).__name__}")


class _Look:
    """One event, looked at."""

    def __init__(self, rules: RuleSet, told: _Told, whose: tuple[object, ...], now_s: float) -> None:
        self._rules = rules
        self._told = told
        self._whose = whose
        self._now_s = now_s
        self._found: list[Finding] = []

    def findings(self) -> list[Finding]:
        """One for each rule and direction: the first, which has the place where it was found."""
        if not self._found:
            return []
        first: dict[tuple[str, str], Finding] = {}
        for finding in self._found:
            first.setdefault((finding.rule, finding.direction), finding)
        return list(first.values())[:_MAX_FINDINGS]

    def at(self, event: MonitorEvent) -> MonitorEvent:
        """The event, masked; the same one where there is nothing to mask."""
        self._found += _found_there(self._rules, event)
        named = self._names(event)
        data = self._data(event.data)
        if named or data is not event.data:
            return event._replace(data=data, **named)
        return event

    def without_content(self, event: MonitorEvent, why: str) -> MonitorEvent:
        """The event with nothing that was not looked at."""
        self._found.append(Finding(NOT_SCANNED, "sensitive_data", "medium", 1.0, "event", 0, 0, why))
        return event._replace(data={"skilld.not_scanned": why}, **self._names(event))

    def _names(self, event: MonitorEvent) -> dict[str, Any]:
        """The names of the event that have to be other ones."""
        changed: dict[str, Any] = {}
        for field in ("name", "channel", "session", "user", "agent"):
            name = getattr(event, field)
            if name is not None and (shown := self._name(name)) is not name:
                changed[field] = shown
        for field in ("tags", "masked"):  # what a program calls a rule may hold anything
            names: tuple[str, ...] = getattr(event, field)
            if names and (all_shown := tuple(map(self._name, names))) != names:
                changed[field] = all_shown
        return changed

    def _name(self, name: str) -> str:
        shown, found = _named(self._rules, name)
        self._found += found
        return shown

    def _data(self, data: Any) -> Any:
        if not isinstance(data, dict):
            return self._mask(data, "event")
        ways = {direction_of(field) for field in data}
        if ways <= {"event"}:
            return self._mask(data, "event")
        shown: dict[str, Any] = {}
        for field, value in data.items():
            if field in INPUT and isinstance(value, list):
                masked = {**self._mask({field: None}, "event")}
                shown[next(iter(masked))] = self._messages(value)
            else:
                self._add(shown, field, value, direction_of(field))
        return data if shown == data else shown

    def _messages(self, messages: list[Any]) -> list[Any]:
        """A conversation. What was told of its earlier messages is not told again with each turn."""
        shown: list[Any] = []
        for number, message in enumerate(messages):
            before = len(self._found)
            shown.append(self._message(message))
            if len(self._found) > before:
                known = self._told.note((*self._whose, as_json(message)), self._now_s)
                if known and number < len(messages) - 1:
                    del self._found[before:]
        return shown

    def _message(self, message: Any) -> Any:
        way = direction_of_message(message)
        if not isinstance(message, dict):
            return self._mask(message, way)
        shown: dict[str, Any] = {}
        for field, value in message.items():
            if field in PART_LISTS and isinstance(value, list):
                shown[field] = [self._mask(part, direction_of_part(part, way)) for part in value]
            else:
                self._add(shown, field, value, way)
        return shown

    def _add(self, shown: dict[str, Any], field: str, value: Any, way: Direction) -> None:
        """Add a field, masked; where its name is another one's by now, it gets a number."""
        ((name, masked),) = self._mask({field: value}, way).items()
        if name in shown:
            name = next(tried for number in count(2) if (tried := f"{name} ({number})") not in shown)
        shown[name] = masked

    def _mask(self, value: Any, way: Direction) -> Any:
        shown, found = self._rules.mask(value, way)
        self._found += found
        return shown


class _Told:
    """Messages of which something was told, for an hour; bounded. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at: OrderedDict[bytes, float] = OrderedDict()

    def note(self, what: tuple[object, ...], now_s: float) -> bool:
        """Whether it was told before; now it is."""
        key = blake2b(repr(what).encode("utf-8", "backslashreplace"), digest_size=16).digest()
        with self._lock:
            before = self._at.pop(key, None)
            self._at[key] = now_s
            if len(self._at) > _MOST_TOLD:
                self._at.popitem(last=False)
        return before is not None and now_s - before < _TOLD_S


def _named(rules: RuleSet, name: str) -> tuple[str, list[Finding]]:
    """A name, masked; the same object where there is nothing to mask. One that a rule fails on is not shown, nor is the
    end of one that was cut as it came."""
    try:
        shown, found = rules.mask_text(name)
    except Exception:  # what it belongs to is kept, so that nobody has to send it again and again
        return _UNSEEN_NAME, []
    if len(name) >= MAX_RAW_NAME_CHARS:
        shown = shown[:-_HALF_CHARS] or _UNSEEN_NAME
    return shown, found


def shown_agent(rules: RuleSet, agent: str) -> str:
    """An agent's name as it is stored. Raises nothing."""
    return cut_agent(_named(rules, agent)[0])


def with_names(rules: RuleSet, batch: Batch) -> Batch:
    """The batch with what it says of its run masked. Raises nothing."""
    agent, _ = _named(rules, batch.agent)
    program, _ = _named(rules, batch.program)
    environment, _ = _named(rules, batch.environment)
    if agent is batch.agent and program is batch.program and environment is batch.environment:
        return batch
    return replace(batch, agent=agent, program=program, environment=environment)


def _found_there(rules: RuleSet, event: MonitorEvent) -> Iterator[Finding]:
    """What the program says that it has masked itself, and what it found before a call: the text did not come along."""
    for id in event.masked:
        yield _of_rule(rules, id, "event", "masked by the program")
    said = event.data.get("security.rules") if isinstance(event.data, dict) else None
    if isinstance(said, list):
        said_way = event.data.get("security.direction")
        way: Direction = next((known for known in DIRECTIONS if known == said_way), "event")
        for id in said[:_MOST_SAID]:
            if isinstance(id, str) and id:
                yield _of_rule(rules, as_name(id, MAX_RAW_NAME_CHARS), way, "found by the program before the call")


def _of_rule(rules: RuleSet, id: str, way: Direction, sample: str) -> Finding:
    """A finding of a rule that a program names. One that is not known here is the program's own."""
    for rule in rules.rules:
        if rule.id == id:
            return Finding(id, rule.category, rule.severity, rule.confidence, way, 0, 0, sample)
    shown, _ = _named(rules, id)
    return Finding(shown[:_MAX_RULE_CHARS], "sensitive_data", "medium", 0.5, way, 0, 0, sample)
