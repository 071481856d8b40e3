"""Programs with SDKs as programs still have them, watched by the client of this checkout and nothing else of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import skilld_monitor
from conftest import require
from monitor_kit import run_program

__all__ = ["old_python", "run_old"]


_NAMED = os.environ.get("SKILLD_OLD_PYTHON", "")  # before the tests take our variables away
_WHY_NOT = os.environ.get("SKILLD_NO_OLD_CLIENTS", "")


def old_python() -> str:
    """The Python of the environment that `scripts/old-clients` makes; the test is skipped where it is not named, and
    says so where it could not be made."""
    if _WHY_NOT:
        pytest.skip(f"no old clients could be installed: {_WHY_NOT}")
    require(bool(_NAMED) and os.access(_NAMED, os.X_OK), "SKILLD_OLD_PYTHON names none: scripts/old-clients makes one")
    return _NAMED


def run_old(text: str, folder: Path, **given: str) -> Any:
    """What the program printed, as JSON.

    Args:
        folder: with the ingest socket, as `collecting` has it.
        given: variables for the program, in capitals there.

    """
    path = folder / "path"
    path.mkdir(exist_ok=True)
    (path / "skilld_monitor").symlink_to(Path(skilld_monitor.__file__).parent)
    env: Mapping[str, str] = {"PYTHONPATH": str(path), **{name.upper(): value for name, value in given.items()}}
    done = run_program(text, folder, python=old_python(), env=env, timeout_s=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)
