"""One conversation of a program: skills, places where tools run, and a history that is acceptable at every moment.

Made by the constructors of `starting`, open inside of `async with`. Backends, workspaces and containers stay open over
all turns. One turn at a time: a second `chat` meanwhile is refused as `session_busy`, since of two messages at once
neither could know what the other's answer is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Protocol

import trio

from skill_actors.backends import ToolCall, ToolResult
from skill_actors.backends.anthropic import HostedSkill
from skill_actors.backends.routing import HandOver, Merged
from skill_actors.library.asking import AskModel, Hosting
from skill_actors.library.callbacks import Callbacks
from skill_actors.library.errors import SkillError
from skill_actors.library.files import SessionFile, SessionFiles
from skill_actors.library.history import check_history, said_blocks
from skill_actors.library.keeping import Keeping
from skill_actors.library.places import Places
from skill_actors.library.settings import Settings
from skill_actors.models.base import Block, Message
from skill_actors.skills.base import Skill

__all__ = ["Session", "Turns"]


class Turns(Protocol):
    """What answers messages."""

    async def chat(
        self,
        messages: Sequence[Message],
        said: Sequence[Block],
        model: AskModel,
        options: Mapping[str, Any],
        keep: Callable[[Sequence[Message]], None],
    ) -> Any:
        """One turn; `keep` gets the conversation after it, also if this raises."""


class Remote(Protocol):
    """Who keeps something of the conversation elsewhere."""

    async def delete(self) -> Sequence[str]:
        """Delete it; what was deleted. May be called twice."""


class Session:
    """A conversation. Not for use from several threads: see `skill_actors.library.sync`.

    Args:
        execution_mode: the backend's name, or "hybrid".
        settings: of the conversation.
        turns: what answers messages.
        places: where tools run; None if the backend owns all of it.
        files: of all places.
        skills: on disk.
        hosting: what runs at the provider; None if nothing does.
        callbacks: of the conversation.
        remote: who keeps something of it elsewhere.
        keeping: keeps its files; None if nobody does.

    """

    def __init__(
        self,
        *,
        execution_mode: str,
        settings: Settings,
        turns: Turns,
        places: Places | None,
        files: SessionFiles,
        skills: Sequence[Skill],
        hosting: Hosting | None,
        callbacks: Callbacks,
        remote: Sequence[Remote] = (),
        keeping: Keeping | None = None,
    ) -> None:
        self.execution_mode = execution_mode
        self.session_id = settings.session_id
        self._settings = settings
        self._turns = turns
        self._places = places
        self._files = files
        self._skills = tuple(skills)
        self._hosting = hosting
        self._callbacks = callbacks
        self._remote = remote
        self._keeping = keeping
        self._messages = check_history(settings.messages)
        self._busy = False
        self._turn = trio.CancelScope()  # of the turn that is under way, or of the last one
        self._closed = False
        self._ran = 0  # calls of the program's own

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.execution_mode}, {len(self._messages)} messages>"

    async def chat(self, message: str | Sequence[Block], model: AskModel, **options: Any) -> tuple[Any, Session]:
        """Say something, and have it answered: the response, and this conversation.

        Args:
            message: text, or blocks.
            model: a function, plain or async, that is given the messages, or the whole request if its parameter is
                called `request`; or a Model.
            options: for this turn: max_iterations, max_pauses, timeout_s (of the turn), model_name, max_tokens, system,
                schema (None: text), and callbacks. A backend that owns its turns has options of its own.

        Raises:
            SkillError: the turn came to no answer; its `session` is this one. What was said and done until then is
                kept, and the next `chat` goes on from there.
            TypeError, ValueError: an option, or the message, makes no sense.

        """
        said = said_blocks(message)
        self._check_free()
        self._busy = True
        self._turn = trio.CancelScope()
        try:
            with self._named_in_errors(), self._turn:
                response = await self._turns.chat(self._messages, said, model, options, self._keep)
                return response, self
        finally:
            self._busy = False
        raise SkillError("session_closed", f"the conversation {self.session_id} was closed in a turn", session=self)

    # What was said

    @property
    def messages(self) -> Sequence[Message]:
        """The conversation so far. The list is the caller's; its messages are not to be changed."""
        return list(self._messages)

    def add_message(self, role: str, content: str | Sequence[Block]) -> None:
        """Put a message at the end, without an answer. Raises ValueError, SkillError ("session_busy")."""
        self.add_messages([{"role": role, "content": content}])

    def add_messages(self, messages: Sequence[Message]) -> None:
        """Put messages at the end: a call of a tool only together with its result.

        Raises:
            ValueError: the conversation would not be acceptable to the API; nothing was added.
            SkillError: "session_busy", "session_closed".

        """
        self._check_free()
        self._messages = check_history([*self._messages, *messages])

    def reset(self) -> None:
        """Forget what was said, and the container at the provider. The files stay. Raises SkillError."""
        self._check_free()
        self._messages = []
        if self._hosting is not None:
            self._hosting.container = None

    # What it has

    @property
    def skills(self) -> Sequence[Skill]:
        """Those on disk."""
        return self._skills

    @property
    def hosted_skills(self) -> Sequence[HostedSkill]:
        """Those at the provider."""
        return () if self._hosting is None else tuple(self._hosting.skills)

    @property
    def container_id(self) -> str | None:
        """Of the container at the provider, once there is one."""
        return None if self._hosting is None else self._hosting.container

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools that a model may call here."""
        return () if self._places is None else self._places.tools

    @property
    def system_prompt(self) -> str:
        """What a model is told of skills and places, after the conversation's own text."""
        return self._settings.system if self._places is None else self._places.system_prompt(self._settings.system)

    @property
    def capabilities(self) -> Merged | None:
        """What all places together can do, and what each can; None where nothing runs here."""
        return None if self._places is None else self._places.capabilities

    @property
    def callback_failures(self) -> Counter[str]:
        """How often each callback has raised."""
        return Counter(self._callbacks.failures)

    # Its files

    @property
    def created_files(self) -> Sequence[SessionFile]:
        """What its tools have made and not deleted, in all places."""
        return self._files.created

    async def files(self) -> Sequence[SessionFile]:
        """All files of all places."""
        self._check_open()
        with self._named_in_errors():
            return await self._files.list()

    async def read_file(self, name: str, place: str | None = None) -> bytes:
        """The content of a file; a hosted one is downloaded now. Raises SkillError."""
        self._check_open()
        with self._named_in_errors():
            return await self._files.read(name, place)

    async def put_file(self, name: str, data: bytes, place: str | None = None) -> SessionFile:
        """Write a file where tools see it: in this place, else in the first. Raises SkillError."""
        self._check_open()
        with self._named_in_errors():
            return await self._files.put(name, data, place)

    async def hand_over(self, name: str, source: str, target: str) -> None:
        """Copy a file from one place to another. Raises SkillError."""
        self._check_open()
        with self._named_in_errors():
            await self._files.hand_over(HandOver(name, source, target))

    async def run(self, tool: str, **given: Any) -> ToolResult:
        """Run a tool without a model, as the conversation's policy permits; what fails is an error.

        Raises:
            SkillError: "policy_denied", "execution_failed", "execution_timeout", "native_execution_failed",
                "container_error", "backend_unavailable".

        """
        self._check_open()
        if self._places is None:
            none = "this backend runs no tools here"
            details = {"backend": self.execution_mode, "reason": none}
            raise SkillError("backend_unavailable", none, details=details, session=self)
        self._ran += 1
        with self._named_in_errors():
            return await self._places.run(ToolCall(id=f"run_{self._ran}", name=tool, input=given))

    # Its end

    async def cleanup(self) -> None:
        """Let go of workspaces and containers now; the end of the block does it as well. May be called twice.

        A turn that is under way ends as "session_closed": no model is asked any more.
        What was uploaded to a provider, or is kept in a storage, stays: `delete_remote`.
        """
        was_closed, self._closed = self._closed, True
        self._turn.cancel()
        with trio.CancelScope(shield=True):
            if self._places is not None:
                await self._places.aclose()
            if self._keeping is not None and not was_closed:
                await self._keeping.end()

    async def sync(self) -> None:
        """Have all files kept in the storage now. Without a storage this does nothing.

        Raises:
            SkillError: "storage_write_failed", "storage_init_failed", "storage_read_failed".

        """
        if self._keeping is not None:
            with self._named_in_errors():
                await self._keeping.sync()

    async def delete_remote(self) -> Sequence[str]:
        """Delete what this conversation has uploaded to a provider, and what a storage keeps of it; what was deleted.

        May be called twice, also after `cleanup`.

        Raises:
            SkillError: "anthropic_api_error", "storage_cleanup_failed"; call it again.

        """
        with self._named_in_errors():
            return [each for remote in self._remote for each in await remote.delete()]

    @contextmanager
    def _named_in_errors(self) -> Iterator[None]:
        try:
            yield
        except SkillError as error:
            error.session = self
            raise

    def _keep(self, messages: Sequence[Message]) -> None:
        self._messages = list(messages)

    def _check_open(self) -> None:
        if self._closed:
            raise SkillError("session_closed", f"the conversation {self.session_id} is closed", session=self)

    def _check_free(self) -> None:
        self._check_open()
        if self._busy:
            raise SkillError(
                "session_busy", f"the conversation {self.session_id} is in the middle of a turn", session=self
            )

    # Constructors, as `starting` has them

    @classmethod
    def local(cls, skills: Any = (), **options: Any) -> AbstractAsyncContextManager[Session]:
        """See `new_local`."""
        from skill_actors.library.starting import new_local

        return new_local(skills, **options)

    @classmethod
    def docker(cls, skills: Any = (), **options: Any) -> AbstractAsyncContextManager[Session]:
        """See `new_docker`."""
        from skill_actors.library.starting import new_docker

        return new_docker(skills, **options)

    @classmethod
    def native(cls, classes: Sequence[Any], **options: Any) -> AbstractAsyncContextManager[Session]:
        """See `new_native`."""
        from skill_actors.library.starting import new_native

        return new_native(classes, **options)

    @classmethod
    def anthropic(cls, skills: Any = (), **options: Any) -> AbstractAsyncContextManager[Session]:
        """See `new_anthropic`."""
        from skill_actors.library.starting import new_anthropic

        return new_anthropic(skills, **options)

    @classmethod
    def hybrid(cls, places: Sequence[Any], skills: Any = (), **options: Any) -> AbstractAsyncContextManager[Session]:
        """See `new_hybrid`."""
        from skill_actors.library.starting import new_hybrid

        return new_hybrid(places, skills, **options)
