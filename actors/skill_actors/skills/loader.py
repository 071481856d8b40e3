"""A folder with a SKILL.md, read leniently into a Skill.

What can be understood is loaded and every doubt is reported; a folder that cannot be loaded is a failure with its
reason. Nothing here raises for what is on disk: one bad skill never hurts another.
"""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skill_actors.skills._clean import clean_text
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure
from skill_actors.skills.entry import find_entry
from skill_actors.skills.front_matter import FrontMatter, FrontMatterError, read_front_matter
from skill_actors.skills.inventory import (
    SKILL_FILE,
    Inventory,
    InventoryError,
    InventoryLimits,
    read_entry,
    take_inventory,
)

__all__ = ["LoadedFolder", "load_folder", "load_skill"]

MAX_NAME_CHARS: Final = 64
MAX_DESCRIPTION_CHARS: Final = 1024
MAX_COMPATIBILITY_CHARS: Final = 500
MAX_BODY_LINES: Final = 500
_MAX_LEFT_OUT_REPORTED: Final = 20

_KNOWN_FIELDS: Final = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
_UNSAFE_IN_NAMES: Final = re.compile(r"[/\\<>\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TOOL: Final = re.compile(r"[^\s,()]+\([^()]*\)(?=[\s,]|$)|[^\s,]+")  # half a pattern is never a bare name
_KNOWN_TOOL: Final = re.compile(
    r"Bash|Read|Write|Edit|view|bash_tool|create_file|str_replace|\*|.+_(?:execute|read|write|modify)"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFolder:
    """What came of one folder, and what makes loading it again cheap. Exactly one of skill and failure is set."""

    skill: Skill | None = None
    failure: SkillFailure | None = None
    inventory: Inventory | None = None


class _Rejected(Exception):
    """The folder cannot be loaded; `diagnostics` say why."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(diagnostics[0].message)
        self.diagnostics = diagnostics


def load_skill(root: Path, *, trusted: bool = False, limits: InventoryLimits | None = None) -> Skill | SkillFailure:
    """Load the skill in the folder `root`, or say why not. Blocks; never raises for what is on disk."""
    loaded = load_folder(root, trusted=trusted, limits=limits)
    outcome = loaded.skill or loaded.failure
    assert outcome is not None
    return outcome


def load_folder(
    root: Path, *, trusted: bool = False, previous: LoadedFolder | None = None, limits: InventoryLimits | None = None
) -> LoadedFolder:
    """As `load_skill`, reading only what changed since `previous`; returns `previous` itself if nothing did."""
    try:
        return _load(root, trusted, previous, limits)
    except _Rejected as rejected:
        diagnostics = rejected.diagnostics
    except InventoryError as error:
        diagnostics = (_error(error.code, error.message, error.remedy),)
    except FrontMatterError as error:
        diagnostics = (error.diagnostic,)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        diagnostics = (_error("unreadable", message, "Check the permissions of the folder and of SKILL.md."),)
    except Exception as error:
        _log.exception("loading the skill in %s failed unexpectedly", root)
        diagnostics = (_error("internal", f"loading failed: {error!r}", "Please report this, with the skill."),)
    return LoadedFolder(failure=SkillFailure(path=root, diagnostics=diagnostics))


def _load(root: Path, trusted: bool, previous: LoadedFolder | None, limits: InventoryLimits | None) -> LoadedFolder:
    before = previous.inventory if previous is not None else None
    inventory = take_inventory(root, known=before.files if before is not None else None, limits=limits)
    if previous is not None and before is not None:
        if inventory == before:
            return previous
        if inventory.left_out == before.left_out and inventory.digest == before.digest:
            return LoadedFolder(skill=previous.skill, inventory=inventory)
    entry = inventory.files.get(SKILL_FILE)
    if entry is None:
        raise _Rejected(_missing(inventory))
    front = read_front_matter(read_entry(root, entry))
    return LoadedFolder(skill=_Reading(root, trusted, front, inventory).skill(), inventory=inventory)


def _missing(inventory: Inventory) -> Diagnostic:
    why = inventory.left_out.get(SKILL_FILE)
    if why is None:
        return _error("no_skill_file", "the folder holds no SKILL.md", "Add one.")
    return _error(why.code, why.message, why.remedy)


def _error(code: str, message: str, remedy: str, line: int | None = None) -> Diagnostic:
    return Diagnostic(code=code, message=message, severity="error", line=line, remedy=remedy)


@dataclass(slots=True)
class _Reading:
    """The making of one Skill out of a front matter and an inventory."""

    root: Path
    trusted: bool
    front: FrontMatter
    inventory: Inventory
    found: list[Diagnostic] = field(default_factory=list)

    def skill(self) -> Skill:
        self.found += self.front.diagnostics
        description = self._description()
        name = self._name()
        metadata = self._metadata()
        files = tuple(self.inventory.files)
        executables = {entry.path for entry in self.inventory.files.values() if entry.executable}
        entry, remarks = find_entry(metadata, files, executables)
        self.found += remarks
        body = self._body()
        return Skill(
            name=name,
            description=description,
            root=self.root,
            digest=self.inventory.digest,
            body=body,
            license=self._text("license"),
            compatibility=self._compatibility(),
            allowed_tools=self._allowed_tools(),
            metadata=metadata,
            extra=self._extra(),
            entry=entry,
            files=files,
            trusted=self.trusted,
            diagnostics=tuple(self._all_found()),
        )

    def _warn(self, code: str, message: str, remedy: str = "", field_name: str | None = None) -> None:
        line = self.front.lines.get(field_name) if field_name is not None else None
        self.found.append(Diagnostic(code=code, message=message, line=line, remedy=remedy))

    def _all_found(self) -> list[Diagnostic]:
        left_out = list(self.inventory.left_out.values())
        found = self.found + left_out[:_MAX_LEFT_OUT_REPORTED]
        if len(left_out) > _MAX_LEFT_OUT_REPORTED:
            message = f"{len(left_out) - _MAX_LEFT_OUT_REPORTED} more entries of the folder are left out"
            found.append(Diagnostic(code="left_out", message=message))
        return found

    # fields

    def _description(self) -> str:
        value = self.front.values.get("description")
        line = self.front.lines.get("description")
        remedy = "Say in the front matter what the skill does and when to use it: description: ..."
        if value is None or "description" in self.front.nulls:
            raise _Rejected(_error("description_missing", "the skill has no description", remedy, line))
        if not isinstance(value, str):
            raise _Rejected(_error("description_not_text", "description must be text", remedy, line))
        if not value.strip():
            raise _Rejected(_error("description_missing", "the description is blank", remedy, line))
        text = value.strip()
        if len(text) > MAX_DESCRIPTION_CHARS:
            message = f"the description has {len(text)} characters; the model sees the first {MAX_DESCRIPTION_CHARS}"
            self._warn("description_too_long", message, "Shorten it.", "description")
        return self._cleaned("description", text)

    def _cleaned(self, field_name: str, text: str) -> str:
        clean = clean_text(text)
        if clean != text or not clean.strip("\u200c\u200d"):
            message = f"{field_name} holds characters that do not show; they are taken out"
            self._warn(f"{field_name}_invisible", message, "Remove them.", field_name)
        return clean

    def _name(self) -> str:
        value = self.front.values.get("name")
        if isinstance(value, str) and value.strip():
            written = value.strip()
        else:
            written = self.root.name
            message = f"the skill has no usable name; its folder's name {written!a} is taken"
            self._warn("name_missing", message, f"Add name: {written}", "name")
        self._refuse_unsafe(written)
        name = unicodedata.normalize("NFKC", self._cleaned("name", written))
        self._refuse_unsafe(name)
        self._judge_name(written, name)
        return name

    def _refuse_unsafe(self, name: str) -> None:
        if _UNSAFE_IN_NAMES.search(name) or not any(character.isalnum() for character in name):
            message = f"name {name[:80]!a} holds what no name may hold, or no letter or digit at all"
            line = self.front.lines.get("name")
            raise _Rejected(_error("name_unsafe", message, "Use letters, digits and hyphens.", line))

    def _judge_name(self, written: str, name: str) -> None:
        if name != unicodedata.normalize("NFC", written):
            self._warn("name_normalized", f"name is read as {name!r}", f"Write name: {name}", "name")
        if len(name) > MAX_NAME_CHARS:
            message = f"the name has {len(name)} characters; {MAX_NAME_CHARS} are allowed"
            self._warn("name_too_long", message, "Shorten it.", "name")
        if not is_proper_name(name):
            message = f"name {name!r} is not made of lower-case letters, digits and single hyphens between them"
            self._warn("name_form", message, "Use a name such as tide-table.", "name")
        folder = unicodedata.normalize("NFKC", self.root.name)
        if name != folder:
            message = f"name {name!r} differs from the folder's name {folder!a}"
            self._warn("name_folder", message, "Give both the same name.", "name")

    def _text(self, field_name: str) -> str | None:
        value = self.front.values.get(field_name)
        if value is None or field_name in self.front.nulls:
            return None
        if not isinstance(value, str):
            self._warn("not_text", f"{field_name} should be text", "Write it on one line.", field_name)
        return self._cleaned(field_name, _as_text(value).strip())

    def _compatibility(self) -> str | None:
        text = self._text("compatibility")
        if "compatibility" in self.front.values and not text:
            self._warn("compatibility_empty", "compatibility is empty", "Leave it out.", "compatibility")
            return None
        if text is not None and len(text) > MAX_COMPATIBILITY_CHARS:
            message = f"compatibility has {len(text)} characters; {MAX_COMPATIBILITY_CHARS} are allowed"
            self._warn("compatibility_too_long", message, "Shorten it.", "compatibility")
        return text

    def _allowed_tools(self) -> tuple[str, ...]:
        value = self.front.values.get("allowed-tools")
        if value is None or "allowed-tools" in self.front.nulls:
            return ()
        if isinstance(value, list):
            self._warn("tools_list", "allowed-tools is a list", "Write one line: Read Write", "allowed-tools")
            tools = tuple(item.strip() for item in value if isinstance(item, str))
        elif isinstance(value, str):
            tools = tuple(_TOOL.findall(value))
        else:
            self._warn("not_text", "allowed-tools is no text and grants nothing", "Write one line.", "allowed-tools")
            return ()
        unknown = [tool for tool in tools if not _KNOWN_TOOL.fullmatch(tool.partition("(")[0])]
        if unknown:
            message = f"allowed-tools names unknown tools: {', '.join(map(ascii, unknown))[:200]}; they grant nothing"
            self._warn("unknown_tool", message, "Use Bash, Read, Write or Edit.", "allowed-tools")
        return tools

    def _metadata(self) -> dict[str, str]:
        value = self.front.values.get("metadata")
        if value is None or "metadata" in self.front.nulls:
            return {}
        if not isinstance(value, dict):
            self._warn("metadata_not_map", "metadata should map keys to values", "Write key: value.", "metadata")
            return {}
        nested = sorted(key for key, item in value.items() if not isinstance(item, str))
        if nested:
            message = f"metadata holds lists or mappings ({', '.join(nested)[:200]}); they are kept as JSON text"
            self._warn("metadata_nested", message, "Use text only.", "metadata")
        return {clean_text(key): clean_text(_as_text(item)) for key, item in value.items()}

    def _extra(self) -> dict[str, Any]:
        extra = {key: value for key, value in self.front.values.items() if key not in _KNOWN_FIELDS}
        for key in extra:
            message = f"field {key[:64]!a} is not part of the specification; it is kept"
            self._warn("unknown_field", message, "Move it into metadata.", key)
        return extra

    def _body(self) -> str:
        lines = self.front.body.count("\n") + 1
        if lines > MAX_BODY_LINES:
            message = f"the body has {lines} lines; {MAX_BODY_LINES} are advised"
            self._warn("body_long", message, "Move details into references/.")
        if "\0" in self.front.body:
            self._warn("body_nul", "the body holds NUL characters", "Remove them.")
        return self.front.body


def is_proper_name(name: str) -> bool:
    """Whether the name has the form the specification asks for, in any script."""
    parts = name.split("-")
    return name == name.lower() and all(part and part.isalnum() for part in parts)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
