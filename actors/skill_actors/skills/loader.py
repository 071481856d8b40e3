"""A folder with a SKILL.md, read leniently into a Skill.

What can be understood is loaded and every doubt is reported; a folder that cannot be loaded is a failure with its
reason. Nothing here raises for what is on disk: one bad skill never hurts another.
"""

from __future__ import annotations

import json
import logging
import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from skill_actors.skills._clean import clean_text
from skill_actors.skills.allowed_tools import read_rules
from skill_actors.skills.base import Diagnostic, Skill, SkillFailure
from skill_actors.skills.entry import find_entry
from skill_actors.skills.fields import (
    KNOWN_FIELDS,
    MAX_COMPATIBILITY_CHARS,
    MAX_DESCRIPTION_CHARS,
    counted_chars,
    has_comma_between_tools,
)
from skill_actors.skills.front_matter import FrontMatter, FrontMatterError, read_front_matter
from skill_actors.skills.inventory import (
    SKILL_FILE,
    Inventory,
    InventoryError,
    InventoryLimits,
    read_entry,
    take_inventory,
)
from skill_actors.skills.names import name_faults, normal_name

__all__ = ["LoadedFolder", "load_folder", "load_skill"]

MAX_BODY_LINES: Final = 500
_USUAL_NAME_BYTES: Final = 64
_USUAL_FILE_BYTES: Final = 1024 * 1024
_MAX_REPORTED: Final = 20

# Controls, bidirectional overrides and isolates, and tag characters: text that is not what a reader of the file sees.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_HIDDEN: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_UNSAFE_IN_NAMES: Final = re.compile(r"[/\\<>\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TOOL: Final = re.compile(r"[^\s,()]+\([^()]*\)(?=[\s,]|$)|[^\s,]+")  # half a pattern is never a bare name

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFolder:
    """What came of one folder, and what makes loading it again cheap.

    Either skill or failure is set, or both: the last good version, and why it is not the newest. `trusted` is what
    was said of the source.
    """

    skill: Skill | None = None
    failure: SkillFailure | None = None
    inventory: Inventory | None = None
    trusted: bool = False


