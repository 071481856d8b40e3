"""Steering, pausing and a message's own options over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from http_kit import serving
from skilld.config import RolesConfig
from skilld.http.peer import Peer
from support import run


def test_a_message_to_the_running_turn_is_accepted_and_told_what_became_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            headers = {"idempotency-key": "k9"}
            answer = await served.http.post(f"/v1/sessions/{session}/steer", json={"text": "more"}, headers=headers)
            assert (answer.status_code, answer.json()["status"]) == (202, "steered")
            assert answer.headers["location"] == f"/v1/turns/{answer.json()['turn']}"
            assert served.sessions.keys[-1] == "k9"
            assert served.sessions.asked[-1] == ("submit", "steer", None, None, False, False)

    run(main)


def test_a_session_is_paused_and_resumed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            for verb, status in (("pause", "paused"), ("resume", "idle")):
                answer = await served.http.post(f"/v1/sessions/{session}/{verb}")
                assert (answer.status_code, answer.json()["status"]) == (200, status)

    run(main)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({}, ("submit", "follow_up", None, None, False, False)),
        ({"mode": "interrupt", "pinned": True}, ("submit", "interrupt", None, None, True, False)),
        ({"schema": None}, ("submit", "follow_up", None, False, False, False)),
        ({"schema": {"type": "object"}}, ("submit", "follow_up", None, {"type": "object"}, False, False)),
        (
            {"options": {"model": "m", "effort": "low", "max_tokens": 9, "tools": []}},
            (
                "submit",
                "follow_up",
                {"model": "m", "effort": "low", "max_tokens": 9, "tools": []},
                None,
                False,
                False,
            ),
        ),
    ],
)
def test_what_a_message_asks_for_is_passed_on(tmp_path: Path, body: dict[str, Any], asked: tuple[Any, ...]) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            answer = await served.http.post(f"/v1/sessions/{session}/messages", json={"text": "hi", **body})
            assert answer.status_code == 202
            assert served.sessions.asked[-1] == asked

    run(main)


@pytest.mark.parametrize(
    "body",
    [
        {"mode": "shout"},
        {"options": {"effort": "enormous"}},
        {"options": {"max_tokens": 0}},
        {"options": {"max_tokens": "9"}},
        {"options": {"temperature": 1}},
        {"options": {"tools": "bash_tool"}},
        {"options": {"model": ""}},
        {"pinned": "yes"},
        {"compact": True},
    ],
)
def test_what_it_cannot_ask_for_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            answer = await served.http.post(f"/v1/sessions/{session}/messages", json={"text": "hi", **body})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
            assert served.sessions.asked == []

    run(main)


def test_a_schema_for_all_messages_is_a_setting_of_the_session(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.post("/v1/sessions", json={"schema": {"type": "object"}})
            assert (answer.status_code, answer.json()["schema"]) == (201, {"type": "object"})

    run(main)


def test_reading_alone_neither_steers_nor_pauses(tmp_path: Path) -> None:
    async def main() -> None:
        roles = RolesConfig.model_validate({"read": {"uids": (4242,)}})
        async with serving(tmp_path, roles=roles, peer=Peer(uid=4242, gid=4242, pid=1)) as served:
            session = "ses_" + "a" * 26
            for verb, body in (("steer", {"text": "x"}), ("pause", None), ("resume", None)):
                answer = await served.http.post(f"/v1/sessions/{session}/{verb}", json=body)
                assert answer.status_code == 403

    run(main)
