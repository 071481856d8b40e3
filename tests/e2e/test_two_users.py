"""Two real users of one daemon: a conversation of the first does not exist for the second, on any path."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, running, write_skill
from e2e.users_kit import ask_as, folder_for_all

pytestmark = pytest.mark.e2e

OTHER = 54_321
SOON_S = 60.0
CONFIG = f"[roles.send]\nuids = [{OTHER}]\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    require(os.geteuid() == 0, "needs root to be two users")
    with folder_for_all("skilld-two-users-") as folder:
        write_skill(folder / "skills", "hello", "print('hello')\n")
        with running(folder, skills=[folder / "skills"], config=CONFIG) as daemon:
            yield daemon


def requests_on(session: str, turn: str, document: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """One for every operation that names a conversation or a turn, with a body that would be taken."""
    bodies = {"/messages": '{"text": "/hello"}', "/fork": "{}", "/reset": "{}", "/cancel": "{}"}
    made = []
    for path, operations in document["paths"].items():
        if not path.startswith(("/v1/sessions/{id}", "/v1/turns/{id}")):
            continue
        one = turn if path.startswith("/v1/turns") else session
        real = path.replace("{id}", one).replace("{path}", "a.txt").replace("{name}", "a.txt")
        for method in operations:
            body = bodies.get(path.rpartition("}")[2])
            made.append((method.upper(), real, None if method in ("get", "delete") else body or '{"title": "x"}'))
    return made


def test_a_conversation_of_somebody_else_does_not_exist(daemon: Daemon) -> None:
    session = daemon.create(title="of the first")
    turn = daemon.ask(session, "/hello")["turn"]
    before = daemon.events(session)
    with daemon.http() as http:
        requests = requests_on(session, turn, http.get("/v1/openapi.json").json())
    assert len(requests) > 12
    listed, *answers = ask_as(OTHER, daemon, ("GET", "/v1/sessions", None), *requests)
    assert listed == (200, {"items": [], "next": None})
    told = {(method, path): (status, body) for (method, path, _), (status, body) in zip(requests, answers, strict=True)}
    seen = {where: answer for where, answer in told.items() if answer[0] not in (400, 404)}
    assert seen == {}
    for where, (status, body) in told.items():
        assert "of the first" not in json.dumps(body), where
        if status == 400:  # a body that is not right is named before anybody looks for the conversation
            assert session not in json.dumps(body), where
    assert sum(status == 404 for status, _ in told.values()) >= len(told) - 3
    assert daemon.events(session) == before


def test_each_has_conversations_of_its_own_and_only_an_admin_sees_both(daemon: Daemon) -> None:
    ((status, made),) = ask_as(OTHER, daemon, ("POST", "/v1/sessions", '{"title": "of the second"}'))
    assert status == 201
    path = f"/v1/sessions/{made['id']}/messages"
    ((status, accepted),) = ask_as(OTHER, daemon, ("POST", path, '{"text": "/hello"}'))
    assert status == 202
    assert daemon.wait(accepted["turn"])["result"]["text"] == "hello"
    ((_, listed),) = ask_as(OTHER, daemon, ("GET", "/v1/sessions", None))
    assert [item["title"] for item in listed["items"]] == ["of the second"]
    with daemon.http() as http:  # root is an admin
        assert made["id"] in {item["id"] for item in http.get("/v1/sessions").json()["items"]}


def test_what_needs_another_role_is_refused_and_noted(daemon: Daemon) -> None:
    asked = [
        ("POST", "/v1/shutdown", None),
        ("POST", "/v1/config/reload", None),
        ("GET", "/v1/backup", None),
        ("POST", "/v1/skills/reload", None),
    ]
    assert [status for status, _ in ask_as(OTHER, daemon, *asked)] == [403] * 4
    deadline = time.monotonic() + SOON_S  # it is written beside the answers
    noted = refusals(daemon)
    while not {entry["route"] for entry in noted} >= {path for _, path, _ in asked}:
        assert time.monotonic() < deadline, noted
        time.sleep(0.02)
        noted = refusals(daemon)
    assert {entry["code"] for entry in noted} == {"forbidden"}


def refusals(daemon: Daemon) -> list[dict[str, Any]]:
    """Of the second user, by the audit log."""
    return [entry for entry in daemon.audited() if entry.get("uid") == OTHER and entry.get("status") == 403]
