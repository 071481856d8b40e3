"""What a turn tells the model before the conversation: the system prompt and its skills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from skill_actors.backends.base import ToolCall, ToolContext, ToolResult, Workspace
from skill_actors.models.base import SkillHint
from skill_actors.sessions.places import Places
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.catalogue import Catalogue, write_catalogue
from skill_actors.skills.entry import entry_argv
from skill_actors.skills.inventory import SKILL_FILE

__all__ = ["HostFolder", "command_of", "hints_of", "places_prompt", "skills_of", "system_prompt"]

_WORKSPACE = """\
You work in the folder {root}. Relative paths start there, and files you write there are kept between messages. \
You run unattended: nobody can answer a prompt of a command, so use non-interactive flags."""
_PLACE = "The place {name} ({backend}) works in {root}, with files of its own: its tools begin with {name}_."
_CLOSED = "The place {name} ({backend}) cannot be used now: {why}"
_MAIN_CLOSED = "The main place ({backend}) cannot be used now: {why}"
_HOSTED = (
    "The place {name} is where your code_execution tool runs: in a container of its own, without network, with files "
    "of its own."
)
_SKILLS_ELSEWHERE = (
    "In each place a skill's folder is another one: the locations below are those of the main place; load_skill tells "
    "the others."
)
_PROJECT = "The user's project is the folder {root}. It lies outside of yours: work on it with commands."


def skills_of(
    pinned: Sequence[PinnedSkill], workspace: Workspace, *, budget_tokens: int, uses: Mapping[str, int]
) -> Catalogue:
    """The catalogue of these skills, with locations as the tools see them."""
    located = [(pin.skill, f"{workspace.path_of_skill(pin.copy)}/{SKILL_FILE}") for pin in pinned]
    return write_catalogue(located, budget_tokens=budget_tokens, uses=uses)


class HostFolder:
    """Stands for a main place that is not open, or that there is none of: a folder on the host, and no tools."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path_of_skill(self, copy: Path) -> str:
        """The copy itself."""
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Nothing runs here."""
        return ToolResult(content="Nothing can be run here.", outcome="error")

    async def aclose(self) -> None:
        """Nothing is held open."""


def places_prompt(places: Places, workspace: Workspace) -> str:
    """Where the conversation works: its folder, and what there is to know of further places.

    Args:
        workspace: of the main place.

    """
    main = places.main
    lines = [] if isinstance(workspace, HostFolder) else [_WORKSPACE.format(root=workspace.root)]
    if places.alone:
        return "\n".join(lines)
    further = [name for name in places.executors if main is None or name != main.name]
    for name in further:
        backend = places.backends[name]
        opened = places.open.get(name)
        text = _CLOSED.format(name=name, backend=backend, why=places.why.get(name, "it is not open"))
        lines.append(text if opened is None else _PLACE.format(name=name, backend=backend, root=opened.root))
    if main is not None and main.name not in places.open:
        lines.append(_MAIN_CLOSED.format(backend=main.backend, why=places.why.get(main.name, "it is not open")))
    if places.hosted is not None:
        name = places.hosted.name
        why = places.why.get(name)
        text = _HOSTED.format(name=name)
        lines.append(text if why is None else _CLOSED.format(name=name, backend=places.hosted.backend, why=why))
    if further:
        lines.append(_SKILLS_ELSEWHERE)
    return "\n".join(lines)


def system_prompt(system: str | None, places: str, skills: str, project: str | None = None) -> str:
    """The session's own instructions, where it works, its project, and the catalogue of skills, as far as there are.

    Args:
        places: what `places_prompt` says.

    """
    told = "" if project is None else _PROJECT.format(root=project)
    parts = [system or "", places, told, skills]
    return "\n\n".join(part for part in parts if part)


def command_of(pin: PinnedSkill, workspace: Workspace, arguments: str = "") -> tuple[str, ...]:
    """The skill's entry command with these arguments, as tools can run it. Raises Refused as `entry_argv` does."""
    return entry_argv(pin.skill, workspace.path_of_skill(pin.copy), arguments)


def hints_of(pinned: Sequence[PinnedSkill], workspace: Workspace) -> Sequence[SkillHint]:
    """The skills for a model that does not read."""
    return [
        SkillHint(
            name=pin.skill.name,
            description=pin.skill.description,
            entry=command_of(pin, workspace) if pin.skill.entry else None,
        )
        for pin in pinned
    ]
