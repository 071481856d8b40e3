"""What policies make of the arguments of one call."""

from __future__ import annotations

import time

from skilld_monitor.policy.errors import BlockedError
from skilld_monitor.policy.policies import PolicyError
from skilld_monitor.policy.walking import TooDeep, changed
from skilld_monitor.records import event
from skilld_monitor.scanning import OutOfTime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skilld_monitor.monitoring import Monitoring
    from skilld_monitor.policy.policies import Policy
    from skilld_monitor.scanning import Direction, Finding

__all__ = ["judge"]

_BUDGET_S = 0.25  # of the program's time that one call may take
_CONTACT_S = 1.0  # the daemon is given to say its policy where no call goes out without one
_MAX_TOLD = 20  # rules that one event names


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
        fields: which arguments are looked at.
        tool: which is called.
        can_change: whether the call can go on with other arguments than these.

    Raises:
        BlockedError: see `guard.before_call`.

    """
    about: dict[str, object] = {"gen_ai.tool.name": tool[:200]} if tool else {}
    judging = _Judging()
    shown = arguments
    why = _unknown(on)
    if not why:
        try:
            judging.policies = on.policy.policies()
            arguments = _walked(arguments, fields, _as_it_is)  # iterators can be read once: the call gets the lists
            judging.deadline = time.monotonic() + _BUDGET_S  # rules are made once, however long that takes
            shown = _walked(arguments, fields, judging.text)
        except Exception as error:  # what the program passes may be of any class, and a policy may be none
            why = _told(error)
    if judging.redacted and not can_change:
        why = "its arguments cannot be replaced"
    if why and not judging.blocked:
        return _unjudged(on, kind, arguments, why, about)
    return _verdict(on, kind, judging, arguments, shown, about)


class _Judging:
    """What was found in one call so far."""

    def __init__(self) -> None:
        self.policies: tuple[Policy, ...] = ()
        self.deadline = 0.0
        self.blocked: list[Finding] = []
        self.redacted: list[Finding] = []
        self.dry: list[tuple[str, Finding]] = []

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
    if holder.is_known or not holder.fail_closed:
        return ""
    on.ask_policy()
    if holder.wait_known(_CONTACT_S):
        return ""
    return f"the daemon has not said what it is: {on.delivery_problem() or 'no answer yet'}"


def _as_it_is(text: str, direction: Direction) -> str:
    return text


def _told(error: Exception) -> str:
    """What may be said of an error: others than ours may say what was said."""
    if isinstance(error, OutOfTime):
        return "it took too long"
    return f"{type(error).__name__}: {error}" if isinstance(error, (PolicyError, TooDeep)) else type(error).__name__


def _walked(
    arguments: dict[str, object], fields: Mapping[str, Direction], look: Callable[[str, Direction], str]
) -> dict[str, object]:
    shown = dict(arguments)
    is_changed = False
    for name, direction in fields.items():
        if name in arguments:
            shown[name] = changed(arguments[name], direction, look)
            is_changed = is_changed or shown[name] is not arguments[name]
    return shown if is_changed else arguments


def _unjudged(
    on: Monitoring, kind: str, arguments: dict[str, object], why: str, about: dict[str, object]
) -> dict[str, object]:
    on.policy.counts["unjudged"] += 1
    on.policy.problem = f"a call was not judged: {why}"
    if not on.policy.fail_closed:
        return arguments
    on.policy.counts["blocked"] += 1
    _tell(on, f"{kind}_blocked", [], {**about, "security.reason": why[:200]})
    raise BlockedError(f"blocked: the policy fails closed, and {why}")


def _verdict(
    on: Monitoring,
    kind: str,
    judging: _Judging,
    arguments: dict[str, object],
    shown: dict[str, object],
    about: dict[str, object],
) -> dict[str, object]:
    counts = on.policy.counts
    for action in ("block", "redact"):
        dry = [finding for would, finding in judging.dry if would == action]
        if dry:
            counts[f"would_{action}"] += 1
            _tell(on, f"{kind}_would_{action}", dry, {**about, "security.dry_run": True})
    if judging.blocked:
        counts["blocked"] += 1
        _tell(on, f"{kind}_blocked", judging.blocked, about)
        first = judging.blocked[0]
        message = f"blocked by policy: rule {first.rule!r} ({first.category}) fits the {first.direction} of this call"
        raise BlockedError(message, first.rule, first.category)
    if judging.redacted:
        counts["redacted"] += 1
        _tell(on, f"{kind}_redacted", judging.redacted, about)
        return shown
    return shown


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
