"""The page about approvals, against the program."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skill_actors.sessions.approvals import ApprovalRequest, DeskLimits, NamedFile
from skill_actors.sessions.approvals.views import view_of
from skill_actors.store.base import ApprovalRecord
from skilld.cli.approval_card import card_of
from skilld.config import Config

PAGE = (Path(__file__).parents[2] / "docs/approvals.md").read_text()


def real() -> dict[str, Any]:
    request = ApprovalRequest(
        session="ses_1",
        turn="trn_1",
        call="toolu_01",
        tool="bash_tool",
        place="local",
        backend="local",
        input={"command": "sh run.sh"},
        files=(NamedFile(path="run.sh", sha256="0" * 64),),
    )
    record = ApprovalRecord(
        id="apr_1",
        session="ses_1",
        turn="trn_1",
        call="toolu_01",
        owner_uid=1000,
        status="pending",
        created="",
        expires="",
        updated="",
        request=request.to_dict(),
    )
    return view_of(record)


def shown() -> dict[str, Any]:
    (block,) = re.findall(r"^```json approval\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    value: dict[str, Any] = json.loads(block)
    return value


def test_the_approval_shown_has_the_fields_of_a_real_one_and_each_is_explained_or_plain() -> None:
    assert list(shown()) == list(real())
    assert list(shown()["files"][0]) == list(real()["files"][0])
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE.partition("## As JSON")[2], re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    plain = {"id", "session", "turn", "call", "owner_uid", "tool", "place", "backend", "input"}
    assert explained | plain == set(shown())


def test_the_bounds_are_those_of_the_program() -> None:
    limits = DeskLimits()
    assert f"{limits.session} calls may wait in one session and {limits.total:,} in all" in PAGE
    assert Config().policy.approval_timeout_s == 3600.0
    assert "`policy.approval_timeout_s` (an hour)" in PAGE


def test_the_card_shown_has_the_rows_of_a_real_one() -> None:
    (block,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    labels = [line[2:14].strip() for line in block.splitlines()[1:]]
    view = {**real(), "skill": {"name": "echo", "digest": "0"}, "cwd": "/srv", "argv": ["sh"], "environment": ["PATH"]}
    view["input"] = {"command": "sh run.sh", "description": "Run it"}
    lines = card_of(view, datetime.now(UTC)).lines
    assert [line[2:14].strip() for line in lines[1:]] == labels
