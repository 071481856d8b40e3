"""The turn backend `anthropic`: a conversation whose code runs in a container of the API.

Its skills are the API's ("anthropic:xlsx@latest"), uploaded ones ("custom:ID@VERSION"), or skills from disk, which are
uploaded when they changed. The model is asked by whatever the caller has: a `Model`, a `HostedClient`, a function of
the messages and of the whole request, or one of the messages alone, which then has to name tools and container itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from skill_actors.backends.anthropic import (
    MAX_PAUSES,
    MAX_SKILLS,
    CreatedFile,
    HostedClient,
    HostedError,
    HostedSkill,
    HostedTurn,
    HostedTurnError,
    SkillUploads,
    build_request,
    container_config,
    hosted_skills,
    run_turn,
)
from skill_actors.backends.base import ToolResult
from skill_actors.loop.backends import BackendSession, TurnFailed
from skill_actors.loop.callers import CallModel, model_caller
from skill_actors.loop.execution import result_block
from skill_actors.models.base import Message, Model
from skill_actors.skills.base import Skill

__all__ = ["ANTHROPIC", "AskRequest", "HostedBackend", "HostedMemory"]

ANTHROPIC: Final = "anthropic"

AskRequest = Callable[[Sequence[Message], Mapping[str, Any]], Awaitable[object]]
"""Takes the messages, and the whole request with them, its tools and its container; answers as the API does."""

_OF_A_SESSION: Final = frozenset({"model_name", "system", "max_tokens", "tools", "max_pauses", "code_execution"})
_OF_NEW: Final = _OF_A_SESSION | {"max_skills", "uploads"}
_OF_A_TURN: Final = _OF_A_SESSION | {"on_pause", "on_response", "on_container_lost", "files"}
_WATCHERS: Final = ("on_pause", "on_response", "on_container_lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedMemory:
    """What a hosted conversation remembers besides its messages.

    Args:
        container: the configuration of the next request: skills, and the container's id once there is one.
        skills: as the API knows them.
        files: made so far, each once.

    """

    container: Mapping[str, Any]
    skills: Sequence[HostedSkill] = ()
    files: Sequence[CreatedFile] = ()

    @property
    def container_id(self) -> str | None:
        id = self.container.get("id")
        return str(id) if id else None


class HostedBackend:
    """Owns turns that the API runs.

    `new_session` and `chat` take `model_name`, `system`, `max_tokens`, `tools` (further ones of the API), `max_pauses`
    and `code_execution` (its type); `new_session` also `max_skills`, and `uploads`, a `SkillUploads`, which skills from
    disk need; `chat` also the functions `on_response`, `on_pause` and `on_container_lost` of `run_turn`, and `files`,
    ids of uploaded files for the container.
    """

    def backend_type(self) -> str:
        """The name that its sessions carry."""
        return ANTHROPIC

    async def new_session(self, skills: Iterable[object], **options: Any) -> BackendSession:
        """A conversation with these skills: names, `HostedSkill`s, triples, and skills from disk, in any mixture.

        Raises:
            HostedError: "invalid_skill_spec", "skills_limit_exceeded", "skill_upload_failed".
            TypeError: an option is unknown.

        """
        _check_options(options, _OF_NEW, "new_session")
        max_skills = int(options.pop("max_skills", MAX_SKILLS))
        chosen = list(skills)
        specs = await _specs(chosen, options.pop("uploads", None), max_skills)
        memory = HostedMemory(container=container_config(specs, max_skills=max_skills), skills=specs)
        from_disk = tuple(skill for skill in chosen if isinstance(skill, Skill))
        return BackendSession(backend=ANTHROPIC, skills=from_disk, options=options, state=memory)

    async def chat(
        self,
        session: BackendSession,
        message: str,
        model: CallModel | AskRequest | Model | HostedClient,
        **options: Any,
    ) -> tuple[HostedTurn, BackendSession]:
        """One turn: pauses are gone through, and the container of the turn before is used again.

        Raises:
            TurnFailed: with the codes of `HostedError`; its session can go on.
            TypeError: an option is unknown.

        """
        _check_options(options, _OF_A_TURN, "chat")
        memory = session.state if isinstance(session.state, HostedMemory) else HostedMemory(container={})
        uploads = [{"type": "container_upload", "file_id": id} for id in options.pop("files", ())]
        said: Message = {"role": "user", "content": [{"type": "text", "text": message}, *uploads]}
        watchers = {name: options.pop(name) for name in _WATCHERS if name in options}
        settings = {**session.options, **options}
        max_pauses = int(settings.pop("max_pauses", MAX_PAUSES))
        try:
            turn = await run_turn(
                _joined(session.messages, said),
                _asker(model, settings),
                container=memory.container,
                max_pauses=max_pauses,
                **watchers,
            )
        except HostedTurnError as error:
            after = _after(session, memory, error.turn)
            raise TurnFailed(error.code, error.message, after, details=error.details, retryable=error.retryable) from (
                error.__cause__ or error
            )
        return turn, _after(session, memory, turn)


async def _specs(skills: Sequence[object], uploads: SkillUploads | None, max_skills: int) -> tuple[HostedSkill, ...]:
    """All as the API knows them; what is wrong with a name is said before anything is uploaded."""
    local = [skill for skill in skills if isinstance(skill, Skill | Path)]
    if not local:
        return hosted_skills(skills, max_skills=max_skills)
    hosted_skills(
        [skill for skill in skills if not isinstance(skill, Skill | Path)], max_skills=max_skills - len(local)
    )
    if uploads is None:
        first = local[0].root if isinstance(local[0], Skill) else local[0]
        raise HostedError(
            "skill_upload_failed",
            f"the skill {first} lies on disk and has to be uploaded: give `uploads`, a SkillUploads",
            details={"path": str(first), "reason": "no uploads"},
        )
    uploaded = iter(await uploads.ensure_all(local))
    known = [next(uploaded) if isinstance(skill, Skill | Path) else skill for skill in skills]
    return hosted_skills(known, max_skills=max_skills)


def _asker(model: CallModel | AskRequest | Model | HostedClient, settings: Mapping[str, Any]) -> AskRequest:
    """What `run_turn` asks: it gets the messages and the container, and the model the whole request."""
    fields = dict(settings)
    name = str(fields.pop("model_name", ""))

    def request(messages: Sequence[Message], container: Mapping[str, Any]) -> dict[str, Any]:
        return build_request(messages, container, model=name, **fields)

    if isinstance(model, HostedClient):
        return lambda messages, container: model.ask(request(messages, container))
    if not callable(model):
        return lambda messages, container: _ask_model(model, request(messages, container))
    ask: Callable[..., Awaitable[object]] = model
    if _takes_two(model):
        return lambda messages, container: ask(messages, request(messages, container))
    return lambda messages, container: ask(messages)


async def _ask_model(model: Model, request: Mapping[str, Any]) -> object:
    extra = {name: request[name] for name in ("container", "metadata") if name in request}
    caller = model_caller(
        model,
        name=request["model"],
        system=request.get("system", ""),
        tools=request["tools"],
        max_tokens=request["max_tokens"],
        extra=extra,
    )
    return await caller(request["messages"])


def _takes_two(function: Callable[..., object]) -> bool:
    """Whether it wants the request besides the messages: whether it cannot be called with the messages alone."""
    try:
        inspect.signature(function).bind([])
    except TypeError:
        return True
    except ValueError:  # of a function that is not Python
        return False
    return False


def _joined(messages: Sequence[Message], said: Message) -> list[Message]:
    """With the new message at the end: in the last one, if that is the user's as well, after a turn that failed."""
    if not messages or messages[-1]["role"] != "user":
        return [*messages, said]
    before = messages[-1]["content"]
    blocks = [{"type": "text", "text": before}] if isinstance(before, str) else list(before)
    return [*messages[:-1], {"role": "user", "content": [*blocks, *said["content"]]}]


def _after(session: BackendSession, memory: HostedMemory, turn: HostedTurn) -> BackendSession:
    files = {file.file_id: file for file in (*memory.files, *turn.files)}
    remembered = replace(memory, container=turn.container, files=tuple(files.values()))
    return replace(session, messages=_answered(turn.messages), state=remembered)


def _answered(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Calls of the client's tools, which nobody runs here, get a result that says so: the API wants one for each."""
    last = messages[-1]
    content = last["content"] if isinstance(last["content"], list) else []
    never = ToolResult(content="Not run: there is no such tool in this conversation.", outcome="error")
    results = [result_block(block["id"], never) for block in content if block.get("type") == "tool_use"]
    if last["role"] != "assistant" or not results:
        return tuple(messages)
    return (*messages, {"role": "user", "content": results})


def _check_options(options: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    if unknown := options.keys() - known:
        raise TypeError(f"{where} has no option {min(unknown)!r}; it has {', '.join(sorted(known))}")
