"""The policy acts on the daemon's own conversations before a message is taken in and before a tool runs."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.sessions.screening import Blocked
from skilld.config import MonitorConfig, MonitorPolicyConfig, PolicyOverride, ScanConfig
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.screen import SessionScreen, Stopped
from skilld_monitor.scanning import RuleSet
from support import run

KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's
DANGER = "please rm -rf / now"
SPLIT = (
    PolicyOverride(category="sensitive_data", mode="redact"),
    PolicyOverride(agent="skilld", category="dangerous_commands", mode="block"),
    PolicyOverride(agent="other", mode="block"),
)


class Place:
    """A screen, and what it told."""

    def __init__(self, *overrides: PolicyOverride, scan: ScanConfig | None = None, **policy: Any) -> None:
        self.stopped: list[Stopped] = []
        made = MonitorConfig(policy=MonitorPolicyConfig(overrides=overrides, **policy), scan=scan or ScanConfig())
        self.screen = SessionScreen(RuleBook(), lambda: made, self.stopped.append)

    def message(self, text: str) -> str:
        return run(self.screen.message, 7, "ses_a", text)

    def call(self, **given: Any) -> Any:
        return run(self.screen.call, 7, "ses_a", "bash_tool", given)


def test_where_nothing_acts_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it looked")

    monkeypatch.setattr(RuleSet, "scan", fail)
    given = {"command": DANGER}
    for place in (Place(), Place(mode="alert"), Place(mode="block", scan=ScanConfig(enabled=False))):
        assert place.message(f"{DANGER} {KEY}") == f"{DANGER} {KEY}"
        assert run(place.screen.call, 7, "ses_a", "bash_tool", given) is given
        assert place.stopped == []


def test_what_is_redacted_goes_on_without_it() -> None:
    place = Place(*SPLIT)
    assert place.message("an ordinary question") == "an ordinary question"
    shown = place.message(f"the key is {KEY}, thanks")
    assert KEY not in shown
    assert shown.startswith("the key is ")
    assert shown.endswith(", thanks")
    given = place.call(command=f"aws {KEY}", deep=[{"x": KEY}], n=1)
    assert KEY not in repr(given)
    assert (given["n"], given["command"][:4]) == (1, "aws ")
    assert [(one.what, one.action, one.dry_run, one.uid) for one in place.stopped] == [
        ("message", "redact", False, 7),
        ("bash_tool", "redact", False, 7),
    ]


def test_what_is_blocked_names_the_rule_and_never_the_text() -> None:
    place = Place(*SPLIT)
    with pytest.raises(Refused) as refused:
        place.message(f"{DANGER} {KEY}")
    assert (refused.value.code, refused.value.details["reason"]) == ("policy_denied", "blocked")
    assert refused.value.details["category"] == "dangerous_commands"
    assert refused.value.details["rule"] in refused.value.message
    assert "rm -rf" not in repr(refused.value.to_dict())
    blocked = place.call(command=DANGER)
    assert isinstance(blocked, Blocked)
    assert "rm -rf" not in blocked.reason
    assert KEY not in repr([finding.sample for one in place.stopped for finding in one.findings])


def test_in_a_dry_run_nothing_is_changed_and_everything_is_told() -> None:
    place = Place(*SPLIT, dry_run=True)
    assert place.message(f"{DANGER} {KEY}") == f"{DANGER} {KEY}"
    assert place.call(command=DANGER) == {"command": DANGER}
    assert [(one.action, one.dry_run) for one in place.stopped] == [("block", True), ("block", True)]


def test_what_cannot_be_looked_into_goes_on_or_not_as_the_policy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(RuleSet, "scan", fail)
    open_one, closed = Place(mode="block"), Place(mode="block", fail="closed")
    assert open_one.message("x" * 10) == "x" * 10
    assert open_one.call(command="x" * 10) == {"command": "x" * 10}
    with pytest.raises(Refused, match=r"monitor\.policy\.fail is closed"):
        closed.message("x" * 10)
    assert isinstance(closed.call(command="x" * 10), Blocked)


def test_long_texts_are_looked_into_off_the_loop() -> None:
    place = Place(*SPLIT)

    async def main() -> str:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await trio.lowlevel.checkpoint()
                beats += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            shown = await place.screen.message(7, "ses_a", "a word and another. " * 20_000 + KEY)
            nursery.cancel_scope.cancel()
        assert beats > 10, "others went on"
        return shown

    assert KEY not in run(main)
