"""The secrets of skills as this daemon's configuration names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from skill_actors.skills.base import Skill
from skill_actors.skills.registry import PublishedSkills
from skill_actors.skills.secrets import SecretSource, SkillSecrets
from skilld.config import SecretConfig, SkillsConfig

__all__ = ["secret_source", "skill_secrets"]


def skill_secrets(config: SkillsConfig, environ: Mapping[str, str], published: PublishedSkills) -> SkillSecrets:
    """What the commands of skills get. Nothing is read yet.

    Secrets are for the skills that the daemon serves to everybody: a project may hold a skill of the same name, and a
    project is trusted to run commands, not with the operator's secrets.
    """

    def is_served(skill: Skill) -> bool:
        served = published.snapshot.skills.get(skill.name)
        return served is not None and (served.package or served.root) == (skill.package or skill.root)

    sources = {
        skill: {name: secret_source(secret, environ) for name, secret in secrets.items()}
        for skill, secrets in config.secrets.items()
    }
    return SkillSecrets(sources, is_served)


def secret_source(secret: SecretConfig, environ: Mapping[str, str]) -> SecretSource:
    """Where a secret is, or why it is nowhere."""
    if secret.credential is None:
        return SecretSource(path=secret.file)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    name = secret.credential
    if not folder or name in (".", ".."):
        missing = f"no credential {name} was passed: add LoadCredential={name}:FILE to the unit"
        return SecretSource(path=None, missing=missing)
    return SecretSource(path=Path(folder) / name)
