"""Questions about what was reported, in the words of Cylestio Monitor's generation A, answered by the daemon.

They go to the daemon's own socket and not to the one for reports: the user who asks needs the role read, and sees what
the user's own programs reported; with the role admin what everybody's did. SKILLD_SOCKET names a daemon; otherwise it
is the one whose socket for reports is used. `skillctl monitor` and skilld's client answer more.

An event is a dictionary of `id`, `agent_id`, `event_type`, `channel`, `level`, `timestamp` (local time, no zone),
`data`, and `trace_id`, `span_id`, `parent_span_id`, `duration_ms`, `status`, `session_id`, `user_id`, `tags`. The
newest come first.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

from skilld_monitor.records import level_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Event = dict[str, Any]

__all__ = [
    "QueryError",
    "cleanup_old_events",
    "get_agent_stats",
    "get_channel_distribution",
    "get_database_path",
    "get_event_type_distribution",
    "get_events_by_channel",
    "get_events_by_level",
    "get_events_by_timeframe",
    "get_events_by_type",
    "get_events_last_days",
    "get_events_last_hours",
    "get_level_distribution",
    "get_recent_events",
    "optimize_database",
    "search_events",
]

_TIMEOUT_S = 30.0
_MAX_PAGE = 1_000
_MAX_ANSWER_BYTES = 64 << 20
_LARGEST_LIMIT = 100_000

# Generation A's names for the beginning and the end of a call, which is one event here: what is asked for instead.
_CALLS: dict[str, dict[str, str]] = {
    "LLM_call_start": {"channel": "LLM", "min_duration_ms": "0"},
    "LLM_call_finish": {"channel": "LLM", "status": "ok"},
    "LLM_call_error": {"channel": "LLM", "status": "error"},
    "LLM_call_blocked": {"channel": "LLM", "status": "error", "text": "BlockedError"},
    "call_start": {"min_duration_ms": "0"},
    "call_finish": {"status": "ok"},
    "call_error": {"status": "error"},
}


class QueryError(OSError):
    """The daemon did not answer, or refused to; the message names its socket, and what can be done."""


def get_recent_events(agent_id: str | None = None, limit: int = 100, offset: int = 0) -> list[Event]:
    """The newest events, behind so many that are newer. Raises QueryError, as all of these do."""
    return _events({"agent": agent_id}, limit, offset)


def get_events_by_type(event_type: str, agent_id: str | None = None, limit: int = 100) -> list[Event]:
    """Those of this name. Names that generation A has for the ends of calls, such as `LLM_call_finish`, find calls."""
    filters = _CALLS.get(event_type)
    if filters is None:
        return _events({"agent": agent_id, "name": event_type}, limit)
    return [{**found, "event_type": event_type} for found in _events({"agent": agent_id, **filters}, limit)]


def get_events_by_channel(channel: str, agent_id: str | None = None, limit: int = 100) -> list[Event]:
    """Those of this channel."""
    return _events({"agent": agent_id, "channel": channel}, limit)


def get_events_by_level(level: str, agent_id: str | None = None, limit: int = 100) -> list[Event]:
    """Those of exactly this level, in any case."""
    return _events({"agent": agent_id, "level_is": level_of(level)}, limit)


def get_events_by_timeframe(
    start_time: datetime, end_time: datetime, agent_id: str | None = None, limit: int = 100
) -> list[Event]:
    """Those from one time to another, both included; local times unless they have a zone."""
    until = _utc(end_time) + timedelta(microseconds=1)
    return _events({"agent": agent_id, "since": _text(_utc(start_time)), "until": _text(until)}, limit)


def get_events_last_hours(hours: float, agent_id: str | None = None, limit: int = 100) -> list[Event]:
    """Those of the last so many hours."""
    return _events({"agent": agent_id, "since": _text(datetime.now(timezone.utc) - timedelta(hours=hours))}, limit)


def get_events_last_days(days: float, agent_id: str | None = None, limit: int = 100) -> list[Event]:
    """Those of the last so many days."""
    return get_events_last_hours(days * 24, agent_id, limit)


def search_events(query: str, agent_id: str | None = None, limit: int = 100) -> list[Event]:
    """Those whose name or data have all of these words."""
    return _events({"agent": agent_id, "text": query}, limit)


def get_agent_stats(agent_id: str | None = None) -> list[dict[str, Any]]:
    """By agent: `agent_id`, `event_count`, `error_count`, `first_event`, `last_event` (local times)."""
    return [
        {
            "agent_id": source["agent"],
            "event_count": source["events"],
            "error_count": source["errors"],
            "first_event": _local(source["first"]),
            "last_event": _local(source["last"]),
        }
        for source in _stats(agent_id)["sources"]
    ]


def get_event_type_distribution(agent_id: str | None = None) -> list[tuple[str, int]]:
    """How many events there are of each name, the most first."""
    return list(_stats(agent_id)["names"].items())


def get_channel_distribution(agent_id: str | None = None) -> list[tuple[str, int]]:
    """As `get_event_type_distribution`, by channel."""
    return list(_stats(agent_id)["channels"].items())


def get_level_distribution(agent_id: str | None = None) -> list[tuple[str, int]]:
    """As `get_event_type_distribution`, by level."""
    return list(_stats(agent_id)["levels"].items())


def cleanup_old_events(days: float = 30) -> int:
    """Remove events that are older; how many were. Needs the role send."""
    return int(_ask("POST", "/v1/monitor/cleanup", {"older_than_days": days})["removed"])


def optimize_database() -> None:
    """Give the room of what was removed back to the disk. Needs the role admin."""
    _ask("POST", "/v1/monitor/optimize", {})


def get_database_path() -> str:
    """The file that the daemon keeps events in. It is the daemon's: to be asked about, and not opened."""
    return str(_ask("GET", "/v1/monitor/store")["path"])


