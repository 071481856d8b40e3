"""What runs at the provider for one conversation: its skills, the files it made there, and those it was given.

Skills on disk are uploaded when the conversation opens, each version once: which, a file remembers, so that the next
conversation finds them. Files that hosted code made stay there until somebody reads them; then they are kept here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.anthropic import HostedError, HostedSkill, hosted_skills
from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.backends.anthropic.names import safe_name
from skill_actors.backends.anthropic.specs import check_count, is_hosted
from skill_actors.backends.anthropic.upload_state import read_uploads
from skill_actors.backends.anthropic.uploads import SkillUploads
from skill_actors.library.asking import Hosting
from skill_actors.library.errors import SkillError, wrap
from skill_actors.library.files import SessionFile
from skill_actors.models.base import Block
from skill_actors.skills.base import Skill, SkillSnapshot

__all__ = ["HOSTED", "HostedOptions", "HostedPlace", "open_hosted"]

HOSTED: Final = "anthropic"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedOptions:
    """How the provider is reached for skills and files; the model asks by itself.

    Args:
        client: stays open; by default one that is made for the conversation, with the key of the environment.
        uploads: the file that remembers which skills were uploaded; by default one of this user's.
        display_name: of a skill that is uploaded, if it is the only one.

    """

    client: HostedClient | None = None
    uploads: Path | None = None
    display_name: str | None = None


@dataclass(slots=True, kw_only=True)
class HostedPlace:
    """Made by `open_hosted`."""

    name: str
    hosting: Hosting
    client: HostedClient
    uploads: Path
    uploaded: Sequence[str]  # names of skills from disk
    folder: Path  # for what was downloaded
    attached: list[Block] = field(default_factory=list)  # for the next message to the model
    _given: list[str] = field(default_factory=list)
    _found: dict[str, SessionFile] = field(default_factory=dict)
    _here: dict[str, Path] = field(default_factory=dict)
    _reading: trio.Lock = field(default_factory=trio.Lock)

    def take_attached(self) -> Sequence[Block]:
        """Blocks that the model has not been given yet."""
        attached, self.attached = self.attached, []
        return attached

    async def found(self, file_id: str) -> SessionFile:
        """A file that hosted code has made, with its name and size if the provider tells them."""
        file = SessionFile(name=file_id, source=self.name, file_id=file_id)
        self._found[file_id] = file
        return await self._named(file)

    async def files(self) -> Sequence[SessionFile]:
        """All that were made, in their order."""
        return [await self._named(file) for file in list(self._found.values())]

    async def read(self, file: SessionFile, *, max_bytes: int) -> bytes:
        """The content; downloaded once. Raises SkillError: "file_download_failed"."""
        assert file.file_id is not None
        async with self._reading:
            if file.file_id not in self._here:
                try:
                    done = await self.client.files.download(file.file_id, self.folder, max_bytes=max_bytes)
                except HostedError as error:
                    raise wrap(error) from error
                self._here[file.file_id] = done.path
                self._found[file.file_id] = replace(file, size=done.size, checksum=done.checksum)
            return await trio.to_thread.run_sync(self._here[file.file_id].read_bytes)

    async def put(self, name: str, data: bytes) -> None:
        """Upload a file; it is in the container from the next message on. Raises SkillError: "file_upload_failed"."""
        try:
            file = await self.client.files.upload(data, name=name.rpartition("/")[2])
        except HostedError as error:
            raise wrap(error) from error
        self._given.append(file.id)
        self.attached.append({"type": "container_upload", "file_id": file.id})

    async def delete(self) -> Sequence[str]:
        """Delete the skills and files that were uploaded; their ids. What tools made there stays. Raises SkillError."""
        deleted: list[str] = []
        try:
            while self._given:
                await self.client.files.delete(self._given[-1])
                deleted.append(self._given.pop())
        except HostedError as error:
            raise wrap(error) from error
        if self.uploaded:
            known = await trio.to_thread.run_sync(read_uploads, self.uploads)
            others = {name for _api, name in (*known.uploads, *known.intents)} - set(self.uploaded)
            cleaned = await SkillUploads(self.client, self.uploads).clean(keep=others)
            deleted += cleaned.deleted
            if cleaned.failures:
                raise wrap(cleaned.failures[0]) from cleaned.failures[0]
        return deleted

    async def _named(self, file: SessionFile) -> SessionFile:
        assert file.file_id is not None
        if file.name != file.file_id:
            return file
        try:
            about = await self.client.files.metadata(file.file_id)
        except HostedError:  # its id is a name as well
            return file
        known = replace(file, name=safe_name(about.name), size=about.size)
        self._found[file.file_id] = known
        return known


@asynccontextmanager
async def open_hosted(
    name: str, skills: Iterable[Any], local: Sequence[Skill], options: HostedOptions
) -> AsyncIterator[HostedPlace]:
    """A hosted place, its skills from disk uploaded.

    Args:
        name: of the place.
        skills: names and triples of hosted ones, loaded skills, folders, `.skill` files, and names of `local` ones.
        local: skills that can be meant by their name.
        options: see there.

    Raises:
        SkillError: "invalid_skill_spec", "skills_limit_exceeded", "skill_upload_failed".

    """
    state = options.uploads or _default_state()
    async with AsyncExitStack() as stack:
        client = options.client
        if client is None:
            client = await stack.enter_async_context(HostedClient())
        try:
            wanted = _sorted_out(skills, local)
            check_count(wanted)
            chosen = await _uploaded(wanted, SkillUploads(client, state), options.display_name)
        except HostedError as error:
            raise wrap(error) from error
        folder = Path(await trio.to_thread.run_sync(tempfile.mkdtemp, "", "skill-hosted-"))
        stack.push_async_callback(_remove, folder)
        yield HostedPlace(
            name=name,
            hosting=Hosting(skills=chosen),
            client=client,
            uploads=state,
            uploaded=[_name_of(each) for each in wanted if not isinstance(each, HostedSkill)],
            folder=folder,
        )


def _sorted_out(skills: Iterable[Any], local: Sequence[Skill]) -> list[HostedSkill | Skill | Path]:
    """Each as a hosted skill, or as what has to be uploaded. Raises HostedError."""
    given = list(skills.skills.values()) if isinstance(skills, SkillSnapshot) else list(skills)
    by_name = {skill.name: skill for skill in local}
    wanted: list[HostedSkill | Skill | Path] = []
    for each in given:
        match each:
            case Skill() | Path():
                wanted.append(each)
            case str() if each in by_name and not is_hosted(each):
                wanted.append(by_name[each])
            case str() if each.endswith(".skill"):
                wanted.append(Path(each))
            case _:
                wanted += hosted_skills([each])
    return list(dict.fromkeys(wanted)) if all(isinstance(each, HostedSkill) for each in wanted) else wanted


async def _uploaded(
    wanted: Sequence[HostedSkill | Skill | Path], uploads: SkillUploads, display_name: str | None
) -> list[HostedSkill]:
    sources = [each for each in wanted if not isinstance(each, HostedSkill)]
    if display_name is not None and len(sources) != 1:
        raise SkillError("invalid_option", "display_name is for one uploaded skill", details={"reason": "display_name"})
    if display_name is not None:
        made = [await uploads.ensure(sources[0], display_name=display_name)]
    else:
        made = [*await uploads.ensure_all(sources)] if sources else []
    remaining = iter(made)
    return [each if isinstance(each, HostedSkill) else next(remaining) for each in wanted]


def _name_of(source: Skill | Path) -> str:
    return source.name if isinstance(source, Skill) else source.name.removesuffix(".skill")


def _default_state() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(home, "skilld", "hosted-skills.json")


async def _remove(folder: Path) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(_remove_tree, folder)


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
