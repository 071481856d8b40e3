"""The client for ordinary programs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from skilld import paths
from skilld.client import wire
from skilld.client.agent_calls import AgentCalls
from skilld.client.alert_calls import AlertCalls
from skilld.client.approval_calls import ApprovalCalls
from skilld.client.board_calls import BoardCalls
from skilld.client.errors import ConnectionLost, DaemonUnreachable, ProtocolError, RequestTimeout, SkilldError
from skilld.client.events import Cursor, Event, SseDecoder
from skilld.client.monitor_calls import MonitorCalls
from skilld.client.plan_calls import PlanCalls
from skilld.client.setup_calls import SetupCalls
from skilld.client.shared_calls import SharedCalls
from skilld.client.wire import Accepted, Call, Json, Request, StreamingResponse, Transport, Upload

__all__ = ["Client", "as_upload", "socket_path"]

T = TypeVar("T")


def socket_path(socket: str | os.PathLike[str] | None) -> str:
    """The socket to speak to: the one given, SKILLD_SOCKET, the user's own daemon's where it lives, else the system's.

    Raises:
        ValueError: if the path is longer than Linux allows for a socket.

    """
    flag = None if socket is None else Path(socket)
    return os.fspath(paths.find_socket(flag, os.environ, os.getuid()))


class Client(AlertCalls, ApprovalCalls, AgentCalls, BoardCalls, MonitorCalls, PlanCalls, SetupCalls, SharedCalls):
    """Speaks to a daemon over its Unix socket. Use it as a context manager, or call `close`.

    Every method raises SkilldError, or one of its kinds, when the daemon cannot be reached, refuses or fails.

    Args:
        socket: path of the socket; found as `socket_path` tells if None.
        transport: "httpx" keeps a connection open between requests; "plain" imports in 20 ms instead of 300 and opens a
            connection for each request, which suits programs that make one or two.
        reconnect_s: how long, in seconds, event streams try to connect again after a connection that worked was lost.

    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        transport: Literal["httpx", "plain"] = "httpx",
        reconnect_s: float = 30.0,
    ) -> None:
        self.socket = socket_path(socket)
        self._reconnect_s = reconnect_s
        self._transport = _open(transport, self.socket)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are held open. May be called twice."""
        self._transport.close()

    def _do(self, call: Call[T]) -> T:
        return call.read(self._transport.request(call.request))

    def _do_patiently(self, call: Call[T]) -> T:
        """Try again while nobody answers the door: nothing was sent then, so nothing can happen twice."""
        for pause_s in wire.CONNECT_RETRIES_S:
            try:
                return self._do(call)
            except DaemonUnreachable:
                time.sleep(pause_s)
        return self._do(call)

    def version(self) -> Json:
        """Version of the daemon."""
        return self._do(wire.get("/v1/version"))

    def health(self) -> Json:
        """Whether the process answers at all."""
        return self._do(wire.get("/v1/health/live"))

    def ready(self) -> bool:
        """Whether the daemon takes messages now: False while it starts and while it drains."""
        return self._do(wire.ready())

    def status(self) -> Json:
        """Counts and settings of the running daemon."""
        return self._do(wire.get("/v1/status"))

    def reload_config(self) -> Json:
        """Have the configuration read again; `applied` and `needs_restart` name the keys that have changed."""
        return self._do(wire.write("POST", "/v1/config/reload"))

    def backends(self) -> list[Json]:
        """The backends that sessions may name: what each claims, and whether it would run something now."""
        return list(self._do(wire.get("/v1/backends"))["items"])

    def tool_servers(self) -> list[Json]:
        """The tool servers that your sessions may name, how many of each run for you, and what is wrong with them."""
        return list(self._do(wire.get("/v1/mcp/servers"))["items"])

    def usage(
        self,
        *,
        by: Literal["session", "user", "model", "day"] = "day",
        since: str | None = None,
        until: str | None = None,
    ) -> Json:
        """What was spent: {"by", "since", "until", "items", "total"}; one's own, and with the role admin all.

        Args:
            since: the first day that counts, in UTC, such as "2026-01-15"; likewise the last one, `until`.

        """
        return self._do(wire.usage(by, since, until))

    def budgets(self, name: str | None = None) -> list[Json]:
        """The caps in force that bind one, or the one of this name: limits, and what is used, held and left of them."""
        return list(self._do(wire.budgets(name))["items"])

    def set_budget(self, name: str, **limits: float | None) -> Json:
        """Set usd, tokens, seconds or tool_calls of a cap, or with None take that limit away; the cap as it is now."""
        return self._do(wire.set_budget(name, limits))

    def unset_budget(self, name: str) -> None:
        """Take away a cap that was set."""
        self._do(wire.unset_budget(name))

    def tree(self, *, children: int = 20) -> Json:
        """The live supervision tree, and what supervisors reported lately.

        Args:
            children: how many conversations, and other children made on demand, are shown; the rest are counted.

        """
        return self._do(wire.tree(children))

    def metrics(self) -> str:
        """Metrics in Prometheus' text format."""
        return self._do(wire.metrics())

    def create_session(self, *, idempotency_key: str | None = None, **settings: Any) -> Json:
        """Start a conversation and return it.

        Args:
            idempotency_key: a second request with the same key returns the same session; made up if None.
            settings: title, system, model, backends, skills, limits, budget, policy, labels, cwd, on_disconnect,
                parent.

        """
        return self._do_patiently(wire.create_session(settings, idempotency_key))

    def sessions(self, *, page_size: int = 100, **filters: str | None) -> Iterator[Json]:
        """All conversations the caller may see, the most recently used first; pages are fetched as needed.

        Args:
            filters: status, label, title, q and since, as GET /v1/sessions takes them; None is no filter.

        """
        cursor: str | None = None
        while True:
            page = self._do(wire.sessions(page_size, cursor, filters))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def latest_session(self) -> Json | None:
        """The caller's own most recently used conversation, or None. Other users' do not count, also not for root."""
        return next((session for session in self.sessions(page_size=10) if session["owner_uid"] == os.getuid()), None)

    def session(self, session: str) -> Json:
        """One conversation."""
        return self._do(wire.get(wire.session_path(session)))

    def update_session(self, session: str, **changes: Any) -> Json:
        """Change settings of a conversation and return it; a turn that runs keeps what it began with."""
        return self._do(wire.write("PATCH", wire.session_path(session), changes))

    def delete_session(self, session: str) -> None:
        """Delete a conversation with its events and files; a turn that runs is cancelled."""
        self._do(wire.write("DELETE", wire.session_path(session)))

    def fork_session(
        self, session: str, *, after: int | None = None, title: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Make a conversation that goes on from a copy of this one and its files, and return it.

        Args:
            after: go on from behind the last turn that had ended by this event; None is what has ended by now.

        """
        return self._do_patiently(wire.fork(session, after, title, idempotency_key))

    def hand_over(self, session: str, name: str, source: str, target: str) -> Json:
        """Copy a file from one place of a conversation to another: its name, place, size and checksum there."""
        return self._do(wire.hand_over(session, name, source, target))

    def reset_session(self, session: str, *, workspace: bool = False) -> Json:
        """Cancel what runs and begin the conversation anew, with `workspace` without its files; return it."""
        return self._do(wire.reset(session, workspace))

    def backup(self) -> Iterator[bytes]:
        """Everything that the daemon keeps, as the bytes of a tar whose last member says that it is whole."""
        request = wire.backup()
        with self._transport.stream(request, None) as response:
            if response.status >= 400:
                raise wire.refusal(
                    wire.Response(status=response.status, headers=response.headers, body=_rest(response))
                )
            yield from response.chunks()

    def files(self, session: str, *, limit: int = 100, cursor: str | None = None) -> Json:
        """A page of a conversation's files: {"items", "next", "used_bytes", "quota_bytes"}."""
        return self._do(wire.list_files(session, limit, cursor))

    @contextmanager
    def open_file(self, session: str, name: str, *, source: str | None = None) -> Iterator[StreamingResponse]:
        """A file of a conversation, to be read as it comes; its size is in the header `content-length`."""
        with self._transport.stream(wire.read_file(session, name, source), None) as response:
            if response.status >= 400:
                raise wire.refusal(
                    wire.Response(status=response.status, headers=response.headers, body=_rest(response))
                )
            yield response

    def read_file(self, session: str, name: str, *, source: str | None = None) -> bytes:
        """A whole file of a conversation."""
        with self.open_file(session, name, source=source) as response:
            return b"".join(response.chunks())

    def put_file(
        self, session: str, name: str, content: bytes | Upload, *, replace: bool = True, source: str | None = None
    ) -> Json:
        """Write a file into a conversation's workspace, whole or not at all; what it is now."""
        return self._do(wire.put_file(session, name, as_upload(content), replace, source))

    def delete_file(self, session: str, name: str, *, source: str | None = None) -> None:
        """Delete a file of a conversation."""
        self._do(wire.delete_file(session, name, source))

    def fetch_stored_files(self, session: str, *, stored: str | None = None) -> Json:
        """Bring what the storage has of a session, this one or `stored`, into the workspace."""
        return self._do(wire.fetch_stored(session, stored))

    def purge_stored_files(self, session: str) -> Json:
        """Remove for good what the storage has of a session; its workspace stays."""
        return self._do(wire.purge_stored(session))

    def file_url(self, session: str, name: str, *, expires_s: int = 3600) -> str | None:
        """A URL with which anybody can fetch a stored file until it expires; None if the storage has none such."""
        url = (self._do(wire.presigned(session, name, expires_s)))["url"]
        return None if url is None else str(url)

    def export_session(self, session: str) -> bytes:
        """A conversation as lines of JSON that `import_session` takes."""
        return self._do(wire.export(session))

    def import_session(self, data: bytes, *, idempotency_key: str | None = None) -> Json:
        """Make a conversation from an exported one, and return it."""
        return self._do_patiently(wire.import_session(data, idempotency_key))

    def send(
        self,
        session: str,
        text: str,
        *,
        files: Sequence[tuple[str, bytes]] = (),
        idempotency_key: str | None = None,
        schema: Mapping[str, Any] | Literal[False] | None = None,
        options: Mapping[str, Any] | None = None,
        mode: Literal["follow_up", "steer", "interrupt"] = "follow_up",
        pinned: bool = False,
        artifacts: Sequence[Mapping[str, str]] = (),
    ) -> Accepted:
        """Send a message and return as soon as the daemon has stored it durably.

        While nobody answers at the socket it is tried again for half a second. After ConnectionLost the message may
        have been stored: send it again with the key in the error's `details`, and it is taken once.

        Args:
            files: (name, content) pairs, put into the workspace before the turn begins.
            idempotency_key: at most 255 printable ASCII characters; made up if None.
            schema: a JSON schema that the answer has to keep to; else the turn fails with `schema_mismatch`. None for
                the session's, if it has one; False for text in any case.
            options: what differs in this turn alone: model, effort, max_tokens, tools, timeout_s, budget.
            mode: "steer" gives it to the turn that runs, if there is one; "interrupt" cancels that, and has this one
                go before those that wait.
            pinned: keep the message whole when the conversation is made shorter.
            artifacts: named things for the inputs of tools, each with `name` and either `uri` or `content`.

        """
        key = idempotency_key or wire.new_key()
        with naming_key(key):
            return self._do_patiently(
                wire.send(session, text, files, key, schema, wire.asked_of(options, mode, pinned, artifacts))
            )

    def steer(self, session: str, text: str, *, idempotency_key: str | None = None) -> Accepted:
        """Say something to the turn that runs; where none can be reached any more it is an ordinary message.

        `status` of the answer is "steered" or "queued", and `turn` the one that answers. The key is as for `send`.
        """
        key = idempotency_key or wire.new_key()
        with naming_key(key):
            return self._do_patiently(wire.steer(session, text, key))

    def compact(self, session: str, *, idempotency_key: str | None = None) -> Accepted:
        """Put a summary in the place of the earlier part of a conversation, in a turn of its own.

        The turn's result has what came of it as `text`. The key is as for `send`.
        """
        key = idempotency_key or wire.new_key()
        with naming_key(key):
            return self._do_patiently(wire.compact(session, key))

    def pause_session(self, session: str) -> Json:
        """Hold a conversation still, over every restart, until it is resumed; return it. Messages are taken."""
        return self._do(wire.write("POST", wire.session_path(session, "/pause")))

    def resume_session(self, session: str) -> Json:
        """Let a paused conversation go on; return it."""
        return self._do(wire.write("POST", wire.session_path(session, "/resume")))

    def send_streaming(
        self,
        session: str,
        text: str,
        *,
        files: Sequence[tuple[str, bytes]] = (),
        idempotency_key: str | None = None,
        schema: Mapping[str, Any] | Literal[False] | None = None,
        options: Mapping[str, Any] | None = None,
        mode: Literal["follow_up", "steer", "interrupt"] = "follow_up",
        pinned: bool = False,
        artifacts: Sequence[Mapping[str, str]] = (),
        timeout_s: float | None = None,
    ) -> Iterator[Event]:
        """Send a message and yield the events of its turn until the one that ends it.

        A connection that drops on the way is made again, and no event comes twice. Leaving the iteration early closes
        the connection; what the turn does then is the session's `on_disconnect`.

        Args:
            timeout_s: for the whole turn, in seconds; RequestTimeout when it is over. The turn itself goes on.

        """
        key = idempotency_key or wire.new_key()
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        asked = wire.asked_of(options, mode, pinned, artifacts)
        request = wire.message(session, text, files, key, schema, streaming=True, asked=asked)
        cursor = Cursor(0, None, self._reconnect_s)
        last: Event | None = None
        try:
            with naming_key(key):
                for event in self._read(request, cursor, deadline_s):
                    last = event
                    yield event
                    if event.is_ending:
                        return
        except ConnectionLost:
            if last is None:
                raise
        if last is None:
            raise ProtocolError("the daemon's answer to a message was an empty event stream")
        cursor = Cursor(last.position, last.turn, self._reconnect_s)
        cursor.connected()
        yield from self._follow(session, cursor, deadline_s, follow=True)

    def events(
        self,
        session: str,
        *,
        after: int | str = 0,
        follow: bool = True,
        turn: str | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Event]:
        """What happened in a conversation behind the position `after`, then what happens, as it happens.

        A connection that drops is made again from the last event; no event is missed or comes twice.

        Args:
            after: 0 for everything, else the `position` of the last event that is known.
            follow: wait for further events; else stop at what there is now.
            turn: only this turn's events, up to its ending.
            timeout_s: in all, in seconds; RequestTimeout when it is over.

        Raises:
            ValueError: if `after` is not a position.

        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        return self._follow(session, Cursor(after, turn, self._reconnect_s), deadline_s, follow=follow)

    def _follow(self, session: str, cursor: Cursor, deadline_s: float | None, *, follow: bool) -> Iterator[Event]:
        while True:
            lost: SkilldError | None = None
            try:
                yield from self._read(wire.events(session, cursor.position, follow), cursor, deadline_s)
            except RequestTimeout:
                raise
            except SkilldError as error:
                lost = error
            if lost is None and (cursor.done or not follow):
                return
            self._pause(cursor.pause_s(lost, time.monotonic()), deadline_s)

    def _read(self, request: Request, cursor: Cursor, deadline_s: float | None) -> Iterator[Event]:
        """The events of one connection that are news to the cursor."""
        decoder = SseDecoder()
        with self._transport.stream(request, deadline_s) as response:
            wire.check_stream(response.status, response.headers, lambda: _rest(response))
            cursor.connected()
            for chunk in response.chunks():
                for event in decoder.feed(chunk):
                    if cursor.take(event):
                        yield event
                    if cursor.done:
                        return

    @staticmethod
    def _pause(pause_s: float, deadline_s: float | None) -> None:
        if deadline_s is not None and time.monotonic() + pause_s >= deadline_s:
            raise RequestTimeout("the time allowed was over before the connection could be made again")
        time.sleep(pause_s)

    def turn(self, turn: str, *, wait_s: float = 0.0) -> Json:
        """A turn and, once it has ended, its result. Waits for the end up to `wait_s` seconds."""
        return self._do(wire.turn(turn, wait_s))

    def cancel(self, session: str, *, queued: bool = False) -> Json:
        """Cancel the running turn of a conversation and, with `queued`, the waiting ones. Returns their ids."""
        return self._do(wire.write("POST", wire.session_path(session, "/cancel"), {"queued": queued}))

    def cancel_turn(self, turn: str) -> Json:
        """Cancel one turn and return it."""
        return self._do(wire.write("POST", wire.turn_path(turn, "/cancel")))

    def skills(self) -> Json:
        """The skills that are loaded now, and what could not be loaded."""
        return self._do(wire.get("/v1/skills"))

    def skill(self, name: str) -> Json:
        """One skill."""
        return self._do(wire.get(wire.skill_path(name)))

    def reload_skills(self, name: str | None = None) -> Json:
        """Read all skills, or one, from disk again, and return what changed."""
        return self._do(wire.reload_skills(name))

    def push_skill(self, package: bytes) -> Json:
        """Send a skill, the bytes of a `.skill` package, to be stored and used; `name`, `digest`, what changed."""
        return self._do(wire.push_skill(package))

    def remove_skill(self, name: str) -> Json:
        """Remove a skill that was sent, and return what changed."""
        return self._do(wire.remove_skill(name))

    def approve_skill(self, name: str, digest: str) -> Json:
        """Approve this version of a skill; SkilldError (`conflict`) if it is not the one in force."""
        return self._do(wire.approve_skill(name, digest))

    def revoke_skill(self, name: str) -> Json:
        """Take back the approval of a skill."""
        return self._do(wire.revoke_skill(name))

    def skill_changes(self, *, after: int = 0, follow: bool = True) -> Iterator[Event]:
        """Changes of the skills after a generation, as `skill.changed` events whose `seq` is the generation.

        A connection that drops is made again, and a daemon that was started again begins to count anew: then the
        first event has `missed` in its data, as it has wherever changes are not remembered any more.

        Args:
            after: the `seq` of the last event that is known; 0 for all that are remembered.
            follow: wait for further ones; else stop at what there is now.

        """
        return self._follow_all(lambda after: wire.skill_changes(after, follow), after, follow=follow)

    def _follow_all(self, request: Callable[[int], Request], after: int, *, follow: bool) -> Iterator[Event]:
        """All events of each connection; one that drops is made again, behind the number that came last."""
        cursor = Cursor(after, None, self._reconnect_s)
        while True:
            lost: SkilldError | None = None
            try:
                for event in self._read_all(request(after), cursor):
                    after = event.seq
                    yield event
            except SkilldError as error:
                lost = error
            if lost is None and not follow:
                return
            self._pause(cursor.pause_s(lost, time.monotonic()), None)

    def _read_all(self, request: Request, cursor: Cursor) -> Iterator[Event]:
        """The events of one connection, whatever their numbers."""
        decoder = SseDecoder()
        with self._transport.stream(request, None) as response:
            wire.check_stream(response.status, response.headers, lambda: _rest(response))
            cursor.connected()
            for chunk in response.chunks():
                yield from decoder.feed(chunk)


def _open(transport: Literal["httpx", "plain"], path: str) -> Transport:
    if transport == "plain":
        from skilld.client.plain import PlainTransport

        return PlainTransport(path)
    from skilld.client.over_httpx import HttpxTransport

    return HttpxTransport(path)


def _rest(response: StreamingResponse) -> bytes:
    return b"".join(response.chunks())


def as_upload(content: bytes | Upload) -> Upload:
    """Content that is at hand, or is read while it is sent, as an upload."""
    return content if isinstance(content, Upload) else Upload(lambda: iter((content,) if content else ()), len(content))


class naming_key:
    """Puts the idempotency key into what a lost connection raises, so that the caller can send again."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, ConnectionLost | RequestTimeout):
            error.details["idempotency_key"] = self._key
