"""Which skills the roles of a session's owner permit."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import trio

from skilld.config import RolesConfig, SenderConfig
from skilld.role_skills import RoleSkills, _groups_of
from support import run_virtual

OWN = 990
NAMES = ("pdf", "tides", "deploy")


def role(**keys: Any) -> SenderConfig:
    return SenderConfig(**{name: tuple(value) for name, value in keys.items()})


async def permitted(skills: RoleSkills, uid: int) -> list[str] | None:
    permits = await skills.permits(uid)
    return None if permits is None else [name for name in NAMES if permits(name)]


def groups(uid: int) -> Collection[int]:
    return {1001: (100,), 1002: (100, 200), 1003: ()}.get(uid, ())


ROLES = RolesConfig(
    send=role(uids=[1000], gids=[100], skills_deny=["deploy"]),
    admin=role(gids=[200], skills_allow=["deploy", "tides"]),
)


@pytest.mark.parametrize(
    ("uid", "expected"),
    [
        (1000, ["pdf", "tides"]),
        (1001, ["pdf", "tides"]),
        (1002, ["pdf", "tides", "deploy"]),
        (1003, ["tides"]),
        (4242, ["tides"]),
        (OWN, ["tides"]),
        (0, ["tides", "deploy"]),
    ],
)
def test_one_role_that_permits_is_enough_and_a_stranger_gets_what_all_permit(uid: int, expected: list[str]) -> None:
    assert run_virtual(permitted, RoleSkills(ROLES, OWN, groups), uid) == expected


def test_without_rules_everything_is_permitted_and_nobody_is_looked_up() -> None:
    def lookup(uid: int) -> Collection[int]:
        raise AssertionError(uid)

    roles = RolesConfig(send=role(gids=[100]), admin=role(uids=[1000]))
    assert run_virtual(permitted, RoleSkills(roles, OWN, lookup), 1001) is None


def test_role_without_rules_is_not_held_to_those_of_another() -> None:
    roles = RolesConfig(send=role(gids=[100], skills_deny=["*"]), admin=role(gids=[200]))
    skills = RoleSkills(roles, OWN, groups)
    assert run_virtual(permitted, skills, 1002) is None
    assert run_virtual(permitted, skills, 1001) == []


def test_the_daemons_own_user_is_admin_while_nobody_has_a_role() -> None:
    roles = RolesConfig(send=role(skills_deny=["*"]), admin=role(skills_deny=["deploy"]))
    assert run_virtual(permitted, RoleSkills(roles, OWN, groups), OWN) == ["pdf", "tides"]


def test_groups_are_looked_up_again_after_a_minute() -> None:
    asked: list[int] = []

    def lookup(uid: int) -> Collection[int]:
        asked.append(uid)
        return (100,) if len(asked) < 3 else ()

    async def main() -> list[list[str] | None]:
        skills = RoleSkills(ROLES, OWN, lookup)
        seen = [await permitted(skills, 1001), await permitted(skills, 1002), await permitted(skills, 1001)]
        await trio.sleep(60)
        return [*seen, await permitted(skills, 1001)]

    assert run_virtual(main) == [["pdf", "tides"]] * 3 + [["tides"]]
    assert asked == [1001, 1002, 1001]


def test_groups_come_from_the_user_database() -> None:
    assert 0 in _groups_of(0)
    assert _groups_of(3_999_999_999) == ()
