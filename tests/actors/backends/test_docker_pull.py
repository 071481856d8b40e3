"""The pull policy, with a registry of its own: what is asked for, and when."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio

from docker_kit import engine_with_slim_image
from skill_actors.backends import BackendUnavailable
from skill_actors.backends.docker_container import Container
from skill_actors.backends.docker_engine import BOOT, OWNER, Engine
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.backends.docker_options import checked
from support import run

_TYPES = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """Speaks just so much of the registry's protocol that one image of one file can be pulled from it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.goes_on = threading.Event()  # who asks for "slow" waits for it
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("file")
            entry.size = 16
            tar.addfile(entry, io.BytesIO(secrets.token_bytes(16)))
        layer = buffer.getvalue()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
            }
        ).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _TYPES,
                "config": self._blob("application/vnd.docker.container.image.v1+json", config),
                "layers": [self._blob("application/vnd.docker.image.rootfs.diff.tar", layer)],
            }
        ).encode()
        self.blobs = {digest_of(data): data for data in (layer, config)}

    @staticmethod
    def _blob(kind: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": kind, "size": len(data), "digest": digest_of(data)}

    def answer(self, path: str) -> tuple[int, str, bytes]:
        name = path.rpartition("/")[2]
        if path == "/v2/":
            return 200, "application/json", b"{}"
        if name == "slow":
            self.asked.append(path)
            self.goes_on.wait(60)
        if "/manifests/" in path and name in ("1", digest_of(self.manifest)):
            self.asked.append(path)
            return 200, _TYPES, self.manifest
        if name in self.blobs:
            return 200, "application/octet-stream", self.blobs[name]
        return 404, "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'


@contextlib.contextmanager
def serving(registry: Registry) -> Iterator[str]:
    """The registry's address on the loopback, where engines ask without TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, kind, body = registry.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", digest_of(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def engine_for(**options: Any) -> Engine:
    return Engine(checked({"pool": 0} | options), {OWNER: "pulltest", BOOT: "now"})


def test_a_missing_image_is_pulled_once_with_missing_asked_for_each_time_with_always_and_not_with_never() -> None:
    registry = Registry()

    async def attempt(image: str, pull: str) -> str:
        """What comes of a container of it: the image holds no program, so all it can be is made and removed."""
        engine = engine_for(image=image, pull=pull)
        said = "it runs"
        async with trio.open_nursery() as nursery:
            try:
                await engine.check()
                await Container.start(engine, nursery, checked({"image": image, "pull": pull}))
            except BackendUnavailable as error:
                said = str(error)
        await engine.aclose()
        return said

    async def main(client: Any, image: str) -> None:
        assert f"the engine has no image {image}" in await attempt(image, "never")
        assert registry.asked == []
        assert "python3" in await attempt(image, "missing")
        assert client.images.get(image)
        pulled = len(registry.asked)
        assert pulled >= 1
        await attempt(image, "missing")
        assert len(registry.asked) == pulled
        await attempt(image, "always")
        assert len(registry.asked) > pulled
        asked = len(registry.asked)
        await attempt(image, "never")
        assert len(registry.asked) == asked

    with engine_with_slim_image() as client, serving(registry) as address:
        image = f"{address}/tiny:1"
        try:
            run(main, client, image)
        finally:
            with contextlib.suppress(Exception):
                client.images.remove(image, force=True)


def test_registries_that_give_no_answer_hold_up_nobody_else_and_nobody_who_is_cancelled() -> None:
    registry = Registry()

    async def main(address: str) -> None:
        engine = engine_for(image=SLIM_IMAGE)
        slow = checked({"image": f"{address}/tiny:slow", "pull": "missing"})
        try:
            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for _ in range(6):  # more than there are threads for the engine
                        nursery.start_soon(engine.launch, slow)
                    while not registry.asked:  # noqa: ASYNC110  # until the engine asks
                        await trio.sleep(0.01)
                    await engine.check()
                    container, stream = await engine.launch(checked({"image": SLIM_IMAGE}))
                    await stream.aclose()
                    await engine.remove(container)
                    nursery.cancel_scope.cancel()
        finally:
            registry.goes_on.set()
            await engine.aclose()

    with engine_with_slim_image(), serving(registry) as address:
        try:
            run(main, address)
        finally:
            registry.goes_on.set()


def test_what_no_registry_has_is_an_error_with_the_engines_words() -> None:
    async def main(image: str) -> None:
        engine = engine_for(image=image, pull="missing")
        with pytest.raises(BackendUnavailable, match=r"failed: .*(manifest unknown|not found)"):
            await engine.launch(checked({"image": image, "pull": "missing"}))
        await engine.aclose()

    with engine_with_slim_image(), serving(Registry()) as address:
        run(main, f"{address}/tiny:2")


def test_a_runtime_and_a_network_that_the_engine_does_not_know_are_refused() -> None:
    async def main() -> None:
        for options, says in (
            ({"runtime": "no-such"}, "the engine has no runtime 'no-such'; it has .*runc"),
            ({"network": "no-such"}, "the engine has no network 'no-such'"),
        ):
            engine = engine_for(**options)
            with pytest.raises(BackendUnavailable, match=says):
                await engine.check()
            await engine.aclose()

    with engine_with_slim_image():
        run(main)
