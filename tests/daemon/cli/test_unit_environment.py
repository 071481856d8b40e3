"""What the unit sets for the daemon, as doctor reads it: what systemctl prints, and what it does without one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skilld.cli.unit_environment import daemon_environment, read_shown

LOADED = "LoadState=loaded\n"


@pytest.mark.parametrize(
    ("shown", "variables"),
    [
        (
            LOADED + "Environment=SKILLD_BACKENDS=local SKILLD_SANDBOX=landlock",
            {"SKILLD_BACKENDS": "local", "SKILLD_SANDBOX": "landlock"},
        ),
        (LOADED + "Environment=\"A=two words\" B='x=y' C=", {"A": "two words", "B": "x=y", "C": ""}),
        (LOADED + "Environment=", {}),
        (LOADED + 'Environment="A=not closed', {}),
        (LOADED + "Environment=A =b word", {}),
        ("LoadState=not-found\nEnvironment=A=b", {}),
        ("Environment=A=b", {}),
        ("", {}),
    ],
)
def test_the_variables_of_a_unit_are_those_that_systemctl_shows(shown: str, variables: dict[str, str]) -> None:
    assert {name: value for name, value in read_shown(shown).items() if value or name in variables} == variables


def test_files_of_the_environment_win_over_the_unit_and_one_that_is_missing_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "its env"
    file.write_text('# a comment\n; another\n\nA=file\nB="two words"\nC=\'open\nnonsense\n')
    shown = (
        f"{LOADED}Environment=A=unit D=unit\nEnvironmentFiles={file} (ignore_errors=no)\n"
        f"EnvironmentFiles={tmp_path}/missing (ignore_errors=yes)\nEnvironmentFiles={tmp_path} (ignore_errors=no)"
    )
    assert read_shown(shown) == {"A": "file", "B": "two words", "D": "unit"}


def test_what_the_shell_says_wins() -> None:
    environ = {"SKILLD_BACKENDS": "docker", "HOME": "/root"}
    found = daemon_environment(environ, uid=0, show=lambda _: f"{LOADED}Environment=SKILLD_BACKENDS=local A=b HOME=/x")
    assert found == {"SKILLD_BACKENDS": "docker", "HOME": "/root", "A": "b"}


@pytest.mark.parametrize(("uid", "first"), [(0, "show"), (1000, "--user")])
def test_root_looks_at_the_unit_of_the_system_and_others_at_their_own(uid: int, first: str) -> None:
    asked: list[list[str]] = []

    def show(arguments: list[str]) -> str:
        asked.append(arguments)
        return LOADED

    assert daemon_environment({}, uid=uid, show=show) == {}
    assert asked[0][0] == first
    assert "skilld.service" in asked[0]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("systemctl"),
        subprocess.CalledProcessError(1, "systemctl"),
        subprocess.TimeoutExpired("systemctl", 10),
    ],
)
def test_without_systemd_the_shell_is_all_there_is(error: Exception) -> None:
    def show(arguments: list[str]) -> str:
        raise error

    assert daemon_environment({"A": "b"}, uid=0, show=show) == {"A": "b"}


def test_doctor_looks_at_the_units_daemon_unless_a_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A systemctl that tells of a mode there is not."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nprintf '{LOADED[:-1]}\\nEnvironment=SKILLD_MODE=nonsense\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    from skilld.cli import checks

    environ = {"PATH": "/usr/bin:/bin", "SKILLD_STATE_DIR": str(tmp_path / "state")}

    def of_config(file: Path | None) -> tuple[str, str]:
        found = {check.name: check for check in checks.check_all(str(tmp_path / "s.sock"), file, environ)}
        return found["config"].level, found["config"].message

    level, message = of_config(None)
    assert level == "fail"
    assert "nonsense" in message
    file = tmp_path / "skilld.toml"
    file.write_text("")
    assert of_config(file)[0] == "ok"
