"""The native tools of one turn: those of its skills, beside its backend's."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from skill_actors.backends.base import WorkspaceSpec
from skill_actors.backends.native import NativeRoom, NativeTools
from skill_actors.sessions.surroundings import PinnedSkill, Surroundings
from skill_actors.skills.catalogue import is_listed

__all__ = ["native_room"]

_log = logging.getLogger(__name__)


def native_room(
    env: Surroundings, pinned: Sequence[PinnedSkill], spec: WorkspaceSpec, taken: Collection[str]
) -> NativeRoom | None:
    """The tools of the native skills among these, in the versions that the turn is pinned to; None without any.

    Args:
        spec: where they work.
        taken: names of other tools, which stay theirs: a skill that has one of them offers nothing.

    """
    offers = []
    for pin in pinned:
        part = pin.skill.native
        if part is None or env.natives is None or not is_listed(pin.skill):
            continue
        clashing = sorted(str(tool["name"]) for tool in part.tools.values() if tool["name"] in taken)
        if clashing:
            _log.warning("native skill %s offers no tools: %s is another tool here", pin.skill.name, clashing[0])
            continue
        code = replace(part.code, root=str(pin.copy))
        offers.append(NativeTools(code=code, tools=part.tools, parallel=part.parallel))
    return NativeRoom(offers, env.natives, spec) if offers and env.natives is not None else None
