"""What happens in the workshop: the stored events, then new ones as they come; and what users publish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.workshop.events import MAX_NEWEST, Choice, Feed, Follower
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.services import Viewer
from skilld.http.sse import JSON_LINES, SSE, EventStream

__all__ = ["ROUTES"]

_MAX_LIMIT: Final = 1_000_000
_MAX_DIGITS: Final = 18


class PublishRequest(BaseModel):
    """What a user has to say to whoever follows the topic, which begins with `custom.`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    topic: str
    name: str
    data: dict[str, Any] = Field(default_factory=dict)


async def follow(call: Call) -> Response:
    choice = Choice.parse(_words(call, "topic"), _words(call, "name"))
    last, limit = _count(call, "last", 0, MAX_NEWEST), _count(call, "limit", 1, _MAX_LIMIT)
    opened = _opened(
        call.services.workshop().feed,
        call.viewer,
        choice,
        after=_after(call),
        newest=last,
        live=call.flag("follow", True),
        limit=limit,
    )
    return EventStream(opened, sse=call.accepts(SSE))


@asynccontextmanager
async def _opened(feed: Feed, viewer: Viewer, choice: Choice, **options: Any) -> AsyncIterator[Follower]:
    with feed.follow(viewer, choice, **options) as follower:
        yield follower


async def publish(call: Call) -> Response:
    request: PublishRequest = call.body
    feed = call.services.workshop().feed
    event = await feed.publish_custom(call.viewer.uid, request.topic, request.name, request.data)
    return JsonAnswer(event.to_dict(), status_code=201)


def _after(call: Call) -> int:
    """Last-Event-ID wins, as for the events of a session."""
    header = call.headers.get("last-event-id")
    name, text = ("after", call.query.get("after")) if header is None else ("Last-Event-ID", header)
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise Refused("bad_request", f"{name}={text[:40]!a}: expected the number of an event")
    return int(text)


def _words(call: Call, name: str) -> Sequence[str]:
    text = call.query.get(name)
    return () if text is None else [word.strip() for word in text.split(",")]


def _count(call: Call, name: str, low: int, high: int) -> int | None:
    if name not in call.query:
        return None
    value = call.number(name, low, low=low, high=high)
    if value != int(value):
        raise Refused("bad_request", f"{name}={value:g}: expected a whole number")
    return int(value)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/workshop/events",
        handler=follow,
        permission="read",
        summary="What happens in the workshop: one's own events, with the role admin everybody's; then live ones.",
        parameters=(
            Parameter(name="after", summary="Behind the event of this number; the beginning if absent."),
            Parameter(name="last", summary=f"Begin with the last so many that are stored, from 0 to {MAX_NEWEST}."),
            Parameter(name="topic", summary="Only of these topics, with commas between them; `all` is every one."),
            Parameter(name="name", summary="Only of these names, with commas between them."),
            Parameter(name="follow", summary="false ends after the stored events; true if absent."),
            Parameter(name="limit", summary="End after so many."),
            Parameter(name="Last-Event-ID", where="header", summary="As after, and stronger."),
        ),
        media=(JSON_LINES, SSE),
    ),
    Route(
        method="POST",
        path="/v1/workshop/events",
        handler=publish,
        permission="send",
        summary="Publish an event under a topic that begins with `custom.`.",
        body=PublishRequest,
        status=201,
    ),
)
