"""skillctl board add, list, show, summary, watch, edit, cancel, retry, rm: the items themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, flatten, one_line, print_json, print_table

__all__ = [
    "add_command",
    "cancel_command",
    "edit_command",
    "list_command",
    "retry_command",
    "rm_command",
    "show_command",
    "summary_command",
    "watch_command",
    "work_command",
]

F = TypeVar("F", bound=Callable[..., Any])

_TYPES: Final = "code, review, test, docs, deploy, triage or custom"
_MAX_SPEC_BYTES: Final = 1 << 20

item_argument = click.argument("id", metavar="ITEM")

_FIELDS: Final = (
    click.option("--spec", metavar="TEXT|-", help="What is to be done, in full; - reads it from standard input."),
    click.option("--type", "-t", metavar="TYPE", help=f"What kind of work it is: {_TYPES}."),
    click.option("--priority", "-p", type=click.IntRange(1, 5), metavar="1..5", help="1 is done first; 3 without it."),
    click.option("--depends-on", "-d", multiple=True, metavar="ITEM", help="It waits for this one; repeatable."),
    click.option("--agent", metavar="NAME", help="Only this agent, worker or profile takes it unasked."),
    click.option("--max-attempts", type=click.IntRange(1, 100), metavar="N", help="It has failed then; 3 without it."),
    click.option("--due", metavar="TIME", help="Until when, as 2030-12-31T18:00:00Z."),
    click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; repeatable."),
    click.option(
        "--verify", "argv", multiple=True, metavar="WORD", help="A word of the command that has to pass; repeatable."
    ),
    click.option("--verify-timeout", "verify_s", type=click.FloatRange(1, 3600), metavar="S", help="Its time."),
    click.option(
        "--schema",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        metavar="FILE",
        help="A JSON schema that the answer has to keep to.",
    ),
)


def _fields(command: F) -> F:
    for option in reversed(_FIELDS):
        command = option(command)
    return command


def _add(
    app: App, title: str, id: str | None, agent_result: str | None, as_json: bool, given: Mapping[str, Any]
) -> None:
    more = {"id": id, "from_agent": agent_result}
    draft = {**_given(given), **{name: value for name, value in more.items() if value is not None}}
    with app.client() as client:
        item = client.add_item(title, **draft)
    if as_json:
        print_json(item)
        return
    print(item["id"])
    if item["status"] != "ready":
        Console().note(f"{item['status']}: waits for {', '.join(item['waits_for'])}")


@click.command("add")
@click.argument("title")
@click.option("--id", metavar="ITEM", help="What to call it; without it, it gets an id.")
@click.option("--from", "agent_result", metavar="AGENT", help="Add what this agent has answered last to its spec.")
@_fields
@json_option("the item")
@pass_app
def add_command(app: App, /, title: str, id: str | None, agent_result: str | None, as_json: bool, **given: Any) -> None:
    """Put an item on the board. Prints its id.

    \b
    Examples:
      skillctl board add "Fix the build" --id fix-build --type code --spec "make fails on arm64"
      skillctl board add "Do what the review says" --type code --from reviewer
      skillctl board add "Release" --type deploy -d fix-build --verify ./smoke-test --verify --fast
    """
    _add(app, title, id, agent_result, as_json, given)


@click.command("work")
@click.argument("title")
@click.option("--id", metavar="ITEM", help="What to call it; without it, it gets an id.")
@click.option("--from", "agent_result", metavar="AGENT", help="Add what this agent has answered last to its spec.")
@_fields
@json_option("the item")
@pass_app
def work_command(
    app: App, /, title: str, id: str | None, agent_result: str | None, as_json: bool, **given: Any
) -> None:
    """Put an item on the board, as 'skillctl board add'.

    \b
    Example:
      skillctl workshop work "Do what the review says" --type code --from reviewer
    """
    _add(app, title, id, agent_result, as_json, given)


@click.command("list")
@click.option("--status", "-s", multiple=True, metavar="STATE", help="Only those, such as ready; repeatable.")
@click.option("--type", "-t", "types", multiple=True, metavar="TYPE", help="Only those; repeatable.")
@click.option("--claimed-by", metavar="HOLDER", help="Only those that HOLDER has.")
@click.option("--agent", metavar="NAME", help="Only those that are meant for NAME.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label; repeatable.")
@click.option("--overdue", is_flag=True, help="Only those that should be done by now.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@json_option()
@pass_app
def list_command(
    app: App,
    status: tuple[str, ...],
    types: tuple[str, ...],
    claimed_by: str | None,
    agent: str | None,
    labels: tuple[str, ...],
    overdue: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List items in the order in which they are taken: by priority, the oldest first.

    \b
    Examples:
      skillctl board list
      skillctl board list --status failed --status blocked --json
    """
    wanted = {"status": status, "type": types, "claimed_by": claimed_by, "agent": agent, "label": labels}
    chosen = {name: value for name, value in wanted.items() if value not in (None, ())}
    if overdue:
        chosen["overdue"] = "true"
    with app.client() as client:
        items = list(islice(client.items(page_size=min(limit, 1000), **chosen), limit))
    if as_json:
        print_json({"items": items})
        return
    print_table(("item", "state", "type", "p", "who", "try", "title"), [_row(item) for item in items])


