"""skillctl workshop store: values that agents and users share."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.output import Console, clean, is_terminal, print_json, print_table, size_text

__all__ = ["store_command"]


@click.group("store")
def store_command() -> None:
    """Keep values that agents and users share.

    A value is any JSON of less than 1 MiB, under a NAMESPACE and a KEY. It has a version, which goes up by one with
    each change.

    \b
    Examples:
      skillctl workshop store put notes today "it rains"
      skillctl workshop store put build count 1 --expect 0
      skillctl workshop store get notes today
    """


@store_command.command("put")
@click.argument("namespace")
@click.argument("key")
@click.argument("value")
@click.option("--ttl", "ttl_s", type=float, metavar="SECONDS", help="It is gone after so many seconds.")
@click.option(
    "--expect",
    type=click.IntRange(0),
    metavar="VERSION",
    help="Only if it is at this version; 0: only if there is none.",
)
@click.option("--text", is_flag=True, help="Take VALUE as text even if it is JSON.")
@json_option()
@pass_app
def put_value(
    app: App, namespace: str, key: str, value: str, ttl_s: float | None, expect: int | None, text: bool, as_json: bool
) -> None:
    """Store VALUE: JSON, and what is no JSON as text; - reads it from standard input. Prints its version.

    \b
    Examples:
      skillctl workshop store put notes today "it rains" --ttl 3600
      skillctl workshop store put plans release - < plan.json
    """
    given = sys.stdin.read() if value == "-" else value
    with app.client() as client:
        entry = client.put_value(namespace, key, given if text else _read(given), expected=expect, ttl_s=ttl_s)
    if as_json:
        print_json(entry)
    else:
        print(entry["version"])


@store_command.command("get")
@click.argument("namespace")
@click.argument("key")
@json_option("one JSON document: the value, its version and times")
@pass_app
def get_value(app: App, namespace: str, key: str, as_json: bool) -> None:
    """Print a value: text as it is, all else as JSON.

    \b
    Example:
      skillctl workshop store get notes today
    """
    with app.client() as client:
        entry = client.value(namespace, key)
    if as_json:
        print_json(entry)
    elif isinstance(entry["value"], str):
        print(clean(entry["value"]) if is_terminal(sys.stdout) else entry["value"])
    else:
        print_json(entry["value"])


@store_command.command("keys")
@click.argument("namespace", required=False)
@click.option("--prefix", help="Only keys that begin so.")
@json_option()
@pass_app
def list_keys(app: App, namespace: str | None, prefix: str | None, as_json: bool) -> None:
    """List what is stored, in NAMESPACE or in all.

    \b
    Example:
      skillctl workshop store keys notes --prefix 2026-
    """
    with app.client() as client:
        found = list(client.value_keys(namespace, prefix=prefix))
    if as_json:
        print_json({"items": found})
        return
    rows = [
        (item["namespace"], item["key"], str(item["version"]), size_text(item["size_bytes"]), item["updated"],
         item["expires"] or "-")
        for item in found
    ]  # fmt: skip
    print_table(("namespace", "key", "version", "size", "updated", "expires"), rows)


@store_command.command("delete")
@click.argument("namespace")
@click.argument("key", required=False)
@click.option("--expect", type=click.IntRange(1), metavar="VERSION", help="Only if it is at this version.")
@click.option("--all", "everything", is_flag=True, help="All values of NAMESPACE, instead of one.")
@pass_app
def delete_value(app: App, namespace: str, key: str | None, expect: int | None, everything: bool) -> None:
    """Delete a value, or with --all every value of a namespace.

    \b
    Examples:
      skillctl workshop store delete notes today
      skillctl workshop store delete notes --all
    """
    if everything is (key is not None) or (everything and expect is not None):
        raise click.UsageError("name a KEY, or give --all, which takes no --expect")
    with app.client() as client:
        if key is None:
            Console().warn(f"deleted {client.clear_values(namespace)} values")
        else:
            client.delete_value(namespace, key, expected=expect)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
