"""Skills as their authors have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = "Looks up tides for a harbour. Use it when the user asks for high or low water."


def _author(
    folder: Path,
    files: dict[str, str | bytes] | None = None,
    *,
    description: str = GOOD,
    extra: str = "",
    body: str = "",
) -> Path:
    """A skill in `folder`; a file whose path begins with `+` gets its run bit."""
    folder.mkdir(parents=True, exist_ok=True)
    header = f"name: {folder.name}\ndescription: {description}\n{extra}".rstrip()
    text = body or "Answer with the times of high water, and where they come from."
    (folder / "SKILL.md").write_text(f"---\n{header}\n---\n\n{text}\n", encoding="utf-8")
    for path, content in (files or {}).items():
        target = folder / path.removeprefix("+")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(0o755 if path.startswith("+") else 0o644)
    return folder


@pytest.fixture
def author() -> Callable[..., Path]:
    """Makes a skill's folder that nothing is wrong with; returns it."""
    return _author
