"""The root of skillctl: which commands there are, and what every one of them shares.

A command's module is imported when the command is called (or listed), so that one command never pays for another.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from skill_actors import __version__
from skilld.cli.failure import EXIT, Failure
from skilld.cli.summaries import SUMMARIES
from skilld.client import Client, SkilldError
from skilld.client.errors import NotAName

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["App", "LazyGroup", "skillctl"]

_COMMANDS: Final[Mapping[str, str]] = {
    "approvals": "approvals",
    "approve": "approvals",
    "ask": "workshop.speaking",
    "attach": "follow",
    "backends": "backends",
    "backup": "backup",
    "board": "workshop.board",
    "budget": "budget",
    "cancel": "turns",
    "cast": "workshop.speaking",
    "chat": "chat",
    "compact": "compact",
    "completion": "completion",
    "config": "config",
    "dashboard": "dashboard",
    "debug": "debug",
    "deny": "approvals",
    "docker": "docker",
    "doctor": "doctor",
    "export": "lineage",
    "files": "files",
    "fork": "lineage",
    "health": "status",
    "import": "lineage",
    "install": "install",
    "logs": "logs",
    "man": "man",
    "mcp": "mcp",
    "mcp-servers": "mcp_servers",
    "metrics": "status",
    "monitor": "monitor.group",
    "pause": "steer",
    "policy": "policy",
    "rename": "lineage",
    "reset": "lineage",
    "restore": "backup",
    "resume": "steer",
    "rm": "sessions",
    "send": "send",
    "sessions": "sessions",
    "show": "follow",
    "skills": "skills",
    "status": "status",
    "steer": "steer",
    "uninstall": "install",
    "usage": "usage",
    "wait": "turns",
    "workflow": "workshop.workflow",
    "workshop": "workshop.group",
}


class App:
    """What commands get from the root: the way to the daemon."""

    def __init__(self, socket: str | None) -> None:
        self.socket = socket

    def client(self) -> Client:
        """A client on the socket that the flags and the environment name; nothing is sent yet."""
        try:
            return Client(self.socket, transport="plain")
        except ValueError as error:
            raise click.UsageError(str(error)) from error


class LazyGroup(click.Group):
    """A group whose commands are named beforehand and imported on demand.

    Args:
        modules: of its commands, by their names.
        summaries: what each does, for a list of them that imports none; those that are not here are imported for it.

    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._modules: Mapping[str, str] = kwargs.pop("modules")
        self._summaries: Mapping[str, str] = kwargs.pop("summaries", {})
        super().__init__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self._modules.get(cmd_name)
        if module is None:
            return None
        noun = cmd_name.replace("-", "_")
        found = getattr(importlib.import_module(f"skilld.cli.commands.{module}"), f"{noun}_command")
        if not isinstance(found, click.Command):
            raise TypeError(f"skilld.cli.commands.{module}.{noun}_command is no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        outlines = self._outlines(ctx, "")
        width = formatter.width - 6 - max(len(name) for name, _ in outlines)
        with formatter.section("Commands"):
            formatter.write_dl([(name, outline.get_short_help_str(width)) for name, outline in outlines])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        named = [
            CompletionItem(name, help=found.get_short_help_str()) for name, found in self._outlines(ctx, incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]

    def _outlines(self, ctx: click.Context, beginning: str) -> Sequence[tuple[str, click.Command]]:
        """Commands whose names begin so, each as far as a list of them needs it."""
        names = [name for name in self.list_commands(ctx) if name.startswith(beginning)]
        return [(name, outline) for name in names if (outline := self._outline(ctx, name)) is not None]

    def _outline(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self._summaries:
            return click.Command(name, help=self._summaries[name])
        return self.get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._modules:
            raise click.UsageError(f"there is no command {args[0]!r}{_nearest(args[0], self._modules)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SkilldError as error:
            raise Failure.of(error) from error
        except NotAName as error:
            raise Failure(str(error), EXIT.USAGE) from error
        except UnicodeEncodeError as error:  # bytes of an argument that are no text, in what is sent
            raise Failure("an argument is not valid UTF-8; convert it, for example with iconv", EXIT.USAGE) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, print what went wrong in one line, and exit with our codes."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            hint = f"; see '{error.ctx.command_path} --help'" if error.ctx is not None else ""
            Failure(f"{error.format_message().rstrip('.')}{hint}").show()
            code = EXIT.USAGE
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except click.Abort:
            code = EXIT.CANCELLED
        sys.exit(code if isinstance(code, int) else EXIT.DONE)


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


@click.group(
    cls=LazyGroup,
    modules=_COMMANDS,
    summaries=SUMMARIES,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 waiting for approval, 4 daemon unreachable, "
    "5 refused by budget or policy, 124 timed out, 130 cancelled.",
)
@click.option(
    "--socket",
    metavar="PATH",
    help="The daemon's socket. Else SKILLD_SOCKET, your own daemon's where one lives, /run/skilld/skilld.sock.",
)
@click.version_option(__version__, message="skillctl %(version)s")
@click.pass_context
def skillctl(ctx: click.Context, socket: str | None) -> None:
    """Talk to skilld: send messages, follow conversations, see what the daemon does.

    \b
    Example:
      skillctl send "analyze the log /var/log/dpkg.log"
    """
    ctx.obj = App(socket)
