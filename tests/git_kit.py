"""Real repositories, made by the real git as nobody in particular."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["NOBODY", "commit", "git", "repository"]

NOBODY: Mapping[str, str] = {
    **{name: os.environ[name] for name in ("PATH",)},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
       (("NAME", "Nobody"), ("EMAIL", "nobody@example.org"))},
}  # fmt: skip


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", *args], cwd=folder, env=dict(NOBODY), capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def repository(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "trunk")
    if files:
        commit(folder, "first", **files)
    return folder


def commit(folder: Path, subject: str, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", subject)
