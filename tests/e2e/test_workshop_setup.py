"""A whole workshop in one file, on the real process: applied, killed, exported, named by the configuration."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running, write_skill
from skill_actors.workshop.setup_file.reading import MAX_VALUES
from skilld.client import Client, SkilldError

pytestmark = pytest.mark.e2e

WHOLE = """
name = "shop"
context = "The project is a web shop."
[defaults]
max_turns = 7
[budget]
usd = 20.0
[profiles.coder]
role = '''
You write code.
You test it.'''
timeout_s = 600
[agents.reviewer]
profile = "coder"
without = ["timeout_s"]
role = "You review."
[agents.plain]
[workers.coders]
types = ["code"]
count = 2
profile = "coder"
[workflows.release]
file = "release.toml"
[schedules.morning]
agent = "reviewer"
cron = "0 7 * * 1-5"
timezone = "Europe/Berlin"
prompt = "What is new?"
[board.templates.bug]
type = "triage"
priority = 2
[[board.items]]
id = "a"
template = "bug"
title = "First"
[[board.items]]
id = "b"
title = "Second"
type = "triage"
depends_on = ["a"]
[store.notes]
today = "it rains"
deep = { a = [1, 2.5, true] }
"""
RELEASE = """
[parameters.version]
[[stage]]
name = "one"
agent = "reviewer"
prompt = "do {version}"
[[stage]]
name = "two"
profile = "coder"
prompt = "then {one}"
after = ["one"]
"""


def write(folder: Path, text: str = WHOLE) -> Path:
    (folder / "release.toml").write_text(RELEASE)
    path = folder / "workshop.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("setup")
    write_skill(folder / "skills", "hello", "print('hello')\n")
    with running(folder, config=f'[skills]\npaths = ["{folder}/skills"]\n') as daemon:
        yield daemon


def clear(daemon: Daemon, folder: Path) -> None:
    """Nothing is left of the file, but what it has put on the board and in the store."""
    empty = folder / "empty.toml"
    empty.write_text('name = "shop"\n')
    done = daemon.skillctl("workshop", "apply", str(empty), "--prune", "--reset")
    assert done.returncode == 0, done.stderr


def test_everything_is_as_it_was_after_a_kill_and_the_export_says_so(tmp_path: Path) -> None:
    path = write(tmp_path)
    with running(tmp_path) as daemon:
        done = daemon.skillctl("workshop", "apply", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        what = ("workshop", "export", "--name", "shop", "--board", "--store", "notes")
        before = daemon.skillctl(*what).stdout
        daemon.kill()
        daemon.start()
        after = daemon.skillctl(*what)
        assert (after.returncode, after.stdout) == (0, before)
        assert daemon.skillctl("workshop", "diff", str(path)).stdout == "nothing to do\n"
        (tmp_path / "again.toml").write_text(before)
        assert daemon.skillctl("workshop", "diff", str(tmp_path / "again.toml"), "--prune").stdout == "nothing to do\n"


def test_a_kill_in_the_middle_is_mended_by_the_same_file(tmp_path: Path) -> None:
    many = "".join(f"[agents.a{number}]\nqueue = 1\n" for number in range(60))
    path = write(tmp_path, f'name = "many"\n{many}[schedules.s]\nagent = "a59"\nprompt = "x"\nevery_s = 9000\n')
    (tmp_path / "none.toml").write_text('name = "many"\n')
    with running(tmp_path) as daemon:
        for _ in range(10):
            made = killed_in_the_middle(daemon, path)
            if made < 60:
                break
            assert daemon.skillctl("workshop", "apply", str(tmp_path / "none.toml"), "--prune").returncode == 0
        assert 5 <= made < 60
        done = daemon.skillctl("workshop", "apply", str(path))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("+ agent") == 60 - made
        assert daemon.skillctl("workshop", "diff", str(path)).stdout == "nothing to do\n"
        gone = daemon.skillctl("workshop", "apply", str(tmp_path / "none.toml"), "--prune")
        assert gone.stdout.count("- agent") == 60  # those from before the kill too


def killed_in_the_middle(daemon: Daemon, path: Path) -> int:
    """How many agents are there after a kill while the file is applied; all, where the kill came too late."""
    with ThreadPoolExecutor(1) as pool:
        applied = pool.submit(daemon.skillctl, "workshop", "apply", str(path))
        with Client(daemon.socket) as client:
            while len(client.agents()) < 5:
                time.sleep(0.005)
        daemon.kill()
        status = applied.result().returncode
    daemon.start()
    with Client(daemon.socket) as client:
        made = len(client.agents())
    assert (status != 0) or made == 60, "what was acknowledged is there"
    return made


def test_the_commands_end_as_they_say(shared: Daemon, tmp_path: Path) -> None:
    path = write(tmp_path)
    good = shared.skillctl("workshop", "validate", str(path))
    assert (good.returncode, good.stdout) == (0, f"{path}: good\n")
    diff = shared.skillctl("workshop", "diff", str(path))
    assert diff.returncode == 1
    assert '+ agent reviewer\n    context = "The project is a web shop."\n' in diff.stdout
    assert shared.skillctl("workshop", "apply", str(path), "--dry-run").stdout == diff.stdout
    assert shared.skillctl("workshop", "apply", str(path)).stdout == diff.stdout
    assert shared.skillctl("workshop", "diff", str(path)).returncode == 0

    path.write_text(WHOLE.replace("You review.", "You look."))
    held = shared.skillctl("workshop", "apply", str(path))
    assert held.returncode == 1
    assert "~ agent reviewer: left as it is; it would begin a conversation anew: say --reset for that" in held.stdout
    assert 'role: "You review." -> "You look."' in held.stdout
    anew = shared.skillctl("workshop", "apply", str(path), "--reset")
    assert (anew.returncode, anew.stdout.splitlines()[0]) == (0, "~ agent reviewer: begins a conversation anew")
    clear(shared, tmp_path)


def test_faults_are_told_with_file_and_line_by_validate_and_by_the_daemon(shared: Daemon, tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "shop"\n[agents.a]\nmodle = "m"\n')
    for command in (("validate",), ("diff",), ("apply",)):
        done = shared.skillctl("workshop", *command, str(path))
        assert done.returncode == 1
        assert f"{path}:3: agents.a.modle: unknown field 'modle'; did you mean model?" in done.stderr
    path.write_text("[agents.a]\nskill = 'unheard-of'\n")
    assert shared.skillctl("workshop", "validate", str(path)).returncode == 0
    done = shared.skillctl("workshop", "apply", str(path))
    assert (done.returncode, f"{path}:1: agents.a: skill: there is no skill" in done.stderr) == (1, True)
    path.write_text("[agents.a\n")
    done = shared.skillctl("workshop", "validate", str(path))
    assert (done.returncode, "is no TOML" in done.stderr) == (2, True)


ASKING = """
import http.client, json, socket

