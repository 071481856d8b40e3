"""skillctl workshop events and publish: what happens, and what one says to those who follow."""

from __future__ import annotations

import json
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.failure import EXIT
from skilld.cli.output import one_line, print_json
from skilld.client import Event

__all__ = ["events_command", "publish_command"]

_SHOWN = 20


@click.command("events")
@click.option("--last", type=click.IntRange(0, 500), metavar="N", help=f"Begin with the last N. {_SHOWN} if not said.")
@click.option("--after", type=click.IntRange(0), metavar="SEQ", help="Begin behind the event of this number.")
@click.option("--follow", "-f", is_flag=True, help="Wait for what happens next. Ctrl-C leaves.")
@click.option("--topic", "-t", "topics", multiple=True, metavar="TOPIC", help="Only this topic, such as agent or work.")
@click.option("--name", "-n", "names", multiple=True, metavar="NAME", help="Only events of this name, such as failed.")
@json_option("each event as a line of JSON")
@pass_app
def events_command(
    app: App,
    last: int | None,
    after: int | None,
    follow: bool,
    topics: tuple[str, ...],
    names: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show what happens in the workshop.

    Your own events, and with the role admin everybody's. Topics are agent, profile, work, board_worker, workflow,
    schedule, setup, store, custom and all; --topic and --name can be given more than once.

    \b
    Examples:
      skillctl workshop events --last 50
      skillctl workshop events --follow --topic work --name failed
      skillctl workshop events --after 1200 --json
    """
    if last is not None and after is not None:
        raise click.UsageError("--last and --after say both where to begin: give one of them")
    if last is None and after is None:
        last = _SHOWN
    with app.client() as client:
        found = client.workshop_events(after=after or 0, last=last, topics=topics, names=names, follow=follow)
        try:
            for event in found:
                print(event.to_json() if as_json else _line(event), flush=True)
        except KeyboardInterrupt:
            return EXIT.CANCELLED
    return EXIT.DONE


@click.command("publish")
@click.argument("topic")
@click.argument("name")
@click.option("--data", metavar="JSON", help="What it says: a JSON object.")
@json_option("the event")
@pass_app
def publish_command(app: App, topic: str, name: str, data: str | None, as_json: bool) -> None:
    """Publish an event for whoever follows its topic.

    TOPIC begins with "custom."; NAME is a word.

    \b
    Example:
      skillctl workshop publish custom.deploy done --data '{"version": "1.4"}'
    """
    with app.client() as client:
        event = client.publish_event(topic, name, _object(data))
    if as_json:
        print_json(event)
    else:
        print(event["seq"])


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="--data") from error
    if not isinstance(value, dict):
        raise click.BadParameter('expected a JSON object, such as {"version": "1.4"}', param_hint="--data")
    return value


def _line(event: Event) -> str:
    facts = ", ".join(f"{name}: {_shown(value)}" for name, value in event.data.items())
    return one_line(f"{event.seq}  {event.time}  {event.type}  {facts}".rstrip())


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(text, 80)
