"""The configuration file, the environment and the flags."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from skilld.config import AlertsConfig, Config, ConfigError, HooksConfig, config_keys, load_config, mask

SHIPPED = Path(__file__).parents[2] / "etc/skilld.toml"
KEY = re.compile(r"^# ([a-z_]+) = (.*)$")


def load(tmp_path: Path, text: str, env: dict[str, str] | None = None, **flags: Any) -> Config:
    file = tmp_path / "skilld.toml"
    file.write_text(text)
    overrides = {name.replace("__", "."): value for name, value in flags.items()}
    return load_config(file, {"XDG_STATE_HOME": str(tmp_path), **(env or {})}, overrides, uid=1000)


def complaint(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, env)
    return str(caught.value)


def shipped_keys() -> dict[str, tuple[str, str]]:
    """Dotted key -> its default as written, and the line above its comment block."""
    found: dict[str, tuple[str, str]] = {}
    section, before = "", ""
    for line in SHIPPED.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif match := KEY.match(line):
            found[f"{section}.{match[1]}"] = (match[2], before)
        before = line
    return found


def test_defaults_are_those_of_the_design() -> None:
    limits = Config().limits
    assert (limits.iterations, limits.tool_timeout_s, limits.turn_timeout_s) == (25, 120, 1800)
    assert (limits.queued_messages, limits.running_turns, limits.tool_output_chars) == (16, 32, 30_000)
    assert (limits.max_body_bytes, limits.max_header_bytes, limits.connections_per_peer) == (8 << 20, 64 << 10, 64)
    assert (limits.idle_unload_s, Config().daemon.drain_s) == (600, 30)
    assert (Config().model.name, Config().model.max_tokens) == ("claude-sonnet-5-5", 8192)


def test_the_shipped_file_explains_every_key_and_no_other() -> None:
    assert set(shipped_keys()) == set(config_keys())


def test_every_key_of_the_shipped_file_has_a_line_of_explanation_above_it() -> None:
    for key, (_, before) in shipped_keys().items():
        assert before.startswith("# "), f"{key}: no explanation above"
        assert KEY.match(before) is None, f"{key}: no explanation above"


def test_the_shipped_file_names_the_defaults() -> None:
    chosen_by_the_start = {"daemon.socket", "daemon.state_dir", "model.base_url", "model.api_key_file"}
    chosen_by_the_start |= {"model.price_file", "model.socket"}
    chosen_by_the_start |= {"files.folder", "files.credentials_file", "files.artifact_ca_file"}
    chosen_by_the_start |= {"hooks.token_file", "hooks.ca_file", "monitor.socket"}
    chosen_by_the_start |= {"monitor.scan.rules_dir", "monitor.alerts.secret_file", "monitor.alerts.ca_file"}
    chosen_by_the_start |= {"monitor.event_log.folder", "monitor.otlp.socket", "monitor.otlp.token_file"}
    chosen_by_the_start |= {"monitor.otlp.uid", "monitor.export.otlp.ca_file", "monitor.export.telemetry.ca_file"}
    chosen_by_the_start |= {"monitor.export.telemetry.token_file"}
    chosen_by_the_start |= {"workshop.setup", "workshop.setup_owner"}  # none, if nothing is said
    chosen_by_the_start |= {"backends.claude_cli.api_key_file", "backends.claude_cli.socket"}
    chosen_by_the_start |= {"backends.codex_cli.api_key_file", "backends.codex_cli.folder"}
    defaults = config_keys()
    for key, (value, _) in shipped_keys().items():
        written = tomllib.loads(f"x = {value}")["x"]
        if key not in chosen_by_the_start:
            assert written == (list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]), key


def test_the_shipped_file_is_valid_as_it_is_and_with_every_key_uncommented(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    assert load(tmp_path, text).model == load(tmp_path, "").model
    loaded = load(tmp_path, re.sub(r"^# ([a-z_]+ = )", r"\1", text, flags=re.M))
    assert loaded.limits == Config().limits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[daemon]\nsokcet = 'x'", "unknown key 'daemon.sokcet': did you mean 'daemon.socket'"),
        ("[limit]\nx = 1", "unknown key 'limit': did you mean 'limits'"),
        ("[roles.reader]\nuids = [1]", "did you mean 'roles.read'"),
        ("[zebra]\nx = 1", "the sections are daemon, skills, model"),
        ("[limits]\niterations = 0", "limits.iterations = 0: must be greater than or equal to 1"),
        ("[limits]\niterations = true", "limits.iterations = True: must be a valid integer"),
        ("[limits]\ntool_timeout_s = nan", "limits.tool_timeout_s = nan: "),
        ("[daemon]\nlog_format = 'xml'", "daemon.log_format = 'xml': must be 'text', 'json' or 'journal'"),
        ("daemon = 3", "daemon = 3: must be a section, written [daemon]"),
        ("[skills]\npaths = 'a'", "skills.paths = 'a': must be a list"),
        ("[roles.read]\nuids = [-1]", "roles.read.uids.0 = -1: "),
        ("[model]\nbase_url = 'ftp://x'", "must be a URL"),
        ("[policy]\ndeny = ['Wriet']", "policy.deny = ['Wriet']: 'Wriet' is no tool; there are Bash, Edit, "),
        ("[policy]\nask = ['Bash(git:*)']", "'Bash(git:*)' is no tool"),
        ("[skills]\ncatalogue_tokens = 10", "skills.catalogue_tokens = 10: must be greater than or equal to 500"),
        ("a = ", "not TOML"),
        ("[a]\n" + "x=" + "[" * 5000, "not TOML"),
    ],
)
def test_a_fault_names_file_key_value_and_what_is_allowed(tmp_path: Path, text: str, expected: str) -> None:
    message = complaint(tmp_path, text)
    assert expected in message
    assert str(tmp_path / "skilld.toml") in message


def test_a_missing_file_and_bytes_that_are_not_utf8_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml", {})
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="byte 2 is not UTF-8"):
        load_config(bad, {})


def test_a_credential_is_never_repeated(tmp_path: Path) -> None:
    secret = "sk-ant-api03-abcdefgh"
    for text in (f"[model]\napi_key = '{secret}'", f"[model]\nprovider = '{secret}'", f"[daemon]\nx = '{secret}"):
        assert "abcdefgh" not in complaint(tmp_path, text)
    assert "model.api_key_file" in complaint(tmp_path, f"[model]\napi_key = '{secret}'")
    config = load(tmp_path, "[model]\nbase_url = 'https://user:hunter2@example.com/'")
    assert "hunter2" not in repr(config)
    assert "hunter2" in str(config.model.base_url)
    assert mask("Bearer sk-abcdefghij") == "Bearer ***"


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    text = "[daemon]\nsocket = 'file.sock'\nmode = 'test'"
    env = {"SKILLD_SOCKET": "/env/a.sock", "SKILLD_MODE": "production"}
    assert load(tmp_path, text).daemon.socket == tmp_path / "file.sock"
    assert load(tmp_path, text, env).daemon.socket == Path("/env/a.sock")
    assert load(tmp_path, text, env).daemon.mode == "production"
    assert load(tmp_path, text, env, daemon__socket=Path("/flag/a.sock")).daemon.socket == Path("/flag/a.sock")


def test_the_base_url_of_the_environment_counts_only_where_the_file_names_none(tmp_path: Path) -> None:
    env = {"ANTHROPIC_BASE_URL": "http://env.example"}
    assert load(tmp_path, "", env).model.base_url == "http://env.example"
    assert load(tmp_path, "[model]\nbase_url = 'http://file.example'", env).model.base_url == "http://file.example"


def test_a_bad_environment_variable_is_refused(tmp_path: Path) -> None:
    assert "daemon.mode = 'prod'" in complaint(tmp_path, "", {"SKILLD_MODE": "prod"})
    assert "107" in complaint(tmp_path, "", {"SKILLD_SOCKET": "/" + "x" * 200})


@pytest.mark.parametrize(("mode", "backend"), [("development", "local"), ("production", "docker"), ("test", "local")])
def test_the_mode_decides_the_default_backend(tmp_path: Path, mode: str, backend: str) -> None:
    assert load(tmp_path, f"[daemon]\nmode = '{mode}'").backends.default == (backend,)
    assert load(tmp_path, f"[daemon]\nmode = '{mode}'\n[backends]\ndefault = ['x']").backends.default == ("x",)


def test_paths_of_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, "[skills]\npaths = ['mine', '/abs']\n[model]\napi_key_file = 'key'")
    assert config.skills.paths == (tmp_path / "mine", Path("/abs"))
    assert config.model.api_key_file == tmp_path / "key"


def test_values_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().limits.iterations = 3


def test_tools_of_the_policy_are_known_by_claude_codes_names_and_by_ours(tmp_path: Path) -> None:
    text = "[policy]\ndeny = ['Write', 'str_replace']\nask = ['Bash', 'load_skill', 'x_execute']"
    policy = load(tmp_path, text).policy
    assert policy.deny == ("create_file", "str_replace")
    assert policy.ask == ("bash_tool", "load_skill", "x_execute")


def test_the_local_backend_gets_its_options_and_nothing_that_was_not_said(tmp_path: Path) -> None:
    plain = load(tmp_path, "").backends.options_of("local")
    assert plain == {
        "sandbox": "none",
        "network": None,
        "readable": [],
        "inherit": (),
        "environment": {},
        "limits": {},
    }
    text = """
        [backends.local]
        sandbox = "bwrap"
        network = "host"
        readable = ["/opt"]
        inherit = ["TZ"]
        environment = { A = "b" }
        path = "/usr/bin"
        [backends.local.limits]
        cpu_s = 3
        total_processes = 50
    """
    assert load(tmp_path, text).backends.options_of("local") == {
        "sandbox": "bwrap",
        "network": "host",
        "readable": ["/opt"],
        "inherit": ("TZ",),
        "environment": {"A": "b"},
        "path": "/usr/bin",
        "limits": {"cpu_s": 3, "total_processes": 50},
    }


def test_the_sandbox_of_the_environment_holds_where_the_file_names_none(tmp_path: Path) -> None:
    env = {"SKILLD_SANDBOX": "landlock"}
    assert load(tmp_path, "[backends.local]\nnetwork = 'none'", env).backends.local.sandbox == "landlock"
    assert load(tmp_path, "[backends.local]\nsandbox = 'none'", env).backends.local.sandbox == "none"
    assert "backends.local.sandbox = 'jail'" in complaint(tmp_path, "", {"SKILLD_SANDBOX": "jail"})
    assert "did you mean 'backends.local.sandbox'" in complaint(tmp_path, "[backends.local]\nsandbocks = 'x'")


def test_the_backends_of_the_environment_hold_where_the_file_names_none(tmp_path: Path) -> None:
    env = {"SKILLD_BACKENDS": "docker,local"}
    assert load(tmp_path, "", env).backends.default == ("docker", "local")
    assert load(tmp_path, "[backends]\ndefault = ['local']", env).backends.default == ("local",)


def test_production_has_the_host_only_where_the_file_names_it(tmp_path: Path) -> None:
    production = '[daemon]\nmode = "production"\n'
    assert "local" not in load(tmp_path, production).backends.names
    assert "local" not in load(tmp_path, production + '[backends.local]\nsandbox = "bwrap"').backends.names
    for key in ("default", "offered"):
        text = production + f'[backends]\n{key} = ["local"]\n[backends.local]\nsandbox = "landlock"'
        assert "local" in load(tmp_path, text).backends.names


@pytest.mark.parametrize("section", [HooksConfig, AlertsConfig])
def test_a_program_that_is_told_is_named_by_its_path_and_has_any_arguments(
    section: type[HooksConfig] | type[AlertsConfig],
) -> None:
    taken: list[tuple[str, ...]] = [(), ("/bin/a",), ("/bin/a", "", "two words", "-x")]
    refused: list[tuple[str, ...]] = [("",), ("a",), ("", "/bin/a"), ("/bin/a", "nul\0"), ("/bin/a", "x" * 4097)]
    for words in taken:
        assert section(exec=words).exec == words
    for words in refused:
        with pytest.raises(ValidationError):
            section(exec=words)
