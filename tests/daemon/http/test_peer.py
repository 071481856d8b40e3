"""Who the peer is, and what it may do."""

from __future__ import annotations

import os
import socket

import pytest

from skilld.config import RoleConfig, RolesConfig, SenderConfig
from skilld.http.peer import Authority, Peer, PeerRefused, read_peer

READER = Peer(uid=1000, gid=1000, pid=1, groups=frozenset({1000, 50}))


def test_the_kernel_names_the_peer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = read_peer(ours, 65_534)
    assert (peer.uid, peer.gid, peer.pid) == (os.geteuid(), os.getegid(), os.getpid())
    assert set(os.getgroups()) | {os.getegid()} == peer.groups


def test_a_peer_that_is_the_overflow_user_is_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs, pytest.raises(PeerRefused, match="user namespace"):
        read_peer(ours, os.geteuid())


def test_a_socket_without_credentials_is_refused() -> None:
    with socket.socket(socket.AF_INET) as sock, pytest.raises(PeerRefused):
        read_peer(sock, 65_534)


def test_until_roles_are_configured_root_and_the_daemons_user_may_do_all_and_others_nothing() -> None:
    authority = Authority(RolesConfig(), own_uid=1000)
    assert "admin" in authority.permissions(READER)
    assert "admin" in authority.permissions(Peer(uid=0, gid=0, pid=1))
    assert authority.permissions(Peer(uid=1001, gid=1000, pid=1, groups=frozenset({1000}))) == frozenset()


def test_once_roles_are_configured_the_daemons_user_has_only_what_it_was_given() -> None:
    authority = Authority(RolesConfig(read=RoleConfig(uids=(1000,))), own_uid=1000)
    assert authority.permissions(READER) == {"any", "read"}
    assert "admin" in authority.permissions(Peer(uid=0, gid=0, pid=1))


def test_a_supplementary_group_gives_its_role() -> None:
    authority = Authority(RolesConfig(send=SenderConfig(gids=(50,))), own_uid=9)
    assert authority.permissions(READER) == {"any", "read", "send"}


def test_roles_add_up() -> None:
    roles = RolesConfig(read=RoleConfig(uids=(1000,)), admin=SenderConfig(gids=(50,)))
    assert authority_of(roles) == {"any", "read", "send", "approve", "admin"}


def test_who_approves_may_look_and_send_nothing() -> None:
    assert authority_of(RolesConfig(approve=RoleConfig(gids=(50,)))) == {"any", "read", "approve"}
    assert "approve" not in authority_of(RolesConfig(send=SenderConfig(uids=(1000,))))
    assert RolesConfig(approve=RoleConfig(uids=(5,))).configured
    assert RolesConfig(approve=RoleConfig(uids=(5,))).serve_others(1000)


def authority_of(roles: RolesConfig) -> frozenset[str]:
    return frozenset(Authority(roles, own_uid=9).permissions(READER))
