"""What of this daemon nothing that it runs in a sandbox may see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from skilld.config import Config

__all__ = ["private_folders"]


def private_folders(config: Config, environ: Mapping[str, str]) -> list[Path]:
    """Its state, its socket's folder, its credentials."""
    servers = [secret for each in config.mcp.servers.values() for secret in each.secrets.values()]
    headers = [secret for each in config.mcp.servers.values() for secret in each.secret_headers.values()]
    of_skills = [secret for of_skill in config.skills.secrets.values() for secret in of_skill.values()]
    secrets = [secret.file for secret in (*of_skills, *servers, *headers)]
    agents = [config.backends.claude_cli.api_key_file, config.backends.codex_cli.api_key_file]
    files = [config.model.api_key_file, config.hooks.token_file, *agents, *secrets]
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    return [
        config.daemon.state_dir,
        config.daemon.socket,
        *(Path(path) for path in files if path is not None),
        *([Path(credentials)] if credentials else []),
    ]
