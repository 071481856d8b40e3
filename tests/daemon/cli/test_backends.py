"""skillctl backends: what the daemon says of its backends, and what is measured here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_daemon import FakeDaemon, fake_daemon
from skilld.cli.app import skillctl

Run = Callable[..., Result]

LOCAL = {
    "name": "local",
    "available": True,
    "problem": None,
    "default": True,
    "capabilities": {"stream": True, "sandbox": "landlock", "images": False},
    "fidelity": {"stream": "full", "sandbox": "partial", "images": "none"},
    "notes": {"sandbox": "not\nquite\x1b[2J"},
}
BROKEN = {
    "name": "docker",
    "available": False,
    "problem": "no engine; start it",
    "default": False,
    "capabilities": {},
    "fidelity": {},
    "notes": {},
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as started:
        yield started


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(skillctl, ["--socket", str(tmp_path / "skilld.sock"), "backends", *arguments])

    return call


def serve(daemon: FakeDaemon, *items: dict[str, Any]) -> None:
    daemon.on_json("GET", "/v1/backends", {"items": list(items), "next": None})


def test_the_matrix_has_a_column_for_each_backend(daemon: FakeDaemon, run: Run) -> None:
    serve(daemon, LOCAL, BROKEN)
    result = run()
    assert result.exit_code == 1  # one of them cannot run
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines() if line[:1].islower()}
    assert rows["available"] == ["yes", "no"]
    assert rows["sandbox"] == ["landlock,", "in", "part"]
    assert rows["images"] == ["no"]
    assert "local: sandbox, in part: not quite[2J" in result.output
    assert "docker: no engine; start it" in result.output


def test_one_backend_can_be_asked_for_and_one_that_is_not_there_is_an_error(daemon: FakeDaemon, run: Run) -> None:
    serve(daemon, LOCAL, BROKEN)
    result = run("local", "--json")
    assert (result.exit_code, json.loads(result.output)) == (0, {"items": [LOCAL]})
    assert run("no-such").exit_code == 1


def test_measuring_needs_no_daemon_and_takes_the_options_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "skilld.toml"
    config.write_text('[backends.local]\npath = "/usr/bin:/bin"\n')
    arguments = [
        "--socket",
        str(tmp_path / "none"),
        "backends",
        "--measure",
        "--json",
        "--config",
        str(config),
        "local",
    ]
    result = CliRunner().invoke(skillctl, arguments)
    assert result.exit_code == 0, result.output
    (item,) = json.loads(result.output)["items"]
    assert (item["name"], item["available"], item["failed"]) == ("local", True, [])
    assert item["measured"]["cancel"] == item["measured"]["contract"] == item["measured"]["cost"] == "confirmed"
    assert item["measured"]["sandbox"] == "unmeasured"
    assert (item["capabilities"]["sandbox"], item["fidelity"]["sandbox"]) == ("none", "none")


@pytest.mark.parametrize("isolation", [pytest.param("process", marks=pytest.mark.deep), "inline"])
def test_native_skills_are_measured_by_one_of_the_kit(isolation: str, tmp_path: Path) -> None:
    config = tmp_path / "skilld.toml"
    config.write_text(f'[backends.native]\nisolation = "{isolation}"\n')
    result = CliRunner().invoke(skillctl, ["backends", "--measure", "--json", "--config", str(config), "native"])
    assert result.exit_code == 0, result.output
    (item,) = json.loads(result.output)["items"]
    assert (item["name"], item["available"], item["failed"]) == ("native", True, [])
    assert item["capabilities"]["cancel"] is (isolation == "process")
    assert item["measured"]["contract"] == item["measured"]["files"] == "confirmed"


def test_what_the_api_executes_is_not_measured_from_here() -> None:
    result = CliRunner().invoke(skillctl, ["backends", "--measure", "anthropic"])
    assert result.exit_code == 1
    assert "cannot be measured from here" in result.output


def test_what_cannot_be_opened_is_told_with_the_way_out(tmp_path: Path) -> None:
    result = CliRunner().invoke(skillctl, ["backends", "--measure", "no-such"])
    assert result.exit_code == 1
    assert "there is no backend 'no-such'" in result.output


def test_a_configuration_without_measuring_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(skillctl, ["backends", "--config", str(tmp_path)])
    assert result.exit_code == 2
