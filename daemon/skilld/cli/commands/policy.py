"""skillctl policy: what becomes of a call, and why."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_sessions, json_option, pass_app
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import print_json

if TYPE_CHECKING:
    from skill_actors.backends.base import ToolCall
    from skill_actors.sessions.policy import Decision, RuleSet

__all__ = ["policy_command"]

_EXITS: Final[Mapping[str, int]] = {"allow": EXIT.DONE, "ask": EXIT.WAITING_FOR_APPROVAL, "deny": EXIT.REFUSED}
_CONFINED: Final = frozenset({"docker", "anthropic"})
_PRESETS: Final = ("read-only", "guarded", "workspace", "full")


@click.group("policy")
def policy_command() -> None:
    """See what the rules of [policy] make of a call.

    \b
    Example:
      skillctl policy check 'git status; rm -rf build'
    """


@policy_command.command("check")
@click.argument("command", nargs=-1)
@click.option("--preset", type=click.Choice(_PRESETS), help="Judge by this preset and not by the configuration.")
@click.option(
    "--rules",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Judge by this TOML file: the keys of [policy]. With --preset, that comes last.",
)
@click.option("--session", metavar="ID", shell_complete=complete_sessions, help="And by what this session has set.")
@click.option("--tool", metavar="NAME", help="A call of another tool than bash_tool.")
@click.option("--path", metavar="PATH", help="The file that the call names.")
@click.option("--backend", default="local", show_default=True, help="Where the call would run.")
@click.option("--place", help="What the session calls that; the backend's name if it is not given.")
@click.option("--confined/--not-confined", default=None, help="Whether it is kept there. Else so for docker alone.")
@click.option("--user", "uid", type=int, help="Id of the user whose session it is. Else yours.")
@json_option()
@pass_app
def check_policy(
    app: App,
    /,
    command: tuple[str, ...],
    preset: str | None,
    rules: Path | None,
    session: str | None,
    tool: str | None,
    path: str | None,
    as_json: bool,
    **where: Any,
) -> int:
    """Tell whether a command, or a call of another tool, would be allowed, denied or asked about, and why.

    One COMMAND is a line for a shell; several are the words of one. Nothing is run, and no daemon is needed but for
    --session. Exits 0 if the call is allowed, 3 if it would be asked about, 5 if it is denied.

    \b
    Examples:
      skillctl policy check 'make && rm -rf build'
      skillctl policy check --preset guarded -- cat 'my file'
      skillctl policy check --tool create_file --path ../x
    """
    from skill_actors.sessions.policy import Policy

    call = _call(command, tool, path)
    operators, by = _operators(preset, rules)
    sets = [operators, *([] if session is None else [_sessions(app, session)])]
    confined = where["backend"] in _CONFINED if where["confined"] is None else where["confined"]
    policy = Policy(
        tools=[call.name],
        rules=sets,
        place=where["place"] or where["backend"],
        backend=where["backend"],
        confined=confined,
        owner_uid=os.getuid() if where["uid"] is None else where["uid"],
        workspace="/workspace",
    )
    decision = policy.decide(call)
    found = {"verdict": decision.verdict, "rule": decision.rule, "why": decision.why, "by": by, **_analysis(call)}
    if as_json:
        print_json(found)
    else:
        _print(decision, found)
    return _EXITS[decision.verdict]


def _call(command: Sequence[str], tool: str | None, path: str | None) -> ToolCall:
    from skill_actors.backends.base import ToolCall
    from skill_actors.skills.allowed_tools import tool_ruled

    if bool(command) == bool(tool):
        raise click.UsageError("give a COMMAND, or --tool")
    if command:
        line = command[0] if len(command) == 1 else shlex.join(command)
        return ToolCall(id="", name="bash_tool", input={"command": line})
    name = tool_ruled(str(tool))
    if name is None:
        raise click.UsageError(f"there is no tool {tool!r}")
    return ToolCall(id="", name=name, input={} if path is None else {"path": path})


def _operators(preset: str | None, file: Path | None) -> tuple[RuleSet, str]:
    """Of the file, of the preset, or of the configuration that a daemon started here would use; and which it was."""
    from pydantic import ValidationError

    from skilld.config import ConfigError, PolicyConfig, find_and_load
    from skilld.config.policy import policy_rules

    try:
        if preset is None and file is None:
            loaded = find_and_load(None, os.environ)
            # Flags and variables of the running daemon are not known here: whoever reads this sees what was assumed.
            where = ", ".join(map(str, loaded.files)) or "no configuration file"
            return policy_rules(loaded.config.policy), f"{where}; mode {loaded.config.daemon.mode}"
        config = PolicyConfig.model_validate({} if file is None else _read(file))
        named = [] if file is None else [str(file)]
        if preset is not None:
            config, named = config.model_copy(update={"preset": preset}), [*named, f"preset {preset}"]
        return policy_rules(config), ", ".join(named)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise Failure(f"{file}: {'; '.join(wrong)}", EXIT.USAGE) from error
    except ConfigError as error:
        raise Failure(str(error), EXIT.USAGE) from error
    except (ValueError, OSError) as error:
        raise Failure(f"{file}: {error}", EXIT.USAGE) from error


def _read(file: Path) -> Mapping[str, Any]:
    """The keys of [policy], which may stand in such a section or at the top."""
    import tomllib

    tree = tomllib.loads(file.read_text(encoding="utf-8"))
    section = tree.get("policy", tree)
    return section if isinstance(section, dict) else tree


def _sessions(app: App, session: str) -> RuleSet:
    from skill_actors.sessions.policy import parse_policy

    with app.client() as client:
        return parse_policy(client.session(session).get("policy")).rule_set


def _analysis(call: ToolCall) -> dict[str, Any]:
    """JSON-ready: what the command runs."""
    from skill_actors.sessions.policy.policy import analysis_of

    analysis = analysis_of(call)
    if analysis is None:
        return {"plain": None, "opaque": "", "commands": []}
    commands = [
        {
            "program": command.program,
            "words": [word.text for word in command.words],
            "sure": all(word.sure for word in command.words),
            "doubt": None if command.doubt is None else command.doubt.reason,
            "files": [redirect.path for redirect in command.redirects],
        }
        for command in analysis.commands
    ]
    return {"plain": analysis.plain, "opaque": analysis.opaque, "commands": commands}


def _print(decision: Decision, found: Mapping[str, Any]) -> None:
    from skill_actors.sessions.policy import shown

    print(f"verdict: {decision.verdict}")
    print(f"rule:    {decision.rule or 'none holds'}")
    print(f"by:      {shown(found['by'])}")
    if decision.why:
        print(f"why:     {decision.why}")
    if found["opaque"]:
        print(f"opaque:  {found['opaque']}")
    for command in found["commands"]:
        words = " ".join(shown(shlex.quote(word)) for word in command["words"])
        files = "".join(f"  [opens {'a file' if file is None else shown(file)}]" for file in command["files"])
        print(f"runs:    {words}{files}" + (f"  ({command['doubt']})" if command["doubt"] else ""))
