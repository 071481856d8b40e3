"""The interface through httpx: every route once, and what holds for all of them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from http_kit import VERSION, serving, wait_until
from skill_actors.errors import ERROR_CODES, Refused
from skill_actors.ids import new_id
from skilld.config import RoleConfig, RolesConfig
from skilld.http.app import build_routes
from support import run


def test_every_route_states_its_permission_and_says_what_it_does() -> None:
    for route in build_routes():
        assert route.permission in ("any", "read", "send", "approve", "admin")
        assert route.summary.endswith(".")
        assert route.method == "GET" or route.permission != "any", f"{route.path} changes something for anybody"


def test_routes_are_sorted_and_unique() -> None:
    keys = [(route.path, route.method) for route in build_routes()]
    assert keys == sorted(set(keys))


def test_what_is_served_is_exactly_this() -> None:
    assert {f"{route.method} {route.path}" for route in build_routes()} == {
        "DELETE /mcp",
        "GET /mcp",
        "GET /metrics",
        "POST /mcp",
        "GET /v1/budgets",
        "POST /v1/budgets",
        "DELETE /v1/budgets/{name:path}",
        "GET /v1/usage",
        "GET /v1/approvals",
        "GET /v1/approvals/events",
        "GET /v1/approvals/{id}",
        "POST /v1/approvals/{id}",
        "DELETE /v1/approvals/{id}",
        "GET /v1/backends",
        "GET /v1/backup",
        "GET /v1/mcp/servers",
        "GET /v1/health/live",
        "GET /v1/health/ready",
        "GET /v1/health/started",
        "GET /v1/monitor/alerts",
        "GET /v1/monitor/alerts/{id}",
        "POST /v1/monitor/alerts/{id}/ack",
        "POST /v1/monitor/cleanup",
        "GET /v1/monitor/events",
        "POST /v1/monitor/optimize",
        "GET /v1/monitor/quarantine",
        "GET /v1/monitor/sessions",
        "GET /v1/monitor/sinks",
        "GET /v1/monitor/sources",
        "GET /v1/monitor/rules",
        "GET /v1/monitor/stats",
        "GET /v1/monitor/store",
        "GET /v1/monitor/traces/{id}",
        "GET /v1/openapi.json",
        "GET /v1/workshop/agents",
        "GET /v1/workshop/budget",
        "PATCH /v1/workshop/budget",
        "POST /v1/workshop/budget/reset",
        "GET /v1/workshop/setup",
        "POST /v1/workshop/setup",
        "GET /v1/workshop/status",
        "POST /v1/workshop/workflows/{name}/reset",
        "PUT /v1/workshop/agents/{name}",
        "GET /v1/workshop/agents/{name}",
        "DELETE /v1/workshop/agents/{name}",
        "POST /v1/workshop/agents/{name}/reset",
        "POST /v1/workshop/agents/{name}/revive",
        "GET /v1/workshop/agents/{name}/history",
        "GET /v1/workshop/agents/{name}/git",
        "GET /v1/workshop/agents/{name}/git/diff",
        "POST /v1/workshop/agents/{name}/worktree/merge",
        "DELETE /v1/workshop/agents/{name}/worktree",
        "GET /v1/workshop/worktrees",
        "GET /v1/workshop/cost",
        "GET /v1/workshop/config",
        "PATCH /v1/workshop/config",
        "GET /v1/workshop/profiles",
        "PUT /v1/workshop/profiles/{name}",
        "GET /v1/workshop/profiles/{name}",
        "DELETE /v1/workshop/profiles/{name}",
        "POST /v1/workshop/ask",
        "POST /v1/workshop/cast",
        "POST /v1/workshop/await",
        "POST /v1/workshop/pipe",
        "POST /v1/workshop/fan",
        "GET /v1/workshop/events",
        "POST /v1/workshop/events",
        "POST /v1/workshop/board/items",
        "GET /v1/workshop/board/items",
        "GET /v1/workshop/board/summary",
        "GET /v1/workshop/board/items/{id}",
        "PATCH /v1/workshop/board/items/{id}",
        "DELETE /v1/workshop/board/items/{id}",
        "POST /v1/workshop/board/items/{id}/cancel",
        "POST /v1/workshop/board/items/{id}/retry",
        "POST /v1/workshop/board/claim",
        "POST /v1/workshop/board/items/{id}/claim",
        "POST /v1/workshop/board/items/{id}/start",
        "POST /v1/workshop/board/items/{id}/heartbeat",
        "POST /v1/workshop/board/items/{id}/complete",
        "POST /v1/workshop/board/items/{id}/fail",
        "POST /v1/workshop/board/items/{id}/release",
        "GET /v1/workshop/schedules",
        "GET /v1/workshop/schedules/{name}",
        "PUT /v1/workshop/schedules/{name}",
        "POST /v1/workshop/schedules/{name}/enable",
        "POST /v1/workshop/schedules/{name}/disable",
        "POST /v1/workshop/schedules/{name}/run",
        "DELETE /v1/workshop/schedules/{name}",
        "POST /v1/workshop/board/workers",
        "GET /v1/workshop/board/workers",
        "GET /v1/workshop/board/workers/{name}",
        "DELETE /v1/workshop/board/workers/{name}",
        "GET /v1/workshop/workflows",
        "GET /v1/workshop/workflows/{name}",
        "PUT /v1/workshop/workflows/{name}",
        "DELETE /v1/workshop/workflows/{name}",
        "POST /v1/workshop/workflows/{name}/run",
        "GET /v1/workshop/runs",
        "GET /v1/workshop/runs/{id}",
        "POST /v1/workshop/runs/{id}/cancel",
        "GET /v1/workshop/store",
        "GET /v1/workshop/store/{namespace}",
        "DELETE /v1/workshop/store/{namespace}",
        "GET /v1/workshop/store/{namespace}/{key:path}",
        "PUT /v1/workshop/store/{namespace}/{key:path}",
        "DELETE /v1/workshop/store/{namespace}/{key:path}",
        "GET /v1/prices",
        "GET /v1/sessions",
        "GET /v1/sessions/{id}",
        "GET /v1/sessions/{id}/events",
        "GET /v1/sessions/{id}/files",
        "GET /v1/sessions/{id}/stored-files/{name:path}",
        "POST /v1/sessions/{id}/stored-files/fetch",
        "DELETE /v1/sessions/{id}/stored-files",
        "GET /v1/sessions/{id}/files/{name:path}",
        "PUT /v1/sessions/{id}/files/{name:path}",
        "DELETE /v1/sessions/{id}/files/{name:path}",
        "GET /v1/skills",
        "GET /v1/skills/{name}",
        "GET /v1/skill-changes",
        "POST /v1/skills",
        "DELETE /v1/skills/{name}",
        "POST /v1/skills/{name}/approve",
        "DELETE /v1/skills/{name}/approve",
        "GET /v1/status",
        "GET /v1/tree",
        "GET /v1/turns/{id}",
        "GET /v1/version",
        "PATCH /v1/sessions/{id}",
        "DELETE /v1/sessions/{id}",
        "POST /v1/sessions",
        "GET /v1/sessions/{id}/export",
        "POST /v1/sessions/import",
        "POST /v1/sessions/{id}/cancel",
        "POST /v1/sessions/{id}/compact",
        "POST /v1/sessions/{id}/fork",
        "POST /v1/sessions/{id}/hand-over",
        "POST /v1/sessions/{id}/pause",
        "POST /v1/sessions/{id}/reset",
        "POST /v1/sessions/{id}/resume",
        "POST /v1/sessions/{id}/steer",
        "GET /v1/sessions/{id}/skills",
        "POST /v1/sessions/{id}/messages",
        "POST /v1/config/reload",
        "POST /v1/shutdown",
        "POST /v1/skills/reload",
        "POST /v1/skills/{name}/reload",
        "POST /v1/turns/{id}/cancel",
    }


def test_health_version_status_and_metrics_are_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            get = served.http.get
            assert (await get("/v1/version")).json() == {"version": VERSION, "api": "v1"}
            assert (await get("/v1/health/live")).status_code == 200
            assert (await get("/v1/health/started")).json() == {"status": "started"}
            assert (await get("/v1/health/ready")).json() == {"status": "ready", "parts": {}}
            served.degraded = {"docker": "the engine does not answer"}
            degraded = await get("/v1/health/ready")
            assert (degraded.status_code, degraded.json()["parts"]) == (200, served.degraded)
            served.ready = False
            away = await get("/v1/health/ready")
            assert (away.status_code, away.json()["status"]) == (503, "not_ready")
            assert away.json()["parts"] == {"sessions": "the daemon is stopping", **served.degraded}
            assert (await get("/v1/status")).json() == {"version": VERSION, "sessions_live": 0}
            metrics = await get("/metrics")
            assert metrics.text == "skilld_up 1\n"
            assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert (await get("/v1/backends")).json() == {"items": [{"name": "local"}], "next": None}
            assert (await get("/v1/prices")).json() == {"models": {}}

    run(main)


def test_every_answer_carries_the_version(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            for method, path in (("GET", "/v1/version"), ("GET", "/nowhere"), ("PUT", "/v1/version")):
                assert (await served.http.request(method, path)).headers["skilld-version"] == VERSION
            assert f"skilld-version: {VERSION}".encode() in await served.raw(b"nonsense\r\n\r\n")

    run(main)


def test_a_session_is_made_shown_listed_changed_and_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            http = served.http
            made = await http.post("/v1/sessions", json={"title": "a", "limits": {"iterations": 3}})
            assert made.status_code == 201
            path = made.headers["location"]
            assert made.json()["limits"] == {"iterations": 3}
            assert made.json()["owner_uid"] == 0
            assert (await http.get(path)).json()["title"] == "a"
            assert [item["title"] for item in (await http.get("/v1/sessions?limit=5")).json()["items"]] == ["a"]
            assert (await http.patch(path, json={"title": "b"})).json()["title"] == "b"
            assert (await http.patch(path, json={})).status_code == 400
            assert (await http.post(f"{path}/cancel")).json() == {"cancelled": []}
            assert (await http.post(f"{path}/cancel", json={"queued": True})).json() == {"cancelled": ["all"]}
            assert (await http.delete(path)).status_code == 204
            assert (await http.get(path)).status_code == 404

    run(main)


def test_a_session_needs_no_body_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            assert (await served.http.post("/v1/sessions")).status_code == 201

    run(main)


def test_a_message_is_accepted_with_its_files_and_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            body = {"text": "hi", "files": [{"name": "a.txt", "content_base64": base64.b64encode(b"abc").decode()}]}
            answer = await served.http.post(
                f"/v1/sessions/{session}/messages", json=body, headers={"idempotency-key": "k1"}
            )
            assert answer.status_code == 202
            assert answer.json()["status"] == "queued"
            assert answer.headers["location"] == f"/v1/turns/{answer.json()['turn']}"
            assert served.sessions.keys[-1] == "k1"
            assert served.sessions.files == [("a.txt", b"abc")]

    run(main)


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "\xe9"])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(tmp_path: Path, key: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            headers = {b"idempotency-key": key.encode("latin-1")}
            assert (await served.http.post("/v1/sessions", json={}, headers=headers)).status_code == 400
            assert served.sessions.sessions == {}

    run(main)


def test_turns_are_shown_awaited_and_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            turn = new_id("trn")
            assert (await served.http.get(f"/v1/turns/{turn}?wait=2.5")).json()["waited"] == 2.5
            assert (await served.http.post(f"/v1/turns/{turn}/cancel")).json() == {"cancelled": [turn]}
            for wait in ("-1", "601", "nan", "soon", "inf"):
                assert (await served.http.get(f"/v1/turns/{turn}?wait={wait}")).status_code == 400

    run(main)


def test_skills_are_listed_shown_and_reloaded(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            http = served.http
            listed = (await http.get("/v1/skills")).json()
            assert [item["name"] for item in listed["items"]] == ["echo"]
            assert listed["failures"][0]["diagnostics"][0]["code"] == "no_name"
            assert (await http.get("/v1/skills/echo")).json()["body"] == "B"
            assert (await http.get("/v1/skills/nope")).status_code == 404
            assert (await http.post("/v1/skills/reload")).json() == {"reloaded": 1}
            assert (await http.post("/v1/skills/echo/reload")).status_code == 200
            assert (await http.post("/v1/skills/broken/reload")).status_code == 200
            assert (await http.post("/v1/skills/nope/reload")).status_code == 404
            assert served.skills.reloaded == [None, "echo", "broken"]

    run(main)


def test_skills_are_pushed_and_removed_by_admins(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            http, zipped = served.http, {"content-type": "application/zip"}
            made = await http.post("/v1/skills", content=b"PK", headers=zipped)
            assert (made.status_code, made.json()) == (201, {"name": "tides", "replaced": False})
            assert (await http.post("/v1/skills", content=b"PK again", headers=zipped)).status_code == 200
            bad = await http.post("/v1/skills", content=b"no", headers=zipped)
            assert (bad.status_code, bad.json()["error"]["code"]) == (422, "invalid_skill_spec")
            assert (await http.delete("/v1/skills/tides")).json() == {"removed": ["tides"]}
            assert (await http.delete("/v1/skills/reload")).json() == {"removed": ["reload"]}  # a name as any other
            assert (await http.get("/v1/skills/reload")).status_code == 404
            assert (await http.put("/v1/skills/reload")).status_code == 405

    run(main)


def test_versions_of_skills_are_approved_by_admins(tmp_path: Path) -> None:
    digest = "0" * 64

    async def main() -> None:
        async with serving(tmp_path) as served:
            http, path = served.http, "/v1/skills/echo/approve"
            assert (await http.get("/v1/skills/echo")).json()["approved"] is None
            made = await http.post(path, json={"digest": digest})
            assert (made.status_code, made.json()["digest"]) == (200, digest)
            assert (await http.get("/v1/skills/echo")).json()["approved"] == digest
            assert (await http.post(path, json={"digest": "1" * 64})).status_code == 409
            for bad in ({}, {"digest": None}, {"digest": "0" * 63}, {"digest": "G" * 64}, {"digest": digest, "x": 1}):
                assert (await http.post(path, json=bad)).status_code == 400, bad
            assert (await http.post(path, content=b"")).status_code == 400
            assert (await http.delete(path)).json() == {"name": "echo", "digest": None, "before": digest}
            assert served.skills.approved == {}

    run(main)


@pytest.mark.parametrize("role", ["read", "send"])
def test_nobody_but_admins_approves(tmp_path: Path, role: str) -> None:
    """As root every peer here is an admin, so then the routes' permission is what is looked at."""
    roles = RolesConfig.model_validate({role: {"uids": (os.getuid(),)}})
    refused = 200 if os.getuid() == 0 else 403

    async def main() -> None:
        async with serving(tmp_path, roles=roles, own_uid=os.getuid()) as served:
            path = "/v1/skills/echo/approve"
            assert (await served.http.post(path, json={"digest": "0" * 64})).status_code == refused
            assert (await served.http.delete(path)).status_code == refused

    run(main)
    assert {route.permission for route in build_routes() if route.path.endswith("/approve")} == {"admin"}


