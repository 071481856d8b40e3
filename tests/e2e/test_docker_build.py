"""skillctl docker build as its users run it: from the checkout, and from the installed wheel."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docker_kit import engine
from skill_actors.backends.docker_image import import_root

pytestmark = pytest.mark.e2e


@pytest.fixture
def client() -> Iterator[Any]:
    with engine() as found:
        yield found


@pytest.fixture
def name(client: Any) -> Iterator[str]:
    """An image's name that nobody else has; the image goes with the test."""
    made = f"localhost/skilld-test:{secrets.token_hex(6)}"
    yield made
    for image in client.images.list(filters={"reference": made}):
        client.images.remove(image.id, force=True)


def build(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skilld.cli", "docker", "build", *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environ}, check=False
    )


def test_build_prints_progress_beside_the_result(client: Any, name: str, tmp_path: Path) -> None:
    """With a stand-in for the tool that downloads."""
    tool = tmp_path / "mmdebstrap"
    tool.write_text(
        "#!/bin/sh\n"
        'echo "I: downloading" >&2\n'
        'for part; do case $part in *.tar) tar -cf "$part" -C "$(dirname "$0")" mmdebstrap;; esac; done\n'
    )
    tool.chmod(0o755)
    done = build("--slim", "--tag", name, "--json", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["tag"], told["id"]) == (name, client.images.get(name).id)
    assert told.keys() == {"tag", "id", "size_bytes", "duration_s"}
    assert "I: downloading" in done.stderr.splitlines()


def test_the_dockerfile_is_part_of_the_installation(client: Any, name: str) -> None:
    """It is followed up to its first command, for which a base without a shell has no use."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    packed.seek(0)
    import_root(client, packed, name, progress=len)
    done = build("--base", name, "--tag", f"{name}-built")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("Step 2/") and line.endswith("FROM ${BASE}")]
    assert any(line.startswith("Step 3/") and "RUN" in line for line in done.stderr.splitlines())
    assert done.stderr.splitlines()[-1].startswith(f"skillctl: error: {name}-built could not be built: ")
