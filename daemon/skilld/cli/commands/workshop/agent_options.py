"""What commands of agents have in common: the options that settings are made of, and how agents are completed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from skilld.cli.backend_argument import backend_setting
from skilld.cli.commands.workshop.completing import complete_agents
from skilld.cli.failure import EXIT, Failure

if TYPE_CHECKING:
    pass

__all__ = ["agent_argument", "agent_settings", "json_of", "settings_options"]

F = TypeVar("F", bound=Callable[..., Any])

_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
_POLICIES: Final = ("read-only", "guarded", "workspace", "full")


def agent_argument(*, many: bool = False, required: bool = True) -> Callable[[F], F]:
    """AGENT, passed as `name`, or AGENT... passed as `names`."""
    if many:
        metavar = "AGENT..." if required else "[AGENT]..."
        return click.argument("names", metavar=metavar, nargs=-1, required=required, shell_complete=complete_agents)
    return click.argument("name", metavar="AGENT", shell_complete=complete_agents)


_OPTIONS: Final = (
    click.option(
        "--backend",
        metavar="B",
        help="What performs its turns: NAME, or with options NAME:KEY=VALUE,... such as docker:memory=512m.",
    ),
    click.option(
        "--fallback",
        "fallback",
        multiple=True,
        metavar="B",
        help="A whole agent, as NAME:model=M,KEY=VALUE,..., that performs turns which the one before cannot begin.",
    ),
    click.option("--model", metavar="M", help="Its model."),
    click.option("--effort", type=click.Choice(_EFFORTS), help="How much effort the model makes."),
    click.option(
        "--max-turns", type=click.IntRange(1), metavar="N", help="At most so many answers of the model a turn."
    ),
    click.option("--policy", type=click.Choice(_POLICIES), help="What its tools may do."),
    click.option(
        "--max-cost", "max_cost_usd", type=click.FloatRange(0), metavar="USD", help="All that it may ever cost."
    ),
    click.option(
        "--timeout", "timeout_s", type=click.FloatRange(1), metavar="S", help="The time of each of its turns."
    ),
    click.option("--queue", type=click.IntRange(0), metavar="N", help="How many messages may wait; 5 without it."),
    click.option(
        "--worktree/--no-worktree", default=None, help="It works in a worktree of its own of its project's repository."
    ),
    click.option(
        "--git-context/--no-git-context", default=None, help="Tell it how the repository of its folder stands."
    ),
    click.option("--workshop-tools/--no-workshop-tools", default=None, help="Give it the workshop's own tools."),
)
_OWN_OPTIONS: Final = (
    click.option("--role", metavar="TEXT", help="What it is, in its system prompt."),
    click.option("--context", metavar="TEXT", help="In its system prompt in place of the common context; '' for none."),
    click.option("--guide", "skill", metavar="SKILL", help="Put the text of this skill first in its system prompt."),
    click.option("--skill", "skills", multiple=True, metavar="S", help="It may use this skill alone; repeatable."),
    click.option("--cwd", type=click.Path(path_type=Path), metavar="DIR", help="The project it works in."),
    click.option(
        "--settings",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Further settings, as a JSON object; options win.",
    ),
)


def settings_options(*, own: bool = True) -> Callable[[F], F]:
    """The options of settings; without `own` those for which there can be defaults."""

    def add(command: F) -> F:
        for option in reversed((*(_OWN_OPTIONS if own else ()), *_OPTIONS)):
            command = option(command)
        return command

    return add


def agent_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that options stand for, as the daemon takes them. Raises Failure, click.UsageError."""
    settings = {name: value for name, value in given.items() if value not in (None, ())}
    file = settings.pop("file", None)
    below = {} if file is None else json_of(file, "--settings")
    backend = settings.pop("backend", None)
    if backend is not None:
        settings |= _backend(backend)
    if "fallback" in settings:
        settings["fallback"] = [_fallback(text) for text in settings["fallback"]]
    if "cwd" in settings:
        settings["cwd"] = str(settings["cwd"].absolute())
    if "skills" in settings:
        settings["skills"] = list(settings["skills"])
    return {**below, **settings}


def _backend(text: str) -> dict[str, Any]:
    setting = backend_setting(text)
    if isinstance(setting, str):
        return {"backend": setting}
    if "name" in setting:
        raise click.UsageError("--backend: an agent has one backend, and no name for it")
    return {"backend": setting["backend"], "options": setting["options"]}


def _fallback(text: str) -> dict[str, Any]:
    setting = _backend(text)
    options = dict(setting.get("options", {}))
    model = options.pop("model", None)
    chosen = {"backend": setting["backend"], "options": options, "model": None if model is None else str(model)}
    return {key: value for key, value in chosen.items() if value}


def json_of(file: Path, option: str) -> dict[str, Any]:
    """The JSON object in a file. Raises Failure."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{option}: {file}: {error.strerror}", EXIT.USAGE) from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"{option}: {file} is not JSON: {error}", EXIT.USAGE) from error
    if not isinstance(value, dict):
        raise Failure(f"{option}: {file} holds no JSON object", EXIT.USAGE)
    return value
