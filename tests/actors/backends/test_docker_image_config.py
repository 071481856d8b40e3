"""What an image brings along besides its files: nothing of it gets around a container's limits."""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docker_bench import boxed, containers_of, owner_of
from docker_kit import engine_with_slim_image
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_engine import BOOT, OWNER, Engine
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.backends.docker_options import checked
from support import run


@contextlib.contextmanager
def image_with(line: str) -> Iterator[tuple[Any, str]]:
    """The engine's client, and the slim image with one instruction more."""
    name = f"localhost/skilld-test-{secrets.token_hex(6)}:1"
    with engine_with_slim_image() as client:
        client.images.build(fileobj=io.BytesIO(f"FROM {SLIM_IMAGE}\n{line}\n".encode()), tag=name, rm=True)
        try:
            yield client, name
        finally:
            client.images.remove(name, force=True)


def test_an_image_with_a_volume_is_refused_since_that_is_the_engines_disk(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main(image: str) -> None:
        options = checked({"image": image})
        engine = Engine(options, {OWNER: owner, BOOT: "now"})
        says = rf"image {image} declares volumes \(/data\)"
        with pytest.raises(BackendUnavailable, match=says):
            await engine.check()
        with pytest.raises(BackendUnavailable, match=says):  # as after a pull
            await engine.launch(options)
        await engine.aclose()

    with image_with("VOLUME /data") as (client, image):
        run(main, image)
        assert containers_of(client, owner) == []


def test_the_health_check_of_an_image_does_not_run_inside_as_the_runners_user(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main(client: Any, image: str) -> None:
        async with boxed(tmp_path / "w", owner=owner, image=image) as box:
            assert (await box.bash("echo up")).content == "up"
            (facts,) = containers_of(client, owner)
            assert facts["Config"]["Image"] == image
            assert "Health" not in facts["State"]

    with image_with("HEALTHCHECK --interval=1s CMD id") as (client, image):
        run(main, client, image)
