"""Conversations in containers of Podman, over the socket that speaks Docker's language: the same limits hold there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from conftest import require
from docker_kit import engine_with_slim_image
from skill_actors.backends.base import ToolCall, ToolContext, WorkspaceSpec
from skill_actors.backends.docker import open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE, connect
from skill_actors.backends.docker_options import checked
from skill_actors.backends.podman import for_podman
from skill_actors.testing.backends import CHECKS, measure
from support import run


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Podman of our own, which has the slim image."""
    require(shutil.which("podman") is not None and os.geteuid() == 0, "there is no Podman, or no right to it")
    folder = tmp_path_factory.mktemp("podman")
    short = Path(tempfile.mkdtemp(prefix="pod"))  # Podman takes no path of more than 50 characters
    places = ["--root", f"{folder}/root", "--runroot", f"{short}/run"]
    command = ["podman", *places, "--cgroup-manager", "cgroupfs"]
    address = f"unix://{short}/podman.sock"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, short, ignore_errors=True)
        client = stack.enter_context(engine_with_slim_image())
        with (folder / "image.tar").open("wb") as tar:
            tar.writelines(client.images.get(SLIM_IMAGE).save(named=True))
        subprocess.run([*command, "load", "--input", f"{folder}/image.tar"], check=True, capture_output=True)
        log = stack.enter_context((folder / "log").open("wb"))
        service = [*command, "system", "service", "--time=0", address]
        process = stack.enter_context(subprocess.Popen(service, stdout=log, stderr=log))
        # What it keeps its layers in stays mounted, and could not be removed with the folder.
        stack.callback(subprocess.run, ["umount", "--lazy", f"{folder}/root/overlay"], stderr=subprocess.DEVNULL)
        stack.callback(process.kill)
        run(_listening, trio.Path(short / "podman.sock"))
        yield address


async def _listening(socket: trio.Path) -> None:
    for _ in range(1_000):
        if await socket.exists():
            return
        await trio.sleep(0.02)
    raise AssertionError(f"{socket} never came to be")


def volumes(address: str) -> list[str]:
    client = connect(address, os.environ, 10.0)
    try:
        return [each["Name"] for each in client.api.volumes().get("Volumes") or ()]
    finally:
        client.close()


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.deep)])
def test_it_keeps_the_contract_of_tools_and_leaves_no_volume(podman: str, tmp_path: Path, few: bool) -> None:
    chosen = [check for check in CHECKS if not few or check.capability in ("network", "sandbox")]

    async def main() -> None:
        async with open_docker(checked({"address": podman, "image": SLIM_IMAGE, "pool": 0})) as executor:
            await executor.check()
            with trio.fail_after(300):
                findings = await measure(executor, tmp_path, checks=chosen)
            assert [f"{each.title}: {each.detail}" for each in findings if each.outcome == "failed"] == []
            assert sum(each.outcome == "passed" for each in findings) > len(chosen) / 2

    trio.run(main, strict_exception_groups=True)
    assert volumes(podman) == []


def test_the_workspace_has_its_owner_and_its_limits(podman: str, tmp_path: Path) -> None:
    options = {"address": podman, "image": SLIM_IMAGE, "pool": 1, "workspace_bytes": 16 << 20, "workspace_files": 200}
    script = (
        "stat -c 'group %g mode %a' . && "
        "dd if=/dev/zero of=big bs=1M count=64 2>&1 | tail -1; rm -f big; "
        "for i in $(seq 500); do : > f$i || break; done 2>/dev/null; echo made $(ls | wc -l)"
    )

    async def main() -> None:
        async with open_docker(checked(options)) as executor:
            workspace = await executor.open(WorkspaceSpec(session="ses_x", root=tmp_path / "w"))
            call = ToolCall(id="t", name="bash_tool", input={"command": script, "description": "d"})
            told = (await workspace.execute(call, ToolContext(timeout_s=30))).content
            await workspace.aclose()
            assert "mode 2770" in told
            made = int(told.rsplit("made ", 1)[1].split()[0])
            assert 100 < made < 250

    run(main)
    assert volumes(podman) == []


def test_volumes_of_a_daemon_that_was_killed_are_removed(podman: str, tmp_path: Path) -> None:
    client = connect(podman, os.environ, 10.0)
    try:
        labels = {"skilld.owner": "somebody", "skilld.boot": "an-earlier-life"}
        client.api.create_volume("skilld-left", "local", {}, labels)
        client.api.create_volume("not-ours", "local", {}, {"skilld.owner": "another"})

        async def main() -> None:
            made = checked({"address": podman, "image": SLIM_IMAGE, "pool": 0})
            async with open_docker(made, owner="somebody") as executor:
                await executor.check()
                workspace = await executor.open(WorkspaceSpec(session="ses_x", root=tmp_path / "w"))
                await workspace.aclose()

        run(main)
        assert volumes(podman) == ["not-ours"]
    finally:
        client.api.remove_volume("not-ours")
        client.close()


def test_a_container_is_asked_for_with_volumes_only_where_a_tmpfs_has_an_owner() -> None:
    tmpfs: Mapping[str, str] = {
        "/tmp": "rw,nosuid,size=1048576",
        "/workspace": "rw,exec,nosuid,size=1048576,nr_inodes=100,mode=2770,uid=0,gid=7",
    }
    given: dict[str, Any] = {"Image": "i", "HostConfig": {"Tmpfs": tmpfs, "Mounts": [], "Ulimits": []}}
    body, made = for_podman(given, "skilld-x")
    assert body["HostConfig"]["Tmpfs"] == {"/tmp": tmpfs["/tmp"]}
    assert [(mount["Source"], mount["Target"]) for mount in body["HostConfig"]["Mounts"]] == [
        ("skilld-x-workspace", "/workspace")
    ]
    options = made["skilld-x-workspace"]["o"].split(",")
    assert "nr_blocks=256" in options
    assert {"nr_inodes=100", "mode=2770", "uid=0", "gid=7"} <= set(options)
    assert not any(option.startswith("size=") for option in options)
    assert given["HostConfig"]["Tmpfs"] == tmpfs  # what was given is as it was
