"""Messages to agents, and waiting for what comes of them.

A message to an agent is a message to its conversation: durable before it is acknowledged, once under its key, answered
by a turn with an id by which anybody may wait for its end. An agent's queue is bounded: what is one too many is refused
before anything is stored. The time that is given to a message is that of its turn, wherever it was sent from and
whoever still waits; `ask` counts the waiting in the queue too, and cancels when the time is over. What a turn has said
by then is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.intake import Accepted, NewMessage
from skill_actors.sessions.table import Viewer
from skill_actors.workshop.agents.agents import Agents
from skill_actors.workshop.agents.folders import AgentFolders
from skill_actors.workshop.agents.record import AgentRecord
from skill_actors.workshop.agents.roster import Roster
from skill_actors.workshop.agents.surroundings import AgentSurroundings

__all__ = ["Asking", "Message", "Sent"]

_END_WAIT_S: Final = 10.0  # for a cancelled turn to end: its processes may be slow to die
_OWN_END_S: Final = 0.5
_MAX_ASKED: Final = 10_000
_OPEN: Final = frozenset({"queued", "running"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that an agent will not lose."""

    agent: str
    accepted: Accepted

    @property
    def turn(self) -> str:
        return self.accepted.turn

    def to_dict(self) -> dict[str, Any]:
        return {"agent": self.agent, **self.accepted.to_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What an agent is told.

    Args:
        text: of it.
        key: an idempotency key.
        timeout_s: the time of its turn, where the agent has no shorter one.
        options: what differs in this turn; see `turn_options`.
        schema: a JSON schema that the answer has to keep to; False for text in any case.
        files: (name, content) for its workspace.
        force: also if the agent's program has crashed under this message before.
        only_idle: not if anything runs or waits with the agent.

    """

    text: str
    key: str | None = None
    timeout_s: float | None = None
    options: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | Literal[False] | None = None
    files: Sequence[tuple[str, bytes]] = ()
    force: bool = False
    only_idle: bool = False


class Asking:
    """Speaks to agents. Belongs to the trio thread."""

    def __init__(self, env: AgentSurroundings, agents: Agents, roster: Roster, folders: AgentFolders) -> None:
        self._env = env
        self._agents = agents
        self._roster = roster
        self._folders = folders
        self._asked: dict[str, None] = {}  # turns that somebody waits for from the beginning

    def was_asked(self, turn: str) -> bool:
        """Whether the turn is that of an `ask`; once."""
        return self._asked.pop(turn, False) is None

    async def cast(self, owner_uid: int, name: str, message: Message) -> Sent:
        """Give an agent a message and wait for nothing but that it is stored.

        Raises:
            Refused: not_found, overloaded (its queue is full: `details.reason` is queue_full), conflict (it is crashed,
                or its program has crashed under this message, or it is not idle: agent_crashed, poison, busy),
                idempotency_conflict, bad_request, storage_full, draining. Nothing was stored then.

        """
        record = await self._roster.get(owner_uid, name)
        note = "" if message.text.startswith("/") else await self._folders.note(record)
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.get(owner_uid, name)
            try:
                accepted = await self._submit(record, message, note)
            except Refused as refused:
                if refused.code != "not_found":
                    raise
                record = await self._agents.renewed(record, "reset")  # its conversation was deleted
                accepted = await self._submit(record, message, note)
        return Sent(agent=name, accepted=accepted)

    async def ask(self, owner_uid: int, name: str, message: Message, *, wait_s: float = math.inf) -> dict[str, Any]:
        """Give an agent a message and wait for the end of its turn, or for `message.timeout_s`; the turn's JSON form.

        When the time is over the turn is cancelled, and its processes end with it. Raises as `cast`.

        Args:
            wait_s: wait no longer; the turn goes on then.

        """
        deadline = math.inf if message.timeout_s is None else trio.current_time() + message.timeout_s
        sent = await self.cast(owner_uid, name, message)
        self._remember(sent.turn)
        if trio.current_time() + wait_s < deadline:
            return {**await self._env.sessions.get_turn(sent.turn, Viewer(uid=owner_uid), wait_s=wait_s), "agent": name}
        return await self.settled(owner_uid, name, sent.turn, deadline=deadline, timeout_s=message.timeout_s)

    async def settled(
        self, owner_uid: int, name: str, turn: str, *, deadline: float, timeout_s: float | None
    ) -> dict[str, Any]:
        """The turn once it has ended; cancelled when `deadline` of trio's clock has come."""
        viewer = Viewer(uid=owner_uid)
        found = await self._env.sessions.get_turn(turn, viewer, wait_s=deadline - trio.current_time())
        if found["status"] == "running":  # its own time may be over as well, and says so better
            found = await self._env.sessions.get_turn(turn, viewer, wait_s=_OWN_END_S)
        if found["status"] in _OPEN:
            why = f"no answer within {timeout_s:g} s" if timeout_s is not None else "nobody waits for it any more"
            await self._env.sessions.cancel_turn(turn, viewer, reason=why)
            found = await self._env.sessions.get_turn(turn, viewer, wait_s=_END_WAIT_S)
        return {**found, "agent": name}

    async def await_turn(self, owner_uid: int, turn: str, *, wait_s: float) -> dict[str, Any]:
        """A turn of any of the owner's conversations, once it has ended or `wait_s` seconds are over."""
        found = await self._env.sessions.get_turn(turn, Viewer(uid=owner_uid), wait_s=wait_s)
        agent = self._roster.agent_of(found["session"])
        return found if agent is None else {**found, "agent": agent[1]}

    async def await_agent(self, owner_uid: int, name: str, *, wait_s: float) -> dict[str, Any]:
        """Wait until nothing runs or waits with the agent, or `wait_s` seconds are over.

        Returns: {"agent", "idle", "open": how many turns are left, "turn": the one that ended last, or null}.
        """
        record = await self._roster.get(owner_uid, name)
        deadline = trio.current_time() + wait_s
        viewer = Viewer(uid=owner_uid)
        while open_turns := self._env.sessions.open_turns(record.session):
            left_s = deadline - trio.current_time()
            if left_s <= 0:
                break
            await self._env.sessions.get_turn(open_turns[-1], viewer, wait_s=left_s)
        ended = await self._agents.history(owner_uid, name, last=1)
        left = len(self._env.sessions.open_turns(record.session))
        return {"agent": name, "idle": left == 0, "open": left, "turn": ended[-1] if ended else None}

    async def await_all(
        self, owner_uid: int, names: Sequence[str] | None = None, *, wait_s: float
    ) -> Sequence[dict[str, Any]]:
        """Wait as `await_agent` until all of these agents are idle; of all there are with None."""
        if names is None:
            names = [record.name for record in await self._roster.of_owner(owner_uid) if record.state != "dismissed"]
        deadline = trio.current_time() + wait_s
        found = []
        for name in names:
            left_s = max(0.0, deadline - trio.current_time())
            found.append(await self.await_agent(owner_uid, name, wait_s=left_s))
        return found

    async def _submit(self, record: AgentRecord, message: Message, note: str) -> Accepted:
        settings = record.settings
        options = {**({"effort": settings.effort} if settings.effort is not None else {}), **(message.options or {})}
        if message.timeout_s is not None:
            options["timeout_s"] = message.timeout_s
        if message.key is None or await self._env.journal.find_turn(record.session, message.key) is None:
            self._refuse(record, message, options)  # a retry gets its turn all the same
            if message.only_idle:
                self._refuse_busy(record)
        return await self._env.sessions.submit(
            record.session,
            Viewer(uid=record.owner_uid),
            message.text,
            message.files,
            message.key,
            (),
            message.schema,
            options=options or None,
            note=note,
            most_waiting=settings.queue,
        )

    def _refuse_busy(self, record: AgentRecord) -> None:
        if self._env.sessions.open_turns(record.session):
            raise Refused("conflict", f"agent {record.name!r} is busy", details={"reason": "busy"})

    def _refuse(self, record: AgentRecord, message: Message, options: Mapping[str, Any]) -> None:
        """Raise Refused where the agent takes no messages, or not this one."""
        digest = NewMessage(message.text, message.files, None, message.schema, options or None).digest
        if record.state == "crashed":
            raise Refused(
                "conflict",
                f"agent {record.name!r} is crashed: {record.crashes.why or 'its program crashed too often'}. "
                f"'skillctl workshop agent revive {record.name}' lets it go on, 'reset' begins anew",
                details={"reason": "agent_crashed"},
            )
        if not message.force and record.crashes.is_poison(self._env.rules, digest):
            raise Refused(
                "conflict",
                f"the program of agent {record.name!r} has crashed each of the last "
                f"{self._env.rules.max_per_prompt} times that it was given this message; force it, or say it otherwise",
                details={"reason": "poison"},
            )

    def _remember(self, turn: str) -> None:
        self._asked[turn] = None
        if len(self._asked) > _MAX_ASKED:
            del self._asked[next(iter(self._asked))]
