"""The architecture: which package may import which, what the folders are, and how large a module may grow."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IS_CHECKOUT = (ROOT / "daemon").is_dir()
FOLDERS = {
    *("actors", "benchmarks", "daemon", "docs", "etc", "examples", "scripts", "skills", "systemd", "tests"),
}
MADE_BY_TOOLS = {"build", "dist"}
MAX_LINES = 600

checkout_only = pytest.mark.skipif(
    not IS_CHECKOUT, reason="looks at the repository's folders, and this is a copy of the tests"
)


def package_folder(name: str) -> Path:
    """Where an import name of ours is installed, or lies in the checkout. Nothing of it is imported."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, name
    assert spec.origin is not None, f"{name} has no __init__.py"
    return Path(spec.origin).parent


def sources(package: str) -> list[Path]:
    """All modules of a package, sorted."""
    found = sorted(package_folder(package).rglob("*.py"))
    assert found
    return found


def imported_names(path: Path, package: str) -> Iterator[str]:
    """The absolute dotted names that a module imports, also inside functions and under TYPE_CHECKING."""
    folder = package_folder(package)
    here = [package, *path.relative_to(folder).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def offences(files: list[Path], package: str, forbidden: tuple[str, ...]) -> list[str]:
    """Which of the files import something below the forbidden names."""
    return [
        f"{path.name} imports {name}"
        for path in files
        for name in imported_names(path, package)
        if any(name == top or name.startswith(f"{top}.") for top in forbidden)
    ]


def test_no_actor_module_imports_the_daemon() -> None:
    assert offences(sources("skill_actors"), "skill_actors", ("skilld",)) == []


def test_importing_every_actor_module_does_not_load_the_daemon(tmp_path: Path) -> None:
    program = (
        "import pkgutil, sys, importlib, skill_actors\n"
        "for module in pkgutil.walk_packages(skill_actors.__path__, 'skill_actors.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'skilld'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("forbidden", ["backends", "models", "sessions", "skills", "store", "testing", "workshop"])
def test_the_runtime_knows_no_model_skill_session_backend_or_store(forbidden: str) -> None:
    runtime = package_folder("skill_actors") / "runtime"
    files = [path for path in sources("skill_actors") if path.is_relative_to(runtime)]
    assert files
    assert offences(files, "skill_actors", (f"skill_actors.{forbidden}",)) == []


@pytest.mark.parametrize("package", ["runtime", "skills", "models", "backends", "store", "sessions", "testing"])
def test_the_loop_of_other_programs_stands_above_everything_else(package: str) -> None:
    folder = package_folder("skill_actors") / package
    files = [path for path in sources("skill_actors") if path.is_relative_to(folder)]
    assert files
    assert offences(files, "skill_actors", ("skill_actors.loop",)) == []


@pytest.mark.parametrize(
    "package", ["runtime", "skills", "models", "backends", "store", "sessions", "files", "testing", "loop"]
)
def test_the_library_of_other_programs_stands_above_the_loop(package: str) -> None:
    folder = package_folder("skill_actors") / package
    files = [path for path in sources("skill_actors") if path.is_relative_to(folder)]
    assert files
    assert offences(files, "skill_actors", ("skill_actors.library",)) == []


ABOVE_FILES = ("backends", "library", "loop", "models", "sessions", "skills", "store", "testing")


@pytest.mark.parametrize("forbidden", ABOVE_FILES)
def test_files_know_nothing_of_who_uses_them(forbidden: str) -> None:
    folder = package_folder("skill_actors") / "files"
    files = [path for path in sources("skill_actors") if path.is_relative_to(folder)]
    assert files
    assert offences(files, "skill_actors", (f"skill_actors.{forbidden}",)) == []


def test_python_daemon_lives_beside_our_import_names(tmp_path: Path) -> None:
    program = "import skilld, skill_actors, daemon; print(daemon.DaemonContext.__module__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.stdout, done.returncode) == ("daemon.daemon\n", 0), done.stderr


def test_the_monitoring_client_imports_nothing_of_ours_and_nobody_elses() -> None:
    found = {
        name.split(".")[0] for path in sources("skilld_monitor") for name in imported_names(path, "skilld_monitor")
    }
    assert found - set(sys.stdlib_module_names) == {"skilld_monitor"}


@pytest.mark.parametrize("package", ["skill_actors", "skilld"])
def test_only_what_monitoring_is_made_of_imports_its_client(package: str) -> None:
    """In folders of that name: the program's other name for it, and its rules, which daemon and program share."""
    files = [path for path in sources(package) if "monitor" not in path.relative_to(package_folder(package)).parts]
    assert offences(files, package, ("skilld_monitor",)) == []


def sort_key(name: str) -> tuple[int, str]:
    """How ruff sorts names: CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def packages() -> list[Path]:
    """Every `__init__.py` of ours."""
    names = ("skilld", "skilld_monitor", "skill_actors")
    return [path for name in names for path in sources(name) if path.name == "__init__.py"]


@pytest.mark.parametrize("path", packages(), ids=lambda path: "/".join(path.parts[-3:-1]))
def test_every_package_says_in_order_what_it_exports(path: Path) -> None:
    exported = [
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]
    ]
    assert len(exported) == 1, "no __all__"
    assert list(exported[0]) == sorted(set(exported[0]), key=sort_key)


@pytest.mark.parametrize("package", ["skilld", "skilld_monitor", "skill_actors"])
def test_no_module_holds_more_than_one_noun_needs(package: str) -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(package)}
    assert {name for name, lines in lengths.items() if lines > MAX_LINES} == set()


def test_tests_are_held_to_the_same() -> None:
    folder = Path(__file__).parent
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


@checkout_only
def test_the_top_level_folders_are_the_designed_ones() -> None:
    found = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert found - MADE_BY_TOOLS == FOLDERS


@checkout_only
def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    """The folder of the checkout, and the home of whoever works in it, belong to one machine only."""
    private = [str(path) for path in (ROOT, Path.home()) if len(path.parts) > 2]
    folders = [ROOT / name for name in (*FOLDERS, ".ci")]
    files = [
        path for folder in folders for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    named = [
        f"{path.relative_to(ROOT)}: {text}" for path in files for text in private if text.encode() in path.read_bytes()
    ]
    assert named == []


def links(page: Path) -> list[str]:
    """The relative links of a page, without their fragments."""
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


@checkout_only
@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []
