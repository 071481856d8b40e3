"""skillctl docker: the images of the docker backend, and whether the engine is fit for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, one_line, print_json, wants_style

if TYPE_CHECKING:
    from docker import DockerClient

    from skilld.config import DockerConfig

__all__ = ["docker_command"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}

_engine_option = click.option(
    "--engine", metavar="ADDRESS", help="Else that of the configuration, DOCKER_HOST, unix:///var/run/docker.sock."
)


@click.group("docker")
def docker_command() -> None:
    """Build the images of the docker backend, and check the engine. Needs no running daemon.

    \b
    Example:
      skillctl docker check
    """


@docker_command.command("build")
@click.option("--slim", is_flag=True, help="Only python3 and bash, of Debian's packages alone.")
@click.option("--tag", metavar="NAME", help="The image's name. Else localhost/skilld-sandbox:full, or :slim.")
@click.option("--base", metavar="IMAGE", help="Build on this image; else the slim one is made anew first.")
@click.option("--mirror", metavar="URL", help="A mirror of Debian. Else those of this host's apt, or Debian's own.")
@click.option("--no-pypi", is_flag=True, help="Without the libraries that Debian has not.")
@click.option(
    "--ca", type=click.File(encoding="ascii"), metavar="FILE", help="Certificates (PEM) that it trusts as well."
)
@_engine_option
@json_option()
def build_image(
    slim: bool,
    tag: str | None,
    base: str | None,
    mirror: str | None,
    no_pypi: bool,
    ca: TextIO | None,
    engine: str | None,
    as_json: bool,
) -> int:
    """Build the image that conversations run in: Python, Node, git, and what documents need.

    It begins with a system of Debian's packages, made by mmdebstrap on this host; nothing is pulled from a registry of
    images. Build again for security updates: the name moves to the new image, and the old one goes if nothing uses it.

    \b
    Examples:
      skillctl docker build
      skillctl docker build --slim --mirror http://mirror.example/debian
      skillctl docker build --base debian:bookworm-slim --tag team/sandbox:1
    """
    if slim and (base or no_pypi or ca):
        raise click.UsageError("--slim is built of Debian's packages alone: it takes no --base, --no-pypi or --ca")
    if base and mirror:
        raise click.UsageError("--mirror is for the system that is made here: it does not go with --base")
    from skill_actors.backends import docker_image as images

    certificates = "" if ca is None else _read(ca)
    started_s = time.monotonic()
    tell = Console().note
    with _engine(engine) as client, _failures():
        if base is None:
            slim_tag = tag if slim and tag else images.SLIM_IMAGE
            built = images.build_slim(client, slim_tag, sources=images.apt_sources(mirror), progress=tell)
        if not slim:
            built = images.build_full(
                client,
                tag or images.FULL_IMAGE,
                base=base or images.SLIM_IMAGE,
                with_pypi=not no_pypi,
                ca=certificates,
                environ=os.environ,
                progress=tell,
            )
    if as_json:
        print_json({**asdict(built), "duration_s": round(time.monotonic() - started_s, 1)})
    else:
        print(f"{built.tag}: {built.size_bytes >> 20} MiB, {built.id}")
    return EXIT.DONE


@docker_command.command("check")
@click.option("--image", metavar="NAME", help="The image to look for and try, not that of the configuration.")
@click.option("--runtime", metavar="NAME", help="The engine's runtime to try, such as runsc.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Look at this file.")
@_engine_option
@json_option()
def check_engine(
    image: str | None, runtime: str | None, config_file: Path | None, engine: str | None, as_json: bool
) -> int:
    """Check whether the engine can hold code that nobody trusts, and say what to do where it cannot.

    Looks at the engine, the image and the runtime that the daemon's configuration names. Starts one container for a
    moment, and looks from inside whether limits and restrictions are in force. Exits 1 if a check failed, 4 if no
    engine answers.

    \b
    Example:
      skillctl docker check --json
    """
    from skilld.cli.docker_checks import check_docker

    configured = _configured(config_file)
    runtime = runtime or configured.runtime or None
    address = _address(engine, configured)
    checks = list(check_docker(address, os.environ, image or configured.image, runtime))
    failed = [check for check in checks if check.level == "fail"]
    if as_json:
        print_json({"ok": not failed, "checks": [check.to_dict() for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            level = check.level.ljust(4)
            shown = click.style(level, fg=_COLOURS[check.level]) if wants_style(sys.stdout) else level
            print(f"{shown}  {check.name.ljust(width)}  {one_line(check.message)}")
            if check.remedy:
                print(f"      {''.ljust(width)}  -> {one_line(check.remedy)}")
    if not failed:
        return EXIT.DONE
    return EXIT.UNREACHABLE if [check.name for check in checks] == ["engine"] else EXIT.FAILED


def _read(file: TextIO) -> str:
    try:
        text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file.name}: {error}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise Failure(f"{file.name} holds no certificate in PEM")
    return text


def _configured(file: Path | None = None) -> DockerConfig:
    """What the daemon would use."""
    from skilld.cli.commands.config import load
    from skilld.config import ConfigError

    try:
        return load(file)[1].backends.docker
    except ConfigError as error:
        raise Failure(str(error)) from error


def _address(given: str | None, configured: DockerConfig) -> str:
    from skill_actors.backends.docker_image import engine_address

    return given or configured.address or engine_address(os.environ)


@contextmanager
def _engine(given: str | None) -> Iterator[DockerClient]:
    from skill_actors.backends import BackendUnavailable
    from skill_actors.backends.docker_image import connect

    try:
        client = connect(_address(given, _configured()), os.environ)
    except BackendUnavailable as error:
        raise Failure(str(error), EXIT.UNREACHABLE) from error
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _failures() -> Iterator[None]:
    """What building raises, as one line."""
    from skill_actors.backends import BackendUnavailable
    from skill_actors.backends.docker_image import BootstrapFailed, BuildFailed

    try:
        yield
    except (BackendUnavailable, BootstrapFailed, BuildFailed) as error:
        raise Failure(str(error)) from error
