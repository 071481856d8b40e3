"""Folders as listings, and files as tar archives, between the daemon and a runner in a container.

The same code runs at both ends, with the standard library only. Files travel in bundles: tar archives of about
BUNDLE_BYTES; a file that is larger travels in parts, members whose SKILLD.offset and SKILLD.last
say where they belong.
Nothing here follows a link below `root`. `unpack` does not trust the archive: it makes regular files, folders and
links only, takes no more than was asked for, and puts a file in its place in one step. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = [
    "BUNDLE_BYTES",
    "CLOSED",
    "MAX_DEPTH",
    "Entry",
    "Piece",
    "digest",
    "is_below",
    "listing",
    "new_part",
    "pack",
    "part_of",
    "pieces",
    "remove",
    "unpack",
]

BUNDLE_BYTES: Final = 1 << 20
_BUNDLE_FILES: Final = 1_000
_OFFSET: Final = "SKILLD.offset"
_LAST: Final = "SKILLD.last"
CLOSED: Final = -1  # the size of a folder that cannot be listed
_PART: Final = re.compile(r"\.skilld-part-[0-9a-f]{24}")
MAX_DEPTH: Final = 256  # folders below this many are not looked into
_LATEST_S: Final = 1 << 40  # of a time; every file system holds less
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies at a path. `stamp` differs whenever a file may have changed; it means nothing elsewhere."""

    kind: str  # dir, file or link
    mode: int
    size: int  # CLOSED, where nothing is known of what is in a folder
    stamp: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file, or a whole entry."""

    path: str
    offset: int
    length: int
    last: bool = True


def listing(root: str, *, adopt_uid: int | None = None, sweep_before: float | None = None) -> dict[str, Entry]:
    """Everything below `root` that can be seen, by relative path; folders before what is in them.

    A folder that cannot be listed has the size CLOSED; `root` is among the entries, as "", only where that is so.
    What `adopt_uid`, which is the caller, owns is made accessible to its group, for those who come after it.
    Parts of files are left out: those that were last written before `sweep_before`, in seconds since 1970, will never
    become whole and are removed.
    """
    found: dict[str, Entry] = {}
    folders = [""]
    while folders:
        path = folders.pop()
        try:
            inside = _inside(root, path, adopt_uid, sweep_before)
        except FileNotFoundError:  # gone meanwhile
            found.pop(path, None)
        except OSError:  # another's, or too deep
            found[path] = replace(found.get(path, Entry("dir", 0, 0, ())), size=CLOSED)
        else:
            for name, entry in inside.items():
                inner = f"{path}/{name}" if path else name
                found[inner] = entry
                if entry.kind == "dir":
                    folders.append(inner)
    return found


def digest(found: Mapping[str, Entry]) -> str:
    """The same for the same listing."""
    whole = hashlib.blake2b(digest_size=16)
    for path in sorted(found):
        whole.update(f"{path}\0{found[path]!r}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def pieces(found: Mapping[str, Entry], wanted: Iterable[str]) -> Iterator[list[Piece]]:
    """The wanted entries in portions of one bundle each; of large files, parts in their order."""
    portion: list[Piece] = []
    room = BUNDLE_BYTES
    for path in wanted:
        size = found[path].size if found[path].kind == "file" else 0
        offset = 0
        while True:
            length = min(size - offset, room)
            portion.append(Piece(path, offset, length, offset + length >= size))
            offset += length
            room -= length
            if room <= 0 or len(portion) >= _BUNDLE_FILES:
                yield portion
                portion, room = [], BUNDLE_BYTES
            if offset >= size:
                break
    if portion:
        yield portion


def pack(root: str, wanted: Sequence[Piece]) -> bytes:
    """A tar archive of these pieces. What cannot be read is left out."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for piece in wanted:
            parts = piece.path.split("/")
            with contextlib.suppress(OSError), _parent(root, parts, make=False) as folder:
                _pack_one(archive, folder, parts[-1], piece)
    return target.getvalue()


def unpack(
    root: str,
    data: bytes,
    *,
    file_bits: int = 0o600,
    folder_bits: int = 0o700,
    wanted: Sequence[Piece] | None = None,
) -> dict[str, Entry]:
    """Put what an archive holds below `root`; what became of it, by path. Entries that make no sense are left out.

    `file_bits` and `folder_bits` are added to the modes. What is not `wanted`, if that is said, is left out as well.
    Raises OSError where the disk or a quota is full.
    """
    made: dict[str, Entry] = {}
    room = None if wanted is None else {(piece.path, piece.offset): piece for piece in wanted}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as archive:
            for member in archive:
                if member.size < 0:  # it would lead back to where the archive was read already
                    break
                parts = member.name.split("/")
                if not is_below(parts) or any(map(_PART.fullmatch, parts)) or not _is_wanted(member, room):
                    continue
                with _left_out_unless_full(), _parent(root, parts, make=True) as folder:
                    if _unpack_one(archive, member, folder, parts[-1], file_bits, folder_bits):
                        entry = _entry_at(folder, parts[-1])
                        if entry is not None:
                            made["/".join(parts)] = entry
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError):
        pass  # the rest of it is no archive: it counts as not delivered
    return made


def new_part() -> str:
    """A name for a file that is being written, and is to be left alone by `listing` until it has its own."""
    return f".skilld-part-{secrets.token_hex(12)}"


