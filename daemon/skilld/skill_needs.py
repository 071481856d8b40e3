"""What skills need and this host lacks: looked for when somebody asks, packages at most every few seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import trio

from skill_actors.backends.call_environment import BASIC
from skill_actors.backends.local import LocalOptions
from skill_actors.skills.base import SkillSnapshot
from skill_actors.skills.requirements import Host
from skill_actors.skills.secrets import SkillSecrets

__all__ = ["SkillNeeds"]

LOCAL_VARIABLES: Final = frozenset({"HOME", "PATH", "TMPDIR", *BASIC})  # of every command of that backend
_FRESH_S: Final = 5.0  # asking python3 for packages takes a process

_Given = Mapping[str, tuple[frozenset[str], dict[str, str]]]
"""By skill: the secrets that it gets, and those that it should get, with what is wrong."""


class SkillNeeds:
    """Answers for the local backend: for another one nothing can be said, and nothing is."""

    def __init__(self, backends: Sequence[str], secrets: SkillSecrets) -> None:
        self._is_local = "local" in backends
        self._secrets = secrets
        self._lock = trio.Lock()
        self._answer: Mapping[str, Sequence[Mapping[str, Any]]] = {}
        self._asked_for: tuple[SkillSnapshot, _Given] | None = None
        self._at_s = 0.0

    async def unmet(self, snapshot: SkillSnapshot) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """JSON-ready, by skill; a skill that has all it needs is absent. All but secrets may be 5 s old."""
        if not self._is_local:
            return {}
        async with self._lock:
            given = await trio.to_thread.run_sync(self._given, snapshot)
            now_s = trio.current_time()
            asked, of = self._asked_for or (None, None)
            if snapshot is not asked or given != of or now_s - self._at_s > _FRESH_S:
                self._answer = await trio.to_thread.run_sync(_look, snapshot, given)
                self._asked_for, self._at_s = (snapshot, given), now_s
            return self._answer

    def _given(self, snapshot: SkillSnapshot) -> _Given:
        skills = snapshot.skills.values()
        return {skill.name: self._secrets.given(skill) for skill in skills if self._secrets.concern(skill)}


def _look(snapshot: SkillSnapshot, given: _Given) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    host = Host(
        path=LocalOptions().path,
        environment=LOCAL_VARIABLES,
        secrets={name: variables for name, (variables, _) in given.items()},
        broken={name: wrong for name, (_, wrong) in given.items()},
    )
    unmet = host.unmet(list(snapshot.skills.values()))
    return {name: [item.to_dict() for item in items] for name, items in unmet.items()}
