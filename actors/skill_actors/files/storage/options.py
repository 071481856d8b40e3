"""How an S3-compatible storage is reached. Secrets are fields of their own that no text of an object shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

__all__ = ["TIGRIS_ENDPOINT", "Credentials", "S3Options", "tigris"]

TIGRIS_ENDPOINT: Final = "https://fly.storage.tigris.dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A key pair, and the token of a session where it is a temporary one."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Credentials | None:
        """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; None if they are not there."""
        key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if not key or not secret:
            return None
        return cls(access_key_id=key, secret_access_key=secret, session_token=environ.get("AWS_SESSION_TOKEN") or None)

    @classmethod
    def from_text(cls, text: str) -> Credentials:
        """From a file of two or three lines, NAME=VALUE with the names of the environment.

        Raises:
            ValueError: a key is missing; the message shows no value.

        """
        lines = (line.strip() for line in text.splitlines())
        pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
        found = cls.from_environment({name.strip(): value.strip() for name, _, value in pairs})
        if found is None:
            raise ValueError("expected lines AWS_ACCESS_KEY_ID=... and AWS_SECRET_ACCESS_KEY=...")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """A bucket, and how it is spoken to.

    Args:
        bucket: must exist.
        cache: folder on this machine for the files of sessions that have no workspace of their own.
        prefix: of every key; it ends in a slash.
        endpoint: of a compatible service; None is Amazon's.
        style: how the bucket is named in a request; compatible services often want "path".
        credentials: None: as boto3 finds them (environment, profile, machine's role).
        attempts: for one request, the first included; between them boto3 waits longer and longer.
        timeout_s: for a connection, and for each silence of the far side.
        part_bytes: of an upload in several parts; what is smaller than two of them goes in one.
        parallel: requests at once.

    """

    bucket: str
    cache: Path
    prefix: str = "sessions/"
    endpoint: str | None = None
    region: str = "us-east-1"
    style: Literal["auto", "path", "virtual"] = "auto"
    credentials: Credentials | None = None
    attempts: int = 4
    timeout_s: float = 20.0
    part_bytes: int = 8 << 20
    parallel: int = 4
    name: str = "s3"

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ValueError("a bucket has to be named")
        if self.prefix and (not self.prefix.endswith("/") or self.prefix.startswith("/")):
            raise ValueError(f"prefix {self.prefix!r} must end in a slash, and not begin with one")
        if self.part_bytes < 5 << 20:
            raise ValueError("parts of an upload have at least 5 MiB")


def tigris(
    environ: Mapping[str, str], *, cache: Path | None = None, bucket: str | None = None, prefix: str = "sessions/"
) -> S3Options:
    """Tigris as its machines' environment describes it.

    BUCKET_NAME, AWS_ENDPOINT_URL_S3, the AWS keys, FLY_REGION and FLY_VOLUME_PATH are read; what is given wins.

    Raises:
        ValueError: no bucket, no keys, or no folder for the cache.

    """
    name = bucket or environ.get("BUCKET_NAME", "")
    if not name:
        raise ValueError("no bucket: BUCKET_NAME is not set")
    credentials = Credentials.from_environment(environ)
    if credentials is None:
        raise ValueError("no keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
    volume = environ.get("FLY_VOLUME_PATH")
    if cache is None and not volume:
        raise ValueError("no folder for the cache: FLY_VOLUME_PATH is not set")
    return S3Options(
        bucket=name,
        cache=cache or Path(volume or "") / "conjure_sessions",
        prefix=prefix,
        endpoint=environ.get("AWS_ENDPOINT_URL_S3") or TIGRIS_ENDPOINT,
        region=environ.get("FLY_REGION") or "auto",
        credentials=credentials,
        name="tigris",
    )
