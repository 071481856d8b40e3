#!/usr/bin/env python3
"""A backend of your own, by its name beside those that are there. Takes a second and no API key.

    python examples/custom_backend.py

The three callbacks are all there is to it. This one asks two models and gives both answers; a package makes such a
class known to every program by the entry point group `skilld.turn_backends`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import trio

from skill_actors.library import SkillError, start_session
from skill_actors.loop import BackendSession
from skill_actors.models.base import Message
from skill_actors.skills import Skill


@dataclass(frozen=True)
class Answer:
    text: str


class SecondOpinion:
    """Asks whoever it is given, and then somebody else."""

    def backend_type(self) -> str:
        return "second-opinion"

    async def new_session(self, skills: Iterable[Skill], **options: Any) -> BackendSession:
        return BackendSession(backend="second-opinion", skills=tuple(skills), options=options)

    async def chat(
        self, session: BackendSession, message: str, model: Any, **options: Any
    ) -> tuple[Answer, BackendSession]:
        said: Message = {"role": "user", "content": [{"type": "text", "text": message}]}
        asked = [*session.messages, said]
        opinions = [str(await ask(asked)) for ask in (model, session.options["other"])]
        text = f"one says {opinions[0]}, the other {opinions[1]}"
        answered: Message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
        return Answer(text), replace(session, messages=(*asked, answered))


async def hopeful(messages: Sequence[Message]) -> str:
    return "yes"


async def careful(messages: Sequence[Message]) -> str:
    return f"ask me again after {len(messages)} messages"


async def main() -> None:
    async with start_session(SecondOpinion(), [], other=careful) as session:
        for question in ("Will it rain?", "And tomorrow?"):
            response, _ = await session.chat(question, hopeful)
            print(f"{session.execution_mode}: {response.text}")
    try:
        async with start_session("second-opinion"):
            print("never")
    except SkillError as error:  # nobody has registered that name, and nothing else is used in its place
        print(error.code)


if __name__ == "__main__":
    trio.run(main)
