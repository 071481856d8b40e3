"""References to artifacts: `skill://NAME/assets/PATH`, `file://NAME`, `https://...`. Pure.

`file://` names an artifact of the session, never a file of the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from skill_actors.errors import Refused
from skill_actors.files.artifacts.errors import ArtifactError
from skill_actors.files.names import check_name

__all__ = ["REFERENCE", "ArtifactUri", "check_artifact_name", "parse_uri"]

# As it may stand in the middle of a command: it ends where a shell's word does.
REFERENCE: Final = re.compile(r"(?<![A-Za-z0-9+.:/_-])(?:skill|file)://[^\s'\"`<>|;&()$\\*?\[\]{},]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]+")
_MAX_URI: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactUri:
    """A reference, taken apart.

    Args:
        text: as it was written.
        name: of the skill, of the artifact, or of the host as the DNS knows it.
        path: below the skill's folder for "skill"; else empty.

    """

    kind: Literal["skill", "file", "https"]
    text: str
    name: str
    path: str = ""


def check_artifact_name(name: str) -> str:
    """The name, if it can be one. Raises ArtifactError: artifact_invalid."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ArtifactError(
            "artifact_invalid",
            f"artifact name {name[:60]!a}: 1 to 100 of A-Z a-z 0-9 . _ - are allowed, the first a letter or digit",
        )
    return name


def parse_uri(text: str) -> ArtifactUri:
    """Take a reference apart.

    Raises:
        ArtifactError: artifact_invalid; artifact_blocked for a scheme that is not offered.

    """
    if len(text) > _MAX_URI or any(char.isspace() or not char.isprintable() for char in text):
        raise _invalid(text, f"it has spaces or control characters, or more than {_MAX_URI} characters")
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _invalid(text, "it is no URI; expected skill://NAME/assets/PATH, file://NAME or https://...")
    match scheme.lower():
        case "skill":
            return _skill(text, rest)
        case "file":
            return ArtifactUri(kind="file", text=text, name=_file_name(text, rest))
        case "https":
            return _https(text)
    raise ArtifactError("artifact_blocked", f"{text[:80]!a}: only skill://, file:// and https:// are followed")


def _skill(text: str, rest: str) -> ArtifactUri:
    try:
        name, _, path = unquote(rest, errors="strict").partition("/")
    except UnicodeDecodeError:
        raise _invalid(text, "its escapes are not UTF-8") from None
    if not name or not path.startswith("assets/"):
        raise _invalid(text, "expected skill://NAME/assets/PATH")
    try:
        check_name(path)
    except Refused as refused:
        raise _invalid(text, refused.message) from refused
    return ArtifactUri(kind="skill", text=text, name=name, path=path)


def _file_name(text: str, rest: str) -> str:
    if "/" in rest or "%" in rest or not _NAME.fullmatch(rest):
        raise _invalid(text, "file:// is followed by the name of an artifact of this session, not by a path")
    return rest


def _https(text: str) -> ArtifactUri:
    try:
        parts = urlsplit(text)
        given, _ = parts.hostname or "", parts.port
        host = given.encode("idna").decode("ascii")  # what a request, a certificate and the DNS call it
    except ValueError as error:
        raise _invalid(text, str(error)) from error
    if not _HOST.fullmatch(host) or "\\" in text or "@" in parts.netloc:
        raise _invalid(text, "a host is missing or cannot be one, or there is a user name or a backslash in it")
    return ArtifactUri(kind="https", text=text, name=host)


def _invalid(text: str, why: str) -> ArtifactError:
    return ArtifactError("artifact_invalid", f"{text[:80]!a}: {why}", details={"uri": text[:200]})