@click.command("show")
@item_argument
@json_option()
@pass_app
def show_command(app: App, id: str, as_json: bool) -> None:
    """Show an item with its history and what it waits for.

    \b
    Example:
      skillctl board show fix-build
    """
    with app.client() as client:
        item = client.item(id)
    if as_json:
        print_json(item)
        return
    history, texts = item.pop("history"), {name: item.pop(name) for name in ("spec", "result")}
    for key, value in flatten({name: value for name, value in item.items() if value not in (None, {}, [], "")}):
        print(f"{key}: {one_line(value)}")
    for step in history:
        note = f"  {step['note']}" if step["note"] else ""
        print(one_line(f"{step['time']}  {step['status']} ({step['attempt']}){note}"))
    console = Console()
    for name, text in texts.items():
        if text:
            console.answer(f"\n{name}:\n{text}")
            console.end_line()


@click.command("summary")
@json_option()
@pass_app
def summary_command(app: App, as_json: bool) -> None:
    """Count the items by state, and by type.

    \b
    Example:
      skillctl board summary
    """
    with app.client() as client:
        found = client.board_summary()
    if as_json:
        print_json(found)
        return
    states = [state for state, count in found["by_status"].items() if count]
    rows = [[type, *(str(counts.get(state, 0)) for state in states)] for type, counts in found["by_type"].items()]
    print_table(("type", *states), [*rows, ["all", *(str(found["by_status"][state]) for state in states)]])


@click.command("watch")
@json_option("each event as a line of JSON")
@pass_app
def watch_command(app: App, as_json: bool) -> int:
    """Follow what happens on the board, until Ctrl-C.

    \b
    Example:
      skillctl board watch
    """
    with app.client() as client:
        try:
            for event in client.workshop_events(last=0, topics=("work",), follow=True):
                print(event.to_json() if as_json else _event_line(event.time, event.type, event.data), flush=True)
        except KeyboardInterrupt:
            return EXIT.CANCELLED
    return EXIT.DONE


@click.command("edit")
@item_argument
@click.option("--title", help="Its title.")
@_fields
@click.option("--no-verify", is_flag=True, help="Whoever has it is believed.")
@click.option("--no-depends-on", is_flag=True, help="It waits for nothing.")
@json_option("the item")
@pass_app
def edit_command(
    app: App, /, id: str, title: str | None, no_verify: bool, no_depends_on: bool, as_json: bool, **given: Any
) -> None:
    """Change an item; what is not said stays. While somebody works on it only its labels, due and priority change.

    \b
    Examples:
      skillctl board edit fix-build --priority 1
      skillctl board edit release --depends-on fix-build --depends-on docs
    """
    changes = {**_given(given), **({} if title is None else {"title": title})}
    changes |= {"verify": None} if no_verify else {}
    changes |= {"depends_on": []} if no_depends_on else {}
    if not changes:
        raise click.UsageError("nothing to change: give an option")
    with app.client() as client:
        _tell(client.edit_item(id, **changes), as_json)


@click.command("cancel")
@item_argument
@click.option("--reason", default="", metavar="TEXT", help="Why.")
@json_option("the item")
@pass_app
def cancel_command(app: App, id: str, reason: str, as_json: bool) -> None:
    """Say that an item is not wanted any more. Whoever works on it is stopped; what depends on it is blocked.

    \b
    Example:
      skillctl board cancel release --reason "next week"
    """
    with app.client() as client:
        _tell(client.cancel_item(id, reason), as_json)


@click.command("retry")
@item_argument
@json_option("the item")
@pass_app
def retry_command(app: App, id: str, as_json: bool) -> None:
    """Want a failed or cancelled item again, with all its attempts. What it blocked waits again.

    \b
    Example:
      skillctl board retry fix-build
    """
    with app.client() as client:
        _tell(client.retry_item(id), as_json)


@click.command("rm")
@click.argument("ids", metavar="ITEM...", nargs=-1, required=True)
@pass_app
def rm_command(app: App, ids: tuple[str, ...]) -> None:
    """Take items off the board: those that nobody has and no other depends on.

    \b
    Example:
      skillctl board rm fix-build release
    """
    with app.client() as client:
        for id in ids:
            client.remove_item(id)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an item that options stand for. Raises Failure, click.UsageError."""
    fields = {name: value for name, value in options.items() if value not in (None, ())}
    argv, verify_s, schema = fields.pop("argv", ()), fields.pop("verify_s", None), fields.pop("schema", None)
    if fields.get("spec") == "-":
        fields["spec"] = sys.stdin.read(_MAX_SPEC_BYTES)
    if "depends_on" in fields:
        fields["depends_on"] = list(fields["depends_on"])
    if "labels" in fields:
        fields["labels"] = dict(map(_label, fields["labels"]))
    if argv or schema:
        fields["verify"] = {**({"argv": list(argv)} if argv else {}), **({"schema": _json(schema)} if schema else {})}
        fields["verify"] |= {"timeout_s": verify_s} if verify_s is not None else {}
    elif verify_s is not None:
        raise click.UsageError("--verify-timeout goes with --verify")
    return fields


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--label {text}: expected NAME=VALUE")
    return name, value


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", EXIT.USAGE) from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"{path} is not JSON: {error}", EXIT.USAGE) from error


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    state = f"{item['status']}!" if item["overdue"] else str(item["status"])
    tries = f"{item['attempts']}/{item['max_attempts']}"
    who = item["claimed_by"] or (f"for {item['agent']}" if item["agent"] else "-")
    return str(item["id"]), state, str(item["type"]), str(item["priority"]), str(who), tries, str(item["title"])


def _event_line(time: str, type: str, data: Mapping[str, Any]) -> str:
    shown = datetime.fromisoformat(time).astimezone().strftime("%H:%M:%S")
    more = "  ".join(str(data[name]) for name in ("holder", "error") if data.get(name))
    return one_line(f"{shown}  {type.partition('.')[2]:<10}  {data.get('item', '-')}  {more}".rstrip())


def _tell(item: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(item)
    else:
        print(f"{item['id']}: {item['status']}")
