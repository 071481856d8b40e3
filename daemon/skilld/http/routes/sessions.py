"""Conversations: made, listed, looked at, changed, cancelled, deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.ids import is_id
from skill_actors.sessions.wanted import Wanted
from skilld.http.agents_rights import bound_settings, check_child
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route

__all__ = ["IDEMPOTENCY_KEY", "ROUTES", "Name", "SessionSettings", "idempotency_key", "session_id"]

_MAX_KEY_BYTES: Final = 255
_MAX_PAGE: Final = 1000
_FILTERS: Final = ("status", "label", "title", "q", "since")
_STATUSES: Final = ("idle", "queued", "running", "waiting", "paused")
_MAX_FILTER: Final = 400
_BINDING: Final = frozenset({"budget", "policy"})  # settings that hold a session's tools

IDEMPOTENCY_KEY: Final = Parameter(
    name="Idempotency-Key",
    where="header",
    summary="At most 255 visible ASCII characters. The same key and content is done once.",
)

Name = Annotated[str, Field(min_length=1, max_length=200)]


class SessionLimits(BaseModel):
    """Bounds of a session's turns, where they differ from the daemon's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    iterations: int | None = None
    tool_timeout_s: float | None = None
    turn_timeout_s: float | None = None
    workspace_bytes: int | None = None


class SkillChoice(BaseModel):
    """Which skills a session may use; denied wins. Names, or patterns such as `pdf*`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    allow: list[Name] | None = None
    deny: list[Name] | None = None


class FallbackSetting(BaseModel):
    """A whole agent that performs turns which the one before it cannot begin; without a model it chooses its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    backend: Name
    options: dict[str, Any] | None = None
    model: Name | None = None


class BackendSetting(BaseModel):
    """One backend of a session: under a name of the session's own, and with options that the operator permits."""

    model_config = ConfigDict(extra="forbid", strict=True)

    backend: Name
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")] | None = None
    options: dict[str, Any] | None = None
    fallback: Annotated[list[Name | FallbackSetting], Field(max_length=4)] | None = None


class ArtifactSetting(BaseModel):
    """A name for something that tools may use: a URI (skill://, https://), or text of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    uri: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    content: str | None = None


class BudgetSetting(BaseModel):
    """What all turns of a session may use together; the caps of the daemon bind it besides."""

    model_config = ConfigDict(extra="forbid", strict=True)

    usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    tool_calls: Annotated[int, Field(ge=0)] | None = None


class PolicySetting(BaseModel):
    """Which calls of tools run, need an approval, or never run; the daemon's own policy holds besides."""

    model_config = ConfigDict(extra="forbid", strict=True)

    preset: Name | None = None
    rules: list[dict[str, Any]] | None = None
    on_ask: Literal["wait", "deny"] | None = None


class SessionSettings(BaseModel):
    """What a session is made with. Other names pass this check: the session layer refuses them, saying why."""

    model_config = ConfigDict(extra="allow", strict=True)

    title: str | None = None
    system: str | None = None
    model: Name | None = None
    backends: list[Name | BackendSetting] | None = None
    skills: list[Name] | SkillChoice | None = None
    limits: SessionLimits | None = None
    labels: dict[str, str] | None = None
    cwd: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    artifacts: list[ArtifactSetting] | None = None
    budget: BudgetSetting | None = None
    policy: PolicySetting | None = None
    answer_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    parent: Name | None = None


class CancelRequest(BaseModel):
    """Whether messages that still wait are cancelled too."""

    model_config = ConfigDict(extra="forbid", strict=True)

    queued: bool = False


def session_id(call: Call) -> str:
    """The id in the path.

    Raises:
        Refused: not_found, for what cannot be an id, in the words used for one that does not exist.

    """
    value = call.params["id"]
    if not is_id(value, "ses"):
        raise Refused("not_found", f"no session {value[:60]!a}; GET /v1/sessions lists yours")
    return value


