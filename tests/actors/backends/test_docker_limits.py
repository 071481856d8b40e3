"""What a session may choose of its containers: less by itself, more where the operator says so, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from skill_actors.backends import BackendUnavailable, OptionRefused
from skill_actors.backends.docker_limits import checked_options, resolved
from skill_actors.backends.docker_options import DockerOptions, checked

PLAIN = checked({})
WIDE = checked(
    {
        "image": "own:1",
        "session": {
            "images": ["big:2", "repo@sha256:" + "0" * 64],
            "pull": ["missing"],
            "networks": ["allow", "full"],
            "hosts": ["*.example.com", "10.0.0.7:8080"],
            "memory_bytes": 4 << 30,
            "cpus": 4,
            "processes": 2048,
            "workspace_bytes": 1 << 30,
            "tmp_bytes": 512 << 20,
            "mounts": {"data": "/srv/data:/data"},
            "users": [300_000],
        },
    }
)


@pytest.mark.parametrize(
    ("own", "asked", "written"),
    [
        (PLAIN, {"memory": "512m", "cpus": 0.5}, {"memory_bytes": 512 << 20, "cpus": 0.5}),
        (PLAIN, {"tmp": "8MiB", "workspace_bytes": 1 << 20}, {"tmp_bytes": 8 << 20, "workspace_bytes": 1 << 20}),
        (PLAIN, {"network": "none", "image": PLAIN.image, "pull": "never", "user": 0}, None),
        (PLAIN, {"mounts": []}, {"mounts": []}),
        (WIDE, {"memory_bytes": "2G", "cpus": 4}, {"memory_bytes": 2 << 30, "cpus": 4}),
        (WIDE, {"image": "big:2", "pull": "missing", "user": 300_000, "mounts": "data"}, {"mounts": ["data"]}),
        (WIDE, {"network": "full"}, None),
        (WIDE, {"network": "allow", "allow": "A.Example.com:443"}, {"allow": ["a.example.com:443"]}),
        (WIDE, {"network": "allow", "allow": ["*.b.example.com", "10.0.0.7:8080"]}, None),
    ],
)
def test_what_is_permitted_is_written_in_one_way(
    own: DockerOptions, asked: Mapping[str, Any], written: Mapping[str, Any] | None
) -> None:
    checked_once = checked_options(own, asked)
    assert checked_once == {key: asked[key] for key in asked.keys() - {"memory", "tmp"}} | dict(written or {})
    assert checked_options(own, checked_once) == checked_once


@pytest.mark.parametrize(
    ("own", "asked", "says"),
    [
        (PLAIN, {"runtime": "runsc"}, "option runtime is 'runsc', but sessions choose among allow, memory_bytes"),
        (PLAIN, {"address": "tcp://x:1"}, "option address is"),
        (PLAIN, {"environment": {"A": "b"}}, "option environment is"),
        (PLAIN, {"session": {}}, "option session is"),
        (PLAIN, {"memory": "512m", "memory_bytes": 1 << 29}, "it is there twice"),
        (
            PLAIN,
            {"memory_bytes": (1 << 30) + 1},
            r"permits at most 1073741824 \(backends.docker.session.memory_bytes\)",
        ),
        (PLAIN, {"memory": "2g"}, r"option memory_bytes is 2147483648, but the operator permits at most 1073741824"),
        (PLAIN, {"memory": "lots"}, "has to be a whole number, or text such as"),
        (PLAIN, {"memory_bytes": True}, "has to be a whole number"),
        (PLAIN, {"memory_bytes": 1.5}, "has to be a whole number"),
        (PLAIN, {"memory_bytes": 1 << 20}, "has to be a number from"),
        (
            PLAIN,
            {"memory": "128m"},
            "option workspace_bytes is 268435456, but has to be a number from 1.*e.06 to 1.*e.08",
        ),
        (PLAIN, {"memory": "300m"}, "option memory_bytes is 314572800, but has to be more than workspace_bytes"),
        (PLAIN, {"cpus": 1.5}, r"permits at most 1.0 \(backends.docker.session.cpus\)"),
        (PLAIN, {"cpus": float("nan")}, "permits at most"),
        (PLAIN, {"cpus": -1}, "has to be a number from 0.05"),
        (PLAIN, {"processes": 513}, r"permits at most 512 \(backends.docker.session.processes\)"),
        (PLAIN, {"workspace": "1g"}, r"\(backends.docker.session.workspace_bytes\)"),
        (PLAIN, {"tmp": "1g"}, r"\(backends.docker.session.tmp_bytes\)"),
        (PLAIN, {"image": "big:2"}, r"permits localhost/skilld-sandbox:full \(backends.docker.session.images\)"),
        (PLAIN, {"image": ["x"]}, "session.images"),
        (PLAIN, {"pull": "missing"}, r"permits never \(backends.docker.session.pull\)"),
        (PLAIN, {"network": "full"}, r"permits none \(backends.docker.session.networks\)"),
        (PLAIN, {"network": "host"}, r"session.networks"),
        (PLAIN, {"network": "allow", "allow": ["a.org"]}, "session.networks"),
        (PLAIN, {"allow": ["a.org"]}, r"permits no host \(backends.docker.session.hosts\)"),
        (PLAIN, {"mounts": "data"}, r"permits none \(backends.docker.session.mounts\)"),
        (PLAIN, {"mounts": {"/etc": "/data"}}, "has to be a list of texts"),
        (PLAIN, {"user": 300_000}, r"permits 0 \(backends.docker.session.users\)"),
        (PLAIN, {"user": "root"}, "session.users"),
        (WIDE, {"image": "big:2 "}, "permits own:1, big:2, repo@sha256"),
        (WIDE, {"pull": "always"}, "permits never and missing"),
        (WIDE, {"network": "allow"}, "allow is .*, but has to be a list of at least one host"),
        (WIDE, {"network": "allow", "allow": ["example.com"]}, r"permits \*.example.com, 10.0.0.7:8080"),
        (WIDE, {"network": "allow", "allow": ["10.0.0.7"]}, "session.hosts"),
        (WIDE, {"network": "allow", "allow": ["*"]}, "session.hosts"),
        (WIDE, {"network": "allow", "allow": ["127.1"]}, "expected a host such as"),
        (WIDE, {"network": "allow", "allow": [f"a{n}.example.com" for n in range(101)]}, "at most 100"),
        (WIDE, {"network": "none", "allow": ["a.example.com"]}, "the network is none, and not allow"),
        (WIDE, {"mounts": ["data", "/srv"]}, r"option mounts is '/srv', but the operator permits data"),
        (WIDE, {"cpus": 5}, "at most 4"),
    ],
)
def test_what_is_not_permitted_is_refused_with_option_value_limit_and_key(
    own: DockerOptions, asked: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(OptionRefused, match=says):
        checked_options(own, asked)


def test_a_limit_that_was_lowered_refuses_what_was_permitted_and_names_it() -> None:
    asked = checked_options(WIDE, {"memory": "2g"})
    with pytest.raises(
        BackendUnavailable, match=r"cannot be made: .*memory_bytes is 2147483648, .* at most 1073741824"
    ):
        resolved(PLAIN, asked)


def test_what_is_chosen_is_what_the_container_gets_and_all_else_is_the_operators() -> None:
    made = resolved(WIDE, {"memory": "2g", "mounts": ["data"], "user": 300_000})
    assert (made.memory_bytes, made.mounts, made.user) == (2 << 30, {"/srv/data": "/data"}, 300_000)
    assert (made.image, made.cpus, made.network, made.pool) == (WIDE.image, WIDE.cpus, WIDE.network, WIDE.pool)
    assert resolved(WIDE, {}) == WIDE


@pytest.mark.parametrize(
    ("session", "says"),
    [
        ({"memory_bytes": 1 << 20}, "session.memory_bytes is 1048576, but has to be 0, or at least 1073741824"),
        ({"memory_bytes": "4g"}, "session.memory_bytes is '4g', but has to be a whole number"),
        ({"memoryy": 1}, "no option 'session.memoryy'"),
        ({"networks": ["host"]}, "session.networks is 'host'"),
        ({"pull": ["never"]}, "session.pull is 'never'"),
        ({"images": "own"}, "session.images is 'own', but has to be a list of texts"),
        ({"hosts": ["http://x"]}, "session.hosts is 'http://x'"),
        ({"hosts": ["a.org"]}, "session.hosts is .* left out where neither network nor session.networks has allow"),
        ({"users": ["me"]}, "a list of whole numbers"),
        ({"users": [1000]}, "session.users is 1000"),
        ({"mounts": {"data": "/srv/data"}}, "NAME = /on/the/host:/inside"),
        ({"mounts": {"da ta": "/srv/data:/data"}}, "NAME = /on/the/host:/inside"),
        ({"mounts": {"a": "/srv/a:/data", "b": "/srv/b:/data"}}, "one folder for each place inside"),
        ({"mounts": {"a": "/srv/a:/data", "b": "/srv/a:/more"}}, "one place inside for each folder"),
        ({"mounts": {"a": "/var/run/docker.sock:/x"}}, "gives the host away"),
        ([], "session is .*, but has to be a table"),
    ],
)
def test_limits_that_make_no_sense_are_a_configuration_error(session: Any, says: str) -> None:
    with pytest.raises(BackendUnavailable, match=says):
        checked({"session": session})
