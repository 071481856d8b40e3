"""skillctl docker: checks and builds, on a real engine; what is said without one."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from docker_kit import engine, engine_with_slim_image
from fake_daemon import fake_daemon
from skill_actors.backends import docker_image
from skill_actors.backends.docker_image import FULL_IMAGE, SLIM_IMAGE
from skilld.cli.app import skillctl
from skilld.cli.docker_checks import (
    check_image,
    judge_engine,
    judge_probe,
    judge_programs,
    judge_runtime,
    judge_version,
)

PAGE = Path(__file__).parents[3] / "docs/docker.md"
CODE = re.compile(r"`([^`]+)`")

INFO: dict[str, Any] = {
    "CgroupVersion": "2",
    "CgroupDriver": "systemd",
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=userns"],
    "Driver": "overlay2",
    "Runtimes": {"runc": {}, "runsc": {}},
    "DefaultRuntime": "runc",
}
SEEN: dict[str, Any] = {
    "capabilities": "0000000000000000",
    "no_new_privileges": "1",
    "seccomp": "2",
    "root_read_only": True,
    "routes": 0,
    "mount_denied": True,
    "memory": str(64 << 20),
    "pids": "32",
    "files": 256,
    "first_process": "docker-init",
}


NEVER_MADE = "localhost/skilld-test:never-made"


def run(*args: str, **env: str | None) -> Result:
    """skillctl docker in a world of its own: nothing of this machine's configuration is seen."""
    nothing = dict.fromkeys(name for name in os.environ if name.startswith("SKILLD_"))
    return CliRunner().invoke(skillctl, ["docker", *args], env={**nothing, "XDG_CONFIG_HOME": "/nonexistent", **env})


def judged(**changes: Any) -> dict[str, str]:
    return {check.name: check.level for check in judge_engine({**INFO, **changes})}


def test_an_engine_that_limits_and_filters_is_good() -> None:
    assert judged() == {"cgroup": "ok", "seccomp": "ok", "users": "ok", "storage": "ok"}


@pytest.mark.parametrize("key", ["MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit"])
def test_a_limit_that_is_not_enforced_is_a_failure_with_its_remedy(key: str) -> None:
    for changes in ({key: False}, {key: None}):
        (found,) = (check for check in judge_engine({**INFO, **changes}) if check.name == "cgroup")
        assert (found.level, bool(found.remedy)) == ("fail", True)
        assert "not limited: " in found.message


@pytest.mark.parametrize(
    ("options", "level"),
    [
        (["name=seccomp,profile=default"], "ok"),
        (["seccomp"], "ok"),
        (["name=seccomp,profile=unconfined"], "fail"),
        (["name=apparmor"], "fail"),
        ([], "fail"),
        (None, "fail"),
    ],
)
def test_without_a_filter_of_system_calls_the_engine_fails(options: list[str] | None, level: str) -> None:
    assert judged(SecurityOptions=options)["seccomp"] == level


def test_what_could_be_better_is_a_warning() -> None:
    assert judged(SecurityOptions=["name=seccomp"])["users"] == "warn"
    assert judged(SecurityOptions=["name=seccomp", "name=rootless"])["users"] == "ok"
    assert judged(Driver="vfs")["storage"] == "warn"


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ({"Version": "20.10.24+dfsg1", "ApiVersion": "1.41"}, "ok"),
        ({"Version": "28.0.1", "ApiVersion": "1.48"}, "ok"),
        ({"Version": "19.03.1", "ApiVersion": "1.40"}, "fail"),
        ({"Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}, "ok"),
        ({"Version": "3.4.0", "Components": [{"Name": "Podman Engine"}]}, "fail"),
        ({"Version": "dev"}, "fail"),
        ({}, "fail"),
    ],
)
def test_an_old_engine_is_refused(version: dict[str, Any], level: str) -> None:
    assert judge_version(version, "unix:///x").level == level


