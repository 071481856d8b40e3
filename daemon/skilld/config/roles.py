"""The section [roles]: who may do what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skilld.config.section import Names, Section

__all__ = ["RoleConfig", "RolesConfig", "SenderConfig"]

AccountId = Annotated[int, Field(ge=0, le=4_294_967_294)]


class RoleConfig(Section):
    """Who has a role: user ids, and group ids (primary or supplementary)."""

    uids: tuple[AccountId, ...] = Field(default=(), strict=False)
    gids: tuple[AccountId, ...] = Field(default=(), strict=False)

    @property
    def names_anybody(self) -> bool:
        return bool(self.uids or self.gids)


class SenderConfig(RoleConfig):
    """Who has a role in which one has sessions, and which skills these may use."""

    skills_allow: Names = Field(default=("*",), strict=False)
    skills_deny: Names = Field(default=(), strict=False)


class RolesConfig(Section):
    """Who may do what on the socket. With nobody named: root and the daemon's own user, and they may do all."""

    read: RoleConfig = RoleConfig()
    send: SenderConfig = SenderConfig()
    approve: RoleConfig = RoleConfig()
    admin: SenderConfig = SenderConfig()
    report: RoleConfig = RoleConfig()  # of another socket, and so of no account below

    @property
    def configured(self) -> bool:
        return any(role.names_anybody for role in self._all)

    def serve_others(self, uid: int) -> bool:
        """Whether somebody else than root and this user may connect."""
        return any(role.gids or not {uid, 0}.issuperset(role.uids) for role in self._all)

    @property
    def _all(self) -> tuple[RoleConfig, ...]:
        return self.read, self.send, self.approve, self.admin
