"""doctor and config: what they find with no daemon running."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fake_daemon import fake_daemon
from skill_actors import __version__
from skilld.cli import checks, host_checks
from skilld.cli.app import skillctl

KEY = "sk-ant-api03-" + "x" * 40


def run(tmp_path: Path, *args: str, **env: str | None) -> Result:
    """skillctl in a world of its own: nothing of this machine's configuration is seen."""
    base: dict[str, str | None] = {name: None for name in os.environ if name.startswith(("SKILLD_", "ANTHROPIC_"))}
    base |= {"XDG_CONFIG_HOME": str(tmp_path / "config"), "SKILLD_STATE_DIR": str(tmp_path / "state")}
    base |= {"SKILLD_SOCKET": str(tmp_path / "skilld.sock"), "STATE_DIRECTORY": None, "CREDENTIALS_DIRECTORY": None}
    return CliRunner().invoke(skillctl, list(args), env={**base, **env})


def written(folder: Path, text: str) -> str:
    file = folder / "skilld.toml"
    file.write_text(text)
    return str(file)


def levels(result: Result) -> dict[str, str]:
    return {check["name"]: check["level"] for check in json.loads(result.stdout)["checks"]}


def test_doctor_finds_a_good_place_good(tmp_path: Path) -> None:
    skill = tmp_path / "skills" / "echo"
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: echo\ndescription: d\n---\n")
    file = written(tmp_path, "[skills]\npaths = ['skills']\n")
    result = run(tmp_path, "doctor", "--config", file, "--json")
    assert result.exit_code == 0
    expected = {"python": "ok", "bash": "ok", "daemon": "warn", "config": "ok", "socket folder": "ok", "state": "ok"}
    here = levels(result)
    assert here.pop("open files") in ("ok", "warn")
    assert here == {**expected, "skills": "ok", "model": "warn", "clock": "ok", "watches": "ok"}


@pytest.mark.parametrize(
    ("text", "level", "says"),
    [
        ("", "warn", "no cap in dollars"),
        ("[budget]\nday = { tokens = 5 }", "warn", "no cap in dollars"),
        ("[budget]\nday = { usd = 5.0 }\nturn = { usd = 1.0 }", "ok", "capped: turn, global/day"),
        ("[model]\nname = 'ours'\n[budget]\nday = { usd = 5.0 }", "fail", "ours has no price"),
        ("[model]\nname = 'ours'\n[budget]\nday = { tokens = 5 }", "warn", "no cap in dollars"),
        ("[model]\nprice_file = 'gone.toml'", "fail", "gone.toml"),
        ("[model]\nprovider = 'offline'", None, ""),
    ],
)
def test_doctor_says_whether_dollars_are_capped_and_the_model_has_a_price(
    tmp_path: Path, text: str, level: str | None, says: str
) -> None:
    result = run(tmp_path, "doctor", "--config", written(tmp_path, text), "--json", ANTHROPIC_API_KEY=KEY)
    checks = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "budget"]
    assert [check["level"] for check in checks] == ([] if level is None else [level])
    assert all(says in check["message"] for check in checks)


