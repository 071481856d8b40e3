"""Addresses and secrets of places that events go to: safe, or refused with the way out, and shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from skill_actors.models.credentials import CredentialError
from skilld.cli.app import skillctl
from skilld.config import ConfigError, load_config
from skilld.config.monitor_sinks import HeaderConfig
from skilld.monitor.sinks.header_secret import HeaderSecret
from skilld.reload import compare


def write(folder: Path, text: str) -> Path:
    path = folder / "skilld.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[monitor.export.otlp]\nendpoint = 'http://collector.example.com'", "must be https"),
        ("[monitor.export.otlp]\nendpoint = 'ftp://x'", "must be a URL"),
        ("[monitor.export.otlp]\nendpoint = 'https://u:p@x.example'", "must have no user and password"),
        ("[monitor.export.otlp]\nendpoint = 'https://x.example/a?key=b'", "must have nothing from a"),
        ("[monitor.export.otlp]\nendpoint = 'https://x.example:99999'", "Port out of range"),
        ("[monitor.export.otlp]\nheaders = {Content-Type = 'x'}", "is set by skilld itself"),
        ("[monitor.export.otlp]\nsecret_headers = {A = {}}", "must be one of"),
        ("[monitor.export.otlp]\nsecret_headers = {A = {env = 'A', file = '/a'}}", "must be one of"),
        ("[monitor.export.telemetry]\nendpoint = 'http://10.0.0.1:8000'", "must be https"),
        ("[monitor.otlp]\nlisten = '0.0.0.0:4318'", "must be an address of loopback"),
        ("[monitor.otlp]\nlisten = 'localhost'", "must be an address and a port"),
        ("[monitor.event_log]\nfolder = 'log'", "must be an absolute path"),
        ("[monitor.event_log]\nmax_bytes = 1048576", "is more than max_bytes"),
        ("[monitor.event_log]\nfsync = 'often'", "'always', 'rotation' or 'never'"),
        ("[monitor.event_log]\nchannels = 'LLM'", r"monitor.event_log.channels = 'LLM': must be a list"),
        ("[monitor.event_log]\nchannels = ['LLM', '']", r"monitor.event_log.channels.1 = '': must be a channel"),
        ("[monitor.event_log]\nchannels = [1]", r"monitor.event_log.channels.0 = 1: must be a valid string"),
        ('[monitor.export.otlp]\nchannels = ["a\\nb"]', "monitor.export.otlp.channels.0 = .*can be printed"),
        ("[monitor.export.otlp]\nchannels = ['*']", r"channels.0 = '\*': is no channel; for all of them leave"),
        (f"[monitor.export.telemetry]\nchannels = ['{'x' * 65}']", "telemetry.channels.0 = .*1 to 64 characters"),
    ],
)
def test_what_is_not_safe_or_makes_no_sense_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_config(write(tmp_path, text), {})


@pytest.mark.parametrize("address", ["https://x.example:4318/base", "http://127.0.0.1:4318", "http://localhost"])
def test_what_is_safe_is_taken(tmp_path: Path, address: str) -> None:
    text = f"[monitor.export.otlp]\nendpoint = '{address}'\n"
    assert load_config(write(tmp_path, text), {}).monitor.export.otlp.endpoint == address
    insecure = "[monitor.export.otlp]\nendpoint = 'http://x.example'\nallow_insecure = true\n"
    assert load_config(write(tmp_path, insecure), {}).monitor.export.otlp.allow_insecure


def test_channels_are_taken_with_the_next_start(tmp_path: Path) -> None:
    now = load_config(write(tmp_path, ""), {})
    assert (now.monitor.event_log.channels, now.monitor.export.otlp.channels) == ((), ())
    sections = ("event_log", "export.otlp", "export.telemetry")
    longest = "ж" * 64
    text = "".join(f"[monitor.{section}]\nchannels = ['LLM', '{longest}']\n" for section in sections)
    new = load_config(write(tmp_path, text), {})
    assert new.monitor.export.telemetry.channels == ("LLM", longest)
    assert compare(now, new).to_dict() == {
        "applied": [],
        "needs_restart": [f"monitor.{section}.channels" for section in sections],
    }


def test_neither_the_path_of_an_address_nor_a_header_is_shown(tmp_path: Path) -> None:
    text = (
        "[monitor.export.otlp]\nendpoint = 'https://x.example/canary'\nheaders = {X-A = 'canary'}\n"
        "[monitor.export.telemetry]\nendpoint = 'https://y.example/canary'\n"
    )
    path = write(tmp_path, text)
    shown = CliRunner().invoke(skillctl, ["config", "show", str(path)])
    assert shown.exit_code == 0
    assert "https://x.example/***" in shown.stdout
    assert "canary" not in shown.stdout + repr(load_config(path, {}))


def test_a_header_is_read_where_it_is_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    secret = HeaderSecret(HeaderConfig(file=path), {})
    for text, why in ((None, "cannot be read"), ("", "is empty"), ("a\nb", "line breaks"), ("x" * 9000, "longer")):
        if text is not None:
            path.write_text(text)
        with pytest.raises(CredentialError, match=why) as caught:
            secret()
        assert "a\nb" not in str(caught.value)
    path.write_text("Bearer first\n")
    assert secret() == "Bearer first"
    path.write_text("Bearer second\n")
    assert secret() == "Bearer second"
    assert "Bearer" not in repr(secret)
    assert HeaderSecret(HeaderConfig(env="TOKEN"), {"TOKEN": "Basic x"})() == "Basic x"
    assert HeaderSecret(HeaderConfig(credential="secret"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})().endswith(
        "second"
    )
    with pytest.raises(CredentialError, match="CREDENTIALS_DIRECTORY"):
        HeaderSecret(HeaderConfig(credential="secret"), {})()
