"""The tools of one conversation that come from tool sources: under which names, and what runs their calls.

The names, order and texts of a turn are settled when it begins, so that the beginning of its prompts stays the same. A
source that cannot tell its tools keeps nobody else from being used: the turn goes on without it, and an event says so.

A tool is pinned by its first call: what it says of itself then is what whoever decided about that call could see. If
it says something else later, its next call needs an approval, whatever rules allow (`SourceRoom.changed`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends import files
from skill_actors.backends.base import BackendUnavailable, ToolCall, ToolContext, ToolResult
from skill_actors.backends.output import NOTE_CHARS, clean, file_of_output
from skill_actors.backends.paths import PathRefused
from skill_actors.backends.redaction import Redactor
from skill_actors.backends.tool_source import SourceTool, SourceUser, ToolSource
from skill_actors.backends.tools import CreateFile
from skill_actors.errors import Refused
from skill_actors.sessions.surroundings import Surroundings

__all__ = ["OfferedTool", "SessionSources", "SourceRoom", "check_sources", "offered_name", "offered_tools"]

_log = logging.getLogger(__name__)

_MAX_NAME: Final = 64  # of a tool, at the API
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_TOLD_S: Final = 45.0  # for a source to tell its tools, its start included
_TOLD_WHY_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool of a source, as the conversation has it.

    Args:
        name: that the model is offered it under.
        digest: over all that the source says of it.

    """

    name: str
    source: ToolSource
    tool: SourceTool
    digest: str

    @property
    def definition(self) -> Mapping[str, Any]:
        """For the model."""
        return {
            "name": self.name,
            "description": self.tool.description,
            "input_schema": dict(self.tool.input_schema),
        }


def offered_name(source: str, tool: str) -> str:
    """What the model knows a tool by: mcp__SOURCE__TOOL, if that can be a name; else with a digest for what cannot."""
    name = f"mcp__{source}__{tool}"
    if _PLAIN.fullmatch(tool) and len(name) <= _MAX_NAME:
        return name
    mark = hashlib.sha256(tool.encode(errors="surrogatepass")).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    return f"{plain[: _MAX_NAME - len(mark) - 1]}_{mark}"


def offered_tools(
    source: ToolSource, tools: Sequence[SourceTool], taken: Collection[str]
) -> tuple[list[OfferedTool], list[str]]:
    """The tools of a source under their names, in their order; and those that are left out, for two of one name.

    Args:
        taken: names of other tools of the conversation.

    """
    named = [(offered_name(source.name, tool.name), tool) for tool in tools]
    names = [name for name, _tool in named]
    clear = {name for name in names if names.count(name) == 1 and name not in taken}
    offered = [OfferedTool(name, source, tool, _digest(tool)) for name, tool in named if name in clear]
    return offered, [tool.name for name, tool in named if name not in clear]


def _digest(tool: SourceTool) -> str:
    said = [tool.name, tool.description, dict(tool.input_schema)]
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def check_sources(env: Surroundings, owner_uid: int, settings: Mapping[str, Any], *, of_agent: bool) -> None:
    """Raise Refused if a session with these settings cannot have the sources that they name.

    Args:
        of_agent: whether a whole agent performs its turns, which has tools of its own.

    """
    if settings.get("mcp") and of_agent:
        raise Refused("bad_request", "mcp: a whole agent performs the turns of this session; it has its own servers")
    if settings.get("mcp") and not env.tool_sources:
        raise Refused("bad_request", "mcp: no tool servers are configured here")
    for sources in env.tool_sources:
        await sources.check(owner_uid, settings)


