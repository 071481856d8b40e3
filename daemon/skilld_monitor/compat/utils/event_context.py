"""Generation B's `utils.event_context`: values that each event of a context has. Here of a task too, and not of the
whole thread, so that requests that are served at once do not mix.
"""

from __future__ import annotations

from skilld_monitor.context import Scope, clear, current_who, set_facts, set_facts_everywhere, set_session
from skilld_monitor.monitoring import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ContextManager",
    "clear_context",
    "enrich_event_with_context",
    "get_context",
    "get_session_id",
    "initialize_context",
    "set_context",
    "set_global_context",
    "set_session_id",
]

_SESSION = "session.id"


def initialize_context() -> None:
    """Nothing is to be done: there is a context everywhere."""


def set_context(key: str, value: object) -> None:
    """Each event from here on has the value, unless it has its own under the key. `session.id` is the session."""
    if key == _SESSION:
        set_session(value)
    else:
        set_facts(**{key: value})


def set_global_context(key: str, value: object) -> None:
    """As `set_context`, in all threads and tasks."""
    set_facts_everywhere(**{key: value})


def get_context() -> dict[str, object]:
    """What holds here, and the session as `session.id`."""
    return {**(current_who().facts or {}), _SESSION: get_session_id()}


def set_session_id(session_id: str) -> None:
    """What is reported from here on belongs to this session."""
    set_session(session_id)


def get_session_id() -> str | None:
    """The session of here; the id of this run of the program where none was set, None while monitoring is off."""
    on = active()
    return current_who().session or (None if on is None else on.run)


def clear_context() -> None:
    """Nothing that was set here holds any more."""
    clear()


def enrich_event_with_context(event: dict[str, Any]) -> dict[str, Any]:
    """The same event, with what holds here among its attributes, where it has none of the name. What is reported has it
    in any case."""
    attributes = event.setdefault("attributes", {})
    for key, value in get_context().items():
        if value is not None:
            attributes.setdefault(key, value)
    return event


class ContextManager(Scope):
    """The values hold inside `with`."""

    def __init__(self, **values: object) -> None:
        from skilld_monitor.context import facts

        session = values.pop(_SESSION, values.pop("session_id", None))
        added = facts(**values)
        super().__init__(lambda who: added.change(who if session is None else who.but(session=str(session)[:200])))
