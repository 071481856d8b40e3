"""What was said in an event, with what the rules find made unreadable, and what they found.

What cannot be looked at is left out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from skilld_monitor.scanning.findings import Direction, Finding
    from skilld_monitor.scanning.rule_set import RuleSet

__all__ = ["ANSWER", "PROMPT", "Said", "alert_of", "gravest", "shown"]

PROMPT, ANSWER = "gen_ai.input.messages", "gen_ai.output.messages"
_SEVERITIES = ("low", "medium", "high")  # those of the scanner, which is brought when the first line is written
_SYSTEM_ROLES = ("system", "developer")


def shown(value: object, rules: RuleSet, direction: Direction = "event") -> tuple[object, list[Finding]]:
    """The value with what the rules find made unreadable, and what they found. Never raises."""
    try:
        return rules.mask(value, direction)
    except Exception as error:
        return f"<not looked at: {type(error).__name__}>", []


def gravest(findings: Iterable[Finding]) -> Finding | None:
    """The first of those of the highest severity; None of none."""
    return max(findings, key=lambda finding: _SEVERITIES.index(finding.severity), default=None)


def alert_of(findings: Iterable[Finding]) -> str:
    """How grave they are: `none`, `suspicious` or `dangerous`."""
    worst = gravest(findings)
    return "none" if worst is None else worst.alert


class Said:
    """The data of a call, masked.

    `asked` is what was found in the prompt, `latest` in the user's last message alone, as those before it were found
    when they were the last; `answered` in the answer.
    """

    __slots__ = ("answered", "asked", "data", "latest")

    def __init__(self, given: object, rules: RuleSet) -> None:
        data = given if isinstance(given, dict) else {}
        rest, _found = shown({name: value for name, value in data.items() if name not in (PROMPT, ANSWER)}, rules)
        self.data: dict[str, object] = dict(rest) if isinstance(rest, dict) else {"data": rest}
        self.asked: list[Finding] = []
        self.latest: list[Finding] = []
        self.answered: list[Finding] = []
        if PROMPT in data:
            self.data[PROMPT] = self._prompt(data[PROMPT], rules)
        if ANSWER in data:
            self.data[ANSWER], self.answered = shown(data[ANSWER], rules, "output")

    def _prompt(self, prompt: object, rules: RuleSet) -> object:
        """What a message of the system may say, a user's may not."""
        if not isinstance(prompt, list):
            masked, self.asked = shown(prompt, rules, "input")
            self.latest = self.asked
            return masked
        messages: list[object] = []
        is_users = False
        for message in prompt:
            role = message.get("role") if isinstance(message, dict) else None
            masked, found = shown(message, rules, "system" if role in _SYSTEM_ROLES else "input")
            messages.append(masked)
            self.asked += found
            if role == "user":
                self.latest, is_users = found, True
        if not is_users:
            self.latest = self.asked
        return messages
