"""Skills from disk at the API: each version uploaded once, a changed skill as a new version, ours cleaned away again.

What was uploaded is known by its digest, the one of the Registry and of the copies under `STATE/skills`. An upload
whose answer was lost, or which a crash cut, may have happened: before it is made again, the API is asked for a skill of
that name, made since, that holds exactly these files.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio

from skill_actors.backends.anthropic.bundle import (
    MAX_SKILL_BYTES,
    SkillBundle,
    bundle_skill,
    manifest_of,
    upload_failed,
)
from skill_actors.backends.anthropic.client import HostedClient, is_refused_before
from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.backends.anthropic.specs import HostedSkill
from skill_actors.backends.anthropic.upload_state import (
    Intent,
    Upload,
    UploadState,
    change_uploads,
    read_uploads,
    try_lock,
)
from skill_actors.skills.base import Skill

__all__ = ["Cleaned", "SkillUploads"]

_ATTEMPTS: Final = 3
_LOCK_POLL_S: Final = 0.05
_CHECKED_S: Final = 300.0
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What a cleaning did: ids of skills that are gone, and why others are not."""

    deleted: tuple[str, ...] = ()
    failures: tuple[HostedError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What one upload added: a version, and whether its skill is new as well."""

    name: str
    digest: str
    skill_id: str
    version: str
    is_new_skill: bool


class SkillUploads:
    """Uploads that are remembered in a file.

    Args:
        client: whose API.
        state: the file; its folder is made if it is missing. Others may use it at the same time.
        max_bytes: of one skill, unpacked.

    """

    def __init__(self, client: HostedClient, state: Path, *, max_bytes: int = MAX_SKILL_BYTES) -> None:
        self._client = client
        self._state = state
        self._max_bytes = max_bytes
        self._checked: dict[tuple[str, str], float] = {}  # (skill id, version) -> when the API was seen to have it

    async def ensure(self, source: Path | Skill, *, display_name: str | None = None) -> HostedSkill:
        """The hosted skill with these files: the one that was uploaded before, else a new version, else a new skill.

        Args:
            source: a folder, a `.skill` file, or a loaded skill.
            display_name: of a new skill, instead of its name.

        Raises:
            HostedError: "skill_upload_failed"; its cause is the API's error, if it was that.
            UploadStateError: the file of earlier uploads cannot be understood.
            OSError: nor be read or written.

        """
        async with self._alone():
            skill, _ = await self._ensured(source, display_name)
            return skill

    async def ensure_all(self, sources: Iterable[Path | Skill]) -> tuple[HostedSkill, ...]:
        """All of them, or an error; then what this call uploaded before it is deleted again, and nothing else."""
        made: list[_Made] = []
        skills: list[HostedSkill] = []
        async with self._alone():
            try:
                for source in sources:
                    skill, new = await self._ensured(source, None)
                    skills.append(skill)
                    made += [new] if new is not None else []
            except BaseException:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 30.0):
                    await self._undo(made)
                raise
        return tuple(skills)

    async def clean(self, *, keep: Iterable[str] = ()) -> Cleaned:
        """Delete what the file says that we uploaded to this API, but for skills of these names; also a second time.

        What cannot be deleted now stays in the file, and is tried again by the next cleaning.

        Raises:
            UploadStateError, OSError: as `ensure`.

        """
        kept = set(keep)
        deleted: list[str] = []
        failures: list[HostedError] = []
        async with self._alone():
            for name in sorted({*await self._names()} - kept):
                try:
                    await self._settle(name)
                    if (upload := await self._upload_of(name)) is None:
                        continue
                    await self._client.skills.delete(upload.skill_id)
                except HostedError as error:
                    failures.append(error)
                    continue
                await self._forget(name, upload.skill_id)
                deleted.append(upload.skill_id)
        return Cleaned(deleted=tuple(deleted), failures=tuple(failures))

    async def _ensured(self, source: Path | Skill, display_name: str | None) -> tuple[HostedSkill, _Made | None]:
        bundle = await trio.to_thread.run_sync(lambda: bundle_skill(source, max_bytes=self._max_bytes))
        path = source.root if isinstance(source, Skill) else source
        try:
            await self._settle(bundle.name)
            known = await self._known(bundle)
            if known is not None and bundle.digest in known.versions:
                return _hosted(known.skill_id, known.versions[bundle.digest]), None
            made = await self._uploaded(bundle, known, display_name or bundle.name)
        except HostedError as error:
            raise upload_failed(path, error.message, error) from error
        return _hosted(made.skill_id, made.version), made

    async def _known(self, bundle: SkillBundle) -> Upload | None:
        """Our upload of this name, as far as the API still has it: somebody may have deleted it there."""
        upload = await self._upload_of(bundle.name)
        if upload is None:
            return None
        version = upload.versions.get(bundle.digest)
        if version is not None and self._is_checked(upload.skill_id, version):
            return upload
        try:
            there = {each.id for each in await self._client.skills.versions(upload.skill_id)}
        except HostedError as error:
            if error.details.get("status") != 404:
                raise
            await self._forget(upload.name, upload.skill_id)
            return None
        upload.versions = {digest: version for digest, version in upload.versions.items() if version in there}
        self._checked |= {(upload.skill_id, version): trio.current_time() for version in upload.versions.values()}
        return upload

    def _is_checked(self, skill_id: str, version: str) -> bool:
        """Whether it was there lately: somebody may delete it there while this runs."""
        seen = self._checked.get((skill_id, version))
        return seen is not None and trio.current_time() - seen < _CHECKED_S

    async def _uploaded(self, bundle: SkillBundle, known: Upload | None, display_name: str) -> _Made:
        manifest = await trio.to_thread.run_sync(lambda: bundle.manifest)
        intent = Intent(
            name=bundle.name,
            digest=bundle.digest,
            manifest=manifest,
            display_name=display_name,
            began=datetime.now(UTC).isoformat(),
            skill_id=known.skill_id if known else None,
        )
        await self._change(lambda state: state.intents.update({self._at(bundle.name): intent}))
        attempt = 0
        while True:
            attempt += 1
            try:
                made = await self._upload(bundle, intent)
                break
            except HostedError as error:
                wait_s = error.retry_after_s
                if is_refused_before(error) or _is_refusal(error):
                    await self._change(lambda state: state.intents.pop(self._at(bundle.name), None))
                    raise
                if (found := await self._found(intent)) is not None:
                    made = found
                    break
                if attempt >= _ATTEMPTS or not error.retryable:
                    raise
            await trio.sleep(wait_s if wait_s is not None else 0.5 * 2.0 ** (attempt - 1))
        await self._remember(made)
        return made

    async def _upload(self, bundle: SkillBundle, intent: Intent) -> _Made:
        if intent.skill_id is not None:
            version = await self._client.skills.create_version(intent.skill_id, bundle.files)
            return _made(intent, intent.skill_id, version.id)
        skill = await self._client.skills.create(bundle.files, display_name=intent.display_name)
        version_id = skill.latest_version or (await self._client.skills.version(skill.id)).id  # older servers
        return _made(intent, skill.id, version_id)

    async def _settle(self, name: str) -> None:
        """Find out what became of an upload that was begun and never ended: a crash, or an answer that was lost."""
        state = await trio.to_thread.run_sync(read_uploads, self._state)
        intent = state.intents.get(self._at(name))
        if intent is None:
            return
        found = await self._found(intent)
        if found is not None:
            await self._remember(found)
        else:
            await self._change(lambda state: state.intents.pop(self._at(name), None))

    async def _found(self, intent: Intent) -> _Made | None:
        """The upload, if it happened: made since, of this name, with exactly these files."""
        if intent.skill_id is not None:
            return await self._found_version(intent, intent.skill_id)
        for skill in await self._client.skills.list("custom"):
            if skill.display_name == intent.display_name and _is_since(skill.created_at, intent.began):
                found = await self._found_version(intent, skill.id)
                if found is not None:
                    return found
        return None

    async def _found_version(self, intent: Intent, skill_id: str) -> _Made | None:
        try:
            versions = await self._client.skills.versions(skill_id)
        except HostedError as error:
            if error.details.get("status") == 404:
                return None
            raise
        for version in versions:
            if _is_since(version.created_at, intent.began):
                content = await self._client.skills.content(skill_id, version.id)
                if await trio.to_thread.run_sync(_manifest, content) == intent.manifest:
                    return _made(intent, skill_id, version.id)
        return None

    async def _undo(self, made: Sequence[_Made]) -> None:
        for each in reversed(made):
            try:
                if each.is_new_skill:
                    await self._client.skills.delete(each.skill_id)
                else:
                    await self._client.skills.delete_version(each.skill_id, each.version)
            except HostedError:
                continue  # it stays in the file: `clean` tries again
            await self._forget(each.name, each.skill_id, None if each.is_new_skill else each.digest)

    def _at(self, name: str) -> tuple[str, str]:
        return self._client.base_url, name

    async def _names(self) -> set[str]:
        state = await trio.to_thread.run_sync(read_uploads, self._state)
        return {name for api, name in (*state.uploads, *state.intents) if api == self._client.base_url}

    async def _upload_of(self, name: str) -> Upload | None:
        state = await trio.to_thread.run_sync(read_uploads, self._state)
        return state.uploads.get(self._at(name))

    async def _remember(self, made: _Made) -> None:
        def change(state: UploadState) -> None:
            upload = state.uploads.get(self._at(made.name))
            if upload is None or upload.skill_id != made.skill_id:
                upload = state.uploads[self._at(made.name)] = Upload(skill_id=made.skill_id, name=made.name)
            upload.versions[made.digest] = made.version
            state.intents.pop(self._at(made.name), None)

        await self._change(change)
        self._checked[made.skill_id, made.version] = trio.current_time()

    async def _forget(self, name: str, skill_id: str, digest: str | None = None) -> None:
        def change(state: UploadState) -> None:
            upload = state.uploads.get(self._at(name))
            if upload is None or upload.skill_id != skill_id:
                return
            if digest is None:
                del state.uploads[self._at(name)]
            else:
                upload.versions.pop(digest, None)

        await self._change(change)

    async def _change(self, change: Callable[[UploadState], object]) -> None:
        with trio.CancelScope(shield=True):  # what was uploaded must not be forgotten
            await trio.to_thread.run_sync(change_uploads, self._state, change)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Hold the lock of the file: of this process and of others, one uploads or deletes at a time."""
        lock = await trio.to_thread.run_sync(try_lock, self._state)
        while lock is None:
            await trio.sleep(_LOCK_POLL_S)  # no event tells when another process is done
            lock = await trio.to_thread.run_sync(try_lock, self._state)
        try:
            yield
        finally:
            os.close(lock)


def _hosted(skill_id: str, version: str) -> HostedSkill:
    return HostedSkill(type="custom", skill_id=skill_id, version=version)


def _made(intent: Intent, skill_id: str, version: str) -> _Made:
    is_new = intent.skill_id is None
    return _Made(name=intent.name, digest=intent.digest, skill_id=skill_id, version=version, is_new_skill=is_new)


def _is_refusal(error: HostedError) -> bool:
    """Whether the server answered that it would not do this; after all else it may have happened."""
    status = error.details.get("status")
    return isinstance(status, int) and 400 <= status < 500 and not error.retryable


def _is_since(created_at: str, began: str) -> bool:
    try:
        created = datetime.fromisoformat(created_at)
    except ValueError:
        return False
    return created.tzinfo is not None and created >= datetime.fromisoformat(began) - _CLOCK_SKEW


def _manifest(content: bytes) -> str:
    """Of an archive of the API; "" if it cannot be read, or holds more than any upload may."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > MAX_SKILL_BYTES:
                return ""
            return manifest_of([(info.filename, archive.read(info)) for info in infos])
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return ""
