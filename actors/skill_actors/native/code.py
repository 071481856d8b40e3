"""Where the class of a native skill is, and loading it. What is loaded runs: call `load_class` in a process for it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["NativeCode", "code_of", "forget_class", "import_folders", "load_beside", "load_class"]

_loading = threading.Lock()
_OTHERS_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeCode:
    """One version of a native skill's class.

    Args:
        skill: the skill's name.
        version: what tells this code from a later one; equal versions are equal code.
        class_name: in its module, dotted if it is inside of another class.
        root: folder of the skill.
        file: relative to the root; its folder and the root are first in `sys.path`. Without it, `module` is imported.
        module: an importable name.
        paths: more folders for `sys.path`, after all others.

    """

    skill: str
    version: str
    class_name: str
    root: str
    file: str | None = None
    module: str | None = None
    paths: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a worker process is told."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NativeCode:
        """What `to_json` gave."""
        return cls(**{**value, "paths": tuple(value["paths"])})


def code_of(skill: type, *, name: str, version: str = "1") -> NativeCode:
    """Where a class of this program is, for worker processes that import it anew.

    Raises:
        ValueError: if it cannot be imported: it was defined in a function or typed into an interpreter.

    """
    module = sys.modules.get(skill.__module__)
    source = getattr(module, "__file__", None)
    if "<" in skill.__qualname__ or source is None:
        raise ValueError(f"{skill.__qualname__} cannot be imported by another process: define it in a module")
    folder, file = os.path.split(os.path.abspath(source))
    is_program = skill.__module__ == "__main__"
    return NativeCode(
        skill=name,
        version=version,
        class_name=skill.__qualname__,
        root=folder,
        file=file if is_program else None,
        module=None if is_program else skill.__module__,
        paths=import_folders(),
    )


def import_folders() -> tuple[str, ...]:
    """The folders from which this process imports."""
    return tuple(os.path.abspath(path) for path in sys.path if os.path.isdir(path or "."))


def load_class(code: NativeCode) -> type:
    """Import the class. Raises whatever its module raises, and ImportError if there is no such class."""
    sys.dont_write_bytecode = True  # the folder is somebody's, or a copy that must stay as it is
    if code.file is not None:
        beside = os.path.dirname(os.path.join(code.root, code.file))
        sys.path[:0] = dict.fromkeys((beside, code.root))
    sys.path.extend(path for path in code.paths if path not in sys.path)
    path = Path(code.root, code.file or "")
    return _class_in(importlib.import_module(code.module) if code.module else _from_file(path, path.stem), code)


def load_beside(code: NativeCode) -> type:
    """Import the class into a process that has other code too, and other versions of this one.

    Its module has a name of its own; modules beside it are imported for it alone, and only while it is imported. What
    this process, or its interpreter, has under the same name comes first.

    Raises:
        ImportError: there is no such class, or another import has not ended for _OTHERS_S.
        Exception: whatever its module raises.

    """
    beside = dict.fromkeys((os.path.dirname(os.path.join(code.root, code.file or "")), code.root))
    with _alone(code):
        before, wrote, own_name = set(sys.modules), sys.dont_write_bytecode, _own_name(code.skill, code.version)
        sys.path.extend(beside)
        sys.dont_write_bytecode = True
        try:
            return _class_in(_from_file(Path(code.root, code.file or ""), own_name), code)
        except BaseException:
            forget_class(code.skill, code.version)
            raise
        finally:
            sys.dont_write_bytecode = wrote
            for folder in beside:
                sys.path.remove(folder)
            for name in set(sys.modules) - before - {own_name}:
                if str(getattr(sys.modules[name], "__file__", None) or "").startswith(code.root + os.sep):
                    del sys.modules[name]


@contextmanager
def _alone(code: NativeCode) -> Iterator[None]:
    """The only one that imports: what makes modules findable holds for the whole process."""
    if not _loading.acquire(timeout=_OTHERS_S):
        raise ImportError(f"{code.file} cannot be imported: another skill's import has not ended for {_OTHERS_S:g} s")
    try:
        yield
    finally:
        _loading.release()


def forget_class(skill: str, version: str) -> None:
    """Undo `load_beside`: what nobody uses any more can be freed."""
    sys.modules.pop(_own_name(skill, version), None)


def _own_name(skill: str, version: str) -> str:
    return f"_native_{skill.replace('-', '_')}_{version}"


def _class_in(module: Any, code: NativeCode) -> type:
    found = module
    for part in code.class_name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ImportError(f"{code.file or code.module} has no class {code.class_name}")
    return found


def _from_file(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
