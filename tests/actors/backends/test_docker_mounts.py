"""Folders of the host that no container may see."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_mounts import given_away, resolved_mounts
from skill_actors.backends.docker_options import checked


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/proc",
            "/proc/1/root",
            "/sys",
            "/sys/fs/cgroup",
            "/dev",
            "/dev/shm",
            "/run",
            "/run/docker",
            "/var/run/x",
        ),
        *("/var", "/var/lib", "/var/lib/docker", "/var/lib/docker/overlay2", "/var/lib/containerd", "/srv/any.sock"),
    ],
)
def test_what_gives_the_host_away_is_refused_by_name(path: str) -> None:
    assert given_away(path) is not None
    with pytest.raises(BackendUnavailable, match="no folder that gives the host away"):
        checked({"mounts": {path: "/data"}})


def test_other_folders_may_be_seen_and_those_that_are_private_and_above_them_may_not() -> None:
    assert given_away("/srv/data") is None
    assert given_away("/runner") is None
    assert given_away("/srv/state/workspaces", ["/srv/state"]) == "/srv/state/workspaces is in /srv/state"
    assert given_away("/srv", ["/srv/state"]) == "/srv/state is in /srv"
    assert given_away("/srv/state-of-things", ["/srv/state"]) is None


def test_links_are_resolved_and_what_they_lead_to_is_judged(tmp_path: Path) -> None:
    good, state = tmp_path / "good", tmp_path / "state"
    good.mkdir()
    state.mkdir()
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "to-proc").symlink_to("/proc")
    (tmp_path / "to-state").symlink_to(state / "..")
    (tmp_path / "state-link").symlink_to(state)
    os.mkfifo(tmp_path / "pipe")
    private = [str(tmp_path / "state-link")]
    both = {str(tmp_path / "link"): "/data", str(good): "/again"}
    assert resolved_mounts(both, private) == [(str(good), "/data"), (str(good), "/again")]
    for name, says in (
        ("to-proc", "/proc is in /proc"),
        ("to-state", f"{state} is in {tmp_path}"),
        ("state", f"{state} is in {state}"),
        ("pipe", "neither a folder nor a file"),
        ("missing", "No such file or directory"),
    ):
        with pytest.raises(BackendUnavailable, match=says):
            resolved_mounts({str(tmp_path / name): "/data"}, private)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        with pytest.raises(BackendUnavailable, match="neither a folder nor a file"):
            resolved_mounts({str(tmp_path / "s"): "/data"}, [])
