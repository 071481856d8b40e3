"""Secrets and words planted in a real daemon, and looked for in everything that it writes or shows."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Daemon, processes_with, running, write_skill
from skill_actors.testing import (
    FakeMessagesApi,
    HttpError,
    Reply,
    Text,
    ToolUse,
    serve_in_thread,
)

pytestmark = pytest.mark.e2e

# Secrets: nobody is ever shown them.
KEY = "sk-ant-api03-canary-key-in-a-file-0123456789"
KEY_OF_ENVIRONMENT = "sk-ant-api03-canary-key-in-the-environment"
SKILL_SECRET = "canary-secret-of-a-skill-4242"
VARIABLE = "canary-variable-of-all-commands"
SECRETS = (KEY, KEY_OF_ENVIRONMENT, SKILL_SECRET, VARIABLE)
# Words: the conversation has them, and nothing else.
ANSWER, QUESTION, OUTPUT, TITLE = "canary-of-the-model", "canary-of-the-user", "canary-of-a-tool", "canary-of-a-title"
WORDS = (ANSWER, QUESTION, OUTPUT, TITLE)

SHOW = """
import os, sys
from pathlib import Path
token = os.environ["TOKEN"]
print("token", token)
print(token, file=sys.stderr)
print("environment", sorted(os.environ))
print("limits", Path("/proc/self/limits").read_text().partition("Max core file size")[2].split()[:2])
"""
CONFIG = """
[daemon]
log_level = "debug"
log_format = "{format}"
[audit]
reads = true
[model]
provider = "anthropic"
api_key_file = "{folder}/key"
[backends.local]
environment = {{ TOKEN_OF_ALL = "canary-variable-of-all-commands" }}
[skills]
paths = ["{folder}/skills"]
trusted = ["{folder}/skills"]
bundled = false
[skills.secrets.weather]
TOKEN = {{ file = "{folder}/token" }}
"""


class Planted:
    """A daemon that has gone through what may let a secret slip."""

    def __init__(self, daemon: Daemon, texts: dict[str, str]) -> None:
        self.daemon = daemon
        self.texts = texts


@pytest.fixture(scope="module", params=["text", "json"])
def planted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("canaries")
    write_skill(folder / "skills", "weather", SHOW)
    for name, secret in (("key", KEY), ("token", SKILL_SECRET)):
        (folder / name).write_text(secret + "\n")
        (folder / name).chmod(0o600)
    place = folder / "d"
    place.mkdir()
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": KEY_OF_ENVIRONMENT, "ANTHROPIC_BASE_URL": api.base_url}
        with running(place, config=CONFIG.format(format=request.param, folder=folder), env=env) as daemon:
            yield Planted(daemon, everything_of(daemon, api))


def everything_of(daemon: Daemon, api: FakeMessagesApi) -> dict[str, str]:
    """Let everything happen that logs, counts, fails or reports; what was written and shown, by where."""
    shown: dict[str, str] = {}
    session = daemon.create(title=TITLE, labels={"about": TITLE}, system=QUESTION)
    call = ToolUse("bash_tool", {"command": f"echo {OUTPUT}; env; exit 3", "description": OUTPUT})
    api.enqueue(Reply([Text(ANSWER), call]), Reply([Text(ANSWER)]))
    daemon.ask(session, QUESTION)
    shown["skill"] = str(daemon.ask(session, "/weather now"))
    for failure in (
        HttpError(401, message=f"invalid x-api-key {KEY}"),
        HttpError(400, message=f"messages.0: bad content near {KEY}"),
    ):
        api.enqueue(failure)
        shown[f"failed turn {failure!r:.20}"] = str(daemon.ask(daemon.create(), "fail"))
    with daemon.http() as http:
        broken = [
            http.post("/v1/sessions", content=f'{{"title": "{TITLE}", "{QUESTION}": 1'.encode()),
            http.post("/v1/sessions", json={"model": 7, "system": QUESTION}),
            http.post(f"/v1/sessions/{session}/messages", json={"text": QUESTION, "wrong": ANSWER}),
            http.put(f"/v1/sessions/{session}/files/{OUTPUT}", content=ANSWER.encode()),
            http.get(f"/v1/sessions/{session}/files/no-{OUTPUT}"),
            http.get("/v1/sessions", params={"search": QUESTION}),
        ]
        assert {answer.status_code for answer in broken} >= {201, 400, 404}
        for path in ("/v1/status", "/v1/tree", "/v1/backends", "/v1/skills", "/v1/skills/weather", "/metrics"):
            shown[path] = http.get(path).text
        exported = http.get(f"/v1/sessions/{session}/export").text
    shown["export"] = exported
    bundle = daemon.folder / "bundle.tar.gz"
    config = ["--config", str(daemon.folder / "skilld.toml")]
    assert daemon.skillctl("debug", "bundle", "-o", str(bundle), *config).returncode == 0
    with tarfile.open(fileobj=io.BytesIO(bundle.read_bytes())) as archive:
        for entry in archive:
            part = archive.extractfile(entry)
            shown[f"bundle: {entry.name}"] = "" if part is None else part.read().decode()
    for command in (["doctor", "--json", *config], ["config", "show", str(daemon.folder / "skilld.toml")]):
        done = daemon.skillctl(*command)
        shown[" ".join(command[:2])] = done.stdout + done.stderr
    daemon.skillctl("config", "reload")
    shown["log"] = daemon.log.read_text()
    shown["audit"] = (daemon.state / "audit/audit.log").read_text().rpartition("\n")[0]  # not the half of a line
    return shown


def holders(texts: dict[str, str], canaries: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(where, canary) for where, text in texts.items() for canary in canaries if canary in text]


def test_what_was_planted_was_met(planted: Planted) -> None:
    """Otherwise the tests below would find nothing because nothing happened."""
    assert "token ***" in planted.texts["skill"]
    assert all(word in planted.texts["export"] for word in (ANSWER, QUESTION, OUTPUT))
    assert len(planted.texts["audit"].splitlines()) > 10
    assert len(planted.texts["log"].splitlines()) > 10


def test_no_secret_is_shown_or_written_anywhere(planted: Planted) -> None:
    assert holders(planted.texts, SECRETS[:3]) == []
    # A variable of all commands is no secret: they may print it, and `config show` shows the file that has it.
    others = {where: text for where, text in planted.texts.items() if where not in ("export", "config show")}
    assert holders(others, (VARIABLE,)) == []


def test_no_word_of_a_conversation_is_in_what_operators_read(planted: Planted) -> None:
    conversation = ("export", "skill", "failed turn")
    operators = {where: text for where, text in planted.texts.items() if not where.startswith(conversation)}
    assert {"log", "audit", "/metrics", "/v1/tree"} <= operators.keys()
    assert holders(operators, WORDS) == []


def test_no_file_of_the_state_holds_a_secret(planted: Planted) -> None:
    found = [
        (path.name, canary)
        for path in planted.daemon.state.rglob("*")
        if path.is_file()
        for canary in SECRETS[:3]
        if canary.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_process_but_the_daemon_has_a_key_in_its_environment(planted: Planted) -> None:
    holding = {pid for secret in SECRETS[:3] for pid in processes_with(secret)}
    assert holding <= {planted.daemon.pid}
    (shown,) = [line for line in planted.texts["skill"].split("\\n") if line.startswith("environment")]
    assert "ANTHROPIC" not in shown


def test_neither_the_daemon_nor_a_command_leaves_a_core_file(planted: Planted) -> None:
    limits = Path(f"/proc/{planted.daemon.pid}/limits").read_text()
    assert limits.partition("Max core file size")[2].split()[:2] == ["0", "0"]
    assert "limits ['0', '0']" in planted.texts["skill"].replace('"', "'").replace("\\'", "'")


def test_lines_of_the_log_and_of_the_audit_log_hold_no_control_characters(planted: Planted) -> None:
    for where in ("log", "audit"):
        for line in planted.texts[where].splitlines():
            assert line.expandtabs().isprintable(), (where, line)
    for line in planted.texts["audit"].splitlines():
        json.loads(line)
