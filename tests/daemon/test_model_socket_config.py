"""`model.socket`: what it may be, where it comes from, and what it goes together with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skilld.config import Config, ConfigError, find_and_load, load_config
from skilld.reload import compare

UID = os.getuid()


def load(folder: Path, text: str, **env: str) -> Config:
    file = folder / "skilld.toml"
    file.write_text(text)
    return load_config(file, {"HOME": str(folder), **env}, uid=UID)


def complaint(folder: Path, text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, **env)
    return str(caught.value)


def test_it_is_relative_to_its_file_and_the_file_comes_before_the_variable(tmp_path: Path) -> None:
    assert load(tmp_path, "").model.socket is None
    assert load(tmp_path, "[model]\nsocket = 'run/api.sock'").model.socket == tmp_path / "run/api.sock"
    assert load(tmp_path, "", SKILLD_MODEL_SOCKET="/run/a.sock").model.socket == Path("/run/a.sock")
    both = load(tmp_path, "[model]\nsocket = '/run/b.sock'", SKILLD_MODEL_SOCKET="/run/a.sock")
    assert both.model.socket == Path("/run/b.sock")


def test_its_origin_is_told(tmp_path: Path) -> None:
    file = tmp_path / "skilld.toml"
    file.write_text("")
    loaded = find_and_load(file, {"HOME": str(tmp_path), "SKILLD_MODEL_SOCKET": "/run/a.sock"}, uid=UID)
    assert str(loaded.origins["model.socket"]) == "environment SKILLD_MODEL_SOCKET"


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    assert "SKILLD_MODEL_SOCKET: api.sock: must be an absolute path" in complaint(
        tmp_path, "", SKILLD_MODEL_SOCKET="api.sock"
    )
    said = complaint(tmp_path, "[model]\nprovider = 'offline'\nsocket = '/run/a.sock'")
    assert said == f"{tmp_path}/skilld.toml: model.socket: the offline model calls nothing; take one of the two out"
    said = complaint(tmp_path, "[daemon]\nsocket = '/run/a.sock'\n[model]\nsocket = '/run/a.sock'")
    assert "/run/a.sock is where the daemon itself listens" in said
    assert "must be at most 107 bytes long" in complaint(tmp_path, f"[model]\nsocket = '/{'x' * 107}'")
    assert load(tmp_path, f"[model]\nsocket = '/{'x' * 106}'").model.socket == Path("/" + "x" * 106)
    assert "model.socket" in complaint(tmp_path, "[model]\nsocket = 3")


def test_a_unit_that_names_it_can_be_told_to_be_offline(tmp_path: Path) -> None:
    config = load(tmp_path, "[model]\nprovider = 'offline'", SKILLD_MODEL_SOCKET="/run/a.sock")
    assert config.model.socket is None


def test_only_a_restart_applies_another(tmp_path: Path) -> None:
    now, new = load(tmp_path, ""), load(tmp_path, "[model]\nsocket = '/run/a.sock'")
    assert compare(now, new).to_dict() == {"applied": [], "needs_restart": ["model.socket"]}


def test_that_of_the_service_is_not_for_the_daemons_of_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = tmp_path / "etc.toml"
    etc.write_text("[model]\nname = 'm'\nsocket = '/run/a.sock'\n")
    monkeypatch.setattr("skilld.paths._HOST_CONFIG", etc)
    config = find_and_load(None, {"HOME": str(tmp_path)}, uid=4711).config
    assert (config.model.name, config.model.socket) == ("m", None)