def _events(filters: dict[str, str | None], limit: int, offset: int = 0) -> list[Event]:
    wanted = {name: value for name, value in filters.items() if value is not None}
    found: list[Event] = []
    behind = max(int(offset), 0)
    most = min(int(limit), _LARGEST_LIMIT) + behind
    while len(found) < most:
        page = _ask("GET", "/v1/monitor/events", query={**wanted, "limit": str(min(_MAX_PAGE, most - len(found)))})
        found.extend(page["items"])
        if not page["items"]:
            break
        wanted["before"] = str(page["items"][-1]["id"])
    return [_event(item) for item in found[behind:]]


def _event(item: Event) -> Event:
    return {
        "id": item["id"],
        "agent_id": item["agent"],
        "event_type": item["name"],
        "channel": item["channel"],
        "level": item["level"],
        "timestamp": _local(item["time"]),
        "data": item["data"],
        "trace_id": item["trace"],
        "span_id": item["span"],
        "parent_span_id": item["parent"],
        "duration_ms": item["duration_ms"],
        "status": item["status"],
        "session_id": item.get("session"),
        "user_id": item.get("user"),
        "tags": item.get("tags") or [],
    }


def _stats(agent_id: str | None) -> dict[str, Any]:
    return _ask("GET", "/v1/monitor/stats", query={} if agent_id is None else {"agent": agent_id})


def _ask(
    method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
) -> dict[str, Any]:
    """The daemon's answer. Raises QueryError."""
    address = _control_socket()
    connection = _Connection(address)
    try:
        raw = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", **({} if raw is None else {"Content-Type": "application/json"})}
        connection.request(method, f"{path}?{urlencode(query)}" if query else path, raw, headers)
        response = connection.getresponse()
        answer = json.loads(response.read(_MAX_ANSWER_BYTES) or b"null")
    except PermissionError as error:
        raise QueryError(
            f"the daemon at {address} is closed to this user: name it in roles.read of the daemon's configuration"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise QueryError(
            f"no answer from a daemon at {address} ({error}): start it, or name its socket in SKILLD_SOCKET"
        ) from error
    finally:
        connection.close()
    if response.status >= 400 or not isinstance(answer, dict):
        raise QueryError(f"the daemon at {address} refused {method} {path}: {_reason(answer, response.status)}")
    return answer


def _reason(answer: object, status: int) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return f"HTTP status {status}"
    return f"{error.get('code')}: {error.get('message')}"


class _Connection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(_TIMEOUT_S)
            made.connect(self._path)
        except BaseException:
            made.close()
            raise
        self.sock = made


def _control_socket() -> str:
    named = os.environ.get("SKILLD_SOCKET")
    if named:
        return named
    from skilld_monitor.monitoring import active
    from skilld_monitor.settings import usable

    on = active()
    settings = usable({}, os.environ, folder=None, uid=os.geteuid())[0] if on is None else on.settings
    return os.path.join(os.path.dirname(settings.socket), "skilld.sock")


def _utc(time: datetime) -> datetime:
    return time.astimezone(timezone.utc)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _local(time: str | None) -> str | None:
    """A time of the daemon's as generation A wrote them."""
    if time is None:
        return None
    found = datetime.fromisoformat(time.replace("Z", "+00:00"))
    return found.astimezone().replace(tzinfo=None).isoformat()
