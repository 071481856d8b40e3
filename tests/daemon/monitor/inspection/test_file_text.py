"""Files that begin with a mark are text whatever is behind it, and what cannot be read of one is told apart."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from skill_actors.errors import Refused
from skilld.config import MonitorConfig, MonitorPolicyConfig, PolicyOverride, ScanConfig
from skilld.monitor.inspection.attached import texts_in
from skilld.monitor.inspection.book import RuleBook
from skilld.monitor.inspection.file_text import MAX_FILE_BYTES, MAX_MESSAGE_BYTES, text_of, texts_of
from skilld.monitor.inspection.screen import SessionScreen
from support import run

KEY = "AKIA" + "QWERTYUIOPASDFGH"  # well-formed, and nobody's
DANGER = "please rm -rf / now\n"
BEYOND = b"\xff\xff\xff\xff"  # in UTF-32: no letter's number

BROKEN = {
    "utf-8": codecs.BOM_UTF8 + f"{DANGER}{KEY}\n".encode() + b"caf\xe9\n",
    "utf-16-le": codecs.BOM_UTF16_LE + f"{DANGER}{KEY}\n\ud83dx".encode("utf-16-le", "surrogatepass"),
    "utf-16-be": codecs.BOM_UTF16_BE + f"\ude00{DANGER}{KEY}\n".encode("utf-16-be", "surrogatepass"),
    "utf-32-le": codecs.BOM_UTF32_LE + f"{DANGER}{KEY}\n\ud83d\ude00".encode("utf-32-le", "surrogatepass"),
    "utf-32-be": codecs.BOM_UTF32_BE + f"{DANGER}\udc00{KEY}\n".encode("utf-32-be", "surrogatepass"),
}
CUT = {
    "utf-16-le": codecs.BOM_UTF16_LE + DANGER.encode("utf-16-le") + b"x",
    "utf-16-be": codecs.BOM_UTF16_BE + DANGER.encode("utf-16-be") + b"\xd8\x00",
    "utf-32-le": codecs.BOM_UTF32_LE + DANGER.encode("utf-32-le") + BEYOND + DANGER.encode("utf-32-le"),
    "utf-32-be": codecs.BOM_UTF32_BE + DANGER.encode("utf-32-be") + b"\x00\x00\x00",
}


def screened(content: bytes, mode: str, fail: str = "open") -> bytes:
    policy = MonitorPolicyConfig.model_validate({"mode": "observe", "fail": fail, "overrides": overrides(mode)})
    config = MonitorConfig(policy=policy, scan=ScanConfig())
    screen = SessionScreen(RuleBook(), lambda: config, lambda _: None)
    ((_, shown),) = run(screen.files, 7, "ses_a", [("a.txt", content)])
    return shown


def overrides(mode: str) -> tuple[PolicyOverride, ...]:
    category = {"block": "dangerous_commands", "redact": "sensitive_data"}[mode]
    return (PolicyOverride.model_validate({"category": category, "mode": mode}),)


@pytest.mark.parametrize("encoding", BROKEN)
def test_what_is_broken_behind_a_mark_hides_nothing_and_stays_as_it_is(encoding: str) -> None:
    content = BROKEN[encoding]
    with pytest.raises(Refused, match="blocks file 1 of this message"):
        screened(content, "block")
    shown = screened(content, "redact", "closed")
    before, key, behind = content.partition(KEY.encode(encoding))
    assert key
    assert shown.startswith(before)
    assert shown.endswith(behind)
    assert key not in shown


@pytest.mark.parametrize("content", [*CUT.values(), codecs.BOM_UTF32_LE + BEYOND])
def test_a_closed_policy_refuses_a_file_that_cannot_be_read_to_its_end(content: bytes) -> None:
    with pytest.raises(Refused, match=r"cannot be read to its end.* monitor\.policy\.fail is closed"):
        screened(content, "block", "closed")
    found = text_of(content)
    assert found is not None
    assert found.with_text(found.text) == content
    assert found.rest


@pytest.mark.parametrize("content", CUT.values(), ids=list(CUT))
def test_what_can_be_read_of_such_a_file_is_looked_into(content: bytes) -> None:
    with pytest.raises(Refused, match="blocks file 1 of this message"):
        screened(content, "block")


def test_the_follower_reads_them_in_the_same_way(tmp_path: Path) -> None:
    files = [*BROKEN.values(), *CUT.values()]
    for number, content in enumerate(files):
        (tmp_path / str(number)).write_bytes(content)
    texts = [text for _, text in texts_in(tmp_path, [str(number) for number in range(len(files))])]
    assert [DANGER in text for text in texts] == [True] * len(files)


def test_a_mark_does_not_lead_beyond_the_bound_of_all_files_together(tmp_path: Path) -> None:
    full, marked, last = b"x" * MAX_FILE_BYTES, codecs.BOM_UTF8 + b"y", DANGER.encode()
    files = [*[full] * (MAX_MESSAGE_BYTES // MAX_FILE_BYTES), marked, last]
    texts = list(texts_of([("a", content) for content in files]))
    assert [len(found.text) for found in texts[-2:] if found is not None] == [0, 0]
    assert [found.rest for found in texts[-2:] if found is not None] == [b"y", last]
    for number, content in enumerate(files):
        (tmp_path / str(number)).write_bytes(content)
    read = [text for _, text in texts_in(tmp_path, [str(number) for number in range(len(files))])]
    assert read[-2:] == ["", ""]
