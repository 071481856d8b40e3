"""The container engine as the docker backend needs it: the SDK, called in worker threads only.

A client of the SDK is not made for several threads at once: each call takes one that is free, or makes one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from .base import BackendUnavailable
from .container_boot import sources
from .docker_image import connect, engine_address
from .docker_image.engine import declared_volumes, knock, tls_context
from .docker_mounts import given_away, resolved_mounts
from .docker_options import DockerOptions, create_arguments
from .docker_stream import AttachedStream, attach
from .podman import for_podman

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["BOOT", "OWNER", "Engine"]

_ATTEMPTS: Final = 10
_BETWEEN_S: Final = 0.1

OWNER: Final = "skilld.owner"  # label: which daemon, by its state directory
BOOT: Final = "skilld.boot"  # label: which life of it

_log = logging.getLogger(__name__)

_THREADS: Final = 4
_PULLS: Final = 4
_ANSWER_S: Final = 30.0
_PULL_S: Final = 600.0

T = TypeVar("T")


class Engine:
    """One engine. Every method may raise BackendUnavailable, with the remedy.

    Args:
        options: of containers that no session has chosen options for.
        labels: on all containers, OWNER and BOOT among them.
        private: folders and files of this host that no mount may show.

    """

    def __init__(self, options: DockerOptions, labels: Mapping[str, str], private: Sequence[Path] = ()) -> None:
        self._options = options
        self._address = options.address or engine_address(os.environ)
        self._labels = labels
        self._private = [str(path) for path in private]
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._pulling = trio.CapacityLimiter(_PULLS)
        self._free: list[DockerClient] = []
        self._closed = False
        self._folder: str | None = None  # where the engine keeps its own things, once it was asked
        self._known: set[str] = set()  # containers that somebody here looks after
        self._unknown: frozenset[str] = frozenset()  # to the latest sweep
        self._is_podman: bool | None = None  # once it was asked
        self._volumes: dict[str, list[str]] = {}  # by container, where the engine is Podman

    async def check(self, options: DockerOptions | None = None) -> None:
        """That it answers, and has, or may pull, what containers are made of: image, runtime, network, mounts.

        Args:
            options: of the containers that are meant; None for those that no session has chosen options for.

        """
        await self._do(partial(self._look, options=options or self._options))

    async def sweep(self) -> int:
        """Remove what nobody here knows of among the containers of this owner; how many.

        Those of earlier lives go at once; those of this life once they were unknown to two sweeps, since one that is
        just being made is not known yet. One that cannot be removed does not keep the others, and is logged.
        """
        return await self._do(self._sweep)

    async def launch(self, options: DockerOptions, proxy: Path | None = None) -> tuple[str, AttachedStream]:
        """A container that runs, with its streams: the runner's hello is what comes first.

        Args:
            options: how it is made.
            proxy: the folder with the socket of its proxy.

        """
        container = await self._made(options, proxy)
        try:
            tls = await trio.to_thread.run_sync(tls_context, self._address, os.environ)
            stream = await attach(self._address, container, tls)
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
                raise BackendUnavailable(f"a container of {options.image} ended at once") from error
            raise
        return container, stream

    async def remove(self, container: str) -> None:
        """Kill and remove it, if it is there. What cannot be removed now is left to `sweep`, and logged."""
        self._known.discard(container)
        why = "no answer"
        with trio.move_on_after(_ANSWER_S):
            try:
                await self._do(partial(self._remove, container=container))
                return
            except BackendUnavailable as error:  # its stdin has ended as well: it may end by itself
                why = str(error)
        _log.warning("container %.12s cannot be removed now, and is tried again later: %s", container, why)

    async def aclose(self) -> None:
        self._closed = True
        while self._free:
            await trio.to_thread.run_sync(self._free.pop().close)

    async def _made(self, options: DockerOptions, proxy: Path | None) -> str:
        create = partial(self._create, options=options, proxy=proxy)
        if options.pull == "always":
            await self._pull(options.image)
        made = await self._do(create)
        if made is None and options.pull != "never":
            await self._pull(options.image)
            made = await self._do(create)
        if made is None:
            raise BackendUnavailable(_no_image(options.image))
        return made

    async def _pull(self, image: str) -> None:
        """In a thread that nobody else waits for, nor whoever is cancelled: it takes as long as the registry likes."""
        act = partial(self._fetch, image=image)
        await trio.to_thread.run_sync(self._call, act, limiter=self._pulling, abandon_on_cancel=True)

    async def _do(self, act: Callable[[DockerClient], T]) -> T:
        return await trio.to_thread.run_sync(self._call, act, limiter=self._limiter)

    # In worker threads

    def _call(self, act: Callable[[DockerClient], T]) -> T:
        from docker.errors import DockerException

        knock(self._address)
        try:
            client = self._free.pop()
        except IndexError:
            client = connect(self._address, os.environ, _ANSWER_S)
        keep = False
        try:
            result = act(client)
            keep = True
            return result
        except BackendUnavailable:
            keep = True
            raise
        except Exception as error:  # the SDK lets urllib3's through, and KeyErrors where an answer is not as it thinks
            keep = isinstance(error, DockerException)  # else the engine may be another one when it answers again
            raise BackendUnavailable(
                f"the container engine at {self._address} failed: {_words(error)}; see skillctl docker check"
            ) from error
        finally:
            if keep and not self._closed:
                self._free.append(client)
            else:
                client.close()

    def _look(self, client: DockerClient, options: DockerOptions) -> None:
        from docker.errors import ImageNotFound, NotFound

        facts = client.info()
        runtimes = sorted(facts.get("Runtimes") or {})
        if options.runtime and options.runtime not in runtimes:
            raise BackendUnavailable(
                f"the engine has no runtime {options.runtime!r}; it has {', '.join(runtimes)}: set it up there"
            )
        if options.network not in ("none", "allow", "full"):
            try:
                client.networks.get(options.network)
            except NotFound:
                raise BackendUnavailable(
                    f"the engine has no network {options.network!r}: make it with docker network create"
                ) from None
        if options.network == "allow" and not self._is_here:
            raise BackendUnavailable(
                f"network = allow needs an engine on this host, at unix:///path, and not at {self._address}"
            )
        self._folder = facts.get("DockerRootDir")
        self._mounts(options)
        try:
            image = client.images.get(options.image)
        except ImageNotFound:
            if options.pull == "never":
                raise BackendUnavailable(_no_image(options.image)) from None
        else:
            _check_volumes(options.image, declared_volumes(image))

    @property
    def _is_here(self) -> bool:
        return self._address.startswith("unix://")

    def _mounts(self, options: DockerOptions) -> list[tuple[str, str]]:
        """What to mount, path on the host and path inside, with links resolved.

        Where the engine is on another host, so are the folders, and it looks.
        """
        engines = [self._folder] if self._folder else []
        if self._is_here:
            private = [*self._private, *engines, self._address.removeprefix("unix://")]
            return resolved_mounts(options.mounts, private)
        for outside in options.mounts:
            if (reason := given_away(outside, engines)) is not None:
                raise BackendUnavailable(f"the mount {outside} would give the engine's host away: {reason}")
        return list(options.mounts.items())

    def _sweep(self, client: DockerClient) -> int:
        found = client.api.containers(all=True, filters={"label": f"{OWNER}={self._labels[OWNER]}"})
        unknown = {each["Id"]: each["Labels"].get(BOOT) for each in found if each["Id"] not in self._known}
        removed = 0
        for container, boot in unknown.items():
            if boot == self._labels[BOOT] and container not in self._unknown:
                continue
            try:
                self._remove(client, container=container)
                removed += 1
            except Exception as error:  # whatever it is, the others are tried too
                _log.warning("container %.12s is left over and cannot be removed: %s", container, _words(error))
        self._unknown = frozenset(unknown)
        if self._speaks_to_podman(client):
            self._sweep_volumes(client)
        return removed

    def _sweep_volumes(self, client: DockerClient) -> None:
        """Those of earlier lives, and of containers that ended by themselves: what is in use the engine keeps."""
        found = client.api.volumes({"label": f"{OWNER}={self._labels[OWNER]}"}).get("Volumes") or ()
        _drop(client, [each["Name"] for each in found if (each.get("Labels") or {}).get(BOOT) != self._labels[BOOT]])
        for container in [each for each in self._volumes if each not in self._known]:
            _drop(client, self._volumes.pop(container))

    def _create(self, client: DockerClient, options: DockerOptions, proxy: Path | None) -> str | None:
        """Its id; None if there is no image."""
        from docker.errors import ImageNotFound

        arguments = create_arguments(
            options, self._labels, self._mounts(options), None if proxy is None else str(proxy)
        )
        volumes: Mapping[str, Mapping[str, str]] = {}
        if self._speaks_to_podman(client):
            arguments, volumes = for_podman(arguments, f"skilld-{secrets.token_hex(8)}")
        for volume, driver_options in volumes.items():
            client.api.create_volume(volume, "local", driver_options, dict(self._labels))
        try:
            identity: str = client.api.create_container_from_config(arguments)["Id"]
        except ImageNotFound:
            _drop(client, volumes)
            return None
        except BaseException:
            _drop(client, volumes)
            raise
        self._volumes[identity] = list(volumes)
        mounts = client.api.inspect_container(identity)["Mounts"]  # if this fails, the next sweeps remove it
        others = [mount for mount in mounts if mount["Type"] == "volume" and mount.get("Name") not in volumes]
        try:
            _check_volumes(options.image, [mount["Destination"] for mount in others])
        except BackendUnavailable:
            self._remove(client, container=identity)
            raise
        self._known.add(identity)
        return identity

    def _speaks_to_podman(self, client: DockerClient) -> bool:
        if self._is_podman is None:
            parts = client.version().get("Components") or ()
            self._is_podman = any("Podman" in str(part.get("Name")) for part in parts)
        return self._is_podman

    def _remove(self, client: DockerClient, *, container: str) -> None:
        _remove(client, container=container)
        if volumes := self._volumes.get(container):
            _drop(client, volumes)
        self._volumes.pop(container, None)

    def _fetch(self, _client: DockerClient, *, image: str) -> None:
        with contextlib.closing(connect(self._address, os.environ, _PULL_S)) as patient:
            patient.images.pull(image)


def _no_image(image: str) -> str:
    return f"the engine has no image {image}: run skillctl docker build, or set the option image or pull"


def _check_volumes(image: str, places: Iterable[str]) -> None:
    """Raise BackendUnavailable for an image with a VOLUME: that is a folder on the engine's disk, without a limit."""
    if listed := ", ".join(places):
        raise BackendUnavailable(
            f"the image {image} declares volumes ({listed}), which calls could fill the disk of the engine with: make "
            "one without VOLUME"
        )


