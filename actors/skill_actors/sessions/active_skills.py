"""The skills of one turn in use: which are active, and which instructions the conversation holds already."""

from __future__ import annotations

import posixpath
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from skill_actors.backends.base import ToolCall, ToolResult, Workspace
from skill_actors.backends.tools import BadInput, parse
from skill_actors.sessions.history import History
from skill_actors.sessions.policy import ActiveSkill
from skill_actors.sessions.surroundings import PinnedSkill, SkillUses
from skill_actors.skills.activation import LOAD_SKILL, already_loaded, content_key, is_cut, skill_content
from skill_actors.skills.base import Skill
from skill_actors.skills.catalogue import is_listed
from skill_actors.skills.inventory import SKILL_FILE

__all__ = ["ActiveSkills", "Loaded"]

_SHOWN_NAMES: Final = 20
_NEIGHBOURS: Final = 100  # on either side, among whose names a misspelt one is looked for: 20 µs each
_MAX_FOLDER_CHARS: Final = 300
_FOLDER_ENDS: Final = ("/", r"[\s'\";:,)]")


@dataclass(frozen=True, slots=True)
class Loaded:
    """An answer to a call that asked for instructions; `holds` is for its tool.finished event, if it gives them."""

    result: ToolResult
    holds: Mapping[str, str] | None = None


class _Seen:
    """The skills' folders as the tools of one place see them."""

    def __init__(self, workspace: Workspace, pinned: Sequence[PinnedSkill]) -> None:
        self.workspace_root = str(workspace.root)
        self.roots = {pin.skill.name: workspace.path_of_skill(pin.copy) for pin in pinned}
        self.by_root = {root: name for name, root in self.roots.items()}
        parents = {posixpath.dirname(root) for root in self.by_root}
        self.parents = re.compile("|".join(map(re.escape, sorted(parents))) or r"(?!)")


