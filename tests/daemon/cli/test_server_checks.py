"""What doctor says of tool servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from skilld.cli.server_checks import check_tool_servers
from skilld.config import ConfigError, load_config
from skilld.tool_servers import check_servers

SERVER = Path(__file__).parents[2] / "mcp_tool_server.py"


def test_each_server_is_started_and_tells_its_tools_or_why_it_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(
        f"""
[mcp.servers.good]
command = "{sys.executable}"
args = ["{SERVER}"]
sandbox = "none"
tools = ["echo", "fail"]
read_only = ["echo"]
[mcp.servers.bad]
command = "/bin/sh"
args = ["-c", "echo no licence >&2; exit 4"]
sandbox = "none"
"""
    )
    config = load_config(file, {"SKILLD_STATE_DIR": str(tmp_path / "state"), "SKILLD_SOCKET": str(tmp_path / "s")})
    good, bad = check_tool_servers(config, {})
    assert (good.level, good.message) == ("ok", "good: echo (reads), fail")
    assert bad.level == "fail"
    assert "no licence" in bad.message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('command = "/bin/cat"', "sandbox: commands of conversations have none here either"),
        ("", "give either command, of a program, or url"),
        ('command = "/bin/cat"\nurl = "http://x.example/mcp"', "give either command"),
        ('command = "bin/cat"\nsandbox = "none"', "must be an absolute path, or a name"),
        ('url = "ftp://x.example"', "expected http"),
        ('url = "https://me:geheim@x.example"', "use secret_headers"),
        ('url = "unix:x.sock"', "absolute path of a socket"),
        ('url = "https://x.example"\nheaders = {Host = "y"}', "Host is set by the protocol"),
        ('command = "/bin/cat"\nsandbox = "none"\nenv = {HOME = "/"}', "HOME is set by skilld itself"),
        ('command = "/bin/cat"\nsandbox = "none"\nsandbocks = 1', "sandbocks"),
    ],
)
def test_a_server_that_makes_no_sense_is_refused_at_the_start(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(f"[mcp.servers.x]\n{text}\n")
    environ = {"SKILLD_STATE_DIR": str(tmp_path / "state"), "SKILLD_SOCKET": str(tmp_path / "s")}
    with pytest.raises(ConfigError, match=why) as raised:
        check_servers(load_config(file, environ))
    assert "geheim" not in str(raised.value)


def test_a_default_that_is_no_server_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text('[mcp]\ndefault = ["notes"]\n')
    with pytest.raises(ConfigError, match="there is no server 'notes'"):
        load_config(file, {"SKILLD_STATE_DIR": str(tmp_path / "state"), "SKILLD_SOCKET": str(tmp_path / "s")})