def idempotency_key(call: Call) -> str | None:
    """The header's value.

    Raises:
        Refused: bad_request, if it is empty, too long, or not visible ASCII.

    """
    key = call.headers.get("idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY_BYTES or not all("!" <= char <= "~" for char in key):
        raise Refused("bad_request", f"Idempotency-Key: expected 1 to {_MAX_KEY_BYTES} visible ASCII characters")
    return key


async def create(call: Call) -> Response:
    settings: dict[str, Any] = call.body.model_dump(exclude_unset=True, by_alias=True)
    settings |= await bound_settings(call, settings)
    made = await call.services.sessions.create(call.peer.uid, settings, idempotency_key(call))
    return JsonAnswer(made, status_code=201, headers={"location": f"/v1/sessions/{made['id']}"})


async def listing(call: Call) -> Response:
    limit = call.number("limit", 100, low=1, high=_MAX_PAGE)
    if limit != int(limit):
        raise Refused("bad_request", f"limit={limit:g}: expected a whole number")
    return JsonAnswer(
        await call.services.sessions.list(
            call.viewer, limit=int(limit), cursor=call.query.get("cursor"), wanted=_wanted(call)
        )
    )


def _wanted(call: Call) -> Wanted | None:
    """The filters of a list; None if there are none."""
    given = {name: call.query[name] for name in _FILTERS if name in call.query}
    if not given:
        return None
    for name, value in given.items():
        if not 0 < len(value) <= _MAX_FILTER:
            raise Refused("bad_request", f"{name}: expected 1 to {_MAX_FILTER} characters")
    status, since = given.get("status"), given.get("since")
    if status not in (None, *_STATUSES):
        raise Refused("bad_request", f"status={status[:40]!a}: expected one of {', '.join(_STATUSES)}")
    return Wanted(
        status=status,  # type: ignore[arg-type]  # one of them
        label=given.get("label"),
        title=given.get("title"),
        text=given.get("q"),
        since=None if since is None else _since(since),
    )


def _since(text: str) -> str:
    """A time as the store writes it, so that the two compare as texts."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise Refused(
            "bad_request", f"since={text[:40]!a}: expected a time with its zone, such as 2026-01-15T03:29:51Z"
        )
    try:
        return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError as error:
        raise Refused("bad_request", f"since={text[:40]!a}: out of range") from error


async def show(call: Call) -> Response:
    return JsonAnswer(await call.services.sessions.get(session_id(call), call.viewer))


async def update(call: Call) -> Response:
    changes: dict[str, Any] = call.body.model_dump(exclude_unset=True, by_alias=True)
    if not changes:
        raise Refused("bad_request", "nothing to change: the body names no field")
    if not _BINDING.isdisjoint(changes):
        refuse_own(call.peer, "change what a session may do and spend")
    return JsonAnswer(await call.services.sessions.update(session_id(call), call.viewer, changes))


async def delete(call: Call) -> Response:
    await call.services.sessions.delete(session_id(call), call.viewer)
    return Response(status_code=204)


async def cancel(call: Call) -> Response:
    queued: bool = call.body.queued
    await check_child(call, session_id(call))
    return JsonAnswer(await call.services.sessions.cancel(session_id(call), call.viewer, queued=queued))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/sessions",
        handler=create,
        permission="send",
        summary="Make a session.",
        body=SessionSettings,
        optional_body=True,
        parameters=(IDEMPOTENCY_KEY,),
        status=201,
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=listing,
        permission="read",
        summary="Your sessions, latest first; an admin sees everybody's.",
        parameters=(
            Parameter(name="limit", summary=f"How many at most, 1 to {_MAX_PAGE}; 100 if absent."),
            Parameter(name="cursor", summary="`next` of the page before."),
            Parameter(name="status", summary=f"Only those with this status: {', '.join(_STATUSES)}."),
            Parameter(name="label", summary="Only those with this label: its key, or key=value."),
            Parameter(name="title", summary="Only those with this text in the title."),
            Parameter(name="q", summary="Only those with this text in the title, a label's value or the id."),
            Parameter(name="since", summary="Only those used at this time or later, such as 2026-01-15T03:29:51Z."),
        ),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{id}",
        handler=show,
        permission="read",
        summary="One session.",
    ),
    Route(
        method="PATCH",
        path="/v1/sessions/{id}",
        handler=update,
        permission="send",
        summary="Change what may change of a session.",
        body=SessionSettings,
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{id}",
        handler=delete,
        permission="send",
        summary="Cancel what runs and remove the session with its history.",
        status=204,
    ),
    Route(
        method="POST",
        path="/v1/sessions/{id}/cancel",
        handler=cancel,
        permission="send",
        summary="Cancel the running turn and, with queued, those that wait.",
        body=CancelRequest,
        optional_body=True,
    ),
)
