"""From events back to the messages a model is shown.

A conversation is its events; nothing else is stored. `History` folds them, one at a time, into messages the
API accepts, whatever happened in between: partial answers stay as text, every `tool_use` has its `tool_result`
in the next user message, roles alternate, and a restart or an unknown outcome is told where the user speaks next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from skill_actors.backends.anthropic.results import extract_file_ids
from skill_actors.models.base import Block, Message
from skill_actors.sessions.events import TURN_ENDINGS, Event
from skill_actors.sessions.server_calls import without_lost_calls, without_uploads
from skill_actors.sessions.shown_images import image_block, with_few_images

__all__ = ["AMBIGUOUS", "CONTAINER_LOST", "FORKED", "IMPORTED", "READ_AGAIN", "RESTARTED", "History", "Instructions"]

AMBIGUOUS: Final = (
    "Interrupted: the daemon stopped while this ran. Its outcome is unknown; it may or may not have taken effect. "
    "It was not run again."
)
READ_AGAIN: Final = (
    "Interrupted: the daemon stopped while this ran. It changes nothing, so you can call it again if you need it."
)
CONTAINER_LOST: Final = (
    "[skilld: the container in which code was executed is not there any more, and a new one is used from here on. "
    "What was in it is gone, but for files that were given to you with their ids, or that the user sends again.]"
)
_UPLOAD_GONE: Final = (
    "[skilld: the file {name!r}, which was given to you, is not at the API any more. Whoever has it can hand it over "
    "again.]"
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


@dataclass(slots=True)
class _Hosted:
    """What a conversation has at the API besides its container; see `History`."""

    files: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unnamed: dict[str, None] = field(default_factory=dict)  # in their order
    uploads: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    waiting: list[Block] = field(default_factory=list)  # for the user's next message


class History:
    """Messages so far. Feed it every event of the session in order; deltas and outputs are ignored.

    `instructions` are those of skills that the messages hold, the latest of each, by name. Whoever shortens messages
    has to leave the results of these calls in place, or to forget what they held.

    `container` is the API's container that the conversation goes on in; a fork and an import have none of their own
    yet. `hosted_files` are those that code in containers has made, by name, as their events have them; the ids of
    those that no event has named yet are in `unnamed_files`. `uploads` are the files that the messages give to the
    container, by id; an import has none, since its ids may be another account's.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._messages: list[Message] = []
        self._queued: dict[str, Mapping[str, Any]] = {}  # turn id -> data of its turn.queued
        self._open: dict[str, str | None] = {}  # tool_use ids without a result -> what the result is if none comes
        self._results: dict[str, Block] = {}
        self._notes: list[str] = []  # told at the start of the next user message
        self._has_images = False
        self.instructions: dict[str, Instructions] = {}
        self.container: str | None = None
        self.message_files: Sequence[str] = ()  # names of those that came with the message of the latest turn
        self._has_server_calls = False
        self._hosted: _Hosted | None = None  # made when first needed: many conversations wait, and most have none
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
                self.container = event.data.get("container") or self.container
            case "tool.started":
                if event.data["id"] in self._open:
                    self._open[event.data["id"]] = READ_AGAIN if event.data.get("read_only") else AMBIGUOUS
            case "tool.finished":
                self._finished(event.data)
            case "skill.changed":
                self._skill_changed(event.data)
            case "file.created" if "file_id" in event.data:
                self._hosted_file(event.data)
            case "file.deleted" if event.data.get("file_id") in self.uploads:
                self._upload_gone(str(event.data["file_id"]))
            case "session.container_lost":
                self.container = None
                self._tell_now(CONTAINER_LOST)
            case "session.reset":
                self._forget()
            case type if type in _NOTES:
                self._notes.append(_NOTES[type])
                if type == "session.imported":
                    self._without_uploads()
                if type != "session.restarted" and self.container is not None:
                    self.container = None  # two conversations must not work in one
                    self._notes.append(CONTAINER_LOST)
            case type if type in TURN_ENDINGS:
                if self._queued.pop(event.turn or "", None) is None:  # else it ended before it began
                    self._settle()
            case _:
                pass

    @property
    def hosted_files(self) -> Mapping[str, Mapping[str, Any]]:
        return {} if self._hosted is None else self._hosted.files

    @property
    def unnamed_files(self) -> Collection[str]:
        return () if self._hosted is None else self._hosted.unnamed

    @property
    def uploads(self) -> Mapping[str, Mapping[str, Any]]:
        return {} if self._hosted is None else self._hosted.uploads

    def messages(self, *, hosted: bool = True) -> Sequence[Message]:
        """What to send now. The list is the caller's; its messages are not to be changed.

        Args:
            hosted: whether the model can have code executed; else files for its container are left out.

        """
        messages: Sequence[Message] = list(self._messages)
        if self._has_images:
            messages = with_few_images(messages)
        if not hosted and self.uploads:
            messages = without_uploads(messages)
        return without_lost_calls(messages) if self._has_server_calls else messages

    @property
    def paused(self) -> bool:
        """Whether the model is to go on with its own answer."""
        return bool(self._messages) and self._messages[-1]["role"] == "assistant"

    def ambiguous(self) -> Sequence[str]:
        """Ids of tool calls that were started, change something and have no result: they may have taken effect."""
        return [id for id, outcome in self._open.items() if outcome == AMBIGUOUS and id not in self._results]

    def _forget(self) -> None:
        """The conversation begins anew; messages that wait are its first ones."""
        self._messages, self._notes = [], []
        self._open, self._results = {}, {}
        self.instructions.clear()
        self.container = None
        self._hosted = None

    def _begin(self, data: Mapping[str, Any]) -> None:
        notes, self._notes = self._notes, []
        names = self.message_files = [str(file["name"]) for file in data.get("files", ())]
        if names:
            notes.append(f"[Files put into the workspace: {', '.join(names)}]")
        blocks = [_text(note) for note in notes]
        if data.get("text"):
            blocks.append(_text(str(data["text"])))
        self._say("user", [*blocks, *self._taken_uploads()])

    def _assistant(self, content: Sequence[Block]) -> None:
        self._say("assistant", list(content))
        self._has_server_calls = self._has_server_calls or any(
            block.get("type") == "server_tool_use" for block in content
        )
        if made := extract_file_ids(content):
            self._at_api().unnamed.update(dict.fromkeys(made))
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
        self._tell_now(note)

    def _tell_now(self, note: str) -> None:
        if self._open:  # no message of ours: results have to come first
            self._notes.append(note)
        else:
            self._say("user", [_text(note)])

    def _hosted_file(self, data: Mapping[str, Any]) -> None:
        """A file that code has made, or that was sent there: then the user's message gives it to the container."""
        file_id, hosted = str(data["file_id"]), self._at_api()
        if not data.get("uploaded"):
            hosted.unnamed.pop(file_id, None)
            hosted.files[str(data["name"])] = data
            return
        block = {"type": "container_upload", "file_id": file_id}
        hosted.uploads[file_id] = data
        if self._open or not self._messages or self._messages[-1]["role"] != "user":
            hosted.waiting.append(block)
        else:
            self._say("user", [block])

    def _upload_gone(self, file_id: str) -> None:
        name = str(self.uploads[file_id]["name"])
        kept = [id for id in self.uploads if id != file_id]
        self._without_uploads(kept)
        self._tell_now(_UPLOAD_GONE.format(name=name))

    def _without_uploads(self, kept: Collection[str] = ()) -> None:
        """Take files for the container out of the messages, but for those that are kept."""
        if self._hosted is not None:
            self._hosted.uploads = {id: self._hosted.uploads[id] for id in kept}
            self._hosted.waiting = [block for block in self._hosted.waiting if block["file_id"] in kept]
            self._messages = list(without_uploads(self._messages, kept))

    def _taken_uploads(self) -> Sequence[Block]:
        """Files that wait for a message of the user's, which is about to come."""
        if self._hosted is None:
            return ()
        taken, self._hosted.waiting = self._hosted.waiting, []
        return taken

    def _at_api(self) -> _Hosted:
        self._hosted = self._hosted or _Hosted()
        return self._hosted

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
        self._say("user", [*blocks, *self._taken_uploads()])

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
