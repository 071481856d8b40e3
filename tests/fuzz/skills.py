"""Coverage-guided fuzzing of what reads strangers' files; scripts/fuzz starts it, in an environment with atheris.

Usage: python skills.py {front_matter|skill|package|tree} [options of libFuzzer, folders of seeds]
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import atheris  # type: ignore[import-untyped, unused-ignore]

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["skill_actors.skills", "zipfile"]):
    from skill_checks import OUTSIDE, check_front_matter, check_package, check_skill, check_tree

HEADERS: Final = (
    "name: tides\ndescription: d",
    "name: tides\ndescription: Use when: asked\n  or not\nmetadata:\n  a: [b, {c: d}]\nallowed-tools: Bash(a:*), Read",
    'name: "ti\\0des"\ndescription: !!str |-\n  a\n  b\nx: &a y\nz: *a\n<<: {p: q}\n? r\n: s',
    'name: \u6f6e\ndescription: "\\uD83C \\U0001f30a"\nmetadata: !!set {a, b}\t\nlicense: [MIT',
)
SEPARATOR: Final = "\x1f"


def in_folder(check: Callable[[Any, Path], None], value: object) -> None:
    with tempfile.TemporaryDirectory(prefix="skilld-fuzz-") as folder:
        check(value, Path(folder))


def skill(data: bytes) -> None:
    in_folder(check_skill, data)


def package(data: bytes) -> None:
    in_folder(check_package, data)


def tree(data: bytes) -> None:
    """The bytes are lines, each the path of a link and its target."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")[:8]
    parts = [line.partition(SEPARATOR) for line in lines]
    in_folder(check_tree, [(path, target) for path, _, target in parts])


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, f"---\n{HEADERS[0]}\n---\n")
    return buffer.getvalue()


FILES: Final = tuple(f"---\n{header}\n---\nBody\n".encode() for header in HEADERS)
GOALS: Final = (*(f"../{path}" for path in OUTSIDE), "/etc/passwd", "../tides/SKILL.md", "a", "a/pipe")
LINKS: Final = tuple(f"b{SEPARATOR}{goal}\nc{SEPARATOR}b\na/d{SEPARATOR}../c".encode() for goal in GOALS)
TARGETS: Final[Mapping[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "front_matter": (check_front_matter, FILES),
    "skill": (skill, FILES),
    "package": (package, (zipped("tides/SKILL.md", "tides/scripts/a.sh"), zipped("SKILL.md"), zipped("../SKILL.md"))),
    "tree": (tree, LINKS),
}


def main() -> None:
    name = sys.argv.pop(1)
    target, seeds = TARGETS[name]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="skilld-seeds-") as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(seed)
            target(seed)
        atheris.Setup([*sys.argv, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
