"""A machine whose first process is systemd, in a container, and skilld installed there as its users do it.

The root is made of Debian's packages once, and stays in the engine as an image. Commands run in the machine by nsenter:
what `docker exec` loses of its output under load would look like a failure of the daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conftest import require
from docker_kit import engine, has_image
from skill_actors.backends.docker_image import engine_address, import_root
from skill_actors.backends.docker_image.bootstrap import SUITE, apt_sources

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "localhost/skilld-systemd-test:1"
HOME = "/opt/skilld"

_PACKAGES = ("systemd", "libnss-systemd", "libpam-systemd", "python3", "python3-venv")
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
_MAKE_S = 300.0
_BOOT_S = 60.0
_RUN_S = 90.0
_UNUSED = {"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"}  # engines of Debian 12 do not know them
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)


class Machine:
    """A booted machine.

    Args:
        pid: its first process, as this host numbers it.

    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def run(
        self, *command: str, user: str | None = None, check: bool = True, timeout_s: float = _RUN_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, as root or as `user`; its output is text."""
        environment = ["env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        become = [] if user is None else ["runuser", "-u", user, "--"]
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--all", *environment, *become, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}\n{self.log()}")
        return done

    def path(self, path: str) -> Path:
        """A path of the machine, as this host reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *arguments, check=check)

    def show(self, name: str, unit: str = "skilld.service") -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit).stdout.strip()

    def skillctl(
        self, *arguments: str, user: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self.run(f"{HOME}/bin/skillctl", *arguments, user=user, check=check)

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """The journal's entries that match."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", "--all", *matches).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def log(self) -> str:
        """The last words of the service."""
        command = ["nsenter", f"--target={self.pid}", "--all", "journalctl", "-u", "skilld*", "-n", "40", "--no-pager"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout

    def until(self, condition: Callable[[], object], what: str, within_s: float = 60.0) -> None:
        """Look again and again: nothing outside the machine is told of what happens in it."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}\n{self.log()}"
            time.sleep(0.05)

    def settle(self) -> None:
        """The service as after its installation: no configuration of a test, no failure counted, running and ready."""
        self.systemctl("stop", "skilld.socket", "skilld.service")
        self.run("rm", "-rf", "/etc/systemd/system/skilld.service.d/90-test.conf", "/etc/credstore/anthropic_api_key")
        self.run("cp", "/root/installed.toml", "/etc/skilld/skilld.toml")
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed", "skilld.service", "skilld.socket")
        self.systemctl("start", "skilld.socket", "skilld.service")


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    """A machine that has just booted; it is gone afterwards."""
    for program in ("nsenter", "mmdebstrap"):
        require(shutil.which(program) is not None, f"{program} is not installed")
    require(os.geteuid() == 0, "only root enters the namespaces of a container")
    with engine() as client:
        _ensure_image(client)
        container = _start(client)
        try:
            pid = client.api.inspect_container(container)["State"]["Pid"]
            require(Path(f"/proc/{pid}/root").exists(), "the engine runs on another machine")
            booted = Machine(pid)
            booted.until(lambda: _is_up(booted), "the machine boots", _BOOT_S)
            yield booted
        finally:
            client.api.remove_container(container, force=True)


def _is_up(booted: Machine) -> bool:
    told = booted.run("systemctl", "is-system-running", check=False).stdout.strip()
    return told in ("running", "degraded")


def _ensure_image(client: Any) -> None:
    if has_image(client, IMAGE):
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        tar = Path(folder, "root.tar")
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(_PACKAGES)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
            SUITE,
            str(tar),
            *apt_sources(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MAKE_S, check=False)
        require(done.returncode == 0, f"mmdebstrap makes no root: {done.stderr[-800:]}")
        with tar.open("rb") as packed:
            import_root(client, packed, IMAGE, progress=len)


def _start(client: Any) -> str:
    """A container as systemd needs a machine, and without a network; its id."""
    # On version 1 systemd mounts the control groups itself: those that the engine mounts are read-only.
    tmpfs = {"/run": "exec,mode=755", "/run/lock": "", "/tmp": "exec"}
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        tmpfs["/sys/fs/cgroup"] = ""
    host = client.api.create_host_config(
        network_mode="none",
        cgroupns="private",
        cap_add=sorted(_capabilities()),
        binds=_engine_socket(),
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        tmpfs=tmpfs,
    )
    made = client.api.create_container(
        IMAGE,
        # Shared mounts, else credentials are an empty folder without any word of it.
        ["sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd --show-status=0"],
        name=f"skilld-systemd-{secrets.token_hex(4)}",
        environment={"container": "docker"},
        host_config={**host, "MaskedPaths": [], "ReadonlyPaths": []},
        stop_signal="SIGRTMIN+3",
    )
    client.api.start(made["Id"])
    return str(made["Id"])


def _engine_socket() -> list[str]:
    """For the broker: the engine's socket, where engines have it."""
    address = engine_address(os.environ)
    return [f"{address.removeprefix('unix://')}:/run/docker.sock"] if address.startswith("unix://") else []


def _capabilities() -> set[str]:
    """Those that a container may have here."""
    bounding = int(re.findall(r"^CapBnd:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)[0], 16)
    return {f"CAP_{name}" for bit, name in enumerate(_CAPABILITIES.split()) if bounding >> bit & 1} - _UNUSED


def install_wheel(target: Machine, wheels: Path) -> None:
    """A virtual environment at HOME, with skilld from the wheels and nothing else."""
    _copy_in(target, wheels, "/wheels")
    target.run("python3", "-m", "venv", HOME)
    target.run(f"{HOME}/bin/pip", "install", "--quiet", "--no-index", "--find-links=/wheels", "skilld")


def _copy_in(target: Machine, source: Path, name: str) -> None:
    shutil.copytree(source, target.path(name))


def make_wheels(folder: Path) -> Path:
    """The wheel of this checkout and, at the versions of the lock, of what it needs."""
    wheels = folder / "wheels"
    _tool("build", "--no-isolation", "--wheel", "--outdir", str(wheels), str(ROOT))
    pins = re.findall(r"^([A-Za-z0-9][^\s;]*==[^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    (folder / "constraints").write_text("\n".join(pins))
    (wheel,) = wheels.glob("skilld-*.whl")
    only = ["--only-binary=:all:", "--python-version=3.11"]
    _tool("pip", "--quiet", "download", *only, f"--constraint={folder}/constraints", f"--dest={wheels}", str(wheel))
    return wheels


def _tool(module: str, *arguments: str) -> None:
    command: Sequence[str] = [sys.executable, "-P", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_MAKE_S, cwd="/", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
