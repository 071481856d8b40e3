"""Requests and answers without I/O: what to send for each call, and how to read what comes back."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from skilld.client.errors import NotAName, ProtocolError, SkilldError
from skilld.client.events import error_from

__all__ = ["Accepted", "Call", "Request", "Response", "StreamingResponse", "Transport", "Upload", "refusal"]

T = TypeVar("T")
Json = dict[str, Any]

REQUEST_TIMEOUT_S: Final = 30.0
LONG_S: Final = 600.0  # where the daemon copies files, or reads a long history, before it answers
BACKUP_SILENCE_S: Final = 3600.0  # the journal is copied and checked before the first byte
SILENCE_S: Final = 60.0  # the daemon sends a keep-alive every 15 s
CONNECT_RETRIES_S: Final = (0.1, 0.4)


class Upload(NamedTuple):
    """A body that is read while it is sent. `size` in bytes, or None; `pieces` begins anew each time it is called."""

    pieces: Callable[[], Iterator[bytes]]
    size: int | None


class Request(NamedTuple):  # a dataclass takes 1.5 ms to make, at every start of skillctl
    """One HTTP request. `timeout_s` bounds every wait for the daemon, in seconds. An `upload` is instead of a body."""

    method: str
    target: str
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    timeout_s: float = REQUEST_TIMEOUT_S
    upload: Upload | None = None


class Response(NamedTuple):
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class StreamingResponse(Protocol):
    """An answer whose body is read as it comes."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def chunks(self) -> Iterator[bytes]:
        """The body. Raises ConnectionLost if it breaks off, or if nothing came for the request's timeout."""


class Transport(Protocol):
    """A way to the daemon. Raises DaemonUnreachable, ConnectionLost and RequestTimeout, nothing of its library's."""

    def request(self, request: Request) -> Response:
        """Send and read the whole answer."""

    def stream(self, request: Request, deadline_s: float | None) -> AbstractContextManager[StreamingResponse]:
        """Send and read the head of the answer. `deadline_s` is on time.monotonic's clock."""

    def close(self) -> None:
        """Close what is held open."""


