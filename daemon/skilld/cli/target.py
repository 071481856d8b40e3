"""Which conversation a message goes to: the one named, the latest, or a new one with these settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from skilld.cli.backend_argument import backend_setting
from skilld.cli.failure import Failure
from skilld.client import Client

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which conversation the message goes to, as the flags say."""

    session: str | None
    latest: bool
    backends: tuple[str, ...]
    skills: tuple[str, ...]
    denied: tuple[str, ...]
    cwd: Path | None
    model: str | None
    parent: str | None = None
    servers: tuple[str, ...] = ()

    def check(self, new: bool) -> None:
        """Raise UsageError where the flags contradict each other."""
        chosen = [
            name
            for name, given in (("-s", self.session), ("-c", self.latest), ("--new", new))
            if given not in (None, False)
        ]
        if len(chosen) > 1:
            raise click.UsageError(f"{' and '.join(chosen)} exclude each other")
        fixed = (self.backends, self.skills, self.denied, self.cwd, self.model, self.parent, self.servers)
        if chosen and not new and any(fixed):
            raise click.UsageError(
                "--backend, --skill, --no-skill, --mcp, --cwd, --model and --parent are fixed when a session is made; "
                f"leave out {chosen[0]} for a new one"
            )

    def open(self, client: Client) -> tuple[str, bool]:
        """The session's id, and whether it was made just now."""
        if self.session is not None:
            return self.session, False
        if self.latest:
            found = client.latest_session()
            if found is None:
                raise Failure("you have no session to continue; send without -c to start one")
            return str(found["id"]), False
        settings: dict[str, Any] = {}
        if self.backends:
            settings["backends"] = [backend_setting(text) for text in self.backends]
        if self.skills:
            settings["skills"] = list(self.skills)
        if self.denied:
            settings["skills"] = {"deny": list(self.denied)} | ({"allow": list(self.skills)} if self.skills else {})
        if self.servers:
            settings["mcp"] = list(self.servers)
        if self.cwd is not None:
            settings["cwd"] = str(self.cwd.absolute())
        if self.model:
            settings["model"] = self.model
        if self.parent:
            settings["parent"] = self.parent
        return str(client.create_session(**settings)["id"]), True
