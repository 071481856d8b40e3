"""skillctl policy check: the verdict, the rule, what runs; exit codes; nothing that a terminal would obey."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, FakeDaemon, fake_daemon
from skilld.cli.app import skillctl


def check(tmp_path: Path, *args: str) -> Result:
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), "SKILLD_SOCKET": str(tmp_path / "none")}
    return CliRunner().invoke(skillctl, ["policy", "check", *args], env=environment)


def rules(tmp_path: Path, text: str) -> str:
    file = tmp_path / "rules.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_the_verdict_is_printed_and_is_the_exit_code(tmp_path: Path) -> None:
    file = rules(
        tmp_path,
        '[policy]\nask = ["Bash"]\n[[policy.rules]]\neffect = "deny"\ncommand = "rm **"\nreason = "no"\n'
        '[[policy.rules]]\neffect = "allow"\ncommand = "ls **"\n',
    )
    found = {line: check(tmp_path, "--rules", file, line) for line in ("ls -l", "id", "env rm x > y")}
    assert [result.exit_code for result in found.values()] == [0, 3, 5]
    assert found["ls -l"].output == f"verdict: allow\nrule:    policy.rules[1]\nby:      {file}\nruns:    ls -l\n"
    assert "rule:    policy.ask\n" in found["id"].output
    assert found["env rm x > y"].output.splitlines() == [
        "verdict: deny",
        "rule:    policy.rules[0]",
        f"by:      {file}",
        "why:     no",
        "runs:    env rm x  [opens y]",
        "runs:    rm x  [opens y]",
    ]


def test_several_words_are_one_command_and_one_is_a_line(tmp_path: Path) -> None:
    assert json.loads(check(tmp_path, "--json", "--", "echo", "a; rm b").output)["commands"] == [
        {"program": "echo", "words": ["echo", "a; rm b"], "sure": True, "doubt": None, "files": []}
    ]
    programs = [each["program"] for each in json.loads(check(tmp_path, "--json", "echo a; rm b").output)["commands"]]
    assert programs == ["echo", "rm"]


def test_other_tools_presets_and_places(tmp_path: Path) -> None:
    def verdict(*args: str) -> str:
        return str(json.loads(check(tmp_path, "--json", *args).output)["verdict"])

    assert verdict("--preset", "guarded", "--tool", "Write", "--path", "a") == "allow"
    assert verdict("--preset", "guarded", "--tool", "create_file", "--path", "../a") == "ask"
    assert verdict("--preset", "read-only", "--tool", "Write", "--path", "a") == "deny"
    assert verdict("--preset", "workspace", "make") == "ask"
    assert verdict("--preset", "workspace", "--confined", "make") == "allow"
    assert verdict("--preset", "workspace", "--backend", "docker", "make") == "allow"
    owned = rules(tmp_path, 'rules = [{effect = "deny", user = 5}]')
    assert [verdict("--rules", owned, "--user", uid, "ls") for uid in ("5", "6")] == ["deny", "allow"]


def test_the_configuration_in_force_is_asked_where_nothing_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text('[policy]\npreset = "read-only"\n')
    monkeypatch.setattr("skilld.paths.find_host_config", lambda uid: None)
    monkeypatch.setattr("skilld.paths.find_config", lambda env, uid: file)
    result = check(tmp_path, "touch x")
    assert result.exit_code == 5
    assert result.output.splitlines()[1:3] == ["rule:    read-only[4]", f"by:      {file}; mode development"]
    monkeypatch.setattr("skilld.paths.find_config", lambda env, uid: None)
    assert json.loads(check(tmp_path, "--json", "ls").output)["by"] == "no configuration file; mode development"


def test_what_is_printed_is_inert(tmp_path: Path) -> None:
    for line in ("cat \x1b[2J", "cat '\u202ex'", "cat 'x\ny'", "\u0433m", "ls \x9b"):
        output = check(tmp_path, "--preset", "read-only", line).output
        assert not set(output) & set("\x1b\x9b\u202e")
        assert all(
            text.partition(":")[0] in ("verdict", "rule", "by", "why", "opaque", "runs") for text in output.splitlines()
        )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give a COMMAND, or --tool"),
        (["--tool", "Read", "ls"], "give a COMMAND, or --tool"),
        (["--tool", "Raed"], "there is no tool 'Raed'"),
        (["--preset", "none", "ls"], "'none' is not one of"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(tmp_path: Path, args: list[str], said: str) -> None:
    result = check(tmp_path, *args)
    assert result.exit_code == 2
    assert said in result.output


def test_rules_that_are_wrong_are_named(tmp_path: Path) -> None:
    for text, said in {
        'rules = [{effect = "x"}]': "rules[0].effect: expected allow, ask or deny",
        "rules = [": "rules.toml: Invalid value",
        'denny = ["Bash"]': "denny: Extra inputs are not permitted",
    }.items():
        result = check(tmp_path, "--rules", rules(tmp_path, text), "ls")
        assert result.exit_code == 2
        assert said in result.output


def test_no_daemon_is_asked_but_for_a_session(tmp_path: Path) -> None:
    assert check(tmp_path, "ls").exit_code == 0
    assert check(tmp_path, "--session", "ses_" + "a" * 26, "ls").exit_code == 4


def test_the_policy_of_a_session_is_judged_by_too(tmp_path: Path) -> None:
    with fake_daemon(tmp_path, FakeDaemon(tmp_path / "none")) as daemon:
        daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"id": SESSION, "policy": {"preset": "guarded"}})
        result = check(tmp_path, "--preset", "full", "--session", SESSION, "make test")
        assert (result.exit_code, result.output.splitlines()[1]) == (3, "rule:    guarded[5]")
        daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"id": SESSION, "policy": None})
        assert check(tmp_path, "--preset", "full", "--session", SESSION, "make test").exit_code == 0
