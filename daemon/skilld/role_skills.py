"""Which skills a user's roles permit: `skills_allow` and `skills_deny` of [roles.send] and [roles.admin].

A session knows its owner's uid and nothing else of the owner, so groups are looked up in the user database, and
looked up again after a minute. An owner who is found in no role now may use what every role permits.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Collection
from typing import Final

import trio

from skill_actors.skills.choice import SkillRules
from skilld.config import RolesConfig, SenderConfig

__all__ = ["RoleSkills"]

_FRESH_S: Final = 60.0
_KEPT: Final = 4_096

Groups = Callable[[int], Collection[int]]


class RoleSkills:
    """Belongs to the trio thread.

    Args:
        roles: who has which role.
        own_uid: who is admin while nobody has a role.
        groups: the groups of a user, by uid; runs in a worker thread.

    """

    def __init__(self, roles: RolesConfig, own_uid: int, groups: Groups | None = None) -> None:
        self._own_uid = own_uid
        self._configured = roles.configured
        self._roles = [(role, _rules(role)) for role in (roles.send, roles.admin)]
        self._groups = groups or _groups_of
        self._found: dict[int, tuple[float, Collection[int]]] = {}
        self._limiter = trio.CapacityLimiter(2)

    async def permits(self, uid: int) -> Callable[[str], bool] | None:
        """What decides, by name, about a skill for sessions of this user; None: all are permitted."""
        if all(rules.permits_all for _, rules in self._roles):
            return None
        held = await self._held(uid)
        if any(rules.permits_all for rules in held):
            return None
        if held:
            return lambda name: any(rules.permits(name) for rules in held)
        return lambda name: all(rules.permits(name) for _, rules in self._roles)

    async def _held(self, uid: int) -> list[SkillRules]:
        (_, _), (_, admin) = self._roles
        if uid == 0 or (not self._configured and uid == self._own_uid):
            return [admin]
        groups = await self._groups_of(uid) if any(role.gids for role, _ in self._roles) else ()
        return [rules for role, rules in self._roles if uid in role.uids or not set(groups).isdisjoint(role.gids)]

    async def _groups_of(self, uid: int) -> Collection[int]:
        found_at, groups = self._found.get(uid, (-_FRESH_S, ()))
        if trio.current_time() - found_at >= _FRESH_S:
            if len(self._found) >= _KEPT:
                self._found.clear()
            # The user database may be on another machine.
            groups = await trio.to_thread.run_sync(self._groups, uid, limiter=self._limiter, abandon_on_cancel=True)
            self._found[uid] = (trio.current_time(), groups)
        return groups


def _rules(role: SenderConfig) -> SkillRules:
    return SkillRules(allow=role.skills_allow, deny=role.skills_deny)


def _groups_of(uid: int) -> Collection[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return ()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
