"""Skills at scale: loading, reloading, the worst read meanwhile, and the way from an edit to the snapshot.

    python benchmarks/skills.py [SKILLS] [EDITS] [--install]

Prints two tables. The floor, in the same run: a bare loop of os.stat and read over the same files, by which loads
are divided. Other loaders, each in a process of its own: a plain one with PyYAML, and skills-ref, the reference
implementation, which --install puts into .venv-skills-ref. The switch interval is the daemon's (0.5 ms). Reach: worst
read during a reload of 1,000 skills < 1 ms; edit to snapshot < 1 s, p99.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import trio

from skill_actors.runtime import ChildSpec, TrioActorRef, open_system
from skill_actors.skills import Library, PublishedSkills, Registry, Reload, SkillCopies, SkillSnapshot, Source, Watcher
from skill_actors.telemetry import Bus

_ROUNDS = 5
_PEER = Path(__file__).resolve().parents[1] / ".venv-skills-ref"
_SWITCH_INTERVAL_S = 0.0005
_READ_PAUSE_S = 0.0002

Row = tuple[str, float, float | None]  # what, milliseconds, ratio to the bare loop


def make_skills(folder: Path, count: int) -> None:
    """Skills of usual size: a SKILL.md of 4 KB, a script, a reference."""
    for number in range(count):
        skill = folder / f"skill-{number:05}"
        for part in ("scripts", "references"):
            (skill / part).mkdir(parents=True)
        write(skill, "as made")
        (skill / "scripts/run.py").write_text("print('hello')\n" * 60)
        (skill / "references/notes.md").write_text("A line of notes.\n" * 200)


def write(skill: Path, description: str) -> None:
    """A SKILL.md with this description."""
    body = "A line of instructions, as long as such lines are.\n" * 80
    header = f"name: {skill.name}\ndescription: {description}\nmetadata:\n  author: bench\n  version: 1.10"
    (skill / "SKILL.md").write_text(f"---\n{header}\n---\n\n{body}")


def folders(source: Path) -> list[Path]:
    """All skill folders."""
    return sorted(source.iterdir())


def edit_all(source: Path) -> None:
    """Write every SKILL.md."""
    for skill in folders(source):
        write(skill, "edited")


def read_bare(folder: Path) -> None:
    """The floor: every file looked at and read, nothing else."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            os.stat(path)
            with open(path, "rb") as file:
                file.read()


