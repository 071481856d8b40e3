"""The power goes while appends are acknowledged: FS_IOC_SHUTDOWN throws away what a real disk would not have yet.

Needs root and a loop device. Everything that was not flushed is gone, so this tells a flush from a promise.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store_kit import acknowledged, check, start
from support import run

CUTS = int(os.environ.get("STORE_POWER_CUTS", "14"))
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, folder: Path) -> None:
        self._image = folder / "image"
        self.place = folder / "disk"
        self.place.mkdir()

    def make(self) -> str:
        """Make and mount it; why that cannot be done here, or nothing."""
        with self._image.open("wb") as file:
            file.truncate(128 << 20)
        try:
            made = subprocess.run(["mkfs.ext4", "-qF", str(self._image)], capture_output=True, check=False)
        except FileNotFoundError:
            return "there is no mkfs.ext4"
        if made.returncode != 0:
            return made.stderr.decode().strip()
        return self.mount()

    def mount(self) -> str:
        command = ["mount", "-o", "loop", str(self._image), str(self.place)]
        return subprocess.run(command, capture_output=True, check=False).stderr.decode().strip()

    def unmount(self) -> None:
        """Go on with a copy: the file system itself stays dead as long as any mount namespace was made of this one."""
        subprocess.run(["umount", str(self.place)], capture_output=True, check=False)
        copy = self._image.with_name("copy")
        subprocess.run(["cp", "--sparse=always", str(self._image), str(copy)], check=True)
        copy.replace(self._image)

    def cut_power(self) -> None:
        """From here on nothing reaches the image any more."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _FS_IOC_SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    disk = Disk(tmp_path)
    why_not = disk.make()
    if why_not:
        # A machine without loop devices cannot be given them by a test run, also not in CI.
        pytest.skip(f"no loop device with ext4 here: {why_not}")
    yield disk
    disk.unmount()


def wait_stopped(pid: int) -> None:
    """Wait until no thread is in a system call: a flush under way would return without having flushed."""
    while True:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        if set(states) == {"T"}:
            return
        time.sleep(0.001)


def test_nothing_acknowledged_is_lost_when_the_power_goes(disk: Disk) -> None:
    path = disk.place / "state" / "journal.db"
    acks: dict[str, int] = {}
    for cut in range(CUTS):
        with start(path) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(40 + 37 * cut % 60)]
            process.send_signal(signal.SIGSTOP)
            wait_stopped(process.pid)
            disk.cut_power()
            process.kill()
            lines += process.stdout.read().splitlines(keepends=True)
        assert lines.pop(0) == b"open\n"
        acks |= acknowledged([line.decode() for line in lines if line.endswith(b"\n")])
        disk.unmount()
        assert disk.mount() == ""
        assert run(check, path, acks) >= sum(acks.values())
    assert len(acks) >= CUTS
