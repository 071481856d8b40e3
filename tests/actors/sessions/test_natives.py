"""Which native tools a turn gets, and whose secrets a call of one is given."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from skill_actors.backends import Host, NativeProcesses, NativeRoom, ToolCall, Workspace, WorkspaceSpec
from skill_actors.native import NativeCode, tool_name
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.natives import native_room
from skill_actors.sessions.surroundings import PinnedSkill, Surroundings
from skill_actors.skills.base import NativePart, Skill
from skill_actors.skills.secrets import SecretSource, SkillSecrets
from support import run

COPY = Path("/copies/1")
SPEC = WorkspaceSpec(session="s", root=Path("/work"))


class Env:
    """As much of the surroundings as is looked at."""

    natives: NativeProcesses | None = NativeProcesses(Host())


def native(name: str, *kinds: str, **more: Any) -> PinnedSkill:
    tools = {kind: {"name": tool_name(name, kind), "input_schema": {"type": "object"}} for kind in kinds}
    code = NativeCode(skill=name, version="1" * 64, class_name="Skill", root="/live", file="native.py")
    part = NativePart(code=code, tools=tools)
    skill = Skill(name=name, description="d", root=Path("/live"), digest="1" * 64, native=part, **more)
    return PinnedSkill(skill, COPY)


def room(*pinned: PinnedSkill, taken: Sequence[str] = (), env: Env | None = None) -> NativeRoom | None:
    return native_room(cast("Surroundings", env or Env()), pinned, SPEC, taken)


def test_the_tools_of_all_native_skills_are_offered_from_the_pinned_copies() -> None:
    found = room(native("a-b", "execute", "read"), native("c", "write"))
    assert found is not None
    assert [tool["name"] for tool in found.tools] == ["a_b_execute", "a_b_read", "c_write"]
    assert found.owners == {"a_b_execute": "a-b", "a_b_read": "a-b", "c_write": "c"}
    assert {code.root for code, _kind, _tool in found._by_name.values()} == {str(COPY)}


def test_without_native_skills_or_processes_there_is_no_room() -> None:
    plain = native("x", "read")
    none = Env()
    none.natives = None
    assert room() is None
    assert room(PinnedSkill(replace(plain.skill, native=None), COPY)) is None
    assert room(plain, env=none) is None


def test_a_skill_that_the_model_may_not_choose_offers_it_nothing() -> None:
    assert room(native("x", "read", extra={"disable-model-invocation": "true"})) is None


def test_a_skill_with_a_tool_of_the_backend_offers_nothing_at_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = room(native("files", "read", "write"), native("x", "read"), taken=["files_read"])
    assert found is not None
    assert [tool["name"] for tool in found.tools] == ["x_read"]
    assert "native skill files offers no tools: files_read is another tool here" in caplog.text


class Here:
    """A workspace on this host."""

    root = Path("/work")

    def path_of_skill(self, copy: Path) -> str:
        return str(copy)


@pytest.mark.parametrize(
    ("tool", "trusted", "given"), [("x_read", True, True), ("x_read", False, False), ("y_read", True, False)]
)
def test_a_call_of_its_tool_gets_the_secrets_of_a_trusted_skill_and_of_no_other(
    tmp_path: Path, tool: str, trusted: bool, given: bool
) -> None:
    (tmp_path / "token").write_text("correct horse")
    (tmp_path / "token").chmod(0o600)
    secrets = SkillSecrets({"x": {"API_TOKEN": SecretSource(path=tmp_path / "token")}})
    pinned = [native("x", "read", trusted=trusted), native("y", "read", trusted=True)]
    found = room(*pinned)
    assert found is not None
    grants = Grants(secrets, pinned, cast("Workspace", Here()), tools=found.owners)

    async def main() -> None:
        granted = await grants.judge(ToolCall(id="1", name=tool, input={"path": "correct horse"}))
        assert granted.environment.get("API_TOKEN") == ("correct horse" if given else None)
        assert granted.redactor.text("a correct horse") == "a ***"

    run(main)
