"""What a broker passes on: the docker backend's own requests, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill_actors.backends.docker_options import DockerOptions, create_arguments
from skilld.broker.rules import BROKER, Forbidden, Limits, checked_container, understood

IMAGE = "localhost/skilld-sandbox:slim"
LIMITS = Limits(images=(IMAGE,))
LABELS = {"skilld.owner": "aa", "skilld.boot": "bb"}
ID = "0123456789abcdef" * 4


def template(**options: Any) -> dict[str, Any]:
    """What the backend sends."""
    return create_arguments(DockerOptions(image=IMAGE, **options), LABELS)


def checked(body: Any, limits: Limits = LIMITS) -> dict[str, Any]:
    passed: dict[str, Any] = json.loads(checked_container(json.dumps(body).encode(), limits, "mine"))
    return passed


def test_what_the_backend_sends_is_passed_on_with_a_label_more() -> None:
    body = template()
    assert checked(body) == {**body, "Labels": {**LABELS, BROKER: "mine"}}


def test_less_than_the_most_is_passed_on() -> None:
    small = {"workspace_bytes": 1 << 20, "tmp_bytes": 1 << 20, "skills_bytes": 1 << 20, "memory_bytes": 128 << 20}
    assert checked(template(**small, cpus=0.5, processes=64))["HostConfig"]["NanoCpus"] == 500_000_000


Edit = Callable[[dict[str, Any]], object]

# What of the engine's API gives a host away, or a part of it, and what is more than a container may have.
FORBIDDEN: dict[str, Edit] = {
    "privileged": lambda body: body["HostConfig"].update(Privileged=True),
    "privileged, not on": lambda body: body["HostConfig"].update(Privileged=False),
    "binds": lambda body: body["HostConfig"].update(Binds=["/:/host"]),
    "mounts": lambda body: body["HostConfig"].update(Mounts=[{"Type": "bind", "Source": "/", "Target": "/host"}]),
    "volumes": lambda body: body.update(Volumes={"/host": {}}),
    "volumes from": lambda body: body["HostConfig"].update(VolumesFrom=["other"]),
    "devices": lambda body: body["HostConfig"].update(Devices=[{"PathOnHost": "/dev/sda"}]),
    "device rules": lambda body: body["HostConfig"].update(DeviceCgroupRules=["a *:* rwm"]),
    "capability": lambda body: body["HostConfig"].update(CapAdd=["SYS_ADMIN"]),
    "all capabilities": lambda body: body["HostConfig"].update(CapAdd=["ALL"]),
    "capabilities kept": lambda body: body["HostConfig"].update(CapDrop=[]),
    "capabilities, no drop at all": lambda body: body["HostConfig"].pop("CapDrop"),
    "host network": lambda body: body["HostConfig"].update(NetworkMode="host"),
    "bridge": lambda body: body["HostConfig"].update(NetworkMode="bridge"),
    "another container's network": lambda body: body["HostConfig"].update(NetworkMode=f"container:{ID}"),
    "network on": lambda body: body.update(NetworkDisabled=False),
    "networks": lambda body: body.update(NetworkingConfig={"EndpointsConfig": {"bridge": {}}}),
    "host pids": lambda body: body["HostConfig"].update(PidMode="host"),
    "host ipc": lambda body: body["HostConfig"].update(IpcMode="host"),
    "host users": lambda body: body["HostConfig"].update(UsernsMode="host"),
    "host names": lambda body: body["HostConfig"].update(UTSMode="host"),
    "host control groups": lambda body: body["HostConfig"].update(CgroupnsMode="host"),
    "parent control group": lambda body: body["HostConfig"].update(CgroupParent="/"),
    "no seccomp": lambda body: body["HostConfig"].update(SecurityOpt=["no-new-privileges:true", "seccomp=unconfined"]),
    "new privileges": lambda body: body["HostConfig"].update(SecurityOpt=[]),
    "nothing masked": lambda body: body["HostConfig"].update(MaskedPaths=[]),
    "nothing read-only": lambda body: body["HostConfig"].update(ReadonlyPaths=[]),
    "writable root": lambda body: body["HostConfig"].update(ReadonlyRootfs=False),
    "kernel settings": lambda body: body["HostConfig"].update(Sysctls={"kernel.shm_rmid_forced": "0"}),
    "runtime": lambda body: body["HostConfig"].update(Runtime="runc"),
    "restart": lambda body: body["HostConfig"].update(RestartPolicy={"Name": "always"}),
    "it stays": lambda body: body["HostConfig"].update(AutoRemove=False),
    "it does not end with stdin": lambda body: body.update(StdinOnce=False),
    "a log on disk": lambda body: body["HostConfig"].update(LogConfig={"Type": "json-file"}),
    "a log elsewhere": lambda body: body["HostConfig"].update(LogConfig={"Type": "none", "Config": {"x": "y"}}),
    "no memory limit": lambda body: body["HostConfig"].update(Memory=0, MemorySwap=0),
    "much memory": lambda body: body["HostConfig"].update(Memory=1 << 40, MemorySwap=1 << 40),
    "swap": lambda body: body["HostConfig"].update(Memory=1 << 20),
    "endless swap": lambda body: body["HostConfig"].update(MemorySwap=-1),
    "many processors": lambda body: body["HostConfig"].update(NanoCpus=64_000_000_000),
    "all processors": lambda body: body["HostConfig"].update(NanoCpus=0),
    "processes without end": lambda body: body["HostConfig"].update(PidsLimit=-1),
    "limits as texts": lambda body: body["HostConfig"].update(PidsLimit="512"),
    "limits as truth": lambda body: body["HostConfig"].update(PidsLimit=True),
    "never killed": lambda body: body["HostConfig"].update(OomScoreAdj=-1000),
    "oom killer off": lambda body: body["HostConfig"].update(OomKillDisable=True),
    "files in memory, too many": lambda body: body["HostConfig"]["Tmpfs"].update(
        {"/tmp": "nosuid,nodev,size=9999999999"}
    ),
    "files in memory, without end": lambda body: body["HostConfig"]["Tmpfs"].update({"/tmp": "nosuid,nodev"}),
    "devices in memory": lambda body: body["HostConfig"]["Tmpfs"].update({"/tmp": "nosuid,dev,size=1000"}),
    "setuid in memory": lambda body: body["HostConfig"]["Tmpfs"].update({"/tmp": "suid,nodev,size=1000"}),
    "files in memory, of a size too long to read": lambda body: body["HostConfig"]["Tmpfs"].update(
        {"/tmp": "nosuid,nodev,size=" + "9" * 5000}
    ),
    "another limit": lambda body: body["HostConfig"]["Ulimits"].append({"Name": "rtprio", "Soft": 9, "Hard": 9}),
    "core dumps": lambda body: body["HostConfig"]["Ulimits"][1].update(Soft=1, Hard=1),
    "no limits of a process": lambda body: body["HostConfig"].update(Ulimits=[]),
    "a limit twice": lambda body: body["HostConfig"]["Ulimits"].append(body["HostConfig"]["Ulimits"][0]),
    "files of any size": lambda body: body["HostConfig"]["Ulimits"][2].update(Hard=1 << 62),
    "limits of another kind": lambda body: body["HostConfig"].update(Ulimits=[{"Name": [], "Soft": 1, "Hard": 1}] * 3),
    "a folder on the disk": lambda body: body.update(WorkingDir="/made/for/me"),
    "user in other digits": lambda body: body.update(User="\u0660:\u0660"),
    "another image": lambda body: body.update(Image="debian:latest"),
    "user by name": lambda body: body.update(User="root"),
    "terminal": lambda body: body.update(Tty=True),
    "somebody else's label": lambda body: body["Labels"].update({"com.docker.compose.project": "x"}),
    "the broker's label": lambda body: body["Labels"].update({BROKER: "other"}),
    "no owner": lambda body: body["Labels"].pop("skilld.owner"),
    "key in another case": lambda body: body.update(hostconfig={"Privileged": True}),
    "key in another case below": lambda body: body["HostConfig"].update(privileged=True),
    "no host configuration": lambda body: body.pop("HostConfig"),
    "host configuration of another kind": lambda body: body.update(HostConfig=[]),
    "environment of another kind": lambda body: body.update(Env={"A": "b"}),
    "a health check": lambda body: body.update(Healthcheck={"Test": ["CMD", "true"]}),
    "the health check of the image": lambda body: body.pop("Healthcheck"),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_container_that_is_not_the_template_is_refused(name: str) -> None:
    body = copy.deepcopy(template())
    FORBIDDEN[name](body)
    with pytest.raises(Forbidden, match=r"^refused: "):
        checked(body)


def test_a_key_that_occurs_twice_is_passed_on_once_and_as_it_was_looked_at() -> None:
    body = json.dumps(template())
    twice = body.replace('"NetworkMode": "none"', '"NetworkMode": "host", "NetworkMode": "none"')
    assert twice != body
    passed = checked_container(twice.encode(), LIMITS, "mine")
    assert passed.count(b"NetworkMode") == 1
    assert json.loads(passed)["HostConfig"]["NetworkMode"] == "none"
    other = body.replace('"NetworkMode": "none"', '"NetworkMode": "none", "NetworkMode": "host"')
    with pytest.raises(Forbidden, match=r"HostConfig\.NetworkMode"):
        checked_container(other.encode(), LIMITS, "mine")


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b"1e999"])
def test_what_is_no_container_is_refused(raw: bytes) -> None:
    with pytest.raises(Forbidden):
        checked_container(raw, LIMITS, "mine")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
        max_leaves=10,
    ),
    st.sampled_from([*sorted(template()), *(f"HostConfig.{key}" for key in sorted(template()["HostConfig"]))]),
)
def test_a_value_of_any_kind_is_refused_or_is_bounded(value: Any, key: str) -> None:
    body = template()
    place = body["HostConfig"] if key.startswith("HostConfig.") else body
    place[key.removeprefix("HostConfig.")] = value
    try:
        passed = checked(body)
    except Forbidden:
        return
    host = passed["HostConfig"]
    assert passed["Image"] == IMAGE
    assert (host["NetworkMode"], host["Mounts"], host["CapDrop"]) == ("none", [], ["ALL"])
    assert 0 < host["Memory"] == host["MemorySwap"] <= LIMITS.memory_bytes
    assert 0 < host["PidsLimit"] <= LIMITS.processes


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", f"/containers/{ID}/exec"),
        ("POST", f"/v1.41/containers/{ID}/exec"),
        ("POST", "/exec/abc/start"),
        ("POST", "/build"),
        ("POST", "/images/create?fromImage=debian"),
        ("POST", "/images/load"),
        ("DELETE", f"/images/{IMAGE}"),
        ("GET", "/images/json"),
        ("GET", "/images/debian/json"),
        ("GET", f"/images/{IMAGE}%2f..%2f..%2finfo/json"),
        ("POST", "/containers/prune"),
        ("POST", f"/containers/{ID}/update"),
        ("POST", f"/containers/{ID}/kill"),
        ("PUT", f"/containers/{ID}/archive?path=/"),
        ("GET", f"/containers/{ID}/archive?path=/"),
        ("GET", f"/containers/{ID}/export"),
        ("GET", f"/containers/{ID}/logs"),
        ("POST", "/containers/name/start"),
        ("DELETE", f"/containers/{ID[:12]}"),
        ("DELETE", f"/containers/{ID}/"),
        ("DELETE", f"/containers/{ID}%2f..%2f{ID}"),
        ("GET", f"/containers/{ID}/../{ID}/json"),
        ("POST", "/containers/create?name=x"),
        ("POST", "/containers/create?platform=x"),
        ("POST", "/volumes/create"),
        ("GET", "/volumes"),
        ("POST", "/networks/create"),
        ("GET", "/networks"),
        ("POST", "/swarm/init"),
        ("POST", "/plugins/pull"),
        ("GET", "/events"),
        ("GET", "/secrets"),
        ("POST", "/session"),
        ("POST", "/grpc"),
        ("POST", "/v1.41/v1.41/containers/create"),
        ("POST", "/v2.0/containers/create"),
        ("POST", "/v1.40/containers/create"),
        ("POST", "/v1.24/containers/create"),
        ("GET", "//["),
        ("GET", "//[x]/info"),
        ("post", "/containers/create"),
        ("GET", "http://other/containers/json?"),
        ("OPTIONS", "*"),
        ("CONNECT", "host:80"),
        ("GET", ""),
    ],
)
def test_a_request_that_the_backend_does_not_make_is_refused(method: str, target: str) -> None:
    if target.startswith("http://"):
        assert understood(method, target, LIMITS, "mine").target.startswith("/containers/json?"), (
            "no other host is asked"
        )
        return
    with pytest.raises(Forbidden):
        understood(method, target, LIMITS, "mine")


def test_queries_are_written_anew() -> None:
    attach = understood("POST", f"/v1.41/containers/{ID}/attach?logs=1&stream=0&detachKeys=x", LIMITS, "mine")
    assert attach.target == f"/v1.41/containers/{ID}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    remove = understood("DELETE", f"/containers/{ID}?link=1", LIMITS, "mine")
    assert (remove.target, remove.container) == (f"/containers/{ID}?force=1&v=1", ID)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?all=1",
        '?filters={"label":["skilld.owner=aa"]}',
        '?filters={"label":{"skilld.owner=aa":true}}',
        "?filters={}",
    ],
)
def test_a_list_shows_this_brokers_own(query: str) -> None:
    target = understood("GET", f"/v1.41/containers/json{query}", LIMITS, "mine").target
    (filters,) = parse_qs(urlsplit(target).query)["filters"]
    assert f"{BROKER}=mine" in json.loads(filters)["label"]


@pytest.mark.parametrize("filters", ["[]", "{", '{"name":["x"]}', '{"label":3}', '{"label":[3]}', "null"])
def test_a_list_that_is_filtered_otherwise_is_refused(filters: str) -> None:
    with pytest.raises(Forbidden):
        understood("GET", f"/containers/json?filters={filters}", LIMITS, "mine")


def test_the_words_of_a_refusal_are_one_line_whatever_was_sent() -> None:
    """They go into the log."""
    for refused in (
        lambda: checked({**template(), "Image\nroot logged in\x1b[2J": 1}),
        lambda: understood("POST", "/containers/create?a%0aroot=1", LIMITS, "mine"),
    ):
        with pytest.raises(Forbidden) as caught:
            refused()
        assert str(caught.value).isprintable()
