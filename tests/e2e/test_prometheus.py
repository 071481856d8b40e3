"""The rules and the dashboard, in a real Prometheus that scrapes a real daemon: every expression gives a series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from conftest import require
from e2e.harness import Daemon, clean_environment, running, write_skill
from skill_actors.testing import FakeMessagesApi, serve_in_thread
from skilld.paths import data_dir

pytestmark = pytest.mark.e2e

ETC = data_dir("etc") or Path()
SOON_S = 60.0
COMPARISON = re.compile(r"\s*(?:==|>|<)\s*[\d.]+\s*$")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ETC / "prometheus/skilld.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def shown() -> list[tuple[str, str]]:
    """Title and expression of everything on the dashboard, for all instances."""
    panels = json.loads((ETC / "grafana/skilld.json").read_text())["panels"]
    return [
        (panel["title"], target["expr"].replace("$instance", ".*")) for panel in panels for target in panel["targets"]
    ]


class Prometheus:
    """What it answers."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self._http.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def until(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, as soon as there are some."""
        deadline = time.monotonic() + SOON_S
        while not (found := self.query(expression)):
            assert time.monotonic() < deadline, f"no series: {expression}"
            time.sleep(0.2)
        return found

    def rules(self) -> list[dict[str, Any]]:
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has scraped a daemon in which turns ended, failed, called tools and cost money."""
    require(shutil.which("prometheus") is not None, "needs prometheus, of Debian's package")
    folder = tmp_path_factory.mktemp("prometheus")
    write_skill(folder / "skills", "hello", "print('hello')")
    write_skill(folder / "skills", "fails", "raise SystemExit(3)")
    with serve_in_thread(FakeMessagesApi()) as api:
        environment = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        config = '[metrics]\nlisten = "127.0.0.1:0"\n'
        with running(folder, skills=[folder / "skills"], config=config, env=environment) as daemon:
            found = re.search(r"metrics on (http://\S+)/metrics", daemon.log.read_text())
            assert found, daemon.log.read_text()
            with started(folder / "prometheus", found[1].removeprefix("http://")) as http:
                _use(daemon)
                made = Prometheus(http)
                made.until('skilld_turns_total{outcome="finished"} > 2')
                yield made


def _use(daemon: Daemon) -> None:
    session = daemon.create()
    for text in ("/hello", "/fails", "how are you?", "and now?"):
        daemon.ask(session, text)


@contextmanager
def started(folder: Path, target: str) -> Iterator[httpx.Client]:
    """The server itself, with our rules, on a port of loopback that the kernel chooses; scrapes the target."""
    folder.mkdir()
    shutil.copy(ETC / "prometheus/skilld.rules.yml", folder)
    config = yaml.safe_load((ETC / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:0",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment())
    try:
        address = _address(process, folder / "log")
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=SOON_S) as http:
            _wait_ready(process, http, folder / "log")
            yield http
    finally:
        process.terminate()
        process.wait(20)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it says that it listens."""
    deadline = time.monotonic() + SOON_S
    while not (found := re.search(r'"Listening on" address=(\S+)\n', log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found[1]


def _wait_ready(process: subprocess.Popen[bytes], http: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + SOON_S
    while True:
        try:
            if http.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.mark.parametrize("number", range(len(shown())))
def test_every_expression_of_the_dashboard_gives_a_series(prometheus: Prometheus, number: int) -> None:
    _, expression = shown()[number]
    assert prometheus.until(expression)


def test_every_rule_is_evaluated_and_nothing_alarms_without_a_reason(prometheus: Prometheus) -> None:
    deadline = time.monotonic() + SOON_S
    while any(rule["health"] == "unknown" for rule in prometheus.rules()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    found = prometheus.rules()
    assert {rule["name"] for rule in found} == {rule.get("record") or rule["alert"] for rule in rules()}
    assert [(rule["name"], rule.get("lastError")) for rule in found if rule["health"] != "ok"] == []
    assert [rule["name"] for rule in found if rule.get("state") == "firing"] == []


@pytest.mark.parametrize("rule", [rule for rule in rules() if "record" in rule], ids=lambda rule: rule["record"])
def test_every_recorded_series_is_there(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    assert prometheus.until(rule["record"])


@pytest.mark.parametrize("rule", [rule for rule in rules() if "alert" in rule], ids=lambda rule: rule["alert"])
def test_what_an_alert_compares_is_there(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    """Else it could never fire, and nobody would notice."""
    compared = COMPARISON.sub("", rule["expr"])
    assert compared != rule["expr"]
    assert prometheus.until(compared)
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["remedy"]


def test_promtool_takes_the_rules() -> None:
    require(shutil.which("promtool") is not None, "needs promtool, of Debian's package prometheus")
    done = subprocess.run(
        ["promtool", "check", "config", str(ETC / "prometheus/prometheus.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_share_of_cache_hits_is_of_all_input_and_0_without_any(tmp_path: Path) -> None:
    require(shutil.which("promtool") is not None, "needs promtool, of Debian's package prometheus")
    used = {"input": 10, "cache_write_5m": 20, "cache_read": 90, "output": 500}
    series = [
        {"series": f'skilld_tokens_total{{instance="a",model="m",kind="{kind}"}}', "values": f"0+{tokens}x30"}
        for kind, tokens in used.items()
    ]
    idle = [{"series": f'skilld_turns_running{{instance="{name}"}}', "values": "0x30"} for name in "ab"]
    name = "skilld:cache_hits:ratio15m"
    found = [{"labels": f'{name}{{instance="{who}"}}', "value": share} for who, share in (("a", 0.75), ("b", 0))]
    asked = [{"expr": name, "eval_time": "20m", "exp_samples": found}]
    tests = [{"interval": "1m", "input_series": series + idle, "promql_expr_test": asked}]
    (tmp_path / "t.yml").write_text(
        yaml.safe_dump({"rule_files": [str(ETC / "prometheus/skilld.rules.yml")], "tests": tests})
    )
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "t.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
