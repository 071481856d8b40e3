"""What policies make of the arguments of one call."""

from __future__ import annotations

import time

from skilld_monitor.policy.errors import BlockedError
from skilld_monitor.policy.guard import FIELDS
from skilld_monitor.policy.walking import TooDeep, Walk
from skilld_monitor.records import event
from skilld_monitor.scanning import OutOfTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from skilld_monitor.monitoring import Monitoring
    from skilld_monitor.policy.policies import Policy
    from skilld_monitor.scanning import Direction, Finding

__all__ = ["judge"]

_BUDGET_S = 0.25  # of the program's time that one call may take
_CONTACT_S = 1.0  # the daemon is given to say its policy where no call goes out without one
_BODIES = ("extra_body",)  # has other arguments under their names
_MAX_TOLD = 20  # rules that one event names
_MAX_WHY_CHARS = 200


def judge(
    on: Monitoring,
    kind: str,
    arguments: dict[str, object],
    fields: Mapping[str, Direction],
    *,
    tool: str = "",
    can_change: bool = True,
) -> dict[str, object]:
    """The arguments to go on with: the same dict, or a redacted copy.

    Args:
        kind: `LLM_call` or `tool_call`; the events are named after it.
        fields: which arguments are looked at; "" is all of a tool's as one.
        tool: which is called.
        can_change: whether the call can go on with other arguments than these.

    Raises:
        BlockedError: see `guard.before_call`.

    """
    about: dict[str, object] = {"gen_ai.tool.name": tool[:200]} if tool else {}
    judging = _Judging(is_tool=kind == "tool_call")
    shown = arguments
    judging.unjudged = _unknown(on)
    if not judging.unjudged:
        judging.policies, judging.unjudged = on.policy.policies()
        judging.deadline = time.monotonic() + _BUDGET_S  # rules are made once, however long that takes
        shown = judging.walked(arguments, fields)
    if judging.redacted and not can_change:
        judging.unjudged, shown = "its arguments cannot be replaced", arguments
        judging.redacted = []
    _told_dry(on, kind, judging, about)
    if judging.blocked:
        _block(on, kind, judging.blocked, about)
    if judging.unjudged:
        _unjudged(on, kind, judging.unjudged, about)
    if judging.redacted and shown is not arguments:
        on.policy.counts["redacted"] += 1
        _tell(on, f"{kind}_redacted", judging.redacted, about)
    return shown


class _Judging:
    """What was found in one call so far; `unjudged` says why not all of it could be judged."""

    def __init__(self, *, is_tool: bool) -> None:
        self._is_tool = is_tool
        self.unjudged = ""
        self.policies: tuple[Policy, ...] = ()
        self.deadline = 0.0
        self.blocked: list[Finding] = []
        self.redacted: list[Finding] = []
        self.dry: list[tuple[str, Finding]] = []

    def walked(
        self, arguments: dict[str, object], fields: Mapping[str, Direction], *, is_body: bool = False
    ) -> dict[str, object]:
        """The arguments with what is redacted in them; the same dict where nothing is.

        Args:
            is_body: they are what one of the call's arguments has; what is below them may hold itself.

        """
        shown = dict(arguments)
        is_changed = False
        for name, direction in fields.items():
            if name in arguments:
                shown[name] = self._argument(name, arguments[name], direction, is_body=is_body)
                is_changed = is_changed or shown[name] is not arguments[name]
        return shown if is_changed else arguments

    def _argument(self, name: str, value: object, direction: Direction, *, is_body: bool) -> object:
        """One of them; as it is, if it cannot be judged."""
        if not is_body and name in _BODIES and isinstance(value, dict) and not self._is_tool:
            return self.walked(value, {field: FIELDS.get(field, direction) for field in value}, is_body=True)
        walk = Walk(self.text, objects=not self._is_tool)  # a tool is free to get any, and `self` is one
        try:
            made = walk.value(value, direction)
        except Exception as error:  # what the program passes may be of any class
            self.unjudged = self.unjudged or _told(error)
            return value
        if walk.unread and not self.unjudged:
            at = name or walk.at
            self.unjudged = f"its {f'argument {at!r}' if at else 'arguments'} cannot be judged: there is {walk.unread}"
        return made

    def text(self, text: str, direction: Direction) -> str:
        """The text that goes on; what is found is noted."""
        for policy in self.policies:
            found = policy.rules.scan(text, direction, deadline=self.deadline)
            if not found:
                continue
            if policy.dry_run:
                self.dry += [(policy.actions[finding.rule], finding) for finding in found]
                continue
            self.blocked += [finding for finding in found if policy.actions[finding.rule] == "block"]
            self.redacted += [finding for finding in found if policy.actions[finding.rule] == "redact"]
            text, _ = policy.rules.redact_text(text, direction)
        return text


def _unknown(on: Monitoring) -> str:
    """Why nothing may go out yet; "" if it may."""
    holder = on.policy
    if holder.is_known or not holder.must_know:
        return ""
    on.ask_policy()
    if holder.wait_known(_CONTACT_S):
        return ""
    return f"the daemon has not said what it is: {on.delivery_problem() or 'no answer yet'}"


def _told(error: Exception) -> str:
    """What may be said of an error: others than ours may say what was said."""
    if isinstance(error, OutOfTime):
        return "it took too long"
    return f"{type(error).__name__}: {error}" if isinstance(error, TooDeep) else type(error).__name__


def _told_dry(on: Monitoring, kind: str, judging: _Judging, about: dict[str, object]) -> None:
    for action in ("block", "redact"):
        dry = [finding for would, finding in judging.dry if would == action]
        if dry:
            on.policy.counts[f"would_{action}"] += 1
            _tell(on, f"{kind}_would_{action}", dry, {**about, "security.dry_run": True})


def _block(on: Monitoring, kind: str, found: list[Finding], about: dict[str, object]) -> None:
    on.policy.counts["blocked"] += 1
    _tell(on, f"{kind}_blocked", found, about)
    first = found[0]
    message = f"blocked by policy: rule {first.rule!r} ({first.category}) fits the {first.direction} of this call"
    raise BlockedError(message, first.rule, first.category)


def _unjudged(on: Monitoring, kind: str, why: str, about: dict[str, object]) -> None:
    """Raises BlockedError if the policy fails closed. Otherwise the call passes, which is told now and then."""
    on.policy.count_unjudged(why)
    reason = {"security.reason": why[:_MAX_WHY_CHARS]}
    if on.policy.fail_closed:
        on.policy.counts["blocked"] += 1
        _tell(on, f"{kind}_blocked", [], {**about, **reason})
        raise BlockedError(f"blocked: the policy fails closed, and {why}")
    if on.policy.may_tell(f"{kind}: {why[:_MAX_WHY_CHARS]}"):
        on.problem = on.policy.problem
        _tell(on, f"{kind}_unjudged", [], {**about, **reason})


def _tell(on: Monitoring, name: str, found: list[Finding], about: dict[str, object]) -> None:
    """Report what was done, without a word of what was said."""
    rules = sorted({finding.rule for finding in found})[:_MAX_TOLD]
    data = dict(about)
    if found:
        worst = max(found, key=lambda finding: ("low", "medium", "high").index(finding.severity))
        data.update(
            {
                "security.rules": rules,
                "security.category": worst.category,
                "security.severity": worst.severity,
                "security.alert_level": worst.alert,
                "security.direction": worst.direction,
                "security.count": len(found),
            }
        )
    on.report(event(name, data, "LLM" if name.startswith("LLM") else "TOOL", "WARNING"))