def test_a_runtime_that_is_asked_for_must_be_known() -> None:
    assert judge_runtime(INFO, None).level == "ok"
    assert judge_runtime(INFO, "runsc").message.startswith("runsc, of runc, runsc")
    assert judge_runtime(INFO, "kata").level == "fail"
    assert "kata" in judge_runtime(INFO, "kata").remedy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("capabilities", "00000000a80425fb"),
        ("no_new_privileges", "0"),
        ("seccomp", "0"),
        ("root_read_only", False),
        ("routes", 2),
        ("mount_denied", False),
        ("memory", "max"),
        ("memory", "9223372036854771712"),
        ("pids", "max"),
        ("files", 1048576),
        ("first_process", "python3"),
    ],
)
def test_whatever_is_not_in_force_inside_is_a_failure(key: str, value: object) -> None:
    assert judge_probe(SEEN).level == "ok"
    found = judge_probe({**SEEN, key: value})
    assert (found.level, "not so inside" in found.message) == ("fail", True)


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        ({"python": [3, 11], "bash": True}, "ok"),
        ({"python": [4, 0], "bash": True}, "ok"),
        ({"python": [3, 9], "bash": True}, "fail"),
        ({"python": [3, 11], "bash": False}, "fail"),
    ],
)
def test_an_image_without_what_runs_tools_fails(seen: dict[str, Any], level: str) -> None:
    assert judge_programs(seen, "x").level == level


def test_a_runtime_with_a_kernel_of_its_own_may_not_show_everything() -> None:
    inside = {**SEEN, "no_new_privileges": None, "seccomp": "0", "memory": None, "pids": None}
    found = judge_probe(inside, "runsc")
    assert found.level == "warn"
    assert "not shown there: no new privileges, seccomp, memory limit, process limit" in found.message
    assert judge_probe(inside, "crun").level == "fail"
    assert judge_probe({**inside, "capabilities": "1"}, "runsc").level == "fail"


