"""The client for trio programs. The same calls as `Client`, to be awaited."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Literal, TypeVar

import trio

from skilld.client import wire
from skilld.client.agent_calls import AsyncAgentCalls
from skilld.client.alert_calls import AsyncAlertCalls
from skilld.client.board_calls import AsyncBoardCalls
from skilld.client.errors import ConnectionLost, DaemonUnreachable, ProtocolError, SkilldError
from skilld.client.events import Cursor, Event, SseDecoder
from skilld.client.monitor_calls import AsyncMonitorCalls
from skilld.client.over_httpx import AsyncHttpxTransport
from skilld.client.over_trio import AsyncAnswer, open_stream
from skilld.client.plan_calls import AsyncPlanCalls
from skilld.client.setup_calls import AsyncSetupCalls
from skilld.client.shared_calls import AsyncSharedCalls
from skilld.client.sync import as_upload, naming_key, socket_path
from skilld.client.wire import Accepted, Call, Json, Request, Upload

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient(
    AsyncAgentCalls,
    AsyncAlertCalls,
    AsyncBoardCalls,
    AsyncMonitorCalls,
    AsyncPlanCalls,
    AsyncSetupCalls,
    AsyncSharedCalls,
):
    """Speaks to a daemon over its Unix socket, from trio tasks. Use it as an async context manager.

    Every method raises SkilldError, or one of its kinds, when the daemon cannot be reached, refuses or fails; it may
    be cancelled at any time, which closes its connection.

    Args:
        socket: path of the socket; found as `socket_path` tells if None.
        reconnect_s: how long, in seconds, event streams try to connect again after a connection that worked was lost.

    """

    def __init__(self, socket: str | os.PathLike[str] | None = None, *, reconnect_s: float = 30.0) -> None:
        self.socket = socket_path(socket)
        self._reconnect_s = reconnect_s
        self._transport = AsyncHttpxTransport(self.socket)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that are held open. May be called twice."""
        await self._transport.aclose()

    async def _do(self, call: Call[T]) -> T:
        return call.read(await self._transport.request(call.request))

    async def _do_patiently(self, call: Call[T]) -> T:
        """Try again while nobody answers the door: nothing was sent then, so nothing can happen twice."""
        for pause_s in wire.CONNECT_RETRIES_S:
            try:
                return await self._do(call)
            except DaemonUnreachable:
                await trio.sleep(pause_s)
        return await self._do(call)

    async def version(self) -> Json:
        """Version of the daemon."""
        return await self._do(wire.get("/v1/version"))

    async def health(self) -> Json:
        """Whether the process answers at all."""
        return await self._do(wire.get("/v1/health/live"))

    async def ready(self) -> bool:
        """Whether the daemon takes messages now: False while it starts and while it drains."""
        return await self._do(wire.ready())

    async def status(self) -> Json:
        """Counts and settings of the running daemon."""
        return await self._do(wire.get("/v1/status"))

    async def reload_config(self) -> Json:
        """Have the configuration read again; `applied` and `needs_restart` name the keys that have changed."""
        return await self._do(wire.write("POST", "/v1/config/reload"))

    async def backends(self) -> list[Json]:
        """The backends that sessions may name: what each claims, and whether it would run something now."""
        return list((await self._do(wire.get("/v1/backends")))["items"])

    async def tool_servers(self) -> list[Json]:
        """The tool servers that your sessions may name, how many of each run for you, and what is wrong with them."""
        return list((await self._do(wire.get("/v1/mcp/servers")))["items"])

    async def usage(
        self,
        *,
        by: Literal["session", "user", "model", "day"] = "day",
        since: str | None = None,
        until: str | None = None,
    ) -> Json:
        """What was spent; see `Client.usage`."""
        return await self._do(wire.usage(by, since, until))

    async def budgets(self, name: str | None = None) -> list[Json]:
        """The caps in force that bind one, or the one of this name; see `Client.budgets`."""
        return list((await self._do(wire.budgets(name)))["items"])

    async def set_budget(self, name: str, **limits: float | None) -> Json:
        """Set usd, tokens, seconds or tool_calls of a cap; see `Client.set_budget`."""
        return await self._do(wire.set_budget(name, limits))

    async def unset_budget(self, name: str) -> None:
        """Take away a cap that was set."""
        await self._do(wire.unset_budget(name))

    async def tree(self, *, children: int = 20) -> Json:
        """The live supervision tree, and what supervisors reported lately.

        Args:
            children: how many conversations, and other children made on demand, are shown; the rest are counted.

        """
        return await self._do(wire.tree(children))

    async def metrics(self) -> str:
        """Metrics in Prometheus' text format."""
        return await self._do(wire.metrics())

    async def create_session(self, *, idempotency_key: str | None = None, **settings: Any) -> Json:
        """Start a conversation and return it; see `Client.create_session`."""
        return await self._do_patiently(wire.create_session(settings, idempotency_key))

    async def sessions(self, *, limit: int = 100, cursor: str | None = None, **filters: str | None) -> Json:
        """One page of the conversations the caller may see: {"items", "next"}; `next` is the cursor of the next.

        With filters (see `Client.sessions`) a page may be short and have a next one all the same.
        """
        return await self._do(wire.sessions(limit, cursor, filters))

    async def latest_session(self) -> Json | None:
        """The caller's own most recently used conversation, or None. Other users' do not count, also not for root."""
        cursor: str | None = None
        while True:
            page = await self.sessions(limit=10, cursor=cursor)
            for session in page["items"]:
                if session["owner_uid"] == os.getuid():
                    return dict(session)
            cursor = page["next"]
            if cursor is None:
                return None

    async def session(self, session: str) -> Json:
        """One conversation."""
        return await self._do(wire.get(wire.session_path(session)))

    async def update_session(self, session: str, **changes: Any) -> Json:
        """Change settings of a conversation and return it; a turn that runs keeps what it began with."""
        return await self._do(wire.write("PATCH", wire.session_path(session), changes))

    async def delete_session(self, session: str) -> None:
        """Delete a conversation with its events and files; a turn that runs is cancelled."""
        await self._do(wire.write("DELETE", wire.session_path(session)))

    async def fork_session(
        self, session: str, *, after: int | None = None, title: str | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Make a conversation that goes on from a copy of this one; see `Client.fork_session`."""
        return await self._do_patiently(wire.fork(session, after, title, idempotency_key))

    async def hand_over(self, session: str, name: str, source: str, target: str) -> Json:
        """Copy a file from one place of a conversation to another; see `Client.hand_over`."""
        return await self._do(wire.hand_over(session, name, source, target))

    async def reset_session(self, session: str, *, workspace: bool = False) -> Json:
        """Cancel what runs and begin the conversation anew; see `Client.reset_session`."""
        return await self._do(wire.reset(session, workspace))

    @asynccontextmanager
    async def backup(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Everything that the daemon keeps, as the bytes of a tar whose last member says that it is whole."""
        async with open_stream(self.socket, wire.backup()) as answer:
            if answer.status >= 400:
                body = await answer.rest()
                raise wire.refusal(wire.Response(status=answer.status, headers=answer.headers, body=body))
            async with aclosing(_parts(answer)) as parts:
                yield parts

    async def files(self, session: str, *, limit: int = 100, cursor: str | None = None) -> Json:
        """A page of a conversation's files; see `Client.files`."""
        return await self._do(wire.list_files(session, limit, cursor))

    @asynccontextmanager
    async def open_file(
        self, session: str, name: str, *, source: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A file of a conversation, piece by piece."""
        async with open_stream(self.socket, wire.read_file(session, name, source)) as answer:
            if answer.status >= 400:
                body = await answer.rest()
                raise wire.refusal(wire.Response(status=answer.status, headers=answer.headers, body=body))
            async with aclosing(_parts(answer)) as parts:
                yield parts

    async def read_file(self, session: str, name: str, *, source: str | None = None) -> bytes:
        """A whole file of a conversation."""
        async with self.open_file(session, name, source=source) as parts:
            return b"".join([part async for part in parts])

    async def put_file(
        self, session: str, name: str, content: bytes | Upload, *, replace: bool = True, source: str | None = None
    ) -> Json:
        """Write a file into a conversation's workspace; see `Client.put_file`."""
        return await self._do(wire.put_file(session, name, as_upload(content), replace, source))

    async def delete_file(self, session: str, name: str, *, source: str | None = None) -> None:
        """Delete a file of a conversation."""
        await self._do(wire.delete_file(session, name, source))

    async def fetch_stored_files(self, session: str, *, stored: str | None = None) -> Json:
        """Bring what the storage has of a session, this one or `stored`, into the workspace."""
        return await self._do(wire.fetch_stored(session, stored))

    async def purge_stored_files(self, session: str) -> Json:
        """Remove for good what the storage has of a session; its workspace stays."""
        return await self._do(wire.purge_stored(session))

    async def file_url(self, session: str, name: str, *, expires_s: int = 3600) -> str | None:
        """A URL with which anybody can fetch a stored file until it expires; None if the storage has none such."""
        url = (await self._do(wire.presigned(session, name, expires_s)))["url"]
        return None if url is None else str(url)

    async def export_session(self, session: str) -> bytes:
        """A conversation as lines of JSON that `import_session` takes."""
        return await self._do(wire.export(session))

    async def import_session(self, data: bytes, *, idempotency_key: str | None = None) -> Json:
        """Make a conversation from an exported one, and return it."""
        return await self._do_patiently(wire.import_session(data, idempotency_key))

    async def send(
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
        """Send a message and return as soon as the daemon has stored it durably; see `Client.send`."""
        key = idempotency_key or wire.new_key()
        with naming_key(key):
            return await self._do_patiently(
                wire.send(session, text, files, key, schema, wire.asked_of(options, mode, pinned, artifacts))
            )

    async def steer(self, session: str, text: str, *, idempotency_key: str | None = None) -> Accepted:
        """Say something to the turn that runs; where none can be reached any more it is an ordinary message.

        `status` of the answer is "steered" or "queued", and `turn` the one that answers. The key is as for `send`.
        """
        key = idempotency_key or wire.new_key()
        with naming_key(key):
            return await self._do_patiently(wire.steer(session, text, key))

    async def compact(self, session: str, *, idempotency_key: str | None = None) -> Accepted:
        """Put a summary in the place of the earlier part of a conversation, in a turn of its own.

        The turn's result has what came of it as `text`. The key is as for `send`.
        """
        key = idempotency_key or wire.new_key()
        with naming_key(key):
            return await self._do_patiently(wire.compact(session, key))

    async def pause_session(self, session: str) -> Json:
        """Hold a conversation still, over every restart, until it is resumed; return it. Messages are taken."""
        return await self._do(wire.write("POST", wire.session_path(session, "/pause")))

    async def resume_session(self, session: str) -> Json:
        """Let a paused conversation go on; return it."""
        return await self._do(wire.write("POST", wire.session_path(session, "/resume")))

    @asynccontextmanager
    async def send_streaming(
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
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Send a message and iterate over the events of its turn until the one that ends it.

        `async with client.send_streaming(session, "hello") as events: async for event in events: ...`. A connection
        that drops on the way is made again, and no event comes twice. Leaving the block closes the connection; what
        the turn does then is the session's `on_disconnect`.
        """
        key = idempotency_key or wire.new_key()
        asked = wire.asked_of(options, mode, pinned, artifacts)
        request = wire.message(session, text, files, key, schema, streaming=True, asked=asked)
        async with aclosing(self._send_and_follow(session, request, key)) as events:
            yield events

    async def _send_and_follow(self, session: str, request: Request, key: str) -> AsyncGenerator[Event, None]:
        cursor = Cursor(0, None, self._reconnect_s)
        last: Event | None = None
        try:
            with naming_key(key):
                async with aclosing(self._read(request, cursor)) as events:
                    async for event in events:
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
        async with aclosing(self._follow(session, cursor, follow=True)) as events:
            async for event in events:
                yield event

    @asynccontextmanager
    async def events(
        self, session: str, *, after: int | str = 0, follow: bool = True, turn: str | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """What happened in a conversation behind the position `after`, then what happens, as it happens.

        `async with client.events(session) as events: async for event in events: ...`. See `Client.events`.
        """
        cursor = Cursor(after, turn, self._reconnect_s)
        async with aclosing(self._follow(session, cursor, follow=follow)) as events:
            yield events

    async def _follow(self, session: str, cursor: Cursor, *, follow: bool) -> AsyncGenerator[Event, None]:
        while True:
            lost: SkilldError | None = None
            try:
                async with aclosing(self._read(wire.events(session, cursor.position, follow), cursor)) as events:
                    async for event in events:
                        yield event
            except SkilldError as error:
                lost = error
            if lost is None and (cursor.done or not follow):
                return
            await trio.sleep(cursor.pause_s(lost, trio.current_time()))

    async def _read(self, request: Request, cursor: Cursor) -> AsyncGenerator[Event, None]:
        """The events of one connection that are news to the cursor."""
        decoder = SseDecoder()
        async with open_stream(self.socket, request) as answer:
            body = await answer.rest() if answer.status >= 400 else b""
            wire.check_stream(answer.status, answer.headers, lambda: body)
            cursor.connected()
            while (chunk := await answer.part()) is not None:
                for event in decoder.feed(chunk):
                    if cursor.take(event):
                        yield event
                    if cursor.done:
                        return

    async def turn(self, turn: str, *, wait_s: float = 0.0) -> Json:
        """A turn and, once it has ended, its result. Waits for the end up to `wait_s` seconds."""
        return await self._do(wire.turn(turn, wait_s))

    async def cancel(self, session: str, *, queued: bool = False) -> Json:
        """Cancel the running turn of a conversation and, with `queued`, the waiting ones. Returns their ids."""
        return await self._do(wire.write("POST", wire.session_path(session, "/cancel"), {"queued": queued}))

    async def cancel_turn(self, turn: str) -> Json:
        """Cancel one turn and return it."""
        return await self._do(wire.write("POST", wire.turn_path(turn, "/cancel")))

    async def skills(self) -> Json:
        """The skills that are loaded now, and what could not be loaded."""
        return await self._do(wire.get("/v1/skills"))

    async def skill(self, name: str) -> Json:
        """One skill."""
        return await self._do(wire.get(wire.skill_path(name)))

    async def reload_skills(self, name: str | None = None) -> Json:
        """Read all skills, or one, from disk again, and return what changed."""
        return await self._do(wire.reload_skills(name))

    async def push_skill(self, package: bytes) -> Json:
        """Send a skill, the bytes of a `.skill` package, to be stored and used; `name`, `digest`, what changed."""
        return await self._do(wire.push_skill(package))

    async def remove_skill(self, name: str) -> Json:
        """Remove a skill that was sent, and return what changed."""
        return await self._do(wire.remove_skill(name))

    async def approve_skill(self, name: str, digest: str) -> Json:
        """Approve this version of a skill; SkilldError (`conflict`) if it is not the one in force."""
        return await self._do(wire.approve_skill(name, digest))

    async def revoke_skill(self, name: str) -> Json:
        """Take back the approval of a skill."""
        return await self._do(wire.revoke_skill(name))

    @asynccontextmanager
    async def skill_changes(self, *, after: int = 0, follow: bool = True) -> AsyncIterator[AsyncIterator[Event]]:
        """Changes of the skills after a generation. See `Client.skill_changes`."""
        found = self._follow_all(lambda after: wire.skill_changes(after, follow), after, follow=follow)
        async with aclosing(found) as events:
            yield events

    async def approvals(
        self, *, status: str = "pending", session: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Json:
        """A page of the calls that wait for an approval, or have waited; see `Client.approvals`."""
        return await self._do(wire.approvals(status, session, limit, cursor))

    async def approval(self, approval: str) -> Json:
        """One approval: what would run, where and with what, and what became of it."""
        return await self._do(wire.get(wire.approval_path(approval)))

    async def decide(
        self,
        approval: str,
        decision: Literal["allow", "deny", "edit"],
        *,
        scope: Literal["once", "session"] = "once",
        input: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Json:
        """Say whether a call that waits may run; see `Client.decide`."""
        return await self._do(wire.decide(approval, decision, scope, input, reason))

    async def revoke_approval(self, approval: str) -> Json:
        """Take back what was allowed for a session: the same call is asked for again."""
        return await self._do(wire.revoke_approval(approval))

    @asynccontextmanager
    async def approval_events(
        self, *, session: str | None = None, follow: bool = True
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """What waits for an approval now, what comes and what is decided. See `Client.approval_events`."""
        found = self._follow_all(lambda _: wire.approval_events(session, follow), 0, follow=follow)
        async with aclosing(found) as events:
            yield events

    async def _follow_all(
        self, request: Callable[[int], Request], after: int, *, follow: bool
    ) -> AsyncGenerator[Event, None]:
        """All events of each connection; one that drops is made again, behind the number that came last."""
        cursor = Cursor(after, None, self._reconnect_s)
        while True:
            lost: SkilldError | None = None
            try:
                async with aclosing(self._read_all(request(after), cursor)) as events:
                    async for event in events:
                        after = event.seq
                        yield event
            except SkilldError as error:
                lost = error
            if lost is None and not follow:
                return
            await trio.sleep(cursor.pause_s(lost, trio.current_time()))

    async def _read_all(self, request: Request, cursor: Cursor) -> AsyncGenerator[Event, None]:
        """The events of one connection, whatever their numbers."""
        decoder = SseDecoder()
        async with open_stream(self.socket, request) as answer:
            body = await answer.rest() if answer.status >= 400 else b""
            wire.check_stream(answer.status, answer.headers, lambda: body)
            cursor.connected()
            while (chunk := await answer.part()) is not None:
                for event in decoder.feed(chunk):
                    yield event


async def _parts(answer: AsyncAnswer) -> AsyncGenerator[bytes, None]:
    while (part := await answer.part()) is not None:
        yield part
