"""Folders that hold skills."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def _make_skill(
    folder: Path, *, name: str | None = None, description: str = "Does things", extra: str = "", body: str = "Body"
) -> Path:
    header = f"name: {name or folder.name}\ndescription: {description}\n{extra}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text(f"---\n{header.rstrip()}\n---\n\n{body}\n")
    return folder


def _add_file(folder: Path, path: str, content: str = "x", *, mode: int = 0o644) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)
    target.chmod(mode)
    return target


@pytest.fixture
def make_skill() -> Callable[..., Path]:
    """Writes a SKILL.md into a folder, made if it is missing; returns the folder."""
    return _make_skill


@pytest.fixture
def add_file() -> Callable[..., Path]:
    """Writes a file below a folder, with the folders on the way; returns its path."""
    return _add_file
