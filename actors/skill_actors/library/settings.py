"""What a program chooses for one conversation."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

from skill_actors.backends import Host
from skill_actors.errors import Refused
from skill_actors.files.storage import Storage
from skill_actors.ids import new_id
from skill_actors.library.callbacks import CALLBACKS, Callback
from skill_actors.models.base import Message
from skill_actors.sessions.answer_schema import check_schema
from skill_actors.skills.copies import SkillCopies
from skill_actors.telemetry import Bus

__all__ = ["Options", "Settings", "checked_schema"]

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")


class Options(TypedDict, total=False):
    """Keyword arguments that every constructor takes; `Settings` says what each means."""

    working_directory: Path | str
    session_id: str
    messages: Sequence[Message]
    system: str
    model_name: str
    max_tokens: int
    max_iterations: int
    max_pauses: int
    timeout_s: float
    turn_timeout_s: float
    max_output_chars: int
    schema: Mapping[str, Any]
    only: Collection[str]
    except_: Collection[str]
    restrict_to_allowed_tools: bool
    environment: Mapping[str, str]
    copies: SkillCopies
    host: Host
    bus: Bus
    storage: Storage
    on_tool_call: Callback
    on_tool_result: Callback
    on_pause: Callback
    on_response: Callback
    on_file_created: Callback
    on_file_modified: Callback
    on_file_deleted: Callback
    on_file_synced: Callback


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for all turns of one conversation, where a turn does not say otherwise.

    Args:
        working_directory: of this conversation alone, made if it is missing; its files stay. None: a temporary one,
            which goes with the conversation.
        session_id: its name; also what finds its files again in a storage.
        messages: to go on from.
        system: text before the description of the skills.
        model_name: for a Model.
        max_tokens: of one answer.
        max_iterations: model calls of one turn.
        max_pauses: answers in a row that only pause.
        timeout_s: of one tool call; after it all that it started is killed.
        turn_timeout_s: of one turn.
        max_output_chars: of one tool result.
        schema: a JSON schema that answers have to keep to; None for text.
        only: names of the tools that may be called; None for all.
        except_: names of those that may not, whatever `only` says.
        restrict_to_allowed_tools: run only what `allowed-tools` of one of the skills lists.
        environment: added to that of commands, which has nothing of this process's own.
        copies: where skills are copied to, so that editing them changes nothing here; by default live folders are used.
        host: worker processes, for executors that need them.
        bus: told about model calls and tool calls, under the names that the daemon uses.
        storage: where the files are kept besides, under the session id, and brought from when it is opened again.
        callbacks: by name.

    Raises:
        ValueError: a number is out of range.

    """

    working_directory: Path | None = None
    session_id: str = field(default_factory=lambda: new_id("ses"))
    messages: Sequence[Message] = ()
    system: str = ""
    model_name: str = ""
    max_tokens: int = 8192
    max_iterations: int = 25
    max_pauses: int = 10
    timeout_s: float = 120.0
    turn_timeout_s: float = 1_800.0
    max_output_chars: int = 30_000
    schema: Mapping[str, Any] | None = None
    only: Collection[str] | None = None
    except_: Collection[str] = ()
    restrict_to_allowed_tools: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    copies: SkillCopies | None = None
    host: Host = field(default_factory=Host)
    bus: Bus = field(default_factory=Bus)
    storage: Storage | None = None
    callbacks: Mapping[str, Callback | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("timeout_s", "turn_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)!r}")
        if self.max_pauses < 0:
            raise ValueError(f"max_pauses must be at least 0, got {self.max_pauses!r}")
        checked_schema(self.schema)
        if not _ID.fullmatch(self.session_id) or "--" in self.session_id:
            raise ValueError(
                f"session_id {self.session_id!r:.150}: letters, digits, _ and single hyphens, at most 128, no - first"
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """The settings in these keyword arguments.

        Raises:
            TypeError: there is no such option.
            ValueError: as above.

        """
        known = {entry.name for entry in fields(cls)} - {"callbacks"}
        if unknown := sorted(options.keys() - known - CALLBACKS.keys()):
            raise TypeError(
                f"there is no option {unknown[0]!r}; there are {', '.join(sorted(known | CALLBACKS.keys()))}"
            )
        chosen = {name: value for name, value in options.items() if name in known}
        if chosen.get("working_directory") is not None:
            chosen["working_directory"] = Path(chosen["working_directory"]).absolute()
        callbacks = {name: value for name, value in options.items() if name in CALLBACKS}
        return cls(**chosen, callbacks=callbacks)


def checked_schema(schema: Mapping[str, Any] | None) -> None:
    """Raise ValueError unless this can be the schema of an answer, or is None."""
    try:
        if schema is not None:
            check_schema(schema)
    except Refused as refused:
        raise ValueError(refused.message) from refused
