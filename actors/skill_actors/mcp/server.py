"""Tool servers that run: one actor for each, made when a conversation uses it, ended when nobody has for a while.

ToolServers is a supervisor. Rules:
- a server is known by its key: its name with the conversation, or with the user where conversations share it;
- its actor lives as long as the connection. What ended a connection is told to whoever waited; whoever asks next has
  it made again, after a pause that grows with each death in a row;
- deaths are counted for the server and user, not for the conversation: so often within the period, and it is refused
  for a while, with what it said last;
- a server over HTTP that asks to be left alone is, by all of its user's conversations.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from skill_actors.backends.redaction import Redactor
from skill_actors.mcp.errors import ServerFailed
from skill_actors.mcp.screen import Signals
from skill_actors.runtime import ChildError, DynamicSupervisor, DynamicSupervisorRef, Poison, StartFailed, TrioActor
from skill_actors.runtime.exit import split_cancelled
from skill_actors.telemetry import Bus

if TYPE_CHECKING:
    from skill_actors.mcp.connection import Connection

__all__ = ["Connect", "ServerKey", "ToolServer", "ToolServers", "ToolServersRef"]

_log = logging.getLogger(__name__)

_RELEASE_S: Final = 2.0  # for a server to end by itself
_PING_S: Final = 5.0  # for a server that let a call run out of time to show that it lives

Connect = Callable[[Signals], Awaitable["AbstractAsyncContextManager[Connection]"]]
"""Opens a connection; raises ServerFailed, then or when it is entered."""


@dataclass(frozen=True, slots=True)
class ServerKey:
    """Whose server it is: `session` is "" where the conversations of a user share it."""

    name: str
    uid: int
    session: str = ""

    @property
    def id(self) -> str:
        return f"{self.name}/{self.session or self.uid}"

    @property
    def counted(self) -> str:
        """What deaths are counted for."""
        return f"{self.name}@{self.uid}"


class ToolServer(TrioActor):
    """One connection to a server, while it is of use.

    Args:
        tell: called with whether it was of use to anybody, and why it ended against anybody's wish ("" if not so).

    """

    def __init__(
        self, key: ServerKey, connect: Connect, idle_s: float, tell: Callable[[bool, ToolServer], object]
    ) -> None:
        super().__init__()
        self.key: Final = key
        self.signals: Final = Signals()
        self.connection: Connection | None = None
        self.why = ""
        self.since = time.time()
        self._connect = connect
        self._idle_s = idle_s
        self._tell = tell
        self._settled = trio.Event()  # there is a connection, or there will be none
        self._users = 0
        self._used_at = trio.current_time()

    async def setup(self) -> None:
        self.spawn(self._live)

    @property
    def over(self) -> bool:
        """Whether nothing comes of it any more, also if whoever ends its connection has not had its turn yet."""
        return self._settled.is_set() and (self.connection is None or self.signals.ended.is_set())

    async def ready(self) -> Connection:
        """The connection, once there is one. Raises ServerFailed."""
        await self._settled.wait()
        if self.connection is None:
            raise ServerFailed(self.why or "it has been closed")
        return self.connection

    @contextmanager
    def used(self) -> Iterator[None]:
        """While the block runs it is not idle."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            self._used_at = trio.current_time()

    def doubt(self) -> None:
        """A call ran out of time: see whether it still answers, and end it if it does not."""
        if self.connection is not None:
            self.spawn(self._check, self.connection)

    async def _check(self, connection: Connection) -> None:
        if not await connection.ping(_PING_S):
            self.signals.end(f"it hangs: it has not answered a ping within {_PING_S:g} s")

    async def _live(self) -> None:
        opened = False
        try:
            async with await self._connect(self.signals) as self.connection:
                opened, self._used_at = True, trio.current_time()
                self._settled.set()
                await self._until_over()
                self.connection = None
        except BaseException as error:
            cancelled, rest = split_cancelled(error)
            if cancelled is not None:
                raise
            self._note(rest if rest is not None else error)
        finally:
            self.connection = None
            self.why = Redactor(self.signals.hidden).text(self.why or self.signals.why)
            self._settled.set()
        self._tell(opened, self)
        self.stop()

    def _note(self, error: BaseException) -> None:
        """What has ended the connection, in words."""
        leaf = _leaf(error)
        if isinstance(leaf, ServerFailed):
            self.why = str(leaf)
            return
        self.why = self.signals.why or self.signals.problem or f"{type(leaf).__name__}: {str(leaf)[:300]}"
        shown = Redactor(self.signals.hidden).text(self.why)
        _log.info("tool server %s: the connection ended: %s: %s", self.key.name, type(leaf).__name__, shown)

    async def _until_over(self) -> None:
        """Return when the connection is of no use any more, or nobody has used it for long."""
        while not self.signals.ended.is_set():
            left_s = self._used_at + self._idle_s - trio.current_time()
            if self._users == 0 and left_s <= 0:
                return
            with trio.move_on_after(max(0.05, left_s) if self._users == 0 else self._idle_s):
                await self.signals.ended.wait()


