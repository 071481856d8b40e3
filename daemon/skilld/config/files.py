"""The section [files]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from skilld.config.section import CredentialName, FilePath, Section

if TYPE_CHECKING:
    from skill_actors.files.artifacts import ArtifactLimits

__all__ = ["FilesConfig"]


class FilesConfig(Section):
    """Where files of conversations are kept beside their workspaces. Credentials are named here, never written here."""

    storage: Literal["local", "s3", "tigris"] = "local"
    folder: FilePath | None = None
    bucket: Annotated[str, Field(max_length=255)] = ""
    prefix: Annotated[str, Field(max_length=500)] = "sessions/"
    endpoint: str = ""
    region: Annotated[str, Field(max_length=100)] = ""
    style: Literal["auto", "path", "virtual"] = "auto"
    credentials_file: FilePath | None = None
    credentials_credential: CredentialName = "storage_keys"

    artifact_allow: tuple[Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:\[\]]+:[0-9]{1,5}$")], ...] = Field(
        default=(), strict=False
    )
    artifact_ca_file: FilePath | None = None

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("must be a URL such as https://s3.example.com")
        return value

    @field_validator("prefix")
    @classmethod
    def _ends_in_a_slash(cls, value: str) -> str:
        if value and (value.startswith("/") or not value.endswith("/")):
            raise ValueError("must end in a slash, and not begin with one")
        return value

    @model_validator(mode="after")
    def _is_one_storage(self) -> FilesConfig:
        if self.storage == "s3" and not self.bucket:
            raise ValueError("bucket must be named for storage = 's3'")
        if self.storage != "local" and self.folder is not None:
            raise ValueError("folder is for storage = 'local'")
        return self

    def artifact_limits(self) -> ArtifactLimits:
        """How artifacts are fetched."""
        from skill_actors.files.artifacts import ArtifactLimits, FetchRules  # the command line checks configurations

        pairs = [item.rpartition(":") for item in self.artifact_allow]
        allowed = frozenset((host.strip("[]"), int(port)) for host, _, port in pairs)
        return ArtifactLimits(fetching=FetchRules(allowed=allowed, ca_file=self.artifact_ca_file))

    @property
    def is_kept_elsewhere(self) -> bool:
        """Whether files are kept anywhere besides their workspaces."""
        return self.storage != "local" or self.folder is not None
