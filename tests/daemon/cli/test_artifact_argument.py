"""send --artifact: what is given under which name, and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, a_turn, fake_daemon
from skilld.cli.app import skillctl
from skilld.cli.artifact_argument import artifact_of
from skilld.cli.failure import Failure

MESSAGES = f"/v1/sessions/{SESSION}/messages"


def send(folder: Path, *args: str) -> Result:
    env = {"SKILLD_SOCKET": str(folder / "skilld.sock")}
    return CliRunner().invoke(skillctl, ["send", "-s", SESSION, *args, "hi"], env=env)


def test_texts_and_uris_go_along_with_the_message(tmp_path: Path) -> None:
    (tmp_path / "rules.md").write_text("never \u2192 on a Friday = no\n")
    named = ("--artifact", f"rules.md=@{tmp_path}/rules.md", "--artifact", "z.csv=skill://tides/assets/z.csv?a=b")
    with fake_daemon(tmp_path) as daemon:
        daemon.on_events("POST", MESSAGES, (a_turn("ok"), "clean"))
        assert send(tmp_path, *named).exit_code == 0
        (sent,) = daemon.requests("POST", MESSAGES)
        assert json.loads(sent.body)["artifacts"] == [
            {"name": "rules.md", "content": "never \u2192 on a Friday = no\n"},
            {"name": "z.csv", "uri": "skill://tides/assets/z.csv?a=b"},
        ]
        assert send(tmp_path).exit_code == 0
        assert "artifacts" not in json.loads(daemon.requests("POST", MESSAGES)[1].body)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("rules.md", "is not NAME=URI"),
        ("=https://example.com/x", "is not NAME=URI"),
        ("x=", "is not NAME=URI"),
        ("x=@", "is not NAME=URI"),
        ("\x1b[2J", "'\\\\x1b"),
        ("x=@{folder}/none", "No such file"),
        ("x=@{folder}", "directory"),
        ("x=@{folder}/large", "holds more than 1048576 bytes"),
        ("x=@{folder}/bytes", "not UTF-8 at byte 1"),
    ],
)
def test_what_cannot_be_given_is_said_and_nothing_is_sent(tmp_path: Path, given: str, why: str) -> None:
    (tmp_path / "large").write_bytes(b"x" * (1 << 20 | 1))
    (tmp_path / "bytes").write_bytes(b"x\xff")
    with pytest.raises(Failure, match=why) as raised:
        artifact_of(given.format(folder=tmp_path))
    assert raised.value.exit_code == 2