def _leaf(error: BaseException) -> BaseException:
    """The first error of a group of them; what a server's own failure says comes before all others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_leaf(each) for each in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, ServerFailed)), leaves[0])


class ToolServersRef(DynamicSupervisorRef["ToolServers"]):
    """Address of the tool servers. For the trio thread."""

    async def use(self, key: ServerKey, connect: Connect, *, idle_s: float) -> ToolServer:
        """The running server of this key, made if there is none.

        Raises:
            ServerFailed: it cannot be had, or has died so often that it is not started now.

        """
        while True:
            if self.child(key.id) is None:
                await self._supervisor().wait_admitted(key)
            supervisor = self._supervisor()
            try:
                ref = await self.ensure(key.id, lambda: ToolServer(key, connect, idle_s, supervisor.tell))  # noqa: B023
            except (StartFailed, ChildError) as error:
                raise ServerFailed(f"it cannot be started: {error}") from error
            server = ref._actor_weakref()
            if server is None or server.over:
                await ref.wait_stopped()
                continue
            try:
                await server.ready()
            except ServerFailed:
                if server.why:
                    raise
                continue  # it was idle, and ended in this moment
            if not server.over:
                return server

    def rests(self, key: ServerKey) -> float:
        """For how many seconds the server has asked to be left alone; 0 if it has not."""
        return self._supervisor().rests(key)

    def rest(self, key: ServerKey, seconds: float) -> None:
        """Leave the server alone for so long."""
        self._supervisor().rest(key, seconds)

    def survived(self, key: ServerKey) -> None:
        """It has done what it was started for."""
        self._supervisor().poison.survived(key.counted)

    async def release(self, key: ServerKey) -> None:
        """End a server that is not needed any more, if there is one."""
        ref = self.child(key.id)
        if ref is None:
            return
        server = ref._actor_weakref()
        if isinstance(server, ToolServer):
            server.signals.end("")
            with trio.move_on_after(_RELEASE_S):
                await ref.wait_stopped()
        if self.child(key.id) is not None:
            await self.terminate_child(key.id)

    def facts(self, uid: int | None = None) -> Mapping[str, Mapping[str, Any]]:
        """By the name of each server that was used: `running`, how many there are, and `problem`, why one died lately.

        Args:
            uid: whose; None for everybody's. What a server said to one user is not for the others.

        """
        return self._supervisor().facts(uid)


class ToolServers(DynamicSupervisor):
    """Supervisor of tool servers.

    Args:
        bus: gets `mcp.server` with the server's name, for each that has started or ended against anybody's wish.
        poison: counts deaths.
        max_servers: further ones are refused.

    """

    def __init__(self, bus: Bus | None = None, *, poison: Poison | None = None, max_servers: int = 64) -> None:
        super().__init__("server", shutdown_s=5.0, max_children=max_servers)
        self._bus = Bus() if bus is None else bus
        self.poison: Final = Poison() if poison is None else poison
        self._why: dict[str, str] = {}  # by what deaths are counted for, of the last
        self._rest_until: dict[str, float] = {}

    def _runtime_ref(self) -> Any:
        return ToolServersRef(self)

    @property
    def actor_ref(self) -> ToolServersRef:
        """This supervisor's address."""
        return cast("ToolServersRef", self._actor_ref)

    def tell(self, opened: bool, server: ToolServer) -> None:
        """A server has ended by itself."""
        key, why = server.key, server.why
        if server.signals.rest_s:
            self.rest(key, server.signals.rest_s)
        if not why:
            return
        self._why[key.counted] = why
        self.poison.died(key.counted, trio.current_time())
        reason = "died" if opened else "not started"
        _log.warning("tool server %s of %s: %s: %s", key.name, key.session or f"user {key.uid}", reason, why)
        self._bus.emit("mcp.server.end", {"count": 1}, {"server": key.name, "reason": reason.replace(" ", "_")})

    async def wait_admitted(self, key: ServerKey) -> None:
        """Wait until the server may be started. Raises ServerFailed if that is not soon."""
        if rest_s := self.rests(key):
            raise ServerFailed(f"it asks to be left alone for another {math.ceil(rest_s)} s")
        admission = self.poison.admit(key.counted, trio.current_time())
        if admission.poisoned_until is not None:
            wait_s = max(1, math.ceil(admission.poisoned_until - trio.current_time()))
            raise ServerFailed(
                f"it died {admission.deaths} times within {self.poison.period_s:g} s and is not started for another "
                f"{wait_s} s; the last time: {self._why.get(key.counted, '')}"
            )
        await trio.sleep(admission.delay_s)

    def rests(self, key: ServerKey) -> float:
        return max(0.0, self._rest_until.get(key.counted, 0.0) - trio.current_time())

    def rest(self, key: ServerKey, seconds: float) -> None:
        self._rest_until[key.counted] = trio.current_time() + seconds

    def facts(self, uid: int | None) -> Mapping[str, Mapping[str, Any]]:
        """See `ToolServersRef.facts`."""
        found: dict[str, dict[str, Any]] = {}
        for counted, why in self._why.items():
            name, _, owner = counted.rpartition("@")
            if uid is not None and owner != str(uid):
                continue
            one = found.setdefault(name, {"running": 0, "problem": None})
            deaths = self.poison.admit(counted, trio.current_time()).deaths
            one["problem"] = why if deaths else one["problem"]
        for ref in self._children.values():
            actor = ref._actor_weakref()
            if not isinstance(actor, ToolServer) or actor.connection is None:
                continue
            if uid is None or actor.key.uid == uid:
                found.setdefault(actor.key.name, {"running": 0, "problem": None})["running"] += 1
        return found
