"""Which requests the audit log is told of, and that nothing of what was said is in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from http_kit import Served, serving
from skilld.config import RoleConfig, RolesConfig
from support import run

CANARY = "canary-in-the-mine"


async def noted(served: Served, count: int) -> list[tuple[str, Mapping[str, Any]]]:
    """What the audit log was told, once it is so much: it is told behind the answers."""
    with trio.fail_after(20):
        while len(served.audited) < count:  # noqa: ASYNC110
            await trio.sleep(0.001)
    return served.audited


def test_what_changes_something_is_noted_with_ids_and_hashes_and_without_content(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session(title=CANARY)
            raw = json.dumps({"text": CANARY}).encode()
            sent = await served.http.post(
                f"/v1/sessions/{session}/messages", content=raw, headers={"content-type": "application/json"}
            )
            assert sent.status_code == 202
            await served.http.get(f"/v1/sessions/{session}")
            await served.http.put(f"/v1/sessions/{session}/files/{CANARY}.txt", content=CANARY.encode())
            entries = [facts for what, facts in await noted(served, 3) if what == "request"]
            made, said, put = entries
            assert (made["route"], made["made"], made["status"]) == ("/v1/sessions", session, 201)
            assert said["params"] == {"id": session}
            assert said["body"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            assert (said["uid"], said["method"], said["status"]) == (os.getuid(), "POST", 202)
            assert put["route"] == "/v1/sessions/{id}/files/{name}"
            assert put["params"]["id"] == session
            assert CANARY not in json.dumps(entries)

    run(main)


def test_what_was_refused_for_want_of_a_right_is_noted_also_if_it_only_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = RolesConfig(read=RoleConfig(uids=(12345,)))
    monkeypatch.setattr("skilld.http.server.read_peer", lambda _sock, _unknown: _peer(54321))

    async def main() -> None:
        async with serving(tmp_path, roles=roles, own_uid=1) as served:
            assert (await served.http.get("/v1/sessions")).status_code == 403
            assert (await served.http.delete("/v1/sessions/ses_" + "a" * 26)).status_code == 403
            assert [(facts["method"], facts["code"], facts["uid"]) for _, facts in await noted(served, 2)] == [
                ("GET", "forbidden", 54321),
                ("DELETE", "forbidden", 54321),
            ]

    run(main)


def _peer(uid: int) -> Any:
    from skilld.http.peer import Peer

    return Peer(uid=uid, gid=uid, pid=1)


def test_refusals_of_other_kinds_carry_their_code(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            await served.http.post("/v1/sessions", json={"title": 3})
            await served.http.post("/v1/sessions", content=b"\xff", headers={"content-type": "application/json"})
            await served.http.delete("/v1/sessions/ses_" + "a" * 26)
            assert [facts["code"] for _, facts in await noted(served, 3)] == ["bad_request", "bad_request", "not_found"]

    run(main)
