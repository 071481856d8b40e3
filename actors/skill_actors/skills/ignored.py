"""Names that are never part of a skill: what editors, version control and interpreters leave lying about."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_ignored"]

_FOLDERS: Final = frozenset({".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_FILES: Final = re.compile(
    r".*~"  # Emacs, Vim and many others: backups
    r"|\.[^/]*\.sw[a-px]"  # Vim: swap files
    r"|4913"  # Vim: a probe whether it may write here
    r"|\.#.*|#.*#"  # Emacs: locks and auto-saves
    r"|.*___jb_(?:tmp|old)___"  # JetBrains: safe write
    r"|\.goutputstream-.*"  # GNOME
    r"|.*\.py[cod]"
    r"|\.DS_Store",
    re.DOTALL,
)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is left out of skills and does not count as a change."""
    return name in _FOLDERS or _FILES.fullmatch(name) is not None
