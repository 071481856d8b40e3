"""skillctl workshop git: the repositories that agents work in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import json_option, pass_app
from skilld.cli.commands.workshop.agent_options import agent_argument
from skilld.cli.failure import EXIT, Failure
from skilld.cli.output import Console, one_line, print_json, print_table

__all__ = ["git_command", "worktree_command"]


@click.group("git")
def git_command() -> None:
    """See how the repository of an agent's folder stands.

    \b
    Examples:
      skillctl workshop git summary coder
      skillctl workshop git diff coder
    """


@git_command.command("summary")
@agent_argument()
@json_option()
@pass_app
def git_summary(app: App, name: str, as_json: bool) -> None:
    """Show branch, changed files and the latest commits.

    \b
    Example:
      skillctl workshop git summary coder
    """
    with app.client() as client:
        found = client.agent_git(name)
    if as_json:
        print_json(found)
        return
    print(f"branch: {one_line(str(found['branch'] or '-'))}")
    print(f"commit: {found['sha'] or '-'}")
    if found["upstream"] is not None:
        print(f"upstream: {one_line(found['upstream'])}, {found['ahead']} ahead, {found['behind']} behind")
    for kind in ("conflicts", "staged", "unstaged", "untracked"):
        for path in found[kind]:
            print(f"{kind}: {one_line(path)}")
    for commit in found["commits"]:
        print(f"{commit['sha']} {one_line(commit['subject'])}")


@git_command.command("diff")
@agent_argument()
@pass_app
def git_diff(app: App, name: str) -> int:
    """Print what is not committed, or not merged of an agent's worktree, as a patch.

    \b
    Example:
      skillctl workshop git diff coder
    """
    with app.client() as client:
        found = client.agent_diff(name)
    console = Console()
    console.answer(str(found["diff"]))
    if found["cut"]:
        console.end_line()
        console.warn("there is more than can be shown")
    return EXIT.DONE


@click.group("worktree")
def worktree_command() -> None:
    """Bring home what agents have done in worktrees of their own, and clean up.

    \b
    Examples:
      skillctl workshop agent define coder --cwd . --worktree
      skillctl workshop git diff coder
      skillctl workshop worktree merge coder --commit "what the coder did"
    """


@worktree_command.command("list")
@json_option()
@pass_app
def list_worktrees(app: App, as_json: bool) -> None:
    """List the worktrees of your agents, those that were dismissed too, and of items of your board.

    \b
    Example:
      skillctl workshop worktree list
    """
    with app.client() as client:
        found = client.agent_worktrees()
    if as_json:
        print_json({"items": found})
        return
    rows = [
        [_whose(tree), str(tree["state"]), str(tree["ahead"]), str(len(tree["changed"])), str(tree["folder"])]
        for tree in found
    ]
    print_table(("agent", "state", "commits", "changed", "folder"), rows)


def _whose(tree: Mapping[str, Any]) -> str:
    return str(tree["agent"]) if "agent" in tree else f"item {tree['item']}"


@worktree_command.command("merge")
@agent_argument()
@click.option("--commit", metavar="TEXT", help="First commit what is not committed there, with this message.")
@json_option()
@pass_app
def merge_worktree(app: App, name: str, commit: str | None, as_json: bool) -> int:
    """Merge an agent's worktree into what its repository has checked out. Prints the commit.

    Where there are conflicts nothing is touched, their paths are printed, and it ends with 1.

    \b
    Example:
      skillctl workshop worktree merge coder --commit "what the coder did"
    """
    with app.client() as client:
        found = client.merge_worktree(name, commit=commit)
    if as_json:
        print_json(found)
    if found["merged"]:
        if not as_json:
            print(found["commit"])
        return EXIT.DONE
    if not as_json:
        for path in found["conflicts"]:
            print(one_line(path))
    raise Failure(f"{len(found['conflicts'])} files are in conflict; nothing was touched")


@worktree_command.command("remove")
@agent_argument()
@click.option("--force", is_flag=True, help="Also what is not committed or merged: it is lost.")
@pass_app
def remove_worktree(app: App, name: str, force: bool) -> None:
    """Remove the worktree of an agent that was dismissed, and its branch.

    \b
    Example:
      skillctl workshop worktree remove coder
    """
    with app.client() as client:
        client.remove_worktree(name, force=force)
