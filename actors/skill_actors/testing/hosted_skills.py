"""The Skills API of the fake server: prebuilt skills, uploaded ones, their versions, and what an upload must be."""

from __future__ import annotations

import io
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from skill_actors.skills.front_matter import FrontMatterError, read_front_matter
from skill_actors.skills.validate_rules import api_errors, field_errors
from skill_actors.testing.hosted_files import timestamp
from skill_actors.testing.wire import Call, Form, Refusal, Sent, page_of, parse_form

__all__ = ["FakeSkills", "StoredSkill", "StoredVersion"]

_MAX_UPLOAD_BYTES: Final = 30_000_000
_MAX_DISPLAY_NAME: Final = 255
_PREBUILT: Final = ("pptx", "xlsx", "docx", "pdf")
_PREBUILT_VERSION: Final = "20251013"


@dataclass(slots=True, kw_only=True)
class StoredVersion:
    """One version: the whole skill as it was uploaded, by path below its folder."""

    id: str
    name: str
    description: str
    created_s: float
    files: Mapping[str, bytes] = field(repr=False)


@dataclass(slots=True, kw_only=True)
class StoredSkill:
    """One skill; versions oldest first."""

    id: str
    source: str
    display_name: str
    created_s: float
    versions: list[StoredVersion]

    def to_json(self) -> dict[str, Any]:
        latest = self.versions[-1] if self.versions else None
        return {
            "id": self.id,
            "type": "skill",
            "created_at": timestamp(self.created_s),
            "updated_at": timestamp(latest.created_s if latest else self.created_s),
            "display_name": self.display_name,
            "latest_version_id": latest.id if latest else "",
            "source": {"type": self.source},
        }


