"""What tools the classes of native skills offer. A class that is not as it should be is refused whole, and why."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .contract import KINDS, SkillInfo
from .schema import PROPERTY_NAME, UnknownType, schema_of

__all__ = [
    "BadSkill",
    "Description",
    "build_tool_map",
    "describe",
    "refuse_collisions",
    "tool_definitions",
    "tool_name",
]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")  # a tool's name may have 128 characters
_MAX_DESCRIPTION_CHARS: Final = 1024
_MAX_SCHEMA_BYTES: Final = 16_384
_CONTEXT: Final = "context"

# What each callback must take, with what the model is told of it, and what a tool does that has no docstring.
_CONTRACT: Final[Mapping[str, Mapping[str, str]]] = {
    "execute": {"command": "What to do, as the skill's instructions have it."},
    "read": {"path": "What to read."},
    "write": {"path": "What to write.", "content": "The whole content."},
    "modify": {
        "path": "What to change.",
        "old_content": "The text to replace.",
        "new_content": "What takes its place.",
    },
}
_OPTIONAL: Final[Mapping[str, Any]] = {"offset": int, "limit": int}  # of `read`, where their types are not written
_WHAT: Final[Mapping[str, str]] = {
    "execute": "Runs a command of this skill.",
    "read": "Reads from this skill.",
    "write": "Writes to this skill.",
    "modify": "Changes what this skill holds.",
}


class BadSkill(Exception):
    """A class that is no native skill as it should be. `code` is stable."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A native skill as its class describes it.

    Args:
        tools: by callback, the definition of the tool for the model.
        parallel: whether calls of one conversation may run at the same time.

    """

    name: str
    description: str
    tools: Mapping[str, Mapping[str, Any]]
    parallel: bool = False


def tool_name(skill: str, kind: str) -> str:
    """The name of the tool for one callback of a skill."""
    return f"{skill.replace('-', '_')}_{kind}"


def tool_definitions(classes: Iterable[type]) -> list[Mapping[str, Any]]:
    """Definitions of all tools of these classes, for the model: name, description, input_schema.

    Raises:
        BadSkill: a class is no native skill, or two have the same tools.

    """
    return [tool for described in _described(classes).values() for tool in described.tools.values()]


def build_tool_map(classes: Iterable[type]) -> dict[str, tuple[type, str]]:
    """By name of the tool: the class and the callback that answer it. Raises BadSkill as `tool_definitions` does."""
    return {
        tool["name"]: (skill, kind)
        for skill, described in _described(classes).items()
        for kind, tool in described.tools.items()
    }


def _described(classes: Iterable[type]) -> dict[type, Description]:
    described = {skill: describe(skill) for skill in classes}
    refuse_collisions(described.values())
    return described


def refuse_collisions(skills: Iterable[Description]) -> None:
    """Raise BadSkill if two skills would have the same tools."""
    owners: dict[str, Description] = {}
    for one in skills:
        other = owners.setdefault(tool_name(one.name, ""), one)
        if other is not one:
            message = f"skills {other.name!r} and {one.name!r} would have the same tools"
            raise BadSkill("native_name_collision", message, "Rename one of them.")


def describe(skill: type, *, inline: bool = False, made: bool = False) -> Description:
    """What a class offers. Nothing of it is called.

    Args:
        inline: it is run by the program that defines it, so its functions may be asynchronous.
        made: an instance is there already, so the class need not be one that can be made without arguments.

    Raises:
        BadSkill: it is no native skill as it should be.

    """
    info = _info(skill)
    if not made:
        _check_constructor(skill)
    parallel = getattr(skill, "parallel", False)
    if not isinstance(parallel, bool):
        raise _bad(skill, "native_no_info", f"has parallel = {parallel!r:.100}", "Write True or False.")
    tools = {kind: _definition(skill, kind, info, inline) for kind in KINDS if kind in info.allowed_tools}
    return Description(name=info.name, description=info.description, tools=tools, parallel=parallel)


def _info(skill: type) -> SkillInfo:
    info: Any = getattr(skill, "skill_info", None)
    if isinstance(info, Mapping) and set(info) == {"name", "description", "allowed_tools"}:
        info = SkillInfo(**info)
    if not isinstance(info, SkillInfo):
        raise _bad(skill, "native_no_info", "has no skill_info", "Add skill_info = SkillInfo(name=..., ...).")
    name: Any = info.name
    description: Any = info.description
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"has a skill_info whose name cannot begin a tool's name: {name!r:.100}"
        raise _bad(skill, "native_name", message, "Use letters, digits and hyphens, 100 at most.")
    if not isinstance(description, str) or not description.strip():
        raise _bad(skill, "native_no_info", "has a skill_info without a description", "Say what the skill does.")
    _check_tools(skill, info.allowed_tools)
    return info


def _check_tools(skill: type, declared: Any) -> None:
    listed = isinstance(declared, list | tuple | set | frozenset) and all(isinstance(kind, str) for kind in declared)
    if not listed or not declared:
        remedy = f"List what is to be a tool: {', '.join(KINDS)}."
        raise _bad(skill, "native_no_tools", "declares no allowed_tools", remedy)
    unknown = sorted(set(declared) - set(KINDS))
    if unknown:
        message = f"declares the unknown tool {', '.join(unknown)[:200]}"
        raise _bad(skill, "native_unknown_tool", message, f"There are {', '.join(KINDS)}.")
    missing = [kind for kind in KINDS if kind in declared and not callable(getattr(skill, kind, None))]
    if missing:
        message = f"declares {', '.join(missing)} in allowed_tools and has no such function"
        raise _bad(skill, "native_missing_callback", message, "Write it, or take it out of allowed_tools.")


def _check_constructor(skill: type) -> None:
    try:
        inspect.signature(skill).bind()
        can_be_made = not inspect.isabstract(skill)
    except (TypeError, ValueError):
        can_be_made = False
    if not can_be_made:
        message = "cannot be made without arguments"
        remedy = "Give each argument of __init__ a default, and write all that is abstract."
        raise _bad(skill, "native_constructor", message, remedy)


def _definition(skill: type, kind: str, info: SkillInfo, inline: bool) -> Mapping[str, Any]:
    function = getattr(skill, kind)
    if inspect.isasyncgenfunction(function) or (inspect.iscoroutinefunction(function) and not inline):
        message = f"has an asynchronous {kind}"
        raise _bad(skill, "native_async", message, "Write a plain function: it has a process of its own and may block.")
    said = inspect.getdoc(function) or _WHAT[kind]
    told = f"{' '.join(said.partition(chr(10) * 2)[0].split())} (Skill {info.name}: {info.description.strip()})"
    schema = _schema(skill, kind, function)
    if len(json.dumps(schema)) > _MAX_SCHEMA_BYTES:
        message = f"has a {kind} whose input takes more than {_MAX_SCHEMA_BYTES} bytes to describe"
        raise _bad(skill, "native_type", message, "Use simpler types.")
    return {
        "name": tool_name(info.name, kind),
        "description": told[:_MAX_DESCRIPTION_CHARS],
        "input_schema": schema,
    }


def _schema(skill: type, kind: str, function: Callable[..., Any]) -> dict[str, Any]:
    parameters = _parameters(skill, kind, function)
    hints = _hints(skill, kind, function, parameters)
    properties: dict[str, Any] = {}
    for name in parameters:
        standard = _CONTRACT[kind].get(name)
        if name not in hints and standard is None and name not in _OPTIONAL:
            message = f"has a {kind} whose parameter {name} has no type"
            raise _bad(skill, "native_type", message, f"Write {name}: str, or another type.")
        try:
            schema = schema_of(hints.get(name, _OPTIONAL.get(name, str)))
        except UnknownType as error:
            message = f"has a {kind} whose parameter {name} is not understood: {error}"
            raise _bad(skill, "native_type", message, "Use types of JSON.") from None
        properties[name] = {**({"description": standard} if standard else {}), **schema}
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name, found in parameters.items() if found.default is found.empty],
        "additionalProperties": False,
    }


def _parameters(skill: type, kind: str, function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Those that the model gives, by name."""
    found = dict(inspect.signature(function).parameters)
    if not isinstance(inspect.getattr_static(skill, kind), staticmethod | classmethod) and found:
        del found[next(iter(found))]  # self
    needed = [*_CONTRACT[kind], _CONTEXT]
    odd = [name for name, one in found.items() if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if odd or any(name not in found for name in needed):
        message = f"has a {kind} that does not take {', '.join(needed)} by name" + (f", but {odd[0]}" if odd else "")
        raise _bad(skill, "native_signature", message, f"Write def {kind}(self, {', '.join(needed)}).")
    del found[_CONTEXT]
    unspeakable = [name for name in found if not PROPERTY_NAME.fullmatch(name)]
    if unspeakable:
        message = f"has a {kind} with the parameter {unspeakable[0][:100]!r}, which no tool can have"
        raise _bad(skill, "native_signature", message, "Use letters, digits and underscores, 64 at most.")
    return found


def _hints(
    skill: type, kind: str, function: Callable[..., Any], names: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """Types of the parameters that have one. That of `context` is not looked at: it may be for type checkers only."""
    plain: Any = inspect.unwrap(function)
    written = {name: hint for name, hint in inspect.get_annotations(plain).items() if name in names}

    class Holder:
        __annotations__ = written

    try:
        return typing.get_type_hints(Holder, globalns=getattr(plain, "__globals__", {}), include_extras=True)
    except Exception as error:
        message = f"has a {kind} whose types cannot be told: {error}"
        raise _bad(skill, "native_type", message, "Import what the annotations name.") from None


def _bad(skill: type, code: str, message: str, remedy: str) -> BadSkill:
    return BadSkill(code, f"class {skill.__name__} {message}", remedy)
