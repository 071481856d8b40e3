"""A backup as one file: a tar of regular files, and last of all `manifest.json`, which says what must be in it.

The manifest lists each file with size, mode and SHA-256, and the folders and symbolic links, which are no members of
the tar. A tar without its manifest is no backup, so one that was cut is never taken for a whole one. Nothing here
follows a symbolic link, and nothing is held in memory but the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

__all__ = [
    *("FORMAT", "MANIFEST", "NOT_KEPT", "ArchiveError", "Entry", "Manifest"),
    *("check_path", "read_archive", "write_archive"),
]

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
# What lies in a state directory and is no part of what it keeps. The journal is copied apart.
NOT_KEPT: Final = ("journal.db", "journal.db-*", "lock", "reserve", "backup-*", "restoring", "before-restore-*")

_CHUNK_BYTES: Final = 1 << 20
_MAX_MANIFEST_BYTES: Final = 256 << 20
_BLOCK_BYTES: Final = 512


class ArchiveError(Exception):
    """The file is no backup, is not whole, or holds what a backup never holds. The message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in a backup. `changed`: it was written to while it was copied."""

    path: str
    type: Literal["file", "folder", "link"]
    mode: int = 0
    size: int = 0
    sha256: str = ""
    target: str = ""
    changed: bool = False


@dataclass(kw_only=True)
class Manifest:
    """What a backup holds.

    Args:
        schema: version of the journal's schema.
        skipped: what could not be copied, with the reason.
        damaged: sessions that were damaged in the journal already.

    """

    format: int = FORMAT
    version: str
    schema: int
    created: str
    entries: list[Entry] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Raises ArchiveError."""
        try:
            value: dict[str, Any] = json.loads(text)
            if value["format"] > FORMAT:
                raise ArchiveError(f"the backup has format {value['format']}, this program knows up to {FORMAT}")
            entries = [Entry(**entry) for entry in value.pop("entries") if _check_types(**entry)]
            manifest = cls(**value, entries=entries)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArchiveError(f"its {MANIFEST} cannot be read: {error}") from error
        return manifest


def _check_types(
    path: Any, type: Any, mode: Any = 0, size: Any = 0, sha256: Any = "", target: Any = "", changed: Any = False
) -> bool:
    """Raises ValueError, ArchiveError."""
    texts, numbers = (path, sha256, target), (mode, size, changed)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"the entry {path!r} is malformed")
    if type not in ("file", "folder", "link"):
        raise ValueError(f"the entry {path!r} is of the unknown type {type!r}")
    check_path(path)
    return True


def check_path(name: str) -> None:
    """Refuse a path that leads anywhere but below the folder it is put into. Raises ArchiveError."""
    parts = PurePosixPath(name).parts
    if name in ("", ".") or name.startswith("/") or ".." in parts or "\0" in name or str(PurePosixPath(name)) != name:
        raise ArchiveError(f"it holds the path {name[:200]!r}, which no backup has")


# -- writing -----------------------------------------------------------------------------------------------------


def write_archive(state: Path, journal: Path, manifest: Manifest) -> Iterator[bytes]:
    """The archive's bytes, piece by piece. Blocks between them.

    Args:
        state: the state directory; NOT_KEPT is left out of it.
        journal: the copy that stands for `journal.db`.
        manifest: is filled while the archive is made.

    """
    with journal.open("rb", buffering=0) as file:
        yield from _file("journal.db", file.fileno(), manifest)
    for folder, folders, names, fd in os.fwalk(state, onerror=_note(manifest, state), follow_symlinks=False):
        base = PurePosixPath(os.path.relpath(folder, state))
        if base == PurePosixPath("."):
            folders[:] = [name for name in folders if _is_kept(name)]
            names = [name for name in names if _is_kept(name)]
        else:
            manifest.entries.append(Entry(path=str(base), type="folder", mode=stat.S_IMODE(os.fstat(fd).st_mode)))
        # fwalk lists links to folders among the folders, and does not enter them.
        for name in sorted([*names, *folders]):
            yield from _thing(str(base / name), name, fd, manifest)
    yield from _member(MANIFEST, manifest.to_json())
    yield bytes(2 * _BLOCK_BYTES)


def _is_kept(name: str) -> bool:
    return not any(PurePosixPath(name).match(pattern) for pattern in NOT_KEPT)


def _note(manifest: Manifest, state: Path) -> Callable[[OSError], None]:
    def note(error: OSError) -> None:
        manifest.skipped[os.path.relpath(error.filename or state, state)] = str(error.strerror)

    return note


