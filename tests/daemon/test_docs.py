"""The manual against the program: what is listed there is everything there is, and its examples work."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, have, running
from skill_actors.errors import ERROR_CODES, Refused
from skill_actors.sessions.events import EVENT_TYPES, TURN_ENDINGS
from skill_actors.sessions.intake import Accepted
from skill_actors.sessions.settings import CHANGEABLE, SETTINGS
from skill_actors.sessions.surroundings import SessionDefaults
from skill_actors.sessions.views import session_view, turn_view
from skill_actors.skills._text_yaml import MAX_DEPTH, MAX_NODES
from skill_actors.skills.front_matter import USUAL_BYTES
from skill_actors.skills.inventory import InventoryLimits
from skill_actors.store.base import SessionRecord, TurnRecord
from skilld.client import AsyncClient, Client
from skilld.config import config_keys
from skilld.http import ServerLimits
from skilld.http.app import build_routes
from skilld.http.sse import KEEP_ALIVE_S

ROOT = Path(__file__).parents[2]
HTTP = ROOT / "docs/http.md"
CODE = re.compile(r"`([^`]+)`")


def table(page: Path, heading: str, number: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    _, _, rest = page.read_text().partition(f"\n{heading}\n")
    assert rest, f"{page.name} has no section {heading!r}"
    depth = heading.index(" ")
    section = re.split(rf"^#{{1,{depth}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[number].splitlines()[2:]]


def first_codes(rows: list[list[str]]) -> list[str]:
    """What the first cell of each row has in backticks."""
    return [CODE.findall(row[0])[0] for row in rows]


def examples(page: Path, kind: str) -> list[str]:
    """The blocks that begin with ```kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def example(kind: str) -> dict[str, Any]:
    (block,) = examples(HTTP, f"json {kind}")
    value: dict[str, Any] = json.loads(block)
    return value


def test_every_error_code_is_explained_with_its_status() -> None:
    rows = table(HTTP, "## Errors")
    listed = {CODE.findall(row[0])[0]: (int(row[1]), {"yes": True, "no": False}[row[2]]) for row in rows}
    assert listed == ERROR_CODES
    assert len(rows) == len(ERROR_CODES)


def test_codes_that_the_page_calls_reserved_are_never_used() -> None:
    reserved = {CODE.findall(row[0])[0] for row in table(HTTP, "## Errors") if row[3].startswith("reserved")}
    sources = [path.read_text() for folder in ("actors/skill_actors", "daemon/skilld") for path in modules(folder)]
    used = {code for code in ERROR_CODES for text in sources if re.search(rf'Refused\(\s*"{code}"', text)}
    assert used == set(ERROR_CODES) - reserved


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_event_type_is_listed_once() -> None:
    assert sorted(first_codes(table(HTTP, "### Types"))) == sorted(EVENT_TYPES)


def test_every_event_type_is_emitted() -> None:
    writers = [path.read_text() for path in modules("actors/skill_actors") if path.name != "events.py"]
    written = {name for name in EVENT_TYPES for text in writers if f'"{name}"' in text}
    assert written == EVENT_TYPES


def test_the_endings_of_a_turn_are_named() -> None:
    (line,) = re.findall(r"^A turn ends with exactly one of .*$", HTTP.read_text(), re.MULTILINE)
    assert set(CODE.findall(line)) == TURN_ENDINGS


def test_every_route_is_listed_with_its_role() -> None:
    listed = [(CODE.findall(row[0])[0], row[1]) for row in table(HTTP, "## Paths")]
    routes = [(f"{route.method} {route.path}", route.permission) for route in build_routes()]
    assert listed == routes


def test_every_parameter_of_a_route_is_named_in_its_row() -> None:
    rows = {CODE.findall(row[0])[0]: set(CODE.findall(row[2])) for row in table(HTTP, "## Paths")}
    for route in build_routes():
        wanted = {parameter.name for parameter in route.parameters}
        assert wanted <= rows[f"{route.method} {route.path}"], f"{route.method} {route.path}"


def test_every_setting_of_a_session_is_listed_and_whether_it_may_be_changed() -> None:
    rows = table(HTTP, "## Sessions")
    assert set(first_codes(rows)) == SETTINGS
    assert {CODE.findall(row[0])[0] for row in rows if row[2] == "yes"} == CHANGEABLE


def test_limits_of_the_configuration_are_listed_with_their_defaults() -> None:
    listed = {CODE.findall(row[0])[0]: float(row[1]) for row in table(HTTP, "## Limits", 0)}
    assert listed == {key: value for key, value in config_keys().items() if key.startswith("limits.")}


def test_fixed_limits_are_those_of_the_program() -> None:
    listed = {row[0]: row[1] for row in table(HTTP, "## Limits", 1)}
    server = ServerLimits()
    assert listed["text of a message"] == f"{SessionDefaults().max_message_chars} characters"
    named = {
        "head_timeout_s": "request header",
        "body_timeout_s": "request body",
        "idle_timeout_s": "between two requests",
        "send_timeout_s": "a client that does not read",
    }
    assert {field.name for field in fields(server) if field.name.endswith("_s")} == set(named)
    for name, what in named.items():
        assert listed[what] == f"{getattr(server, name):g} s"
    assert f"every {KEEP_ALIVE_S:g} s of silence" in HTTP.read_text()


def test_the_objects_shown_have_the_fields_of_real_ones() -> None:
    shown = example("session")
    record = SessionRecord(id=shown["id"], owner_uid=1000, created="", updated="", settings={})
    real = session_view(record, "idle", ("local",))
    assert list(shown) == list(real)
    assert list(shown["usage"]) == list(real["usage"])
    accepted = Accepted(turn="", session="", seq=1, status="queued", duplicate=False)
    assert list(example("accepted")) == list(accepted.to_dict())
    turn = TurnRecord(id="", session="", seq=1, status="finished", created="", updated="")
    assert list(example("turn")) == list(turn_view(turn))
    assert example("error").keys() == Refused("not_found", "").to_dict().keys()
    assert example("error")["error"].keys() == Refused("not_found", "").to_dict()["error"].keys()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("docs"), skills=[ROOT / "skills"]) as started:
        yield started


@pytest.mark.e2e
def test_the_examples_of_the_page_work(daemon: Daemon) -> None:
    require(have("curl"), "curl is not installed")
    script = "set -eu\n" + "\n".join(examples(HTTP, "sh"))
    environment = {"SKILLD_SOCKET": str(daemon.socket), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"error"' not in done.stdout
    session = re.findall(r"ses_[a-z2-7]{26}", done.stdout)[0]
    asked = [event["data"]["text"] for event in daemon.events(session) if event["type"] == "turn.queued"]
    assert asked == ["/echo hello", "/echo again", "/echo once"]  # the last was sent twice, under one key


@pytest.mark.e2e
def test_the_node_and_the_report_shown_have_the_fields_of_real_ones(daemon: Daemon) -> None:
    with daemon.http() as http:
        assert list(http.get("/v1/tree").json()["tree"]) == list(example("node"))
    listed = [name for row in table(HTTP, "## The tree") for name in CODE.findall(row[0])]
    assert listed == list(example("node"))


@pytest.mark.e2e
def test_the_status_shown_has_the_fields_of_a_real_one(daemon: Daemon) -> None:
    (line,) = re.findall(r"^`GET /v1/status` has (.*)", HTTP.read_text(), re.MULTILINE)
    with daemon.http() as http:
        assert CODE.findall(line.partition(". ")[0]) == list(http.get("/v1/status").json())


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_every_call_of_the_client_is_in_its_page(client: type) -> None:
    calls = {name for name, value in inspect.getmembers(client) if callable(value) and not name.startswith("_")}
    rows = table(ROOT / "docs/client.md", "## Calls")
    listed = {call for row in rows for call in re.findall(r"`(\w+)\(", row[0] + row[1])}
    assert {"budgets", "decide"} < calls
    assert calls - listed == set()


def test_every_page_of_the_manual_is_in_its_table_of_contents() -> None:
    contents = (ROOT / "docs/README.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs")) for page in sorted((ROOT / "docs").rglob("*.md"))]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in contents] == []


