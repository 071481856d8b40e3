"""The Skills API: what is there, and what is uploaded, changed and deleted. Every failed call is a HostedError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from skill_actors.backends.anthropic.client import HostedClient, all_pages, checked_id, told_id
from skill_actors.backends.anthropic.errors import HostedError

if TYPE_CHECKING:
    import anthropic

__all__ = ["SkillInfo", "SkillsApi", "VersionInfo"]

_PAGE: Final = 1000

Upload = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillInfo:
    """One skill. `source` is "custom", "anthropic" or another word of the API; times are RFC 3339."""

    id: str
    display_name: str
    latest_version: str
    source: str
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """One version of a skill: the whole of it, never changed."""

    id: str
    skill_id: str
    name: str
    description: str
    created_at: str


class SkillsApi:
    """The calls.

    Args:
        client: whose connections are used.

    """

    def __init__(self, client: HostedClient) -> None:
        self._client = client

    async def list(self, source: Literal["custom", "anthropic"] | None = None) -> list[SkillInfo]:
        """All skills, newest first, page by page."""
        if source not in (None, "custom", "anthropic"):
            raise ValueError(f"source is custom, anthropic or None, not {source!r}")
        return await all_pages(partial(self._page, source), _skill)

    async def get(self, skill_id: str) -> SkillInfo:
        """One skill."""

        async def get(client: anthropic.AsyncAnthropic) -> SkillInfo:
            return _skill(await client.skills.retrieve(checked_id(skill_id)))

        return await self._client.call(get, repeatable=True)

    async def versions(self, skill_id: str) -> Sequence[VersionInfo]:
        """All versions of a skill, newest first, page by page."""
        return await all_pages(partial(self._version_page, checked_id(skill_id)), _version)

    async def version(self, skill_id: str, version: str = "latest") -> VersionInfo:
        """One version of a skill."""

        async def get(client: anthropic.AsyncAnthropic) -> VersionInfo:
            return _version(await client.skills.versions.retrieve(checked_id(version), skill_id=checked_id(skill_id)))

        return await self._client.call(get, repeatable=True)

    async def content(self, skill_id: str, version: str = "latest") -> bytes:
        """The files of a version, as a zip archive."""

        async def get(client: anthropic.AsyncAnthropic) -> bytes:
            import httpx2

            path = f"/v1/skills/{checked_id(skill_id)}/versions/{checked_id(version)}/content"
            answer = await client.get(path, cast_to=httpx2.Response)
            return answer.content

        return await self._client.call(get, repeatable=True)

    async def create(self, files: Upload, *, display_name: str | None = None) -> SkillInfo:
        """Upload a new skill; see `SkillUploads` for one that uploads nothing twice.

        It is retried only where the server did nothing: after another failure the skill may be there.

        Args:
            files: path and content, each path below one folder that has the skill's name.
            display_name: one line of at most 255 characters; by default the skill's name.

        """

        async def create(client: anthropic.AsyncAnthropic) -> SkillInfo:
            if display_name is None:
                return _skill(await client.skills.create(files=list(files)))
            return _skill(await client.skills.create(files=list(files), display_name=display_name))

        return await self._client.call(create, repeatable=False)

    async def create_version(self, skill_id: str, files: Upload) -> VersionInfo:
        """Upload a further version, whole; its skill's name cannot change. Retried as `create`."""

        async def create(client: anthropic.AsyncAnthropic) -> VersionInfo:
            return _version(await client.skills.versions.create(checked_id(skill_id), files=list(files)))

        return await self._client.call(create, repeatable=False)

    async def delete_version(self, skill_id: str, version: str) -> bool:
        """Delete a version; False if there was none."""

        async def delete(client: anthropic.AsyncAnthropic) -> None:
            await client.skills.versions.delete(checked_id(version), skill_id=checked_id(skill_id))

        return await self._gone(self._client.call(delete, repeatable=True))

    async def delete(self, skill_id: str) -> bool:
        """Delete a skill with all its versions, which go first as the API wants it; False if there was none."""
        try:
            versions = await self.versions(skill_id)
        except HostedError as error:
            if error.details.get("status") == 404:
                return False
            raise
        for version in versions:
            await self.delete_version(skill_id, version.id)

        async def delete(client: anthropic.AsyncAnthropic) -> None:
            await client.skills.delete(checked_id(skill_id))

        return await self._gone(self._client.call(delete, repeatable=True))

    async def _gone(self, call: Any) -> bool:
        try:
            await call
        except HostedError as error:
            if error.details.get("status") == 404:
                return False
            raise
        return True

    async def _page(self, source: str | None, page: str | None) -> Any:
        query = {name: value for name, value in (("source", source), ("page", page)) if value is not None}

        async def get(client: anthropic.AsyncAnthropic) -> Any:
            return await client.skills.list(limit=_PAGE, extra_query=query)

        return await self._client.call(get, repeatable=True)

    async def _version_page(self, skill_id: str, page: str | None) -> Any:
        query = {"page": page} if page is not None else {}

        async def get(client: anthropic.AsyncAnthropic) -> Any:
            return await client.skills.versions.list(skill_id, limit=_PAGE, extra_query=query)

        return await self._client.call(get, repeatable=True)


def _skill(skill: Any) -> SkillInfo:
    """Of the SDK's object; also in the older form, which some compatible servers still have."""
    body: Mapping[str, Any] = skill.model_dump(mode="json", warnings=False)
    source = body.get("source")
    return SkillInfo(
        id=told_id(body),
        display_name=str(body.get("display_name") or body.get("display_title") or ""),
        latest_version=str(body.get("latest_version_id") or body.get("latest_version") or ""),
        source=str(source.get("type") if isinstance(source, Mapping) else source or ""),
        created_at=str(body.get("created_at") or ""),
        updated_at=str(body.get("updated_at") or ""),
    )


def _version(version: Any) -> VersionInfo:
    body: Mapping[str, Any] = version.model_dump(mode="json", warnings=False)
    return VersionInfo(
        id=told_id(body),
        skill_id=str(body.get("skill_id") or ""),
        name=str(body.get("name") or ""),
        description=str(body.get("description") or ""),
        created_at=str(body.get("created_at") or ""),
    )
