"""The artifacts of one conversation, where its tools can use them.

They are among the session's settings, each with the time at which it was given. A reference in the input of a call
becomes a path just before the call runs: of the skill's own copy for an asset, else of a copy in the workspace.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.base import ToolCall, Workspace
from skill_actors.errors import Refused
from skill_actors.files.artifacts import ArtifactError, ArtifactLimits, Artifacts, artifacts_of, artifacts_prompt
from skill_actors.files.artifacts.inputs import references_in, with_paths
from skill_actors.files.artifacts.registry import MAX_ARTIFACTS
from skill_actors.files.artifacts.uris import parse_uri
from skill_actors.files.content import NewFile, open_file
from skill_actors.files.quota import Quota
from skill_actors.files.watch import Usage
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.log import SessionLog
from skill_actors.sessions.settings import check_settings
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.store.base import JournalClosed, SessionMissing, StorageFull

__all__ = ["ARTIFACTS_FOLDER", "SessionArtifacts", "give_artifacts", "given_now", "merged_artifacts"]

ARTIFACTS_FOLDER: Final = "artifacts"
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/-]+")
_MAX_INLINE: Final = 4 << 20  # of all together: they are in the journal


def given_now(setting: Sequence[Mapping[str, Any]], limits: ArtifactLimits) -> list[dict[str, Any]]:
    """Artifacts as a client names them, for the session's settings.

    Raises:
        Refused: bad_request or too_large, with the artifact error among its details.

    """
    try:
        made = artifacts_of(setting)
        trial = Artifacts(lambda name: None, limits)
        for artifact in made:
            trial.add(artifact)
    except ArtifactError as error:
        raise error.to_refusal() from error
    now = utc_now()
    return [
        {
            "name": item["name"],
            "given": now,
            **{key: item[key] for key in ("uri", "content") if item.get(key) is not None},
        }
        for item in setting
    ]


def merged_artifacts(
    before: Sequence[Mapping[str, Any]], more: Sequence[Mapping[str, Any]], lifetime_s: float
) -> list[Mapping[str, Any]]:
    """Those before and more, the later of the same name; what was given longer ago than `lifetime_s` goes.

    Raises:
        Refused: bad_request, if they are too many; too_large.

    """
    lasting = [item for item in before if _age_s(item.get("given")) < lifetime_s]
    by_name = {item["name"]: item for item in (*lasting, *more)}
    if len(by_name) > MAX_ARTIFACTS:
        why = f"artifacts: at most {MAX_ARTIFACTS} in one session; it would have {len(by_name)}"
        raise Refused("bad_request", why, details={"artifact_error": "artifact_invalid"})
    total = sum(len(item.get("content", "")) for item in by_name.values())
    if total > _MAX_INLINE:
        raise Refused("too_large", f"artifacts: inline content of a session may have {_MAX_INLINE} characters in all")
    return list(by_name.values())


async def give_artifacts(log: SessionLog, artifacts: Sequence[Mapping[str, Any]], limits: ArtifactLimits) -> None:
    """Add artifacts to those of a session, durably. Raises Refused: bad_request, too_large, storage_full, draining."""
    check_settings({"artifacts": artifacts})
    given = given_now(artifacts, limits)
    merged = merged_artifacts(log.record.settings.get("artifacts", ()), given, limits.lifetime_s)
    try:
        await log.change_settings({"artifacts": merged})
    except StorageFull as error:
        raise Refused("storage_full", "the disk that holds the state is full", retry_after_s=10) from error
    except JournalClosed as error:
        raise Refused("draining", "the daemon is stopping; send again in a moment", retry_after_s=5) from error
    except SessionMissing as error:
        raise Refused("not_found", str(error)) from error


class SessionArtifacts:
    """What of them a turn may use.

    Args:
        limits: of each.

    """

    def __init__(self, limits: ArtifactLimits) -> None:
        self._pinned: Mapping[str, PinnedSkill] = {}
        self._limits = limits
        self._artifacts = Artifacts(self._folder, limits)
        self._setting: Sequence[Mapping[str, Any]] = ()

    def begin(self, setting: Sequence[Mapping[str, Any]], pinned: Sequence[PinnedSkill]) -> str:
        """A turn begins with these artifacts and skills; the section of its prompt, empty if there are none."""
        self._pinned = {pin.skill.name: pin for pin in pinned}
        if setting != self._setting:
            for item in self._setting:
                if item not in setting:
                    self._artifacts.remove(item["name"])
            news = [item for item in setting if item not in self._setting]
            for item, artifact in zip(news, artifacts_of(news), strict=True):
                self._artifacts.add(artifact, age_s=_age_s(item.get("given")))
            self._setting = list(setting)
        return artifacts_prompt(self._artifacts)

    async def placed(self, call: ToolCall, workspace: Workspace, folder: Path, quota: Quota, usage: Usage) -> ToolCall:
        """The call with paths for references.

        Args:
            folder: of the place, on the host.
            quota: that copies have to fit into.
            usage: of the workspace now.

        Raises:
            ArtifactError: one cannot be had.
            Refused: its copy cannot be written.

        """
        if not references_in([call.input, list(call.argv or ())]):
            return call

        async def place(reference: str) -> str:
            nonlocal usage
            path, size = await self._path(reference, workspace, folder, partial(quota.check_upload, usage))
            usage = replace(usage, bytes=usage.bytes + size)
            return path

        changed = await with_paths({"input": call.input, "argv": list(call.argv or ())}, place)
        argv = None if call.argv is None else tuple(changed["argv"])
        return replace(call, input=changed["input"], argv=argv)

    async def _path(
        self, reference: str, workspace: Workspace, folder: Path, check_room: Callable[[int], None]
    ) -> tuple[str, int]:
        """Where the tools find it, and how much was written for it."""
        uri = parse_uri(reference)
        if uri.kind == "skill":
            pin = self._pinned.get(uri.name)
            if not _PLAIN.fullmatch(uri.path):
                raise ArtifactError(
                    "artifact_invalid", f"{reference}: its path has other characters than A-Z a-z 0-9 . _ - /"
                )
            await self._artifacts.content(uri)  # that it is there, and not too large
            assert pin is not None
            return f"{workspace.path_of_skill(pin.copy)}/{uri.path}", 0
        content = await self._artifacts.content(uri)
        name = f"{ARTIFACTS_FOLDER}/{uri.name}"
        path = str(workspace.root / name)
        if await trio.to_thread.run_sync(_is_same, folder, name, content.data):
            return path, 0
        check_room(len(content.data))
        await trio.to_thread.run_sync(_write, folder, name, content.data)
        return path, len(content.data)

    def _folder(self, skill: str) -> Path | None:
        pin = self._pinned.get(skill)
        return None if pin is None else pin.copy


def _age_s(given: object) -> float:
    try:
        then = datetime.fromisoformat(str(given).replace("Z", "+00:00"))
        return max(0.0, (datetime.fromisoformat(utc_now().replace("Z", "+00:00")) - then).total_seconds())
    except ValueError:
        return 0.0


def _is_same(folder: Path, name: str, data: bytes) -> bool:
    try:
        with open_file(folder, name) as file:
            return file.mark.size == len(data) and file.read_at(0, len(data) + 1) == data
    except Refused:
        return False


def _write(folder: Path, name: str, data: bytes) -> None:
    with NewFile(folder, name) as new:
        new.write(data)
        new.commit()
