"""The artifacts of one session: what they are called, where they come from, and what they hold.

What was fetched is kept for a while, so that a second reference costs nothing; what was registered longest ago than
the session's artifacts live cannot be had any more. Belongs to the trio thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.files.artifacts.errors import ArtifactError
from skill_actors.files.artifacts.fetching import FetchRules, Resolve, fetch, resolve
from skill_actors.files.artifacts.uris import ArtifactUri, check_artifact_name, parse_uri
from skill_actors.files.content import open_file
from skill_actors.files.names import content_type_of

__all__ = ["MAX_ARTIFACTS", "Artifact", "ArtifactLimits", "Artifacts", "Content", "artifacts_of"]

MAX_ARTIFACTS: Final = 100
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactLimits:
    """Bounds of one session's artifacts: bytes and seconds.

    Args:
        file_bytes: of a file of a skill.
        inline_bytes: of content that is given with its name.
        cache_s: what was fetched is used again so long.
        cache_bytes: of what is kept for that, in memory; what is there longest goes first.
        lifetime_s: after it what was registered cannot be had any more.
        fetching: of URLs.

    """

    file_bytes: int = 50 << 20
    inline_bytes: int = 1 << 20
    cache_s: float = 900.0
    cache_bytes: int = 32 << 20
    lifetime_s: float = 3600.0
    fetching: FetchRules = field(default_factory=FetchRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A name for something: exactly one of a URI and content of its own."""

    name: str
    uri: ArtifactUri | None = None
    content: bytes | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """Where it comes from, in a word."""
        return "inline" if self.uri is None else self.uri.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What an artifact holds."""

    data: bytes = field(repr=False)
    content_type: str


@dataclass(slots=True)
class _Kept:
    content: Content
    until: float


class Artifacts:
    """Artifacts by name.

    Args:
        skill_folder: where the assets of a skill of this name are, if the session may use it; else None.
        resolver: of host names.

    """

    def __init__(
        self,
        skill_folder: Callable[[str], Path | None],
        limits: ArtifactLimits | None = None,
        *,
        resolver: Resolve = resolve,
    ) -> None:
        self._skill_folder = skill_folder
        self._limits = limits or ArtifactLimits()
        self._resolver = resolver
        self._named: dict[str, tuple[Artifact, float]] = {}
        self._kept: dict[str, _Kept] = {}

    def __iter__(self) -> Iterator[Artifact]:
        """Those that can still be had."""
        now = trio.current_time()
        return iter([artifact for artifact, until in self._named.values() if now < until])

    def __len__(self) -> int:
        return len(self._named)

    def add(self, artifact: Artifact, *, age_s: float = 0.0) -> None:
        """Register it; one of the same name is replaced, and a URL that is given again is fetched again.

        Args:
            age_s: how long ago it was given.

        Raises:
            ArtifactError: artifact_invalid, artifact_too_large.

        """
        if artifact.content is not None and len(artifact.content) > self._limits.inline_bytes:
            raise ArtifactError(
                "artifact_too_large",
                f"artifact {artifact.name}: inline content may have {self._limits.inline_bytes} bytes",
            )
        if artifact.name not in self._named and len(self._named) >= MAX_ARTIFACTS:
            raise ArtifactError("artifact_invalid", f"at most {MAX_ARTIFACTS} artifacts in one session")
        self._named[artifact.name] = artifact, trio.current_time() + self._limits.lifetime_s - age_s
        if artifact.uri is not None:
            self._kept.pop(artifact.uri.text, None)

    def remove(self, name: str) -> None:
        """It is not offered any more; no error if it was not there."""
        self._named.pop(name, None)

    def find(self, name: str) -> Artifact:
        """The artifact of this name. Raises ArtifactError: artifact_not_found, artifact_expired."""
        found = self._named.get(name)
        if found is None:
            known = ", ".join(sorted(self._named)[:20]) or "none"
            raise ArtifactError("artifact_not_found", f"there is no artifact {name[:60]!r}; there are {known}")
        artifact, until = found
        if trio.current_time() >= until:
            raise ArtifactError(
                "artifact_expired",
                f"artifact {name} was given more than {self._limits.lifetime_s:g} s ago; give it again",
            )
        return artifact

    async def content(self, reference: str | ArtifactUri) -> Content:
        """What a reference leads to. Raises ArtifactError."""
        uri = parse_uri(reference) if isinstance(reference, str) else reference
        if uri.kind == "file":
            artifact = self.find(uri.name)
            if artifact.content is not None:
                return Content(data=artifact.content, content_type=content_type_of(artifact.name))
            assert artifact.uri is not None
            uri = artifact.uri
        if uri.kind == "skill":
            return await self._asset(uri)
        return await self._fetched(uri)

    async def _asset(self, uri: ArtifactUri) -> Content:
        folder = self._skill_folder(uri.name)
        if folder is None:
            raise ArtifactError("artifact_not_found", f"{uri.text}: there is no skill {uri.name[:60]!r} here")
        data = await trio.to_thread.run_sync(partial(_read, folder, uri, self._limits.file_bytes))
        return Content(data=data, content_type=content_type_of(uri.path))

    async def _fetched(self, uri: ArtifactUri) -> Content:
        now = trio.current_time()
        self._kept = {text: kept for text, kept in self._kept.items() if kept.until > now}
        if (kept := self._kept.get(uri.text)) is not None:
            return kept.content
        got = await fetch(uri.text, self._limits.fetching, resolver=self._resolver)
        content = Content(data=got.content, content_type=got.content_type)
        self._kept[uri.text] = _Kept(content, trio.current_time() + self._limits.cache_s)
        self._shrink()
        return content

    def _shrink(self) -> None:
        total = sum(len(kept.content.data) for kept in self._kept.values())
        for text in list(self._kept):
            if total <= self._limits.cache_bytes:
                return
            total -= len(self._kept.pop(text).content.data)


def _read(folder: Path, uri: ArtifactUri, max_bytes: int) -> bytes:
    try:
        with open_file(folder, uri.path) as file:
            if file.mark.size > max_bytes:
                raise ArtifactError("artifact_too_large", f"{uri.text}: it is larger than {max_bytes} bytes")
            data = bytearray()
            while piece := file.read_at(len(data), _PIECE_BYTES):
                data += piece
                if len(data) > max_bytes:
                    raise ArtifactError("artifact_too_large", f"{uri.text}: it is larger than {max_bytes} bytes")
            return bytes(data)
    except Refused as refused:
        code = "artifact_not_found" if refused.code in ("not_found", "conflict") else "artifact_invalid"
        raise ArtifactError(code, f"{uri.text}: {refused.message}") from refused


def artifacts_of(setting: Sequence[Mapping[str, Any]]) -> list[Artifact]:
    """Artifacts as a client names them: `{"name": ..., "uri": ...}` or `{"name": ..., "content": text}`.

    Raises:
        ArtifactError: artifact_invalid, artifact_blocked, naming the one.

    """
    made: list[Artifact] = []
    for item in setting:
        name = check_artifact_name(str(item.get("name", "")))
        uri, content = item.get("uri"), item.get("content")
        if (uri is None) == (content is None):
            raise ArtifactError("artifact_invalid", f"artifact {name}: expected either uri or content")
        if content is not None:
            made.append(Artifact(name=name, content=str(content).encode()))
            continue
        parsed = parse_uri(str(uri))
        if parsed.kind == "file":
            raise ArtifactError("artifact_invalid", f"artifact {name}: {uri}: a name cannot stand for a name")
        made.append(Artifact(name=name, uri=parsed))
    twice = {artifact.name for artifact in made if sum(other.name == artifact.name for other in made) > 1}
    if twice or len(made) > MAX_ARTIFACTS:
        why = f"{sorted(twice)[0]} is named twice" if twice else f"at most {MAX_ARTIFACTS}"
        raise ArtifactError("artifact_invalid", f"artifacts: {why}")
    return made
