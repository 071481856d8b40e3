"""What an operator may say about containers: applied, or refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_options import checked, create_arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"imgae": "x"}, "has no option 'imgae'; it has address, allow, cpus"),
        ({"image": ""}, "option image is '', but has to be the name of an image"),
        ({"image": 3}, "option image is 3, but has to be a text"),
        ({"memory_bytes": "1g"}, "option memory_bytes is '1g', but has to be a whole number"),
        ({"memory_bytes": True}, "has to be a whole number"),
        ({"memory_bytes": 1 << 20}, "option memory_bytes is 1048576"),
        ({"workspace_bytes": 2 << 30}, "option workspace_bytes is 2147483648, but has to be a number from"),
        ({"workspace_bytes": 896 << 20}, "together 1073741824"),
        ({"memory_bytes": 384 << 20}, "option memory_bytes is 402653184, but has to be more than workspace_bytes, "),
        ({"cpus": 0}, "option cpus is 0"),
        ({"cpus": float("nan")}, "option cpus is nan"),
        ({"processes": 40}, "option processes is 40"),
        ({"pool": 3, "max_containers": 2}, "option pool is 3, but has to be a number from 0 to 2"),
        ({"pull": "sometimes"}, "option pull is 'sometimes', but has to be never, missing or always"),
        ({"network": "host"}, "option network is 'host', but has to be none, allow, full, or the name of a network"),
        ({"network": "container:abc"}, "option network is 'container:abc'"),
        ({"network": ""}, "option network is ''"),
        ({"allow": ["a.org"]}, "left out where neither network nor session.networks has allow"),
        ({"network": "full", "network_bytes": 9}, "option network_bytes is 9, but has to be left out"),
        ({"mounts": {"/srv/../etc": "/data"}}, "absolute paths"),
        ({"mounts": {"srv": "/data"}}, "absolute paths"),
        ({"mounts": {"/srv": "/data:rw"}}, "absolute paths"),
        ({"mounts": {"//run": "/data"}}, "absolute paths"),
        ({"mounts": {"/srv": "//etc"}}, "absolute paths"),
        ({"mounts": {"/srv": "/"}}, "places outside of"),
        ({"mounts": {"/srv": "/workspace/in"}}, "places outside of"),
        ({"mounts": {"/srv": "/proc"}}, "places outside of"),
        ({"mounts": {"/srv/docker.sock": "/d"}}, "/srv/docker.sock is a socket"),
        ({"mounts": ["/srv"]}, "a table of texts"),
        ({"environment": {"A": 1}}, "a table of texts"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_name_its_value_and_what_is_allowed(
    options: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        checked(options)
    assert words in str(caught.value)


def test_files_may_take_all_memory_but_one_byte() -> None:
    assert checked({"memory_bytes": (384 << 20) + 1}).workspace_bytes == 256 << 20


def test_what_is_said_reaches_the_engine() -> None:
    options = checked(
        {
            "image": "mine:1",
            "network": "inside",
            "runtime": "runsc",
            "memory_bytes": 1 << 28,
            "cpus": 1.5,
            "processes": 99,
            "workspace_bytes": 1 << 24,
            "workspace_files": 123,
            "tmp_bytes": 1 << 21,
            "skills_bytes": 1 << 22,
            "mounts": {"/srv/data": "/data"},
        }
    )
    body = create_arguments(options, {"label": "value"})
    host = body["HostConfig"]
    assert (body["Image"], body["Labels"], body["NetworkDisabled"]) == ("mine:1", {"label": "value"}, False)
    assert (host["NetworkMode"], host["Runtime"]) == ("inside", "runsc")
    mount = {"Type": "bind", "Source": "/srv/data", "Target": "/data", "ReadOnly": True}
    assert host["Mounts"] == [{**mount, "BindOptions": {"NonRecursive": True}}]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (1 << 28, 1 << 28, 1_500_000_000)
    assert host["PidsLimit"] == 99
    assert options.processes_of_a_call == 67
    assert "size=16777216,nr_inodes=123," in host["Tmpfs"]["/workspace"]
    assert "size=2097152," in host["Tmpfs"]["/tmp"]
    assert "size=4194304," in host["Tmpfs"]["/mnt/skills"]


def test_full_network_is_the_bridge_and_none_has_no_network_at_all() -> None:
    full = create_arguments(checked({"network": "full"}), {})
    none = create_arguments(checked({}), {})
    assert (full["HostConfig"]["NetworkMode"], full["NetworkDisabled"]) == ("bridge", False)
    assert (none["HostConfig"]["NetworkMode"], none["NetworkDisabled"]) == ("none", True)