def ask(method, path, body):
    connection = http.client.HTTPConnection("skilld")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(SOCKET)
    connection.request(method, "/v1/workshop/" + path, json.dumps(body), {"content-type": "application/json"})
    return str(connection.getresponse().status)

print(" ".join([
    ask("POST", "setup", {"file": {}}),
    ask("PATCH", "budget", {"usd": None}),
    ask("POST", "budget/reset", {}),
    ask("POST", "setup", {"file": {}, "dry_run": True}),
]))
"""


def test_no_process_of_an_agent_sets_up_the_workshop_or_its_budget(tmp_path: Path) -> None:
    """A script of a skill asks the daemon for what would loosen what binds it; it may look."""
    write_skill(tmp_path / "skills", "asking", ASKING.replace("SOCKET", repr(str(tmp_path / "s.sock"))))
    with running(tmp_path, config=f'[skills]\npaths = ["{tmp_path}/skills"]\n') as daemon:
        done = daemon.ask(daemon.create(), "/asking")
        assert "403 403 403 200" in done["result"]["text"], done


def test_the_budget_is_shown_set_and_begun_anew(shared: Daemon) -> None:
    for name in ("one", "two"):
        assert shared.skillctl("workshop", "agent", "define", name).returncode == 0
    session = shared.skillctl("workshop", "agent", "info", "one", "--json")
    before = json.loads(session.stdout)["session"]

    def budget(*words: str) -> dict[str, Any]:
        done = shared.skillctl("workshop", "budget", *words, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert budget("set", "20")["total"]["limit_usd"] == 20.0
    found = budget("set", "2", "--agent", "one")
    lines = {line["name"]: line for line in found["agents"]}
    assert (lines["one"]["limit_usd"], lines["one"]["left_usd"], lines["two"]["limit_usd"]) == (2.0, 2.0, None)
    with Client(shared.socket) as client:
        assert (client.agent("one")["session"], client.agent("one")["max_cost_usd"]) == (before, 2.0)
    assert found["since"] is None
    after = budget("reset")
    assert after["since"] is not None
    assert after["total"]["limit_usd"] == 20.0
    assert {line["name"]: line["limit_usd"] for line in after["agents"]}["one"] == 2.0
    assert budget("set", "none", "--agent", "one")["agents"][0]["limit_usd"] is None
    assert budget("set", "none")["total"]["limit_usd"] is None
    for nonsense in ("much", "nan", "1e999"):
        done = shared.skillctl("workshop", "budget", "set", nonsense)
        assert (done.returncode, "expected a number of dollars, or none" in done.stderr) == (2, True)
    assert shared.skillctl("workshop", "budget", "set", "3", "--agent", "nobody").returncode == 1
    shared.skillctl("workshop", "agent", "dismiss", "one", "two")


def test_one_screen_shows_all_of_it(shared: Daemon, tmp_path: Path) -> None:
    path = write(tmp_path)
    assert shared.skillctl("workshop", "apply", str(path)).returncode == 0
    done = shared.skillctl("workshop", "status")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "agents:"
    assert any(line.split() == ["reviewer", "idle", "0", "turns", "$0.00"] for line in lines)
    assert any(line.split() == ["coders", "code", "2", "agents", "idle"] for line in lines)
    assert any(line.split()[:2] == ["morning", "reviewer"] for line in lines)
    assert "board: 1 new, 1 ready" in lines
    assert "runs: none" in lines
    assert lines[-1].startswith("spent: $0.00; cap $20.00, left $20.00")
    clear(shared, tmp_path)


SETUP = '[workshop]\nsetup = "{path}"\n'


def told(daemon: Daemon, text: str, *, times: int = 1) -> None:
    """The log says so, soon."""
    until = time.monotonic() + 30
    while daemon.log.read_text().count(text) < times:
        assert time.monotonic() < until, daemon.log.read_text()[-3000:]
        time.sleep(0.02)


def test_the_configuration_names_a_file_that_holds_from_the_start_and_after_each_reload(tmp_path: Path) -> None:
    path = write(tmp_path)
    with running(tmp_path, config=SETUP.format(path=path)) as daemon:
        told(daemon, "workshop.toml was applied: change common, create profile coder")
        assert daemon.skillctl("workshop", "diff", str(path)).stdout == "nothing to do\n"
        path.write_text(WHOLE.replace("You review.", "You look.").replace("priority = 2", "priorty = 2"))
        assert daemon.skillctl("config", "reload").returncode == 0
        line = path.read_text().splitlines().index("priorty = 2") + 1
        told(daemon, f"{path}:{line}: board.templates.bug.priorty: unknown field 'priorty'; did you mean 'priority'?")
        assert 'role = "You review."' in daemon.skillctl("workshop", "export").stdout
        path.write_text(WHOLE.replace("You review.", "You look.") + "[agents.more]\n")
        assert daemon.skillctl("config", "reload").returncode == 0
        told(daemon, "workshop.toml was applied: create agent more")
        told(daemon, "these agents would begin anew and were left as they are: reviewer")
        path.chmod(0o666)
        assert daemon.skillctl("config", "reload").returncode == 0
        told(daemon, "everybody may write it")
        path.chmod(0o644)
        daemon.kill()
        daemon.start()
        told(daemon, "workshop.toml was applied: all is as it says")
        with Client(daemon.socket) as client:
            assert client.agent("more")["status"] == "idle"


def test_the_daemon_takes_the_largest_file_that_is_good(shared: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "workshop.toml"
    path.write_text(f'name = "large"\n[store.n]\nk = [{"0," * (MAX_VALUES - 8)}]\n')
    assert shared.skillctl("workshop", "validate", str(path)).returncode == 0
    done = shared.skillctl("workshop", "diff", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (1, "+ value n/k\n", "")


def test_a_client_of_another_kind_may_send_the_same(shared: Daemon) -> None:
    with Client(shared.socket) as client:
        shown = client.apply_setup({"name": "c", "agents": {"sent": {"queue": 2}}}, dry_run=True)
        assert (shown["applied"], shown["steps"][0]["fields"]) == (False, {"queue": {"after": 2}})
        client.define_agent("sent", queue=1)
        with pytest.raises(SkilldError, match="something else is to be done by now"):
            client.apply_setup({"name": "c", "agents": {"sent": {"queue": 2}}}, plan=shown["plan"])
        assert client.apply_setup({"name": "c", "agents": {"sent": {"queue": 2}}})["applied"] is True
        assert client.agent("sent")["queue"] == 2
        assert client.export_setup(name="x")["file"]["agents"]["sent"] == {"queue": 2}
        client.dismiss_agent("sent")


def test_a_workflow_is_reset_while_it_runs(shared: Daemon, tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text('[[stage]]\nname = "one"\ntype = "deploy"\nprompt = "by hand"\n')
    assert shared.skillctl("workflow", "define", "held", str(tmp_path / "w.toml")).returncode == 0
    run = shared.skillctl("workflow", "run", "held", "--no-wait").stdout.strip()
    until = time.monotonic() + 30
    while not (found := json.loads(shared.skillctl("board", "list", "--type", "deploy", "--json").stdout)["items"]):
        assert time.monotonic() < until
    done = shared.skillctl("workflow", "reset", "held")
    assert (done.returncode, done.stdout) == (0, "1 cancelled, 1 forgotten\n")
    assert shared.skillctl("workflow", "status", run).returncode == 1
    item = json.loads(shared.skillctl("board", "show", found[0]["id"], "--json").stdout)
    assert item["status"] == "cancelled"
    assert shared.skillctl("workflow", "show", "held").returncode == 0


HOSTILE = "$(touch pwned) `touch pwned`; touch pwned #{System.cmd('touch', ['pwned'])} {{7*7}} %s"


def test_nothing_that_stands_in_a_file_is_run(shared: Daemon, tmp_path: Path) -> None:
    """It is values and no program (G22)."""
    path = tmp_path / "workshop.toml"
    path.write_text(
        f'name = "h"\n[agents.h]\nrole = """{HOSTILE}"""\n[store.h]\nvalue = """{HOSTILE}"""\n'
        f'[[board.items]]\nid = "h"\ntitle = """{HOSTILE}"""\ntype = "triage"\n'
    )
    done = shared.skillctl("workshop", "apply", str(path), "--yes")
    assert done.returncode == 0, done.stderr
    with Client(shared.socket) as client:
        assert client.agent("h")["role"] == client.value("h", "value")["value"] == client.item("h")["title"] == HOSTILE
        client.remove_item("h")
        client.dismiss_agent("h")
    program = tmp_path / ".workshop.exs"
    program.write_text('System.cmd("touch", ["pwned"])\n')
    refused = shared.skillctl("workshop", "apply", str(program), "--yes")
    assert refused.returncode == 2
    assert ".workshop.exs" in refused.stderr
    assert [*tmp_path.rglob("pwned"), *shared.folder.rglob("pwned"), *Path.cwd().glob("pwned")] == []
