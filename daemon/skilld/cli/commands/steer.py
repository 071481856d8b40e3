"""skillctl steer, pause and resume."""

from __future__ import annotations

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_sessions, json_option, pass_app, session_argument
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, print_json

__all__ = ["pause_command", "resume_command", "steer_command"]


@click.command("steer")
@click.option(
    "-s", "--session", metavar="SESSION", help="Not your latest but this one.", shell_complete=complete_sessions
)
@click.option("--key", metavar="K", help="Idempotency key: the same message under the same key is taken once.")
@json_option()
@click.argument("text", metavar="TEXT")
@pass_app
def steer_command(app: App, session: str | None, key: str | None, as_json: bool, text: str) -> None:
    """Say something to the turn that runs: the model hears it before its next step.

    Prints the id of the turn that answers. Where no turn runs any more the message waits for one of its own, and stderr
    says so.

    \b
    Examples:
      skillctl steer "only the last ten days"
      skillctl steer -s ses_vnlhrpcqpsm2fnysmm3zqqo7oy "stop after the first error"
    """
    if not text.strip():
        raise Failure("the message is empty", EXIT.USAGE)
    with app.client() as client:
        if session is None:
            latest = client.latest_session()
            if latest is None:
                raise Failure("you have no session to steer")
            session = str(latest["id"])
        try:
            accepted = client.steer(session, text, idempotency_key=key)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        print_json(accepted.to_dict())
        return
    print(accepted.turn, flush=True)
    if accepted.status != "steered":
        Console().warn(f"no turn could be reached: the message is {accepted.status}, a turn of its own")


@click.command("pause")
@session_argument()
@json_option()
@pass_app
def pause_command(app: App, session: str, as_json: bool) -> None:
    """Hold a conversation still until 'skillctl resume', also over restarts of the daemon.

    A turn that runs finishes the step that it is at. Messages are taken, and wait.

    \b
    Example:
      skillctl pause ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    _hold(app, session, paused=True, as_json=as_json)


@click.command("resume")
@session_argument()
@json_option()
@pass_app
def resume_command(app: App, session: str, as_json: bool) -> None:
    """Let a paused conversation go on.

    \b
    Example:
      skillctl resume ses_vnlhrpcqpsm2fnysmm3zqqo7oy
    """
    _hold(app, session, paused=False, as_json=as_json)


def _hold(app: App, session: str, *, paused: bool, as_json: bool) -> None:
    with app.client() as client:
        found = client.pause_session(session) if paused else client.resume_session(session)
    if as_json:
        print_json(found)
    else:
        print(found["status"])
