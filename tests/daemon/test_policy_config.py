"""The section [policy]: rules as they are written, their order, and what the mode of the daemon makes of them."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from policy_kit import bash_call
from skill_actors.sessions.policy import Policy
from skilld.config import Config, ConfigError, load_config
from skilld.session_defaults import session_defaults


def load(folder: Path, text: str) -> Config:
    file = folder / "skilld.toml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, {"SKILLD_STATE_DIR": str(folder / "state")}, uid=1000)


def verdict(config: Config, line: str, uid: int = 1000) -> str:
    policy = Policy(tools=["bash_tool"], rules=[session_defaults(config).policy], owner_uid=uid)
    return policy.decide(bash_call(line)).verdict


RULES = """
[policy]
preset = "guarded"
ask = ["Bash"]

[[policy.rules]]
effect = "deny"
command = ["rm **", "dd **"]

[[policy.rules]]
effect = "allow"
command = "touch **"
"""


def test_the_order_is_deny_rules_ask_preset(tmp_path: Path) -> None:
    config = load(tmp_path, RULES)
    assert [verdict(config, line) for line in ("touch a", "rm a", "ls")] == ["allow", "deny", "ask"]
    config = load(tmp_path, RULES.replace("ask =", "deny ="))
    assert [verdict(config, line) for line in ("touch a", "rm a", "ls")] == ["deny"] * 3
    config = load(tmp_path, RULES.replace('ask = ["Bash"]', ""))
    assert [verdict(config, line) for line in ("touch a", "ls", "make")] == ["allow", "allow", "deny"]


@pytest.mark.parametrize(("mode", "preset"), [("development", "full"), ("production", "workspace"), ("test", "full")])
def test_the_mode_decides_the_preset_where_none_is_named(tmp_path: Path, mode: str, preset: str) -> None:
    assert load(tmp_path, f"[daemon]\nmode = '{mode}'").policy.preset == preset
    assert load(tmp_path, f"[daemon]\nmode = '{mode}'\n[policy]\npreset = 'guarded'").policy.preset == "guarded"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("preset = 'safe'", "policy.preset = 'safe'"),
        ("rules = 'rm'", "policy.rules = 'rm'"),
        ("rules = [{effect = 'x'}]", "rules[0].effect: expected allow, ask or deny, got 'x'"),
        ("rules = [{effect = 'deny', comand = 'rm'}]", "rules[0]: unknown field 'comand'; command?"),
        ("rules = [{effect = 'deny', user = 'no-such-user'}]", "rules[0].user: there is no user 'no-such-user'"),
        ("[policy.rules]\neffect = 'deny'", "policy.rules"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[policy]\n{text}")
    assert why in str(caught.value)
    assert "skilld.toml" in str(caught.value)


def test_users_may_be_named(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid())
    config = load(tmp_path, f"[policy]\nrules = [{{effect = 'deny', user = ['{me.pw_name}', 4242]}}]")
    assert [verdict(config, "ls", uid) for uid in (me.pw_uid, 4242, 4243)] == ["deny", "deny", "allow"]


def test_rules_are_shown_as_they_are_written(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from skilld.cli.app import skillctl

    load(tmp_path, RULES)
    shown = CliRunner().invoke(skillctl, ["config", "show", "--json", "--origin", str(tmp_path / "skilld.toml")])
    found = json.loads(shown.output)
    assert found["values"]["policy.rules"][0] == {"effect": "deny", "command": ["rm **", "dd **"]}
    assert found["origins"]["policy.preset"].endswith("skilld.toml:3")
    checked = CliRunner().invoke(skillctl, ["config", "check", str(tmp_path / "skilld.toml")])
    assert "calls of tools: preset guarded in mode development, after 3 rules of your own" in checked.output
