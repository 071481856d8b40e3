"""Caps on what may be spent, on the real process; the fake API's own bill is the judge."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.budget_kit import Books, Moods, Storm, wait_all
from e2e.harness import Daemon, program, running
from skill_actors.testing import Cut, FakeMessagesApi, HttpError, Reply, Text, serve_in_thread

pytestmark = pytest.mark.e2e

EACH = {"turn": 0.4, "session": 1.0}
CONFIG = f"""
[budget]
turn = {{ usd = {EACH["turn"]}, tool_calls = 20 }}
session = {{ usd = {EACH["session"]} }}
[model]
max_tokens = 300
[limits]
running_turns = 64
[roles.send]
uids = []
"""


def environment(api: FakeMessagesApi) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}


@pytest.fixture(scope="module")
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi()) as api:
        yield api


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, api: FakeMessagesApi) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("budgets"), env=environment(api)) as daemon:
        yield daemon


@pytest.fixture
def daemon(shared: Daemon) -> Iterator[Daemon]:
    """One for all tests, since each start takes a second; a test leaves no caps behind."""
    yield shared
    with shared.http() as http:
        for cap in http.get("/v1/budgets").json()["items"]:
            http.delete(f"/v1/budgets/{cap['name']}").raise_for_status()


def calls(api: FakeMessagesApi) -> int:
    """How many messages the API was sent."""
    return sum(request.path == "/v1/messages" for request in api.requests)


def usage(daemon: Daemon, by: str = "session") -> dict[str, Any]:
    with daemon.http() as http:
        found: dict[str, Any] = http.get("/v1/usage", params={"by": by}).json()
    return found


def spent(daemon: Daemon, session: str) -> tuple[float, int, int]:
    """Dollars, tokens and calls of tools of one session."""
    (item,) = (item for item in usage(daemon)["items"] if item["key"] == session)
    return item["cost_usd"], item["tokens"], item["tool_calls"]


def set_cap(daemon: Daemon, name: str, **limits: float | None) -> dict[str, Any]:
    with daemon.http() as http:
        answer = http.post("/v1/budgets", json={"name": name, **limits})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def error_of(turn: dict[str, Any]) -> tuple[str, str]:
    error = turn["result"]["error"]
    return error["code"], error["message"]


def test_a_refused_call_costs_nothing_is_not_sent_and_names_the_way_out(daemon: Daemon, api: FakeMessagesApi) -> None:
    sent, before = calls(api), usage(daemon)["total"]["known_usd"]
    set_cap(daemon, "day", usd=before + 0.000_001)
    done = daemon.skillctl("send", "hello")
    assert done.returncode == 5, done.stderr
    assert "skillctl budget set global/day --usd" in done.stderr
    assert calls(api) == sent
    assert usage(daemon)["total"]["known_usd"] == before
    assert daemon.skillctl("budget", "set", "day", "--usd", "50").returncode == 0
    assert daemon.skillctl("send", "hello").returncode == 0
    assert calls(api) == sent + 1
    assert usage(daemon)["total"]["known_usd"] * 1e9 >= api.billed_nanousd > 0


def test_what_was_spent_survives_reset_delete_and_restart(daemon: Daemon) -> None:
    session = daemon.create()
    assert daemon.ask(session, "hello")["status"] == "finished"
    before = spent(daemon, session)
    set_cap(daemon, f"session/{session}", usd=before[0])
    with daemon.http() as http:
        http.post(f"/v1/sessions/{session}/reset", json={}).raise_for_status()
    assert error_of(daemon.ask(session, "again"))[0] == "budget_exceeded", "a reset gives nothing back"
    with daemon.http() as http:
        http.delete(f"/v1/sessions/{session}").raise_for_status()
    assert spent(daemon, session) == before
    assert daemon.stop() == 0
    daemon.start()
    assert spent(daemon, session) == before
    assert [item["source"] for item in caps(daemon, f"session/{session}")] == ["set"]


def caps(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    with daemon.http() as http:
        found: list[dict[str, Any]] = http.get("/v1/budgets", params={"name": name}).json()["items"]
    return found


def test_a_retry_is_set_aside_anew_and_what_the_api_refused_costs_nothing(daemon: Daemon, api: FakeMessagesApi) -> None:
    api.enqueue(HttpError(529), Reply([Text("never seen")], fail=Cut(after=0)), Reply([Text("at last")]))
    before, sent = Books.read(daemon.state), calls(api)
    turn = daemon.ask(daemon.create(), "hello")
    assert turn["result"]["text"] == "at last"
    assert calls(api) == sent + 3
    books = Books.read(daemon.state)
    assert books.total >= api.billed_nanousd
    assert books.open_holds == 0
    assert books.holds == before.holds + 3


def test_a_model_without_a_price_is_refused_only_where_a_cap_in_dollars_holds(
    daemon: Daemon, api: FakeMessagesApi
) -> None:
    session = daemon.create(model="claude-unheard-of-9")
    assert daemon.ask(session, "hello")["status"] == "finished"
    costs = {item["key"]: item["cost_usd"] for item in usage(daemon, "model")["items"]}
    assert costs["claude-unheard-of-9"] is None
    set_cap(daemon, "user", usd=100)
    sent = calls(api)
    code, message = error_of(daemon.ask(session, "hello"))
    assert code == "budget_exceeded"
    assert "model.price_file" in message
    assert calls(api) == sent
    set_cap(daemon, "user", usd=None, tokens=1_000_000)
    assert daemon.ask(session, "hello")["status"] == "finished"


def test_prices_of_ones_own_make_it_known(tmp_path: Path, api: FakeMessagesApi) -> None:
    rates = "input = 1\ncache_write_5m = 1\ncache_write_1h = 1\ncache_read = 1\noutput = 1\n"
    prices = f'dated = 2026-11-09\nweb_search_per_1000 = 10\n[[price]]\nmodels = ["our-model"]\n{rates}'
    (tmp_path / "prices.toml").write_text(prices)
    config = '[model]\nprice_file = "prices.toml"\n[budget]\nuser = { usd = 1.0 }\n'
    with running(tmp_path, config=config, env=environment(api)) as daemon:
        assert daemon.ask(daemon.create(model="our-model"), "hello")["status"] == "finished"
        assert usage(daemon)["total"]["cost_usd"] > 0
        (tmp_path / "prices.toml").write_text("dated = yesterday")
        refused = daemon.skillctl("config", "check", str(tmp_path / "skilld.toml"))
        assert (refused.returncode, "model.price_file" in refused.stderr) == (1, True)


def test_a_session_has_a_budget_of_its_own(daemon: Daemon, api: FakeMessagesApi) -> None:
    poor, rich = daemon.create(budget={"usd": 0.000_001}), daemon.create(budget={"usd": 5})
    code, message = error_of(daemon.ask(poor, "hello"))
    assert (code, poor in message) == ("budget_exceeded", True)
    assert daemon.ask(rich, "hello")["status"] == "finished"
    found = caps(daemon, f"session/{rich}")
    assert [(cap["source"], cap["limits"]["usd"]) for cap in found] == [("session", 5.0)]


def test_a_message_has_a_budget_of_its_own(daemon: Daemon, api: FakeMessagesApi) -> None:
    before = calls(api)
    done = daemon.skillctl("send", "--max-usd", "0.000001", "hello")
    assert done.returncode == 5, done.stderr
    assert '"options": {"budget": {"usd": N}}' in done.stderr
    assert calls(api) == before
    assert daemon.skillctl("send", "--max-usd", "0.3", "hello").returncode == 0


def test_tool_calls_and_seconds_have_caps_too(daemon: Daemon, api: FakeMessagesApi) -> None:
    two = '#call bash_tool {"command": "echo x >> ran", "description": "d"}\n#then\n' * 2
    session = daemon.create(budget={"tool_calls": 1})
    code, message = error_of(daemon.ask(session, two))
    assert code == "budget_exceeded"
    assert "tool_calls" in message
    with daemon.http() as http:
        assert http.get(f"/v1/sessions/{session}/files/ran").text == "x\n"
    slow = daemon.create(budget={"seconds": 5})  # of the whole turn: its call has to have begun by then
    sleep = '#call bash_tool {"command": "sleep 30", "description": "d"}'
    assert error_of(daemon.ask(slow, sleep))[0] == "budget_exceeded"
    assert [spent(daemon, each)[2] for each in (session, slow)] == [1, 1]


def test_a_warning_reaches_the_conversation_and_the_metrics_once(daemon: Daemon, api: FakeMessagesApi) -> None:
    told_before = warnings(daemon)
    session = daemon.create(budget={"tool_calls": 2})
    call = '#call bash_tool {"command": "true", "description": "d"}'
    assert daemon.ask(session, call)["status"] == "finished"
    assert daemon.ask(session, "nothing")["status"] == "finished"
    told = [event["data"] for event in daemon.events(session) if event["type"] == "budget.warning"]
    assert [(each["unit"], each["share"]) for each in told] == [("tool_calls", 0.5)]
    assert warnings(daemon) == told_before + 1


def warnings(daemon: Daemon) -> float:
    """How many there were of caps of sessions."""
    found = re.search(r'^skilld_budget_warnings_total\{cap="session"\} (\S+)', daemon.skillctl("metrics").stdout, re.M)
    return float(found[1]) if found else 0.0


def test_a_call_that_a_kill_has_cut_stays_charged_in_full(daemon: Daemon, api: FakeMessagesApi) -> None:
    api.enqueue(Reply([Text("never")], first_delay_s=600))
    sent = calls(api)
    turn = daemon.post(daemon.create(), "hello").json()["turn"]
    while calls(api) == sent:
        time.sleep(0.005)
    daemon.kill()
    books = Books.read(daemon.state)
    assert books.open_holds == 1
    assert books.total >= api.billed_nanousd
    daemon.start()
    assert wait_all(daemon, [turn]) == {"interrupted": 1}
    assert round(usage(daemon)["total"]["known_usd"] * 1e9) == books.total
    assert daemon.ask(daemon.create(), "hello")["status"] == "finished"


def test_a_reload_applies_caps_at_once(tmp_path: Path, api: FakeMessagesApi) -> None:
    config = "[budget]\nday = { usd = 0.0 }\n"
    with running(tmp_path, config=config, env=environment(api)) as daemon:
        session = daemon.create()
        code, message = error_of(daemon.ask(session, "hello"))
        assert code == "budget_exceeded"
        assert "skillctl budget set global/day --usd" in message
        (tmp_path / "skilld.toml").write_text("[budget]\nday = { usd = 9.0 }\n")
        reloaded = json.loads(daemon.skillctl("config", "reload", "--json").stdout)
        assert reloaded == {"applied": ["budget.day"], "needs_restart": []}
        assert daemon.ask(session, "hello")["status"] == "finished"


def test_a_tool_cannot_raise_the_caps_that_bind_it(daemon: Daemon) -> None:
    """Commands on this host run as the daemon's user, who may do everything over the socket."""
    set_cap(daemon, "day", usd=5)
    raised = f"SKILLD_SOCKET={daemon.socket} {' '.join(program('skillctl'))} budget set day --usd 500"
    call = json.dumps({"command": raised, "description": "d"})
    turn = daemon.ask(daemon.create(), f"#call bash_tool {call}")
    assert "was started by the daemon" in turn["result"]["text"]
    assert caps(daemon, "day")[0]["limits"]["usd"] == 5


