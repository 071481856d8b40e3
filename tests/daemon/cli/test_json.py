"""What `--json` prints is what the manual says: every command, against the real daemon."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, clean_environment, program, running, write_skill
from skilld.cli.app import skillctl
from skilld.cli.help_pages import help_pages
from skilld.monitor.sinks.log_files import end_line
from skilld_monitor.delivery import Delivery

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[3] / "docs/cli.md"
CODE = re.compile(r"`([^`]+)`")
# These take what a test of this kind has not: an engine, a storage,
# a journal, a host to install on.
NOT_RUN = {"docker build", "docker check", "files fetch", "files purge", "install", "logs", "uninstall"}
NOT_RUN |= {"workshop agent revive", "workshop git summary", "workshop worktree list", "workshop worktree merge"}
NOT_RUN |= {"board watch", "monitor alerts watch"}  # nothing happens while it watches


def documented() -> dict[str, str]:
    """By command, what its row says that it prints."""
    section = PAGE.read_text().partition("\n## JSON\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE)
    return {command: prints for commands, prints in rows for command in CODE.findall(commands)}


def test_every_command_that_offers_json_is_listed() -> None:
    offering = {
        " ".join(page.words[1:])
        for page in help_pages(skillctl, ("skillctl",))
        if any(term == "--json" for term, _ in page.options)
    }
    assert set(documented()) == offering


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json")
    write_skill(folder / "skills", "hello", "print('hello')\n")
    (folder / "a.txt").write_text("a")
    (folder / "log").mkdir()
    digest = hashlib.sha256(b"x\n").hexdigest()
    ended = end_line(digest, "", 1, datetime.now(UTC))
    (folder / "log/events-20260115T093000.123456Z.jsonl").write_bytes(b"x\n" + ended)
    (folder / "a.json").write_text('{"event": "x", "timestamp": "2025-03-15T12:00:00", "data": {}}\n')
    (folder / "flow.toml").write_text("[[stage]]\nname = 'one'\nagent = 'a'\nprompt = '/hello'\n")
    (folder / "shop.toml").write_text("[agents.of-a-file]\n")
    (folder / "bad.toml").write_text("[agents.a]\nmodle = 'm'\n")
    server = Path(__file__).parents[2] / "mcp_tool_server.py"
    (folder / "skilld.toml").write_text(
        f'[skills]\npaths = ["{folder}/skills"]\napproval = "version"\n'
        f'[mcp.servers.test]\ncommand = "{sys.executable}"\nargs = ["{server}"]\nsandbox = "none"\n'
    )
    return folder


@pytest.fixture(scope="module")
def daemon(place: Path) -> Iterator[Daemon]:
    with running(place, config=(place / "skilld.toml").read_text()) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def names(place: Path, daemon: Daemon) -> dict[str, str]:
    """What stands for a name in the commands below."""
    session = daemon.create()
    turn = daemon.ask(session, "/hello")["turn"]
    report = b'{"seq":1,"time_us":1,"name":"x","level":"INFO","data":{"text":"rm -rf / now"}}'
    with closing(Delivery(str(daemon.folder / "monitor.sock"))) as delivery:
        delivery.send({"run": "a" * 32}, [report], 30)
    with daemon.http() as http:
        assert http.get("/v1/monitor/alerts?after=0&wait=30").json()["items"], "what was found is followed"
    (place / "e.ndjson").write_text(daemon.skillctl("export", session).stdout)
    asked = [waiting(daemon) for _ in range(2)]
    paths = {"DIR": str(place), "SKILL": str(place / "skills/hello")}
    with daemon.http() as http:
        stages = {"stage": [{"name": "one", "agent": "nobody", "prompt": "x"}]}
        http.put("/v1/workshop/workflows/held", json=stages).raise_for_status()
        run = http.post("/v1/workshop/workflows/held/run", json={}).json()["id"]
    held = dict(pair for number in range(5) for pair in held_item(daemon, number))
    return {"SESSION": session, "TURN": turn, "APPROVAL": asked[0], "DENIAL": asked[1], "RUN": run, **paths, **held}


def held_item(daemon: Daemon, number: int) -> Iterator[tuple[str, str]]:
    """An item that is claimed, and the token of the claim."""
    id = f"held-{number}"
    with daemon.http() as http:
        http.post("/v1/workshop/board/items", json={"id": id, "title": "Held"})
        # For longer than all tests of this module take: a claim is lost after a minute else.
        claim = http.post(f"/v1/workshop/board/items/{id}/claim", json={"lease_s": 3600}).json()
    yield f"HELD{number}", id
    yield f"TOKEN{number}", claim["token"]


def waiting(daemon: Daemon) -> str:
    """The id of an approval that waits."""
    session = daemon.create(policy={"rules": [{"effect": "ask", "tool": "bash_tool"}]})
    assert daemon.skillctl("send", "-s", session, "/hello").returncode == 3
    with daemon.http() as http:
        (view,) = http.get("/v1/approvals", params={"session": session}).json()["items"]
    return str(view["id"])


COMMANDS = (
    "approvals --status all",
    "approve APPROVAL",
    "attach SESSION --from 0",
    "backends",
    "backup DIR/b.tar",
    "budget set session/SESSION --usd 5",
    "budget show session/SESSION",
    "budget unset session/SESSION",
    "cancel SESSION",
    "deny DENIAL",
    "cancel TURN",
    "compact SESSION",
    "config check DIR/skilld.toml",
    "policy check ls",
    "config show DIR/skilld.toml",
    "config reload",
    "debug bundle -o DIR/x.tar.gz",
    "doctor --config DIR/skilld.toml",
    "files put SESSION DIR/a.txt",
    "files list SESSION",
    "files get SESSION a.txt -o DIR/c.txt",
    "fork SESSION",
    "health",
    "import DIR/e.ndjson",
    "mcp-servers list",
    "mcp-servers check --config DIR/skilld.toml",
    "mcp-servers tools --config DIR/skilld.toml",
    "monitor alerts list",
    "monitor alerts show 1",
    "monitor alerts ack 1",
    "monitor cleanup 36500 --optimize",
    "monitor import DIR/a.json",
    "monitor query x",
    "monitor rules check",
    "monitor rules list",
    "monitor scan AKIAQWERTYUIOPASDFGH",
    "monitor sessions",
    "monitor sinks",
    "monitor sources",
    "monitor stats",
    "monitor tail",
    "monitor trace 1",
    "monitor verify DIR/log",
    "pause SESSION",
    "rename SESSION x",
    "restore DIR/b.tar --state-dir DIR/restored",
    "resume SESSION",
    "send -s SESSION /hello",
    "sessions",
    "show SESSION",
    "skills list",
    "skills show hello",
    "skills status",
    "skills approve hello",
    "skills reload",
    "skills changes --no-follow",
    "skills push SKILL",
    "skills remove hello",
    "skills info SKILL",
    "skills init made --dir DIR",
    "skills package DIR/made -o DIR/made.skill",
    "skills test DIR/made",
    "skills lint SKILL",
    "skills audit SKILL",
    "skills validate SKILL",
    "status",
    "steer -s SESSION more",
    "usage --by session",
    "board add Free --id free",
    "board edit free -p 2",
    "board cancel free",
    "board retry free",
    "board show free",
    "board list",
    "board summary",
    "board claim free",
    "board start HELD0 --token TOKEN0",
    "board heartbeat HELD1 --token TOKEN1",
    "board complete HELD2 --token TOKEN2",
    "board fail HELD3 --token TOKEN3 --reason r",
    "board release HELD4 --token TOKEN4",
    "workshop work More",
    "workshop worker start w -t docs",
    "workshop worker list",
    "workshop worker stop w",
    "workshop profile define p --role r",
    "workshop profile show p",
    "workshop profile list",
    "workshop agent define a --profile p",
    "workshop agent define b",
    "ask a /hello",
    "workshop ask a /hello",
    "cast a /hello",
    "workshop cast a /hello",
    "workshop await a",
    "workshop pipe a b",
    "workshop fan /hello a b",
    "workshop agent list",
    "workshop agent status",
    "workshop agent info a",
    "workshop agent history a",
    "workshop agent cost",
    "workshop agent reset a",
    "workflow define flow DIR/flow.toml",
    "workflow list",
    "workflow run flow",
    "workflow status",
    "workflow cancel RUN",
    "workflow reset flow",
    "workshop schedule add s a /hello --every 3600",
    "workshop schedule list",
    "workshop schedule show s",
    "workshop schedule run s",
    "workshop configure",
    "workshop validate DIR/bad.toml",
    "workshop diff DIR/shop.toml",
    "workshop apply DIR/shop.toml",
    "workshop export",
    "workshop status",
    "workshop budget show",
    "workshop budget set 20",
    "workshop budget reset",
    "workshop guide list",
    "workshop store put n k 1",
    "workshop store get n k",
    "workshop store keys",
    "workshop publish custom.x y",
    "workshop events --last 1",
    "wait TURN",
    "wait SESSION",
    "reset SESSION",
)


def name_of(command: str) -> str:
    """The words that call it."""
    words = command.split()
    names = [" ".join(words[:count]) for count in (3, 2, 1)]
    return next((name for name in names if name in documented()), words[0])


def test_every_command_but_those_that_need_more_is_run() -> None:
    assert {name_of(command) for command in COMMANDS} == {
        name
        for name in documented()
        if name not in NOT_RUN and not name.startswith(("workshop board ", "workshop workflow "))
    }  # which are those of board and workflow


@pytest.mark.parametrize("command", COMMANDS)
def test_the_document_has_the_fields_that_the_manual_lists(command: str, daemon: Daemon, names: dict[str, str]) -> None:
    filled = re.sub(
        r"SESSION|TURN|RUN|DIR|SKILL|APPROVAL|DENIAL|(?:HELD|TOKEN)\d", lambda found: names[found[0]], command
    ).split()
    text = first_line(daemon, *filled) if filled[0] == "attach" else daemon.skillctl(*filled, "--json").stdout
    found = first_of(text)
    whole, _, nested = documented()[name_of(command)].partition("; ")
    fields = CODE.findall(whole)
    assert fields
    assert set(fields) <= found.keys()
    if nested.startswith("each has"):
        assert set(CODE.findall(nested)) <= found[fields[0]][0].keys()


def first_line(daemon: Daemon, *command: str) -> str:
    """Of a command that does not end by itself."""
    environment = clean_environment(SKILLD_SOCKET=str(daemon.socket))
    with subprocess.Popen(
        [*program("skillctl"), *command, "--json"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    return line


def first_of(text: str) -> dict[str, Any]:
    """The document; the first one of lines, or of an array."""
    value = json.JSONDecoder().raw_decode(text)[0]
    first = value[0] if isinstance(value, list) else value
    assert isinstance(first, dict)
    return first
