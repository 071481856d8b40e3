"""Hosted execution for the daemon's conversations: skills uploaded once, files sent and fetched, over one client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.anthropic import HostedError, HostedSkill
from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.backends.anthropic.upload_state import UploadStateError
from skill_actors.backends.anthropic.uploads import SkillUploads
from skill_actors.backends.base import Capabilities
from skill_actors.errors import Refused
from skill_actors.files.content import checksum_of, open_file
from skill_actors.models.credentials import KeySource
from skill_actors.sessions.hosted import HostedFacts
from skill_actors.sessions.places import HOSTED
from skill_actors.skills.base import Skill
from skilld.config import AnthropicConfig

__all__ = ["HOSTED", "HostedServices", "hosted_facts"]

_READ_BYTES: Final = 1 << 20

_CAPABILITIES: Final = Capabilities(
    stream=False,
    cancel=True,
    sandbox="cloud",
    network="none",
    files=True,
    parallel=False,
    resume=True,
    partial={
        "cancel": "the request is dropped at once; what its container does then cannot be seen",
        "files": "those that code puts into its output folder, fetched when they are asked for",
        "resume": "until the API lets the container expire",
    },
)


class HostedServices:
    """The hosted side, as sessions use it: `skill_actors.sessions.hosted.Hosted`.

    Args:
        key: finds the API key; None if none is configured: then nothing can be done.
        base_url: of the API; None for the usual one.
        socket: a Unix socket to reach it through; None for the network.
        state: the file that remembers which skills were uploaded.

    """

    def __init__(
        self,
        config: AnthropicConfig,
        key: KeySource | None,
        base_url: str | None,
        state: Path,
        socket: Path | None = None,
    ) -> None:
        self._config = config
        self._client = None if key is None else HostedClient(key, base_url=base_url, socket=socket)
        self._uploads = None if self._client is None else SkillUploads(self._client, state)

    @property
    def max_skills(self) -> int:
        """How many skills a request may name."""
        return self._config.max_skills

    @property
    def is_configured(self) -> bool:
        """Whether it is switched on and there is a key."""
        return self._config.enabled and self._client is not None

    def problem(self) -> str | None:
        """Why nothing would be executed now, as far as that is known without asking the API; None if nothing is."""
        if not self._config.enabled:
            return "hosted execution is switched off: see backends.anthropic.enabled"
        if self._client is None:
            return (
                "hosted execution needs an API key: set model.api_key_file or ANTHROPIC_API_KEY and restart the daemon"
            )
        return None

    def check(self) -> None:
        """Raise Refused("backend_unavailable") with the reason."""
        problem = self.problem()
        if problem is not None:
            raise Refused("backend_unavailable", problem)

    async def ensure_skills(self, skills: Sequence[tuple[Skill, Path]]) -> Sequence[HostedSkill]:
        """Upload what is new or changed, from the pinned copies. Raises HostedError: skill_upload_failed."""
        self.check()
        assert self._uploads is not None
        pinned = [replace(skill, root=copy) for skill, copy in skills]
        try:
            return await self._uploads.ensure_all(pinned)
        except (UploadStateError, OSError) as error:
            why = f"what was uploaded before cannot be looked up: {error}"
            raise HostedError("skill_upload_failed", why) from error

    async def upload(self, folder: Path, name: str, *, max_bytes: int) -> tuple[str, int, str]:
        """Send a file; its id, size and checksum. Raises HostedError, Refused."""
        client = self._usable()
        content, checksum = await trio.to_thread.run_sync(_read, folder, name, min(max_bytes, self._config.file_bytes))
        sent = await client.files.upload(content, name=name.rpartition("/")[2])
        return sent.id, len(content), checksum

    async def facts(self, file_id: str) -> HostedFacts:
        """What the API says of a file. Raises HostedError."""
        about = await self._usable().files.metadata(file_id)
        return HostedFacts(name=about.name, size_bytes=about.size, content_type=about.content_type)

    async def download(self, file_id: str, folder: Path, name: str, *, max_bytes: int) -> tuple[int, str]:
        """Fetch a file into the folder under exactly this plain name, replacing one of before. Raises HostedError."""
        client = self._usable()
        limit = min(max_bytes, self._config.file_bytes)
        await trio.to_thread.run_sync(partial(folder.mkdir, parents=True, exist_ok=True, mode=0o700))
        done = await client.files.download(file_id, folder, name=name, max_bytes=limit, overwrite=True)
        return done.size, done.checksum

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _usable(self) -> HostedClient:
        self.check()
        assert self._client is not None
        return self._client


def hosted_facts(services: HostedServices, *, is_default: bool) -> dict[str, Any]:
    """For GET /v1/backends. Whether the API can be reached is seen when it is first asked, and not here."""
    problem = services.problem()
    return {
        "name": HOSTED,
        "available": problem is None,
        "problem": problem,
        "configured": services.is_configured,
        "default": is_default,
        **_CAPABILITIES.facts(),
    }


def _read(folder: Path, name: str, max_bytes: int) -> tuple[bytes, str]:
    """A file whole, and its checksum. Blocks."""
    with open_file(folder, name) as file:
        content = file.read_at(0, max_bytes + 1)
        while len(content) <= max_bytes and (more := file.read_at(len(content), _READ_BYTES)):
            content += more
        if len(content) > max_bytes:
            raise Refused("too_large", f"{name[:200]} is larger than the {max_bytes} bytes that are sent")
        return content, checksum_of(file)
