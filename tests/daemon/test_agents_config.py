"""The sections of agent backends: as the backends have them, and refused where they make no sense."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.backends.agents.claude import ClaudeOptions
from skill_actors.backends.agents.codex import CodexOptions
from skill_actors.backends.agents.command import CommandOptions, command_options
from skilld.agents import allowance_of, check_agents, options_of
from skilld.config import BackendsConfig, ConfigError, load_config
from skilld.config.agents import AgentBudget, ClaudeConfig, CodexConfig, CommandConfig

OURS = {*AgentBudget.model_fields, "api_key_credential"}  # the daemon's, of which the backend knows nothing
NOT_WRITTEN = {"api_key", "prices"}  # what only a program puts in


def defaults(kind: Any) -> Mapping[str, Any]:
    """By name; a path that is not set is no text here and "" there."""
    made = {field.name: getattr(kind(), field.name) for field in dataclasses.fields(kind)}
    return {name: None if value == "" and name.endswith(("_file", "socket")) else value for name, value in made.items()}


@pytest.mark.parametrize(
    ("section", "options"),
    [(ClaudeConfig(), ClaudeOptions), (CodexConfig(), CodexOptions), (CommandConfig(argv=("x",)), CommandOptions)],
)
def test_a_section_has_the_keys_of_its_backend_with_the_same_defaults(section: AgentBudget, options: Any) -> None:
    written = {name: getattr(section, name) for name in type(section).model_fields if name not in OURS}
    there = {name: value for name, value in defaults(options).items() if name not in NOT_WRITTEN}
    assert written.keys() == there.keys()
    differing = {name for name in written if written[name] != there[name] and name != "argv"}
    assert differing == set()


def loaded(folder: Path, text: str) -> BackendsConfig:
    file = folder / "skilld.toml"
    file.write_text(text)
    return load_config(file, {}).backends


def test_agents_are_no_executors(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[backends]\ndefault = ["claude_cli"]\noffered = ["local", "mine"]\nagents = ["claude_cli"]\n'
        '[backends.command.mine]\nargv = ["x"]\nturn_budget_usd = 2.5\n',
    )
    assert config.names == ("local",)
    assert config.agent_names == ("claude_cli", "mine")
    assert allowance_of(config, "mine").turn_usd == 2.5
    assert allowance_of(config, "somebody-elses").turn_usd == 10
    assert command_options("mine", options_of(config, "mine", {})).argv == ("x",)


def test_a_key_is_the_file_that_is_named_or_the_credential_that_was_passed(tmp_path: Path) -> None:
    (tmp_path / "claude-api-key").write_text("sk-x")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "ANTHROPIC_API_KEY": "sk-the-daemons"}
    config = loaded(tmp_path, '[backends]\nagents = ["claude_cli", "codex_cli"]\n')
    assert options_of(config, "claude_cli", environ)["api_key_file"] == str(tmp_path / "claude-api-key")
    assert "api_key_file" not in options_of(config, "codex_cli", environ)  # nothing was passed for it
    named = loaded(tmp_path, f'[backends.claude_cli]\napi_key_file = "{tmp_path}/other"\n')
    assert options_of(named, "claude_cli", environ)["api_key_file"] == f"{tmp_path}/other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[backends.command.local]\nargv = ["x"]', "'local' is another backend"),
        ('[backends.command.mine]\nargs = ["x"]', "argv"),
        ('[backends.command."My Tool"]\nargv = ["x"]', "My Tool"),
        ("[backends.command.mine]\nargv = []", "argv"),
        ('[backends.claude_cli]\nprogramm = "x"', "did you mean 'backends.claude_cli.program'"),
        ("[backends.codex_cli]\nturn_budget_usd = 0", "turn_budget_usd"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        loaded(tmp_path, text)


def test_a_backend_that_is_unknown_or_not_named_as_an_agent_is_refused(tmp_path: Path) -> None:
    unknown = loaded(tmp_path, '[backends]\nagents = ["claude"]\n')
    with pytest.raises(ConfigError, match="there is no agent backend 'claude'"):
        trio.run(check_agents, unknown)
    default = loaded(tmp_path, '[backends]\ndefault = ["codex_cli"]\n')
    with pytest.raises(ConfigError, match=r"name it in backends\.agents as well"):
        trio.run(check_agents, default)
