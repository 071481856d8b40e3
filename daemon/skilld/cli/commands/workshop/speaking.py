"""skillctl ask and cast; skillctl workshop ask, cast, await, pipe and fan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.send import message_of
from skilld.cli.commands.workshop.agent_options import agent_argument, json_of
from skilld.cli.commands.workshop.completing import complete_agents
from skilld.cli.exchange import Exchange
from skilld.cli.failure import EXIT, Failure, exit_code_of
from skilld.cli.output import Console, one_line, print_json
from skilld.client import Accepted, Client, SkilldError

__all__ = ["ask_command", "await_command", "cast_command", "fan_command", "pipe_command"]

_WAIT_S: Final = 300.0  # for one request

_timeout = click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), metavar="S", help="Cancel the turn after S seconds."
)
_key = click.option("--key", metavar="K", help="Idempotency key: the same message under the same key is taken once.")
_force = click.option("--force", is_flag=True, help="Also if the agent's program crashed under this message before.")
_schema = click.option(
    "--schema",
    "schema_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Have the answer as JSON that keeps to the JSON schema in FILE, or fail.",
)


def _message_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a message to one agent may have, as `_cast_of` takes it."""
    return _timeout(_schema(_key(_force(command))))


@click.command("ask")
@_message_options
@json_option("each event as a line of JSON, as it happens")
@agent_argument()
@click.argument("text", metavar="TEXT|-")
@pass_app
def ask_command(app: App, /, timeout_s: float | None, as_json: bool, name: str, text: str, **given: Any) -> int:
    """Ask an agent and print its answer as it is written.

    What waits with the agent already comes first. Ctrl-C cancels the turn. Exits as 'skillctl send' does.

    \b
    Examples:
      skillctl ask reviewer "is this patch complete?"
      git diff | skillctl ask reviewer --timeout 120 -
    """
    cast = _cast_of(name, text, timeout_s=timeout_s, **given)
    with app.client() as client:
        sent = cast(client)
        exchange = Exchange(client, sent.session, made=False, as_json=as_json)
        return exchange.follow(sent.turn, sent.seq - 1, timeout_s)


@click.command("cast")
@_message_options
@json_option()
@agent_argument()
@click.argument("text", metavar="TEXT|-")
@pass_app
def cast_command(app: App, /, as_json: bool, name: str, text: str, **given: Any) -> None:
    """Tell an agent something and wait for nothing. Prints the id of the turn, for 'skillctl wait'.

    \b
    Example:
      skillctl wait "$(skillctl cast reviewer 'look at the last commit')"
    """
    cast = _cast_of(name, text, **given)
    with app.client() as client:
        sent = cast(client)
    if as_json:
        print_json({"agent": name, **sent.to_dict()})
    else:
        print(sent.turn, flush=True)