class FakeSkills:
    """All skills of the one workspace; `skills` by id, oldest first.

    Args:
        now: seconds since 1970.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.skills: dict[str, StoredSkill] = {}
        self._now = now
        for name in _PREBUILT:
            version = StoredVersion(
                id=_PREBUILT_VERSION, name=name, description=f"Makes {name} files.", created_s=0.0, files={}
            )
            self.skills[name] = StoredSkill(
                id=name, source="anthropic", display_name=name, created_s=0.0, versions=[version]
            )

    def custom(self) -> list[StoredSkill]:
        """Those that were uploaded."""
        return [skill for skill in self.skills.values() if skill.source == "custom"]

    def resolve(self, type: str, skill_id: str, version: str) -> StoredVersion | None:
        """The version that a request means, None if there is none."""
        skill = self.skills.get(skill_id)
        if skill is None or skill.source != type:
            return None
        if version == "latest":
            return skill.versions[-1] if skill.versions else None
        return next((each for each in skill.versions if each.id == version), None)

    def answer(self, call: Call) -> Sent:
        """Serve a call of /v1/skills. Raises Refusal."""
        match (call.method, *call.path[2:]):
            case ("POST",):
                return self._create(call)
            case ("GET",):
                return Sent(body=self._list(call))
            case ("GET", id):
                return Sent(body=self._found(id).to_json())
            case ("DELETE", id):
                return self._delete(id)
            case ("POST", id, "versions"):
                return self._create_version(call, id)
            case ("GET", id, "versions"):
                versions = reversed(self._found(id).versions)
                return Sent(body=page_of(call, [self._version_json(id, version) for version in versions]))
            case ("GET", id, "versions", version):
                return Sent(body=self._version_json(id, self._version(id, version)))
            case ("GET", id, "versions", version, "content"):
                return Sent(content=_zipped(self._version(id, version)), content_type="application/zip")
            case ("DELETE", id, "versions", version):
                return self._delete_version(id, version)
        raise Refusal(404, "Not found")

    def _create(self, call: Call) -> Sent:
        form = parse_form(call.headers, call.content)
        uploaded = self._uploaded(form)
        display_name = form.fields.get("display_name") or form.fields.get("display_title") or uploaded.name
        if len(display_name) > _MAX_DISPLAY_NAME or not display_name.isprintable():
            raise Refusal(400, f"display_name: one line of at most {_MAX_DISPLAY_NAME} characters")
        id = f"skill_{secrets.token_hex(12)}"
        skill = StoredSkill(
            id=id, source="custom", display_name=display_name, created_s=self._now(), versions=[uploaded]
        )
        self.skills[id] = skill
        return Sent(body=skill.to_json())

    def _create_version(self, call: Call, id: str) -> Sent:
        skill = self._owned(id)
        uploaded = self._uploaded(parse_form(call.headers, call.content))
        if skill.versions and uploaded.name != skill.versions[0].name:
            raise Refusal(400, f"name: {uploaded.name!r} is not this skill's name, {skill.versions[0].name!r}")
        skill.versions.append(uploaded)
        return Sent(body=self._version_json(id, uploaded))

    def _list(self, call: Call) -> dict[str, Any]:
        source = next(iter(call.query.get("source", ())), "")
        if source not in ("", "custom", "anthropic"):
            raise Refusal(400, "source: Input should be 'custom' or 'anthropic'")
        shown = [skill for skill in reversed(self.skills.values()) if source in ("", skill.source)]
        return page_of(call, [skill.to_json() for skill in shown])

    def _delete(self, id: str) -> Sent:
        if self._owned(id).versions:
            raise Refusal(400, "Cannot delete skill with existing versions. Delete all versions first.")
        del self.skills[id]
        return Sent(body={"id": id, "type": "skill_deleted"})

    def _delete_version(self, id: str, version: str) -> Sent:
        found = self._version(id, version)
        self._owned(id).versions.remove(found)
        return Sent(body={"id": found.id, "type": "skill_version_deleted"})

    def _found(self, id: str) -> StoredSkill:
        skill = self.skills.get(id)
        if skill is None:
            raise Refusal(404, f"Skill not found: {id}")
        return skill

    def _owned(self, id: str) -> StoredSkill:
        skill = self._found(id)
        if skill.source != "custom":
            raise Refusal(403, f"Skill {id} is read-only")
        return skill

    def _version(self, id: str, version: str) -> StoredVersion:
        skill = self._found(id)
        found = self.resolve(skill.source, id, version)
        if found is None:
            raise Refusal(404, f"Skill version not found: {version}")
        return found

    def _version_json(self, id: str, version: StoredVersion) -> dict[str, Any]:
        return {
            "id": version.id,
            "type": "skill_version",
            "skill_id": id,
            "name": version.name,
            "description": version.description,
            "created_at": timestamp(version.created_s),
        }

    def _uploaded(self, form: Form) -> StoredVersion:
        sent = [(part.filename, part.content) for part in form.files if part.name in ("files[]", "files")]
        top, files = _one_folder(_unzipped(sent))
        if sum(map(len, files.values())) > _MAX_UPLOAD_BYTES:
            raise Refusal(400, "Total upload size exceeds the maximum of 30 MB")
        if "SKILL.md" not in files:
            raise Refusal(400, "SKILL.md file must be exactly in the top-level folder.")
        try:
            front = read_front_matter(files["SKILL.md"])
        except FrontMatterError as error:
            raise Refusal(400, f"SKILL.md: {error}") from None
        if fault := next(iter([*field_errors(front, top), *api_errors(front)]), None):
            raise Refusal(400, f"SKILL.md: {fault.message}")
        return StoredVersion(
            id=f"skver_{secrets.token_hex(12)}",
            name=str(front.values["name"]),
            description=str(front.values["description"]),
            created_s=self._now(),
            files=files,
        )


def _unzipped(sent: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """The files of an upload; a single zip archive stands for what is in it."""
    if len(sent) != 1 or not zipfile.is_zipfile(io.BytesIO(sent[0][1])):
        yield from sent
        return
    with zipfile.ZipFile(io.BytesIO(sent[0][1])) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, archive.read(info)


def _one_folder(files: Iterator[tuple[str, bytes]]) -> tuple[str, dict[str, bytes]]:
    below: dict[str, bytes] = {}
    tops: set[str] = set()
    for path, content in files:
        top, _, rest = path.partition("/")
        if not rest or path.startswith("/") or ".." in path.split("/") or "\\" in path:
            raise Refusal(400, f"Invalid file path: {path}")
        tops.add(top)
        below[rest] = content
    if not below:
        raise Refusal(400, "files: Field required")
    if len(tops) != 1:
        raise Refusal(400, "All files must be in the same top-level folder.")
    return tops.pop(), below


def _zipped(version: StoredVersion) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in version.files.items():
            archive.writestr(f"{version.name}/{path}", content)
    return buffer.getvalue()
