"""The page for those who come from Cylestio Monitor, as its tables say, beside the public names of both generations."""

from __future__ import annotations

import importlib
import re
from fnmatch import fnmatchcase
from typing import Any, Final

from doc_kit import ROOT

__all__ = ["COMPAT", "IN_MANUALS", "KEPT", "PAGE", "PUBLIC", "TABLE", "TAKES", "cell_of", "code", "found", "rows"]

PAGE: Final = ROOT / "docs/cylestio.md"
COMPAT: Final = "skilld_monitor.compat"
NAMES: Final = ROOT / "tests/monitor/cylestio_names.txt"

# What the two generations have in public, by the wheels 0.1.2 and 0.1.12: a generation, a name, and what it takes. What
# begins with an underscore is left out, and the modules that a package of the same name hides.
TAKES: Final = {
    (line[0], line[2:].partition("(")[0]): re.findall(r"[\w*]+", line.partition("(")[2])
    for line in NAMES.read_text().splitlines()
}
# What their manuals name, and the wheels have not.
IN_MANUALS: Final = {
    *(("A", name) for name in ("log_to_file_and_db", "SecurityException", "events_processor.get_event_history")),
    *(("B", name) for name in ("log_info", "log_warning", "get_api_endpoint")),
}
PUBLIC: Final = {*TAKES, *IN_MANUALS}


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads."""
    text = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ") and not re.search(r"\| here \|$", line)]
    assert lines, heading
    return [re.split(r" \| ", line.strip("| ")) for line in lines]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def found(path: str) -> Any:
    """What there is at a dotted path, modules being loaded on the way; AttributeError if there is nothing."""
    module, _dot, name = path.rpartition(".")
    if name == "" or module == "":
        raise AttributeError(path)
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        return getattr(found(module), name)


def table() -> dict[str, tuple[set[str], str]]:
    """By name there, or pattern, its generations and what stands in the column of ours."""
    return {
        name: ({*generations.split(", ")}, here)
        for generations, names, here in (rows("Names") if PAGE.is_file() else [])
        for name in code(names)
    }


TABLE: Final = table()


def cell_of(name: str) -> str | None:
    """The cell that a name is under: its own, else that of its class, else the pattern that says the most."""
    of_class = name.rpartition(".")[0]
    if name in TABLE:
        return name
    if of_class in TABLE and re.search(r"(^|\.)[A-Z]\w*$", of_class):
        return of_class
    return max((each for each in TABLE if "*" in each and fnmatchcase(name, each)), key=len, default=None)


def is_kept(name: str) -> bool:
    """Whether the page says that it is at the same place."""
    return TABLE.get(cell_of(name) or "", (set(), ""))[1].startswith("same")


KEPT: Final = sorted((generation, name) for generation, name in PUBLIC if is_kept(name))
