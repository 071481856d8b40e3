"""The skills in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from skill_actors.errors import Refused
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure
from skill_actors.skills.requirements import requirements_of
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.sessions import session_id
from skilld.http.sse import JSON_LINES, SSE, EventStream

__all__ = ["ROUTES", "ZIP"]

ZIP: Final = "application/zip"


class ApproveRequest(BaseModel):
    """The version that was looked at."""

    model_config = ConfigDict(extra="forbid", strict=True)

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


async def listing(call: Call) -> Response:
    snapshot = call.services.skills.snapshot
    unmet = await call.services.skills.unmet(snapshot)
    return JSONResponse(
        {
            "items": [{**_summary(skill), "unmet": unmet.get(skill.name, [])} for skill in snapshot.skills.values()],
            "next": None,
            "failures": [_failure(failure) for failure in snapshot.failures],
            "generation": snapshot.generation,
            "loaded_at": snapshot.loaded_at,
        }
    )


async def of_session(call: Call) -> Response:
    """Without generation: a project's skills have none."""
    snapshot = await call.services.sessions.skills(session_id(call), call.viewer)
    return JSONResponse(
        {
            "items": [_summary(skill) for skill in snapshot.skills.values()],
            "next": None,
            "failures": [_failure(failure) for failure in snapshot.failures],
        }
    )


async def show(call: Call) -> Response:
    snapshot = call.services.skills.snapshot
    skill = snapshot.skills.get(call.params["name"])
    if skill is None:
        raise _missing(call)
    unmet = await call.services.skills.unmet(snapshot)
    detail = {
        "approved": call.services.skills.approved.get(skill.name),
        "unmet": unmet.get(skill.name, []),
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


async def push(call: Call) -> Response:
    made = await call.services.skills.push(call.body)
    return JSONResponse(dict(made), status_code=200 if made["replaced"] else 201)


async def remove(call: Call) -> Response:
    return JSONResponse(dict(await call.services.skills.remove(call.params["name"])))


async def approve(call: Call) -> Response:
    request: ApproveRequest = call.body
    return JSONResponse(dict(await call.services.skills.approve(call.params["name"], request.digest, call.peer.uid)))


async def revoke(call: Call) -> Response:
    return JSONResponse(dict(await call.services.skills.revoke(call.params["name"], call.peer.uid)))


async def changes(call: Call) -> Response:
    text = call.headers.get("last-event-id") or call.query.get("after") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refused("bad_request", f"after: expected a generation such as 12, got {text[:40]!r}")
    opened = call.services.skills.changes(int(text), live=call.flag("follow", True))
    return EventStream(opened, sse=call.accepts(SSE))


def _missing(call: Call) -> Refused:
    return Refused("not_found", f"no skill {call.params['name'][:80]!a}; GET /v1/skills lists them")


def _summary(skill: Skill) -> dict[str, Any]:
    return {
        "name": skill.name,
        "description": skill.description,
        "digest": skill.digest,
        "path": _text(skill.root),
        "package": None if skill.package is None else _text(skill.package),
        "entry": list(skill.entry) if skill.entry is not None else None,
        "allowed_tools": list(skill.allowed_tools),
        "trusted": skill.trusted,
        "tools": [] if skill.native is None else [tool["name"] for tool in skill.native.tools.values()],
        "diagnostics": _diagnostics((*skill.diagnostics, *requirements_of(skill).malformed)),
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
        path="/v1/sessions/{id}/skills",
        handler=of_session,
        permission="read",
        summary="The skills that the session's next turn may use, and what kept others out.",
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
    Route(
        method="POST",
        path="/v1/skills",
        handler=push,
        permission="admin",
        summary="Store a skill, sent as a .skill package, and use it before all others of its name.",
        raw_body=ZIP,
        status=201,
    ),
    Route(
        method="DELETE",
        path="/v1/skills/{name}",
        handler=remove,
        permission="admin",
        summary="Remove a skill that was sent.",
    ),
    Route(
        method="POST",
        path="/v1/skills/{name}/approve",
        handler=approve,
        permission="admin",
        summary="Approve the version of a skill that is in force, so that it has what it asks for.",
        body=ApproveRequest,
    ),
    Route(
        method="DELETE",
        path="/v1/skills/{name}/approve",
        handler=revoke,
        permission="admin",
        summary="Take back the approval of a skill.",
    ),
    Route(
        method="GET",
        path="/v1/skill-changes",
        handler=changes,
        permission="read",
        summary="Changes of the skills after a generation: those remembered, then those to come until you leave.",
        parameters=(
            Parameter(name="after", summary="A generation; all that is remembered if absent."),
            Parameter(name="follow", summary="false ends after what is remembered; true if absent."),
            Parameter(name="Last-Event-ID", where="header", summary="As after, and stronger."),
        ),
        media=(JSON_LINES, SSE),
    ),
)
