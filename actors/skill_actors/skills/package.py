"""`.skill` packages: zip files that hold one skill. Bytes in, a folder out, or a reason why not.

Everything is judged before anything is written, and against the bytes in memory, so that the file on disk may change
meanwhile. Taken are regular files and folders, stored or deflated, below one folder or beside a SKILL.md. A package
with anything else (a link, a device, a path that leads out, a name twice or in two spellings, a password) is refused
as a whole: what is odd about one entry says enough about the others.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from skill_actors.skills.ignored import is_ignored
from skill_actors.skills.inventory import is_skill_file

__all__ = ["PACKAGE_SUFFIX", "PackageError", "PackageLimits", "unpack"]

PACKAGE_SUFFIX: Final = ".skill"

_END: Final = struct.Struct("<4s4H2LH")  # the record at the end of a zip file
_END_MARK: Final = b"PK\5\6"
_ZIP64_LOCATOR_BYTES: Final = 20
_ZIP64_MARK: Final = b"PK\6\7"
_DIRECTORY_BYTES_PER_FILE: Final = 1_024
_SMALL_BYTES: Final = 1 << 20  # below it no ratio is too good to be true
_CHUNK_BYTES: Final = 256 * 1024
_SECRET: Final = 0x1 | 0x40  # flags of an entry: encrypted, strongly encrypted
_UTF8: Final = 0x800
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ODD_NAME: Final = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]|^/|^[A-Za-z]:")
_APPLE: Final = "__MACOSX"
_DAMAGES: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    OverflowError,
    struct.error,
)


class PackageError(Exception):
    """The package cannot be taken; `code` is stable."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageLimits:
    """What one package may hold. The largest real skills have 1,104 files and 15 MB; text shrinks about tenfold."""

    max_package_bytes: int = 32 * 1024 * 1024
    max_files: int = 5_000
    max_depth: int = 16
    max_total_bytes: int = 256 * 1024 * 1024
    max_path_bytes: int = 1_000
    max_ratio: int = 100


@dataclass(frozen=True, slots=True)
class _Member:
    path: PurePosixPath
    info: zipfile.ZipInfo


def unpack(raw: bytes, target: Path, *, stem: str = "skill", limits: PackageLimits | None = None) -> Path:
    """Write the skill that a package holds below `target`, a folder that exists; the skill's own folder. Blocks.

    Args:
        raw: the whole package.
        target: where the folder goes. After an error it may hold a part: unpack into a folder that can be thrown away.
        stem: names the skill's folder where the package names none.
        limits: what the package may hold.

    Raises:
        PackageError: if the package is damaged, too large or holds what no skill needs.
        OSError: if `target` cannot be written.

    """
    limits = limits or PackageLimits()
    _check_end(raw, limits)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = list(_members(archive.infolist(), limits))
            _check_sizes(members, len(raw), limits)
            top, members = _placed(members, stem)
            for member in members:
                _write(archive, member, target)
    except _DAMAGES as error:
        message = f"the package is damaged: {str(error) or type(error).__name__}"
        raise PackageError("package_damaged", message, "Make it again.") from error
    return target / top


def _check_end(raw: bytes, limits: PackageLimits) -> None:
    """Bound the directory before zipfile reads it whole. Zip files with a comment or of the 64 bit form are not taken.

    Then zipfile can find no other end than the one that is checked here.
    """
    if len(raw) > limits.max_package_bytes:
        raise _too_large(f"the package is larger than {limits.max_package_bytes} bytes")
    end = raw[-_END.size :]
    locator = raw[-_END.size - _ZIP64_LOCATOR_BYTES :][:4]
    if len(end) < _END.size or end[:4] != _END_MARK or end[-2:] != b"\0\0" or locator == _ZIP64_MARK:
        raise PackageError("package_damaged", "this is no plain zip file, or it is cut short", "Make it again.")
    _, _, _, _, files, directory_bytes, _, _ = _END.unpack(end)
    if files > limits.max_files or directory_bytes > limits.max_files * _DIRECTORY_BYTES_PER_FILE:
        raise _too_large(f"the package holds more than {limits.max_files} entries")


def _members(infos: Sequence[zipfile.ZipInfo], limits: PackageLimits) -> Iterator[_Member]:
    """The files that count, each with a path that leads nowhere else."""
    if len(infos) > limits.max_files:
        raise _too_large(f"the package holds more than {limits.max_files} entries")
    seen: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    spellings: dict[str, str] = {}
    for info in infos:
        path = _path(info, limits)
        _check_kind(info, path)
        if path in seen:
            raise _unsafe(info, "occurs twice")
        _check_spelling(info, path, spellings, limits)
        if path.parts[0] == _APPLE or any(is_ignored(part) for part in path.parts):
            continue
        folders.update(path.parents)
        if info.is_dir():
            folders.add(path)
            continue
        seen.add(path)
        yield _Member(path, info)
    both = seen & folders
    if both:
        raise PackageError("package_unsafe", f"{str(min(both))!a} is both a file and a folder", "Make it again.")