class Call(Generic[T]):
    """A request, and what its answer means."""

    __slots__ = ("read", "request")

    def __init__(self, request: Request, read: Callable[[Response], T]) -> None:
        self.request = request
        self.read = read

    def within(self, timeout_s: float) -> Call[T]:
        """The same with another bound of every wait."""
        return Call(self.request._replace(timeout_s=timeout_s), self.read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The daemon has stored a message. `duplicate` tells that an earlier request with the same key had done so."""

    turn: str
    session: str
    seq: int
    status: str
    duplicate: bool
    idempotency_key: str

    def to_dict(self) -> Json:
        """What the daemon has answered."""
        return {name: getattr(self, name) for name in ("turn", "session", "seq", "status", "duplicate")}


def refusal(response: Response) -> SkilldError:
    """The error in an answer of status 400 and above."""
    try:
        value = json.loads(response.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        text = response.body[:200].decode("utf-8", "replace").strip() or "nothing"
        return SkilldError("http", f"the daemon answered {response.status}: {text}", status=response.status)
    return error_from(value, response.status, _retry_after_s(response.headers.get("retry-after")))


def _retry_after_s(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) else None


def as_json(response: Response) -> Json:
    """The object in a good answer."""
    if response.status >= 400:
        raise refusal(response)
    if not response.body:
        return {}
    try:
        value = json.loads(response.body)
    except ValueError as error:
        raise ProtocolError(f"the daemon's answer is not JSON: {response.body[:200]!r}") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"the daemon's answer is not a JSON object: {response.body[:200]!r}")
    return value


def _as_bytes(response: Response) -> bytes:
    if response.status >= 400:
        raise refusal(response)
    return response.body


def _as_text(response: Response) -> str:
    if response.status >= 400:
        raise refusal(response)
    return response.body.decode("utf-8", "replace")


def _is_ready(response: Response) -> bool:
    if response.status not in (200, 503):
        raise refusal(response)
    return response.status == 200


def segment(kind: str, value: str) -> str:
    """`value` as one segment of a path.

    Raises:
        NotAName: if it cannot be one: empty, "." or "..", or not Unicode.

    """
    if value in ("", ".", ".."):
        raise NotAName(kind, value)
    if re.fullmatch(r"[A-Za-z0-9_.~-]+", value):
        return value
    from urllib.parse import quote  # 5 ms that the usual ids need not pay

    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise NotAName(kind, value) from None


def _query(**items: str | int | float | None) -> str:
    pairs = [f"{name}={segment(name, str(value))}" for name, value in items.items() if value is not None]
    return "?" + "&".join(pairs) if pairs else ""


def _body(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def get(target: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Call[Json]:
    return Call(Request(method="GET", target=target, timeout_s=timeout_s), as_json)


def of_owner(target: str, owner: int | Literal["all"] | None) -> str:
    """The target for what is of this user, or of all; None: one's own."""
    return target if owner is None else f"{target}{'&' if '?' in target else '?'}owner={owner}"


def write(
    method: str, target: str, value: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Call[Json]:
    """A call that changes something; `value` is its JSON body."""
    if value is None:
        return Call(Request(method=method, target=target, headers=headers or {}), as_json)
    everything = {"content-type": "application/json", **(headers or {})}
    return Call(Request(method=method, target=target, headers=everything, body=_body(value)), as_json)


def metrics() -> Call[str]:
    return Call(Request(method="GET", target="/metrics"), _as_text)


def ready() -> Call[bool]:
    return Call(Request(method="GET", target="/v1/health/ready"), _is_ready)


def tree(children: int) -> Call[Json]:
    return get("/v1/tree" + _query(children=children))


def sessions(limit: int, cursor: str | None, filters: Mapping[str, str | None] = MappingProxyType({})) -> Call[Json]:
    return get("/v1/sessions" + _query(limit=limit, cursor=cursor, **filters))


def fork(session: str, after: int | None, title: str | None, key: str | None) -> Call[Json]:
    value = {name: item for name, item in (("after", after), ("title", title)) if item is not None}
    headers = {"idempotency-key": checked_key(key or new_key())}
    return write("POST", session_path(session, "/fork"), value, headers).within(LONG_S)


def hand_over(session: str, name: str, source: str, target: str) -> Call[Json]:
    value = {"name": name, "from": source, "to": target}
    return write("POST", session_path(session, "/hand-over"), value).within(LONG_S)


def reset(session: str, workspace: bool) -> Call[Json]:
    return write("POST", session_path(session, "/reset"), {"workspace": workspace})


def backup() -> Request:
    """Minutes may pass before the first byte: the daemon copies and checks its journal first."""
    return Request(method="GET", target="/v1/backup", timeout_s=BACKUP_SILENCE_S)


def export(session: str) -> Call[bytes]:
    return Call(Request(method="GET", target=session_path(session, "/export"), timeout_s=SILENCE_S), _as_bytes)


def import_session(data: bytes, key: str | None) -> Call[Json]:
    headers = {"content-type": "application/x-ndjson", "idempotency-key": checked_key(key or new_key())}
    request = Request(method="POST", target="/v1/sessions/import", headers=headers, body=data, timeout_s=LONG_S)
    return Call(request, as_json)


def session_path(session: str, tail: str = "") -> str:
    return f"/v1/sessions/{segment('session', session)}{tail}"


def file_path(session: str, name: str, source: str | None = None) -> str:
    """The path of a file. Raises NotAName if the name cannot be one."""
    parts = [segment("file", part) for part in name.split("/")]
    return session_path(session, "/files/" + "/".join(parts)) + _query(source=source)


def list_files(session: str, limit: int, cursor: str | None) -> Call[Json]:
    return get(session_path(session, "/files") + _query(limit=limit, cursor=cursor))


def read_file(session: str, name: str, source: str | None) -> Request:
    return Request(method="GET", target=file_path(session, name, source), timeout_s=SILENCE_S)


def put_file(session: str, name: str, upload: Upload, replace: bool, source: str | None) -> Call[Json]:
    headers = {"content-type": "application/octet-stream"}
    if not replace:
        headers["if-none-match"] = "*"
    target = file_path(session, name, source)
    return Call(Request("PUT", target, headers, timeout_s=LONG_S, upload=upload), as_json)


def delete_file(session: str, name: str, source: str | None) -> Call[Json]:
    return write("DELETE", file_path(session, name, source))


def fetch_stored(session: str, stored: str | None) -> Call[Json]:
    value = {} if stored is None else {"session": stored}
    return write("POST", session_path(session, "/stored-files/fetch"), value).within(LONG_S)


def purge_stored(session: str) -> Call[Json]:
    return write("DELETE", session_path(session, "/stored-files")).within(LONG_S)


def presigned(session: str, name: str, expires_s: int) -> Call[Json]:
    parts = "/".join(segment("file", part) for part in name.split("/"))
    return get(session_path(session, f"/stored-files/{parts}") + _query(expires_s=expires_s))


def create_session(settings: Mapping[str, Any], key: str | None) -> Call[Json]:
    return write("POST", "/v1/sessions", settings, {"idempotency-key": checked_key(key or new_key())})


def turn_path(turn: str, tail: str = "") -> str:
    return f"/v1/turns/{segment('turn', turn)}{tail}"


def turn(turn_id: str, wait_s: float) -> Call[Json]:
    query = _query(wait=f"{wait_s:g}") if wait_s > 0 else ""
    return get(turn_path(turn_id) + query, timeout_s=REQUEST_TIMEOUT_S + wait_s)


def skill_path(name: str, tail: str = "") -> str:
    return f"/v1/skills/{segment('skill', name)}{tail}"


def reload_skills(name: str | None) -> Call[Json]:
    return write("POST", "/v1/skills/reload" if name is None else skill_path(name, "/reload"))


def push_skill(package: bytes) -> Call[Json]:
    return Call(Request("POST", "/v1/skills", {"content-type": "application/zip"}, package), as_json)


def remove_skill(name: str) -> Call[Json]:
    return write("DELETE", skill_path(name))


def approve_skill(name: str, digest: str) -> Call[Json]:
    return write("POST", skill_path(name, "/approve"), {"digest": digest})


def revoke_skill(name: str) -> Call[Json]:
    return write("DELETE", skill_path(name, "/approve"))


def skill_changes(after: int, follow: bool) -> Request:
    target = "/v1/skill-changes" + _query(after=after, follow="true" if follow else "false")
    return Request(method="GET", target=target, headers={"accept": "text/event-stream"}, timeout_s=SILENCE_S)


def usage(by: str, since: str | None, until: str | None) -> Call[Json]:
    return get("/v1/usage" + _query(by=by, since=since, until=until))


def budgets(name: str | None) -> Call[Json]:
    return get("/v1/budgets" + _query(name=name))


def set_budget(name: str, limits: Mapping[str, float | None]) -> Call[Json]:
    return write("POST", "/v1/budgets", {"name": name, **limits})


def unset_budget(name: str) -> Call[Json]:
    return write("DELETE", "/v1/budgets/" + "/".join(segment("budget", part) for part in name.split("/")))


def approvals(status: str, session: str | None, limit: int, cursor: str | None) -> Call[Json]:
    return get("/v1/approvals" + _query(status=status, session=session, limit=limit, cursor=cursor))


def approval_path(approval: str) -> str:
    return f"/v1/approvals/{segment('approval', approval)}"


def decide(approval: str, decision: str, scope: str, given: Mapping[str, Any] | None, reason: str | None) -> Call[Json]:
    value: Json = {"decision": decision, "scope": scope}
    value |= {name: item for name, item in (("input", given), ("reason", reason)) if item is not None}
    return write("POST", approval_path(approval), value)


def revoke_approval(approval: str) -> Call[Json]:
    return write("DELETE", approval_path(approval))


def approval_events(session: str | None, follow: bool) -> Request:
    target = "/v1/approvals/events" + _query(session=session, follow="true" if follow else "false")
    return Request(method="GET", target=target, headers={"accept": "text/event-stream"}, timeout_s=SILENCE_S)


def events(session: str, after: str, follow: bool) -> Request:
    target = session_path(session, "/events") + _query(after=after, follow="true" if follow else "false")
    return Request(method="GET", target=target, headers={"accept": "text/event-stream"}, timeout_s=SILENCE_S)


def message(
    session: str,
    text: str,
    files: Sequence[tuple[str, bytes]],
    key: str,
    schema: Mapping[str, Any] | Literal[False] | None,
    *,
    streaming: bool,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Request:
    """The request that sends a message.

    Args:
        asked: further fields of it; see `asked_of`.

    Raises:
        ValueError: if the key cannot be one.

    """
    value: Json = {"text": text}
    if files:
        import base64

        value["files"] = [{"name": n, "content_base64": base64.b64encode(data).decode("ascii")} for n, data in files]
    if schema is not None:
        value["schema"] = None if schema is False else dict(schema)
    value |= asked
    headers = {"content-type": "application/json", "idempotency-key": checked_key(key)}
    if streaming:
        headers["accept"] = "text/event-stream"
    return Request(
        method="POST",
        target=session_path(session, "/messages"),
        headers=headers,
        body=_body(value),
        timeout_s=SILENCE_S if streaming else REQUEST_TIMEOUT_S,
    )


def asked_of(
    options: Mapping[str, Any] | None, mode: str, pinned: bool, artifacts: Sequence[Mapping[str, str]]
) -> Json:
    """What a message asks for besides; nothing of what is so anyway."""
    asked: Json = {}
    if options:
        asked["options"] = dict(options)
    if mode != "follow_up":
        asked["mode"] = mode
    if artifacts:
        asked["artifacts"] = [dict(artifact) for artifact in artifacts]
    return {**asked, "pinned": True} if pinned else asked


def send(
    session: str,
    text: str,
    files: Sequence[tuple[str, bytes]],
    key: str,
    schema: Mapping[str, Any] | Literal[False] | None,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Call[Accepted]:
    request = message(session, text, files, key, schema, streaming=False, asked=asked)
    return Call(request, lambda response: accepted(response, key))


def steer(session: str, text: str, key: str) -> Call[Accepted]:
    call = write("POST", session_path(session, "/steer"), {"text": text}, {"idempotency-key": checked_key(key)})
    return Call(call.request, lambda response: accepted(response, key))


def compact(session: str, key: str) -> Call[Accepted]:
    call = write("POST", session_path(session, "/compact"), None, {"idempotency-key": checked_key(key)})
    return Call(call.request, lambda response: accepted(response, key))


def accepted(response: Response, key: str) -> Accepted:
    body = as_json(response)
    try:
        return Accepted(
            turn=body["turn"],
            session=body["session"],
            seq=body["seq"],
            status=body["status"],
            duplicate=body["duplicate"],
            idempotency_key=key,
        )
    except KeyError as error:
        raise ProtocolError(f"the daemon's answer to a message lacks {error}") from error


def checked_key(key: str) -> str:
    """The key itself.

    Raises:
        ValueError: if it is not 1 to 255 visible ASCII characters.

    """
    if not re.fullmatch("[!-~]{1,255}", key):
        raise ValueError(f"idempotency key {key[:40]!r} is not 1 to 255 visible ASCII characters without spaces")
    return key


def new_key() -> str:
    """A fresh idempotency key."""
    return os.urandom(16).hex()


def check_stream(status: int, headers: Mapping[str, str], body: Callable[[], bytes]) -> None:
    """Raise what the answer says if it is not an event stream. `body` reads the rest of it."""
    if status >= 400:
        raise refusal(Response(status=status, headers=headers, body=body()))
    kind = headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        raise ProtocolError(f"the daemon answered {status} with {kind or 'no content type'} instead of an event stream")