def storm(folder: Path, *, turns: int, rounds: int, seed: int) -> None:
    moods = Moods(seed)
    with serve_in_thread(FakeMessagesApi(respond=moods)) as api:
        with running(folder, config=CONFIG, env=environment(api)) as daemon:
            weather, cut = Storm(daemon, api, random.Random(seed), turns), 0
            for number in range(10 * rounds):  # more than asked for only where no kill has met a call by then
                if number >= rounds and cut:
                    break
                books = weather.round()
                weather.check(books, weather.billed(), EACH)
                cut += books.open_holds
                daemon.start()
            weather.begin()  # and nobody is killed
            ended = wait_all(daemon, list(weather.sent.values()))
            found = usage(daemon)
            assert daemon.stop() == 0
        books = Books.read(daemon.state)
        weather.check(books, weather.billed(), EACH, whole=True)
        assert weather.billed().keys() - books.unsure, "no turn has got away without a cut"
        assert round(found["total"]["known_usd"] * 1e9) == books.total, "the sums are those of the entries"
        assert cut, "no kill has met a call"
        assert ended["finished"], ended
        assert ended["budget_exceeded"], ended
        print(f"\n{rounds} rounds of {turns} turns: {dict(ended)}; answers {dict(moods.seen)}")
        print(f"recorded ${books.total / 1e9:.4f}, billed ${api.billed_nanousd / 1e9:.4f}, ", end="")
        print(f"{books.lost} calls that kills have cut are charged in full")


def test_parallel_turns_under_random_caps_and_kills_never_pass_a_cap_nor_lose_a_cent(tmp_path: Path) -> None:
    storm(tmp_path, turns=12, rounds=3, seed=9)


@pytest.mark.deep
def test_the_same_with_fifty_turns_and_two_hundred_rounds(tmp_path: Path) -> None:
    storm(tmp_path, turns=50, rounds=200, seed=10)
