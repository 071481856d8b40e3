"""What the wheel carries, and that an installation finds it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib.metadata import entry_points, files, version
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
IS_CHECKOUT = (ROOT / "daemon").is_dir()
OF_ANOTHER_WHEEL = {"README.md", "pyproject.toml"} if (ROOT / "daemon/skilld_monitor").is_dir() else set[str]()
DATA = ("skills", "etc", "systemd")

checkout_only = pytest.mark.skipif(
    not IS_CHECKOUT, reason="builds from the repository, and this is a copy of the tests"
)
installed_only = pytest.mark.skipif(IS_CHECKOUT, reason="looks at an installed wheel, and this is the repository")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel built from the sdist, as a release is."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=target)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("*.whl")
    assert len(list(target.glob("*.tar.gz"))) == 1
    with zipfile.ZipFile(path) as opened:
        yield opened


def source_files(folder: str) -> set[str]:
    """The files below a folder of the repository, relative to it, but for what tools leave there."""
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT / folder).as_posix() for path in paths}


@checkout_only
@pytest.mark.parametrize("folder", DATA)
def test_the_wheel_carries_every_file_of_the_data_folders(wheel: zipfile.ZipFile, folder: str) -> None:
    marker = f".data/data/share/skilld/{folder}/"
    assert {name.partition(marker)[2] for name in wheel.namelist() if marker in name} == source_files(folder)


@checkout_only
@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("daemon/skilld", "skilld"),
        ("daemon/skilld_monitor", "skilld_monitor"),
        ("actors/skill_actors", "skill_actors"),
    ],
)
def test_the_wheel_carries_its_packages_whole(wheel: zipfile.ZipFile, folder: str, package: str) -> None:
    carried = {name.partition("/")[2] for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert carried == source_files(folder) - OF_ANOTHER_WHEEL
    assert "py.typed" in carried


@checkout_only
def test_the_wheel_takes_nobody_elses_import_name(wheel: zipfile.ZipFile) -> None:
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.startswith("skilld-")} == {"skilld", "skilld_monitor", "skill_actors"}


@checkout_only
def test_scripts_of_skills_stay_executable(wheel: zipfile.ZipFile) -> None:
    (info,) = [item for item in wheel.infolist() if item.filename.endswith("skills/log-analyzer/scripts/analyze.py")]
    assert (info.external_attr >> 16) & 0o111 == 0o111


@checkout_only
def test_the_wheel_names_its_programs_licence_and_python(wheel: zipfile.ZipFile) -> None:
    content = {
        name.rpartition(".dist-info/")[2]: wheel.read(name) for name in wheel.namelist() if ".dist-info/" in name
    }
    metadata = message_from_bytes(content["METADATA"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "licenses/LICENSE" in content
    programs = content["entry_points.txt"].decode()
    assert "skilld = skilld.__main__:main" in programs
    assert "skillctl = skilld.cli:main" in programs
    assert "skilld-broker = skilld.broker.__main__:main" in programs


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the monitoring client."""
    target = tmp_path_factory.mktemp("client")
    folder = str(ROOT / "daemon/skilld_monitor")
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", "--wheel", "--outdir", str(target), folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=target)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("skilld_monitor-*.whl")
    return path


@checkout_only
def test_the_monitoring_client_is_a_wheel_of_its_own_that_needs_nothing(client_wheel: Path) -> None:
    with zipfile.ZipFile(client_wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
        (metadata,) = [opened.read(name) for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
    assert names == {
        f"skilld_monitor/{name}" for name in source_files("daemon/skilld_monitor") - OF_ANOTHER_WHEEL | {"LICENSE"}
    }
    found = message_from_bytes(metadata)
    assert (found["Name"], found["Requires-Python"], found["Requires-Dist"]) == ("skilld-monitor", ">=3.9", None)


@checkout_only
def test_a_program_with_the_wheel_of_the_client_alone_is_watched(client_wheel: Path, tmp_path: Path) -> None:
    """A wheel can be imported from as it is."""
    program = (
        "import sys, skilld_monitor\n"
        f"assert skilld_monitor.__file__.startswith({str(client_wheel)!r})\n"
        "made = skilld_monitor.enable_monitoring('alone')\n"
        "skilld_monitor.log_event('x')\n"
        "print(made.disable().spooled, 'skilld' in sys.modules)\n"
    )
    env = {"PYTHONPATH": str(client_wheel), "HOME": str(tmp_path), "SKILLD_MONITOR_SOCKET": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("3 False\n", "")


@checkout_only
def test_the_lock_pins_everything_with_hashes_and_names_no_host() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(pins) > 30
    assert [line for line in pins if "==" not in line or not line.endswith("\\")] == []
    assert [line for line in lines if "://" in line or "--index" in line or "--find" in line] == []


@installed_only
def test_the_installation_holds_the_data_folders() -> None:
    share = Path(sys.prefix) / "share" / "skilld"
    for path in (
        "skills/echo/SKILL.md",
        "skills/log-analyzer/scripts/analyze.py",
        "etc/skilld.toml",
        "systemd/skilld.service",
    ):
        assert (share / path).is_file(), path


@installed_only
def test_the_packages_come_from_the_installation() -> None:
    import skill_actors
    import skilld

    for module in (skilld, skill_actors):
        assert Path(str(module.__file__)).is_relative_to(sys.prefix)


@installed_only
def test_the_programs_are_installed() -> None:
    scripts = {entry.name: entry.value for entry in entry_points(group="console_scripts")}
    assert scripts.keys() >= {"skilld", "skillctl"}
    assert version("skilld")
    assert files("skilld")
    for program in ("skilld", "skillctl"):
        command = [str(Path(sys.prefix) / "bin" / program), "--help"]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
