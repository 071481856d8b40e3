"""What a skill says it needs, and whether it is there.

Three keys of `metadata`, each a list of words apart from one another by blanks or commas:

    skilld-binaries      programs that must be in the PATH:                    git pdftotext
    skilld-environment   variables that its commands must be given:            API_TOKEN
    skilld-packages      distributions that python3 must find, with a bound:   requests pandas>=2.0

What is not met is shown beside the skill. It is looked for where the local backend runs commands: this host.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from skill_actors.skills.base import Diagnostic, Skill

__all__ = ["BINARIES_KEY", "ENVIRONMENT_KEY", "PACKAGES_KEY", "Host", "Requirements", "Unmet", "requirements_of"]

BINARIES_KEY: Final = "skilld-binaries"
ENVIRONMENT_KEY: Final = "skilld-environment"
PACKAGES_KEY: Final = "skilld-packages"

_MAX_WORDS: Final = 50
_BINARY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_PACKAGE: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,99}?)(?:>=(?P<version>[0-9]+(?:\.[0-9]+){0,5}))?")
_ASK_TIMEOUT_S: Final = 20.0
_MEND: Final = "Mend its file, or skills.secrets in the configuration."
# Run by the python3 that skills get, however old: which of these distributions has it, and in which version?
_ASK: Final = (
    "import importlib.metadata as m, json, sys\n"
    "found = {}\n"
    "for name in json.load(sys.stdin):\n"
    "    try:\n"
    "        found[name] = m.version(name)\n"
    "    except m.PackageNotFoundError:\n"
    "        pass\n"
    "json.dump(found, sys.stdout)\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What a skill declares. `packages` are names with the lowest version that will do, "" for any."""

    binaries: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    malformed: tuple[Diagnostic, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.binaries or self.environment or self.packages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmet:
    """One thing that a skill needs and that is not there."""

    kind: Literal["binary", "environment", "package", "secret"]
    name: str
    message: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """As the API shows it."""
        return asdict(self)


def requirements_of(skill: Skill) -> Requirements:
    """What the skill declares; words that cannot be meant are left out and reported in `malformed`."""
    malformed: list[Diagnostic] = []
    binaries = _words(skill, BINARIES_KEY, _BINARY, malformed)
    environment = _words(skill, ENVIRONMENT_KEY, _VARIABLE, malformed)
    packages = _words(skill, PACKAGES_KEY, _PACKAGE, malformed)
    return Requirements(
        binaries=binaries,
        environment=environment,
        packages=tuple(_package(word) for word in packages),
        malformed=tuple(malformed),
    )


def _words(skill: Skill, key: str, form: re.Pattern[str], malformed: list[Diagnostic]) -> tuple[str, ...]:
    words = list(dict.fromkeys(re.split(r"[\s,]+", skill.metadata.get(key, "").strip())))
    wrong = [word for word in words if word and not form.fullmatch(word)]
    if len(words) > _MAX_WORDS:
        wrong.append(f"{len(words) - _MAX_WORDS} words more than {_MAX_WORDS}")
    if wrong:
        message = f"metadata.{key} holds what names nothing: {', '.join(map(ascii, wrong))[:200]}"
        remedy = "Write names apart from one another by blanks; a package may have a bound, as in pandas>=2.0."
        malformed.append(Diagnostic(code="requirement_malformed", message=message, remedy=remedy))
    return tuple(word for word in words[:_MAX_WORDS] if form.fullmatch(word))


def _package(word: str) -> tuple[str, str]:
    match = _PACKAGE.fullmatch(word)
    assert match is not None
    return match["name"], match["version"] or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where the commands of skills run.

    Args:
        path: their PATH.
        environment: names of the variables that every command gets.
        secrets: names of the variables that the commands of one skill get, by skill.
        broken: those that they should get, by skill, with what is wrong.

    """

    path: str
    environment: Collection[str] = ()
    secrets: Mapping[str, Collection[str]] = field(default_factory=dict)
    broken: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def unmet(self, skills: Sequence[Skill]) -> dict[str, tuple[Unmet, ...]]:
        """What is missing, by skill; a skill that has all is absent. Blocks: at most one process, for packages.

        Packages that cannot be asked for, since there is no python3 or it fails, count as missing.
        """
        wanted = {skill.name: requirements_of(skill) for skill in skills}
        names = {name for needs in wanted.values() for name, _ in needs.packages}
        versions = self._versions(sorted(names)) if names else {}
        missing = {name: tuple(self._missing(name, needs, versions)) for name, needs in wanted.items()}
        return {name: unmet for name, unmet in missing.items() if unmet}

    def _missing(self, skill: str, needs: Requirements, versions: Mapping[str, str]) -> list[Unmet]:
        found = [_no_binary(name) for name in needs.binaries if shutil.which(name, path=self.path) is None]
        broken = self.broken.get(skill, {})
        given = {*self.environment, *self.secrets.get(skill, ()), *broken}
        found += [_no_variable(skill, name) for name in needs.environment if name not in given]
        found += [Unmet(kind="secret", name=name, message=why, remedy=_MEND) for name, why in broken.items()]
        for name, lowest in needs.packages:
            version = versions.get(name)
            if version is None:
                found.append(_no_package(name, f"python3 finds no package {name}", lowest))
            elif lowest and _numbers(version) < _numbers(lowest):
                found.append(_no_package(name, f"python3 has {name} {version}, older than {lowest}", lowest))
        return found

    def _versions(self, names: Sequence[str]) -> dict[str, str]:
        python = shutil.which("python3", path=self.path)
        if python is None:
            return {}
        try:
            done = subprocess.run(
                [python, "-c", _ASK],
                input=json.dumps(names).encode(),
                capture_output=True,
                timeout=_ASK_TIMEOUT_S,
                env={"PATH": self.path, "LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1"},  # the home of commands is another
                cwd="/",
                check=True,
            )
            found = json.loads(done.stdout)
            return {str(name): str(version) for name, version in found.items()}
        except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
            return {}  # whatever it was that answered, it was no python3


def _no_binary(name: str) -> Unmet:
    message = f"no program {name} in the PATH of commands"
    return Unmet(kind="binary", name=name, message=message, remedy=f"Install {name}.")


def _no_variable(skill: str, name: str) -> Unmet:
    return Unmet(
        kind="environment",
        name=name,
        message=f"its commands get no variable {name}",
        remedy=f"Give it one in the configuration: [skills.secrets.{skill}]",
    )


def _no_package(name: str, message: str, lowest: str) -> Unmet:
    bound = f">={lowest}" if lowest else ""
    remedy = f"Install {name}{bound} for the python3 of the commands."
    return Unmet(kind="package", name=name, message=message, remedy=remedy)


def _numbers(version: str) -> tuple[int, ...]:
    """What a version begins with: 2.10.1rc1 -> (2, 10, 1), without zeros at the end."""
    numbers = [int(part) for part in re.findall(r"\d{1,9}", re.match(r"[\d.]*", version)[0])]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
