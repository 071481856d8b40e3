"""skillctl workshop validate, diff, apply and export: a whole workshop in one file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, clean, one_line, print_json
from skilld.client import SkilldError

if TYPE_CHECKING:
    from skill_actors.workshop.setup_file.reading import Written

__all__ = ["apply_command", "diff_command", "export_command", "validate_command"]

F = TypeVar("F", bound=Callable[..., Any])

_DIFFERENT: Final = 1
_WIDTH: Final = 60
_MARKS: Final[Mapping[str, str]] = {"create": "+", "change": "~", "remove": "-"}

_FILE: Final = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


def _how(command: F) -> F:
    """Options of what is done."""
    for option in (
        click.option("--reset", is_flag=True, help="Let agents begin anew where a change takes that."),
        click.option("--prune", is_flag=True, help="Remove what the file has made and does not name any more."),
    ):
        command = option(command)
    return command


@click.command("validate")
@_FILE
@json_option()
def validate_command(file: Path, as_json: bool) -> int:
    """Check a setup file, without a daemon. What it names has to be in it.

    Ends with 0 if it is good, and with 1 if not.

    \b
    Example:
      skillctl workshop validate workshop.toml
    """
    from skill_actors.workshop.setup_file.definition import SetupFault, read_file
    from skill_actors.workshop.setup_file.references import There, dangling

    written = _read(file)
    try:
        found = read_file(written.data)
        faults = dangling(found, There())
    except SetupFault as fault:
        faults = list(fault.faults)
    told = [{"place": written.place(fault.keys), "message": str(fault)} for fault in faults]
    if as_json:
        print_json({"name": written.data.get("name", "workshop"), "faults": told})
    for each in () if as_json else told:
        print(f"{clean(each['place'])}: {one_line(each['message'])}", file=sys.stderr)
    if not told and not as_json:
        print(f"{file}: good")
    return _DIFFERENT if told else EXIT.DONE


@click.command("diff")
@_FILE
@_how
@json_option()
@pass_app
def diff_command(app: App, file: Path, prune: bool, reset: bool, as_json: bool) -> int:
    """Show what 'apply' would do with a setup file, and change nothing.

    Ends with 0 where there is nothing to do, and with 1 where there is.

    \b
    Examples:
      skillctl workshop diff workshop.toml
      skillctl workshop diff workshop.toml --prune
    """
    found = _ask(app, _read(file), dry_run=True, prune=prune, reset=reset)
    _tell(found, as_json)
    return _DIFFERENT if found["steps"] else EXIT.DONE


@click.command("apply")
@_FILE
@_how
@click.option("--dry-run", is_flag=True, help="Change nothing, and show what would be done.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, on a terminal.")
@json_option()
@pass_app
def apply_command(app: App, file: Path, prune: bool, reset: bool, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Make profiles, agents, workers, workflows and schedules as a setup file says. What is so already stays.

    Nothing is changed where anything in the file is wrong. Items of the board and values of the store are put there
    once. On a terminal the changes are shown, and done when you say so.

    Ends with 0 where all is as the file says, and with 1 where agents were left as they are, since they would begin
    anew and --reset was not given.

    \b
    Examples:
      skillctl workshop apply workshop.toml
      skillctl workshop apply workshop.toml --prune --yes
    """
    written, how = _read(file), {"prune": prune, "reset": reset}
    plan = None
    if not (yes or dry_run or as_json) and sys.stdin.isatty():
        shown = _ask(app, written, dry_run=True, **how)
        _tell(shown, False)
        if all(step["held"] for step in shown["steps"]) or not click.confirm("Do it?", err=True):
            return _DIFFERENT if shown["steps"] else EXIT.DONE
        plan = shown["plan"]
    found = _ask(app, written, dry_run=dry_run, plan=plan, **how)
    if plan is None:
        _tell(found, as_json)
    return _DIFFERENT if found["held"] or (dry_run and found["steps"]) else EXIT.DONE


@click.command("export")
@click.option("--name", metavar="NAME", help="Of the file; 'workshop' without it.")
@click.option("--board", is_flag=True, help="With the items of the board that are still to be done.")
@click.option("--store", multiple=True, metavar="NAMESPACE", help="With the values of this namespace; repeatable.")
@json_option()
@pass_app
def export_command(app: App, name: str | None, board: bool, store: tuple[str, ...], as_json: bool) -> None:
    """Print what there is as a setup file, which makes the same wherever it is applied.

    \b
    Example:
      skillctl workshop export > workshop.toml
    """
    with app.client() as client:
        found = client.export_setup(name=name, board=board, store=store)
    if as_json:
        print_json(found)
        return
    from skill_actors.workshop.setup_file.toml_text import toml_text

    for line in found["left_out"]:
        Console().note(f"left out: {one_line(line)}")
    sys.stdout.write(toml_text(found["file"], [f"left out: {one_line(line)}" for line in found["left_out"]]))


def _read(file: Path) -> Written:
    from skill_actors.workshop.setup_file.reading import FileFault, read_setup

    try:
        return read_setup(file)
    except FileFault as fault:
        raise Failure(str(fault), EXIT.USAGE) from fault


def _ask(app: App, written: Written, **how: Any) -> dict[str, Any]:
    """What the daemon says to the file. Raises Failure, naming lines of the file where it says what is wrong."""
    with app.client() as client:
        try:
            return client.apply_setup(written.data, **how)
        except SkilldError as error:
            faults = error.details.get("faults")
            if not isinstance(faults, list) or not faults:
                raise
            lines = [f"{written.place(each['keys'])}: {_words(each)}" for each in faults[:10]]
            raise Failure("; ".join(lines), EXIT.FAILED) from error


def _words(fault: Mapping[str, Any]) -> str:
    keys = ".".join(map(str, fault["keys"]))
    return f"{keys}: {fault['message']}" if keys else str(fault["message"])


def _tell(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(found))
        return
    for step in found["steps"]:
        print(f"{_MARKS[step['do']]} {_title(step)}")
        for name, pair in step["fields"].items():
            print(f"    {one_line(_change(step, name, pair))}")
    if not found["steps"]:
        print("nothing to do")


def _title(step: Mapping[str, Any]) -> str:
    what = "for all agents" if step["kind"] == "common" else f"{step['kind']} {clean(step['name'])}"
    if step["held"]:
        return f"{what}: left as it is; it would begin a conversation anew: say --reset for that"
    if step["anew"] and step["kind"] == "agent":
        return f"{what}: begins a conversation anew"
    return f"{what}: its agents are stopped, and begin again" if step["anew"] else what


def _change(step: Mapping[str, Any], name: str, pair: Mapping[str, Any]) -> str:
    before, after = (_value(pair, word) for word in ("before", "after"))
    return f"{name} = {after}" if step["do"] == "create" else f"{name}: {before} -> {after}"


def _value(pair: Mapping[str, Any], word: str) -> str:
    import json

    return one_line(json.dumps(pair[word], ensure_ascii=False), _WIDTH) if word in pair else "nothing"
