"""The four tools as the model sees them, and what is made of its input.

`parse` turns a call into a value or refuses it in words the model can act on. `description` is asked for, since
people who watch want to know what a call is for; a call without one is still run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .base import ToolCall

__all__ = [
    "READ_ONLY_TOOLS",
    "TOOLS",
    "BadInput",
    "Bash",
    "CreateFile",
    "Run",
    "StrReplace",
    "ToolInput",
    "View",
    "parse",
]

MAX_ARGUMENT_BYTES: Final = 131_071  # the kernel's limit for one argument, less its final NUL
_MAX_ARGV_BYTES: Final = 1_500_000  # all together; the kernel's limit is a quarter of the stack limit

_DESCRIPTION: Final = {"type": "string", "description": "Why this is done, in a few words, for people who watch."}

TOOLS: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "name": "view",
        "description": (
            "Show a text file with line numbers, or a folder two levels deep. "
            "Paths are relative to the workspace; the files of skills can be read at their location."
        ),
        "input_schema": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "File or folder."},
                "view_range": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "minItems": 2,
                    "maxItems": 2,
                    "description": "First and last line to show, counted from 1; -1 as the last means to the end.",
                },
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    },
    {
        "name": "bash_tool",
        "description": (
            "Run a command with bash in the workspace. Answers with its output, its errors and its exit code. "
            "Nothing can be typed into it, and processes it leaves in the background are ended with it."
        ),
        "input_schema": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command, as bash -c takes it."},
                "description": _DESCRIPTION,
            },
            "required": ["command", "description"],
            "additionalProperties": False,
        },
    },
    {
        "name": "create_file",
        "description": "Write a file in the workspace with exactly this content; missing folders are made.",
        "input_schema": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "File, relative to the workspace."},
                "file_text": {"type": "string", "description": "The whole content."},
                "description": _DESCRIPTION,
            },
            "required": ["path", "file_text", "description"],
            "additionalProperties": False,
        },
    },
    {
        "name": "str_replace",
        "description": "Replace a piece of text that occurs exactly once in a file of the workspace.",
        "input_schema": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "File, relative to the workspace."},
                "old_str": {"type": "string", "description": "The text to replace, without the line numbers of view."},
                "new_str": {"type": "string", "description": "What takes its place; without it the text is deleted."},
                "description": _DESCRIPTION,
            },
            "required": ["path", "old_str", "description"],
            "additionalProperties": False,
        },
    },
)

# Those that change nothing, so that calling them twice does no harm.
READ_ONLY_TOOLS: Final = frozenset({"view"})

_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {tool["name"]: tool["input_schema"] for tool in TOOLS}


class BadInput(Exception):
    """The call cannot be carried out as it was made. The message is for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Show a file or a folder. `last` is None for the end; both are None without a range."""

    path: str
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bash:
    """Run a shell command."""

    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run a program, without a shell."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFile:
    """Write a file."""

    path: str
    file_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrReplace:
    """Replace the only occurrence of a text."""

    path: str
    old_str: str
    new_str: str


ToolInput = View | Bash | Run | CreateFile | StrReplace


def parse(call: ToolCall) -> ToolInput:
    """What the call asks for. Raises BadInput."""
    if call.argv is not None:
        return Run(argv=_argv(call.argv))
    schema = _SCHEMAS.get(call.name)
    if schema is None:
        raise BadInput(f"there is no tool {call.name!r}; there are {', '.join(sorted(_SCHEMAS))}")
    given = _checked(call.name, schema, call.input)
    match call.name:
        case "view":
            return _view(given)
        case "bash_tool":
            return _bash(given["command"])
        case "create_file":
            return CreateFile(path=given["path"], file_text=_unicode("file_text", given["file_text"]))
        case _:
            return _str_replace(given)


def _checked(tool: str, schema: Mapping[str, Any], given: object) -> Mapping[str, Any]:
    """`given`, if its fields and their types are those of the schema."""
    if not isinstance(given, Mapping):
        raise BadInput(f"{tool}: the input must be an object, not {_type_name(given)}")
    properties: Mapping[str, Any] = schema["properties"]
    unknown = sorted(str(name) for name in given if name not in properties)
    if unknown:
        raise BadInput(f"{tool}: unknown field {', '.join(unknown)}; the fields are {', '.join(properties)}")
    missing = [name for name in schema["required"] if name not in given and name != "description"]
    if missing:
        raise BadInput(f"{tool}: the field {', '.join(missing)} is missing")
    for name, value in given.items():
        if properties[name]["type"] == "string" and not isinstance(value, str):
            raise BadInput(f"{tool}: {name} must be a string, not {_type_name(value)}")
    return given


def _view(given: Mapping[str, Any]) -> View:
    if "view_range" not in given:
        return View(path=given["path"])
    lines = given["view_range"]
    if not isinstance(lines, Sequence) or len(lines) != 2 or not all(type(line) is int for line in lines):
        raise BadInput(f"view: view_range must be two integers, first and last line, not {lines!r:.100}")
    first, last = lines
    if first < 1:
        raise BadInput(f"view: view_range begins at line {first}; lines are counted from 1")
    if last != -1 and last < first:
        raise BadInput(f"view: view_range ends at line {last}, before its begin {first}; -1 means the end of the file")
    return View(path=given["path"], first=first, last=None if last == -1 else last)


def _bash(command: str) -> Bash:
    if not command.strip():
        raise BadInput("bash_tool: the command is empty")
    _check_argument("bash_tool: the command", command)
    return Bash(command=command)


def _str_replace(given: Mapping[str, Any]) -> StrReplace:
    old, new = (_unicode(name, given.get(name, "")) for name in ("old_str", "new_str"))
    if not old:
        raise BadInput("str_replace: old_str is empty; to write a new file use create_file")
    if old == new:
        raise BadInput("str_replace: old_str and new_str are the same; nothing would change")
    return StrReplace(path=given["path"], old_str=old, new_str=new)


def _argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv or not argv[0]:
        raise BadInput("the command to run is empty")
    for position, argument in enumerate(argv):
        _check_argument(f"argument {position} of the command", argument)
    size = sum(len(argument.encode()) + 9 for argument in argv)  # with its NUL and its pointer
    if size > _MAX_ARGV_BYTES:
        raise BadInput(f"the arguments have {size} bytes together; {_MAX_ARGV_BYTES} are allowed: pass a file")
    return argv


def _check_argument(what: str, text: str) -> None:
    if "\0" in text:
        raise BadInput(f"{what} contains a NUL character")
    size = len(_unicode(what, text).encode())
    if size > MAX_ARGUMENT_BYTES:
        raise BadInput(
            f"{what} has {size} bytes; the system allows {MAX_ARGUMENT_BYTES}: "
            "write it to a file with create_file and use that"
        )


def _unicode(what: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{what} is not valid Unicode: it contains half of a surrogate pair") from None
    return text


def _type_name(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
