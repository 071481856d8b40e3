"""How the local backend's sandboxes are put together, and when they are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox_kit import require_sandbox
from skill_actors.backends import BackendUnavailable, confinement, sandbox
from skill_actors.backends.sandbox import Fence, make_fence


def test_without_a_sandbox_nothing_is_changed_and_nothing_is_promised() -> None:
    fence = make_fence("none", None, (), [Path("/usr")])
    assert fence.path("/a:/b") == "/a:/b"
    assert fence.argv(["echo", "x"], "/w", []) == ["echo", "x"]
    assert fence.confine("/w", [Path("/s")]) is None
    assert (fence.kind, fence.network) == ("none", "host")


@pytest.mark.parametrize(("network", "readable"), [("none", ()), (None, ("/opt",))])
def test_what_only_a_sandbox_can_do_is_refused_without_one(network: str | None, readable: tuple[str, ...]) -> None:
    with pytest.raises(BackendUnavailable, match="need a sandbox"):
        make_fence("none", network, readable, ())  # type: ignore[arg-type]


def test_landlock_gets_what_may_be_read_and_the_one_folder_that_may_be_written() -> None:
    fence = Fence(kind="landlock", system=("/usr", "/etc/hosts"), readable=("/srv/tools",))
    given = fence.confine("/state/w", [Path("/state/skills/a")])
    assert given is not None
    assert given["read"] == ["/usr", "/etc/hosts", "/proc", "/sys/devices/system/cpu", "/srv/tools", "/state/skills/a"]
    assert given["write"] == ["/state/w"]
    assert given["families"] == ("inet", "inet6", "netlink")
    quiet = Fence(kind="landlock", network="none").confine("/w", [])
    assert quiet is not None
    assert quiet["families"] == ()
    assert fence.temporary("/state/w/.skilld/tmp") == "/state/w/.skilld/tmp"


def test_bubblewrap_mounts_the_skills_and_the_workspace_where_they_are() -> None:
    fence = Fence(kind="bwrap", network="none", system=("/usr",))
    argv = fence.argv(["printf", "%s", "--bind"], "/state/w", [Path("/state/skills/b"), Path("/state/skills/a")])
    joined = " ".join(argv)
    assert (
        "--ro-bind /state/skills/a /state/skills/a --ro-bind /state/skills/b /state/skills/b --bind /state/w" in joined
    )
    assert argv[argv.index("--") :] == ["--", "printf", "%s", "--bind"]
    assert "--share-net" not in argv
    assert "--share-net" in Fence(kind="bwrap").argv(["x"], "/w", [])
    assert fence.temporary("/state/w/.skilld/tmp") == "/tmp"


def test_more_skills_than_bubblewrap_can_mount_are_refused_and_never_shown_by_the_folder_of_all() -> None:
    fence = Fence(kind="bwrap")
    skills = [Path(f"/state/skills/{number}") for number in range(65)]
    argv = fence.argv(["x"], "/w", skills[:64])
    assert argv.count("--ro-bind") == 64
    assert "/state/skills" not in argv
    with pytest.raises(ValueError, match="at most 64 skills, and this conversation has 65: use fewer skills"):
        fence.argv(["x"], "/w", skills)


def test_of_path_stays_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to("/usr/bin")
    fence = Fence(kind="landlock", system=("/usr",), readable=("/srv/tools",))
    assert fence.path(f"/home/me/bin:/usr/local/bin:{tmp_path}/bin:/srv/tools/bin:/usrx") == (
        f"/usr/local/bin:{tmp_path}/bin:/srv/tools/bin"
    )
    assert fence.path("/home/me/bin") == "/usr/bin:/bin"


@pytest.mark.parametrize("kind", ["landlock", "bwrap"])
def test_a_private_folder_where_everything_is_shown_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="/usr/state must stay out of their reach"):
        make_fence(kind, None, (), [Path("/usr/state")])  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["relative", "/no/such/thing"])
def test_what_is_to_be_shown_must_be_there(path: str) -> None:
    with pytest.raises(BackendUnavailable, match="is not an absolute path"):
        make_fence("landlock", None, [path], ())


@pytest.mark.parametrize(("abi", "machine"), [(0, "x86_64"), (1, "x86_64"), (7, "riscv64")])
def test_landlock_is_refused_where_the_kernel_lacks_it(abi: int, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = os.uname()
    monkeypatch.setattr(confinement, "landlock_abi", lambda: abi)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*names[:4], machine)))
    with pytest.raises(BackendUnavailable, match=f"needs Linux 5.19 .* ABI {abi} on {machine}"):
        make_fence("landlock", None, (), ())


def test_bubblewrap_is_refused_where_it_is_missing_too_old_or_not_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="install it"):
        make_fence("bwrap", None, (), ())
    program = tmp_path / "bwrap"
    for script, told in (
        ("#!/bin/sh\necho 'Unknown option --disable-userns' >&2\nexit 1\n", "Unknown option --disable-userns"),
        ("#!/bin/sh\nexit 0\n", "exit 0"),
        ("nothing that runs", "cannot be used"),
    ):
        program.write_text(script)
        program.chmod(0o755)
        with pytest.raises(BackendUnavailable, match=told):
            make_fence("bwrap", None, (), ())


def test_a_fence_that_can_be_had_is_whole() -> None:
    require_sandbox("bwrap")
    fence = make_fence("bwrap", None, ["/etc/hostname"], ())
    assert (fence.network, fence.readable) == ("none", ("/etc/hostname",))
    assert "/usr" in fence.system
    assert not [path for path in fence.system if path.startswith("/etc/") and path in ("/etc/shadow", "/etc/ssl")]


def test_nothing_shown_of_etc_is_a_secret() -> None:
    for name in ("shadow", "gshadow", "ssl/private", "skilld", "ssh", "sudoers"):
        assert not [path for path in sandbox._ETC if f"/etc/{name}".startswith(path)]


def test_what_a_sandbox_does_not_do_is_said() -> None:
    assert Fence().missing == {}
    assert "kind and size" in Fence(kind="landlock").missing["sandbox"]
    own_network, scoped = Fence(kind="bwrap", network="none"), Fence(kind="bwrap", network="host", scoped=True)
    assert own_network.missing == scoped.missing == {"sandbox": "commands have the daemon's user id"}
    assert "local sockets without a path" in Fence(kind="bwrap", network="host").missing["sandbox"]
    assert (own_network.scopes, scoped.scopes) == (False, True)