def _remove(client: DockerClient, *, container: str) -> None:
    def remove() -> None:
        client.api.remove_container(container, force=True, v=True)

    # Gone, or going; Podman fails where one that is to be killed has just ended by itself.
    _patiently(remove, passing=(500,), fine=(404, 409))


def _drop(client: DockerClient, volumes: Iterable[str]) -> None:
    """Remove volumes. One that cannot be removed is empty once its container is gone, and goes with a later sweep."""
    from docker.errors import APIError

    for volume in volumes:
        try:
            _patiently(partial(client.api.remove_volume, volume), passing=(409, 500), fine=(404,))
        except APIError as error:
            _log.info("the volume %s stays for now: %s", volume, _words(error))


def _patiently(act: Callable[[], object], *, passing: Collection[int], fine: Collection[int]) -> None:
    """Do it, again after a moment where the engine's answer is one that passes. Raises APIError."""
    from docker.errors import APIError

    for attempt in range(_ATTEMPTS):
        try:
            act()
            return
        except APIError as error:
            if error.status_code in fine:
                return
            if error.status_code not in passing or attempt == _ATTEMPTS - 1:
                raise
        time.sleep(_BETWEEN_S)  # in a thread


def _words(error: Exception) -> str:
    explanation: Any = getattr(error, "explanation", None)
    return str(explanation or str(error) or repr(error))[:500]
