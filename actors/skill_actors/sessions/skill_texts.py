"""Instructions of skills in a conversation: which it holds, and what stays of them when it is shortened. Pure.

Of each skill the beginning stays, of all together so much, the latest loaded first (the bounds are those that Claude
Code keeps, at four characters a token). A skill of which less than the whole stays may be loaded again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from skill_actors.sessions.notes import skill_again

__all__ = ["MAX_ALL_CHARS", "MAX_SKILL_CHARS", "Instructions", "SkillTexts"]

MAX_SKILL_CHARS: Final = 20_000  # 5,000 tokens
MAX_ALL_CHARS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Instructions:
    """Of a skill, as a message holds them.

    Args:
        call: the tool_use whose result they are, or were.
        content: the key of what was given; "" where no message holds the whole of it any more.
        told: key and folder of the skill as the model knows it, also from notes; both are None if it knows it as gone.

    """

    call: str
    content: str
    told: tuple[str | None, str | None]


@dataclass(slots=True)
class SkillTexts:
    """What was loaded, the latest last. `held` is by name."""

    held: dict[str, Instructions] = field(default_factory=dict)
    _texts: dict[str, tuple[str, str]] = field(default_factory=dict)  # key of the instructions, what was given

    def load(self, call: str, loaded: Mapping[str, Any], text: str) -> None:
        """A result gives instructions, as its event says."""
        name, content = str(loaded.get("name")), str(loaded.get("content"))
        self.held.pop(name, None)
        self.held[name] = Instructions(call, content, (content, str(loaded.get("folder"))))
        self._texts[name] = (content, text)

    def change(self, name: str, content: str | None, folder: str | None) -> bool | None:
        """A skill is not as it was; whether its instructions are others. None if no message holds any of it."""
        held = self.held.get(name)
        if held is None:
            return None
        self.held[name] = replace(held, told=(content, folder))
        return content != held.content

    def give_again(self, kept: Collection[str]) -> Sequence[str]:
        """What to tell in the place of results that are not sent any more, the first loaded first.

        What is outdated, or does not fit, is forgotten.

        Args:
            kept: ids of the calls whose results still are.

        """
        room, told = MAX_ALL_CHARS, list[str]()
        for name, held in reversed(list(self.held.items())):
            if held.call in kept:
                continue
            key, text = self._texts[name]
            size = min(len(text), MAX_SKILL_CHARS, room)
            if not size or held.told[0] != key:
                del self.held[name], self._texts[name]
                continue
            room -= size
            cut = size < len(text)
            told.append(skill_again(name, text[:size], cut=cut))
            if cut:
                self.held[name] = replace(held, content="")
        return told[::-1]
