"""Who may come in: names, origins, the token of the address, the cookie, the header."""

from __future__ import annotations

import pytest

from skill_actors.errors import Refused
from skilld.dashboard.gate import TOKEN_HEADER, Gate

GATE = Gate(port=8765, token="t" * 43, pass_value="c" * 43)
COOKIE = GATE.cookie.partition(";")[0]
CALL = {"cookie": COOKIE, TOKEN_HEADER: GATE.token}


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765"])
def test_the_names_of_the_loopback_are_served(host: str) -> None:
    GATE.check_names({"host": host})
    GATE.check_names({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8765.evil.example", "[::1]:8765"],
)
def test_another_name_is_refused_though_it_leads_here(host: str) -> None:
    with pytest.raises(Refused, match="is not this dashboard's"):
        GATE.check_names({"host": host})


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:9999", "http://127.0.0.1"),
        "http://localhost:8765",  # it is another origin than the one that it was sent to
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    with pytest.raises(Refused, match="is not served") as refused:
        GATE.check_names({"host": "127.0.0.1:8765", "origin": origin})
    assert refused.value.code == "forbidden"


def test_the_first_page_takes_the_token_or_the_cookie() -> None:
    GATE.check_page({}, GATE.token)
    GATE.check_page({"sec-fetch-site": "cross-site"}, GATE.token)  # from the page that --open has made
    GATE.check_page({"cookie": COOKIE}, None)
    GATE.check_page({"cookie": f"other=1; {COOKIE}", "sec-fetch-site": "none"}, None)


@pytest.mark.parametrize("token", ["", "t", "t" * 42, "t" * 44, "\udcff", "ü" * 43])
def test_a_wrong_token_is_refused_also_with_the_cookie(token: str) -> None:
    with pytest.raises(Refused, match="the token is not that"):
        GATE.check_page({"cookie": COOKIE}, token)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "?"])
def test_a_link_from_elsewhere_opens_nothing_without_the_token(site: str) -> None:
    with pytest.raises(Refused, match="a page elsewhere"):
        GATE.check_page({"cookie": COOKIE, "sec-fetch-site": site}, None)


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "skilld_dashboard_8765=",
        f"skilld_dashboard_8765={'d' * 43}",
        f"skilld_dashboard_8766={'c' * 43}",
        "\x00=;;=",
    ],
)
def test_without_the_cookie_nothing_is_served(cookie: str) -> None:
    for check in (GATE.check_part, GATE.check_call, lambda headers: GATE.check_page(headers, None)):
        with pytest.raises(Refused, match="not let in yet"):
            check({"cookie": cookie, TOKEN_HEADER: GATE.token})


def test_a_call_takes_the_cookie_and_the_header() -> None:
    GATE.check_call(CALL)
    GATE.check_call({**CALL, "sec-fetch-site": "same-origin"})
    for headers in ({"cookie": COOKIE}, {**CALL, TOKEN_HEADER: "t" * 42}, {**CALL, TOKEN_HEADER: GATE.pass_value}):
        with pytest.raises(Refused, match="has not this dashboard's token"):
            GATE.check_call(headers)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_a_part_or_a_call_is_only_for_a_page_of_ours(site: str) -> None:
    for check in (GATE.check_part, GATE.check_call):
        with pytest.raises(Refused, match="a page elsewhere"):
            check({**CALL, "sec-fetch-site": site})


def test_each_dashboard_has_secrets_of_its_own_and_shows_them_to_nobody() -> None:
    one, other = Gate(port=1), Gate(port=1)
    assert len({one.token, other.token, one.pass_value, other.pass_value}) == 4
    assert min(len(one.token), len(one.pass_value)) >= 43
    assert one.token not in repr(one)
    assert one.pass_value not in repr(one)


def test_scripts_cannot_read_the_cookie_and_no_other_site_sends_it() -> None:
    assert GATE.cookie.split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict"]
