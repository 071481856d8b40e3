"""Turns of a backend that owns them: of another package, found by its name, or written in the program itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from skill_actors.library.asking import AskModel, as_caller
from skill_actors.library.errors import wrap
from skill_actors.loop import Backend, BackendSession, TurnFailed
from skill_actors.models.base import Block, Message
from skill_actors.sessions.engine import text_of

__all__ = ["DelegatedTurns"]


@dataclass(slots=True)
class DelegatedTurns:
    """Hands each message to the backend; the conversation between two of them is a value of the backend's own."""

    backend: Backend
    session: BackendSession

    async def chat(
        self,
        messages: Sequence[Message],
        said: Sequence[Block],
        model: AskModel,
        options: Mapping[str, Any],
        keep: Callable[[Sequence[Message]], None],
    ) -> Any:
        """One turn: the backend's answer as it is.

        Raises:
            SkillError: the turn failed.
            TypeError, ValueError: an option that the backend does not have, or a message with other than text.

        """
        if odd := [block["type"] for block in said if block["type"] != "text"]:
            raise ValueError(f"a backend that owns its turns takes text, and no {odd[0]!r:.80}")
        before = replace(self.session, messages=tuple(messages))
        try:
            response, self.session = await self.backend.chat(before, text_of(said), as_caller(model), **options)
        except TurnFailed as error:
            self.session = error.session
            keep(list(error.session.messages))
            raise wrap(error, backend=self.session.backend) from error
        except (TypeError, ValueError):
            raise
        except Exception as error:
            raise wrap(error, backend=self.session.backend) from error
        keep(list(self.session.messages))
        return response
