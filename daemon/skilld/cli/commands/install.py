"""skillctl install and uninstall: the units, the account and the configuration of a service."""

from __future__ import annotations

import grp
import os
import shlex
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from skilld import installation
from skilld.cli.commands.options import json_option
from skilld.cli.failure import EXIT, Failure
from skilld.cli.manual_files import manual_files
from skilld.cli.output import one_line, print_json
from skilld.installation import Change, InstallError, Layout, Record, Verdict
from skilld.paths import data_dir, home

__all__ = ["install_command", "uninstall_command"]

_COMMAND_S: Final = 120.0
_MANY: Final = 8  # lines about one folder
_BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3)
_SAID: Final[Mapping[Verdict, str]] = {
    "create": "create",
    "update": "update",
    "same": "leave, it is there",
    "keep": "keep, it was edited:",
    "replace": "replace",
    "remove": "remove",
    "gone": "leave, it is gone",
}

_user = click.option("--user", "for_user", is_flag=True, help="For your own user only, under 'systemctl --user'.")
_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")


@click.command("install")
@_user
@_dry_run
@click.option("--now", is_flag=True, help="Enable the service too, and start it.")
@click.option(
    "--profile",
    type=click.Choice(installation.PROFILES),
    help="What skills need of this host beyond the usual; the one of the last installation if not given.",
)
@click.option("--force", is_flag=True, help="Replace files that were edited; each is kept as FILE.old.")
@click.option(
    "--root", type=click.Path(path_type=Path), metavar="DIR", help="For packaging: below DIR, and run nothing."
)
@click.option("--bin-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where skilld and skillctl will be.")
@json_option()
@click.pass_context
def install_command(
    ctx: click.Context,
    for_user: bool,
    dry_run: bool,
    now: bool,
    profile: str | None,
    force: bool,
    root: Path | None,
    bin_dir: Path | None,
    as_json: bool,
) -> int:
    """Install skilld as a service of systemd: its units, its account and its configuration.

    Without --user the manual pages and the completions for bash, zsh and fish come along.

    Run again, it brings up to date what it installed. What you have edited is never overwritten: it is named, and kept.

    \b
    Example:
      sudo /opt/skilld/bin/skillctl install --now
    """
    if root is not None and (for_user or now):
        raise click.UsageError("--root is for packages of the system's service: without --user and --now")
    layout = _layout(for_user, root)
    record = installation.read_record(layout.record) if layout.keeps_record else Record()
    chosen = profile or record.profile
    try:
        files = installation.unit_files(layout, _data("systemd"), _data("etc"), bin_dir or _scripts(), chosen)
    except (InstallError, OSError) as error:
        raise Failure(str(error)) from error
    if layout.share is not None:
        files |= manual_files(ctx.find_root().command, layout.share)
    if root is None and chosen in installation.DOCKER_PROFILES and not _has_group("docker"):
        raise Failure(f"there is no group docker here, and the profile {chosen} needs it: install the engine first")
    changes = installation.plan_install(files, record, force=force)
    before = [] if root is not None else _disable(for_user, changes)
    commands = [] if root is not None else _commands_after(files, for_user, now)
    if not dry_run:
        _run(before, quiet=as_json)
        _apply(changes, layout, chosen, record, quiet=as_json)
    _tell(changes, [*before, *commands], dry_run=dry_run, as_json=as_json)
    if not dry_run:
        _run(commands, quiet=as_json)
    if not as_json and not now and root is None:
        print(f"next: {shlex.join(_systemctl(for_user, 'enable', '--now', *_to_start(files)))}")
    return EXIT.DONE


@click.command("uninstall")
@_user
@_dry_run
@click.option("--force", is_flag=True, help="Remove files that were edited, too.")
@json_option()
def uninstall_command(for_user: bool, dry_run: bool, force: bool, as_json: bool) -> int:
    """Stop the service, and remove what install has put there, but for what was edited.

    Conversations and the account stay: their folder is named in the end.

    \b
    Example:
      sudo skillctl uninstall --dry-run
    """
    layout = _layout(for_user, None)
    record = installation.read_record(layout.record)
    if not record.files:
        raise Failure(f"{layout.record} names no files: nothing was installed by 'skillctl install' here")
    changes = installation.plan_removal(record, force=force)
    before = _disable(for_user, changes)
    after = [_systemctl(for_user, "daemon-reload")] if _manager_runs(for_user) else []
    if not dry_run:
        _run(before, quiet=as_json)
        _apply(changes, layout, "none", Record(), quiet=as_json)
        _run(after, quiet=as_json)
    _tell(changes, [*before, *after], dry_run=dry_run, as_json=as_json)
    if not as_json:
        state = "~/.local/state/skilld" if for_user else "/var/lib/skilld, and the user and group skilld"
        print(f"conversations stay in {state}")
    return EXIT.DONE


