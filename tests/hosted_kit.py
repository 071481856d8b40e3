"""A hosted side without a network: files are those of a scripted model's own hosted side."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skill_actors.backends.anthropic import HostedError, HostedSkill
from skill_actors.errors import Refused
from skill_actors.files.content import NewFile, open_file
from skill_actors.sessions.hosted import HostedFacts
from skill_actors.skills.base import Skill
from skill_actors.testing.hosted_files import FakeFiles


@dataclass
class FakeHosted:
    """Implements `Hosted`. `why` makes all of it fail; `before_facts` is awaited before a file's name is told."""

    api: FakeFiles
    uploaded_skills: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    why: str = ""
    no_key: bool = False
    before_facts: Callable[[], Awaitable[None]] | None = None
    max_skills: int = 20

    def check(self) -> None:
        if self.no_key:
            raise Refused("backend_unavailable", "there is no API key")

    async def ensure_skills(self, skills: Sequence[tuple[Skill, Path]]) -> Sequence[HostedSkill]:
        self._fail("skill_upload_failed")
        self.uploaded_skills += [skill.name for skill, _ in skills]
        return [
            HostedSkill(type="custom", skill_id=f"skill_{skill.name}", version=f"v{skill.digest[:8]}")
            for skill, _ in skills
        ]

    async def upload(self, folder: Path, name: str, *, max_bytes: int) -> tuple[str, int, str]:
        self._fail("file_upload_failed")
        with open_file(folder, name) as file:
            content = file.read_at(0, max_bytes + 1)
        if len(content) > max_bytes:
            raise Refused("too_large", f"{name} is larger than {max_bytes} bytes")
        sent = self.api.add(name, content, downloadable=False)
        return sent.id, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}"

    async def facts(self, file_id: str) -> HostedFacts:
        self._fail("file_download_failed")
        if self.before_facts is not None:
            await self.before_facts()
        about = self.api.files[file_id]
        return HostedFacts(name=about.filename, size_bytes=len(about.content), content_type=about.mime_type)

    async def download(self, file_id: str, folder: Path, name: str, *, max_bytes: int) -> tuple[int, str]:
        self._fail("file_download_failed")
        self.downloads.append(file_id)
        content = self.api.files[file_id].content
        if len(content) > max_bytes:
            raise Refused("too_large", f"{name} is larger than {max_bytes} bytes")
        with NewFile(folder, name) as file:
            file.write(content)
            file.commit()
            return file.size, file.checksum

    def _fail(self, code: str) -> None:
        if self.why:
            raise HostedError(code, self.why)
