"""The runtime as a library: every public name is explained, and what its README and its example show works."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import pytest

import skill_actors.runtime as runtime

HERE: Final = Path(runtime.__file__).parent
EXAMPLE: Final = Path(__file__).parents[3] / "examples/supervised_actor.py"
TIMES: Final = re.compile(r"timeout|deadline|delay|grace|period|interval|backoff_initial")
OURS: Final = "skill_actors.runtime"


def public_objects() -> Iterator[tuple[str, Any]]:
    """Every exported class and function, and the public methods and properties that our classes define."""
    for name in runtime.__all__:
        value = getattr(runtime, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or not value.__module__.startswith(OURS):
            continue
        yield name, value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and callable(getattr(member, "fget", member)):
                    yield f"{name}.{attribute}", getattr(member, "fget", member)


PUBLIC: Final = dict(public_objects())


def explained(name: str) -> str:
    """The docstring of a public object, with that of its class: arguments of __init__ are explained there."""
    own = inspect.getdoc(PUBLIC[name]) or inherited(name)
    return f"{own}\n{inspect.getdoc(PUBLIC[name.partition('.')[0]])}"


def inherited(name: str) -> str:
    """The docstring of the method that this one overrides, if any."""
    kind, _, attribute = name.partition(".")
    bases = PUBLIC[kind].__mro__[1:] if attribute else ()
    found = (inspect.getdoc(vars(base)[attribute]) for base in bases if attribute in vars(base))
    return next((text for text in found if text), "")


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = PUBLIC[name]
    text = (value.__doc__ or "").strip()
    if inspect.isclass(value) and text.startswith(f"{value.__name__}("):
        text = ""  # what dataclass makes up
    if inspect.isclass(value) and issubclass(value, Enum) and value.__doc__ == Enum.__doc__:
        text = ""
    assert text or inherited(name), f"{name} is not explained"


def raised(function: Callable[..., Any]) -> set[str]:
    """Names of the exceptions that a function's own body raises by name, outside of functions defined in it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    found, pending = set[str](), list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            target = node.exc.func
            found.add(target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""))
        pending += ast.iter_child_nodes(node)
    return {name for name in found if name[:1].isupper()}


def functions() -> list[str]:
    """Names of public functions, with the constructors that our classes write themselves."""
    return [name for name, value in PUBLIC.items() if inspect.isfunction(value)]


@pytest.mark.parametrize("name", functions())
def test_what_a_function_raises_is_in_its_docstring(name: str) -> None:
    missing = {error for error in raised(PUBLIC[name]) if error not in explained(name)}
    assert missing == set(), f"{name} raises what its docstring does not name"


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if inspect.isclass(value)])
def test_what_a_constructor_raises_is_in_the_docstring_of_its_class(name: str) -> None:
    written = [vars(PUBLIC[name])[each] for each in ("__init__", "__post_init__") if each in vars(PUBLIC[name])]
    bodies = [each for each in written if inspect.getsourcefile(each) not in (None, "<string>")]
    missing = {error for each in bodies if is_ours(each) for error in raised(each) if error not in explained(name)}
    assert missing == set()


def is_ours(function: Callable[..., Any]) -> bool:
    """Whether it stands in a file of the runtime, and was not generated."""
    return function.__code__.co_filename.startswith(str(HERE))


@pytest.mark.parametrize("name", functions())
def test_a_time_is_named_in_seconds_or_explained_in_seconds(name: str) -> None:
    parameters = [each for each in inspect.signature(PUBLIC[name]).parameters if TIMES.search(each)]
    unclear = [each for each in parameters if not each.endswith("_s")]
    assert not unclear or "second" in explained(name) or "As `" in explained(name), f"{name}: {unclear} in what unit?"


def readme_blocks() -> list[tuple[int, str]]:
    """The README's Python blocks, each with the line it begins in."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in found]


def test_every_block_of_the_readme_runs_in_its_order() -> None:
    """Each may use what those before it define. In a process of its own, since the last of them is a whole one."""
    blocks = readme_blocks()
    assert len(blocks) >= 5
    page = [""] * max(first + block.count("\n") for first, block in blocks)  # so that a traceback has the page's lines
    for first, block in blocks:
        page[first : first + block.count("\n")] = block.splitlines()
    done = run_python("-c", "\n".join(page))
    assert done.returncode == 0, done.stderr


def test_the_readme_names_every_file() -> None:
    _, _, section = (HERE / "README.md").read_text(encoding="utf-8").partition("\n## Files, bottom up\n")
    named = re.findall(r"`(\w+)`", section)
    assert sorted(named) == sorted(path.stem for path in HERE.glob("[a-z]*.py"))


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the example is in the repository, and this is a copy of the tests")
def test_the_example_shows_a_crash_a_restart_and_an_end() -> None:
    done = run_python(str(EXAMPLE))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "asker: integer division or modulo by zero" in lines
    assert "asker: the new one says 3" in lines
    assert "supervisor: [('calculator', 'running', 1), ('watcher', 'running', 0)]" in lines
    ends = [line for line in lines if line.startswith("watcher: Calculator ended")]
    assert [line.split(": ")[2] for line in ends] == ["crash", "shutdown"]
    assert lines[-1].startswith("asker: no living actor is named 'calculator'")


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
