"""Native skills: what their authors import. Only the standard library, since their worker processes import it too."""

from .code import NativeCode, code_of, import_folders
from .contract import KINDS, AskFailed, Context, NativeSkill, SkillInfo
from .definitions import (
    BadSkill,
    Description,
    build_tool_map,
    describe,
    refuse_collisions,
    tool_definitions,
    tool_name,
)
from .schema import complaint, is_schema

__all__ = [
    "KINDS",
    "AskFailed",
    "BadSkill",
    "Context",
    "Description",
    "NativeCode",
    "NativeSkill",
    "SkillInfo",
    "build_tool_map",
    "code_of",
    "complaint",
    "describe",
    "import_folders",
    "is_schema",
    "refuse_collisions",
    "tool_definitions",
    "tool_name",
]