def test_the_targets_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in ("README.md", "docs/install.md"):
        for target in re.findall(r"\bmake ([a-z]+)\b", (ROOT / page).read_text()):
            assert f"\n{target}: " in makefile, f"{page}: make {target}"


def diagnostic_codes(module: Path) -> set[str]:
    """What a module of skills gives as the code of a diagnostic."""
    makers = r"(?:code=|\b(?:_error|_warn|_doubt|_Unusable|NameFault|YamlRefused|InventoryError|_leave_out)\(\s*)"
    found = set(re.findall(makers + r'"([a-z]\w+)"', module.read_text()))
    return found | set(re.findall(r'_error\(front, \S+, "(\w+)"', module.read_text())) - {"front"}


def test_the_bounds_of_a_skill_are_the_ones_in_force() -> None:
    limits = InventoryLimits()
    mib = 1024 * 1024
    for said in (
        f"{limits.max_files:,} files, {limits.max_folders:,} folders, {limits.max_depth} levels",
        f"{limits.max_total_bytes // mib} MiB. Left out",
        f"{limits.max_skill_file_bytes // mib} MiB of SKILL.md",
        f"{MAX_DEPTH} levels of nesting, {MAX_NODES:,} keys and values",
        f"values above {USUAL_BYTES:,} characters are cut",
    ):
        assert said in (ROOT / "docs/skills.md").read_text(), said


def test_every_diagnostic_of_a_skill_is_explained() -> None:
    skills = ROOT / "actors/skill_actors/skills"
    names = ("_text_yaml", "front_matter", "inventory", "loader", "names", "validate", "validate_rules")
    given = set().union(*(diagnostic_codes(skills / f"{name}.py") for name in names))
    assert len(given) > 50
    page = ROOT / "docs/skills.md"
    explained = {code for row in table(page, "## Diagnostics") for code in CODE.findall(row[0])}
    assert given - explained == set()
    cleaned = ("name", "description", "license", "compatibility", "metadata")
    assert {f"{field}_invisible" for field in cleaned} <= explained


def test_everything_about_an_approval_is_explained() -> None:
    text = (ROOT / "actors/skill_actors/skills/approvals.py").read_text()
    given = set(re.findall(r'code(?:=|, message = )"(\w+)"', text))
    assert given == {CODE.findall(row[0])[0] for row in table(ROOT / "docs/skills.md", "### Approved versions")}


def test_everything_against_a_source_or_a_package_is_explained() -> None:
    page, actors = ROOT / "docs/skills.md", ROOT / "actors/skill_actors"
    modules = [actors / f"skills/{name}.py" for name in ("discovery", "library", "package", "packages", "projects")]
    text = "".join(module.read_text() for module in [*modules, actors / "sessions/offered.py"])
    given = set(re.findall(r'(?:code=|_report\([^"\n]*|PackageError\(|_failed\(path, )"(\w+)"', text))
    assert {"package_unsafe", "source_missing", "link_leaves_root", "project_refused", "unreadable"} <= given
    tables = (table(page, "## Where skills come from"), table(page, "### Packages"), table(page, "## Diagnostics"))
    assert given - {code for rows in tables for row in rows for code in CODE.findall(row[0])} == set()
