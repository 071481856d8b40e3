"""Which tool call gets a skill's secrets, and what no call of the conversation may show.

Strictly those that run the skill's own code: its entry command, asked for by `/name`, and a command of the model that
is plainly one of the skill's files with arguments. Such a command is run as the words it was judged by, without a
shell, so that nothing else can be meant by it. Everything else gets nothing, also where it mentions the skill.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from skill_actors.backends.base import ToolCall, Workspace
from skill_actors.backends.redaction import Redactor
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.allowed_tools import MAX_LINE_CHARS
from skill_actors.skills.secrets import SkillSecrets

__all__ = ["Granted", "Grants", "plain_argv"]

_NOT_PLAIN: Final = re.compile(r"[`$&|;<>(){}\[\]*?!#~\\\x00-\x1f\x7f]")  # what a shell could make more of
_INTERPRETERS: Final = frozenset({"bash", "python3", "sh"})
# The home of commands is the workspace, where a conversation may have put modules that every python3 would load.
_GUARD: Final[Mapping[str, str]] = {"PYTHONNOUSERSITE": "1"}


@dataclass(frozen=True, slots=True)
class Granted:
    """A call as it is to be run. `hidden` is for its backend; `redactor` hides the same from the history."""

    call: ToolCall
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    hidden: Sequence[str] = field(default=(), repr=False)
    redactor: Redactor = field(default_factory=Redactor)


class Grants:
    """Judges the calls of one turn.

    Args:
        pinned: the skills of the turn.
        entry: the skill whose entry command the turn runs; calls with `argv` are that.
        tools: names of the skills that have tools of their own, by name of the tool: such a call runs nothing else.

    """

    def __init__(
        self,
        secrets: SkillSecrets,
        pinned: Sequence[PinnedSkill],
        workspace: Workspace,
        *,
        entry: PinnedSkill | None = None,
        tools: Mapping[str, str] | None = None,
    ) -> None:
        self._tools = {tool: pin for tool, name in (tools or {}).items() for pin in pinned if pin.skill.name == name}
        self._secrets = secrets
        self._entry = entry
        holders = [pin for pin in pinned if secrets.concern(pin.skill)]
        self._concerned = [pin.skill for pin in holders]
        self._files = _owners(holders, pinned, workspace) if holders else {}

    async def judge(self, call: ToolCall) -> Granted:
        """What the call gets. Raises SecretUnavailable if it is due a secret that cannot be read."""
        if not self._concerned:
            return Granted(call)
        pin, call = self._owner(call)
        environment: Mapping[str, str] = {}
        if pin is not None:
            environment = await trio.to_thread.run_sync(self._secrets.of, pin.skill)
        hidden = await trio.to_thread.run_sync(self._secrets.values, self._concerned)
        hidden |= set(environment.values())
        guarded = {**_GUARD, **environment} if environment else {}
        return Granted(call, guarded, tuple(sorted(hidden)), Redactor(hidden))

    def gets_secrets(self, call: ToolCall) -> bool:
        """Whether the call is due secrets of a skill."""
        pin, _ = self._owner(call)
        return pin is not None and pin.skill in self._concerned

    def _owner(self, call: ToolCall) -> tuple[PinnedSkill | None, ToolCall]:
        """The skill whose code alone the call runs, and the call in the form in which that is certain."""
        if call.argv is not None:
            return self._entry, call
        if call.name in self._tools:
            return self._tools[call.name], call
        command = call.input.get("command")
        if call.name != "bash_tool" or not isinstance(command, str):
            return None, call
        argv = plain_argv(command)
        script = next((word for word in argv[:2] if word in self._files), None)
        if script is None or argv[0] not in (script, *_INTERPRETERS):
            return None, call
        return self._files[script], replace(call, argv=argv)


def _owners(
    holders: Sequence[PinnedSkill], pinned: Sequence[PinnedSkill], workspace: Workspace
) -> Mapping[str, PinnedSkill]:
    """Whose each file is, as tools see it. One content under two names is nobody's."""
    copies = [pin.copy for pin in pinned]
    return {
        f"{workspace.path_of_skill(pin.copy)}/{path}": pin
        for pin in holders
        if copies.count(pin.copy) == 1
        for path in pin.skill.files
    }


def plain_argv(command: str) -> tuple[str, ...]:
    """The words of a command that no shell could understand in another way; none if it is not so plain, or long."""
    if len(command) > MAX_LINE_CHARS or _NOT_PLAIN.search(command):
        return ()
    try:
        return tuple(shlex.split(command))
    except ValueError:
        return ()
