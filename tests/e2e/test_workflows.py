"""Workflows and schedules on the real process, as their users meet them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread

pytestmark = pytest.mark.e2e

LONG_S = 120.0  # for ten stages, with kills between them
CHAIN = """
description = "Ten steps, one after the other"
[parameters.what]
""" + "".join(
    f"""
[[stage]]
name = "s{n}"
agent = "worker"
prompt = "step {n} of {{what}}"
{f'after = ["s{n - 1}"]' if n else ""}
"""
    for n in range(10)
)


def slowly(body: object) -> Reply:
    """An answer that takes a moment, or, of what has no end, ten minutes."""
    return Reply([Text("fine " * 40)], delay_s=0.01, first_delay_s=600 if "of no end" in str(body) else 0)


def environment(api: FakeMessagesApi) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}


@pytest.fixture(scope="module")
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi(respond=slowly)) as api:
        yield api


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, api: FakeMessagesApi) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("workflows"), env=environment(api)) as daemon:
        ok(daemon, "workshop", "agent", "define", "worker", "--role", "You work.")
        yield daemon


def ok(daemon: Daemon, *arguments: str) -> str:
    done = daemon.skillctl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ok_json(daemon: Daemon, *arguments: str) -> Any:
    return json.loads(ok(daemon, *arguments, "--json"))


def test_a_workflow_is_defined_run_and_looked_at(shared: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    assert ok(shared, "workflow", "define", "chain", str(file)) == "chain: 10 stages\n"
    done = shared.skillctl("workflow", "run", "chain", "-p", "what=the plan", timeout_s=LONG_S)
    assert done.returncode == 0, done.stderr
    assert "s9: done" in done.stderr
    assert "completed" in done.stdout
    (run,) = ok_json(shared, "workflow", "status", "--workflow", "chain")["items"]
    assert (run["status"], run["arguments"]) == ("completed", {"what": "the plan"})
    assert run["cost_usd"] > 0
    assert run["id"] in ok(shared, "workflow", "status", run["id"])
    assert [item["name"] for item in ok_json(shared, "workflow", "list")["items"]] == ["chain"]
    assert json.loads(ok(shared, "workflow", "show", "chain"))["stage"][1]["after"] == ["s0"]
    missing = shared.skillctl("workflow", "run", "chain")
    assert (missing.returncode, "parameters: what" in missing.stderr) == (1, True)


def test_what_is_no_workflow_is_refused_with_the_place(shared: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    for text, expected in [
        ("[[stage]]\nname = 'a'\nagent = 'x'\nprompt = '{b}'\n", "a place {b}"),
        ("stage = [", "is no TOML"),
        ("[[stage]]\nname = 'a'\nagent = 'x'\nprompt = 'x'\nfiles = ['gone.md']\n", "gone.md"),
    ]:
        file.write_text(text)
        refused = shared.skillctl("workflow", "define", "bad", str(file))
        assert refused.returncode in (1, 2)
        assert expected in refused.stderr, refused.stderr
    file.write_bytes(b"\xff\xfe")
    assert "no text in UTF-8" in shared.skillctl("workflow", "define", "bad", str(file)).stderr
    gone = shared.skillctl("workflow", "run", "nothing")
    assert (gone.returncode, "there is no workflow 'nothing'" in gone.stderr) == (1, True)


def test_files_of_a_stage_are_read_by_the_caller_and_keep_their_braces(
    shared: Daemon, api: FakeMessagesApi, tmp_path: Path
) -> None:
    (tmp_path / "SPEC.md").write_text("a {brace} stays")
    file = tmp_path / "flow.toml"
    file.write_text("[[stage]]\nname = 'a'\nagent = 'worker'\nprompt = 'read'\nfiles = ['SPEC.md']\n")
    ok(shared, "workflow", "define", "files", str(file))
    ok(shared, "workflow", "run", "files")
    assert "a {brace} stays" in str(api.bodies[-1]["messages"][-1])


def test_dates_and_other_values_that_json_has_not_are_named(shared: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "odd.toml"
    for value, expected in [("2026-01-01", "a date, 2026-01-01: write it as text"), ("inf", "not JSON compliant")]:
        file.write_text(
            f"[[stage]]\nname = 'a'\nagent = 'x'\nprompt = 'p'\nuntil = {{field = '/d', equals = {value}}}\n"
        )
        refused = shared.skillctl("workflow", "define", "odd", str(file))
        assert (refused.returncode, expected in refused.stderr) == (2, True), refused.stderr


def test_a_run_is_cancelled_from_outside(shared: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN.replace('"worker"', '"waits"'))
    ok(shared, "workshop", "agent", "define", "waits")
    ok(shared, "workflow", "define", "long", str(file))
    run = ok(shared, "workflow", "run", "long", "-p", "what=no end", "--no-wait").strip()
    assert ok(shared, "workflow", "cancel", run) == "cancelled\n"
    assert ok_json(shared, "workflow", "status", run)["status"] == "cancelled"


def test_a_daemon_killed_in_a_ten_stage_workflow_resumes_and_completes_and_the_spend_is_exact(tmp_path: Path) -> None:
    """The API's own bill is the judge: never below it, and to the billionth where no call was cut."""
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    with serve_in_thread(FakeMessagesApi(respond=slowly)) as api, running(tmp_path, env=environment(api)) as daemon:
        ok(daemon, "workshop", "agent", "define", "worker", "--role", "You work.")
        ok(daemon, "workflow", "define", "chain", str(file))
        run = ok(daemon, "workflow", "run", "chain", "-p", "what=it", "--no-wait").strip()
        for kill in range(3):
            wait_for_stages(daemon, run, 2 * (kill + 1))
            daemon.kill()
            daemon.start()
        wait_for_stages(daemon, run, 10)
        ended = ok_json(daemon, "workflow", "status", run)
        assert ended["status"] == "completed", ended
        assert {stage["status"] for stage in ended["stages"].values()} == {"done"}
        assert len({stage["turn"] for stage in ended["stages"].values()}) == 10
        recorded, billed = spent(daemon), api.billed_nanousd
        assert recorded >= billed
        again = daemon.skillctl("workflow", "run", "chain", "-p", "what=more", "--json", timeout_s=LONG_S)
        cost = round(json.loads(again.stdout)["cost_usd"] * 10**9)
        assert spent(daemon) - recorded == api.billed_nanousd - billed == cost