def test_without_an_engine_every_command_says_so_and_exits_4(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/docker.sock"
    for args in (["build"], ["build", "--slim"], ["check"]):
        result = run(*args, "--engine", address)
        assert (result.exit_code, "apt-get install docker.io" in result.output) == (4, True)
        assert len(result.output.splitlines()) <= 2
    result = run("check", "--json", DOCKER_HOST=address)
    assert result.exit_code == 4
    assert [check["name"] for check in json.loads(result.stdout)["checks"]] == ["engine"]


@pytest.mark.parametrize("args", [["--base", "x"], ["--no-pypi"], ["--ca", __file__], ["--base", "x", "--mirror", "y"]])
def test_options_that_do_not_go_together_are_wrong_use(args: list[str], tmp_path: Path) -> None:
    slim = [] if "--mirror" in args else ["--slim"]
    assert run("build", *slim, *args, "--engine", f"unix://{tmp_path}/docker.sock").exit_code == 2


@pytest.fixture
def client() -> Iterator[Any]:
    with engine_with_slim_image() as found:
        yield found


def test_the_slim_image_passes_every_check_on_the_engine_of_the_tests(client: Any) -> None:
    result = run("check", "--json", "--image", SLIM_IMAGE)
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"]) == (0, True), told
    names = ["engine", "cgroup", "seccomp", "users", "storage", "runtime", "image", "programs", "container"]
    assert [check["name"] for check in told["checks"]] == names
    assert told["checks"][-1]["level"] == "ok"
    assert client.containers.list(all=True, filters={"label": "skilld.probe"}, ignore_removed=True) == []


def test_check_prints_a_line_a_check_and_its_remedy(client: Any) -> None:
    result = run("check", "--image", NEVER_MADE)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    index = next(number for number, line in enumerate(lines) if line.startswith("fail  image"))
    assert f"-> skillctl docker build --tag {NEVER_MADE}" in lines[index + 1]
    assert not any("container" in line.split()[:2] for line in lines)  # there is nothing to start one of


def test_the_image_the_runtime_and_the_engine_are_those_of_the_configuration(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(f"[backends.docker]\nimage = '{NEVER_MADE}'\nruntime = 'none-such'\n")
    levels = {
        check["name"]: check for check in json.loads(run("check", "--json", "--config", str(file)).stdout)["checks"]
    }
    assert "none-such is not among" in levels["runtime"]["message"]
    assert f"{NEVER_MADE} is not there" in levels["image"]["message"]
    file.write_text(f"[backends.docker]\naddress = 'unix://{tmp_path}/docker.sock'\n")
    assert run("check", "--config", str(file)).exit_code == 4
    file.write_text("[backends.docker]\nimages = 'x'\n")
    result = run("check", "--config", str(file))
    assert (result.exit_code, "backends.docker.image" in result.output) == (1, True)


def test_a_runtime_that_the_engine_has_not_fails_before_a_container_is_made(client: Any) -> None:
    result = run("check", "--json", "--image", SLIM_IMAGE, "--runtime", "none-such")
    levels = {check["name"]: check["level"] for check in json.loads(result.stdout)["checks"]}
    assert (result.exit_code, levels["runtime"]) == (1, "fail")
    assert "container" not in levels


@pytest.mark.parametrize(
    ("section", "level", "says"),
    [
        (f"image = '{SLIM_IMAGE}'", "ok", f"{SLIM_IMAGE}, "),
        ("image = 'ID OF SLIM'", "ok", " MiB, of 20"),
        (f"image = '{NEVER_MADE}'", "fail", f"is not there -> skillctl docker build --tag {NEVER_MADE}, docker pull"),
        (f"image = '{NEVER_MADE}'\npull = 'missing'", "ok", "is pulled when it is needed"),
        (f"image = 'sha256:{'0' * 64}'", "fail", "0 is not there -> set backends.docker.image or pull"),
        ("image = 'Not A Name'", "fail", "-> correct backends.docker.image"),
        ("image = 'x/../../containers'", "fail", "-> correct backends.docker.image"),
    ],
)
def test_doctor_looks_for_the_image_that_is_configured(
    client: Any, tmp_path: Path, section: str, level: str, says: str
) -> None:
    file = tmp_path / "skilld.toml"
    section = section.replace("ID OF SLIM", client.images.get(SLIM_IMAGE).id)
    file.write_text(f"[backends]\ndefault = ['docker']\n[backends.docker]\n{section}\n")
    found = diagnosed(file)
    assert (found["engine"]["level"], found["image"]["level"]) == ("ok", level), found
    assert found["engine"]["message"].startswith("answers at ")
    assert says in f"{found['image']['message']} -> {found['image']['remedy']}"


@pytest.mark.parametrize(
    ("status", "answer", "level"),
    [
        (404, {"reason": "another's words"}, "fail"),
        (403, ["another's words"], "fail"),
        (200, "another's words", "fail"),
        (200, {"Id": "sha256:0"}, "fail"),
        (200, {"Id": "sha256:0", "Size": None}, "fail"),
        (200, {"Id": "sha256:0", "Size": 3 << 20}, "ok"),
    ],
)
def test_doctor_goes_on_whatever_an_engine_answers(tmp_path: Path, status: int, answer: Any, level: str) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(
        "[backends]\ndefault = ['docker']\n"
        f"[backends.docker]\nimage = 'there:1'\naddress = 'unix://{tmp_path}/skilld.sock'\n"
    )
    with fake_daemon(tmp_path) as other:
        other.on_json("GET", "/version", {"ApiVersion": "1.41"})
        other.on_json("GET", "/v1.41/images/there:1/json", answer, status)
        found = diagnosed(file)
    assert (found["engine"]["level"], found["image"]["level"]) == ("ok", level), found
    assert found["image"]["message"].startswith("there:1")


def diagnosed(file: Path) -> dict[str, dict[str, Any]]:
    """doctor's checks by name, in a world of its own."""
    nothing = dict.fromkeys(name for name in os.environ if name.startswith("SKILLD_"))
    places = {"XDG_CONFIG_HOME": "/nonexistent", "SKILLD_SOCKET": f"{file.parent}/none.sock"}
    environ = {**nothing, **places, "SKILLD_STATE_DIR": f"{file.parent}/state"}
    result = CliRunner().invoke(skillctl, ["doctor", "--json", "--config", str(file)], env=environ)
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_an_image_without_python_cannot_hold_conversations(client: Any) -> None:
    name = f"localhost/skilld-test:{secrets.token_hex(6)}"
    container = client.containers.create(SLIM_IMAGE, ["rm", "-f", "/usr/bin/python3"], network_mode="none")
    try:
        container.start()
        container.wait(timeout=60)
        container.commit(*name.split(":"))
        result = run("check", "--json", "--image", name)
    finally:
        container.remove(force=True)
        client.images.remove(name, force=True)
    last = json.loads(result.stdout)["checks"][-1]
    assert (result.exit_code, last["name"], last["level"]) == (1, "container", "fail")
    assert "python3" in last["message"] + last["remedy"]


def test_an_image_with_a_volume_cannot_hold_conversations(client: Any) -> None:
    name = f"localhost/skilld-test:{secrets.token_hex(6)}"
    client.images.build(fileobj=io.BytesIO(f"FROM {SLIM_IMAGE}\nVOLUME /data\n".encode()), tag=name, rm=True)
    try:
        check = check_image(client, name)
    finally:
        client.images.remove(name, force=True)
    assert (check.level, check.remedy) == ("fail", "make one without VOLUME")
    assert "declares volumes (/data)" in check.message


def test_an_image_with_a_user_of_its_own_passes_too(client: Any) -> None:
    name = f"localhost/skilld-test:{secrets.token_hex(6)}"
    container = client.containers.create(SLIM_IMAGE, ["true"], network_mode="none")
    try:
        container.commit(*name.split(":"), conf={"User": "65534:65534"})
        result = run("check", "--json", "--image", name)
    finally:
        container.remove(force=True)
        client.images.remove(name, force=True)
    assert json.loads(result.stdout)["checks"][-1]["message"].startswith("seen from inside: no capability, no new")
    assert result.exit_code == 0


def test_a_file_without_certificates_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    odd = tmp_path / "odd.pem"
    for data in (b"no certificate", b"\xff\xfe", b""):
        odd.write_bytes(data)
        result = run("build", "--ca", str(odd), "--engine", f"unix://{tmp_path}/docker.sock")
        assert (result.exit_code, str(odd) in result.output) == (1, True)
    assert run("build", "--ca", str(tmp_path / "gone")).exit_code == 2


def test_a_build_that_fails_is_one_line_and_exit_1(tmp_path: Path) -> None:
    tool = tmp_path / "mmdebstrap"
    tool.write_text('#!/bin/sh\necho "E: no route to the mirror" >&2\nexit 1\n')
    tool.chmod(0o755)
    with engine():
        result = run("build", "--slim", "--tag", NEVER_MADE, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("skillctl: error: mmdebstrap failed: E: no route to the mirror")


def table(heading: str, number: int = 0) -> list[list[str]]:
    """The rows of a section's table in the manual, without its head."""
    section = PAGE.read_text().partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in tables[number].splitlines()[2:]]


def page_names(heading: str, number: int = 0) -> list[str]:
    """What the rows of a table of the manual begin with, where that is code."""
    rows = table(heading, number)
    return [CODE.findall(row[0])[0] for row in rows]


def test_the_manual_names_the_options_of_build_and_the_checks_in_order() -> None:
    command = skillctl.get_command(click.Context(skillctl), "docker")
    assert isinstance(command, click.Group)
    options = {option for parameter in command.commands["build"].params for option in parameter.opts}
    assert {name.split()[0] for name in page_names("## The images", 2)} == options - {"--engine", "--json"}
    names = ["engine", "cgroup", "seccomp", "users", "storage", "runtime", "image", "programs", "container"]
    assert page_names("## The check") == names


def test_the_manual_names_the_images_and_what_comes_from_pypi() -> None:
    assert page_names("## The images") == [SLIM_IMAGE, FULL_IMAGE]
    dockerfile = files(docker_image).joinpath("Dockerfile").read_text()
    (_, _, from_pypi) = table("## The images", 1)
    (installed,) = re.findall(r"--root-user-action=ignore \\\n\s+(.*); \\\n", dockerfile)
    named = re.findall(r"[\w-]+", re.sub(r"pptx \((.*)\)", r"\1", from_pypi[1]))
    assert sorted(named) == sorted(re.findall(r"([\w-]+)(?:<\d+)?", installed))
