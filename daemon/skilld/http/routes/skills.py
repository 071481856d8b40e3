"""The skills in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from skill_actors.errors import Refused
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure
from skilld.http.route import Call, Route

__all__ = ["ROUTES"]


async def listing(call: Call) -> Response:
    snapshot = call.services.skills.snapshot
    return JSONResponse(
        {
            "items": [_summary(skill) for skill in snapshot.skills.values()],
            "next": None,
            "failures": [_failure(failure) for failure in snapshot.failures],
            "generation": snapshot.generation,
            "loaded_at": snapshot.loaded_at,
        }
    )


async def show(call: Call) -> Response:
    skill = call.services.skills.snapshot.skills.get(call.params["name"])
    if skill is None:
        raise _missing(call)
    detail = {
        "body": skill.body,
        "license": skill.license,
        "compatibility": skill.compatibility,
        "metadata": dict(skill.metadata),
        "files": list(skill.files),
    }
    return JSONResponse({**_summary(skill), **detail})


async def reload_all(call: Call) -> Response:
    return JSONResponse(dict(await call.services.skills.reload(None)))


async def reload_one(call: Call) -> Response:
    """A skill that failed to load is known by its folder, so that mending it needs no reload of all."""
    snapshot = call.services.skills.snapshot
    name = call.params["name"]
    if name not in snapshot.skills and name not in {failure.path.name for failure in snapshot.failures}:
        raise _missing(call)
    return JSONResponse(dict(await call.services.skills.reload(name)))


def _missing(call: Call) -> Refused:
    return Refused("not_found", f"no skill {call.params['name'][:80]!a}; GET /v1/skills lists them")


def _summary(skill: Skill) -> dict[str, Any]:
    return {
        "name": skill.name,
        "description": skill.description,
        "digest": skill.digest,
        "path": _text(skill.root),
        "entry": list(skill.entry) if skill.entry is not None else None,
        "allowed_tools": list(skill.allowed_tools),
        "trusted": skill.trusted,
        "diagnostics": _diagnostics(skill.diagnostics),
    }


def _failure(failure: SkillFailure) -> dict[str, Any]:
    diagnostics = _diagnostics(failure.diagnostics)
    return {"path": _text(failure.path), "kept": failure.kept, "diagnostics": diagnostics}


def _diagnostics(items: Sequence[Diagnostic]) -> list[dict[str, Any]]:
    return [
        {
            "code": item.code,
            "message": item.message,
            "severity": item.severity,
            "line": item.line,
            "remedy": item.remedy,
        }
        for item in items
    ]


def _text(path: object) -> str:
    """Paths may hold bytes that are not UTF-8, which JSON cannot carry."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/skills",
        handler=listing,
        permission="read",
        summary="All skills in force, and the folders that could not be loaded.",
    ),
    Route(
        method="GET",
        path="/v1/skills/{name}",
        handler=show,
        permission="read",
        summary="One skill with its instructions.",
    ),
    Route(
        method="POST",
        path="/v1/skills/reload",
        handler=reload_all,
        permission="admin",
        summary="Read all skills from disk again.",
    ),
    Route(
        method="POST",
        path="/v1/skills/{name}/reload",
        handler=reload_one,
        permission="admin",
        summary="Read one skill from disk again.",
    ),
)