@click.command("await")
@agent_argument(many=True, required=False)
@click.option("--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="S", help="Give up after S seconds.")
@json_option()
@pass_app
def await_command(app: App, names: tuple[str, ...], timeout_s: float | None, as_json: bool) -> int:
    """Wait until agents have nothing to do, all of yours without AGENT. For one turn there is 'skillctl wait'.

    Prints the last answer where there is one agent. Ends with 1 where an agent's last turn has failed.

    \b
    Examples:
      skillctl workshop await
      skillctl workshop await reviewer --timeout 600
    """
    import time

    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    with app.client() as client:
        while True:
            left_s = _WAIT_S if deadline_s is None else max(0.0, min(_WAIT_S, deadline_s - time.monotonic()))
            found = client.await_agents(*names, wait_s=left_s)
            if found["idle"] or (deadline_s is not None and time.monotonic() >= deadline_s):
                break
    if as_json:
        print_json(found)
    elif len(names) == 1:
        _print_answer(found["items"][0]["turn"])
    busy = [str(item["agent"]) for item in found["items"] if not item["idle"]]
    if busy:
        raise Failure(f"still busy after {timeout_s:g} s: {', '.join(busy)}", EXIT.TIMED_OUT)
    for item in found["items"]:
        _fail(item["turn"])
    return EXIT.DONE


@click.command("pipe")
@click.argument("source", metavar="FROM", shell_complete=complete_agents)
@click.argument("target", metavar="TO", shell_complete=complete_agents)
@click.argument("message", metavar="[TEXT|-]", required=False)
@click.option("--template", metavar="TEXT", help="What TO is told: with {result}, {message} and {from}.")
@_timeout
@_key
@json_option()
@pass_app
def pipe_command(
    app: App,
    source: str,
    target: str,
    message: str | None,
    template: str | None,
    timeout_s: float | None,
    key: str | None,
    as_json: bool,
) -> int:
    """Wait for one agent, tell another its result, and print what that answers.

    TEXT comes before the result. An error of the first is the end of it: the second is told nothing.

    \b
    Example:
      skillctl workshop pipe coder reviewer "Is this right?"
    """
    given = None if message is None else message_of(message)
    with app.client() as client:
        turn = _checked(
            lambda: client.pipe_agents(
                source, target, given, template=template, timeout_s=timeout_s, idempotency_key=key
            )
        )
    if as_json:
        print_json(turn)
    else:
        _print_answer(turn)
    _fail(turn)
    return EXIT.DONE


@click.command("fan")
@click.argument("text", metavar="TEXT|-")
@agent_argument(many=True)
@click.option(
    "--gather",
    type=click.Choice(("none", "all", "quorum", "first", "best")),
    help="Wait for all (without this option), for so many good answers, for the first one, for the best, for none.",
)
@click.option("--quorum", type=click.IntRange(1), metavar="N", help="So many good answers; the others are cancelled.")
@click.option("--judge", metavar="AGENT", help="Who chooses the best answer.", shell_complete=complete_agents)
@click.option("--criterion", metavar="TEXT", help="What the judge is to choose by.")
@_timeout
@_key
@json_option()
@pass_app
def fan_command(
    app: App,
    text: str,
    names: tuple[str, ...],
    gather: str | None,
    quorum: int | None,
    judge: str | None,
    criterion: str | None,
    timeout_s: float | None,
    key: str | None,
    as_json: bool,
) -> int:
    """Tell several agents the same, and print their answers; of 'first' and 'best' the one.

    Ends with 1 where there are fewer good answers than were asked for.

    \b
    Examples:
      skillctl workshop fan "name the bug" coder-1 coder-2 coder-3 --quorum 2
      skillctl workshop fan "write a haiku" poet-1 poet-2 --judge critic
    """
    kind = gather or ("quorum" if quorum is not None else "best" if judge is not None else "all")
    message = message_of(text)
    with app.client() as client:
        found = _checked(
            lambda: client.fan_agents(
                names,
                message,
                gather=kind,  # type: ignore[arg-type]  # one of them
                quorum=quorum,
                judge=judge,
                criterion=criterion,
                timeout_s=timeout_s,
                idempotency_key=key,
            )
        )
    if as_json:
        print_json(found)
    else:
        _print_gathered(found)
    if not found["reached"]:
        raise Failure(f"gathering {kind} was not reached")
    return EXIT.DONE


def _cast_of(
    name: str, text: str, *, timeout_s: float | None, schema_file: Path | None, key: str | None, force: bool
) -> Callable[[Client], Accepted]:
    """What sends the message. Reads what it is to have: a file, and standard input."""
    schema = None if schema_file is None else json_of(schema_file, "--schema")
    message = message_of(text)

    def cast(client: Client) -> Accepted:
        sent: Accepted = _checked(
            lambda: client.cast_agent(
                name, message, timeout_s=timeout_s, idempotency_key=key, schema=schema, force=force
            )
        )
        return sent

    return cast


def _checked(send: Any) -> Any:
    """What is sent; a key that can be none, and a queue that is full, in words of the command line."""
    try:
        return send()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except SkilldError as error:
        if error.details.get("reason") == "poison":
            raise Failure(f"{error.message} with --force") from error
        raise


def _print_answer(turn: Mapping[str, Any] | None) -> None:
    text = str(((turn or {}).get("result") or {}).get("text") or "")
    if text:
        console = Console()
        console.answer(text)
        console.end_line()


def _print_gathered(found: Mapping[str, Any]) -> None:
    results = list(found["results"])
    if found["gather"] == "none":
        for result in results:
            print(result.get("turn") or _why(result))
        return
    if found["best"] is not None:
        results = [result for result in results if result["agent"] == found["best"]["agent"]]
    elif found["gather"] == "first":
        results = [result for result in results if result["status"] == "finished"] or results
    console = Console()
    for result in results:
        if len(results) > 1:
            console.end_line()
            print(f"== {result['agent']}")
        if result["status"] == "finished":
            _print_answer(result)
        else:
            console.warn(f"{result['agent']}: {_why(result)}")


def _why(result: Mapping[str, Any]) -> str:
    error = result.get("error") or (result.get("result") or {}).get("error") or {}
    return f"{result['status']}: {one_line(str(error.get('message') or 'no reason given'))}"


def _fail(turn: Mapping[str, Any] | None) -> None:
    """Raise Failure where the turn has not ended well."""
    if turn is None or turn["status"] == "finished":
        return
    error = (turn.get("result") or {}).get("error") or {}
    code = exit_code_of(str(turn["status"]), error.get("code"))
    raise Failure(f"turn {turn['turn']} {turn['status']}: {error.get('message') or 'no reason given'}", code)
