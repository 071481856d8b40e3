"""skillctl monitor: what other programs report of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from skilld.cli.app import LazyGroup

__all__ = ["monitor_command"]

_COMMANDS: Final[Mapping[str, str]] = {
    "alerts": "monitor.alerts",
    "cleanup": "monitor.cleanup",
    "export": "monitor.exporting",
    "import": "monitor.importing",
    "query": "monitor.query",
    "rules": "monitor.rules",
    "scan": "monitor.scan",
    "sessions": "monitor.sessions",
    "sinks": "monitor.sinks",
    "sources": "monitor.sources",
    "stats": "monitor.stats",
    "tail": "monitor.tail",
    "trace": "monitor.trace",
    "verify": "monitor.verifying",
}

_SUMMARIES: Final[Mapping[str, str]] = {
    "alerts": "See what was found in what your programs and conversations say.",
    "cleanup": "Remove what your programs reported DAYS ago and earlier; with the role admin everybody's.",
    "export": "Write all events that were reported, the oldest first, as lines of JSON.",
    "import": "Take over files of Cylestio Monitor, of both of its generations, and exports of ours.",
    "query": "Find events, the newest first: by what they are, and by all words of TEXT in their names and data.",
    "rules": "See the rules by which secrets, dangerous commands and misleading prompts are found.",
    "scan": "Tell what would be found in a text, and print it masked.",
    "sessions": "List the conversations that your programs named, the latest first: calls, tokens, cost, errors.",
    "sinks": "List where reported events go besides the store, and how far each place is behind.",
    "sources": "List the programs that report now: what came of each since it began, and what waits.",
    "stats": "Print how much was reported, by agent, channel and level, and what models used, by model and user.",
    "tail": "Print the latest events, the newest last.",
    "trace": "Draw a trace: its spans as a tree, when each was open, what models used, events under their spans.",
    "verify": "Check the checksums of an event log: of every file that has ended, and that none is missing in between.",
}


@click.group("monitor", cls=LazyGroup, modules=_COMMANDS, summaries=_SUMMARIES)
def monitor_command() -> None:
    """See what other programs report of themselves.

    They do it with one line of Python, 'skilld_monitor.enable_monitoring("name")', as the manual tells on its page
    about monitoring. You see what your own programs reported, with the role admin what everybody's did.

    \b
    Examples:
      skillctl monitor tail -f
      skillctl monitor query --agent shop --level error "card declined"
      skillctl monitor stats
    """
