"""The session API against a small model of it, over random histories with crashes in them.

A conversation is modelled as its turns and resets. What the manager says of it, what its events say, what the model is
shown and what keys stand for must follow from that, also after a crash, an unload, a fork or an import.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_kit import ME, Kit, open_kit
from skill_actors.errors import Refused
from skill_actors.sessions.events import TURN_ENDINGS
from skill_actors.store import JournalClosed
from skill_actors.testing import Reply, ScriptedModel, Text
from support import run

Step = tuple[Any, ...]


@dataclass
class Turn:
    text: str
    id: str | None = None  # unknown in a fork or an import
    status: str = "finished"


@dataclass
class Talk:
    """One conversation: its turns in epochs, its title, and what each key stands for."""

    title: str = ""
    epochs: list[list[Turn]] = field(default_factory=lambda: [[]])
    keys: dict[str, Turn] = field(default_factory=dict)

    @property
    def turns(self) -> list[Turn]:
        return [turn for epoch in self.epochs for turn in epoch]

    def copy(self, turns: int) -> Talk:
        """With the first so many turns, and the resets between them."""
        made = Talk(epochs=[])
        for epoch in self.epochs:
            if made.epochs and turns <= 0:
                break
            made.epochs.append([replace(turn, id=None) for turn in epoch[: max(0, turns)]])
            turns -= len(epoch)
        return made


class Mortal:
    """A journal that takes nothing any more once the process is dead."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def append(self, change: Any) -> None:
        if self.dead:
            raise JournalClosed("the process is dead")
        await self._journal.append(change)


def texts_of(body: Any) -> list[str]:
    blocks = [b for m in body["messages"] if m["role"] == "user" for b in m["content"] if b["type"] == "text"]
    return [str(block["text"]) for block in blocks if not block["text"].startswith("[skilld")]


