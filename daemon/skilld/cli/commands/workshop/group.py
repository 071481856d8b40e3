"""skillctl workshop: the nouns of the workshop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from skilld.cli.app import LazyGroup

__all__ = ["workshop_command"]

_NOUNS: Final[Mapping[str, str]] = {
    "agent": "workshop.agent",
    "ask": "workshop.speaking",
    "await": "workshop.speaking",
    "board": "workshop.board",
    "cast": "workshop.speaking",
    "configure": "workshop.profile",
    "events": "workshop.events",
    "fan": "workshop.speaking",
    "git": "workshop.git",
    "pipe": "workshop.speaking",
    "profile": "workshop.profile",
    "publish": "workshop.events",
    "schedule": "workshop.schedule",
    "store": "workshop.store",
    "work": "workshop.board_items",
    "worker": "workshop.worker",
    "workflow": "workshop.workflow",
    "worktree": "workshop.git",
}

_SUMMARIES: Final[Mapping[str, str]] = {
    "agent": "Define agents, and see what they do and cost.",
    "ask": "Ask an agent and print its answer as it is written.",
    "await": "Wait until agents have nothing to do, all of yours without AGENT.",
    "board": "See what is to be done, add to it, and do it.",
    "cast": "Tell an agent something and wait for nothing.",
    "configure": "Set what holds for agents that you define from now on; without options, show it.",
    "events": "Show what happens in the workshop.",
    "fan": "Tell several agents the same, and print their answers; of 'first' and 'best' the one.",
    "git": "See how the repository of an agent's folder stands.",
    "pipe": "Wait for one agent, tell another its result, and print what that answers.",
    "profile": "Keep settings under names, to define agents from.",
    "publish": "Publish an event for whoever follows its topic.",
    "schedule": "Give agents messages at times that you set.",
    "store": "Keep values that agents and users share.",
    "work": "Put an item on the board, as 'skillctl board add'.",
    "worker": "Have agents do the items of the board.",
    "workflow": "Have work done in stages, each by the agent that it needs.",
    "worktree": "Bring home what agents have done in worktrees of their own, and clean up.",
}


@click.group("workshop", cls=LazyGroup, modules=_NOUNS, summaries=_SUMMARIES)
def workshop_command() -> None:
    """Work with agents that have names, and with what they share.

    \b
    Examples:
      skillctl workshop events --follow
      skillctl workshop store put notes today "it rains"
    """
