"""What a container that ends, hangs or lies does to its conversation, and to no other: without an engine."""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing

from skill_actors.backends import BackendUnavailable, ToolCall, ToolContext, ToolResult, bundles
from skill_actors.backends import frames as wire
from skill_actors.backends.docker import DockerWorkspace
from skill_actors.backends.docker_container import Container, ContainerLost, Pool
from skill_actors.backends.docker_engine import Engine
from skill_actors.backends.docker_options import DockerOptions
from skill_actors.backends.docker_stream import AttachedStream
from skill_actors.backends.link import Done, Emit, Request, Spill
from skill_actors.backends.mirror import Mirror
from skill_actors.backends.paths import PathRefused
from support import run

LOST = "files of this call may not be kept"
NEW = "[this conversation has got a new container"
DEEP = b"[" * 200_000


class Engineless:
    """Stands where the engine is: hands out streams whose other ends a test holds."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.removed: list[str] = []
        self.failures: list[Exception] = []
        self.hello: bytes = json.dumps({"protocol": wire.PROTOCOL}).encode()

    async def launch(self, _options: DockerOptions, _proxy: Path | None) -> tuple[str, AttachedStream]:
        if self.failures:
            raise self.failures.pop(0)
        ours, theirs = trio.testing.memory_stream_pair()
        peer = Peer(theirs)
        self.peers.append(peer)
        await peer.say(wire.HELLO, 0, self.hello)
        return f"container-{len(self.peers)}", AttachedStream(ours, b"")

    async def remove(self, container: str) -> None:
        self.removed.append(container)

    def as_engine(self) -> Engine:
        return cast(Engine, self)


class Peer:
    """The runner's end."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def say(self, kind: int, number: int, payload: bytes) -> None:
        frame = wire.frame(kind, number, payload)
        await self._stream.send_all(struct.pack(">BxxxL", 1, len(frame)) + frame)

    async def answer(self, text: str) -> None:
        """To the first call: an operation that ended well and said this."""
        await self._stream.receive_some()
        await self.say(wire.STDOUT, 1, text.encode())
        stdout = {"head": text[:1], "tail": text[1:][-1:], "chars": len(text)}
        await self.say(wire.DONE, 1, json.dumps({"outcome": "exited", "code": 0, "stdout": stdout}).encode())


def test_hostile_frames_end_their_container_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        engine = Engineless()
        async with trio.open_nursery() as nursery:
            bad = await Container.start(engine.as_engine(), nursery, DockerOptions())
            good = await Container.start(engine.as_engine(), nursery, DockerOptions())
            await engine.peers[0].say(wire.DONE, 1, DEEP)
            await bad.gone.wait()
            assert engine.removed == ["container-1"]
            with pytest.raises(ContainerLost):
                await bad.operate("listing", {})
            nursery.start_soon(engine.peers[1].answer, '{"value": "seven"}')
            assert await good.operate("pack", {}) == "seven"
            await good.end()

    with caplog.at_level(logging.ERROR):
        run(main)
    assert "the runner of container container-1 is stopped" in caplog.text


def test_a_hello_that_is_hostile_is_an_error_of_who_wanted_the_container() -> None:
    async def main() -> None:
        engine = Engineless()
        engine.hello = DEEP
        async with trio.open_nursery() as nursery:
            with pytest.raises(BackendUnavailable, match="where a JSON object is due"):
                await Container.start(engine.as_engine(), nursery, DockerOptions())
            assert engine.removed == ["container-1"]

    run(main)


@pytest.mark.parametrize("text", ["[" * 200_000, "7", "no JSON", "{}", '"refused"'])
def test_an_answer_that_makes_no_sense_ends_the_container(text: str) -> None:
    async def main() -> None:
        engine = Engineless()
        async with trio.open_nursery() as nursery:
            container = await Container.start(engine.as_engine(), nursery, DockerOptions())
            nursery.start_soon(engine.peers[0].answer, text)
            with pytest.raises(ContainerLost):
                await container.operate("listing", {})
            await container.gone.wait()

    run(main)


def test_a_pool_goes_on_after_whatever_an_engine_raises() -> None:
    async def main() -> None:
        engine = Engineless()
        engine.failures = [KeyError("status"), BackendUnavailable("no"), RuntimeError("stream")]
        async with trio.open_nursery() as nursery:
            pool = Pool(engine.as_engine(), nursery, DockerOptions(pool=1))
            filling = await nursery.start(pool.keep_full)
            with trio.fail_after(60):
                while not pool.ready:  # noqa: ASYNC110  # virtual time
                    await trio.sleep(1)
            filling.cancel()
            await pool.aclose()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_the_sdk_lets_through_is_an_error_of_the_engine(tmp_path: Path) -> None:
    from skill_actors.backends import docker_engine

    async def main() -> None:
        engine = Engine(DockerOptions(address=f"unix://{tmp_path}/none"), {})

        def act(_client: object) -> None:
            raise KeyError("status")

        with pytest.raises(BackendUnavailable, match="failed: 'status'"):
            await engine._do(act)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(docker_engine, "connect", lambda *_: io.BytesIO())  # only closed
        patch.setattr(docker_engine, "knock", lambda _: None)
        run(main)


