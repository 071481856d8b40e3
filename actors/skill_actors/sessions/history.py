"""From events back to the messages a model is shown.

A conversation is its events; nothing else is stored. `History` folds them, one at a time, into messages the
API accepts, whatever happened in between: partial answers stay as text, every `tool_use` has its `tool_result`
in the next user message, roles alternate, and a restart or an unknown outcome is told where the user speaks next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from skill_actors.models.base import Block, Message
from skill_actors.sessions.events import TURN_ENDINGS, Event
from skill_actors.sessions.shown_images import image_block, with_few_images

__all__ = ["AMBIGUOUS", "FORKED", "IMPORTED", "READ_AGAIN", "RESTARTED", "History", "Instructions"]

AMBIGUOUS: Final = (
    "Interrupted: the daemon stopped while this ran. Its outcome is unknown; it may or may not have taken effect. "
    "It was not run again."
)
READ_AGAIN: Final = (
    "Interrupted: the daemon stopped while this ran. It changes nothing, so you can call it again if you need it."
)
FORKED: Final = (
    "[skilld: this conversation goes on from a copy of an earlier one. The files in the workspace are a copy as well, "
    "and may be newer than the last message.]"
)
IMPORTED: Final = (
    "[skilld: this conversation was imported from a file. Files in the workspace that it speaks of are not here.]"
)
RESTARTED: Final = (
    "[skilld: the daemon was restarted since the last message. Files in the workspace are still there; processes "
    "and /tmp are not.]"
)
_NOTES: Final[Mapping[str, str]] = {
    "session.forked": FORKED,
    "session.imported": IMPORTED,
    "session.restarted": RESTARTED,
}
_SKILL_GONE: Final = "[skilld: the skill {name!r}, which was loaded above, cannot be used any more.]"
_SKILL_CHANGED: Final = (
    "[skilld: the skill {name!r} was changed since it was loaded above: load it again before you use it. "
    "Its folder is now {folder}.]"
)
_SKILL_MOVED: Final = (
    "[skilld: files of the skill {name!r}, which was loaded above, were changed or moved; its instructions are as they "
    "were. Its folder is now {folder}.]"
)
_NEVER_RAN: Final = "Not run: the turn ended before this call was started."


@dataclass(frozen=True, slots=True)
class Instructions:
    """Of a skill, as a message holds them.

    Args:
        call: the tool_use whose result they are.
        content: the key of what was given.
        told: key and folder of the skill as the model knows it, also from notes; both are None if it knows it as gone.

    """

    call: str
    content: str
    told: tuple[str | None, str | None]


class History:
    """Messages so far. Feed it every event of the session in order; deltas and outputs are ignored.

    `instructions` are those of skills that the messages hold, the latest of each, by name. Whoever shortens messages
    has to leave the results of these calls in place, or to forget what they held.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._messages: list[Message] = []
        self._queued: dict[str, Mapping[str, Any]] = {}  # turn id -> data of its turn.queued
        self._open: dict[str, str | None] = {}  # tool_use ids without a result -> what the result is if none comes
        self._results: dict[str, Block] = {}
        self._notes: list[str] = []  # told at the start of the next user message
        self._has_images = False
        self.instructions: dict[str, Instructions] = {}
        self.seen_seq = 0
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take in one event."""
        self.seen_seq = event.seq
        match event.type:
            case "turn.queued" if event.turn is not None:
                self._queued[event.turn] = event.data
            case "turn.started" if event.turn is not None:
                self._begin(self._queued.pop(event.turn, {}))
            case "model.message":
                self._assistant(event.data.get("content", ()))
            case "tool.started":
                if event.data["id"] in self._open:
                    self._open[event.data["id"]] = READ_AGAIN if event.data.get("read_only") else AMBIGUOUS
            case "tool.finished":
                self._finished(event.data)
            case "skill.changed":
                self._skill_changed(event.data)
            case "session.reset":
                self._forget()
            case type if type in _NOTES:
                self._notes.append(_NOTES[type])
            case type if type in TURN_ENDINGS:
                if self._queued.pop(event.turn or "", None) is None:  # else it ended before it began
                    self._settle()
            case _:
                pass

    def messages(self) -> Sequence[Message]:
        """What to send now. The list is the caller's; its messages are not to be changed."""
        return with_few_images(self._messages) if self._has_images else list(self._messages)

    def ambiguous(self) -> Sequence[str]:
        """Ids of tool calls that were started, change something and have no result: they may have taken effect."""
        return [id for id, outcome in self._open.items() if outcome == AMBIGUOUS and id not in self._results]

    def _forget(self) -> None:
        """The conversation begins anew; messages that wait are its first ones."""
        self._messages, self._notes = [], []
        self._open, self._results = {}, {}
        self.instructions.clear()

    def _begin(self, data: Mapping[str, Any]) -> None:
        notes, self._notes = self._notes, []
        names = [str(file["name"]) for file in data.get("files", ())]
        if names:
            notes.append(f"[Files put into the workspace: {', '.join(names)}]")
        blocks = [_text(note) for note in notes]
        if data.get("text"):
            blocks.append(_text(str(data["text"])))
        self._say("user", blocks)

    def _assistant(self, content: Sequence[Block]) -> None:
        self._say("assistant", list(content))
        self._open = {str(block["id"]): None for block in content if block.get("type") == "tool_use"}
        self._results = {}

    def _finished(self, data: Mapping[str, Any]) -> None:
        id = str(data["id"])
        if id not in self._open:
            return
        text = str(data["content"]) or "(no output)"
        shown = [image_block(str(image["media_type"]), str(image["base64"])) for image in data.get("images", ())]
        result: Block = {"type": "tool_result", "tool_use_id": id, "content": [_text(text), *shown] if shown else text}
        self._has_images = self._has_images or bool(shown)
        if data.get("is_error"):
            result["is_error"] = True
        self._results[id] = result
        loaded = data.get("skill_loaded")
        if isinstance(loaded, Mapping):
            content = str(loaded.get("content"))
            told = (content, str(loaded.get("folder")))
            self.instructions[str(loaded.get("name"))] = Instructions(id, content, told)
        if len(self._results) == len(self._open):
            self._settle()

    def _skill_changed(self, data: Mapping[str, Any]) -> None:
        """Tell it in the message of the turn that has just begun, if instructions of the skill are in the messages."""
        name, content, folder = str(data.get("name")), data.get("content"), data.get("folder")
        held = self.instructions.get(name)
        if held is None:
            return
        self.instructions[name] = replace(held, told=(content, folder))
        text = _SKILL_CHANGED if content != held.content else _SKILL_MOVED
        note = (text if folder else _SKILL_GONE).format(name=name, folder=folder)
        if self._open:  # no message of ours: results have to come first
            self._notes.append(note)
        else:
            self._say("user", [_text(note)])

    def _settle(self) -> None:
        """Write the results of the last assistant message, in the order of its calls."""
        if not self._open:
            return
        blocks = [
            self._results.get(id)
            or {
                "type": "tool_result",
                "tool_use_id": id,
                "content": outcome or _NEVER_RAN,
                "is_error": True,
            }
            for id, outcome in self._open.items()
        ]
        self._open, self._results = {}, {}
        self._say("user", blocks)

    def _say(self, role: str, blocks: list[Block]) -> None:
        """Add to the last message if the role is the same (roles must alternate), else begin a new one."""
        if not blocks:
            return
        if self._messages and self._messages[-1]["role"] == role:
            last = self._messages[-1]
            self._messages[-1] = {"role": role, "content": [*last["content"], *blocks]}
        else:
            self._messages.append({"role": role, "content": blocks})


def _text(text: str) -> Block:
    return {"type": "text", "text": text}
