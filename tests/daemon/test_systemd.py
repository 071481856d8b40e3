"""The units, as far as they can be judged without starting them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from conftest import require

UNITS = Path(__file__).parents[2] / "systemd"


def settings() -> dict[str, str]:
    lines = (UNITS / "skilld.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed")
    (tmp_path / "skilld.service").write_text((UNITS / "skilld.service").read_text())
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "skilld.service")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # unknown keys exit 0 and only complain


def test_what_the_daemon_relies_on_is_set() -> None:
    unit = settings()
    assert unit["Type"] == "notify"
    assert "78" in unit["RestartPreventExitStatus"].split()
    assert "70" not in unit["RestartPreventExitStatus"].split()
    assert unit["Restart"] == "on-failure", "after exit 70 and after an abort"
    assert (unit["WatchdogSec"], unit["NotifyAccess"], unit["LimitCORE"]) == ("30", "main", "0")
    assert "WatchdogSignal" not in unit, "SIGABRT, the default, makes faulthandler write the stacks"
    assert (unit["StateDirectory"], unit["RuntimeDirectory"]) == ("skilld", "skilld")
    assert "PrivateUsers" not in unit, "inside a user namespace every peer looks like the overflow user"


def test_no_credential_is_in_the_unit() -> None:
    text = (UNITS / "skilld.service").read_text()
    assert "#LoadCredential=anthropic_api_key:" in text
    assert re.findall(r"^Environment=(.*)$", text, flags=re.MULTILINE) == ["SKILLD_SANDBOX=landlock"]
