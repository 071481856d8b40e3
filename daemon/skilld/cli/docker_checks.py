"""What `docker check` looks at: the engine, what it enforces, the image, and a container seen from inside.

`doctor` looks at the image too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from skilld.cli.check import Check

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = [
    "check_container",
    "check_docker",
    "check_image",
    "judge_engine",
    "judge_probe",
    "judge_programs",
    "judge_runtime",
    "judge_version",
    "probe_options",
]

_MIN_VERSION: Final = (20, 10)
_MIN_PODMAN: Final = (4, 0)
_MIN_PYTHON: Final = (3, 11)  # of the runner in the container
_MIB: Final = 1 << 20
_MEMORY_BYTES: Final = 64 * _MIB
_PIDS: Final = 32
_FILES: Final = 256
_FILTERED: Final = 2  # what /proc says of a process whose system calls are filtered
_ON_HOST_KERNEL: Final = frozenset({"runc", "crun", "io.containerd.runc.v2"})
_PROBE_S: Final = 30.0
_NOT_ENFORCED: Final = "boot with this control group on (docker info says which are missing), or use another host"

# The limits that `GET /info` tells of, and what a container could do without them.
_LIMITS: Final[Mapping[str, str]] = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "CpuCfsQuota": "cpu",
    "PidsLimit": "processes",
}
_DRIVERS: Final = frozenset({"overlay2", "overlay", "overlayfs", "fuse-overlayfs", "btrfs", "zfs"})

# Runs in the container, and says what holds there. Its root is the way in, so it tries what must fail.
_PROBE: Final = """
import ctypes, json, os, resource, shutil, sys
status = {name: value.strip() for name, _, value in (line.partition(":") for line in open("/proc/self/status"))}
def denied(path):
    try:
        open(path, "w").close()
    except OSError:
        return True
    os.unlink(path)
    return False
def limit(*paths):
    for path in paths:
        try:
            return open("/sys/fs/cgroup/" + path).read().strip()
        except OSError:
            pass
    return None
