"""Tools of what agents and users share: values with names, and what happens in the workshop."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from skilld.mcp.desk import Desk
from skilld.mcp.texts import as_json, unless_none
from skilld.mcp.tool import Parameters, Tool, tool

__all__ = ["TOOLS"]

_LIMIT: Final = 500


class Put(Parameters):
    """A value to be stored."""

    namespace: str
    key: str
    value: Any = Field(description="Any JSON.")
    expected: int | None = Field(None, description="Only if it is at this version; 0: only if there is none.")
    ttl_s: float | None = Field(None, description="It is gone after so many seconds.")


class Entry(Parameters):
    """A value."""

    namespace: str
    key: str


class Keys(Parameters):
    """Which values."""

    namespace: str | None = None
    prefix: str | None = None


class Delete(Entry):
    """A value to be deleted."""

    expected: int | None = Field(None, description="Only if it is at this version.")


class Events(Parameters):
    """Which events."""

    last: int = Field(20, ge=1, le=500, description="How many, the latest.")
    topics: list[str] = Field(default_factory=list, description="Only of these topics, such as agent, work, error.")
    names: list[str] = Field(default_factory=list, description="Only of these names.")


@tool("store_put", Put, "Store a value that agents and users share, under a namespace and a key.")
async def store_put(desk: Desk, given: Put) -> str:
    kept = await desk.client.put_value(
        given.namespace, given.key, given.value, expected=given.expected, ttl_s=given.ttl_s
    )
    return f"Stored {given.namespace}/{given.key}, version {kept['version']}."


@tool("store_get", Entry, "Read a stored value, with its version, as JSON.", reads=True)
async def store_get(desk: Desk, given: Entry) -> str:
    found = await desk.client.value(given.namespace, given.key)
    return as_json({name: found[name] for name in ("value", "version", "updated", "expires")})


@tool("store_keys", Keys, "List what is stored, without the values.", reads=True)
async def store_keys(desk: Desk, given: Keys) -> str:
    found = await desk.client.value_keys(given.namespace, prefix=given.prefix, limit=_LIMIT)
    lines = [f"{each['namespace']}/{each['key']} (version {each['version']})" for each in found["items"]]
    more = ("... and more: name a namespace or a prefix",) if found["next"] else ()
    return unless_none((*lines, *more), "Nothing is stored there.")


@tool("store_delete", Delete, "Delete a stored value.")
async def store_delete(desk: Desk, given: Delete) -> str:
    await desk.client.delete_value(given.namespace, given.key, expected=given.expected)
    return f"Deleted {given.namespace}/{given.key}."


@tool("events", Events, "What happened in the workshop lately, oldest first, an event a line as JSON.", reads=True)
async def events(desk: Desk, given: Events) -> str:
    found = await desk.client.last_workshop_events(given.last, topics=given.topics, names=given.names)
    lines = [event.to_json() for event in found]
    return unless_none(lines, "There are no such events.")


TOOLS: Final[tuple[Tool, ...]] = (store_put, store_get, store_keys, store_delete, events)
