"""The contract of a native skill: a class with `skill_info` and up to four callbacks, and what they are given.

    class Notes(NativeSkill):
        skill_info = SkillInfo(name="notes", description="Keeps notes.", allowed_tools=("read", "write"))

        def read(self, path: str, context: Context, offset: int = 0, limit: int = 100) -> str: ...
        def write(self, path: str, content: str, context: Context) -> str: ...

`execute(command, context)`, `read(path, context, offset, limit)`, `write(path, content, context)` and
`modify(path, old_content, new_content, context)` are all optional. They are plain functions, which may block: a call
has a process, or a thread, to itself. Classes of a program that runs them in itself may have `async def` (trio) too.
What one returns is what the model reads: text, or a list or mapping of JSON. What it raises is an error result.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

__all__ = ["KINDS", "AskFailed", "Context", "NativeSkill", "SkillInfo"]

MAX_ASK_BYTES: Final = 1 << 20
"""Of a message to an actor, and of its answer, as JSON."""

KINDS: Final = ("execute", "read", "write", "modify")
"""The callbacks, in the order in which their tools are offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillInfo:
    """What a native skill says of itself.

    Args:
        name: that of its SKILL.md.
        description: what it does; the model reads it with each tool.
        allowed_tools: names of callbacks; exactly these become tools.

    """

    name: str
    description: str
    allowed_tools: Sequence[str]


class NativeSkill:
    """Base of native skills; any class with a `skill_info` will do. It is made without arguments, once a process.

    `parallel`: whether calls of one conversation may run at the same time; else they wait for each other. In a program
    that runs the skill in itself, where one instance serves all conversations, this holds for all of them together.
    """

    skill_info: ClassVar[SkillInfo]
    parallel: ClassVar[bool] = False


class AskFailed(Exception):
    """An actor gave no answer.

    `kind`: "not_exposed" (skills may not ask it), "timeout" (the message may have been taken), "gone" (nobody has that
    name now, or it ended before it answered), "refused" (it raised; the message says what), "not_json" (the message or
    the answer is no JSON value, or one of more than a megabyte).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


Asker = Callable[[Mapping[str, Any]], Any]
"""Carries a question {"to", "message", "timeout_s", "tell"} to the actors, and {"answer"} or {"kind", "error"} back."""


def _say_nothing(_text: str) -> None:
    pass


def _ask_nobody(question: Mapping[str, Any]) -> Any:
    return {"kind": "not_exposed", "error": f"no actor can be asked here, so neither can {question['to']!r:.100}"}


async def _await_nobody(question: Mapping[str, Any]) -> Any:
    return _ask_nobody(question)


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What holds for one call. Its working directory is `workspace`, if the call has a process to itself.

    Args:
        session: id of the conversation.
        workspace: its folder: what the other tools see and keep between messages.
        skill_dir: the skill's own folder, in the version that this conversation uses. Not to be written.
        allowed_paths: folders that the model may read: the workspace and those of the conversation's skills.
        deadline: of `time.monotonic()`, in seconds; after it the process is killed, or the thread left alone.
        environment: the secrets of the skill, which are in `os.environ` too if the call has a process to itself.
        emit: shows a piece of output to whoever watches, while the call runs. No part of the result.
        asker, awaiter: how `ask` and `ask_async` reach the actors.
        wanted: whether anybody waits for the call.

    """

    session: str
    workspace: Path
    skill_dir: Path
    allowed_paths: tuple[Path, ...]
    deadline: float
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    emit: Callable[[str], None] = field(default=_say_nothing, repr=False)
    asker: Asker = field(default=_ask_nobody, repr=False)
    awaiter: Callable[[Mapping[str, Any]], Awaitable[Any]] = field(default=_await_nobody, repr=False)
    wanted: Callable[[], bool] = field(default=_always, repr=False)

    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def is_wanted(self) -> bool:
        """Whether the call is neither out of time nor cancelled. For threads, which nobody can kill: ask it often."""
        return self.wanted() and self.remaining_s() > 0.0

    def ask(self, name: str, message: Any, *, timeout_s: float = 5.0) -> Any:
        """What the actor of this name answers to a JSON value: a JSON value.

        Args:
            name: one that the operator, or the program, has exposed to skills.
            message: what its `on_receive` is given.
            timeout_s: for the answer; never longer than what is left of the call.

        Raises:
            AskFailed: there is no answer; `kind` says why.

        """
        return _answer(self.asker(self._question(name, message, timeout_s, tell=False)))

    def tell(self, name: str, message: Any, *, timeout_s: float = 5.0) -> None:
        """Put a JSON value into the mailbox of an actor, and do not wait for what it makes of it. Raises AskFailed."""
        _answer(self.asker(self._question(name, message, timeout_s, tell=True)))

    async def ask_async(self, name: str, message: Any, *, timeout_s: float = 5.0) -> Any:
        """As `ask`, for a function that is `async def`."""
        return _answer(await self.awaiter(self._question(name, message, timeout_s, tell=False)))

    async def tell_async(self, name: str, message: Any, *, timeout_s: float = 5.0) -> None:
        """As `tell`, for a function that is `async def`."""
        _answer(await self.awaiter(self._question(name, message, timeout_s, tell=True)))

    def _question(self, name: str, message: Any, timeout_s: float, *, tell: bool) -> Mapping[str, Any]:
        question = {"to": name, "message": message, "timeout_s": min(timeout_s, self.remaining_s()), "tell": tell}
        try:
            if len(json.dumps(question, allow_nan=False)) > MAX_ASK_BYTES:
                raise ValueError(f"it takes more than {MAX_ASK_BYTES} bytes")
        except (TypeError, ValueError, RecursionError) as error:
            raise AskFailed("not_json", f"{name!r:.100} cannot be asked this: {error}") from None
        return question

    def resolve(self, path: str, *, write: bool = False) -> Path:
        """The real path of what the model calls `path`, relative to the workspace, links followed.

        It is judged as it is now: open it at once, and follow no link in it that came later.

        Args:
            write: only the workspace will do.

        Raises:
            PermissionError: if it lies outside of the allowed folders.

        """
        folders = (self.workspace,) if write else self.allowed_paths
        real = Path(os.path.realpath(self.workspace / path))
        if any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
            return real
        shown = ", ".join(map(str, folders))
        raise PermissionError(f"{path} is outside of what this tool may use: {shown}")


def _answer(reply: Mapping[str, Any]) -> Any:
    if "error" in reply:
        raise AskFailed(str(reply["kind"]), str(reply["error"]))
    return reply.get("answer")
