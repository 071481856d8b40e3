"""The policy acts on the daemon's own conversations before a message is taken in and before a tool runs."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.sessions.screening import Blocked
from skilld.config import MonitorConfig, MonitorPolicyConfig, PolicyOverride, ScanConfig
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.file_text import MAX_FILE_BYTES, MAX_MESSAGE_BYTES
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

    def files(self, *contents: bytes) -> list[bytes]:
        files = [(f"{place}.bin", content) for place, content in enumerate(contents)]
        shown = run(self.screen.files, 7, "ses_a", files)
        assert [name for name, _ in shown] == [name for name, _ in files]
        if [content for _, content in shown] == list(contents):
            assert shown is files
        return [content for _, content in shown]

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
        assert place.files(KEY.encode()) == [KEY.encode()]
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_a_file_that_is_text_is_redacted_where_it_stands_and_the_rest_of_it_kept(encoding: str) -> None:
    place = Place(*SPLIT)
    before, after = "größe=7\r\nkey = ", "\r\n\tend of it"
    (shown,) = place.files(f"{before}{KEY}{after}".encode(encoding))
    text = shown.decode(encoding)
    assert KEY not in text
    assert text.startswith(before)
    assert text.endswith(after)
    assert shown[:2] == f"{before}{KEY}".encode(encoding)[:2], "its mark is there still"
    assert [(one.what, one.action) for one in place.stopped] == [("file", "redact")]


def test_files_that_are_no_text_or_have_nothing_in_them_are_as_they_came() -> None:
    place = Place(*SPLIT)
    files = [b"", b"plain", f"\0{KEY}".encode(), f"\x01{KEY}".encode(), b"\xff\xfe\x00\xd8" + KEY.encode()]
    assert place.files(*files) == files
    changed = place.files(*files, KEY.encode())
    assert changed[:-1] == files
    assert changed[-1] != KEY.encode()


def test_a_message_is_refused_for_what_is_in_its_file_by_its_number_and_not_its_words() -> None:
    place = Place(*SPLIT)
    with pytest.raises(Refused, match="blocks file 2 of this message") as refused:
        place.files(b"fine", DANGER.encode())
    assert (refused.value.code, refused.value.details["reason"]) == ("policy_denied", "blocked")
    assert "rm -rf" not in repr(refused.value.to_dict())
    assert [(one.what, one.action, one.session) for one in place.stopped] == [("file", "block", "ses_a")]
    dry = Place(*SPLIT, dry_run=True)
    assert dry.files(DANGER.encode(), KEY.encode()) == [DANGER.encode(), KEY.encode()]
    assert [(one.action, one.dry_run) for one in dry.stopped] == [("block", True), ("redact", True)]


def test_of_a_large_file_the_beginning_is_looked_into_and_a_closed_policy_refuses_the_rest() -> None:
    filler = b"a line of text\n" * (MAX_FILE_BYTES // 15 + 1)
    large = KEY.encode() + b"\n" + filler + "ü".encode() * 10 + b"\0binary from here " + KEY.encode()
    (shown,) = Place(*SPLIT).files(large)
    assert shown[:4] == b"AKIA"
    assert KEY.encode() not in shown[:100]
    assert shown[100:].endswith(large[-10_000:]), "what is behind is as it was"
    split = b"x" * (MAX_FILE_BYTES - 1) + "ü".encode()
    assert Place(*SPLIT).files(split) == [split], "a character across the bound is no reason to call it no text"
    with pytest.raises(Refused, match=r"file 1 of this message is larger .* monitor\.policy\.fail is closed"):
        Place(*SPLIT, fail="closed").files(large)
    many = [filler[:MAX_FILE_BYTES]] * (MAX_MESSAGE_BYTES // MAX_FILE_BYTES)
    assert Place(*SPLIT).files(*many, DANGER.encode())[-1] == DANGER.encode(), "all together have a bound too"
    with pytest.raises(Refused, match="file 9 of"):
        Place(*SPLIT, fail="closed").files(*many, DANGER.encode())


def test_a_file_that_cannot_be_looked_into_or_redacted_goes_on_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(RuleSet, "mask_text", lambda *_: ("\u20ac", []))
        with pytest.raises(Refused, match="file 1 of this message has to be redacted"):
            Place(*SPLIT).files(b"caf\xe9")

    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(RuleSet, "scan", fail)
    assert Place(mode="block").files(b"x") == [b"x"]
    with pytest.raises(Refused, match=r"cannot be looked into, and monitor\.policy\.fail is closed"):
        Place(mode="block", fail="closed").files(b"x")
