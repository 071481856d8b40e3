"""The parts of a request that make the API run code: the tool, the container with its skills, the headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from skill_actors.backends.anthropic.specs import MAX_SKILLS, hosted_skills

__all__ = ["CODE_EXECUTION", "beta_headers", "code_execution_tool", "container_config", "with_container_id"]

CodeExecution = Literal[
    "code_execution_20250522", "code_execution_20250825", "code_execution_20260120", "code_execution_20260521"
]

# Bash and files, which is what skills need, with every model that has code execution; the later ones add a REPL.
CODE_EXECUTION: Final = "code_execution_20250825"
_CODE_EXECUTION: Final = re.compile(r"code_execution_\d{8}")
_BETAS: Final = ("code-execution-2025-08-25", "skills-2025-10-02", "files-api-2025-04-14")


def beta_headers() -> dict[str, str]:
    """One `anthropic-beta` header for code execution, Skills and Files.

    They left the beta in August 2026, and the API still takes the header: it is for servers and versions that need it.
    The clients of this package do not send it, since under it the Skills API answers in its older form.
    """
    return {"anthropic-beta": ",".join(_BETAS)}


def code_execution_tool(type: str = CODE_EXECUTION) -> dict[str, str]:
    """The tool that lets the model run code. Raises ValueError if `type` is no code execution tool."""
    if not _CODE_EXECUTION.fullmatch(type):
        raise ValueError(f"{type!r} is no type of a code execution tool; the default is {CODE_EXECUTION}")
    return {"type": type, "name": "code_execution"}


def container_config(
    specs: Iterable[object], container_id: str | None = None, *, max_skills: int = MAX_SKILLS
) -> dict[str, Any]:
    """The `container` of a request: `skills`, and `id` where there is one; empty if there is neither.

    Args:
        specs: each a HostedSkill, a name such as "anthropic:xlsx@latest", or a triple of type, id and version.
        container_id: of a container to use again.
        max_skills: how many one request may name.

    Raises:
        HostedError: "invalid_skill_spec", "skills_limit_exceeded".

    """
    skills = [skill.to_json() for skill in hosted_skills(specs, max_skills=max_skills)]
    return with_container_id({"skills": skills} if skills else {}, container_id)


def with_container_id(config: Mapping[str, Any], container_id: str | None) -> dict[str, Any]:
    """The same configuration for this container; for a new one if it is None. `config` is not changed."""
    rest = {name: value for name, value in config.items() if name != "id"}
    return {"id": container_id, **rest} if container_id else rest
