"""Options of single sessions on a real engine: what was asked for is what is inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from conftest import require
from docker_bench import Box, boxed, containers_of, owner_of
from docker_kit import engine_with_slim_image
from skill_actors.backends import BackendUnavailable, WorkspaceSpec
from skill_actors.backends.docker import open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.backends.docker_options import checked
from support import run

LOOK = """
cd /sys/fs/cgroup
cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes
cat pids.max 2>/dev/null || cat pids/pids.max
cat cpu.max 2>/dev/null || { cat cpu/cpu.cfs_quota_us; cat cpu/cpu.cfs_period_us; }
df -B1 --output=size /workspace /tmp | tail -n 2
id -u
"""


async def chosen(box: Box, name: str, **options: Any) -> Box:
    """A workspace of a session with these options."""
    folder = box.folder.with_name(name)
    spec = WorkspaceSpec(session=name, root=folder, options=options)
    return Box(box.executor, await box.executor.open(spec), folder)


def test_amounts_and_the_user_are_inside_as_the_session_has_chosen(tmp_path: Path) -> None:
    async def main() -> None:
        limits = {"memory_bytes": 2 << 30, "users": [300_000]}
        async with boxed(tmp_path / "w", session=limits) as box:
            other = await chosen(
                box, "small", memory="128m", workspace="8m", tmp="4m", cpus=0.5, processes=100, user=300_000
            )
            with pytest.raises(BackendUnavailable, match="has to be more than workspace_bytes"):
                await chosen(box, "senseless", memory="300m")
            seen = (await other.bash(LOOK)).content.split()
            assert seen[0] == str(128 << 20)
            assert seen[1] == "100"
            assert int(seen[2]) / int(seen[3]) == 0.5
            assert seen[4:6] == [str(8 << 20), str(4 << 20)]
            assert 300_000 <= int(seen[6]) < 340_000
            big = await chosen(box, "big", memory="2g")
            assert (await big.bash(LOOK)).content.split()[0] == str(2 << 30)
            assert (await box.bash(LOOK)).content.split()[0] == str(1 << 30)

    run(main)


def test_a_named_mount_is_there_read_only_for_the_session_that_names_it_and_for_no_other(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    (data / "file").write_text("of the host\n")
    (data / "file").chmod(0o666)
    (tmp_path / "link").symlink_to(data)

    async def main() -> None:
        async with boxed(tmp_path / "w", session={"mounts": {"data": f"{tmp_path}/link:/data"}}) as box:
            other = await chosen(box, "with", mounts=["data"])
            seen = await other.bash("cat /data/file; touch /data/new; echo more >> /data/file")
            assert seen.content.startswith("of the host\n")
            assert seen.content.count("Read-only file system") == 2
            assert (await box.bash("ls /data")).exit_code == 2
            (tmp_path / "link").unlink()
            (tmp_path / "link").symlink_to("/proc")
            with pytest.raises(BackendUnavailable, match="would give the host away"):
                await chosen(box, "later", mounts=["data"])

    run(main)


def test_the_folders_of_the_engine_and_of_the_daemon_are_shown_to_no_container(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()

    async def main() -> None:
        with engine_with_slim_image() as client:
            engine = Path(client.info()["DockerRootDir"])
        (tmp_path / "link").symlink_to(engine)
        for outside in (tmp_path / "link", state, tmp_path):
            options = checked({"image": SLIM_IMAGE, "pool": 0, "mounts": {str(outside): "/data"}})
            async with open_docker(options, private=[state]) as executor:
                with pytest.raises(BackendUnavailable, match="would give the host away"):
                    await executor.check()

    run(main)


def test_an_image_that_is_permitted_and_not_there_is_an_error_when_the_workspace_opens(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "w", session={"images": ["localhost/no-such:1"]}) as box:
            with pytest.raises(BackendUnavailable, match="the engine has no image localhost/no-such:1"):
                await chosen(box, "other", image="localhost/no-such:1")
            same = await chosen(box, "same", image=SLIM_IMAGE)
            assert (await same.bash("echo up")).content == "up"

    run(main)


def test_a_waiting_container_goes_only_to_a_session_whose_options_are_the_same(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with boxed(tmp_path / "w", owner=owner, pool=1) as box:
            pool = box.executor.pool
            with trio.fail_after(20):
                while not pool.ready:  # noqa: ASYNC110  # the engine makes it
                    await trio.sleep(0.02)
            with engine_with_slim_image() as client:
                (waiting,) = [facts["Id"] for facts in containers_of(client, owner)]
            other = await chosen(box, "other", cpus=0.5)
            name = (await other.bash("cat /etc/hostname")).content
            assert not waiting.startswith(name)
            assert pool.ready == 1
            same = await chosen(box, "same", cpus=1.0)
            assert waiting.startswith((await same.bash("cat /etc/hostname")).content)

    run(main)


def test_user_ids_that_the_container_does_not_have_are_an_error_in_words() -> None:
    """Measured in a user namespace of one id: what an engine without root gives its containers is larger."""
    program = "from skill_actors.backends import container_runner; container_runner._Users()"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    require(subprocess.run([*command[:3], "true"], check=False).returncode == 0, "there are no user namespaces")
    environ = {**os.environ, "SKILLD_FIRST_USER": "300000"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (
        1,
        "uids from 300000 on are not mapped in this container, only those below 1\n",
    )
