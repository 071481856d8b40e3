"""The agent programs that tests drive, as `scripts/agent-clis` installs them."""

from __future__ import annotations

import os
import shutil

import pytest

from conftest import require

__all__ = ["real_program"]


def real_program(name: str) -> str:
    """Where it is; the test is skipped where there is none, and says so where it could not be installed."""
    why = os.environ.get("SKILLD_NO_AGENT_CLIS")
    if why:
        pytest.skip(f"{name} could not be installed: {why}")
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("SKILLD_AGENT_CLIS", ""), os.defpath)))
    require(found is not None, f"no {name} program here: scripts/agent-clis installs it")
    return str(found)