def test_a_container_that_gives_no_answer_is_ended() -> None:
    async def main() -> None:
        engine = Engineless()
        async with trio.open_nursery() as nursery:
            container = await Container.start(engine.as_engine(), nursery, DockerOptions())
            with trio.fail_after(100), pytest.raises(ContainerLost):
                await container.operate("listing", {})
            await container.gone.wait()
            assert engine.removed == ["container-1"]

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Inside:
    """Stands where a container is: the operations on files that `mirror` asks for, on a folder; what fails is said."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.link = self
        self.gone = trio.Event()
        self.failing: dict[str, Exception] = {}
        self.answers: dict[str, Any] = {}
        self.command: Callable[[], Done] = lambda: Done(outcome="exited", code=0)

    @property
    def closed(self) -> bool:
        return self.gone.is_set()

    async def call(self, _request: Request, _emit: Emit | None) -> Done:
        return self.command()

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if name in self.failing:
            raise self.failing[name]
        if name in self.answers:
            return self.answers[name]
        root = str(self.folder)
        if name == "listing":
            return bundles.listing(root)
        if name == "pack":
            wanted = [bundles.Piece(*piece) for piece in arguments["pieces"]]
            return base64.b64encode(bundles.pack(root, wanted)).decode()
        if name == "unpack":
            return bundles.unpack(root, base64.b64decode(arguments["tar"]))
        assert name == "create_file"
        (self.folder / "made").write_text("x")
        return ["written", "made"]


class Desk:
    """A workspace whose containers are `Inside`s, made as it asks for them."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "disk"
        self.folder.mkdir()
        self.made: list[Inside] = []
        self.prepare: Callable[[Inside], None] = lambda _: None
        self._tmp_path = tmp_path
        threads = trio.CapacityLimiter(2)
        mirror = Mirror(self.folder, 1 << 20, threads)
        self.workspace = DockerWorkspace(DockerOptions(), self._new, mirror, threads, lambda _: None)

    async def _new(self) -> Container:
        inside = Inside(self._tmp_path / f"inside-{len(self.made)}")
        self.made.append(inside)
        self.prepare(inside)
        return cast(Container, inside)

    async def tool(self, name: str, input: Mapping[str, str], readable: Sequence[Path] = ()) -> ToolResult:
        call = ToolCall(id="c", name=name, input={"description": "a test", **input})
        return await self.workspace.execute(call, ToolContext(readable=readable))

    async def bash(self, readable: Sequence[Path] = ()) -> ToolResult:
        return await self.tool("bash_tool", {"command": "x"}, readable)


@pytest.mark.parametrize("failure", [ContainerLost(), PathRefused("the operation ended with timeout, code None")])
def test_a_call_whose_files_are_not_brought_out_is_an_error_and_the_next_container_claims_nothing(
    tmp_path: Path, failure: Exception
) -> None:
    async def main() -> None:
        for name, input in (("bash_tool", {"command": "x"}), ("create_file", {"path": "made", "file_text": "x"})):
            place = tmp_path / name
            place.mkdir()
            desk = Desk(place)
            assert (await desk.bash()).outcome == "ok"
            desk.made[0].failing = {"listing": failure}
            result = await desk.tool(name, input)
            assert (result.outcome, LOST in result.content, result.files) == ("error", True, ()), result
            desk.made[0].gone.set()
            result = await desk.bash()
            assert result.content.startswith(NEW)
            assert "what the last calls changed may be missing" in result.content
            desk.made[1].gone.set()
            result = await desk.bash()
            assert "as the last call left them" in result.content
            assert NEW not in (await desk.bash()).content

    run(main)


def test_the_file_of_the_output_is_brought_out_though_the_digest_says_that_nothing_has_changed(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path)
        await desk.bash()
        inside = desk.made[0]
        before = bundles.digest(bundles.listing(str(inside.folder)))

        def command() -> Done:
            target = inside.folder / ".skilld" / "output" / "c.txt"
            target.parent.mkdir(parents=True)
            target.write_text("all of it")
            return Done(outcome="exited", code=0, tree=before, spill=Spill(bytes=9, cut=False, error=None))

        inside.command = command
        result = await desk.bash()
        assert result.output_file == ".skilld/output/c.txt"
        assert (desk.folder / result.output_file).read_text() == "all of it"

    run(main)


def test_what_could_not_be_taken_over_is_said_though_the_output_has_a_file(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path)
        await desk.bash()
        inside = desk.made[0]
        (inside.folder / "unread").write_text("x")
        empty = base64.b64encode(bundles.pack(str(inside.folder), [])).decode()
        inside.answers["pack"] = empty
        inside.command = lambda: Done(outcome="exited", code=0, spill=Spill(bytes=0, cut=False, error=None))
        assert "1 changes in the workspace cannot be kept" in (await desk.bash()).content

    run(main)


def test_news_of_a_new_container_waits_until_a_result_can_tell_it(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path)
        await desk.bash()
        (desk.folder / "file").write_text("x")
        desk.made[0].gone.set()
        desk.prepare = lambda inside: inside.failing.update(unpack=RuntimeError("broken"))
        with pytest.raises(RuntimeError):
            await desk.bash()
        desk.made[1].failing.clear()
        assert (await desk.bash()).content.startswith(NEW)
        assert NEW not in (await desk.bash()).content

        desk.made[1].gone.set()
        desk.prepare = lambda inside: inside.failing.update(skill=PathRefused("no room"))
        skill = tmp_path / "skill"
        skill.mkdir()
        (skill / "SKILL.md").write_text("x")
        refused = await desk.bash([skill])
        assert (refused.outcome, refused.content.startswith(NEW)) == ("error", True)
        assert refused.content.endswith("no room")

    run(main)