def _layout(for_user: bool, root: Path | None) -> Layout:
    if root is not None:
        return installation.packaged(Path(os.path.abspath(root)))
    if for_user:
        named = os.environ.get("XDG_CONFIG_HOME", "")
        return installation.user(Path(named) if os.path.isabs(named) else home(os.environ) / ".config")
    return installation.system()


def _data(name: str) -> Path:
    found = data_dir(name)
    if found is None:
        raise InstallError(f"the folder {name!r} that comes with skilld is missing: install skilld anew")
    return found


def _scripts() -> Path:
    return Path(sysconfig.get_path("scripts"))


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _manager_runs(for_user: bool) -> bool:
    """Whether there is a systemd to tell."""
    if not for_user:
        return _BOOTED.is_dir()
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}", "systemd").is_dir()


def _systemctl(for_user: bool, *arguments: str) -> list[str]:
    return ["systemctl", *(["--user"] if for_user else []), *arguments]


def _disable(for_user: bool, changes: Sequence[Change]) -> list[list[str]]:
    """How units are stopped that are about to go."""
    gone = [change.path.name for change in changes if change.verdict == "remove"]
    units = sorted(name for name in gone if name.endswith((".service", ".socket")))
    return [_systemctl(for_user, "disable", "--now", *units)] if units and _manager_runs(for_user) else []


def _to_start(files: Iterable[Path]) -> list[str]:
    """The units that are enabled: all sockets, and of the services skilld's, which also serves without a message."""
    names = sorted(path.name for path in files)
    return [*(name for name in names if name.endswith(".socket")), "skilld.service"]


def _commands_after(files: Iterable[Path], for_user: bool, now: bool) -> list[list[str]]:
    runs = _manager_runs(for_user)
    if now and not runs:
        raise Failure("--now: systemd does not run here; install without it, and start 'skilld' by what does")
    sysusers = [str(path) for path in files if path.parent.name == "sysusers.d"]
    accounts = [["systemd-sysusers", *sysusers]] if sysusers else []
    reload = [_systemctl(for_user, "daemon-reload")] if runs else []
    start = [_systemctl(for_user, "enable", "--now", *_to_start(files))] if now else []
    return [*accounts, *reload, *start]


def _apply(changes: Sequence[Change], layout: Layout, profile: str, record: Record, *, quiet: bool) -> None:
    try:
        installation.apply(changes, _silent if quiet else print)
        if layout.keeps_record:
            installation.write_record(layout.record, changes, profile, record)
    except PermissionError as error:
        raise Failure(f"{error.filename}: {error.strerror}; run it as root, or with --user for yourself") from error
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}") from error


def _silent(_line: str) -> None:
    """With --json there is one document on stdout and nothing else."""


def _tell(changes: Sequence[Change], commands: Sequence[Sequence[str]], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        files = [{"path": str(change.path), "action": change.verdict} for change in changes]
        print_json({"dry_run": dry_run, "files": files, "commands": [list(command) for command in commands]})
        return
    would = "would " if dry_run else ""
    for line in _lines(changes):
        print(one_line(f"{would}{line}"))
    for command in commands:
        print(one_line(f"{would}run {shlex.join(command)}"))


def _lines(changes: Sequence[Change]) -> Iterator[str]:
    """A line for each file; one for all where a folder is full of the same, but for what was edited."""
    groups: dict[tuple[Verdict, Path], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.verdict, change.path.parent), []).append(change)
    for (verdict, folder), alike in groups.items():
        if len(alike) > _MANY and verdict != "keep":
            yield f"{_SAID[verdict]} {len(alike)} files in {folder}"
        else:
            yield from (f"{_SAID[verdict]} {change.path}" for change in alike)


def _run(commands: Sequence[Sequence[str]], *, quiet: bool) -> None:
    say: Callable[[str], object] = _silent if quiet else lambda text: click.echo(text, err=True)
    for command in commands:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_S, check=False
            )
        except FileNotFoundError as error:
            raise Failure(f"{command[0]} is not installed; the files are in place, the rest is yours to do") from error
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{shlex.join(command)} did not end within {_COMMAND_S:g} s") from error
        for line in (done.stdout + done.stderr).splitlines():
            say(f"  {one_line(line)}")
        if done.returncode:
            words = (done.stderr or done.stdout).strip()
            raise Failure(f"{shlex.join(command)} failed with {done.returncode}: {words}")