def _path(info: zipfile.ZipInfo, limits: PackageLimits) -> PurePosixPath:
    name = info.orig_filename  # filename is cut at the first NUL
    if _ODD_NAME.search(name) or not (name.isascii() or info.flag_bits & _UTF8):
        raise _unsafe(info, "has a name that is absolute, not UTF-8, or holds control characters or backslashes")
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise _unsafe(info, "has a path that leads out of the package, or is not plain")
    if len(name.encode()) > limits.max_path_bytes or max(len(part.encode()) for part in parts) > 255:
        raise _unsafe(info, "has a path that is too long")
    if len(parts) > limits.max_depth:
        raise _too_large(f"the package has more than {limits.max_depth} levels of folders")
    return PurePosixPath(*parts)


def _check_spelling(
    info: zipfile.ZipInfo, path: PurePosixPath, spellings: dict[str, str], limits: PackageLimits
) -> None:
    """Two names that some file systems take for one would show different people different files."""
    folded = "/".join(map(_folded, path.parts))
    if len(folded.encode()) > limits.max_path_bytes:  # one letter may stand for eighteen
        raise _unsafe(info, "has a path that is too long")
    written = str(path)
    while written and folded not in spellings:
        spellings[folded] = written
        written, folded = written.rpartition("/")[0], folded.rpartition("/")[0]
    if written and spellings[folded] != written:
        raise _unsafe(info, f"and {spellings[folded][:200]!a} differ in case or spelling only")


def _folded(part: str) -> str:
    return unicodedata.normalize("NFKC", part).casefold().replace("/", "\0")  # some letters stand for a slash and more


def _check_kind(info: zipfile.ZipInfo, path: PurePosixPath) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    wanted = stat.S_IFDIR if info.is_dir() else stat.S_IFREG
    if kind not in (0, wanted):
        raise _unsafe(info, "is a link, a device or something else that is neither file nor folder")
    if info.flag_bits & _SECRET:
        raise _unsafe(info, "is encrypted")
    if info.compress_type not in _METHODS:
        raise _unsafe(info, "is compressed in a way other than deflate")
    if info.is_dir() and info.file_size:
        raise _unsafe(info, "is a folder with content")


def _check_sizes(members: Sequence[_Member], package_bytes: int, limits: PackageLimits) -> None:
    total = sum(member.info.file_size for member in members)
    if total > limits.max_total_bytes:
        raise _too_large(f"the package unpacks to more than {limits.max_total_bytes} bytes")
    if total > max(_SMALL_BYTES, limits.max_ratio * package_bytes):
        raise _too_large(f"the package unpacks to more than {limits.max_ratio} times its size")
    if sum(member.info.compress_size for member in members) > package_bytes:
        raise PackageError("package_unsafe", "entries of the package share their bytes", "Make it again.")


def _placed(members: list[_Member], stem: str) -> tuple[str, list[_Member]]:
    """The name of the skill's folder, and the members below it."""
    if any(len(member.path.parts) == 1 and is_skill_file(member.path.name) for member in members):
        top = stem if stem and not stem.startswith(".") and not _ODD_NAME.search(stem) and "/" not in stem else "skill"
        return top, [_Member(top / member.path, member.info) for member in members]
    tops = {member.path.parts[0] for member in members}
    skills = {member.path.parts[0] for member in members if is_skill_file("/".join(member.path.parts[1:]))}
    if len(tops) != 1 or tops != skills:
        message = "the package holds no SKILL.md beside which, or in a folder below which, everything else lies"
        raise PackageError("package_layout", message, "Pack one folder with a SKILL.md in it.")
    return tops.pop(), members


def _write(archive: zipfile.ZipFile, member: _Member, target: Path) -> None:
    place = target / member.path
    place.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with archive.open(member.info) as source, place.open("xb") as out:
        while chunk := source.read(_CHUNK_BYTES):
            size += len(chunk)
            out.write(chunk)
    if size != member.info.file_size:
        message = f"{member.path} has {size} bytes and not the {member.info.file_size} that were announced"
        raise PackageError("package_damaged", message, "Make it again.")
    place.chmod(0o755 if (member.info.external_attr >> 16) & 0o111 else 0o644)


def _too_large(message: str) -> PackageError:
    return PackageError("package_too_large", message, "Leave out what the skill does not need.")


def _unsafe(info: zipfile.ZipInfo, why: str) -> PackageError:
    return PackageError("package_unsafe", f"{info.orig_filename[:200]!a} {why}", "Pack plain files and folders only.")
