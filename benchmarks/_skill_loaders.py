"""One loader of skills in a process of its own: python _skill_loaders.py LOADER FOLDER; prints what it took as JSON.

Loaders: ours (all of it: every file of every skill hashed, diagnostics, snapshot), pyyaml (front matter and body, by
yaml.safe_load), skills-ref (the reference implementation's read_properties). Standard library but for the loaders.
"""

from __future__ import annotations

import gc
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Loader = tuple[Callable[[], Any], Callable[[Any, Path], Any]]  # all, and one of them again


def ours(folder: Path) -> Loader:
    """The Library, with no copies."""
    from skill_actors.skills import Library, SkillSnapshot, Source

    library = Library([Source(path=folder)])

    def again(loaded: SkillSnapshot, skill: Path) -> SkillSnapshot:
        return library.load(loaded, [skill / "SKILL.md"])

    return (lambda: library.load(SkillSnapshot())), again


def pyyaml(folder: Path) -> Loader:
    """What many loaders are: split at ---, safe_load, keep the text."""
    yaml = importlib.import_module("yaml")

    def read(skill: Path) -> tuple[Any, str]:
        _, header, body = (skill / "SKILL.md").read_text(encoding="utf-8").split("---", 2)
        return yaml.safe_load(header), body

    return (lambda: {skill.name: read(skill) for skill in sorted(folder.iterdir())}), lambda _, skill: read(skill)


def skills_ref(folder: Path) -> Loader:
    """The reference."""
    read = importlib.import_module("skills_ref.parser").read_properties
    return (lambda: {skill.name: read(skill) for skill in sorted(folder.iterdir())}), lambda _, skill: read(skill)


def resident_mb() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main(name: str, folder: Path) -> None:
    """Measure and print."""
    load, again = {"ours": ours, "pyyaml": pyyaml, "skills-ref": skills_ref}[name](folder)
    first = min(folder.iterdir())
    if name != "ours":
        again(None, first)  # what is imported at first use is not measured
    gc.collect()
    before_mb = resident_mb()
    began = time.perf_counter()
    loaded = load()
    load_ms = (time.perf_counter() - began) * 1000
    gc.collect()
    memory_mb = resident_mb() - before_mb
    times = []
    for _ in range(5):
        text = (first / "SKILL.md").read_text(encoding="utf-8")
        (first / "SKILL.md").write_text(f"{text}.\n", encoding="utf-8")
        began = time.perf_counter()
        loaded_one = again(loaded, first)
        times.append((time.perf_counter() - began) * 1000)
        if name == "ours":
            loaded = loaded_one
    print(json.dumps({"load_ms": load_ms, "one_ms": sorted(times)[2], "memory_mb": memory_mb}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
