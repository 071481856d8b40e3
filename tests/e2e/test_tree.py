"""The live tree of a real daemon, as people see it: the picture it is held to, and skillctl's drawing of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

DESIGN = Path(__file__).parents[2] / "docs/design/supervision-tree.md"
FORMAT = "{name:<19} {actor:<16} {how}"
# Names, strategies, restart types and isolation of the whole tree with one conversation in use.
PICTURE = """\
root                Supervisor       rest_for_one
  observability     Supervisor       permanent isolated one_for_one
    loop            Loop             permanent isolated
    gc              GarbageKeeper    permanent isolated
    canary          Canary           permanent isolated
    watchdog        Watchdog         permanent isolated
    audit           AuditWriter      permanent isolated
  journal           JournalKeeper    permanent
  services          Supervisor       permanent one_for_one
    skills          Supervisor       permanent rest_for_one
      workers       Workers          permanent isolated dynamic
      native        NativeKeeper     permanent isolated
      registry      Registry         permanent isolated
      watcher       Watcher          permanent isolated
    backends        Supervisor       permanent one_for_one
      model         ModelKeeper      permanent isolated
      local         ExecutorKeeper   permanent isolated
    janitor         Janitor          permanent isolated
    hangup          HangupListener   permanent isolated
  sessions          Conversations    permanent dynamic
    session         Session          temporary
  extras            Supervisor       permanent one_for_one
    workshop        WorkshopKeeper   permanent isolated
    agents          AgentWatcher     permanent isolated
    board           BoardKeeper      permanent isolated
    workers         WorkersKeeper    permanent isolated
    schedules       PlanKeeper       permanent isolated
    workflows       PlanKeeper       permanent isolated
    setup           SetupKeeper      permanent isolated
    monitor-rules   RuleKeeper       permanent isolated
    sources         Sources          permanent isolated dynamic
    monitor         MonitorKeeper    permanent isolated
    monitor-alerts  AlertKeeper      permanent isolated
    monitor-sessions SessionFollower  permanent isolated
    sweeper         Sweeper          permanent isolated
  listener          Supervisor       permanent rest_for_one
    socket          Socket           permanent isolated
    gate            Gate             permanent isolated
"""


def picture(node: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """A node and what is below it, a line each, children made on demand by their template."""
    restart = [] if depth == 0 else [node["restart"]]
    how = [*restart, *(["isolated"] if node["isolated"] else []), *([node["strategy"]] if node["strategy"] else [])]
    name = "  " * depth + node["template"]
    yield FORMAT.format(name=name, actor=node["class"], how=" ".join(how)).rstrip()
    for child in node["children"]:
        yield from picture(child, depth + 1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "skills").mkdir()
    write_skill(folder / "skills", "hello", "print('hello')")
    with running(folder, skills=[folder / "skills"]) as started:
        done = started.skillctl("send", "/hello")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
        yield started


def test_the_live_tree_is_the_one_of_the_picture(daemon: Daemon) -> None:
    with daemon.http() as http:
        answer = http.get("/v1/tree").json()
    assert list(picture(answer["tree"])) == PICTURE.splitlines()
    assert answer["reports"] == []
    assert answer["tree"]["memory_bytes"] > 10_000_000


@pytest.mark.skipif(not DESIGN.exists(), reason="reads the manual, and this is a copy of the tests")
def test_the_page_on_the_tree_shows_the_same_picture() -> None:
    """The first block of the page: the same lines, with remarks behind a semicolon."""
    (block,) = re.findall(r"^    root .*\n(?:^    .+\n)+", DESIGN.read_text(), flags=re.M)[:1]
    plain = [re.sub(r";.*|,|\brequired\b", "", line) for line in block.splitlines()]
    assert [line.split() for line in plain] == [line.split() for line in PICTURE.splitlines()]


def test_skillctl_draws_it(daemon: Daemon) -> None:
    drawn = daemon.skillctl("status", "--tree")
    assert drawn.returncode == 0, drawn.stderr
    assert len(drawn.stdout.splitlines()) == 1 + len(PICTURE.splitlines())
    (row,) = [line.split() for line in drawn.stdout.splitlines() if "journal" in line]
    assert row[1:] == ["journal", "JournalKeeper", "running", "0", "0", "-", "-"]
    known = json.loads(daemon.skillctl("status", "--tree", "--children", "0", "--json").stdout)
    (sessions,) = [child for child in known["tree"]["children"] if child["id"] == "sessions"]
    assert (sessions["children"], sessions["children_total"]) == ([], 1)


def test_the_metrics_count_the_same_actors(daemon: Daemon) -> None:
    with daemon.http() as http:
        page = http.get("/metrics").text
    alive = {name: float(n) for name, n in re.findall(r'^skilld_actors_alive{class="(\w+)"} (\S+)$', page, flags=re.M)}
    classes = [line.split()[1] for line in PICTURE.splitlines()]
    assert alive == {name: classes.count(name) for name in classes}
