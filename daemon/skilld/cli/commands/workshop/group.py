"""skillctl workshop: the nouns of the workshop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

from skilld.cli.app import LazyGroup

__all__ = ["workshop_command"]

_NOUNS: Final[Mapping[str, str]] = {
    "agent": "workshop.agent",
    "apply": "workshop.setup",
    "ask": "workshop.speaking",
    "await": "workshop.speaking",
    "board": "workshop.board",
    "budget": "workshop.budget",
    "cast": "workshop.speaking",
    "configure": "workshop.profile",
    "diff": "workshop.setup",
    "events": "workshop.events",
    "export": "workshop.setup",
    "fan": "workshop.speaking",
    "git": "workshop.git",
    "guide": "workshop.guide",
    "pipe": "workshop.speaking",
    "profile": "workshop.profile",
    "publish": "workshop.events",
    "schedule": "workshop.schedule",
    "status": "workshop.status",
    "store": "workshop.store",
    "validate": "workshop.setup",
    "work": "workshop.board_items",
    "worker": "workshop.worker",
    "workflow": "workshop.workflow",
    "worktree": "workshop.git",
}

_SUMMARIES: Final[Mapping[str, str]] = {
    "agent": "Define agents, and see what they do and cost.",
    "apply": "Make profiles, agents, workers, workflows and schedules as a setup file says. What is so already stays.",
    "ask": "Ask an agent and print its answer as it is written.",
    "await": "Wait until agents have nothing to do, all of yours without AGENT.",
    "board": "See what is to be done, add to it, and do it.",
    "budget": "See and set what your agents may cost, each and all together.",
    "cast": "Tell an agent something and wait for nothing.",
    "configure": "Set what holds for agents that you define from now on; without options, show it.",
    "diff": "Show what 'apply' would do with a setup file, and change nothing.",
    "events": "Show what happens in the workshop.",
    "export": "Print what there is as a setup file, which makes the same wherever it is applied.",
    "fan": "Tell several agents the same, and print their answers; of 'first' and 'best' the one.",
    "git": "See how the repository of an agent's folder stands.",
    "guide": "Read the guides: how to work in the workshop, alone, in pairs, over the board, with others.",
    "pipe": "Wait for one agent, tell another its result, and print what that answers.",
    "profile": "Keep settings under names, to define agents from.",
    "publish": "Publish an event for whoever follows its topic.",
    "schedule": "Give agents messages at times that you set.",
    "status": "Show all of the workshop on one screen: agents, board, workers, schedules, runs, what was spent.",
    "store": "Keep values that agents and users share.",
    "validate": "Check a setup file, without a daemon. What it names has to be in it.",
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
      skillctl workshop agent define reviewer --role "You review patches."
      skillctl ask reviewer "is the last commit complete?"
      skillctl workshop status
      skillctl workshop apply workshop.toml
    """
