"""Containers that could not be removed when they should have been: said, tried again, and removed in the end."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import trio
from docker.errors import APIError

from docker_bench import containers_of, owner_of
from docker_kit import engine_with_slim_image
from skill_actors.backends import docker, docker_engine
from skill_actors.backends.docker import open_docker
from skill_actors.backends.docker_engine import BOOT, OWNER, Engine
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.backends.docker_options import checked
from support import run

OPTIONS = checked({"image": SLIM_IMAGE, "pool": 0})
REMOVE = docker_engine._remove


def sleeping(client: Any, **labels: str) -> str:
    """A container that does not end by itself."""
    made = client.containers.run(
        SLIM_IMAGE,
        ["sleep", "600"],
        detach=True,
        network_mode="none",
        labels={name.replace("_", "."): value for name, value in labels.items()},
    )
    return str(made.id)


def there(client: Any, owner: str) -> set[str]:
    return {facts["Id"] for facts in containers_of(client, owner)}


def test_one_of_this_life_that_nobody_knows_goes_with_the_second_sweep_and_a_known_one_stays(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        engine = Engine(OPTIONS, {OWNER: owner, BOOT: "now"})
        with engine_with_slim_image() as client:
            unknown = sleeping(client, skilld_owner=owner, skilld_boot="now")
            earlier = sleeping(client, skilld_owner=owner, skilld_boot="before")
            known, stream = await engine.launch(OPTIONS)
            assert await engine.sweep() == 1
            assert there(client, owner) == {unknown, known}
            assert earlier not in there(client, owner)
            assert await engine.sweep() == 1
            assert there(client, owner) == {known}
            assert await engine.sweep() == 0
            await stream.aclose()
            await engine.remove(known)
            assert there(client, owner) == set()
        await engine.aclose()

    run(main)


def test_a_removal_that_fails_is_logged_and_tried_again_and_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = owner_of(tmp_path)
    stuck: set[str] = set()

    def remove(client: Any, *, container: str) -> None:
        if container in stuck:
            raise APIError("driver failed to remove root filesystem: device or resource busy")
        REMOVE(client, container=container)

    async def main() -> None:
        engine = Engine(OPTIONS, {OWNER: owner, BOOT: "now"})
        with engine_with_slim_image() as client:
            ours = sleeping(client, skilld_owner=owner, skilld_boot="now")
            others = [sleeping(client, skilld_owner=owner, skilld_boot="before") for _ in range(2)]
            stuck.update((ours, others[0]))
            await engine.remove(ours)
            assert f"container {ours[:12]} cannot be removed now, and is tried again later: " in caplog.text
            assert "device or resource busy" in caplog.text
            assert await engine.sweep() == 1
            assert there(client, owner) == {ours, others[0]}
            assert f"container {others[0][:12]} is left over and cannot be removed" in caplog.text
            stuck.clear()
            assert await engine.sweep() == 2
            assert there(client, owner) == set()
        await engine.aclose()

    monkeypatch.setattr(docker_engine, "_remove", remove)
    with caplog.at_level(logging.WARNING):
        run(main)


def test_the_executor_sweeps_while_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        with engine_with_slim_image() as client:
            async with open_docker(OPTIONS, owner=owner):
                sleeping(client, skilld_owner=owner, skilld_boot="before")
                with trio.fail_after(30):
                    while there(client, owner):  # noqa: ASYNC110  # until it was swept
                        await trio.sleep(0.05)

    monkeypatch.setattr(docker, "_SWEEP_EVERY_S", 0.1)
    with caplog.at_level(logging.WARNING):
        run(main)
    assert "removed 1 containers that were left over" in caplog.text


def test_no_client_of_the_sdk_is_used_by_two_threads_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        engine = Engine(OPTIONS, {OWNER: owner_of(tmp_path), BOOT: "now"})
        using: list[int] = []
        most = 0

        def act(client: Any) -> None:
            nonlocal most
            assert id(client) not in using
            using.append(id(client))
            most = max(most, len(using))
            client.ping()
            using.remove(id(client))

        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(engine._do, act)
        assert 1 < most <= 4
        fds = len(os.listdir("/proc/self/fd"))
        await engine.aclose()
        assert len(os.listdir("/proc/self/fd")) <= fds

    with engine_with_slim_image():
        run(main)
