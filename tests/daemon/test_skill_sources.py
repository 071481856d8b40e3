"""Where the daemon looks for skills, in which order, and which of them it trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skill_actors.skills.discovery import Source
from skilld.config import Config, ConfigError, load_config
from skilld.paths import data_dir
from skilld.skill_sources import SYSTEM_FOLDER, skill_rules, skill_sources

UID = 1000


def load(tmp_path: Path, text: str, **flags: Any) -> Config:
    file = tmp_path / "skilld.toml"
    file.write_text(text)
    env = {"XDG_STATE_HOME": str(tmp_path)}
    return load_config(file, env, {name.replace("__", "."): value for name, value in flags.items()}, uid=UID)


def sources(config: Config, home: Path) -> list[Source]:
    return skill_sources(config.skills, {"HOME": str(home)})


def bundled() -> Source:
    folder = data_dir("skills")
    assert folder is not None
    return Source(path=folder, trusted=True)


def test_configured_folders_come_first_then_the_users_the_systems_and_the_bundled(tmp_path: Path) -> None:
    config = load(tmp_path, "[skills]\npaths = ['b', 'a', 'c/x.skill']\ntrusted = ['a', 'c']\nuser = true")
    assert sources(config, tmp_path / "home") == [
        Source(path=tmp_path / "b"),
        Source(path=tmp_path / "a", trusted=True),
        Source(path=tmp_path / "c/x.skill", trusted=True),
        Source(path=tmp_path / "home/.agents/skills", trusted=True, optional=True),
        Source(path=tmp_path / "home/.claude/skills", trusted=True, optional=True),
        Source(path=SYSTEM_FOLDER, trusted=True, optional=True),
        bundled(),
    ]


def test_without_a_word_the_users_folders_are_not_read(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert sources(config, tmp_path) == [Source(path=SYSTEM_FOLDER, trusted=True, optional=True), bundled()]


def test_each_kind_can_be_left_out(tmp_path: Path) -> None:
    assert sources(load(tmp_path, "[skills]\nsystem = false"), tmp_path) == [bundled()]
    assert sources(load(tmp_path, "[skills]\nsystem = false\nbundled = false"), tmp_path) == []


def test_folders_of_the_flag_are_the_only_ones(tmp_path: Path) -> None:
    text = f"[skills]\npaths = ['a']\ntrusted = ['a']\nuser = true\nprojects = ['{tmp_path}']"
    config = load(tmp_path, text, skills__paths=[tmp_path / "flag", tmp_path / "a/below"])
    expected = [Source(path=tmp_path / "flag"), Source(path=tmp_path / "a/below", trusted=True)]
    assert sources(config, tmp_path) == expected
    assert config.skills.projects == (tmp_path,)


def test_rules_are_those_of_the_configuration(tmp_path: Path) -> None:
    rules = skill_rules(load(tmp_path, "[skills]\nallow = ['pdf*', 'tides']\ndeny = ['*-forms']").skills)
    assert [name for name in ("pdf", "pdf-forms", "tides", "moon") if rules.permits(name)] == ["pdf", "tides"]
    assert skill_rules(load(tmp_path, "").skills).permits_all


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[skills]\npaths = ['a']\ntrusted = ['b']", "none of skills.paths"),
        ("[skills]\ntrusted = ['b']", "none of skills.paths"),
        ("[skills]\npaths = ['a']\ntrusted = ['a/below']", "none of skills.paths"),
        ("[skills]\nallow = 'pdf'", "must be a list"),
        ("[skills]\nallow = ['']", "skills.allow"),
        ("[skills]\ndeny = [1]", "skills.deny"),
        ("[roles.send]\nskills_deny = 'x'", "must be a list"),
        ("[roles.read]\nskills_deny = ['x']", "unknown key"),
        ("[skills]\nuser = true\n[roles.send]\nuids = [1001]", "serves its own user only"),
        ("[skills]\nuser = true\n[roles.read]\ngids = [1000]", "serves its own user only"),
        ("[skills]\nuser = 1", "skills.user"),
    ],
)
def test_what_would_have_no_effect_or_too_much_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert expected in str(caught.value)


def test_users_folders_may_be_read_where_nobody_else_is_let_in(tmp_path: Path) -> None:
    text = f"[skills]\nuser = true\n[roles.send]\nuids = [{UID}]\n[roles.admin]\nuids = [0]"
    assert load(tmp_path, text).skills.user
