"""What skills declare that they need, and whether this host has it."""

from __future__ import annotations

import os
import stat
from importlib.metadata import version
from pathlib import Path

import pytest

from skill_actors.skills import Skill
from skill_actors.skills.requirements import Host, Unmet, requirements_of

PATH = os.environ["PATH"]


def skill(name: str = "s", **metadata: str) -> Skill:
    written = {f"skilld-{key}": value for key, value in metadata.items()}
    return Skill(name=name, description="d", root=Path("/s"), digest="0", metadata=written)


def unmet(host: Host, needy: Skill) -> list[tuple[str, str]]:
    return [(item.kind, item.name) for item in host.unmet([needy]).get(needy.name, ())]


def test_words_are_read_apart_by_blanks_and_commas_each_once() -> None:
    needs = requirements_of(
        skill(binaries="git, jq  git\npdftotext", environment="A_B", packages="requests pandas>=2.0")
    )
    assert needs.binaries == ("git", "jq", "pdftotext")
    assert needs.environment == ("A_B",)
    assert needs.packages == (("requests", ""), ("pandas", "2.0"))
    assert needs.malformed == ()
    assert not requirements_of(skill())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("binaries", "/bin/sh"),
        ("binaries", "a;b"),
        ("binaries", "-x"),
        ("environment", "A-B"),
        ("environment", "1A"),
        ("packages", "a==1"),
        ("packages", "a>=x"),
        ("packages", "a[extra]"),
        ("binaries", " ".join(f"x{number}" for number in range(51))),
    ],
)
def test_word_that_names_nothing_is_reported_and_left_out(key: str, value: str) -> None:
    needs = requirements_of(skill(**{key: f"{value} good"}))
    (found,) = needs.malformed
    assert found.code == "requirement_malformed"
    assert f"metadata.skilld-{key}" in found.message


def test_what_is_there_is_met(tmp_path: Path) -> None:
    host = Host(path=PATH, environment={"HOME"}, secrets={"s": {"TOKEN"}})
    assert host.unmet([skill(binaries="sh", environment="HOME TOKEN"), skill("other")]) == {}


def test_what_is_missing_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    host = Host(path=str(tmp_path), secrets={"other": {"TOKEN"}})
    found = host.unmet([skill(binaries="plain nope", environment="TOKEN")])["s"]
    assert [(item.kind, item.name) for item in found] == [
        ("binary", "plain"),
        ("binary", "nope"),
        ("environment", "TOKEN"),
    ]
    assert found[2] == Unmet(
        kind="environment",
        name="TOKEN",
        message="its commands get no variable TOKEN",
        remedy="Give it one in the configuration: [skills.secrets.s]",
    )


def test_secret_that_cannot_be_read_is_unmet_whether_declared_or_not() -> None:
    host = Host(path=PATH, broken={"s": {"TOKEN": "cannot be read"}})
    assert unmet(host, skill()) == [("secret", "TOKEN")]
    assert unmet(host, skill(environment="TOKEN")) == [("secret", "TOKEN")]


def fake_python(folder: Path, script: str) -> Host:
    program = folder / "python3"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return Host(path=f"{folder}:{PATH}")


def test_packages_are_asked_of_the_python3_in_the_path(tmp_path: Path) -> None:
    host = fake_python(tmp_path, """cat > /dev/null; echo '{"requests": "2.9", "pandas": "1.5.3", "x": "10.0rc1"}'""")
    needy = skill(packages="requests>=2.10 pandas>=1.5 x>=10 missing")
    assert [item.message for item in host.unmet([needy])["s"]] == [
        "python3 has requests 2.9, older than 2.10",
        "python3 finds no package missing",
    ]


def test_packages_in_the_home_of_the_daemon_are_none_of_the_commands(tmp_path: Path) -> None:
    host = fake_python(tmp_path, 'cat > /dev/null; [ -n "$PYTHONNOUSERSITE" ] && echo "{}" || echo \'{"x": "1"}\'')
    assert unmet(host, skill(packages="x")) == [("package", "x")]


def test_real_python3_answers_for_all_skills_at_once(tmp_path: Path) -> None:
    import sys

    host = fake_python(tmp_path, f'echo asked >> {tmp_path}/asked; exec {sys.executable} "$@"')
    one, two = (
        skill("a", packages=f"trio>={version('trio')}"),
        skill("b", packages="no-such-package-anywhere trio>=999"),
    )
    assert {name: [item.name for item in items] for name, items in host.unmet([one, two]).items()} == {
        "b": ["no-such-package-anywhere", "trio"]
    }
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize("script", ["exit 1", "echo garbage", "echo '[]'", "kill -9 $$"])
def test_python3_that_does_not_answer_has_no_packages(tmp_path: Path, script: str) -> None:
    assert unmet(fake_python(tmp_path, script), skill(packages="requests")) == [("package", "requests")]


def test_without_python3_there_are_no_packages(tmp_path: Path) -> None:
    assert unmet(Host(path=str(tmp_path)), skill(packages="requests")) == [("package", "requests")]


def test_skill_cannot_put_options_or_code_into_the_question(tmp_path: Path) -> None:
    host = fake_python(tmp_path, f'echo "$#" > {tmp_path}/count; cat > {tmp_path}/stdin; echo "{{}}"')
    unmet(host, skill(packages='--help "; import os'))
    asked = tmp_path / "stdin"
    assert asked.read_text() == '["import", "os"]'
    assert (tmp_path / "count").read_text() == "2\n", "-c and the program, which is always the same"
