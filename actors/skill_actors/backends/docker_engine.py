"""The container engine as the docker backend needs it: the SDK, called in worker threads only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from .base import BackendUnavailable
from .container_boot import sources
from .docker_image import connect, engine_address
from .docker_image.engine import knock
from .docker_options import DockerOptions, create_arguments
from .docker_stream import AttachedStream, attach

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["BOOT", "OWNER", "Engine"]

OWNER: Final = "skilld.owner"  # label: which daemon, by its state directory
BOOT: Final = "skilld.boot"  # label: which life of it

_THREADS: Final = 4
_ANSWER_S: Final = 30.0
_PULL_S: Final = 600.0

T = TypeVar("T")


class Engine:
    """One engine. Every method may raise BackendUnavailable, with the remedy."""

    def __init__(self, options: DockerOptions, labels: Mapping[str, str]) -> None:
        self._options = options
        self._address = options.address or engine_address(os.environ)
        self._arguments = create_arguments(options, labels)
        self._labels = labels
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._client: DockerClient | None = None

    async def check(self) -> None:
        """That it answers, has the image or may pull it, and the runtime and the network that are asked for."""
        await self._do(self._look)

    async def sweep(self) -> int:
        """Remove the containers that earlier lives of this owner left; how many."""
        return await self._do(self._sweep)

    async def launch(self) -> tuple[str, AttachedStream]:
        """A container that runs, with its streams: the runner's hello is what comes first."""
        container: str = await self._do(self._create)
        try:
            stream = await attach(self._address, container)
            try:
                await self._do(lambda client: client.api.start(container))
                await stream.send_all(await trio.to_thread.run_sync(sources))
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self.remove(container)
            if isinstance(error, trio.BrokenResourceError):
                raise BackendUnavailable(f"a container of {self._options.image} ended at once") from error
            raise
        return container, stream

    async def remove(self, container: str) -> None:
        """Kill and remove it, if it is there. What cannot be removed now is swept by the next life of the daemon."""
        with trio.move_on_after(_ANSWER_S):
            try:
                await self._do(partial(_remove, container=container))
            except BackendUnavailable:
                return  # its stdin has ended as well: it ends by itself

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await trio.to_thread.run_sync(client.close)

    async def _do(self, act: Callable[[DockerClient], T]) -> T:
        return await trio.to_thread.run_sync(self._call, act, limiter=self._limiter)

    # In worker threads

    def _call(self, act: Callable[[DockerClient], T]) -> T:
        from docker.errors import DockerException

        client = self._client
        if client is None:
            client = self._client = connect(self._address, os.environ, _ANSWER_S)
        knock(self._address)
        try:
            return act(client)
        except BackendUnavailable:
            raise
        except Exception as error:  # the SDK lets urllib3's through, and KeyErrors where an answer is not as it thinks
            if not isinstance(error, DockerException):  # the engine may be another one when it answers again
                self._client = None
                client.close()
            raise BackendUnavailable(
                f"the container engine at {self._address} failed: {_words(error)}; see skillctl docker check"
            ) from error

    def _look(self, client: DockerClient) -> None:
        from docker.errors import ImageNotFound, NotFound

        image, pull = self._options.image, self._options.pull
        facts = client.info()
        runtimes = sorted(facts.get("Runtimes") or {})
        if self._options.runtime and self._options.runtime not in runtimes:
            raise BackendUnavailable(
                f"the engine has no runtime {self._options.runtime!r}; it has {', '.join(runtimes)}: set it up there"
            )
        if self._options.network not in ("none", "full"):
            try:
                client.networks.get(self._options.network)
            except NotFound:
                raise BackendUnavailable(
                    f"the engine has no network {self._options.network!r}: make it with docker network create"
                ) from None
        try:
            client.images.get(image)
        except ImageNotFound:
            if pull == "never":
                raise BackendUnavailable(
                    f"the engine has no image {image}: run skillctl docker build, or set the option image or pull"
                ) from None

    def _sweep(self, client: DockerClient) -> int:
        found = client.api.containers(all=True, filters={"label": f"{OWNER}={self._labels[OWNER]}"})
        left = [each["Id"] for each in found if each["Labels"].get(BOOT) != self._labels[BOOT]]
        for container in left:
            _remove(client, container=container)
        return len(left)

    def _create(self, client: DockerClient) -> str:
        from docker.errors import ImageNotFound

        if self._options.pull == "always":
            self._pull(client)
        try:
            made = client.api.create_container_from_config(self._arguments)
        except ImageNotFound:
            if self._options.pull == "never":
                self._look(client)
            self._pull(client)
            made = client.api.create_container_from_config(self._arguments)
        identity: str = made["Id"]
        return identity

    def _pull(self, client: DockerClient) -> None:
        patient = connect(self._address, os.environ, _PULL_S)
        try:
            patient.images.pull(self._options.image)
        finally:
            patient.close()


def _remove(client: DockerClient, *, container: str) -> None:
    from docker.errors import APIError

    try:
        client.api.remove_container(container, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):  # gone; or going
            raise


def _words(error: Exception) -> str:
    explanation: Any = getattr(error, "explanation", None)
    return str(explanation or str(error) or repr(error))[:500]