def part_of(path: str) -> str:
    """Where `unpack` keeps the parts of a large file until it is whole."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + _part(name)


def remove(root: str, paths: Iterable[str]) -> None:
    """Remove these entries, children before their folders; what is not there or not empty is left."""
    for path in sorted(paths, reverse=True):
        parts = path.split("/")
        if not is_below(parts):
            continue
        with contextlib.suppress(OSError), _parent(root, parts, make=False) as folder:
            _clear(folder, parts[-1])


# Inside


@contextlib.contextmanager
def _left_out_unless_full() -> Iterator[None]:
    try:
        yield
    except (ValueError, OverflowError):  # such as a time or a name the system does not know
        pass
    except OSError as error:
        if error.errno in _FULL:
            raise


def is_below(parts: Sequence[str]) -> bool:
    """Whether these parts of a path lead to something below where they begin."""
    return all(part not in ("", ".", "..") and "\0" not in part for part in parts)


def _is_wanted(member: tarfile.TarInfo, room: dict[tuple[str, int], Piece] | None) -> bool:
    """Whether it was asked for and is not larger; once."""
    if room is None:
        return True
    piece = room.pop((member.name, _offset(member)), None)
    return piece is not None and member.size <= piece.length and (piece.last or not _is_last(member))


def _offset(member: tarfile.TarInfo) -> int:
    at = member.pax_headers.get(_OFFSET, "0")
    return int(at) if at.isdecimal() and len(at) < 20 else -1


def _is_last(member: tarfile.TarInfo) -> bool:
    return member.pax_headers.get(_LAST) != "0"


def _part(name: str) -> str:
    return ".skilld-part-" + hashlib.blake2b(os.fsencode(name), digest_size=12).hexdigest()


def _inside(root: str, path: str, adopt_uid: int | None, sweep_before: float | None) -> dict[str, Entry]:
    """What one folder holds, by name. Raises OSError."""
    parts = path.split("/") if path else []
    if len(parts) > MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    found: dict[str, Entry] = {}
    with _parent(root, [*parts, "."], make=False) as folder:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            for name in sorted(os.listdir(fd)):
                with contextlib.suppress(OSError):
                    if _PART.fullmatch(name):
                        if sweep_before is not None:
                            _sweep(fd, name, sweep_before)
                        continue
                    entry = _entry(fd, name, adopt_uid)
                    if entry is not None:
                        found[name] = entry
        finally:
            os.close(fd)
    return found


def _sweep(folder: int, name: str, before: float) -> None:
    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < before:
        os.unlink(name, dir_fd=folder)


def _entry(folder: int, name: str, adopt_uid: int | None) -> Entry | None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if adopt_uid is not None and status.st_uid == adopt_uid and not stat.S_ISLNK(status.st_mode):
        mode = stat.S_IMODE(status.st_mode)
        shared = mode | (0o2070 if stat.S_ISDIR(status.st_mode) else 0o060)
        if mode != shared:
            os.chmod(name, shared, dir_fd=folder)
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return _described(status)


def _entry_at(folder: int, name: str) -> Entry | None:
    return _described(os.stat(name, dir_fd=folder, follow_symlinks=False))


def _described(status: os.stat_result) -> Entry | None:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return Entry("dir", mode & 0o777, 0, ())
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        kind = "file" if stat.S_ISREG(mode) else "link"
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        return Entry(kind, mode & 0o777, status.st_size, stamp)
    return None


def _pack_one(archive: tarfile.TarFile, folder: int, name: str, piece: Piece) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    member = tarfile.TarInfo(piece.path)
    member.mode = stat.S_IMODE(status.st_mode) & 0o777
    member.mtime = int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
        archive.addfile(member)
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), piece.length, piece.offset)
        if piece.offset or not piece.last:
            member.pax_headers = {_OFFSET: str(piece.offset), _LAST: str(int(piece.last))}
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


def _unpack_one(
    archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, name: str, file_bits: int, folder_bits: int
) -> bool:
    """False if the entry is not there yet."""
    if member.isdir():
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        _set_folder_mode(name, folder, member.mode & 0o777 | folder_bits)
        return True
    if member.issym():
        _clear(folder, name)
        os.symlink(member.linkname, name, dir_fd=folder)
        return True
    if not member.isreg() or member.issparse():  # a sparse one claims sizes that it does not have
        return False
    part = _part(name)
    try:
        whole = _unpack_part(archive, member, folder, part, file_bits)
        if whole:
            with contextlib.suppress(NotADirectoryError, FileNotFoundError):
                os.rmdir(name, dir_fd=folder)
            os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    return whole


def _unpack_part(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: int, part: str, file_bits: int) -> bool:
    """Add to the part of a file; whether it is whole now. Raises ValueError if this does not belong to its end."""
    offset = _offset(member)
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if not offset:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        flags |= os.O_CREAT | os.O_EXCL
    source = archive.extractfile(member)
    with open(os.open(part, flags, 0o600, dir_fd=folder), "wb", buffering=0) as file:
        if not offset:
            os.fchmod(file.fileno(), member.mode & 0o777 | file_bits)  # the rest may be written by another user
        if source is None or file.seek(0, os.SEEK_END) != offset:
            raise ValueError("what comes before it is missing")
        view = memoryview(source.read())
        while view:
            view = view[file.write(view) :]
        if _is_last(member):
            mtime = min(max(member.mtime, -_LATEST_S), _LATEST_S)
            with contextlib.suppress(PermissionError):
                os.utime(file.fileno(), (mtime, mtime))
        return _is_last(member)


def _set_folder_mode(name: str, folder: int, mode: int) -> None:
    inner = os.open(name, _FOLDER, dir_fd=folder)
    try:
        if stat.S_IMODE(os.fstat(inner).st_mode) != mode:
            with contextlib.suppress(PermissionError):  # another's: it stays as its owner wants it
                os.chmod(f"/proc/self/fd/{inner}", mode)
    finally:
        os.close(inner)


def _clear(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        pass


@contextlib.contextmanager
def _parent(root: str, parts: Sequence[str], *, make: bool) -> Iterator[int]:
    """A descriptor of the folder that holds the last of `parts`. Raises OSError, also where a link is on the way."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
