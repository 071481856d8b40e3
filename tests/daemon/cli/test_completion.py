"""Names of skills at the press of a key: what the shells ask for, and one shell that really asks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from conftest import require
from e2e.harness import have
from fake_daemon import FakeDaemon, fake_daemon
from skilld.cli.app import skillctl

SHELLS = ("bash", "zsh", "fish")
# A shell puts what it is offered on its line as it is: the next key would run the second half of the first one.
HOSTILE = [
    *("e;id", "e$(id)", "e`id`", "e|sh", "e&id", "e>f", "e#", "e!x", "e*", "e?", "e[x]", "e{a,b}", "e(x)", "~e", "e=x"),
    *("two words", "e\u00a0x", "e'x", 'e"x', "e\\x", "e:x", "e,x", "e\nx", "e\tx", "e\u202ex", "-e", "--exec=x", ""),
]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        skills = [
            {"name": "echo", "description": "Says it\nagain", "entry": ["python3", "scripts/echo.py"]},
            {"name": "echo-twice", "description": "d", "entry": ["x"]},
            {"name": "guide", "description": "Read only", "entry": None},
            *({"name": name, "description": "d", "entry": ["x"]} for name in HOSTILE),
        ]
        daemon.on_json("GET", "/v1/skills", {"items": skills, "failures": []})
        yield daemon


def asks(shell: str, line: str) -> Mapping[str, str]:
    """What the shell's script asks skillctl when the key is pressed behind this line."""
    words = line.split(" ")
    position = words[-1] if shell == "fish" else str(len(words) - 1)
    return {"_SKILLCTL_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": position}


def completed(tmp_path: Path, shell: str, line: str) -> list[str]:
    """The values offered, without kinds and help."""
    env = {"SKILLD_SOCKET": str(tmp_path / "skilld.sock"), **asks(shell, line)}
    result = CliRunner().invoke(skillctl, [], env=env, prog_name="skillctl")
    assert result.exit_code == 0, result
    lines = result.stdout.strip("\n").splitlines()
    match shell:
        case "bash":
            return [line.partition(",")[2] for line in lines]
        case "zsh":
            return lines[1::3]
        case _:
            return [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("skillctl send /", ["/echo", "/echo-twice"]),
        ("skillctl send /echo-", ["/echo-twice"]),
        ("skillctl send -c --json /e", ["/echo", "/echo-twice"]),
        ('skillctl send "/e', ["/echo", "/echo-twice"]),
        ("skillctl send /x", []),
        ("skillctl send hello", []),
        ("skillctl send --skill ", ["echo", "echo-twice", "guide"]),
        ("skillctl send --skill g", ["guide"]),
        ("skillctl send --no-skill g", ["guide"]),
        ("skillctl skills show e", ["echo", "echo-twice"]),
        ("skillctl skills reload gu", ["guide"]),
    ],
)
def test_names_of_skills_complete(tmp_path: Path, shell: str, line: str, names: list[str]) -> None:
    assert completed(tmp_path, shell, line) == names


@pytest.mark.usefixtures("daemon")
def test_descriptions_stand_beside_the_names_on_one_line(tmp_path: Path) -> None:
    env = {"SKILLD_SOCKET": str(tmp_path / "skilld.sock"), **asks("zsh", "skillctl skills show echo")}
    lines = CliRunner().invoke(skillctl, [], env=env, prog_name="skillctl").stdout.splitlines()
    assert lines == ["plain", "echo", "Says it again", "plain", "echo-twice", "d"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_title_cannot_pass_for_something_to_complete(tmp_path: Path, shell: str) -> None:
    id = f"ses_{'a' * 26}"
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("GET", "/v1/sessions", {"items": [{"id": id, "title": "t\nplain\n;id\nx"}], "next": None})
        assert completed(tmp_path, shell, "skillctl show ses_") == [id]


def test_without_a_daemon_nothing_is_offered_and_nothing_is_said(tmp_path: Path) -> None:
    assert completed(tmp_path, "bash", "skillctl send /e") == []


@pytest.mark.usefixtures("daemon")
def test_bash_completes_a_message_that_begins_with_a_slash(tmp_path: Path) -> None:
    require(have("bash"), "bash is not installed")
    program = tmp_path / "skillctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m skilld.cli "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(skillctl completion bash)"\n'
        "COMP_WORDS=(skillctl send /ec) COMP_CWORD=2\n"
        "_skillctl_completion skillctl /ec send\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SKILLD_SOCKET": str(tmp_path / "skilld.sock")}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("/echo\n/echo-twice\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_caps_and_backends_are_completed(daemon: FakeDaemon, tmp_path: Path, shell: str) -> None:
    caps = [{"name": name} for name in ("global/day", "user/1000/month", "agent/a b", "user/$(id)")]
    daemon.on_json("GET", "/v1/budgets", {"items": caps, "next": None})
    assert completed(tmp_path, shell, "skillctl budget set u") == ["user", "user/day", "user/month", "user/1000/month"]
    assert completed(tmp_path, shell, "skillctl budget unset ag") == ["agent"]
    daemon.on_error("GET", "/v1/budgets", 403, "forbidden", "no")
    assert completed(tmp_path, shell, "skillctl budget show d") == ["day"]
    daemon.on_json("GET", "/v1/backends", {"items": [{"name": name} for name in ("local", "docker", "$(id)")]})
    assert completed(tmp_path, shell, "skillctl send --backend ") == ["local", "docker"]
    assert completed(tmp_path, shell, "skillctl chat --backend d") == ["docker"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "path", "field"),
    [
        ("skillctl ask ", "agents", "name"),
        ("skillctl workshop agent info ", "agents", "name"),
        ("skillctl workshop budget set 2 --agent ", "agents", "name"),
        ("skillctl workshop agent define x --profile ", "profiles", "name"),
        ("skillctl workshop profile show ", "profiles", "name"),
        ("skillctl workflow run ", "workflows", "name"),
        ("skillctl workflow reset ", "workflows", "name"),
        ("skillctl workflow status ", "runs", "id"),
        ("skillctl workshop schedule run ", "schedules", "name"),
        ("skillctl workshop worker stop ", "board/workers", "name"),
    ],
)
def test_names_of_the_workshop_complete_and_nothing_that_a_shell_would_read(
    tmp_path: Path, shell: str, line: str, path: str, field: str
) -> None:
    with fake_daemon(tmp_path) as daemon:
        items = [{field: name} for name in ("one", "on.e-2", "other", *HOSTILE)]
        daemon.on_json("GET", f"/v1/workshop/{path}", {"items": items, "next": None})
        assert completed(tmp_path, shell, f"{line}on") == ["one", "on.e-2"]
    assert completed(tmp_path, shell, f"{line}on") == []
