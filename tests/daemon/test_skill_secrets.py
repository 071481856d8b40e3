"""Secrets and needs of skills, from the configuration to what the socket shows."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from skill_actors.backends import ToolCall, ToolContext, WorkspaceSpec, open_local
from skill_actors.skills import PublishedSkills, Skill
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.secrets import SkillSecrets
from skilld.cli.app import skillctl
from skilld.config import Config, ConfigError, load_config
from skilld.skill_needs import LOCAL_VARIABLES, SkillNeeds
from skilld.skill_secrets import skill_secrets
from support import run, run_virtual

VALUE = "s3cr3t-token-of-weather"


def load(folder: Path, text: str) -> Config:
    file = folder / "skilld.toml"
    file.write_text(text)
    return load_config(file, {"XDG_STATE_HOME": str(folder)}, uid=1000)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)


def served(*skills: Skill) -> PublishedSkills:
    published = PublishedSkills()
    published.snapshot = SkillSnapshot(skills={skill.name: skill for skill in skills})
    return published


def weather(root: str = "/s/weather", *, package: str | None = None, **metadata: str) -> Skill:
    written = {f"skilld-{key}": value for key, value in metadata.items()}
    return Skill(
        name="weather",
        description="d",
        root=Path(root),
        digest=root,
        trusted=True,
        metadata=written,
        package=Path(package) if package else None,
    )


def test_file_and_credential_are_read(tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    for place in (tmp_path / "token", tmp_path / "credentials" / "weather_token"):
        place.write_text(VALUE)
        place.chmod(0o600)
    text = '[skills.secrets.weather]\nA = { file = "token" }\nB = { credential = "weather_token" }\n'
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    secrets = skill_secrets(load(tmp_path, text).skills, environ, served(weather()))
    assert secrets.of(weather()) == {"A": VALUE, "B": VALUE}
    assert VALUE not in repr(load(tmp_path, text))


def test_credential_that_was_not_passed_is_named_with_the_way_out(tmp_path: Path) -> None:
    config = load(tmp_path, '[skills.secrets.weather]\nB = { credential = "w" }\n')
    _, wrong = skill_secrets(config.skills, {}, served(weather())).given(weather())
    assert "LoadCredential=w:FILE" in wrong["B"]


def test_skill_of_that_name_out_of_a_project_gets_nothing(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(VALUE)
    config = load(tmp_path, '[skills.secrets.weather]\nA = { file = "token" }\n')
    secrets = skill_secrets(config.skills, {}, served(weather()))
    assert secrets.of(weather("/home/me/src/cloned/.claude/skills/weather")) == {}
    assert skill_secrets(config.skills, {}, served()).of(weather()) == {}
    # Another version of the same package is the same skill.
    one, two = weather("/cache/1/weather", package="/s/w.skill"), weather("/cache/2/weather", package="/s/w.skill")
    assert skill_secrets(config.skills, {}, served(two)).of(one) == {"A": VALUE}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[skills.secrets.weather]\nA = "hunter2-hunter2"', "skills.secrets.weather.A"),
        ('[skills.secrets]\nweather = "hunter2-hunter2"', "skills.secrets.weather"),
        ('[skills.secrets.weather]\nA = { value = "hunter2-hunter2" }', "skills.secrets.weather.A"),
        ("[skills.secrets.weather]\nA = {}", "file"),
        ('[skills.secrets.weather]\nA = { file = "a", credential = "b" }', "either"),
        ('[skills.secrets.weather]\nA = { credential = "../b" }', "credential"),
        ('[skills.secrets.weather]\n"A-B" = { file = "a" }', "A-B"),
        ('[skills.secrets.weather]\nPATH = { file = "a" }', "PATH is set by skilld itself"),
        ('[skills.secrets.weather]\nSKILLD_CALL = { file = "a" }', "is set by skilld itself"),
        ("[skills]\nsecrets = 1", "skills.secrets"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_never_repeated(tmp_path: Path, text: str, says: str) -> None:
    message = complaint(tmp_path, text)
    assert says in message
    assert "hunter2" not in message


def test_configuration_is_shown_as_it_could_be_written(tmp_path: Path) -> None:
    text = '[skills.secrets.weather]\nA = { file = "token" }\nB = { credential = "weather_token" }\n'
    load(tmp_path, text)
    environ = {"XDG_STATE_HOME": str(tmp_path), "SKILLD_SOCKET": str(tmp_path / "s")}
    asked = ["config", "show", str(tmp_path / "skilld.toml")]
    (line,) = [
        line
        for line in CliRunner().invoke(skillctl, asked, env=environ).stdout.splitlines()
        if line.startswith("skills.secrets = ")
    ]
    wanted = {"weather": {"A": {"file": str(tmp_path / "token")}, "B": {"credential": "weather_token"}}}
    assert tomllib.loads(line)["skills"]["secrets"] == wanted
    values = json.loads(CliRunner().invoke(skillctl, [*asked, "--json"], env=environ).stdout)["values"]
    assert values["skills.secrets"] == wanted


def test_needs_that_are_not_met_are_told_and_a_secret_that_cannot_be_read_is_one(tmp_path: Path) -> None:
    config = load(tmp_path, '[skills.secrets.weather]\nTOKEN = { file = "none" }\n')
    skill = weather(binaries="no-such-program sh", environment="TOKEN OTHER HOME")
    needs = SkillNeeds(("local",), skill_secrets(config.skills, {}, served(skill)))

    async def main() -> None:
        unmet = await needs.unmet(SkillSnapshot(skills={"weather": skill}))
        assert [(item["kind"], item["name"]) for item in unmet["weather"]] == [
            ("binary", "no-such-program"),
            ("environment", "OTHER"),
            ("secret", "TOKEN"),
        ]

    run(main)


def test_needs_are_looked_at_again_after_a_while_and_for_other_skills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    snapshot = SkillSnapshot(skills={"weather": weather(binaries="tool")})
    other = SkillSnapshot(skills={"weather": weather(binaries="tool", environment="X")})
    seen: list[int] = []

    async def main() -> None:
        needs = SkillNeeds(("local",), SkillSecrets())

        async def count(of: SkillSnapshot) -> None:
            seen.append(len((await needs.unmet(of)).get("weather", ())))

        await count(snapshot)
        await _install(tmp_path / "tool")
        await count(snapshot)
        await trio.sleep(6)
        await count(snapshot)
        await count(other)

    run_virtual(main)
    assert seen == [1, 1, 0, 1]


def test_secret_that_is_gone_or_back_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(VALUE)
    config = load(tmp_path, '[skills.secrets.weather]\nTOKEN = { file = "token" }\n')
    needs = SkillNeeds(("local",), skill_secrets(config.skills, {}, served(weather())))
    snapshot = SkillSnapshot(skills={"weather": weather()})

    async def main() -> None:
        assert await needs.unmet(snapshot) == {}
        await trio.Path(tmp_path / "token").rename(tmp_path / "elsewhere")
        assert [item["name"] for item in (await needs.unmet(snapshot))["weather"]] == ["TOKEN"]
        await trio.Path(tmp_path / "elsewhere").rename(tmp_path / "token")
        assert await needs.unmet(snapshot) == {}

    run_virtual(main)


async def _install(path: Path) -> None:
    await trio.Path(path).write_text("#!/bin/sh\n")
    await trio.Path(path).chmod(0o755)


def test_nothing_is_said_of_a_backend_that_is_not_this_host() -> None:
    needs = SkillNeeds(("docker",), SkillSecrets())
    assert run(needs.unmet, SkillSnapshot(skills={"weather": weather(binaries="no-such-program")})) == {}


def test_variables_that_every_command_is_said_to_get_are_given(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_local() as executor:
            workspace = await executor.open(WorkspaceSpec(session="s", root=tmp_path / "w"))
            call = ToolCall(id="c", name="bash_tool", input={}, argv=("env",))
            result = await workspace.execute(call, ToolContext())
            assert {line.partition("=")[0] for line in result.content.splitlines()} >= LOCAL_VARIABLES

    run(main)
