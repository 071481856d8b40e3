"""skillctl debug bundle: what somebody who helps wants to see, without anything that was said and without secrets."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.logs import journal_command
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import print_json
from skilld.client import SkilldError

__all__ = ["debug_command"]

_PACKAGES: Final = ("skilld", "anthropic", "docker", "h11", "httpx", "pydantic", "pykka", "trio", "watchfiles")
_LOG_LINES: Final = 2_000
_JOURNAL_S: Final = 20.0


@click.group("debug")
def debug_command() -> None:
    """Gather what is needed to find out what goes wrong.

    \b
    Example:
      skillctl debug bundle
    """


@debug_command.command("bundle")
@click.option("-o", "--output", "place", type=click.Path(path_type=Path), metavar="FILE", help="Where to write it.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Of this configuration.")
@json_option()
@pass_app
def bundle(app: App, place: Path | None, config_file: Path | None, as_json: bool) -> int:
    """Write a .tar.gz with the state of the daemon and of this host: look into it before you give it away.

    In it: versions, the configuration without credentials, what doctor finds, status, tree, backends, skills by name,
    metrics, the last lines of the service's log. Not in it: messages, answers, titles, files, keys. What cannot be had
    (the daemon does not answer, there is no journal) is named in it, and is no error.

    \b
    Example:
      skillctl debug bundle -o skilld-debug.tar.gz
    """
    target = place or Path(f"skilld-debug-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar.gz")
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(f"{target}: {error.strerror}; name another file with -o") from error
    names = []
    with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in _parts(app, config_file):
            data = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"skilld-debug/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(data))
            names.append(name)
    if as_json:
        print_json({"file": str(target), "bytes": target.stat().st_size, "parts": names})
    else:
        print(f"{target}: {', '.join(names)}")
    return EXIT.DONE


def _parts(app: App, config_file: Path | None) -> Iterator[tuple[str, str]]:
    gather: dict[str, Callable[[], Any]] = {
        "versions.json": _versions,
        "config.json": lambda: _config(config_file),
        "doctor.json": lambda: _doctor(app, config_file),
        "host.json": _host,
        **{f"{name}.json": _asked(app, ask) for name, ask in _ASKED.items()},
        "metrics.txt": _asked(app, lambda client: client.metrics()),
        "log.txt": _log,
    }
    for name, look in gather.items():
        try:
            found = look()
        except (SkilldError, Failure, OSError, ValueError, subprocess.SubprocessError) as error:
            found = {"not_available": _masked(str(error))}
        yield name, found if isinstance(found, str) else json.dumps(found, indent=2, default=str)


def _asked(app: App, ask: Callable[[Any], Any]) -> Callable[[], Any]:
    def look() -> Any:
        with app.client() as client:
            return ask(client)

    return look


def _skills(client: Any) -> Any:
    """Which there are and why others are not: names and codes, nothing of what they say."""
    found = client.skills()
    codes = [
        {"path": failure.get("path"), "codes": [each.get("code") for each in failure.get("diagnostics", ())]}
        for failure in found.get("failures", ())
    ]
    return {
        "skills": [{"name": item["name"], "digest": item.get("digest")} for item in found["items"]],
        "failures": codes,
    }


_ASKED: Final[dict[str, Callable[[Any], Any]]] = {
    "status": lambda client: client.status(),
    "tree": lambda client: client.tree(children=200),
    "backends": lambda client: client.backends(),
    "skills": _skills,
}


def _versions() -> Any:
    found = {name: version(name) for name in _PACKAGES}
    return {"python": sys.version, "platform": platform.platform(), "packages": found}


def _config(file: Path | None) -> Any:
    from skilld.cli.commands.config import load
    from skilld.config import origin_of

    path, config = load(file)
    shown = config.model_dump(mode="json")
    for secrets in shown["skills"]["secrets"].values():
        for name in secrets:
            secrets[name] = "(not shown)"
    for backend in shown["backends"].values():
        if isinstance(backend, dict) and backend.get("environment"):
            backend["environment"] = dict.fromkeys(backend["environment"], "(not shown)")
    shown["hooks"]["url"] = origin_of(shown["hooks"]["url"])
    monitor = shown["monitor"]
    monitor["alerts"]["url"] = origin_of(monitor["alerts"]["url"])
    for export in monitor["export"].values():
        export["endpoint"] = origin_of(export["endpoint"])
        export["headers"] = dict.fromkeys(export.get("headers", {}), "(not shown)")
    return {"file": str(path) if path else None, "config": json.loads(_masked(json.dumps(shown)))}


def _doctor(app: App, config_file: Path | None) -> Any:
    from skilld.cli.checks import check_all

    return [check.to_dict() for check in check_all(app.socket, config_file, os.environ)]


def _host() -> Any:
    usage = shutil.disk_usage("/")
    pressure = {name: Path(f"/proc/pressure/{name}") for name in ("cpu", "io", "memory")}
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "memory": Path("/proc/meminfo").read_text().splitlines()[:3],
        "root_free_bytes": usage.free,
        "pressure": {name: path.read_text() for name, path in pressure.items() if path.exists()},
        "cgroup": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
    }


def _log() -> str:
    """The last lines of the service's log; the daemon writes nothing there that was said."""
    if shutil.which("journalctl") is None:
        raise Failure("there is no journalctl")
    found = []
    for for_user in (False, True):
        command = [*journal_command(for_user=for_user, lines=_LOG_LINES), "--no-pager", "--output=short-iso"]
        done = subprocess.run(command, capture_output=True, timeout=_JOURNAL_S, check=False)
        found.append(done.stdout.decode("utf-8", "replace"))
    return _masked("\n".join(found))


def _masked(text: str) -> str:
    from skilld.config import mask

    return mask(text)
