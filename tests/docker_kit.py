"""The container engine for tests, and the slim image; tests/README.md says how to get both."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from docker.errors import ImageNotFound

from conftest import require
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_image import SLIM_IMAGE, connect, engine_address

__all__ = ["engine", "engine_with_slim_image", "has_image"]


@contextlib.contextmanager
def engine() -> Iterator[Any]:
    """The SDK's client of the engine that DOCKER_HOST names, else the machine's own; the test is skipped without."""
    try:
        client = connect(engine_address(os.environ), os.environ)
    except BackendUnavailable as error:
        require(False, f"{error}; 'scripts/engine up' starts one for tests")
        raise
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def engine_with_slim_image() -> Iterator[Any]:
    """The same, if it has the slim image."""
    with engine() as client:
        require(has_image(client, SLIM_IMAGE), f"the engine has no {SLIM_IMAGE}: skillctl docker build --slim")
        yield client


def has_image(client: Any, name: str) -> bool:
    """Whether the engine has it.

    The SDK's list of images asks after each one by one, and fails where another test removes one meanwhile.
    """
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True
