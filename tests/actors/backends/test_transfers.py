"""Files on their way between a container and the disk, when somebody ends: the daemon, the container, the call.

Every file says itself how long it has to be and what is in it, so that a torn one is found out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from docker_bench import boxed, containers_of, owner_of
from docker_kit import engine, engine_with_slim_image
from skill_actors.backends.docker_container import Container
from support import run

FILES = 32
LARGE_BYTES = 3 << 20
PATIENCE_S = 60.0

# In the container: version N of each file, small ones and some that travel in parts; version 1 is there before.
WRITE = f"""
import hashlib, sys
def content(name, version):
    size = {LARGE_BYTES} if int(name) % 4 == 0 else 3_000
    block = hashlib.sha256(f"{{name}} {{version}}".encode()).digest()
    return block * (size // 32 + 1)
for number in range({FILES}):
    with open(f"file-{{number}}", "wb") as file:
        file.write(content(str(number), sys.argv[1]))
"""

DAEMON = f"""
import pathlib, sys, trio
sys.path[:0] = {[str(Path(__file__).parents[2])]!r}
from docker_bench import boxed
async def main():
    async with boxed(pathlib.Path(sys.argv[1]), owner=sys.argv[2]) as box:
        for command in sys.argv[3:]:
            print((await box.bash(command)).content, flush=True)
        print("ended", flush=True)
trio.run(main)
"""


def command(version: int) -> str:
    return f"python3 -c '{WRITE}' {version}"


def content(name: str, version: int) -> bytes:
    size = LARGE_BYTES if int(name.rpartition("-")[2]) % 4 == 0 else 3_000
    block = hashlib.sha256(f"{name.rpartition('-')[2]} {version}".encode()).digest()
    return block * (size // 32 + 1)


def versions(folder: Path) -> list[int]:
    """Of each file its version; a torn one is an error."""
    found = []
    for path in sorted(folder.glob("file-*")):
        data = path.read_bytes()
        matching = [version for version in (1, 2) if data == content(path.name, version)]
        assert matching, f"{path.name} is torn: {len(data)} bytes"
        found += matching
    return found


async def first_one(folder: Path) -> None:
    """Return when the first file of version 2 has come out; the others are on their way."""
    path, wanted = trio.Path(folder / "file-0"), content("file-0", 2)
    while await path.read_bytes() != wanted:  # noqa: ASYNC110  # a thread of the backend writes it
        await trio.sleep(0.001)


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob(".skilld-part-*"))


@contextlib.contextmanager
def killed_when(folder: Path, owner: str, ready: Callable[[], bool], *commands: str) -> Iterator[None]:
    """A daemon that runs these commands and is killed as soon as `ready` says so."""
    with engine_with_slim_image():
        pass
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(folder), owner, *commands], stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            assert time.monotonic() < deadline
            assert daemon.poll() is None, "it ended before it could be killed"
            time.sleep(0.0005)
        os.kill(daemon.pid, signal.SIGKILL)
        yield
    finally:
        daemon.kill()
        daemon.communicate()


@pytest.mark.parametrize(
    "after", [1, pytest.param(9, marks=pytest.mark.deep), pytest.param(20, marks=pytest.mark.deep)]
)
def test_a_daemon_killed_while_files_come_out_leaves_each_whole(tmp_path: Path, after: int) -> None:
    folder, owner = tmp_path / "w", owner_of(tmp_path)

    def some_are_new() -> bool:
        with contextlib.suppress(OSError):
            return (folder / "kept").exists() and len(list(folder.glob("file-*"))) >= after
        return False

    with killed_when(folder, owner, some_are_new, "echo kept > kept", command(1), "sleep 60"):
        pass
    came = versions(folder)
    assert after <= len(came)
    assert (folder / "kept").read_text() == "kept\n"

    async def main() -> None:
        async with boxed(folder, owner=owner) as box:
            await box.executor.check()
            seen = await box.bash("ls -d file-* | wc -l; cat kept")
            assert seen.content.split() == [str(len(came)), "kept"]
            assert (await box.bash(command(2))).outcome == "ok"

    run(main)
    assert versions(folder) == [2] * FILES
    assert parts(folder) == []


def test_a_daemon_killed_while_files_go_in_loses_none(tmp_path: Path) -> None:
    folder, owner = tmp_path / "w", owner_of(tmp_path)
    folder.mkdir()
    for number in range(FILES):
        (folder / f"file-{number}").write_bytes(content(f"{number}", 1))

    def goes_in() -> bool:
        with engine() as client:
            return any(facts["State"]["Running"] for facts in containers_of(client, owner))

    with killed_when(folder, owner, goes_in, "ls | wc -l", "sleep 60"):
        pass
    assert versions(folder) == [1] * FILES

    async def main() -> None:
        async with boxed(folder, owner=owner) as box:
            await box.executor.check()
            assert (await box.bash("cat file-* | wc -c")).content == str(
                sum(path.stat().st_size for path in folder.glob("file-*"))
            )

    run(main)
    assert versions(folder) == [1] * FILES


def test_a_container_killed_while_files_come_out_leaves_each_whole_and_the_call_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, owner = tmp_path / "w", owner_of(tmp_path)
    operate = Container.operate

    async def main() -> None:
        killed = trio.Event()

        async def held_up(self: Container, name: str, arguments: Mapping[str, Any]) -> Any:
            """The others wait for the end of the container, however late whoever kills it gets to it."""
            first = trio.Path(folder / "file-0")
            if name == "pack" and await first.exists() and await first.read_bytes() == content("file-0", 2):
                await killed.wait()
            return await operate(self, name, arguments)

        monkeypatch.setattr(Container, "operate", held_up)
        async with boxed(folder, owner=owner) as box:
            assert (await box.bash(command(1))).outcome == "ok"
            assert versions(folder) == [1] * FILES
            results = []

            async def write() -> None:
                results.append(await box.bash(command(2)))

            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(write)
                    await first_one(folder)
                    await trio.to_thread.run_sync(kill_containers, owner)
                    killed.set()
            (result,) = results
            assert result.outcome == "error"
            assert "files of this call may not be kept" in result.content
            assert {1, 2} == set(versions(folder))
            again = await box.bash(f"ls -d file-* | wc -l; {command(2)}")
            assert "may be missing" in again.content
            assert versions(folder) == [2] * FILES
            assert parts(folder) == []

    run(main)


def kill_containers(owner: str) -> None:
    with engine() as client:
        for facts in containers_of(client, owner):
            client.api.kill(facts["Id"])


def test_a_call_cancelled_while_files_come_out_leaves_each_whole_and_the_next_brings_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "w"

    async def main() -> None:
        async with boxed(folder) as box:
            assert (await box.bash(command(1))).outcome == "ok"
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(box.bash, command(2))
                    await first_one(folder)
                    nursery.cancel_scope.cancel()
            assert len(versions(folder)) == FILES
            assert (await box.bash("true")).outcome == "ok"
            assert versions(folder) == [2] * FILES
            assert parts(folder) == []

    run(main)


ODD = r"""
import os
os.chdir("/workspace")
for name in (b"new\nline", b"\xff\xfe", b"tab\t", "\u00e9\u2028".encode(), b"x" * 255):
    os.mkdir(name)
    open(os.path.join(name, name), "wb").write(name)
open("one", "w").write("linked")
os.link("one", "two")
os.symlink("one", "link")
os.mkfifo("fifo")
open("sparse", "w").truncate(20 << 20)
open("closed", "w").write("mine")
os.chmod("closed", 0)
os.mkdir("deep")
os.chdir("deep")
for number in range(300):
    open("here", "w").write(str(number))
    os.mkdir("d")
    os.chdir("d")
"""


def test_odd_trees_come_out_as_far_as_they_can_and_go_in_again(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    names = (b"new\nline", b"\xff\xfe", b"tab\t", "\u00e9\u2028".encode(), b"x" * 255)

    async def main() -> None:
        async with boxed(folder) as box:
            made = await box.bash(f"python3 - <<'END'\n{ODD}\nEND\n")
            assert "1 folders of the workspace cannot be read" in made.content
        check()
        async with boxed(folder) as box:
            again = await box.bash("cat one two link closed; echo; stat -c %s sparse; ls -A | grep -c .; ls fifo")
            assert {"linkedlinkedlinkedmine", str(20 << 20)} < set(again.content.splitlines())
            assert "'fifo': No such file" in again.content

    def check() -> None:
        for name in names:
            with open(os.path.join(os.fsencode(folder), name, name), "rb") as file:
                assert file.read() == name
        assert (folder / "one").read_text() == (folder / "two").read_text() == "linked"
        assert os.readlink(folder / "link") == "one"
        assert not (folder / "fifo").exists()
        assert (folder / "sparse").stat().st_size == 20 << 20
        assert (folder / "closed").read_text() == "mine"
        depth, place = 0, folder / "deep"
        while (place / "d").is_dir():
            depth, place = depth + 1, place / "d"
        assert 250 <= depth <= 257

    run(main)
