"""Who looks into what is said before it is taken in, and into calls of tools before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Blocked", "Screen"]


@dataclass(frozen=True, slots=True)
class Blocked:
    """A call that does not run; the reason is told to the model."""

    reason: str


class Screen(Protocol):
    """Changes or refuses what must not be said or done. Neither is done where nothing was found."""

    async def message(self, owner_uid: int, session: str, text: str) -> str:
        """The text as it may be taken in.

        Raises:
            Refused: policy_denied, naming the rule and never the text.

        """
        ...

    async def files(
        self, owner_uid: int, session: str, files: Sequence[tuple[str, bytes]]
    ) -> Sequence[tuple[str, bytes]]:
        """The files of a message as they may be put into the workspace: the same object where none is changed.

        Raises:
            Refused: policy_denied, naming the rule and never what is in them.

        """
        ...

    async def call(
        self, owner_uid: int, session: str, tool: str, given: Mapping[str, Any]
    ) -> Mapping[str, Any] | Blocked:
        """The input with which the tool may be called: the same object where nothing has to be changed."""
        ...