class World:
    """The manager and its model, side by side."""

    def __init__(self) -> None:
        self.talks: dict[str, Talk] = {}
        self.never = trio.Event()

    def respond(self, body: Any) -> Reply:
        seen = texts_of(body)
        held = seen[-1].startswith("hold")
        return Reply([Text(f"seen {seen}")], holds={0: self.never} if held else {})

    def pick(self, number: int) -> str | None:
        return sorted(self.talks)[number % len(self.talks)] if self.talks else None

    async def play(self, folder: Path, steps: list[Step]) -> None:
        left = list(steps)
        while True:
            mortals: list[Mortal] = []

            def wrap(journal: Any, mortals: list[Mortal] = mortals) -> Mortal:
                mortals.append(Mortal(journal))
                return mortals[-1]

            async with open_kit(folder, ScriptedModel(respond=self.respond), wrap=wrap) as kit:
                await self.check(kit)
                while left:
                    step = left.pop(0)
                    if step[0] == "crash":
                        await self.crash(kit, mortals[0], step[1])
                        break
                    await getattr(self, str(step[0]))(kit, *step[1:])
                    await self.check(kit)
                else:
                    return

    async def create(self, kit: Kit, title: str) -> None:
        made = await kit.session(**({"title": title} if title else {}))
        self.talks[made] = Talk(title=title)

    async def say(self, kit: Kit, number: int, text: str, key: str | None) -> None:
        session = self.pick(number)
        if session is None:
            return
        talk = self.talks[session]
        before = talk.keys.get(key or "")
        if before is not None and before.text != text:
            with pytest.raises(Refused, match="other content"):
                await kit.manager.submit(session, ME, text, idempotency_key=key)
            return
        accepted = await kit.manager.submit(session, ME, text, idempotency_key=key)
        assert accepted.duplicate is (before is not None)
        found = await kit.manager.get_turn(accepted.turn, ME, wait_s=20)
        if before is not None:
            assert (accepted.turn, found["status"]) == (before.id, before.status)
            return
        talk.epochs[-1].append(Turn(text, accepted.turn))
        if key is not None:
            talk.keys[key] = talk.epochs[-1][-1]
        if not talk.title and len(talk.turns) == 1:
            talk.title = text
        assert found["status"] == "finished"
        assert found["result"]["text"] == f"seen {[turn.text for turn in talk.epochs[-1]]}"

    async def cancel(self, kit: Kit, number: int) -> None:
        if (session := self.pick(number)) is not None:
            assert await kit.manager.cancel(session, ME, queued=True) == {"cancelled": []}

    async def rename(self, kit: Kit, number: int, title: str) -> None:
        if (session := self.pick(number)) is not None:
            await kit.manager.update(session, ME, {"title": title})
            self.talks[session].title = title

    async def reset(self, kit: Kit, number: int, workspace: bool) -> None:
        if (session := self.pick(number)) is not None:
            await kit.manager.reset(session, ME, workspace=workspace)
            self.talks[session].epochs.append([])

    async def delete(self, kit: Kit, number: int) -> None:
        if (session := self.pick(number)) is not None:
            await kit.manager.delete(session, ME)
            del self.talks[session]

    async def fork(self, kit: Kit, number: int, place: int) -> None:
        if (session := self.pick(number)) is None:
            return
        events = await kit.events(session)
        after = None if place == 0 else (events[(place - 1) % len(events)].seq if events else 0)
        taken = [e for e in events if after is None or e.seq <= after]
        made = await kit.manager.fork(session, ME, after=after, title="forked")
        talk = self.talks[session].copy(sum(e.type in TURN_ENDINGS for e in taken))
        resets = sum(e.type == "session.reset" for e in taken)
        talk.epochs = [*talk.epochs, *([] for _ in self.talks[session].epochs)][: resets + 1]
        talk.title = "forked"
        self.talks[made["id"]] = talk

    async def transport(self, kit: Kit, number: int) -> None:
        if (session := self.pick(number)) is None:
            return
        async with kit.manager.export(session, ME) as lines:
            raw = b"".join([f"{line}\n".encode() async for line in lines])
        made = await kit.manager.import_session(ME.uid, raw)
        talk = self.talks[session].copy(len(self.talks[session].turns))
        talk.epochs = [*talk.epochs, *([] for _ in self.talks[session].epochs)][: len(self.talks[session].epochs)]
        talk.title = self.talks[session].title
        self.talks[made["id"]] = talk

    async def unload(self, kit: Kit) -> None:
        await kit.manager.unload_idle(0)
        assert kit.manager.status()["sessions_live"] == 0

    async def crash(self, kit: Kit, journal: Mortal, number: int) -> None:
        """The process dies, in the middle of a turn if there is a session to have one."""
        session = self.pick(number)
        if session is not None:
            accepted = await kit.manager.submit(session, ME, "hold on")
            while kit.manager.status()["turns_running"] == 0:  # noqa: ASYNC110
                await trio.sleep(0.001)
            while (await kit.manager.get_turn(accepted.turn, ME))["status"] != "running":  # noqa: ASYNC110
                await trio.sleep(0.001)
            talk = self.talks[session]
            talk.epochs[-1].append(Turn("hold on", accepted.turn, "interrupted"))
            if not talk.title and len(talk.turns) == 1:
                talk.title = "hold on"
        journal.dead = True

    async def check(self, kit: Kit) -> None:
        listed = (await kit.manager.list(ME, limit=1000))["items"]
        assert {item["id"] for item in listed} == set(self.talks)
        for item in listed:
            talk = self.talks[item["id"]]
            assert (item["title"], item["status"]) == (talk.title, "idle")
            events = await kit.events(item["id"])
            seqs = [event.seq for event in events]
            assert seqs == sorted(set(seqs))
            asked = [e.data["text"] for e in events if e.type == "turn.queued"]
            assert asked == [turn.text for turn in talk.turns]
            ended = [e.type.removeprefix("turn.") for e in events if e.type in TURN_ENDINGS]
            assert ended == [turn.status for turn in talk.turns]
            assert sum(e.type == "session.reset" for e in events) == len(talk.epochs) - 1


numbers = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("create"), st.sampled_from(["", "mine"])),
    *[st.tuples(st.just("say"), numbers, st.sampled_from("abc"), st.sampled_from([None, None, "k1", "k2"]))] * 4,
    st.tuples(st.just("cancel"), numbers),
    st.tuples(st.just("rename"), numbers, st.sampled_from(["new", "newer"])),
    st.tuples(st.just("reset"), numbers, st.booleans()),
    st.tuples(st.just("delete"), numbers),
    *[st.tuples(st.just("fork"), numbers, st.integers(0, 30))] * 2,
    st.tuples(st.just("transport"), numbers),
    st.tuples(st.just("unload")),
    st.tuples(st.just("crash"), numbers),
)
histories = st.lists(steps, min_size=3, max_size=14).map(lambda rest: [("create", ""), *rest])


def play(history: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(World().play, Path(folder), history)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories)
def test_sessions_are_what_happened_to_them(history: list[Step]) -> None:
    play(history)


@pytest.mark.deep
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=10, max_size=40).map(lambda rest: [("create", ""), *rest]))
def test_sessions_are_what_happened_to_them_over_long_histories(history: list[Step]) -> None:
    play(history)
