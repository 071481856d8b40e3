"""Native skills at load: which may run at all, and what tools their classes offer.

`metadata.skilld-native` names the class: `FILE.py:CLASS`. Such a skill is loaded only from a folder that the operator
trusts with code, and only if its class is as it should be: else it is refused, and its last good version stays.
Whoever loads decides how to look at a class (`Describe`): its module runs then, so it is done in a process for it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from skill_actors.native import BadSkill, Description, NativeCode, tool_name
from skill_actors.skills._clean import clean_text
from skill_actors.skills.base import Diagnostic, NativePart, Skill
from skill_actors.skills.open_places import OpenPlaces

__all__ = ["NATIVE_KEY", "Describe", "NativeLoader", "collisions"]

NATIVE_KEY: Final = "skilld-native"
Describe = Callable[[NativeCode, float], Description]  # within so many seconds; blocks; raises BadSkill

_CLASS: Final = re.compile(r"(?P<file>[^:]+\.py):(?P<name>[A-Za-z_]\w*)")
_TOOL_PREFIX: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MAX_KNOWN: Final = 1000
_LOOK_S: Final = 10.0
_LEAST_S: Final = 2.0


class NativeLoader:
    """Completes skills with their native part. Used by one thread at a time.

    Args:
        trusted: folders (or packages) whose native skills may run.
        describe: looks at a class.
        paths: folders from which native code may import, after its own.
        clock: seconds that pass.
        approved: whether the native code of this version may run; else the skill is taken without it.
        plain: folders whose skills are of use without their native part too: not trusted, they are taken without it.

    A look may take ten seconds; what looks that failed took lately is taken off that, so that many modules that hang
    do not hold up the start, or the edits of others, for ten seconds each.
    """

    def __init__(
        self,
        trusted: Sequence[Path],
        describe: Describe,
        *,
        paths: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        approved: Callable[[Skill], bool] = lambda skill: True,
        plain: Sequence[Path] = (),
    ) -> None:
        self._approved = approved
        self._plain = tuple(plain)
        self._trusted = tuple(trusted)
        self._describe = describe
        self._paths = tuple(paths)
        self._clock = clock
        self._lost_s = 0.0  # by looks that failed; what has passed since is forgiven
        self._lost_at = clock()
        # By name and digest: a name may be the folder's, and equal folders have equal digests.
        self._known: dict[tuple[str, str], Description | Diagnostic] = {}

    @classmethod
    def of_nobody(cls) -> NativeLoader:
        """Refuses every native skill."""

        def describe(code: NativeCode, _timeout_s: float) -> Description:
            raise BadSkill("native_not_trusted", f"the code of skill {code.skill!r} is not looked at", "")

        return cls((), describe)

    def complete(self, skill: Skill, copy: Path, *, again: bool) -> Skill | Diagnostic:
        """The same skill with its native part, if it is to have one; or why it is refused.

        Args:
            copy: where its files are, in just this version.
            again: whether a class that was refused is looked at once more, though nothing in its folder changed.

        """
        written = skill.metadata.get(NATIVE_KEY)
        if written is None:
            return skill
        try:
            file, class_name = _place(skill, written)
            if _folder_of(skill, self._trusted) is None and _folder_of(skill, self._plain) is not None:
                return skill
            self._check_trust(skill)
            if not self._approved(skill):
                return skill
            code = NativeCode(
                skill=skill.name,
                version=skill.digest,
                class_name=class_name,
                root=str(copy),
                file=file,
                paths=self._paths,
            )
            described = self._look_at(code, again)
        except BadSkill as bad:
            return _refused(bad)
        return replace(skill, native=NativePart(code=code, tools=_shown(described.tools), parallel=described.parallel))

    def _check_trust(self, skill: Skill) -> None:
        trusted = _folder_of(skill, self._trusted)
        if trusted is not None:
            _refuse_open_places(skill, _real_place(skill), trusted)
            return
        raise BadSkill(
            "native_not_trusted",
            f"skill {skill.name!r} holds native code, and its folder is not among those whose code may run",
            "If you trust whoever writes there, add the folder to skills.native.",
        )

    def _look_at(self, code: NativeCode, again: bool) -> Description:
        known = self._known.get((code.skill, code.version))
        if isinstance(known, Description):
            return known
        if known is not None and not again:
            raise BadSkill(known.code, known.message, known.remedy)
        began = self._clock()
        lost_s = max(0.0, self._lost_s - (began - self._lost_at))
        try:
            found = self._describe(code, max(_LEAST_S, _LOOK_S - lost_s))
            if found.name != code.skill:
                message = f"skill_info has the name {found.name!r}, and SKILL.md has {code.skill!r}"
                raise BadSkill("native_name", message, "Give both the same name.")
        except BadSkill as bad:
            self._lost_at = self._clock()
            self._lost_s = lost_s + self._lost_at - began
            self._remember(code, _refused(bad))
            raise
        self._remember(code, found)
        return found

    def _remember(self, code: NativeCode, what: Description | Diagnostic) -> None:
        key = (code.skill, code.version)
        self._known.pop(key, None)
        self._known[key] = what
        if len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]


def collisions(skills: Iterable[Skill]) -> dict[str, Diagnostic]:
    """By name, the native skills that would have the same tools as another: none of them can be used."""
    groups: dict[str, list[Skill]] = {}
    for skill in skills:
        if skill.native is not None:
            groups.setdefault(tool_name(skill.name, ""), []).append(skill)
    return {
        skill.name: Diagnostic(
            code="native_name_collision",
            message=f"the tools of native skill {skill.name!r} would have the same names as those of "
            + ", ".join(f"{other.name!r} in {other.root}" for other in group if other is not skill),
            severity="error",
            remedy="Rename one of them: a hyphen and an underscore are the same in the name of a tool.",
        )
        for group in groups.values()
        if len(group) > 1
        for skill in group
    }


def _real_place(skill: Skill) -> Path:
    return Path(os.path.realpath(skill.package or skill.root))


def _folder_of(skill: Skill, folders: Iterable[Path]) -> Path | None:
    """Which of the folders the skill lies in, links followed."""
    place = _real_place(skill)
    return next((real for folder in folders if place.is_relative_to(real := Path(os.path.realpath(folder)))), None)


def _refuse_open_places(skill: Skill, place: Path, trusted: Path) -> None:
    """Where everybody may write, the operator's trust is in everybody."""
    try:
        is_open = OpenPlaces(trusted).nearest(place)
    except OSError as error:
        raise BadSkill("native_not_trusted", f"{place} cannot be judged: {error.strerror}", "Reload it.") from None
    inside = any(remark.code == "open_to_all" for remark in skill.diagnostics)
    if is_open is not None or inside:
        where = is_open or f"files in {place}"
        message = f"skill {skill.name!r} holds native code, and every user may write to {where}"
        raise BadSkill("native_not_trusted", message, "chmod o-w it, after a look at what is there.")


def _place(skill: Skill, written: str) -> tuple[str, str]:
    found = _CLASS.fullmatch(written.strip())
    if found is None or found["file"] not in skill.files:
        message = f"metadata.{NATIVE_KEY} is {written[:200]!a}, which is no class in a file of the skill"
        raise BadSkill("native_malformed", message, "Write FILE.py:CLASS, with a file of the skill.")
    if not _TOOL_PREFIX.fullmatch(skill.name):
        message = f"name {skill.name[:80]!a} cannot begin the name of a tool"
        raise BadSkill("native_name", message, "Use letters, digits and hyphens, 100 at most.")
    return found["file"], found["name"]


def _refused(bad: BadSkill) -> Diagnostic:
    return Diagnostic(code=bad.code, message=clean_text(bad.message), severity="error", remedy=clean_text(bad.remedy))


def _shown(value: Any) -> Any:
    """The same JSON value, its texts without what does not show: they go to models and terminals."""
    match value:
        case str():
            return clean_text(value)
        case list():
            return [_shown(item) for item in value]
        case Mapping():
            return {name: _shown(item) for name, item in value.items()}
        case _:
            return value
