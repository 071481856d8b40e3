"""Files on their way between two folders, interrupted at any step or byte: nothing is torn, nothing is lost."""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.backends import bundles
from skill_actors.backends.bundles import Piece
from skill_actors.backends.mirror import Mirror
from support import run

NAMES = ("a", "b", "d/x", "d/y", "e/f/g", "big")
Tree = dict[str, tuple[str | bytes, ...]]


class Lost(Exception):
    """The container is gone."""


class Inside:
    """What a runner does with operations, in a folder of the host, until it is interrupted."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._left = 0
        self._how = ""
        self._scope = trio.CancelScope()
        self._cut: float | None = None

    def interrupt(self, step: int, how: str, scope: trio.CancelScope, cut: float | None) -> None:
        """At which operation from now on, and how; and how much comes out of each archive until then."""
        self._left, self._how, self._scope, self._cut = step, how, scope, cut

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        self._left -= 1
        due = not self._left
        if due and self._how == "cancelled":
            self._scope.cancel()
        await trio.lowlevel.checkpoint()
        if due and self._how == "lost before":
            raise Lost
        answer = self._perform(name, arguments)
        if due and self._how == "lost after":
            raise Lost
        return answer

    def _perform(self, name: str, arguments: Mapping[str, Any]) -> Any:
        if name == "listing":
            return bundles.listing(self._folder)
        if name == "pack":
            data = bundles.pack(self._folder, [Piece(*piece) for piece in arguments["pieces"]])
            kept = len(data) if self._cut is None else int(len(data) * self._cut)
            return base64.b64encode(data[:kept]).decode()
        bundles.remove(self._folder, arguments["remove"])
        data = base64.b64decode(arguments["tar"])
        return bundles.unpack(self._folder, data, file_bits=0o660, folder_bits=0o2770)


def tree(root: Path) -> Tree:
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = ("dir",) if path.is_dir() else ("file", path.read_bytes())
    return found


def change(root: Path, rng: random.Random, version: str) -> None:
    """Write, remove, move and link some things."""
    for _ in range(rng.randrange(1, 6)):
        path = root / rng.choice(NAMES)
        what = rng.choice(("write", "write", "write", "remove", "move", "link", "make"))
        is_there = path.exists() or path.is_symlink()
        if what == "write":
            for one in (*reversed(path.parents), path):
                if one.is_relative_to(root) and one != root and (one.is_symlink() or one.is_file()):
                    one.unlink()
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.rmtree(path)
            size = 2_500_000 if path.name == "big" else rng.choice((0, 10, 3_000))
            path.write_bytes((f"{path.name} {version} ".encode() * (size // 4 + 1))[:size])
        elif what == "remove" and is_there:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        elif what == "move" and is_there and not (root / "z").exists() and not (root / "z").is_symlink():
            path.rename(root / "z")
        elif what == "link" and not is_there and path.parent.is_dir():
            path.symlink_to(rng.choice(("a", "d", "/etc/passwd")))
        elif what == "make" and not is_there and all(one.is_dir() or not one.exists() for one in path.parents):
            path.mkdir(parents=True)


async def bring(mirror: Mirror, inside: Inside, rng: random.Random) -> None:
    await mirror.push(inside.operate)
    await mirror.pull(inside.operate, f"digest {rng.random()}")


async def survive(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    disk, box = folder / "disk", folder / "box"
    disk.mkdir(parents=True)
    box.mkdir()
    mirror, inside = Mirror(disk, 1 << 30, trio.CapacityLimiter(1)), Inside(box)
    for round_ in range(3):
        changed = rng.choice((disk, box))
        change(changed, rng, f"{seed}.{round_}")
        wanted, on_disk, in_box = tree(changed), tree(disk), tree(box)
        with trio.CancelScope() as scope:
            how = rng.choice(("lost before", "lost after", "cancelled"))
            inside.interrupt(rng.randrange(1, 8), how, scope, rng.choice((None, rng.random())))
            with contextlib.suppress(Lost):
                await bring(mirror, inside, rng)
        inside.interrupt(0, "", scope, None)
        left = tree(disk)
        for name, found in left.items():
            assert found in (on_disk.get(name), in_box.get(name)), f"{name} is torn"
        for name in on_disk:
            assert on_disk[name] != in_box.get(name) or left.get(name) == on_disk[name], f"{name} is lost"
        for _ in range(2):
            await bring(mirror, inside, rng)
        assert tree(disk) == tree(box) == wanted


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.deep) for first in range(8, 400, 8))])
def test_an_interrupted_transfer_tears_and_loses_nothing_and_the_next_brings_the_rest(
    tmp_path: Path, first: int
) -> None:
    async def main() -> None:
        for seed in range(first, first + 8):
            await survive(tmp_path / str(seed), seed)

    run(main)