print(json.dumps({
    "capabilities": status["CapEff"],
    "no_new_privileges": status.get("NoNewPrivs"),
    "seccomp": status.get("Seccomp"),
    "root_read_only": denied("/usr/probe"),
    "routes": len(open("/proc/net/route").readlines()) - 1,
    "mount_denied": ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None) != 0,
    "memory": limit("memory.max", "memory/memory.limit_in_bytes"),
    "pids": limit("pids.max", "pids/pids.max"),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    "first_process": open("/proc/1/comm").read().strip(),
    "python": sys.version_info[:2],
    "bash": shutil.which("bash") is not None,
}))
"""


def check_docker(address: str, environ: Mapping[str, str], image: str, runtime: str | None) -> Iterator[Check]:
    """Look at everything. Where no engine answers that is the only finding. Starts one container, for a moment."""
    from skill_actors.backends import BackendUnavailable
    from skill_actors.backends.docker_image import connect

    try:
        client = connect(address, environ, timeout_s=_PROBE_S)
    except BackendUnavailable as error:
        what, _, remedy = str(error).partition(": ")
        yield Check(name="engine", level="fail", message=what, remedy=remedy)
        return
    try:
        yield from _check_engine(client, address, image, runtime)
    finally:
        client.close()


def _check_engine(client: DockerClient, address: str, image: str, runtime: str | None) -> Iterator[Check]:
    try:
        info, version = client.info(), client.version()
    except Exception as error:  # whatever it is: an answer may not be as the SDK thinks
        remedy = "look into the engine's log"
        yield Check(name="engine", level="fail", message=f"{address}: {_words(error)}", remedy=remedy)
        return
    yield judge_version(version, address)
    yield from judge_engine(info)
    chosen = judge_runtime(info, runtime)
    yield chosen
    found = check_image(client, image)
    yield found
    if found.level != "fail" and chosen.level != "fail":
        yield from check_container(client, image, runtime)


def _words(error: Exception) -> str:
    """Those of the SDK and the connection are made to be read; of others the kind is needed too."""
    from docker.errors import DockerException

    return str(error) if isinstance(error, DockerException | OSError) else repr(error)


def judge_version(version: Mapping[str, Any], address: str) -> Check:
    """Whether it is new enough, by its own account."""
    names = {str(part.get("Name")) for part in version.get("Components") or ()}
    kind = "Podman" if any("Podman" in name for name in names) else "Docker"
    text = str(version.get("Version", "?"))
    message = f"{kind} {text} (API {version.get('ApiVersion', '?')}) at {address}"
    least = _MIN_PODMAN if kind == "Podman" else _MIN_VERSION
    if _numbers(text) >= least:
        return Check(name="engine", level="ok", message=message)
    wanted = ".".join(map(str, least))
    return Check(name="engine", level="fail", message=message, remedy=f"install {kind} {wanted} or newer")


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers: 20.10.24+dfsg1 is (20, 10)."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def judge_engine(info: Mapping[str, Any]) -> Iterator[Check]:
    """Control groups, seccomp, user namespaces and storage, as `GET /info` has them."""
    groups = f"version {info.get('CgroupVersion', '1')}, driver {info.get('CgroupDriver', '?')}"
    missing = [what for key, what in _LIMITS.items() if not info.get(key)]
    if missing:
        message = f"{groups}; not limited: {', '.join(missing)}"
        yield Check(name="cgroup", level="fail", message=message, remedy=_NOT_ENFORCED)
    else:
        yield Check(name="cgroup", level="ok", message=f"{groups}; limits {', '.join(_LIMITS.values())}")

    options = [_option(text) for text in info.get("SecurityOptions") or ()]
    yield _judge_seccomp(options)
    yield _judge_users(options)

    driver = str(info.get("Driver", "?"))
    if driver in _DRIVERS:
        yield Check(name="storage", level="ok", message=driver)
    else:
        remedy = "keep the engine's data on ext4 or xfs, and use overlay2"
        message = f"{driver}: every container begins with a copy of the image"
        yield Check(name="storage", level="warn", message=message, remedy=remedy)


def _option(text: str) -> dict[str, str]:
    """name=seccomp,profile=default, or what older engines say: seccomp."""
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    return pairs if "name" in pairs else {"name": text}


def _judge_seccomp(options: list[dict[str, str]]) -> Check:
    found = next((option for option in options if option["name"] == "seccomp"), None)
    remedy = "start the engine without --seccomp-profile=unconfined, on a kernel with CONFIG_SECCOMP_FILTER"
    if found is None:
        return Check(name="seccomp", level="fail", message="off: every system call is allowed", remedy=remedy)
    profile = found.get("profile", "default")
    if profile == "unconfined":
        return Check(name="seccomp", level="fail", message="unconfined: every system call is allowed", remedy=remedy)
    return Check(name="seccomp", level="ok", message=f"profile {profile}")


def _judge_users(options: list[dict[str, str]]) -> Check:
    names = {option["name"] for option in options}
    if "rootless" in names:
        return Check(name="users", level="ok", message="rootless: the engine itself is not root")
    if "userns" in names:
        return Check(name="users", level="ok", message="root of a container is nobody on the host")
    return Check(
        name="users",
        level="warn",
        message="root of a container is root for the kernel, though without its capabilities",
        remedy='put "userns-remap": "default" into /etc/docker/daemon.json and restart the engine; run Podman rootless',
    )


def judge_runtime(info: Mapping[str, Any], wanted: str | None) -> Check:
    """What starts the containers; `wanted`, where named, must be among what the engine has."""
    known = sorted(info.get("Runtimes") or ())
    default = str(info.get("DefaultRuntime", "?"))
    message = f"{wanted or default}, of {', '.join(known) or default}"
    if wanted is None or wanted in known:
        return Check(name="runtime", level="ok", message=message)
    remedy = f'add "runtimes": {{"{wanted}": {{"path": ...}}}} to /etc/docker/daemon.json, and restart the engine'
    return Check(name="runtime", level="fail", message=f"{wanted} is not among {', '.join(known)}", remedy=remedy)


def check_image(client: DockerClient, image: str, *, pulled: bool = False) -> Check:
    """Whether the engine has it. It is not looked for elsewhere; where the daemon pulls it, it may be missing."""
    from docker.errors import ImageNotFound

    from skill_actors.backends.docker_image import FULL_IMAGE, SLIM_IMAGE
    from skill_actors.backends.docker_image.engine import declared_volumes

    build = {FULL_IMAGE: "skillctl docker build", SLIM_IMAGE: "skillctl docker build --slim"}
    try:
        found = client.images.get(image)
        size_mib, volumes = int(found.attrs["Size"]) // _MIB, ", ".join(declared_volumes(found))
    except ImageNotFound:
        if pulled:
            return Check(name="image", level="ok", message=f"{image} is not there, and is pulled when it is needed")
        # An id or a digest is nothing that an image can be given.
        made = f"skillctl docker build --tag {image}, docker pull {image}" if "sha256:" not in image else ""
        remedy = ", or ".join(filter(None, [build.get(image, made), "set backends.docker.image or pull"]))
        return Check(name="image", level="fail", message=f"{image} is not there", remedy=remedy)
    except Exception as error:  # whatever it is: an answer may not be as the SDK thinks
        remedy = "correct backends.docker.image, or look into the engine's log"
        return Check(name="image", level="fail", message=f"{image}: {_words(error)}", remedy=remedy)
    if volumes:
        message = f"{image} declares volumes ({volumes}), which calls could fill the disk of the engine with"
        return Check(name="image", level="fail", message=message, remedy="make one without VOLUME")
    made = str(found.attrs.get("Created", ""))[:10]
    return Check(name="image", level="ok", message=f"{image}, {size_mib} MiB, of {made}")


def probe_options(runtime: str | None) -> dict[str, Any]:
    """A container with nothing to spare: what is asked for here must be seen inside."""
    from docker.types import LogConfig, Ulimit

    return {
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=1m"},
        "pids_limit": _PIDS,
        "mem_limit": _MEMORY_BYTES,
        "memswap_limit": _MEMORY_BYTES,
        "nano_cpus": 1_000_000_000,
        "ulimits": [Ulimit(name="nofile", soft=_FILES, hard=_FILES)],
        "init": True,
        "log_config": LogConfig(type="json-file", config={"max-size": "64k"}),
        "runtime": runtime,
        "labels": {"skilld.probe": "check"},
    }


def check_container(client: DockerClient, image: str, runtime: str | None) -> Iterator[Check]:
    """Start one container, and see from inside whether it is closed."""
    container: Any = None
    try:
        container = client.containers.create(image, ["python3", "-c", _PROBE], **probe_options(runtime))
        container.start()
        code = int(container.wait(timeout=_PROBE_S)["StatusCode"])
        said = container.logs(stdout=True, stderr=True).decode(errors="replace").strip()
    except Exception as error:  # as above
        remedy = "the engine's log has the reason; 'docker run' with the same image should show it too"
        why = getattr(error, "explanation", None) or _words(error)
        yield Check(name="container", level="fail", message=f"none could be run: {why}", remedy=remedy)
        return
    finally:
        if container is not None:
            _remove(container)
    try:
        seen = json.loads(said) if code == 0 else None
    except ValueError:
        seen = None
    if not isinstance(seen, dict):
        message = f"python3 in {image} ended with {code}: {said[-200:]}"
        yield Check(name="container", level="fail", message=message, remedy="use an image that has python3")
        return
    yield judge_programs(seen, image)
    yield judge_probe(seen, runtime)


def _remove(container: Any) -> None:
    import contextlib

    from docker.errors import DockerException

    with contextlib.suppress(DockerException, OSError):
        container.remove(force=True)


def judge_programs(seen: Mapping[str, Any], image: str) -> Check:
    """Whether the image has what runs tools."""
    version = ".".join(map(str, seen["python"]))
    if tuple(seen["python"]) < _MIN_PYTHON or not seen["bash"]:
        message = f"{image} has python3 {version} and {'bash' if seen['bash'] else 'no bash'}"
        return Check(name="programs", level="fail", message=message, remedy="use an image with python3.11 and bash")
    return Check(name="programs", level="ok", message=f"python3 {version}, bash")


def judge_probe(seen: Mapping[str, Any], runtime: str | None = None) -> Check:
    """What a probe saw, against what was asked for. A runtime with a kernel of its own may not show all of it."""
    own_kernel = runtime is not None and runtime not in _ON_HOST_KERNEL
    holds: dict[str, bool | None] = {
        "no capability": int(str(seen["capabilities"]), 16) == 0,
        "no new privileges": _same(seen["no_new_privileges"], 1),
        "seccomp": None if own_kernel else _same(seen["seccomp"], _FILTERED),
        "root read-only": seen["root_read_only"] is True,
        "no network": seen["routes"] == 0,
        "mount refused": seen["mount_denied"] is True,
        "memory limit": _same(seen["memory"], _MEMORY_BYTES),
        "process limit": _same(seen["pids"], _PIDS),
        "file limit": seen["files"] == _FILES,
        "init": "python" not in str(seen["first_process"]),
    }
    broken = [name for name, kept in holds.items() if kept is False]
    unseen = [name for name, kept in holds.items() if kept is None]
    if broken:
        message = f"asked for, and not so inside: {', '.join(broken)}"
        remedy = "do not run code you do not trust with this engine and runtime"
        return Check(name="container", level="fail", message=message, remedy=remedy)
    message = f"seen from inside: {', '.join(name for name, kept in holds.items() if kept)}"
    if unseen:
        message += f"; not shown there: {', '.join(unseen)}"
        remedy = "look from outside: docker inspect, and the control groups of the host"
        return Check(name="container", level="warn", message=message, remedy=remedy)
    return Check(name="container", level="ok", message=message)


def _same(shown: object, asked: int) -> bool | None:
    return None if shown is None else shown == str(asked)
