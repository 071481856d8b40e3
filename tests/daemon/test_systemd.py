"""The units, as far as they can be judged without starting them; `tests/e2e/test_systemd_boot.py` starts them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import require

UNITS = Path(__file__).parents[2] / "systemd"
MANUAL = UNITS.parent / "docs/operate.md"
PROFILES = ["none", "tools", "bwrap", "docker", "broker"]
# Exposure as `systemd-analyze security` counts it, 0 to 100: what was measured, and no more.
EXPOSURE = {"none": 15, "tools": 18, "bwrap": 25, "docker": 13, "broker": 13}


def settings(unit: str = "skilld.service") -> dict[str, str]:
    lines = (UNITS / unit).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def copied(folder: Path, profile: str) -> Path:
    """The units in a folder of their own, with a profile; the service."""
    for name in ("skilld.service", "skilld.socket", "skilld-broker.service", "skilld-broker.socket"):
        shutil.copy(UNITS / name, folder / name)
    if profile != "none":
        (folder / "skilld.service.d").mkdir()
        shutil.copy(UNITS / "profiles" / f"{profile}.conf", folder / "skilld.service.d" / "50-profile.conf")
    return folder / "skilld.service"


def analyze(*arguments: str, units: Path) -> subprocess.CompletedProcess[str]:
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_UNIT_PATH": f"{units}:"}
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, env=environment, timeout=60
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path, profile: str) -> None:
    service = copied(tmp_path, profile)
    done = analyze("verify", str(service), str(tmp_path / "skilld.socket"), units=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")  # unknown keys exit 0 and only complain


def test_the_check_would_find_a_fault(tmp_path: Path) -> None:
    service = copied(tmp_path, "none")
    service.write_text(service.read_text().replace("NoNewPrivileges=", "NoNewPrivilege="))
    assert "NoNewPrivilege" in analyze("verify", str(service), units=tmp_path).stderr


@pytest.mark.parametrize("profile", PROFILES)
def test_the_exposure_is_not_more_than_was_measured(tmp_path: Path, profile: str) -> None:
    service = copied(tmp_path, profile)
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE[profile]}", str(service), units=tmp_path)
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.skipif(not MANUAL.exists(), reason="reads the manual, and this is a copy of the tests")
def test_the_manual_tells_the_exposure_of_each_profile() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d\.\d)[^|]*\|$", MANUAL.read_text(), re.MULTILINE)
    assert {name: round(float(figure) * 10) for name, figure in rows} == EXPOSURE


def test_the_broker_is_exposed_even_less(tmp_path: Path) -> None:
    copied(tmp_path, "none")
    unit = tmp_path / "skilld-broker.service"
    assert analyze("verify", str(unit), units=tmp_path).stderr == ""
    assert analyze("security", "--offline=yes", "--threshold=4", str(unit), units=tmp_path).returncode == 0


@pytest.mark.parametrize(("profile", "exposure"), [("none", 6), ("tools", 10), ("docker", 4), ("broker", 4)])
def test_without_a_network_there_is_no_fault_and_even_less_exposed(tmp_path: Path, profile: str, exposure: int) -> None:
    service = copied(tmp_path, profile)
    for name in ("skilld-model.socket", "skilld-model.service"):
        shutil.copy(UNITS / name, tmp_path / name)
    (tmp_path / "skilld.service.d").mkdir(exist_ok=True)
    shutil.copy(UNITS / "no-network.conf", tmp_path / "skilld.service.d" / "60-no-network.conf")
    units = [str(tmp_path / name) for name in ("skilld.service", "skilld-model.socket", "skilld-model.service")]
    assert analyze("verify", *units, units=tmp_path).stderr == ""
    done = analyze("security", "--offline=yes", f"--threshold={exposure}", str(service), units=tmp_path)
    assert done.returncode == 0, done.stdout[-200:]
    done = analyze("security", "--offline=yes", "--threshold=12", units[2], units=tmp_path)
    assert done.returncode == 0, done.stdout[-200:]


def test_the_drop_in_leaves_no_way_but_sockets_with_a_path() -> None:
    lines = (UNITS / "no-network.conf").read_text().splitlines()
    emptied = lines.index("RestrictAddressFamilies=")
    assert lines[emptied + 1] == "RestrictAddressFamilies=AF_UNIX"
    assert settings("no-network.conf")["PrivateNetwork"] == "yes"
    place = settings("skilld-model.socket")["ListenStream"]
    assert f"Environment=SKILLD_MODEL_SOCKET={place}" in lines


def test_what_the_daemon_relies_on_is_set() -> None:
    unit = settings()
    assert unit["Type"] == "notify", "notify-reload is taken for simple by systemd 252"
    assert "78" in unit["RestartPreventExitStatus"].split()
    assert "70" not in unit["RestartPreventExitStatus"].split()
    assert unit["Restart"] == "on-failure", "after exit 70 and after an abort"
    assert (unit["WatchdogSec"], unit["NotifyAccess"], unit["LimitCORE"]) == ("30", "main", "0")
    assert "WatchdogSignal" not in unit, "SIGABRT, the default, makes faulthandler write the stacks"
    assert (unit["StateDirectory"], unit["RuntimeDirectory"]) == ("skilld", "skilld")
    assert (unit["LogsDirectory"], unit["LogsDirectoryMode"]) == ("skilld", "0700"), "the event log may be there"
    assert unit["RuntimeDirectoryPreserve"] == "yes", "else a stop removes the file of the socket unit"
    assert "PrivateUsers" not in unit, "inside a user namespace every peer looks like the overflow user"
    assert "ProtectControlGroups" not in unit, "it makes Delegate= useless"
    assert "SupplementaryGroups" not in unit, "a group that is missing keeps the service from starting"
    assert "/bin/kill" not in unit["ExecReload"], "a signal does not wait until the reload is done"


def test_a_users_unit_has_nothing_that_only_root_can_have() -> None:
    unit = settings("user/skilld.service")
    forbidden = {"User", "Group", "StateDirectory", "RuntimeDirectory", "LogsDirectory", "ProtectSystem", "PrivateTmp"}
    forbidden |= {"LoadCredential"}
    assert forbidden.isdisjoint(unit)
    for name in ("Type", "Restart", "RestartPreventExitStatus", "WatchdogSec", "LimitCORE", "KillMode"):
        assert unit[name] == settings()[name], name


def test_the_socket_is_where_the_service_would_make_it() -> None:
    assert settings("skilld.socket")["ListenStream"] == "%t/skilld/skilld.sock"
    assert settings("skilld.socket")["SocketMode"] == "0660"
    assert settings("user/skilld.socket")["SocketMode"] == "0600"


def test_no_credential_is_in_the_unit() -> None:
    text = (UNITS / "skilld.service").read_text()
    assert "\nLoadCredential=anthropic_api_key\n" in text, "with a path the service would not start without the file"
    assert re.findall(r"^Environment=(.*)$", text, flags=re.MULTILINE) == [
        "SKILLD_BACKENDS=local SKILLD_SANDBOX=landlock"
    ]