class _Rejected(Exception):
    """The folder cannot be loaded; `diagnostics` say why."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(diagnostics[0].message)
        self.diagnostics = diagnostics


def load_skill(root: Path, *, trusted: bool = False, limits: InventoryLimits | None = None) -> Skill | SkillFailure:
    """Load the skill in the folder `root`, or that this link leads to, or say why not.

    Blocks; never raises for what is on disk.
    """
    if os.path.islink(root):
        root = Path(os.path.realpath(root))
    elif root.name in ("", ".."):
        root = Path(os.path.abspath(root))  # which has a name
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
    except (OSError, ValueError) as error:  # ValueError: a path with NUL in it
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        diagnostics = (_error("unreadable", message, "Check the permissions of the folder and of SKILL.md."),)
    except Exception as error:
        _log.exception("loading the skill in %s failed unexpectedly", root)
        diagnostics = (_error("internal", f"loading failed: {error!r}", "Please report this, with the skill."),)
    return LoadedFolder(failure=SkillFailure(path=root, diagnostics=diagnostics))


def _load(root: Path, trusted: bool, previous: LoadedFolder | None, limits: InventoryLimits | None) -> LoadedFolder:
    if root.name.startswith("."):
        raise _Rejected(_error("hidden_folder", "hidden folders hold no skills", "Rename the folder."))
    before = previous.inventory if previous is not None else None
    inventory = take_inventory(root, known=before.files if before is not None else None, limits=limits)
    if previous is not None and before is not None:
        if inventory == before:
            return previous
        known = (before.left_out, before.open_to_all, before.digest)
        if (inventory.left_out, inventory.open_to_all, inventory.digest) == known:
            return LoadedFolder(skill=previous.skill, inventory=inventory, trusted=trusted)
    entry = inventory.files.get(SKILL_FILE)
    if entry is None:
        raise _Rejected(_missing(inventory))
    front = read_front_matter(read_entry(root, entry))
    return LoadedFolder(skill=_Reading(root, trusted, front, inventory).skill(), inventory=inventory, trusted=trusted)


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
            trusted=self.trusted and not self.inventory.open_to_all,
            diagnostics=tuple(self._all_found()),
        )

    def _warn(self, code: str, message: str, remedy: str = "", field_name: str | None = None) -> None:
        line = self.front.lines.get(field_name) if field_name is not None else None
        self.found.append(Diagnostic(code=code, message=message, line=line, remedy=remedy))

    def _all_found(self) -> list[Diagnostic]:
        if self.inventory.open_to_all:
            message = f"everybody may write to {self.inventory.open_to_all}, so the skill is not trusted"
            self._warn("open_to_all", message, "Take the right to write from others: chmod o-w.")
        left_out = list(self.inventory.left_out.values())
        found = self.found + left_out[:_MAX_REPORTED]
        if len(left_out) > _MAX_REPORTED:
            message = f"{len(left_out) - _MAX_REPORTED} more entries of the folder are left out"
            found.append(Diagnostic(code="left_out", message=message, remedy="Keep only what the skill needs."))
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
        length = counted_chars(value)
        if length > MAX_DESCRIPTION_CHARS:
            message = f"the description has {length} characters; the model sees the first {MAX_DESCRIPTION_CHARS}"
            self._warn("description_too_long", message, "Shorten it.", "description")
        return self._cleaned("description", text)

    def _cleaned(self, field_name: str, text: str) -> str:
        clean = clean_text(text)
        if clean != text or (text and not clean.strip("\u200c\u200d")):
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
        name = normal_name(self._cleaned("name", written))
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
        for fault in name_faults(name, self.root.name):
            self._warn(*fault, field_name="name")
        if len(name.encode()) > _USUAL_NAME_BYTES >= len(name):
            message = f"the name has {len(name.encode())} bytes; readers that count bytes refuse it"
            self._warn("name_bytes", message, "Shorten it.", "name")

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
        value = self.front.values.get("compatibility")
        length = counted_chars(value) if isinstance(value, str) else 0
        if length > MAX_COMPATIBILITY_CHARS:
            message = f"compatibility has {length} characters; {MAX_COMPATIBILITY_CHARS} are allowed"
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
            if has_comma_between_tools(value):
                message = "allowed-tools is separated by commas; the specification has spaces"
                self._warn("tools_commas", message, "Write: Read Write", "allowed-tools")
            tools = tuple(_TOOL.findall(value))
        else:
            self._warn("not_text", "allowed-tools is no text and grants nothing", "Write one line.", "allowed-tools")
            return ()
        _, unknown = read_rules(tools)
        if unknown:
            message = f"allowed-tools names unknown tools: {', '.join(map(ascii, unknown))[:200]}; they grant nothing"
            self._warn("unknown_tool", message, "Use Bash, Bash(git:*), Read, Write or Edit.", "allowed-tools")
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
        texts = {key: _as_text(item) for key, item in value.items()}
        clean = {clean_text(key): clean_text(text) for key, text in texts.items()}
        if clean != texts:
            message = "metadata holds characters that do not show; they are taken out"
            self._warn("metadata_invisible", message, "Remove them.", "metadata")
        return clean

    def _extra(self) -> dict[str, Any]:
        extra = {key: value for key, value in self.front.values.items() if key not in KNOWN_FIELDS}
        for key in list(extra)[:_MAX_REPORTED]:
            message = f"field {key[:64]!a} is not part of the specification; it is kept"
            self._warn("unknown_field", message, "Move it into metadata.", key)
        if len(extra) > _MAX_REPORTED:
            message = f"{len(extra) - _MAX_REPORTED} more fields are not part of the specification"
            self._warn("unknown_field", message, "Move them into metadata.")
        return extra

    def _body(self) -> str:
        size = self.inventory.files[SKILL_FILE].size
        if size > _USUAL_FILE_BYTES:
            message = f"SKILL.md has {size} bytes; {_USUAL_FILE_BYTES} are plenty"
            self._warn("file_large", message, "Move details into references/.")
        lines = self.front.body.count("\n") + 1
        if lines > MAX_BODY_LINES:
            message = f"the body has {lines} lines; {MAX_BODY_LINES} are advised"
            self._warn("body_long", message, "Move details into references/.")
        hidden = (_CONTROL if self.front.body.isascii() else _HIDDEN).search(self.front.body)
        if hidden is not None:
            message = f"the body holds {hidden[0]!a}, and so does not read as it shows"
            self._warn("body_hidden", message, "Remove such characters.")
        return self.front.body


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