def median_ms(action: Callable[[], object], rounds: int = _ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def loads(source: Path, copies: Path) -> Iterable[Row]:
    """Loading in one thread, beside the floor."""
    bare_ms = median_ms(lambda: read_bare(source))
    yield "bare loop of stat and read", bare_ms, 1.0
    cold_ms = median_ms(lambda: Library([Source(path=source)]).load(SkillSnapshot()))
    yield "first load", cold_ms, cold_ms / bare_ms
    library = Library([Source(path=source)])
    snapshot = library.load(SkillSnapshot())
    again_ms = median_ms(lambda: library.load(snapshot))
    yield "reload, nothing changed", again_ms, again_ms / bare_ms
    first = next(iter(snapshot.skills.values())).root

    def edit_one() -> SkillSnapshot:
        write(first, str(time.time_ns()))
        return library.load(snapshot, [first / "SKILL.md"])

    one_ms = median_ms(edit_one)
    yield "reload of one edited skill", one_ms, one_ms / bare_ms
    copied = Library([Source(path=source)], copies=SkillCopies(copies))
    copied_ms = median_ms(lambda: copied.load(SkillSnapshot()), rounds=1)
    yield "first load with copies, none there", copied_ms, copied_ms / bare_ms
    checked = Library([Source(path=source)], copies=SkillCopies(copies))
    checked_ms = median_ms(lambda: checked.load(SkillSnapshot()), rounds=1)
    yield "first load with copies, all there", checked_ms, checked_ms / bare_ms


async def reads(published: PublishedSkills, registry: TrioActorRef[Registry], source: Path) -> Iterable[Row]:
    """The latency of reading the snapshot from a task while everything is read again."""
    read_ns: list[int] = []
    late_ns: list[int] = []

    async def reader() -> None:
        while True:
            due = time.perf_counter_ns() + int(_READ_PAUSE_S * 1e9)
            await trio.sleep(_READ_PAUSE_S)
            began = time.perf_counter_ns()
            published.snapshot.skills.get("skill-00001")
            ended = time.perf_counter_ns()
            read_ns.append(ended - began)
            late_ns.append(began - due)

    edit_all(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        began = time.perf_counter()
        await registry.call(Reload(), timeout=60)
        took_ms = (time.perf_counter() - began) * 1000
        nursery.cancel_scope.cancel()
    late_ns.sort()
    return [
        (f"reload of all, all edited, {len(read_ns)} reads meanwhile", took_ms, None),
        ("  a read: median", statistics.median(read_ns) / 1e6, None),
        ("  a read: worst", max(read_ns) / 1e6, None),
        ("  a 0.2 ms timer: late by, p99", late_ns[int(len(late_ns) * 0.99)] / 1e6, None),
    ]


async def edits(published: PublishedSkills, source: Path, count: int) -> Iterable[Row]:
    """From the end of a write to the moment the snapshot shows it."""
    times: list[float] = []
    skills = folders(source)
    for number in range(count):
        skill = skills[number * 37 % len(skills)]
        write(skill, f"edit {number}")
        began = time.perf_counter()
        while published.snapshot.skills[skill.name].description != f"edit {number}":  # noqa: ASYNC110  polling is what is measured
            await trio.sleep(0.001)
        times.append((time.perf_counter() - began) * 1000)
        await trio.sleep(0.05 * (number % 7))
    times.sort()
    return [
        (f"edit to snapshot, {count} edits: median", statistics.median(times), None),
        ("  p99", times[min(int(count * 0.99), count - 1)], None),
        ("  worst", times[-1], None),
    ]


async def actors(source: Path, edit_count: int) -> Iterable[Row]:
    """What the Registry and the Watcher add."""
    published, bus = PublishedSkills(), Bus()
    specs = [
        ChildSpec(
            id="registry",
            name="registry",
            factory=lambda: Registry(published, [Source(path=source)], bus),
            start_timeout_s=60,
        ),
        ChildSpec(id="watcher", factory=lambda: Watcher([source], "registry", published), isolated=True),
    ]
    async with open_system(specs[:1]) as system:
        rows = list(await reads(published, system.directory.ref("registry"), source))
    async with open_system(specs):
        await trio.sleep(2 + len(published.snapshot.skills) / 1_000)  # the watcher's own first look
        rows += await edits(published, source, edit_count)
    return rows


def other_loaders(source: Path, install: bool) -> None:
    """Ours beside others; prints a table of its own."""
    peers = {"ours": sys.executable, "pyyaml": sys.executable, "skills-ref": str(_PEER / "bin/python")}
    print(f"{'loader':14} {'load ms':>10} {'one ms':>10} {'memory MB':>10}")
    for name, python in peers.items():
        why = prepare_peer(install) if name == "skills-ref" else None
        if why is not None:
            print(f"{name:14} skipped: {why}")
            continue
        program = Path(__file__).with_name("_skill_loaders.py")
        done = subprocess.run([python, str(program), name, str(source)], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        print(f"{name:14} {found['load_ms']:10.1f} {found['one_ms']:10.3f} {found['memory_mb']:10.1f}")


def prepare_peer(install: bool) -> str | None:
    """Why skills-ref cannot be measured; None if it can."""
    python = _PEER / "bin/python"
    if install and not python.exists():
        for command in (
            [sys.executable, "-m", "venv", str(_PEER)],
            [str(python), "-m", "pip", "install", "--quiet", "skills-ref==0.1.1"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return (done.stderr.strip() or "pip failed").splitlines()[-1]
    if not python.exists():
        return "not installed; --install installs it"
    done = subprocess.run([str(python), "-c", "import skills_ref"], capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


def main(count: int, edit_count: int, install: bool) -> None:
    """Measure and print."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "skills")
        make_skills(source, count)
        rows = [*loads(source, Path(name, "copies")), *trio.run(actors, source, edit_count)]
        print(f"{count} skills, {count * 3} files")
        for what, took_ms, ratio in rows:
            print(f"{what:58} {took_ms:10.3f} ms {'' if ratio is None else f'{ratio:6.2f} x'}")
        print()
        other_loaders(source, install)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("skills", type=int, nargs="?", default=1_000)
    parser.add_argument("edits", type=int, nargs="?", default=100)
    parser.add_argument("--install", action="store_true", help="put skills-ref into .venv-skills-ref")
    options = parser.parse_args()
    main(options.skills, options.edits, options.install)