class SourceRoom:
    """One conversation's tools from sources, as a turn finds them. A Workspace.

    Args:
        offered: no two of which have one name.
        pinned: by name, the digest of each tool as it was when it was called before.
        root: the conversation's own folder, which must be there; outputs too long for the model go to a file in it.

    """

    def __init__(self, offered: Sequence[OfferedTool], pinned: Mapping[str, str], root: Path) -> None:
        self._by_name = {tool.name: tool for tool in offered}
        self._pinned = pinned
        self._root = root

    @property
    def root(self) -> Path:
        return self._root

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions for the model."""
        return [tool.definition for tool in self._by_name.values()]

    @property
    def owners(self) -> Mapping[str, tuple[str, bool]]:
        """By name of the tool: the name of its source, and whether the operator says that it only reads."""
        return {name: (tool.source.name, tool.tool.reads) for name, tool in self._by_name.items()}

    @property
    def changed(self) -> frozenset[str]:
        """Names of tools that say something else of themselves than when they were called before."""
        return frozenset(
            name for name, tool in self._by_name.items() if self._pinned.get(name, tool.digest) != tool.digest
        )

    def digest_of(self, name: str) -> str | None:
        """Over what a tool says of itself; None if there is none of this name."""
        tool = self._by_name.get(name)
        return None if tool is None else tool.digest

    def version_of(self, name: str) -> Mapping[str, str] | None:
        """Whose tool it is, and in which version, as those who approve calls are told."""
        tool = self._by_name.get(name)
        return None if tool is None else {"name": f"mcp:{tool.source.name}", "digest": tool.digest}

    def path_of_skill(self, copy: Path) -> str:
        """The copy itself; a source may not be able to read it."""
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Make one call. If it is cancelled, its source is told, and has let go of it before this returns."""
        began = trio.current_time()
        offered = self._by_name.get(call.name)
        if offered is None or call.argv is not None:
            return ToolResult(content=f"there is no tool {call.name[:100]!r}", outcome="error")
        result = await offered.source.call(offered.tool.name, call.input, context)
        shown = Redactor(context.hidden).text(clean(result.content))
        fitted = await self._fitted(replace(result, content=shown), call, context)
        return replace(fitted, duration_ms=round((trio.current_time() - began) * 1000))

    async def aclose(self) -> None:
        """Nothing: the sources are the conversation's, and outlive its turns."""

    async def _fitted(self, result: ToolResult, call: ToolCall, context: ToolContext) -> ToolResult:
        """The result, if it is not too long; else its begin and end, and the whole in a file."""
        text = result.content
        if len(text) <= context.max_output_chars:
            return replace(result, content=text or "(no output)")
        file = file_of_output(call.id)
        write = partial(files.create_file, CreateFile(path=file, file_text=text), workspace=str(self._root))
        try:
            await trio.to_thread.run_sync(write)
        except PathRefused as refused:
            return replace(result, content=_cut(text, f"its file cannot be written: {refused}", context))
        cut = _cut(text, f"the whole is in {file}", context)
        return replace(result, content=cut, output_file=file, files=(*result.files, file))


def _cut(text: str, where: str, context: ToolContext) -> str:
    room = max(0, context.max_output_chars - NOTE_CHARS)
    first = room // 2
    left_out = len(text) - room
    note = f"[... {left_out} characters are left out; {where[:300]}]"
    return f"{text[:first]}\n{note}\n{text[len(text) - (room - first) :]}"[: context.max_output_chars]


class SessionSources:
    """The sources of a session, from the first turn that asks for them until the session is let go of.

    Args:
        user: whose they are.

    """

    __slots__ = ("_env", "_opened", "_state", "_user")

    def __init__(self, user: SourceUser, env: Surroundings) -> None:
        self._user = user
        self._env = env
        self._opened: Sequence[ToolSource] | None = None
        self._state: dict[str, str] = {}  # by the name of a source: what was told of it last

    @property
    def is_empty(self) -> bool:
        """Whether the session has no sources, as most."""
        return not self._sources()

    def _sources(self) -> Sequence[ToolSource]:
        if self._opened is None:
            self._opened = [source for kind in self._env.tool_sources for source in kind.open(self._user)]
        return self._opened

    async def offered(self, taken: Collection[str]) -> tuple[list[OfferedTool], list[dict[str, Any]]]:
        """The tools of this moment, in the order of the sources, and data of the events that tell what is missing.

        Args:
            taken: names of other tools of the conversation.

        """
        told: dict[str, Sequence[SourceTool] | str] = {}
        async with trio.open_nursery() as nursery:
            for source in self._sources():
                nursery.start_soon(self._ask, source, told)
        offered: list[OfferedTool] = []
        news: list[dict[str, Any]] = []
        for source in self._sources():
            answer = told[source.name]
            left_out: Sequence[str] = ()
            if not isinstance(answer, str):
                found, left_out = offered_tools(source, answer, {*taken, *(tool.name for tool in offered)})
                offered += found
            why = answer if isinstance(answer, str) else ""
            if left_out:
                why = f"left out, since they would have one name with another tool: {', '.join(left_out)[:300]}"
            news += self._news(source.name, clean(why)[:_TOLD_WHY_CHARS])
        return offered, news

    async def _ask(self, source: ToolSource, told: dict[str, Sequence[SourceTool] | str]) -> None:
        with trio.move_on_after(_TOLD_S):
            try:
                told[source.name] = await source.tools()
            except BackendUnavailable as error:
                _log.warning("session %s is without the tools of %s: %s", self._user.session, source.name, error)
                told[source.name] = str(error)
            return
        told[source.name] = f"it has not told its tools within {_TOLD_S:g} s"

    def _news(self, source: str, why: str) -> list[dict[str, Any]]:
        """Data of an event, if something else is to be told of the source than the last time."""
        if self._state.get(source, "") == why:
            return []
        self._state[source] = why
        return [{"source": source, "missing": why or None}]

    async def close(self) -> None:
        """Let go of what is held. May be called twice."""
        opened, self._opened = self._opened or (), None
        async with trio.open_nursery() as nursery:
            for source in opened:
                nursery.start_soon(source.close)