def test_doctor_mends_modes_when_asked_to_and_says_what_it_did(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("no-key")
    key.chmod(0o644)
    file = written(tmp_path, "[model]\napi_key_file = 'key'\n[skills]\npaths = ['skills']\n")
    Path(file).chmod(0o666)
    (tmp_path / "skills/echo").mkdir(parents=True)
    (tmp_path / "skills/echo/SKILL.md").write_text("---\nname: echo\ndescription: d\n---\n")
    before = run(tmp_path, "doctor", "--config", file, "--json")
    assert (levels(before)["credential"], levels(before)["config file"]) == ("warn", "fail")
    assert [check["name"] for check in json.loads(before.stdout)["checks"] if check["fixable"]] == [
        "credential",
        "config file",
    ]
    assert (key.stat().st_mode & 0o777, Path(file).stat().st_mode & 0o777) == (0o644, 0o666), "nothing was asked for"
    after = run(tmp_path, "doctor", "--config", file, "--fix", "--json")
    assert levels(after)["credential"] == "ok"
    assert "config file" not in levels(after)
    assert f"mended: chmod 600 {key}" in after.stderr
    assert (key.stat().st_mode & 0o777, Path(file).stat().st_mode & 0o777) == (0o600, 0o644)


def test_what_the_host_lacks_is_said_with_the_way_out(tmp_path: Path) -> None:
    assert host_checks.check_files(256).level == "warn"
    assert host_checks.check_files(-1).message == "no limit"
    assert host_checks.check_clock(0.0, 1e9).level == "fail"
    (tmp_path / "max_user_watches").write_text("100\n")
    assert host_checks.check_watches(40, tmp_path).level == "ok"
    assert host_checks.check_watches(80, tmp_path).remedy.startswith("sysctl fs.inotify.max_user_watches")
    assert host_checks.check_private_file(tmp_path / "gone").level == "fail"


def test_a_sandbox_or_an_engine_that_is_configured_and_not_there_is_a_failure(tmp_path: Path) -> None:
    text = "[backends]\noffered = ['docker', 'local']\n[backends.docker]\naddress = 'unix:///nowhere.sock'\n"
    file = written(tmp_path, text + "[backends.local]\nsandbox = 'bwrap'\n")
    result = run(tmp_path, "doctor", "--config", file, "--json", PATH="/nowhere")
    assert (levels(result)["engine"], levels(result)["sandbox"]) == ("fail", "fail")


def test_doctor_prints_a_line_a_check_and_a_remedy_where_there_is_one(tmp_path: Path) -> None:
    result = run(tmp_path, "doctor", "--config", written(tmp_path, "[skills]\npaths = ['gone']\n"))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("ok    python") for line in lines)
    index = next(number for number, line in enumerate(lines) if line.startswith("fail  skills"))
    assert "gone: No such file or directory" in lines[index]
    assert lines[index + 1].strip().startswith("-> make it readable, or correct skills.paths")


def test_doctor_names_a_fault_in_the_configuration(tmp_path: Path) -> None:
    result = run(tmp_path, "doctor", "--config", written(tmp_path, "[limits]\niteration = 3\n"), "--json")
    assert result.exit_code == 1
    fault = next(check for check in json.loads(result.stdout)["checks"] if check["name"] == "config")
    assert "limits.iterations" in fault["message"]


def test_root_may_look_at_the_daemon_of_another_user(tmp_path: Path) -> None:
    """As under systemd, where the folders of the socket and of the state belong to the user of the service."""
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    for name in ("run", "state"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 4711, 4711)
    file = written(tmp_path, "")
    own = {"SKILLD_SOCKET": f"{tmp_path}/run/s.sock", "SKILLD_STATE_DIR": f"{tmp_path}/state"}
    assert levels(run(tmp_path, "doctor", "--config", file, "--json", **own))["socket folder"] == "ok"
    os.chown(tmp_path / "run", 4712, 4712)
    assert levels(run(tmp_path, "doctor", "--config", file, "--json", **own))["socket folder"] == "fail"


