"""Guides: how to work in the workshop, as Agent Skills that come with the program, and the rules for agents in it.

They are no skills of anybody's catalogue, where they would cost words in every conversation: an agent whose settings
name one as its `skill` gets its text, unless its owner has a skill of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from skill_actors.skills.base import Skill
from skill_actors.skills.loading import load

__all__ = ["GUIDES", "guide", "role_rules"]

GUIDES: Final = ("solo", "pair", "board", "board-worker", "orchestrator", "monitor", "mixed", "workflow", "github")

_FOLDER: Final = Path(__file__).parent


def guide(name: str) -> Skill | None:
    """The guide of this name. Reads files when it is called first."""
    return _guides().get(name)


@cache
def role_rules() -> str:
    """What an agent that has the workshop's tools is told besides: rules for all, for who leads, writes and judges."""
    return (_FOLDER / "RULES.md").read_text(encoding="utf-8").strip()


@cache
def _guides() -> Mapping[str, Skill]:
    return load(_FOLDER).skills
