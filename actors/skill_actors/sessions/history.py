"""From events back to the messages a model is shown.

A conversation is its events; nothing else is stored. `History` folds them, one at a time, into messages the
API accepts, whatever happened in between: partial answers stay as text, every `tool_use` has its `tool_result`
in the next user message, roles alternate, and a restart or an unknown outcome is told where the user speaks next.

    turn.started      the user's message                 model.message     the model's; open calls get their results
    turn.steered      more of the user's: behind the     tool.finished     a result; with the last one, the results'
                      results of open calls, or behind                     message
                      the answer that is being written   turn.finished ..  results for calls that never got one
    session.compacted a summary in the place of what     a `compaction` block in an answer: what is before it is
                      was before                         not sent any more

What a conversation that is shortened needs further is given again: instructions of skills, within their bounds, pinned
messages, and files for the container.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from skill_actors.backends.anthropic.results import extract_file_ids
from skill_actors.backends.base import ToolCall
from skill_actors.models.base import Block, Message
from skill_actors.sessions.agents.memory import AgentMemory
from skill_actors.sessions.api_summaries import is_api_summary, with_told_summaries
from skill_actors.sessions.at_api import AtApi
from skill_actors.sessions.dialogue import Dialogue, Kind, Piece, call_ids, first_to_keep, parted, text_block
from skill_actors.sessions.events import TURN_ENDINGS, Event
from skill_actors.sessions.message_files import file_blocks
from skill_actors.sessions.notes import (
    AMBIGUOUS,
    CONTAINER_LOST,
    CUT_ANSWER,
    NEVER_RAN,
    READ_AGAIN,
    RESTARTED,
    SESSION_NOTES,
    files_note,
    skill_note,
    summary_text,
    upload_gone,
)
from skill_actors.sessions.server_calls import without_lost_calls, without_uploads
from skill_actors.sessions.shown_images import image_block, is_shown, parts_of, with_few_images
from skill_actors.sessions.skill_texts import Instructions, SkillTexts

__all__ = ["AMBIGUOUS", "READ_AGAIN", "RESTARTED", "History", "Instructions", "Steer"]

_MAX_FILES: Final = 1_000  # of which the names are kept


@dataclass(frozen=True, slots=True)
class Steer:
    """What the user has said while a turn runs, and no message holds yet."""

    seq: int
    turn: str | None
    content: Sequence[Block]


class History:
    """Messages so far. Feed it every event of the session in order; deltas and outputs are ignored.

    `instructions` are those of skills that the messages hold, the latest of each, by name. `shortened` counts how often
    messages were taken away, after which instructions may be missing that were there before.

    `container` is the API's container that the conversation goes on in; a fork and an import have none of their own
    yet. `hosted_files` are those that code in containers has made, by name, as their events have them; the ids of
    those that no event has named yet are in `unnamed_files`. `uploads` are the files that the messages give to the
    container, by id; an import has none, since its ids may be another account's.

    `agents` is what whole agents know of it, where they perform the turns; a fork and an import have none, since two
    conversations must not go on in one session.

    `awaits_answer` says whether the user has said something that no answer of the model has followed, `shows` whether
    messages may hold pictures or documents, and `has_api_summary` whether an answer holds a summary that the API made.
    """

    __slots__ = (
        "_again",
        "_at_api",
        "_dialogue",
        "_has_server_calls",
        "_notes",
        "_open",
        "_paused",
        "_queued",
        "_results",
        "_running",
        "_steers",
        "_texts",
        "_tool_digests",
        "agents",
        "awaits_answer",
        "container",
        "failed_at",
        "files",
        "has_api_summary",
        "message_files",
        "not_shortened",
        "seen_seq",
        "shortened",
        "shows",
    )

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._dialogue = Dialogue()
        self._queued: dict[str, Mapping[str, Any]] = {}  # turn id -> data of its turn.queued
        self._open: dict[str, str | None] = {}  # tool_use ids without a result -> what the result is if none comes
        self._results: dict[str, Block] = {}
        self._notes: list[str] = []  # told at the start of the next user message
        self._steers: list[Steer] = []  # that no message holds yet
        self._again: list[Piece] = []  # pinned messages that the next message of the user's has to repeat
        self._running: str | None = None  # the turn
        self._paused = False
        self.shows = False
        self._has_server_calls = False
        self.has_api_summary = False
        self._texts = SkillTexts()
        self._tool_digests: dict[str, str] | None = None  # likewise made when first needed
        self._at_api: AtApi | None = None  # made when first needed: many conversations wait, and most have none
        self.files: list[str] = []  # names of those that came with messages
        self.container: str | None = None
        self.agents: AgentMemory | None = None
        self.message_files: Sequence[str] = ()  # names of those that came with the message of the latest turn
        self.awaits_answer = False
        self.shortened = 0
        self.failed_at: int | None = None  # how many pieces there were when it could not be shortened
        self.not_shortened: str | None = None  # why it could not be, the last time
        self.seen_seq = 0
        self.extend(events)

    def extend(self, events: Iterable[Event]) -> None:
        """Take in these, in order."""
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take in one event."""
        self.seen_seq = event.seq
        match event.type:
            case "turn.queued" if event.turn is not None:
                self._queued[event.turn] = event.data
            case "turn.started" if event.turn is not None:
                self._begin(event.turn, self._queued.pop(event.turn, {}))
            case "turn.steered":
                self._steer(event)
            case "model.message":
                self._answered(event)
            case "tool.started":
                if event.data["id"] in self._open:
                    self._open[event.data["id"]] = READ_AGAIN if event.data.get("read_only") else AMBIGUOUS
                if "tool_digest" in event.data:
                    self._pin_tool(event.data)
            case "tool.finished":
                self._finished(event.data)
            case "skill.changed":
                self._skill_changed(event.data)
            case "file.created" if "file_id" in event.data:
                self._hosted_file(event.data)
            case "file.deleted" if event.data.get("file_id") in self.uploads:
                self._upload_gone(str(event.data["file_id"]))
            case "agent.session" | "agent.chosen":
                self.agents = self.agents or AgentMemory()
                self.agents.add(event)
            case "session.compacted":
                self._compacted(event)
            case "session.container_lost":
                self.container = None
                self._tell_now(CONTAINER_LOST)
            case "session.reset":
                self._forget()
            case type if type in SESSION_NOTES:
                self._session_note(type)
            case type if type in TURN_ENDINGS:
                if self._queued.pop(event.turn or "", None) is None:  # else it ended before it began
                    self._end()
                    if self.agents is not None:
                        self.agents.turn_ended(event)
            case _:
                pass

    @property
    def instructions(self) -> Mapping[str, Instructions]:
        return self._texts.held

    @property
    def tool_digests(self) -> Mapping[str, str]:
        """By name of each tool of a source that was called: the digest of what it said of itself then."""
        return {} if self._tool_digests is None else self._tool_digests

    @property
    def hosted_files(self) -> Mapping[str, Mapping[str, Any]]:
        return {} if self._at_api is None else self._at_api.files

    @property
    def unnamed_files(self) -> Collection[str]:
        return () if self._at_api is None else self._at_api.unnamed

    @property
    def uploads(self) -> Mapping[str, Mapping[str, Any]]:
        return {} if self._at_api is None else self._at_api.uploads

    @property
    def pieces(self) -> Sequence[Piece]:
        """What messages are made of, in order; for whoever decides what a summary is to stand for."""
        return self._dialogue.pieces

    @property
    def running(self) -> str | None:
        """The turn that has begun and not ended."""
        return self._running

    @property
    def is_open(self) -> bool:
        """Whether the last answer is still being worked on: calls without results, or a pause."""
        return bool(self._open) or self._paused

    def open_calls(self) -> list[ToolCall]:
        """Calls of the last answer that have no result yet, in their order."""
        if not self._open:
            return []
        answer = next(piece for piece in reversed(self.pieces) if piece.kind == "answer")
        return [
            ToolCall(id=str(block["id"]), name=str(block["name"]), input=_mapping(block.get("input")))
            for block in answer.content
            if block.get("type") == "tool_use" and str(block["id"]) not in self._results
        ]

    def messages(self, *, hosted: bool = True, sees: bool = True, api_summaries: bool = True) -> Sequence[Message]:
        """What to send now. The list is the caller's; its messages are not to be changed.

        Args:
            hosted: whether the model can have code executed; else files for its container are left out.
            sees: whether the model takes pictures and documents; else a text stands for each.
            api_summaries: whether the model takes summaries of the API; else a text stands for each.

        """
        messages: Sequence[Message] = self._dialogue.messages()
        if self.has_api_summary and not api_summaries:
            messages = with_told_summaries(messages, self.files)
        if self.shows:
            messages = with_few_images(messages, sees=sees)
        if not hosted and self.uploads:
            messages = without_uploads(messages)
        return without_lost_calls(messages) if self._has_server_calls else messages

    @property
    def paused(self) -> bool:
        """Whether the model is to go on with its own answer."""
        return self._dialogue.last_role == "assistant"

    def ambiguous(self) -> Sequence[str]:
        """Ids of tool calls that were started, change something and have no result: they may have taken effect."""
        return [id for id, outcome in self._open.items() if outcome == AMBIGUOUS and id not in self._results]

    @property
    def waits(self) -> bool:
        """Whether there are calls without a result, and none of them was started."""
        outcomes = [outcome for id, outcome in self._open.items() if id not in self._results]
        return bool(outcomes) and not any(outcomes)

    def _forget(self) -> None:
        """The conversation begins anew; messages that wait are its first ones."""
        self._dialogue = Dialogue()
        self._notes, self._steers, self._again, self.files = [], [], [], []
        self._open, self._results = {}, {}
        self._texts = SkillTexts()
        self._paused = self.shows = self._has_server_calls = self.awaits_answer = self.has_api_summary = False
        self.container = self.failed_at = self.not_shortened = self._at_api = self.agents = None
        self._tool_digests = None
        self.shortened += 1

    # -- what the user says --------------------------------------------------------------------------------------

    def _begin(self, turn: str, data: Mapping[str, Any]) -> None:
        self._settle()
        self._running, self._paused = turn, False
        self._place_steers()
        notes, self._notes = self._notes, []
        files = data.get("files", ())
        names = self.message_files = [str(file["name"]) for file in files]
        self._say("note", [text_block(note) for note in notes])
        self._give_again()
        if not data.get("compact"):  # that is no message, but a request to the program
            self._say("said", self._told(data), turn, pinned=bool(data.get("pinned")))
            self.awaits_answer = self.awaits_answer or bool(names or data.get("text"))
        self._say("note", self._taken_uploads())

    def _told(self, data: Mapping[str, Any]) -> list[Block]:
        """What a message says: names of its files, those of them that are shown, its text."""
        files = data.get("files", ())
        self.files = [*self.files, *(str(file["name"]) for file in files)][-_MAX_FILES:] if files else self.files
        shown = file_blocks(data)
        self.shows = self.shows or bool(shown)
        text = str(data.get("text") or "")
        return [
            *([text_block(files_note(files))] if files else []),
            *shown,
            *([text_block(text)] if text else []),
        ]

    def _steer(self, event: Event) -> None:
        """More of the user's, which waits while an answer is being written or tools run."""
        self._steers.append(Steer(event.seq, event.turn or self._running, self._told(event.data)))
        self.awaits_answer = True
        if self._running is None or (self._dialogue.last_role == "assistant" and not self._paused):
            self._place_steers()

    def hear(self) -> int | None:
        """Take what the user has said meanwhile into the messages, for a call that is about to be made.

        Returns up to which event that is, which the event of the answer has to say as `seen_seq`; None: there was none.
        """
        if self._paused or self._open or not self._steers:
            return None
        self._place_steers()
        return self.seen_seq

    def _place_steers(self, through: int | None = None) -> None:
        """Say what the user has said meanwhile, up to an event; unless tools have to be answered first."""
        if self._open:
            return
        placed = [steer for steer in self._steers if through is None or steer.seq <= through]
        self._steers = self._steers[len(placed) :]
        for steer in placed:
            self._say("said", steer.content, steer.turn)

    def _give_again(self) -> None:
        """Repeat what the API has replaced with a summary of its own, and what has to stay."""
        again, self._again = self._again, []
        for piece in again:
            self._dialogue.add(replace(piece, seq=self.seen_seq))

    # -- what the model and its tools say ------------------------------------------------------------------------

    def _answered(self, event: Event) -> None:
        content = list(event.data.get("content", ()))
        if event.data.get("continued") and self._open:  # of an agent, which says an answer in parts, tools running
            self._say("answer", content, event.turn)
            self._open |= {str(block["id"]): None for block in content if block.get("type") == "tool_use"}
            return
        self._settle()
        if (seen := event.data.get("seen_seq")) is not None:  # these the model has read
            self._place_steers(int(seen))
        self._say("answer", content, event.turn)
        self._paused = event.data.get("stop_reason") == "pause_turn"
        self.container = event.data.get("container") or self.container
        self._has_server_calls = self._has_server_calls or any(
            block.get("type") == "server_tool_use" for block in content
        )
        if made := extract_file_ids(content):
            self._api().unnamed.update(dict.fromkeys(made))
        self._open = {str(block["id"]): None for block in content if block.get("type") == "tool_use"}
        self._results = {}
        self.has_api_summary = self.has_api_summary or any(map(is_api_summary, content))
        if any(is_api_summary(block) and block.get("content") for block in content):
            self._compacted_there()
        self.awaits_answer = bool(self._steers)
        if not self._paused:
            self._place_steers()

    def _finished(self, data: Mapping[str, Any]) -> None:
        id = str(data["id"])
        if id not in self._open:
            return
        text = str(data["content"]) if str(data["content"]).strip() else "(no output)"
        shown = [image_block(str(image["media_type"]), str(image["base64"])) for image in data.get("images", ())]
        result: Block = {"type": "tool_result", "tool_use_id": id, "content": text}
        if shown:
            result["content"] = [text_block(text), *shown]
            self.shows = True
        if data.get("is_error"):
            result["is_error"] = True
        self._results[id] = result
        loaded = data.get("skill_loaded")
        if isinstance(loaded, Mapping):
            self._texts.load(id, loaded, text)
        if len(self._results) == len(self._open):
            self._settle()
            self._place_steers()

    def _pin_tool(self, data: Mapping[str, Any]) -> None:
        self._tool_digests = self._tool_digests or {}
        self._tool_digests[str(data["name"])] = str(data["tool_digest"])

    def _settle(self) -> None:
        """Write the results of the last assistant message, in the order of its calls."""
        if not self._open:
            return
        blocks = [
            self._results.get(id)
            or {
                "type": "tool_result",
                "tool_use_id": id,
                "content": outcome or NEVER_RAN,
                "is_error": True,
            }
            for id, outcome in self._open.items()
        ]
        self._open, self._results = {}, {}
        self._say("results", blocks, self._running)
        notes, self._notes = self._notes, []
        self._say("note", [text_block(note) for note in notes])
        self._give_again()
        self._say("note", self._taken_uploads())

    def _end(self) -> None:
        self._settle()
        self._paused, self._running = False, None
        self._place_steers()

    # -- shorter ---------------------------------------------------------------------------------------------------

    def _compacted(self, event: Event) -> None:
        """A summary of ours; an event without one says that it came to nothing."""
        summary, kept_from = event.data.get("summary"), event.data.get("kept_from_seq")
        if not summary:
            self.failed_at, self.not_shortened = len(self.pieces), str(event.data.get("why_not", ""))
            return
        from_seq = event.seq if kept_from is None else int(kept_from)
        pinned, self._again = [piece for piece in self._again if piece.pinned], []
        self._dialogue.pieces = [*pinned, *self.pieces]
        first = first_to_keep(self.pieces, from_seq, open_answer=self.is_open)
        again = self._given_again(first)
        if self._at_api is not None:
            self._at_api.give_again()
        head = [
            text_block(summary_text(str(summary), self.files)),
            *map(text_block, again),
            *self._taken_uploads(),
        ]
        self._dialogue.shorten(first, head, seq=event.seq, running=self._running)
        if event.data.get("by") == "window" and self.paused and not self.is_open:
            self._say("note", [text_block(CUT_ANSWER)])
        self._shortened()

    def _compacted_there(self) -> None:
        """The API has put its summary into the last answer. It reads nothing before that, so it need not be sent."""
        first = len(self.pieces) - 1
        _, pinned = parted([*self._again, *self.pieces[:first]], None)
        again = self._given_again(first)
        self._again = [*(Piece(self.seen_seq, "note", [text_block(text)]) for text in again), *pinned]
        if self._at_api is not None:
            self._at_api.give_again()
        self._dialogue.pieces = self._dialogue.pieces[first:]
        self._shortened()

    def _shortened(self) -> None:
        self.shortened += 1
        self.failed_at = self.not_shortened = None
        blocks = (
            [block for piece in self.pieces for block in piece.content] if self.has_api_summary or self.shows else []
        )
        self.has_api_summary = any(map(is_api_summary, blocks))
        blocks += [block for piece in self._again for block in piece.content]
        self.shows = self.shows and any(is_shown(part) for block in blocks for part in parts_of(block))

    def _given_again(self, first: int) -> Sequence[str]:
        """Instructions of skills that are told anew, where the pieces from `first` on are kept."""
        return self._texts.give_again(call_ids(self.pieces[first:])) if self.instructions else ()

    # -- what the program says -------------------------------------------------------------------------------------

    def _session_note(self, type: str) -> None:
        self._notes.append(SESSION_NOTES[type])
        if type == "session.imported":
            self._without_uploads()
        if type != "session.restarted":
            self.agents = None
        if type != "session.restarted" and self.container is not None:
            self.container = None  # two conversations must not work in one
            self._notes.append(CONTAINER_LOST)

    def _skill_changed(self, data: Mapping[str, Any]) -> None:
        """Tell it in the message of the turn that has just begun, if instructions of the skill are in the messages."""
        name, content, folder = str(data.get("name")), data.get("content"), data.get("folder")
        changed = self._texts.change(name, content, folder)
        if changed is not None:
            self._tell_now(skill_note(name, folder, changed=changed))

    def _tell_now(self, note: str) -> None:
        if self._open:  # no message of ours: results have to come first
            self._notes.append(note)
        else:
            self._say("note", [text_block(note)])

    # -- files at the API ------------------------------------------------------------------------------------------

    def _hosted_file(self, data: Mapping[str, Any]) -> None:
        """A file that code has made, or that was sent there: then the user's message gives it to the container."""
        if not data.get("uploaded"):
            self._api().made(data)
            return
        self._api().sent(data)
        if not self._open and self._dialogue.last_role == "user":
            self._say("note", self._taken_uploads())

    def _upload_gone(self, file_id: str) -> None:
        name = str(self.uploads[file_id]["name"])
        self._without_uploads([id for id in self.uploads if id != file_id])
        self._tell_now(upload_gone(name))

    def _without_uploads(self, kept: Collection[str] = ()) -> None:
        """Take files for the container out of the messages, but for those that are kept."""
        if self._at_api is not None:
            self._at_api.keep(kept)
            self._dialogue.keep_uploads(kept)

    def _taken_uploads(self) -> Sequence[Block]:
        """Files that wait for a message of the user's, which is about to come."""
        return () if self._at_api is None else self._at_api.take_waiting()

    def _api(self) -> AtApi:
        self._at_api = self._at_api or AtApi()
        return self._at_api

    def _say(self, kind: Kind, content: Sequence[Block], turn: str | None = None, *, pinned: bool = False) -> None:
        self._dialogue.add(Piece(self.seen_seq, kind, content, turn, pinned))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {"": value}  # the executor's schema check will refuse it
