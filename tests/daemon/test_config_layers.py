"""Several files, the environment and flags: what counts, where it came from, and which combinations are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from skilld import paths
from skilld.app import check_config
from skilld.cli.app import skillctl
from skilld.config import Config, ConfigError, Loaded, config_keys, find_and_load, load_config
from support import run

UID = 1000


def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """The file of the host, which is somewhere else here."""
    file = tmp_path / "etc/skilld/skilld.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    monkeypatch.setattr(paths, "_HOST_CONFIG", file)
    return file


def drop_in(beside: Path, name: str, text: str) -> Path:
    file = beside.parent / "conf.d" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file


def own(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "home/.config/skilld/skilld.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def found(tmp_path: Path, env: dict[str, str] | None = None, uid: int = UID, **flags: Any) -> Loaded:
    overrides = {name.replace("__", "."): value for name, value in flags.items()}
    return find_and_load(None, {"HOME": str(tmp_path / "home"), **(env or {})}, overrides, uid=uid)


def test_later_files_overrule_earlier_ones_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = host(tmp_path, monkeypatch, "[limits]\niterations = 1\nturn_timeout_s = 1.0\nqueued_messages = 1\n")
    last = drop_in(etc, "20-b.toml", "[limits]\nturn_timeout_s = 3.0\nqueued_messages = 3\n")
    first = drop_in(etc, "10-a.toml", "[limits]\nturn_timeout_s = 2.0\n[skills]\ndeny = ['a']\n")
    (etc.parent / "conf.d/ignored.toml.bak").write_text("not toml [")
    mine = own(tmp_path, "[limits]\nqueued_messages = 4\n[skills]\ndeny = ['b']\n")
    loaded = found(tmp_path)
    limits = loaded.config.limits
    assert (limits.iterations, limits.turn_timeout_s, limits.queued_messages) == (1, 3.0, 4)
    assert loaded.config.skills.deny == ("b",), "lists are not joined"
    assert loaded.files == (etc, first, last, mine)


def test_names_in_free_tables_are_added(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text("[backends.local.environment]\nA = '1'\nB = '1'\n[skills.secrets.one]\nTOKEN = {file = 'here'}\n")
    drop_in(
        file, "x.toml", "[backends.local]\nenvironment = {B = '2'}\n[skills.secrets.two]\nTOKEN = {file = 'there'}\n"
    )
    config = load_config(file, {"HOME": str(tmp_path)}, uid=UID)
    assert config.backends.local.environment == {"A": "1", "B": "2"}
    secrets = config.skills.secrets
    assert secrets["one"]["TOKEN"].file == tmp_path / "here"
    assert secrets["two"]["TOKEN"].file == tmp_path / "conf.d/there", "a path is relative to the file that names it"


def test_of_the_hosts_file_a_users_daemon_takes_the_limits_and_not_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "[daemon]\nmode = 'production'\nsocket = '/run/x.sock'\n[roles.send]\nuids = [7]\n[metrics]\n"
        "listen = '127.0.0.1:9464'\n[hooks]\nurl = 'https://a.example.com'\n[audit]\nreads = true\n"
        "[model]\nname = 'm'\napi_key_file = '/etc/skilld/key'\n[policy]\ndeny = ['Bash']\n"
        "[skills]\nwatch = false\n[skills.secrets.mail]\nTOKEN = {file = '/etc/skilld/mail'}\n"
    )
    etc = host(tmp_path, monkeypatch, text)
    config = found(tmp_path).config
    assert (config.model.name, config.policy.deny) == ("m", ("bash_tool",))
    assert (config.model.api_key_file, config.skills.secrets, config.skills.watch) == (None, {}, False)
    assert config.daemon.mode == "development"
    assert (config.metrics, config.hooks, config.audit) == (Config().metrics, Config().hooks, Config().audit)
    assert not config.roles.configured
    service = find_and_load(None, {}, uid=0).config
    assert (service.daemon.mode, service.roles.send.uids, service.audit.reads) == ("production", (7,), True)
    named = find_and_load(etc, {"HOME": str(tmp_path)}, uid=UID).config
    assert named.roles.send.uids == (7,), "whoever names the file, as the unit does, gets all of it"


def test_a_hosts_file_that_a_user_may_not_read_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, "[limits]\niterations = 1\n")
    monkeypatch.setattr(os, "access", lambda *_args: False)
    assert found(tmp_path).config.limits.iterations == 25


def test_a_drop_in_that_others_could_have_written_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text("")
    extra = drop_in(file, "a.toml", "")
    extra.chmod(0o666)
    with pytest.raises(ConfigError, match=r"a\.toml: can be written by everybody"):
        load_config(file, {}, uid=UID)
    extra.chmod(0o644)
    extra.parent.chmod(0o777)
    with pytest.raises(ConfigError, match=r"conf\.d: can be written by everybody"):
        load_config(file, {}, uid=UID)
    extra.parent.chmod(0o755)
    load_config(file, {"HOME": str(tmp_path)}, uid=UID)
    if os.geteuid() == 0:
        os.chown(extra, 4711, 4711)
        with pytest.raises(ConfigError, match=r"a\.toml: belongs to user 4711"):
            load_config(file, {}, uid=UID)


def test_a_fault_names_the_file_that_says_it(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text("[limits]\niterations = 3\n")
    extra = drop_in(file, "a.toml", "# more\n[limits]\niterations = 0\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {}, uid=UID)
    assert f"{extra}: limits.iterations = 0: must be" in str(caught.value)
    extra.write_text("# more\n[limits]\n\niteration = 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {}, uid=UID)
    assert f"{extra}:4: unknown key 'limits.iteration': did you mean 'limits.iterations'?" in str(caught.value)


def test_what_only_goes_together_may_stand_in_two_files(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text("[files]\nstorage = 's3'\n")
    with pytest.raises(ConfigError, match="bucket must be named"):
        load_config(file, {}, uid=UID)
    drop_in(file, "a.toml", "[files]\nbucket = 'b'\n")
    assert load_config(file, {"HOME": str(tmp_path)}, uid=UID).files.bucket == "b"


def test_a_home_of_nobody_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text("[skills]\npaths = ['~nobody-of-this-name/x']\n")
    with pytest.raises(ConfigError, match="nobody-of-this-name"):
        load_config(file, {}, uid=UID)


def test_every_value_has_an_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = host(tmp_path, monkeypatch, "[policy]\ndeny = ['Bash']\n")
    mine = own(tmp_path, "limits.iterations = 3\n\n[backends]\nlocal = {sandbox = 'none'}\n[daemon]\nmode = 'test'\n")
    env = {"SKILLD_MODE": "development", "SKILLD_SANDBOX": "landlock", "SKILLD_STATE_DIR": "/x"}
    origins = {key: str(origin) for key, origin in found(tmp_path, env, daemon__socket=Path("/s")).origins.items()}
    assert origins.keys() == config_keys().keys()
    assert origins["policy.deny"] == f"file {etc}:2"
    assert origins["limits.iterations"] == f"file {mine}:1"
    assert origins["backends.local.sandbox"].startswith(f"file {mine}"), "the variable counts where no file says it"
    assert origins["daemon.mode"] == "environment SKILLD_MODE"
    assert origins["daemon.state_dir"] == "environment SKILLD_STATE_DIR"
    assert origins["daemon.socket"] == "flag --socket"
    assert origins["limits.max_body_bytes"] == "default"


def test_show_tells_origins_and_masks_what_may_be_secret(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(
        "[hooks]\nurl = 'https://hooks.example.com/T000/canary'\n[backends.local]\nenvironment = {A = 'canary'}\n"
        "[model]\nbase_url = 'https://u:canary@api.example.com'\n"
    )
    plain = CliRunner().invoke(skillctl, ["config", "show", "--origin", str(file)])
    assert f'hooks.url = "https://hooks.example.com/***" # file {file}:2' in plain.stdout.splitlines()
    assert 'files.folder = "" # not set; default' in plain.stdout.splitlines()
    told = CliRunner().invoke(skillctl, ["config", "show", "--origin", "--json", str(file)])
    assert "canary" not in plain.stdout + told.stdout
    answer = json.loads(told.stdout)
    assert answer["files"] == [str(file)]
    assert answer["origins"]["hooks.url"] == f"file {file}:2"
    assert answer["origins"].keys() == answer["values"].keys()
    assert "origins" not in json.loads(CliRunner().invoke(skillctl, ["config", "show", "--json", str(file)]).stdout)


HOST = "[backends]\noffered = ['local']\n[backends.local]\nsandbox = 'none'\n"
UNSAFE = [
    ("[backends]\ndefault = ['local']", "backends.local.sandbox"),
    ("[backends]\noffered = ['local']", "backends.local.sandbox"),
    ("[backends.native]\nisolation = 'inline'", "backends.native.isolation"),
    ("[model]\nbase_url = 'http://models.example.com'", "model.base_url"),
    ("[files]\nstorage = 's3'\nbucket = 'b'\nendpoint = 'http://10.0.0.7:9000'", "files.endpoint"),
    ("[backends.docker]\naddress = 'tcp://10.0.0.7:2375'", "backends.docker.address"),
    (f"{HOST}[policy]\npreset = 'full'\n[roles.send]\nuids = [{UID + 1}]", "policy.preset"),
    (f"{HOST}[policy]\npreset = 'full'\n[roles.read]\ngids = [7]", "policy.preset"),
    (f"{HOST}[roles.approve]\nuids = [{UID}]", "roles.approve.uids"),
    (f"{HOST}[roles.admin]\nuids = [0, {UID}]", "roles.admin.uids"),
]
SAFE = [
    "",
    "[backends]\noffered = ['local']\n[backends.local]\nsandbox = 'landlock'",
    "[backends]\noffered = ['local']\n[backends.local]\nsandbox = 'none'",
    "[backends.native]\ninline = ['log-fetcher']",
    "[model]\nbase_url = 'http://127.0.0.1:8080'",
    "[model]\nbase_url = 'https://models.example.com'",
    "[backends.docker]\naddress = 'tcp://localhost:2375'",
    f"{HOST}[policy]\npreset = 'full'",
    f"{HOST}[policy]\npreset = 'full'\n[roles.send]\nuids = [0, {UID}]",
    f"{HOST}[roles.send]\nuids = [{UID}, {UID + 1}]\n[roles.approve]\nuids = [{UID + 1}]",
    f"[roles.approve]\nuids = [{UID}]",
    f"[policy]\npreset = 'full'\n[roles.send]\nuids = [{UID + 1}]",
]


@pytest.mark.parametrize(("text", "key"), UNSAFE)
def test_in_production_unsafe_combinations_are_refused(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(f"[daemon]\nmode = 'production'\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {}, uid=UID)
    assert f"{file}: {key}: in mode production" in str(caught.value)
    file.write_text(text)
    load_config(file, {"HOME": str(tmp_path)}, uid=UID)


@pytest.mark.parametrize("text", SAFE)
def test_in_production_what_is_safe_is_taken(tmp_path: Path, text: str) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text(f"[daemon]\nmode = 'production'\n{text}\n")
    assert load_config(file, {"HOME": str(tmp_path)}, uid=UID).daemon.mode == "production"


def test_the_manual_lists_the_unsafe_combinations() -> None:
    page = (Path(__file__).parents[2] / "docs/operate.md").read_text()
    _, _, rest = page.partition("\n### What is refused\n")
    section = rest.partition("\n## ")[0]
    assert {key for _, key in UNSAFE} <= {key for key in config_keys() if f"`{key}" in section}


@pytest.mark.parametrize(("mode", "why"), [(0o644, "is no program"), (0o757, "can be written by everybody")])
def test_a_hook_that_cannot_be_run_or_that_everybody_can_change_is_refused(tmp_path: Path, mode: int, why: str) -> None:
    program = tmp_path / "hook"
    program.write_text("#!/bin/sh\n")
    program.chmod(mode)
    config = load_config(None, {"HOME": str(tmp_path)}, {"hooks.exec": (str(program),)}, uid=UID)
    with pytest.raises(ConfigError, match=why):
        run(check_config, config, {})
    program.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        run(check_config, config, {})