def test_doctor_asks_the_daemon_that_runs(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("GET", "/v1/version", {"version": __version__})
        daemon.on_json("GET", "/v1/health/ready", {"status": "ready"})
        assert levels(run(tmp_path, "doctor", "--json"))["daemon"] == "ok"
        daemon.on_json("GET", "/v1/version", {"version": "0.0.1"})
        shown = run(tmp_path, "doctor").stdout
        assert "0.0.1 at" in shown
        assert "restart the daemon" in shown
        daemon.on_json("GET", "/v1/health/ready", {"status": "not_ready"}, 503)
        assert levels(run(tmp_path, "doctor", "--json"))["daemon"] == "warn"
        daemon.on_error("GET", "/v1/version", 500, "internal", "broken")
        assert levels(run(tmp_path, "doctor", "--json"))["daemon"] == "fail"


def test_a_credential_is_found_and_never_printed(tmp_path: Path) -> None:
    for args in (("doctor",), ("doctor", "--json"), ("config", "show"), ("config", "show", "--json")):
        result = run(tmp_path, *args, ANTHROPIC_API_KEY=KEY)
        assert KEY not in result.output
    assert levels(run(tmp_path, "doctor", "--json", ANTHROPIC_API_KEY=KEY))["model"] == "ok"


def test_a_missing_credential_that_is_demanded_fails(tmp_path: Path) -> None:
    file = written(tmp_path, "[model]\nprovider = 'anthropic'\n")
    assert levels(run(tmp_path, "doctor", "--config", file, "--json"))["model"] == "fail"


def test_an_old_python_and_a_missing_bash_fail(tmp_path: Path) -> None:
    assert checks.check_python((3, 10, 12)).level == "fail"
    assert checks.check_python((3, 14, 0)).level == "ok"
    assert checks.check_bash(str(tmp_path)).level == "fail"


def test_a_socket_folder_that_others_control_fails(tmp_path: Path) -> None:
    uid = os.getuid()
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    assert checks.check_socket_folder(folder, uid).level == "ok"
    folder.chmod(0o777)
    assert checks.check_socket_folder(folder, uid).level == "fail"
    (tmp_path / "link").symlink_to(folder)
    assert checks.check_socket_folder(tmp_path / "link", uid).level == "fail"
    assert checks.check_socket_folder(tmp_path / "new", uid).level == "ok"
    if uid != 0:
        assert checks.check_socket_folder(Path("/proc/none/x"), uid).level == "fail"


def test_little_room_warns_and_none_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.disk_usage(tmp_path)
    for free_bytes, level in ((10 << 30, "ok"), (500 << 20, "warn"), (1 << 20, "fail")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free_bytes: room._replace(free=free))
        assert checks.check_state(tmp_path).level == level


def test_a_state_folder_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert checks.check_state(tmp_path / "state").level == "fail"


def test_config_check_says_ok_or_what_is_wrong(tmp_path: Path) -> None:
    good = written(tmp_path, "[daemon]\ndrain_s = 5.0\n")
    ok, policy = run(tmp_path, "config", "check", good).stdout.splitlines()
    assert ok == f"{good}: ok"
    assert policy == "calls of tools: preset full in mode development; see skillctl policy check"
    assert json.loads(run(tmp_path, "config", "check", "--json", good).stdout)["valid"] is True
    bad = written(tmp_path, "[daemon]\ndrain = 5.0\n")
    result = run(tmp_path, "config", "check", bad)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"skillctl: error: {bad}:2: unknown key 'daemon.drain'")
    judged = run(tmp_path, "config", "check", "--json", bad)
    assert judged.exit_code == 1
    assert json.loads(judged.stdout)["valid"] is False


def test_config_show_tells_every_value_in_force(tmp_path: Path) -> None:
    file = written(tmp_path, "[daemon]\ndrain_s = 5.0\n[model]\nbase_url = 'https://user:hunter2@example.com'\n")
    shown = run(tmp_path, "config", "show", file).stdout.splitlines()
    assert shown[0] == f"# {file}"
    assert "daemon.drain_s = 5.0" in shown
    assert "hunter2" not in "\n".join(shown)
    values = json.loads(run(tmp_path, "config", "show", "--json", file).stdout)["values"]
    assert values["daemon.state_dir"] == str(tmp_path / "state")


def test_tables_of_programs_are_shown_whole_but_for_what_may_be_a_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-file")
    file = written(
        tmp_path,
        '[backends.command.mine]\nargv = ["/bin/echo"]\nenvironment = { A = "canary-environment" }\n'
        '[mcp.servers.one]\ncommand = "/bin/cat"\nenv = { B = "canary-env" }\n'
        f'secrets = {{ C = {{ file = "{tmp_path}/token" }} }}\n'
        '[mcp.servers.two]\nurl = "https://example.org/mcp"\nheaders = { X-One = "canary-header" }\n',
    )
    plain = run(tmp_path, "config", "show", file)
    as_json = run(tmp_path, "config", "show", "--json", file)
    for shown in (plain, as_json):
        assert (shown.exit_code, shown.stderr) == (0, "")
        assert "canary" not in shown.stdout
    values = json.loads(as_json.stdout)["values"]
    assert values["backends.command"]["mine"]["environment"] == {"A": "***"}
    assert values["mcp.servers"]["one"]["secrets"] == {"C": {"file": f"{tmp_path}/token"}}
    assert values["mcp.servers"]["two"]["headers"] == {"X-One": "***"}
