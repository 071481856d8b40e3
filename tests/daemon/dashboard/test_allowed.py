"""The list of what is passed on, held to the daemon's own table of routes; and how a call is taken apart."""

from __future__ import annotations

import re

import pytest

from skill_actors.errors import Refused
from skilld.dashboard.allowed import ALLOWED, Allowed, checked_fields, find, target_of
from skilld.http.app import build_routes
from skilld.http.route import Route

ROUTES: dict[tuple[str, str], Route] = {
    (route.method, re.sub(r"\{\w+\}", "{}", route.path)): route for route in build_routes()
}
EVENTS = find("GET", "/v1/workshop/events")


@pytest.mark.parametrize("allowed", ALLOWED, ids=lambda allowed: f"{allowed.method} {allowed.path}")
def test_what_is_passed_on_is_a_call_of_the_daemon(allowed: Allowed) -> None:
    route = ROUTES[allowed.method, allowed.path]
    assert set(allowed.query) <= {each.name for each in route.parameters if each.where == "query"}
    assert allowed.stream is ("text/event-stream" in route.media)
    if allowed.fields is not None and route.body is not None and route.body.model_config.get("extra") == "forbid":
        names = {field.alias or name for name, field in route.body.model_fields.items()}
        assert set(allowed.fields) <= names


def test_nothing_that_only_an_admin_may_do_is_on_the_list() -> None:
    permissions = {ROUTES[allowed.method, allowed.path].permission for allowed in ALLOWED}
    assert permissions == {"read", "send", "approve"}


def test_what_changes_anything_is_said_to() -> None:
    assert {allowed.writes for allowed in ALLOWED if allowed.method == "GET"} == {False}
    assert {allowed.writes for allowed in ALLOWED if allowed.method != "GET"} == {True}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/shutdown"),
        ("GET", "/v1/backup"),
        ("POST", "/v1/config/reload"),
        ("DELETE", "/v1/workshop/agents/a"),
        ("PUT", "/v1/workshop/agents/a"),
        ("POST", "/v1/budgets"),
        ("POST", "/v1/sessions"),
        ("HEAD", "/v1/status"),
        ("GET", "/v1/status/"),
        ("GET", "//v1/status"),
        ("GET", "/v1/sessions/.."),
        ("GET", "/v1/sessions/../status"),
        ("GET", "/v1/sessions/."),
        ("GET", "/v1/sessions/a/b"),
        ("GET", "/v1/sessions/a\r\nx: y"),
        ("GET", "/v1/sessions/a b"),
        ("GET", "/v1/sessions/a?b"),
        ("GET", "/v1/sessions/a#b"),
        ("GET", "/v1/sessions/a%2fb"),
        ("GET", "/v1/sessions/-a"),
        ("GET", "/v1/sessions/ä"),
        ("GET", f"/v1/sessions/{'a' * 129}"),
        ("GET", ""),
        ("GET", "/"),
    ],
)
def test_whatever_is_not_on_the_list_is_not_passed_on(method: str, path: str) -> None:
    with pytest.raises(Refused, match="does not pass on") as refused:
        find(method, path)
    assert refused.value.code == "not_found"


def test_a_target_is_made_anew_from_checked_words() -> None:
    assert target_of(EVENTS, "/v1/workshop/events", b"") == "/v1/workshop/events"
    assert target_of(EVENTS, "/v1/workshop/events", b"last=5&after=a%2cb") == "/v1/workshop/events?last=5&after=a%2Cb"
    hostile = target_of(EVENTS, "/v1/workshop/events", b"after=%0d%0aHost:+evil%00")
    assert hostile == "/v1/workshop/events?after=%0D%0AHost%3A+evil%00"


@pytest.mark.parametrize(
    "query", [b"owner=1", b"last=1&last=2", b"last", b"after=" + b"a" * 1001, b"a" * 5000, b"after=%ff"]
)
def test_a_query_that_the_call_has_not_is_refused(query: bytes) -> None:
    with pytest.raises(Refused) as refused:
        target_of(EVENTS, "/v1/workshop/events", query)
    assert refused.value.code == "bad_request"


def test_only_the_fields_of_the_pages_are_passed_on() -> None:
    cast = find("POST", "/v1/workshop/cast")
    assert checked_fields(cast, {"agent": "a", "text": "t"}) == {"agent": "a", "text": "t"}
    for more in ("files", "options", "force", "timeout_s"):
        with pytest.raises(Refused, match=more):
            checked_fields(cast, {"agent": "a", "text": "t", more: 1})
    with pytest.raises(Refused, match="verify"):
        checked_fields(find("POST", "/v1/workshop/board/items"), {"title": "x", "verify": {"argv": ["sh"]}})
