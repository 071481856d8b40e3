"""The section [skills]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from skilld.config.section import CredentialName, FilePath, Names, Section

__all__ = ["SecretConfig", "SkillsConfig"]


class SecretConfig(Section):
    """Where one secret of a skill is. The secret itself is never written here."""

    file: FilePath | None = None
    credential: CredentialName | None = None

    @model_validator(mode="after")
    def _has_one_place(self) -> SecretConfig:
        if (self.file is None) == (self.credential is None):
            raise ValueError('must be either { file = "PATH" } or { credential = "NAME" }')
        return self


SecretsOfSkills = dict[
    Annotated[str, Field(min_length=1, max_length=200)],
    dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")], SecretConfig],
]


class SkillsConfig(Section):
    """Where skills are found, which of them are used and trusted, and whether edits are followed."""

    paths: tuple[FilePath, ...] = Field(default=(), strict=False)
    user: bool = False
    system: bool = True
    bundled: bool = True
    bundled_native: bool = False
    trusted: tuple[FilePath, ...] = Field(default=(), strict=False)
    native: tuple[FilePath, ...] = Field(default=(), strict=False)
    projects: tuple[FilePath, ...] = Field(default=(), strict=False)
    allow: Names = Field(default=("*",), strict=False)
    deny: Names = Field(default=(), strict=False)
    watch: bool = True
    reload_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 0.0
    catalogue_tokens: Annotated[int, Field(ge=500, le=1_000_000)] = 10_000
    restrict_to_allowed_tools: bool = False
    approval: Literal["source", "version"] = "source"
    secrets: SecretsOfSkills = Field(default={})

    @field_validator("secrets")
    @classmethod
    def _leave_our_variables(cls, value: SecretsOfSkills) -> SecretsOfSkills:
        for name in (name for secrets in value.values() for name in secrets):
            if name in ("HOME", "PATH", "TMPDIR") or name.startswith("SKILLD_"):
                raise ValueError(f"{name} is set by skilld itself; choose another variable")
        return value
