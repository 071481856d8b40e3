"""skillctl backup and restore: everything that a daemon keeps, as one file, and back."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import print_json

__all__ = ["backup_command", "restore_command"]

_SHOW_EVERY_S: Final = 0.2


@click.command("backup")
@click.argument("target", metavar="FILE|DIR", type=click.Path(path_type=Path))
@json_option()
@pass_app
def backup_command(app: App, target: Path, as_json: bool) -> int:
    """Save everything that the running daemon keeps: conversations, their files, copies of skills.

    The daemon goes on meanwhile. FILE appears only when it is whole and has been read back; of a folder, a file in it
    named after the time. Needs the role admin.

    \b
    Example:
      skillctl backup /var/backups/
    """
    from skill_actors.store.archive import ArchiveError, read_archive

    place = target / f"skilld-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.tar" if target.is_dir() else target
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    try:
        with _Progress("saved") as progress:
            _download(app, partial, progress.show)
        with _Progress("verified") as progress:
            manifest = read_archive(partial, progress=progress.show)
        os.replace(partial, place)
        _sync(place.parent)
    except OSError as error:
        raise Failure(f"{error.filename or place}: {error.strerror}") from error
    except ArchiveError as error:
        raise Failure(f"the backup is not whole and was thrown away: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    changed = [entry.path for entry in manifest.entries if entry.changed]
    facts = {
        "file": str(place),
        "bytes": place.stat().st_size,
        "files": sum(entry.type == "file" for entry in manifest.entries),
        "created": manifest.created,
        "version": manifest.version,
        "schema": manifest.schema,
        "changed": changed,
        "skipped": manifest.skipped,
        "damaged": manifest.damaged,
    }
    if as_json:
        print_json(facts)
        return EXIT.DONE
    print(f"{place}: {facts['files']} files, {_size(place.stat().st_size)}, verified")
    for path in changed:
        _warn(f"{path} was written to while it was copied")
    for path, why in manifest.skipped.items():
        _warn(f"{path} is not in it: {why}")
    for session in manifest.damaged:
        _warn(f"session {session} was damaged already")
    return EXIT.DONE


@click.command("restore")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--state-dir", type=click.Path(path_type=Path), metavar="DIR", required=True, help="Where to put it.")
@click.option("--force", is_flag=True, help="Move what is there into DIR/before-restore-TIME first.")
@json_option()
def restore_command(file: Path, state_dir: Path, force: bool, as_json: bool) -> int:
    """Put a backup into a state directory that no daemon uses. Everything is verified before anything is moved.

    Run by root, the files are given to the owner of DIR.

    \b
    Example:
      skillctl restore skilld-20260101T120000Z.tar --state-dir /var/lib/skilld
    """
    from skill_actors.sessions.events import utc_now
    from skill_actors.store import StoreError
    from skill_actors.store.archive import ArchiveError
    from skill_actors.store.restore import restore

    try:
        with _Progress("restored") as progress:
            done = restore(file, state_dir, force=force, now=utc_now(), progress=progress.show)
    except ArchiveError as error:
        raise Failure(f"{file} cannot be restored: {error}; nothing was changed") from error
    except StoreError as error:
        raise Failure(str(error)) from error
    except OSError as error:
        raise Failure(f"{error.filename or state_dir}: {error.strerror}") from error
    manifest = done.manifest
    facts = {
        "state_dir": str(state_dir),
        "files": sum(entry.type == "file" for entry in manifest.entries),
        "created": manifest.created,
        "version": manifest.version,
        "schema": manifest.schema,
        "aside": None if done.aside is None else str(done.aside),
        "left_out": list(done.left_out),
        "damaged": manifest.damaged,
    }
    if as_json:
        print_json(facts)
        return EXIT.DONE
    print(f"{state_dir}: {facts['files']} files restored, as they were at {manifest.created}")
    if done.aside is not None:
        print(f"what was there is in {done.aside}")
    for path in done.left_out:
        _warn(f"the link {path} was left out: it leads out of its conversation's files")
    return EXIT.DONE


def _download(app: App, partial: Path, progress: Callable[[int], object]) -> None:
    """Raises OSError, SkilldError."""
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as out, app.client() as client:
        size = 0
        for chunk in client.backup():
            out.write(chunk)
            size += len(chunk)
            progress(size)
        out.flush()
        os.fsync(out.fileno())


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _warn(text: str) -> None:
    from skilld.cli.output import Console

    Console().warn(f"skillctl: warning: {text}")


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


class _Progress:
    """One line on a terminal's stderr that grows with the work; nothing elsewhere."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._shown_at_s = time.monotonic()
        self._on = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, done_bytes: int) -> None:
        now_s = time.monotonic()
        if self._on and now_s - self._shown_at_s >= _SHOW_EVERY_S:
            self._shown_at_s = now_s
            print(f"\r\x1b[K{_size(done_bytes)} {self._verb}", end="", file=sys.stderr, flush=True)