class ActiveSkills:
    """Answers calls that ask for a skill's instructions: `load_skill`, and `view` of a whole SKILL.md.

    A skill is active from then on to the end of the turn. What is active, and what was given, is known at once, so
    that two calls that ask at the same time get the instructions once.

    Args:
        pinned: the skills of this turn.
        history: of the conversation as it is sent to the model; read whenever it matters.
        uses: counts each skill once a turn.
        max_chars: of instructions given at once.
        owners: the skills of their own tools, by name of the tool.
        further: open workspaces of further places, by name: a skill's folder is another one in each.

    """

    def __init__(
        self,
        pinned: Sequence[PinnedSkill],
        workspace: Workspace,
        history: History,
        uses: SkillUses,
        *,
        max_chars: int,
        owners: Mapping[str, str] | None = None,
        further: Mapping[str, Workspace] | None = None,
    ) -> None:
        self._owners = owners or {}
        self._history = history
        self._uses = uses
        self._max_chars = max_chars
        self._pins = {pin.skill.name: pin for pin in pinned}
        self._main = _Seen(workspace, pinned)
        self._further = {place: _Seen(there, pinned) for place, there in (further or {}).items()}
        self._active: dict[str, dict[str, ActiveSkill]] = {"": {}}  # by place; "" is the main one
        self._used: set[str] = set()
        self._given: dict[str, str] = {}  # in this turn, by name: the key of the content
        self._shortened = history.shortened

    @property
    def active(self) -> tuple[ActiveSkill, ...]:
        """Those active now, in the order in which they became it."""
        return self.active_in(None)

    def active_in(self, place: str | None) -> tuple[ActiveSkill, ...]:
        """Those active now, with what their rules mean in a further place; None for the main one."""
        names = self._active[""]
        if place not in self._further:
            return tuple(names.values())
        there = self._active.setdefault(place, {})
        for name in names:
            if name not in there:
                there[name] = ActiveSkill(self._pins[name].skill, self._further[place].roots[name])
        return tuple(there[name] for name in names)

    def names_in(self, place: str | None) -> Mapping[str, str]:
        """Names of all skills of this turn, by their folders as the tools of that place see them."""
        return self._seen(place).by_root

    def add_place(self, place: str, workspace: Workspace) -> None:
        """A further place was opened in the middle of the turn."""
        self._further[place] = _Seen(workspace, list(self._pins.values()))

    def _seen(self, place: str | None) -> _Seen:
        return self._main if place is None else self._further.get(place, self._main)

    def _elsewhere(self, name: str) -> str:
        """Where the skill's folder is in further places, in words; "" where there are none."""
        there = {place: seen.roots[name] for place, seen in self._further.items()}
        return "".join(f"\nIn the place {place} its folder is {folder}." for place, folder in there.items())

    def changes(self) -> Iterator[Mapping[str, str | None]]:
        """Skills whose instructions the conversation holds, and that are not now as it was last told."""
        for name, held in self._history.instructions.items():
            pin = self._pins.get(name)
            now = (None, None) if pin is None else (content_key(pin.skill), self._main.roots[name])
            if now != held.told:
                yield {"name": name, "content": now[0], "folder": now[1]}

    def activate(self, name: str) -> None:
        """The skill is active until the turn ends."""
        self._active[""][name] = ActiveSkill(self._pins[name].skill, self._main.roots[name])
        self._count(name)

    def note(self, call: ToolCall, place: str | None = None) -> PinnedSkill | None:
        """Count the skill that a call uses, which is the answer; it is active if lines of its SKILL.md are read.

        Args:
            call: by the name that its tool has in the place.
            place: a further one; None for the main one. Likewise for the methods below.

        """
        viewed = self._viewed(call, place)
        if viewed is not None:
            self.activate(viewed)
        name = viewed or self._named_by(call, place)
        if name is None:
            return None
        self._count(name)
        return self._pins[name]

    def concerned(self, call: ToolCall, place: str | None = None) -> PinnedSkill | None:
        """The skill that a call would use, if there is one; it is not counted, and does not become active."""
        name = self._viewed(call, place) or self._named_by(call, place)
        return None if name is None else self._pins[name]

    def answers(self, call: ToolCall, place: str | None = None) -> bool:
        """Whether the call is answered here and not by the backend.

        Whoever asks for lines of a SKILL.md gets the whole, once, unless it is too long to be given whole.
        """
        name = self._viewed(call, place)
        if name is None:
            return call.name == LOAD_SKILL and call.argv is None
        if "view_range" in call.input and is_cut(self._pins[name].skill, self._max_chars):
            return False
        return _is_good(call)

    def answer(self, call: ToolCall, place: str | None = None) -> Loaded:
        """The instructions asked for, unless the conversation holds them; the skill is active then."""
        name = self._viewed(call, place)
        if call.name == LOAD_SKILL:
            name = call.input.get("name")
            if set(call.input) != {"name"} or not isinstance(name, str):
                return _refusal(f'{LOAD_SKILL}: the input must be {{"name": NAME}}')
            if not self._may_load(name):
                return _refusal(self._unknown(name))
        assert name is not None
        self.activate(name)
        return self._give(self._pins[name].skill)

    def _give(self, skill: Skill) -> Loaded:
        root, key, held = self._main.roots[skill.name], content_key(skill), self._held(skill.name)
        elsewhere = self._elsewhere(skill.name)
        if held == key:
            return Loaded(ToolResult(content=already_loaded(skill, root) + elsewhere, outcome="ok"))
        self._given[skill.name] = key
        text = skill_content(skill, root, max_chars=self._max_chars, replaces=held is not None) + elsewhere
        holds = {"name": skill.name, "content": key, "folder": root}
        return Loaded(ToolResult(content=text, outcome="ok"), holds)

    def _held(self, name: str) -> str | None:
        """The key of the instructions of this skill that the conversation holds."""
        if self._history.shortened != self._shortened:  # what was given before may not be there any more
            self._given, self._shortened = {}, self._history.shortened
        held = self._history.instructions.get(name)
        return self._given.get(name) or (None if held is None else held.content)

    def _count(self, name: str) -> None:
        if name not in self._used:
            self._used.add(name)
            self._uses.add(name)

    def _viewed(self, call: ToolCall, place: str | None) -> str | None:
        """The skill whose SKILL.md the call asks to see, or to see lines of, if models may put it to use."""
        path: Any = call.input.get("path")
        if call.name != "view" or call.argv is not None or not isinstance(path, str):
            return None
        seen = self._seen(place)
        whole = posixpath.join(seen.workspace_root, path).lstrip("/")  # normpath would keep two slashes
        folder, file = posixpath.split(posixpath.normpath(f"/{whole}"))
        name = seen.by_root.get(folder) if file == SKILL_FILE else None
        return name if name is not None and self._may_load(name) else None

    def _named_by(self, call: ToolCall, place: str | None) -> str | None:
        """The skill whose tool is called, or that the call names, by its name or its folder."""
        if call.name == LOAD_SKILL and call.argv is None:
            name = call.input.get("name")
            return name if isinstance(name, str) and self._may_load(name) else None
        if call.name in self._owners and call.argv is None:
            return self._owners[call.name]
        words = " ".join(str(value) for value in call.input.values() if isinstance(value, str))
        seen = self._seen(place)
        for found in seen.parents.finditer(words):
            rest = words[found.end() + 1 : found.end() + _MAX_FOLDER_CHARS]
            for end in _FOLDER_ENDS:
                name = seen.by_root.get(f"{found[0]}/{re.split(end, rest, maxsplit=1)[0]}")
                if name is not None:
                    return name
        return None

    def _may_load(self, name: str) -> bool:
        pin = self._pins.get(name)
        return pin is not None and is_listed(pin.skill)

    def _unknown(self, name: str) -> str:
        known = sorted(filter(self._may_load, self._pins))
        place = bisect(known, name)
        near = get_close_matches(name[:100], known[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS], n=3)
        shown = near or known[:_SHOWN_NAMES]
        return f"There is no skill {name[:100]!r}. {'Did you mean' if near else 'There are'}: {', '.join(shown)}."


def _is_good(call: ToolCall) -> bool:
    try:
        parse(call)
    except BadInput:
        return False
    return True


def _refusal(message: str) -> Loaded:
    return Loaded(ToolResult(content=message, outcome="error"))