def test_who_waits_for_a_run_waits_over_a_kill_of_the_daemon_as_well(tmp_path: Path) -> None:
    file = tmp_path / "chain.toml"
    file.write_text(CHAIN)
    with serve_in_thread(FakeMessagesApi(respond=slowly)) as api, running(tmp_path, env=environment(api)) as daemon:
        ok(daemon, "workshop", "agent", "define", "worker", "--role", "You work.")
        ok(daemon, "workflow", "define", "chain", str(file))
        with ThreadPoolExecutor(1) as pool:
            command = ("workflow", "run", "chain", "-p", "what=it", "--key", "k")
            waiting = pool.submit(daemon.skillctl, *command, timeout_s=LONG_S)
            deadline = time.monotonic() + LONG_S
            while not (begun := ok_json(daemon, "workflow", "status")["items"]):
                assert time.monotonic() < deadline
            wait_for_stages(daemon, begun[0]["id"], 2)
            daemon.kill()
            daemon.start()
            done = waiting.result()
        assert done.returncode == 0, done.stderr
        assert "completed" in done.stdout
        assert begun[0]["id"] in done.stderr


def spent(daemon: Daemon) -> int:
    """What the ledger has, in billionths of a dollar."""
    with daemon.http() as http:
        return sum(round(item["cost_usd"] * 10**9) for item in http.get("/v1/usage").json()["items"])


def wait_for_stages(daemon: Daemon, run: str, done: int) -> None:
    deadline = time.monotonic() + LONG_S
    while True:
        with daemon.http() as http:
            now = http.get(f"/v1/workshop/runs/{run}").json()
        if now["status"] != "running" or sum(s["status"] == "done" for s in now["stages"].values()) >= done:
            return
        assert time.monotonic() < deadline, now
        time.sleep(0.02)


def test_a_schedule_gives_its_agent_the_message_and_survives_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        ok(daemon, "workshop", "agent", "define", "reader", "--role", "You read.")
        added = ok(daemon, "workshop", "schedule", "add", "often", "reader", "what is new?", "--every", "1")
        assert added.startswith("next at ")
        deadline = time.monotonic() + 20
        while ok_json(daemon, "workshop", "schedule", "show", "often")["runs"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        daemon.kill()
        daemon.start()
        before = ok_json(daemon, "workshop", "schedule", "show", "often")
        assert before["runs"] >= 1
        turn = ok(daemon, "workshop", "schedule", "run", "often").strip()
        assert daemon.wait(turn)["status"] == "finished"
        ok(daemon, "workshop", "schedule", "disable", "often")
        assert "off" in ok(daemon, "workshop", "schedule", "list")
        taken = daemon.skillctl("workshop", "schedule", "add", "often", "reader", "x", "--every", "1")
        assert (taken.returncode, "already" in taken.stderr) == (1, True)
        wrong = daemon.skillctl("workshop", "schedule", "add", "x", "reader", "x", "--cron", "99 * * * *")
        assert (wrong.returncode, "Bad minute" in wrong.stderr) == (1, True)
        ok(daemon, "workshop", "schedule", "remove", "often")
        gone = daemon.skillctl("workshop", "schedule", "show", "often")
        assert (gone.returncode, "no schedule" in gone.stderr) == (1, True)


def test_the_examples_run_without_a_model(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    if not (root / "examples/workflows").is_dir():
        pytest.skip("reads the examples, and this is a copy of the tests")
    with running(tmp_path, skills=[root / "skills"]) as daemon:
        ok(daemon, "workshop", "agent", "define", "clerk", "--role", "You write.")
        ok(daemon, "workshop", "profile", "define", "analyst", "--role", "You look.")
        for file in sorted((root / "examples/workflows").glob("*.toml")):
            ok(daemon, "workflow", "define", file.stem, str(file))
            given = "version=1.4" if file.stem == "release" else "question=is it so"
            run = ok_json(daemon, "workflow", "run", file.stem, "-p", given)
            assert run["status"] == "completed", run
            last = [stage["result"] for stage in run["stages"].values() if stage["status"] == "done"][-1]
            assert given.partition("=")[2] in last
        assert [agent["name"] for agent in ok_json(daemon, "workshop", "agent", "list")["items"]] == ["clerk"]