def test_changes_of_skills_are_streamed_after_a_generation(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            http = served.http
            lines = (await http.get("/v1/skill-changes?after=1&follow=false")).text.splitlines()
            assert [json.loads(line)["seq"] for line in lines] == [2, 3]
            assert json.loads(lines[0])["data"] == {"live": False}
            headers = {"accept": "text/event-stream", "last-event-id": "2"}
            stream = (await http.get("/v1/skill-changes?after=1", headers=headers)).text
            assert stream.startswith("id: 3\nevent: skill.changed\ndata: ")
            for after in ("-1", "x", "1.5", "\u0663", "9" * 19):
                assert (await http.get("/v1/skill-changes", params={"after": after})).status_code == 400

    run(main)


def test_shutdown_is_passed_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            assert (await served.http.post("/v1/shutdown")).status_code == 202
            assert served.stopped == 1

    run(main)


def test_a_wrong_method_is_told_what_is_allowed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.put("/v1/sessions")
            assert answer.status_code == 405
            assert answer.headers["allow"] == "GET, HEAD, POST"
            assert answer.json()["error"]["code"] == "bad_request"

    run(main)


def test_head_has_the_headers_of_get_and_no_body(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            head = await served.http.head("/v1/version")
            assert head.headers["content-length"] == str(len((await served.http.get("/v1/version")).content))
            session = await served.session()
            stream = await served.http.head(f"/v1/sessions/{session}/events")
            assert stream.headers["content-type"] == "application/x-ndjson"
            await wait_until(lambda: served.sessions.followers == 0)

    run(main)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/approvals/apr_x",
        "/v1/trees",
        "/",
        "/v1/sessions/",
        "/v1/sessions/../status",
        "/v1/sessions/..%2f..%2fetc%2fpasswd",
        "/v1/sessions/ses_%00",
        "/v1/sessions/trn_aaaaaaaaaaaaaaaaaaaaaaaaaa",
        "/v1/skills/..%2f..%2fetc",
        "/v1/skills/..",
        "/v1/turns/%ff%fe",
    ],
)
def test_what_does_not_exist_is_not_found(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            raw = await served.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            assert raw.startswith(b"HTTP/1.1 404")
            assert b'"not_found"' in raw

    run(main)


def test_unknown_query_parameters_and_doubles_are_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            for query, word in (("limt=3", "limt"), ("limit=1&limit=2", "twice"), ("limit=0", "limit='0'")):
                answer = await served.http.get(f"/v1/sessions?{query}")
                assert answer.status_code == 400
                assert word in answer.json()["error"]["message"]

    run(main)


@pytest.mark.parametrize("code", sorted(ERROR_CODES))
def test_each_refusal_reaches_the_client_with_its_status(tmp_path: Path, code: str) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            served.sessions.failure = Refused(code, "no \udc80", details={"a": 1}, retry_after_s=0.2)
            answer = await served.http.post("/v1/sessions", json={})
            assert answer.status_code == ERROR_CODES[code][0]
            error = answer.json()["error"]
            assert (error["code"], error["retryable"], error["details"]) == (code, ERROR_CODES[code][1], {"a": 1})
            assert answer.headers["retry-after"] == "1"

    run(main)


def test_a_failure_answers_with_an_id_that_the_log_has_and_tells_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> dict[str, Any]:
        async with serving(tmp_path) as served:
            served.sessions.failure = RuntimeError("the password is hunter2")
            answer = await served.http.post("/v1/sessions", json={})
            assert answer.status_code == 500
            assert "hunter2" not in answer.text
            assert (await served.http.get("/v1/version")).status_code == 200
            error: dict[str, Any] = answer.json()["error"]
            return error

    error = run(main)
    assert error["details"]["id"] in caplog.text
    assert "hunter2" in caplog.text


def test_a_peer_without_a_role_sees_only_its_refusal(tmp_path: Path) -> None:
    """As root every peer here is root, so the check is made with the authority itself; see test_peer."""

    async def main() -> None:
        async with serving(tmp_path, roles=RolesConfig(read=RoleConfig(uids=(5,)))) as served:
            assert (await served.http.get("/v1/status")).status_code == 200

    run(main)


def test_openapi_describes_every_route_and_model(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            document = (await served.http.get("/v1/openapi.json")).json()
            for route in build_routes():
                assert route.method.lower() in document["paths"][route.path.replace(":path", "")]
            ids = [op["operationId"] for path in document["paths"].values() for op in path.values()]
            assert len(ids) == len(set(ids))
            referred = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
            assert referred <= set(document["components"]["schemas"])

    run(main)


def test_requests_are_told_to_the_bus_by_route_never_by_path(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[tuple[object, object, object]] = []
        async with serving(tmp_path) as served:
            served.bus.attach(
                "test", ["http.*"], lambda _n, _f, meta: seen.append((meta["route"], meta["method"], meta["status"]))
            )
            await served.http.get(f"/v1/sessions/{new_id('ses')}")
            await served.http.get("/favicon.ico")
            await served.http.request("BREW", "/v1/version")
        assert seen == [("/v1/sessions/{id}", "GET", 404), ("unknown", "GET", 404), ("/v1/version", "other", 405)]

    run(main)


def test_the_tree_is_asked_for_as_the_viewer_and_within_bounds(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            for query, most in (({}, 20), ({"children": "0"}, 0), ({"children": "1000"}, 1000)):
                answer = await served.http.get("/v1/tree", params=query)
                assert answer.json()["seen"] == [os.getuid(), True, most]
            for wrong in ("-1", "1001", "x", "nan"):
                answer = await served.http.get("/v1/tree", params={"children": wrong})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")

    run(main)


def test_a_reader_that_is_no_admin_is_not_one_for_the_tree_either(tmp_path: Path) -> None:
    role = RoleConfig(uids=(os.getuid(),))

    async def main() -> None:
        async with serving(tmp_path, roles=RolesConfig(read=role), own_uid=os.getuid()) as served:
            seen = (await served.http.get("/v1/tree")).json()["seen"]
            assert seen == [os.getuid(), os.getuid() == 0, 20]

    run(main)
