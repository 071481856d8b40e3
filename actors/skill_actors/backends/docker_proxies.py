"""The proxies of containers whose network is an allow-list, each in a folder that one container sees."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import trio

from .base import BackendUnavailable
from .docker_options import DockerOptions
from .egress import Egress, listening_in
from .egress_rules import rule_of

__all__ = ["Proxies", "Proxy"]

_log = logging.getLogger(__name__)
_CONNECTIONS: Final = 256  # of all containers together: each takes two descriptors of this process


class Proxy:
    """One proxy: its folder is there, and its socket takes connections, from the beginning."""

    def __init__(self, egress: Egress, folder: Path, listening: socket.socket) -> None:
        self.folder = folder
        self._egress = egress
        self._life = trio.CancelScope()
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))

    async def serve(self) -> None:
        """Until it is closed. If it fails, the container has no network, and goes on."""
        try:
            with self._life:
                await self._egress.serve(self._listener)
        except Exception:
            _log.exception("the proxy of a container has ended")

    async def aclose(self) -> None:
        """End all its connections and remove its folder. May be called twice."""
        self._life.cancel()
        with trio.CancelScope(shield=True):
            await self._listener.aclose()
            await trio.to_thread.run_sync(partial(shutil.rmtree, self.folder, ignore_errors=True))


class Proxies:
    """Makes them.

    Args:
        folder: where theirs are to be, emptied by the first one: nobody else may have one there. None: a temporary one,
            which an engine with another /tmp does not see.

    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._made: Path | None = None
        self._shared = trio.Semaphore(_CONNECTIONS)
        self._making = trio.Lock()

    @property
    def folder(self) -> Path | None:
        """Where they are; None while none was made."""
        return self._made

    async def make(self, options: DockerOptions) -> Proxy:
        """For one container of these options. Raises BackendUnavailable."""
        rules = [rule_of(entry) for entry in options.allow]
        try:
            async with self._making:
                if self._made is None:
                    self._made = await trio.to_thread.run_sync(_prepared, self._folder)
            folder, listening = await trio.to_thread.run_sync(_listen, self._made)
        except OSError as error:
            raise BackendUnavailable(f"a container's proxy cannot be made: {error}") from error
        return Proxy(Egress(rules, self._shared, max_bytes=options.network_bytes), folder, listening)

    async def aclose(self) -> None:
        """Remove the folder of all."""
        made, self._made = self._made, None
        if made is not None:
            await trio.to_thread.run_sync(partial(shutil.rmtree, made, ignore_errors=True))


def _prepared(folder: Path | None) -> Path:
    """An empty folder that nobody else may look into."""
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="skilld-proxies-"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _listen(folder: Path) -> tuple[Path, socket.socket]:
    own = Path(os.path.realpath(tempfile.mkdtemp(dir=folder)))
    try:
        return own, listening_in(own)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
