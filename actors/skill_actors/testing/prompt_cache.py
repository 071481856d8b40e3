"""The API's cache of prompts, as it is documented: what a call reads from it, writes to it, and pays in full.

An entry is made at a breakpoint and nowhere else, and holds for the beginning of the prompt up to it, for one model. A
call looks from each of its breakpoints backwards, over 20 blocks with its own, for an entry; the longest that it finds
is what it reads. What lies between that and its last breakpoint is written, the rest is plain input. A prefix that is
shorter than the model's minimum is neither written nor looked for. Reading an entry renews it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from skill_actors.models.base import Usage
from skill_actors.models.caching import LOOK_BACK_BLOCKS
from skill_actors.testing.prompt import Lifetime, PromptBlock

__all__ = ["PromptCache"]

_LIFETIMES_S: Final[Mapping[Lifetime, float]] = {"5m": 300.0, "1h": 3600.0}


@dataclass(slots=True)
class _Entry:
    lifetime: Lifetime
    until_s: float


@dataclass(frozen=True, slots=True)
class _Place:
    """A block of a prompt: the name of the prefix that ends with it, and that prefix's tokens."""

    key: bytes
    tokens: int
    lifetime: Lifetime | None


class PromptCache:
    """Of one workspace. `now` is seconds on the server's clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._entries: dict[bytes, _Entry] = {}

    def clear(self) -> None:
        """Forget everything, as it may happen at any time."""
        self._entries.clear()

    def take(self, model: str, prompt: Sequence[PromptBlock], min_tokens: int) -> Usage:
        """The input tokens of a call by kind; the cache is as the call leaves it."""
        now_s = self._now()
        places = _places(model, prompt)
        marked = [number for number, place in enumerate(places) if place.lifetime and place.tokens >= min_tokens]
        read = max((self._find(places, number, min_tokens, now_s) for number in marked), default=-1)
        for number in marked:
            self._keep(places[number], now_s, made=number > read)
        at_read = places[read].tokens if read >= 0 else 0
        one_hour = max((places[n].tokens for n in marked if places[n].lifetime == "1h"), default=0)
        last = max((places[n].tokens for n in marked), default=0)
        at_one_hour = max(at_read, one_hour)
        at_last = max(at_one_hour, last)
        return Usage(
            cache_read_tokens=at_read,
            cache_write_1h_tokens=at_one_hour - at_read,
            cache_write_5m_tokens=at_last - at_one_hour,
            input_tokens=(places[-1].tokens if places else 0) - at_last,
        )

    def _find(self, places: Sequence[_Place], start: int, min_tokens: int, now_s: float) -> int:
        """The nearest block from `start` backwards with an entry, which is renewed; -1 if there is none."""
        for number in range(start, max(-1, start - LOOK_BACK_BLOCKS), -1):
            entry = self._entries.get(places[number].key)
            if entry is not None and entry.until_s > now_s and places[number].tokens >= min_tokens:
                entry.until_s = now_s + _LIFETIMES_S[entry.lifetime]
                return number
        return -1

    def _keep(self, place: _Place, now_s: float, *, made: bool) -> None:
        """Make an entry for what was written. Before the end of what was read nothing is written."""
        if made and place.lifetime is not None:
            self._entries[place.key] = _Entry(place.lifetime, now_s + _LIFETIMES_S[place.lifetime])


def _places(model: str, prompt: Sequence[PromptBlock]) -> list[_Place]:
    running = hashlib.blake2b(model.encode(), digest_size=16)
    tokens = 0
    places: list[_Place] = []
    for block in prompt:
        content = block.text.encode("utf-8", "replace")
        running.update(len(content).to_bytes(8, "big"))
        running.update(content)
        tokens += block.tokens
        places.append(_Place(running.digest(), tokens, block.lifetime))
    return places
