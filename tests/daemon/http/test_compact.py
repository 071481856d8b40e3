"""Asking over HTTP that a conversation is made shorter."""

from __future__ import annotations

from pathlib import Path

from http_kit import serving
from skilld.config import RolesConfig
from support import run


def test_it_is_a_turn_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            headers = {"idempotency-key": "k9"}
            answer = await served.http.post(f"/v1/sessions/{session}/compact", headers=headers)
            assert (answer.status_code, answer.json()["status"]) == (202, "queued")
            assert answer.headers["location"] == f"/v1/turns/{answer.json()['turn']}"
            assert served.sessions.keys[-1] == "k9"
            assert served.sessions.asked[-1] == ("submit", "follow_up", None, None, False, True)

    run(main)


def test_who_may_not_send_may_not_compact_and_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, own_uid=4242, roles=RolesConfig()) as served:
            answer = await served.http.post("/v1/sessions/ses_aaaaaaaaaaaaaaaaaaaaaaaaaa/compact")
            assert answer.status_code == 404

    run(main)
