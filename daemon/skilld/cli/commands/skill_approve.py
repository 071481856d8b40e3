"""skillctl skills approve: which version of a skill has what it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from skilld.cli.app import App
from skilld.cli.commands.options import complete_skills, json_option, pass_app
from skilld.cli.output import one_line, print_json
from skilld.client import Client

__all__ = ["approve_skills", "is_about_approval"]

_CODES = frozenset({"changed_since_approved", "not_approved"})


@click.command("approve")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_skills)
@click.option("--digest", metavar="D", help="Only if this is the version in force. Default: the one in force now.")
@click.option("--revoke", is_flag=True, help="Take the approval back.")
@json_option()
@pass_app
def approve_skills(app: App, names: Sequence[str], digest: str | None, revoke: bool, as_json: bool) -> None:
    """Approve skills as they are now, where the daemon has skills.approval = "version".

    Until then, and once a skill is changed, its allowed-tools stand for no approval, it gets no secrets and its native
    code is not used.

    \b
    Example:
      skillctl skills approve log-analyzer
    """
    if digest is not None and (revoke or len(names) > 1):
        raise click.UsageError("--digest is for one NAME, and not for --revoke")
    done = []
    with app.client() as client:
        for name in names:
            answer = client.revoke_skill(name) if revoke else _approve(client, name, digest)
            done.append(answer)
            if not as_json:
                print(one_line(_told(answer)))
    if as_json:
        print_json(done)


def is_about_approval(diagnostic: Mapping[str, Any]) -> bool:
    """Whether it says that the skill is not approved as it is."""
    return diagnostic.get("code") in _CODES


def _approve(client: Client, name: str, digest: str | None) -> dict[str, Any]:
    return client.approve_skill(name, client.skill(name)["digest"] if digest is None else digest)


def _told(answer: Mapping[str, Any]) -> str:
    name, digest, before = answer["name"], answer["digest"], answer["before"]
    if digest is None:
        return f"{name}: {before} is not approved any more"
    if before == digest:
        return f"{name}: {digest} was approved already"
    return f"{name}: {digest} is approved" + ("" if before is None else f", {before} is not any more")
