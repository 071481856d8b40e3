"""Many files at once: what a hosted turn made, into a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from skill_actors.backends.anthropic.client import HostedClient
from skill_actors.backends.anthropic.errors import HostedError
from skill_actors.backends.anthropic.files_api import MAX_DOWNLOAD_BYTES, DownloadedFile

__all__ = ["Downloads", "download_files"]

_MAX_TOTAL_BYTES: Final = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """What became of each file: those on disk, in the order asked for, and why others are not there."""

    files: tuple[DownloadedFile, ...] = ()
    failures: tuple[HostedError, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]


async def download_files(
    files: Iterable[object],
    folder: Path,
    *,
    client: HostedClient | None = None,
    max_bytes: int = MAX_DOWNLOAD_BYTES,
    max_total_bytes: int = _MAX_TOTAL_BYTES,
    overwrite: bool = False,
) -> Downloads:
    """Download files into a folder, one after the other; each has a name of its own there, also of two equal ones.

    Args:
        files: ids, or what `created_files` and the events of files say, which have a `file_id`.
        client: by default one that is made for this call, with the key of the environment.
        max_bytes: of one file.
        max_total_bytes: of all together; further ones are failures.
        overwrite: replace files of before; never those of this call.

    Raises:
        TypeError: if one of `files` is no file.

    """
    ids = list(dict.fromkeys(_id_of(file) for file in files))
    done: list[DownloadedFile] = []
    failures: list[HostedError] = []
    left_bytes = max_total_bytes
    async with AsyncExitStack() as stack:
        used = client if client is not None else await stack.enter_async_context(HostedClient())
        for id in ids:
            try:
                file = await used.files.download(
                    id,
                    folder,
                    max_bytes=max(0, min(max_bytes, left_bytes)),
                    overwrite=overwrite,
                    taken={each.path.name.casefold() for each in done},
                )
            except HostedError as error:
                failures.append(error)
                continue
            done.append(file)
            left_bytes -= file.size
    return Downloads(files=tuple(done), failures=tuple(failures))


def _id_of(file: object) -> str:
    id = file if isinstance(file, str) else getattr(file, "file_id", None)
    if isinstance(file, Mapping):
        id = file.get("file_id") or file.get("id")
    if not isinstance(id, str) or not id:
        raise TypeError(f"no file: {file!r:.200}")
    return id
