"""The images that containers are made of: the slim one, and the one with the tools that documents need.

Nothing is pulled: `localhost/` in front of the names keeps every engine from looking for them in a stranger's registry.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from .bootstrap import SUITE, make_root

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["FULL_IMAGE", "LABEL", "SLIM_IMAGE", "BuildFailed", "BuiltImage", "build_full", "build_slim", "import_root"]

FULL_IMAGE: Final = "localhost/skilld-sandbox:full"
SLIM_IMAGE: Final = "localhost/skilld-sandbox:slim"
LABEL: Final = "skilld.image"

_ROOT_TIMEOUT_S: Final = 1800.0
_SILENCE_S: Final = 900.0  # of an engine that unpacks, or of a step that downloads
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_MAX_CA_BYTES: Final = 100_000  # it is a build's argument, and a process gets at most 128 KiB in one
_LAST_LINES: Final = 8
_LAYER: Final = re.compile(r"-{2,3}> ([0-9a-f]{11,12})")
_ENGINES_WORDS: Final = ("Step ", "STEP ", "--->", "Removing intermediate container ")

Progress = Callable[[str], object]


class BuildFailed(Exception):
    """The engine could not build or take the image. The message has its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image that the engine has now.

    Args:
        tag: the name it was given.
        id: sha256:..., what the name stands for until the next build.
        size_bytes: with all its layers.

    """

    tag: str
    id: str
    size_bytes: int


def build_slim(client: DockerClient, tag: str, *, sources: Sequence[str], progress: Progress) -> BuiltImage:
    """Make the slim image of Debian's packages, and name it `tag`. Blocks, for about half a minute.

    Raises:
        BackendUnavailable: what makes a root filesystem is not installed here.
        BootstrapFailed: it failed.
        BuildFailed: the engine did not take it.

    """
    with tempfile.TemporaryDirectory(prefix="skilld-image-") as folder:
        tar = Path(folder) / "root.tar"
        make_root(tar, sources, timeout_s=_ROOT_TIMEOUT_S, progress=progress)
        with tar.open("rb") as opened:
            return import_root(client, opened, tag, progress=progress)


def import_root(client: DockerClient, tar: IO[bytes], tag: str, *, progress: Progress) -> BuiltImage:
    """Give the engine a root filesystem as the image `tag`. What had the name before is removed, if nothing uses it.

    Raises:
        BuildFailed: it is no tar, the name is none, or the engine has no room.

    """
    progress("giving it to the engine")
    changes = [
        "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV LANG=C.UTF-8",  # each for itself: Podman takes a line for one variable
        "ENV PYTHONUNBUFFERED=1",
        "WORKDIR /workspace",
        f"LABEL {LABEL}=slim",
        f"LABEL {LABEL}.suite={SUITE}",
    ]
    repository, version = _split(tag)
    before = _find(client, tag)
    with _engine_errors(f"the engine did not take {tag}"):
        client.api.timeout = _SILENCE_S
        # Without a name: Podman takes only half of it here.
        answer = json.loads(client.api.import_image(tar, changes=changes))
        client.api.tag(answer["status"], repository, version, force=True)
    return _built(client, tag, before)


def build_full(
    client: DockerClient,
    tag: str,
    *,
    base: str = SLIM_IMAGE,
    with_pypi: bool = True,
    ca: str = "",
    environ: Mapping[str, str],
    progress: Progress,
    dockerfile: bytes | None = None,
) -> BuiltImage:
    """Build the image of the Dockerfile beside this module on `base`, and name it `tag`. Blocks, for minutes.

    Args:
        with_pypi: with the libraries that Debian has not; without them only Debian's mirror has to be in reach.
        ca: certificates, as PEM, that the image trusts as well; the build needs them behind a proxy that has its own.
        environ: whose proxies the build uses.
        dockerfile: another one, which takes the arguments BASE and PYPI too.

    Raises:
        BuildFailed: a step failed; the message has its last lines.

    """
    from docker.errors import DockerException

    if len(ca.encode()) > _MAX_CA_BYTES:
        raise BuildFailed(
            f"the certificates are {len(ca.encode())} bytes, and {_MAX_CA_BYTES} is the most: leave out Debian's own"
        )
    before = _find(client, tag)
    proxies = {name: environ[name] for name in _PROXIES if environ.get(name)}
    last: list[str] = []
    layers: list[str] = []
    with _engine_errors(f"{tag} could not be built"), _removed_on_failure(client, layers, _find(client, base)):
        steps = client.api.build(
            fileobj=_context(dockerfile or files(__package__).joinpath("Dockerfile").read_bytes()),
            custom_context=True,
            tag=tag,
            rm=True,
            forcerm=True,
            nocache=True,  # Debian's updates are what it is built again for
            decode=True,
            timeout=_SILENCE_S,
            labels={LABEL: "full"},
            buildargs={"BASE": base, "PYPI": "yes" if with_pypi else "no", "CA": ca, **proxies},
            network_mode=None if client.networks.list(names=["bridge"]) else "host",
        )
        for step in steps:
            if "error" in step:
                said = "; ".join(last)
                raise DockerException(f"{str(step['error']).strip()}{f' ({said})' if said else ''}")
            for line in str(step.get("stream", "")).splitlines():
                if line.strip():
                    progress(line.strip())
                    if made := _LAYER.fullmatch(line.strip()):
                        layers.append(made[1])
                    elif not line.lstrip().startswith(_ENGINES_WORDS):
                        last = [*last[1 - _LAST_LINES :], line.strip()]
    return _built(client, tag, before)


def _context(dockerfile: bytes) -> IO[bytes]:
    """What the engine gets to build from: the Dockerfile, nothing of this host."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile))
    packed.seek(0)
    return packed


@contextlib.contextmanager
def _removed_on_failure(client: DockerClient, layers: Sequence[str], base: str | None) -> Iterator[None]:
    """What a build has made by the time that it fails has no name, and nobody would ever remove it."""
    from docker.errors import DockerException

    try:
        yield
    except BaseException:
        for layer in reversed(layers):
            with contextlib.suppress(DockerException, OSError):
                image = client.images.get(layer)
                if not image.tags and image.id != base:
                    client.images.remove(image.id, noprune=True)
        raise


def _split(tag: str) -> tuple[str, str]:
    """The repository and the version of an image's name; a colon may belong to a port."""
    repository, colon, version = tag.rpartition(":")
    return (repository, version) if colon and "/" not in version else (tag, "latest")


def _find(client: DockerClient, tag: str) -> str | None:
    from docker.errors import ImageNotFound

    with _engine_errors(f"the engine cannot look for {tag}"):
        try:
            return str(client.images.get(tag).id)
        except ImageNotFound:
            return None


def _built(client: DockerClient, tag: str, before: str | None) -> BuiltImage:
    from docker.errors import DockerException

    with _engine_errors(f"{tag} is not there"):
        image: Any = client.images.get(tag)
    if before not in (None, image.id):
        # It stays where a container or another image needs it (then the engine refuses), or somebody named it too.
        with contextlib.suppress(DockerException):
            if not client.images.get(before).tags:
                client.images.remove(before)
    return BuiltImage(tag=tag, id=image.id, size_bytes=int(image.attrs["Size"]))


@contextlib.contextmanager
def _engine_errors(what: str) -> Iterator[None]:
    """What the SDK raises, and the connection below it, as BuildFailed."""
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, OSError, ValueError, LookupError) as error:
        # Of a refusal the engine's own words; the SDK puts the whole request in front of them.
        raise BuildFailed(f"{what}: {getattr(error, 'explanation', None) or error}") from error