def _thing(path: str, name: str, folder_fd: int, manifest: Manifest) -> Iterator[bytes]:
    try:
        mode = os.lstat(name, dir_fd=folder_fd).st_mode
        if stat.S_ISDIR(mode):
            return
        if stat.S_ISLNK(mode):
            target = os.readlink(name, dir_fd=folder_fd)
            manifest.entries.append(Entry(path=path, type="link", target=target))
            return
        if not stat.S_ISREG(mode):
            manifest.skipped[path] = "neither a file nor a folder"
            return
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    except FileNotFoundError:
        return  # removed since
    except OSError as error:
        manifest.skipped[path] = str(error.strerror)
        return
    try:
        yield from _file(path, fd, manifest)
    finally:
        os.close(fd)


def _file(path: str, fd: int, manifest: Manifest) -> Iterator[bytes]:
    """A member of the size that the file has now; what changes meanwhile is cut or filled up, and marked."""
    before = os.fstat(fd)
    yield _header(path, before.st_size, stat.S_IMODE(before.st_mode), before.st_mtime)
    hasher = hashlib.sha256()
    left = before.st_size
    while left:
        part = os.read(fd, min(left, _CHUNK_BYTES)) or bytes(min(left, _CHUNK_BYTES))
        left -= len(part)
        hasher.update(part)
        yield part
    after = os.fstat(fd)
    yield bytes(-before.st_size % _BLOCK_BYTES)
    manifest.entries.append(
        Entry(
            path=path,
            type="file",
            mode=stat.S_IMODE(before.st_mode),
            size=before.st_size,
            sha256=hasher.hexdigest(),
            changed=(after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns),
        )
    )


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data), 0o600, 0)
    yield data
    yield bytes(-len(data) % _BLOCK_BYTES)


def _header(name: str, size: int, mode: int, mtime: float) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, int(mtime)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


# -- reading -----------------------------------------------------------------------------------------------------

Sink = Callable[[str, Iterator[bytes]], None]


def read_archive(
    archive: Path, sink: Sink | None = None, progress: Callable[[int], object] = lambda _: None
) -> Manifest:
    """Read a backup to its end and compare everything with its manifest.

    Args:
        sink: takes each file's path and its bytes, which it must read to the end; without one they are only looked at.
        progress: called with the number of bytes of files read so far.

    Raises:
        ArchiveError: it is no backup, or not whole, or holds paths, links, devices or files that no backup holds. What
            the sink was given until then must be thrown away.
        OSError: it cannot be read.

    """
    seen: dict[str, tuple[int, str]] = {}
    text: bytes | None = None
    done_bytes = 0
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|", errorlevel=2) as tar:
            for member in tar:
                if text is not None:
                    raise ArchiveError(f"something follows its {MANIFEST}")
                _check_member(member, seen)
                file = tar.extractfile(member)
                assert file is not None  # it is a regular file
                if member.name == MANIFEST:
                    text = file.read(_MAX_MANIFEST_BYTES)
                    continue
                tee = _Tee(file.read, member.size)
                for_sink = tee.parts()
                if sink is None:
                    for part in for_sink:
                        done_bytes += len(part)
                        progress(done_bytes)
                else:
                    sink(member.name, for_sink)
                    done_bytes += member.size
                    progress(done_bytes)
                seen[member.name] = (tee.size, tee.sha256)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"it is no backup, or was cut: {error}") from error
    if text is None:
        raise ArchiveError(f"it is not whole: its {MANIFEST}, which comes last, is missing")
    manifest = Manifest.from_json(text)
    _compare(manifest, seen)
    return manifest


class _Tee:
    """Passes a member's bytes on, and hashes them."""

    def __init__(self, read: Callable[[int], bytes], size: int) -> None:
        self._read = read
        self._left = size
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hasher.hexdigest()

    def parts(self) -> Iterator[bytes]:
        while self._left:
            part = self._read(min(self._left, _CHUNK_BYTES))
            if not part:
                raise ArchiveError("it is no backup, or was cut: a file ends too early")
            self._left -= len(part)
            self.size += len(part)
            self._hasher.update(part)
            yield part


def _check_member(member: tarfile.TarInfo, seen: Mapping[str, object]) -> None:
    check_path(member.name)
    if not member.isreg() or member.issparse() or member.type == tarfile.CONTTYPE:
        raise ArchiveError(f"{member.name[:200]!r} is no regular file; a backup holds no others")
    if member.name in seen:
        raise ArchiveError(f"{member.name[:200]!r} occurs twice")


def _compare(manifest: Manifest, seen: Mapping[str, tuple[int, str]]) -> None:
    expected = {entry.path: (entry.size, entry.sha256) for entry in manifest.entries if entry.type == "file"}
    for path, found in seen.items():
        if path not in expected:
            raise ArchiveError(f"{path[:200]!r} is not in its {MANIFEST}")
        if expected[path] != found:
            raise ArchiveError(f"{path[:200]!r} does not have the checksum that its {MANIFEST} says")
    missing = next((path for path in expected if path not in seen), None)
    if missing is not None:
        raise ArchiveError(f"{missing[:200]!r} is missing")
    if "journal.db" not in seen:
        raise ArchiveError("it holds no journal")
