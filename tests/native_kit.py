"""Native skills for tests: folders with a class, and a process that lends them workers."""

from __future__ import annotations

import os
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from skill_actors.backends import Host, NativeProcesses, Workers, WorkersRef
from skill_actors.native import NativeCode, import_folders
from skill_actors.runtime import ChildSpec, open_system

HEAD = "from __future__ import annotations\nfrom skill_actors.native import *\n"

# One callback that does what it is told, as hostile code would.
OFFENDER = """\
import ctypes, os, signal, time

class Skill(NativeSkill):
    skill_info = SkillInfo(name="{name}", description="Does its worst.", allowed_tools=["execute", "read"])
    parallel = True

    def execute(self, command: str, context: Context) -> object:
        match command:
            case "pid":
                return str(os.getpid())
            case "spin":
                while True:
                    pass
            case "block":
                signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
                ctypes.PyDLL(None).sleep(60)
            case "leak":
                held = []
                while True:
                    held.append(bytearray(1 << 20))
            case "flood":
                while True:
                    os.write(1, b"x" * 65536)
            case "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                context.emit("deaf")
                time.sleep(60)
            case "exit":
                os._exit(7)
            case "segv":
                ctypes.string_at(0)
            case "raise":
                raise LookupError("nothing \\udcff here")
            case "long":
                return "line\\n" * 100_000
            case "environment":
                return sorted(os.environ)
            case "secret":
                return os.environ.get("API_TOKEN", "none") + "\\n" * int(1e4)
            case "secret crash":
                os.write(2, os.environ["API_TOKEN"].encode())
                os._exit(3)
            case "secret error":
                raise ValueError("." * 1_990 + os.environ["API_TOKEN"])
            case "fork":
                os.fork()
                return "forked"
            case "huge":
                return "x" * (9 << 20)
            case "where":
                return [os.getcwd(), str(context.workspace), str(context.skill_dir), context.session]
        return f"did {{command}}"

    def read(self, path: str, context: Context) -> str:
        return path
"""


def write_native(folder: Path, name: str, code: str, *, class_name: str = "Skill", head: str = HEAD) -> Path:
    """A native skill; `code` is what follows the imports of its module."""
    root = folder / name
    root.mkdir(parents=True, exist_ok=True)
    front = f"name: {name}\ndescription: The native skill {name}.\nmetadata:\n  skilld-native: native.py:{class_name}"
    (root / "native.py").write_text(head + textwrap.dedent(code))
    (root / "SKILL.md").write_text(f"---\n{front}\n---\n\nUse its tools.\n")
    return root


def write_offender(folder: Path, name: str = "offender") -> Path:
    return write_native(folder, name, OFFENDER.format(name=name))


def code_in(root: Path, *, version: str = "1", class_name: str = "Skill", file: str = "native.py") -> NativeCode:
    return NativeCode(
        skill=root.name,
        version=version,
        class_name=class_name,
        root=str(root),
        file=file,
        paths=import_folders(),
    )


@asynccontextmanager
async def open_processes(**options: float) -> AsyncIterator[NativeProcesses]:
    """Worker processes for native code, in a tree of their own."""
    async with open_host() as host:
        processes = NativeProcesses(host, **options)  # type: ignore[arg-type]  # the caller knows them
        try:
            yield processes
        finally:
            await processes.aclose()


@asynccontextmanager
async def open_host() -> AsyncIterator[Host]:
    spec = ChildSpec(id="workers", name="workers", factory=Workers, isolated=True)
    async with open_system([spec]) as system:
        yield Host(find_workers=lambda: cast("WorkersRef", system.directory.ref("workers")))


@pytest.fixture(autouse=True)
def no_native_process_is_left() -> Iterator[None]:
    """For a module's tests: each ends with every process that it has started."""
    yield
    assert native_processes() == []


def native_processes() -> list[int]:
    """The processes for native code that this one has started."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_ours(int(name))]


def _is_ours(pid: int) -> bool:
    try:
        parent, group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:4]
        is_native = b"native:" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return is_native and str(os.getpid()) in (parent, group, session)
    except OSError:
        return False
