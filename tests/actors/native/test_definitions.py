"""From classes of native skills to tools: exactly what is declared, typed by annotations, or refused whole."""

from __future__ import annotations

import subprocess
import sys
from abc import ABCMeta
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from skill_actors.native import (
    BadSkill,
    Context,
    NativeSkill,
    SkillInfo,
    build_tool_map,
    complaint,
    describe,
    tool_definitions,
)
from skill_actors.native.schema import UnknownType, schema_of


def info(*tools: str, name: str = "log-fetcher") -> SkillInfo:
    return SkillInfo(name=name, description="Fetches logs.", allowed_tools=tools)


class Whole(NativeSkill):
    skill_info = info("modify", "execute", "write", "read")

    def execute(self, command: str, context: Context) -> str:
        """Fetch one log.

        More that only maintainers read.
        """
        return command

    def read(self, path: str, context: Context, offset: int | None = None, limit: int = 10) -> str:
        return path

    def write(self, path: str, content: str, context: Context) -> str:
        return path

    def modify(self, path: str, old_content: str, new_content: str, context: Context) -> str:
        return path


class Partly(NativeSkill):
    """Has more callbacks than it declares, and its types unwritten."""

    skill_info = info("read", name="partly")

    def read(self, path, context, offset=0, limit=None):  # type: ignore[no-untyped-def]
        return path

    def execute(self, command: str, context: Context) -> str:
        return command


def test_exactly_the_declared_callbacks_become_tools_with_conjures_names() -> None:
    tools = tool_definitions([Whole, Partly])
    assert [tool["name"] for tool in tools] == [
        *("log_fetcher_execute", "log_fetcher_read", "log_fetcher_write", "log_fetcher_modify", "partly_read"),
    ]
    assert all(set(tool) == {"name", "description", "input_schema"} for tool in tools)
    assert tools[0]["description"] == "Fetch one log. (Skill log-fetcher: Fetches logs.)"
    assert build_tool_map([Whole, Partly])["partly_read"] == (Partly, "read")
    assert build_tool_map([Whole])["log_fetcher_modify"] == (Whole, "modify")


def test_the_schema_is_made_of_the_annotations() -> None:
    schemas = {tool["name"]: tool["input_schema"] for tool in tool_definitions([Whole, Partly])}
    read = schemas["log_fetcher_read"]
    assert read["properties"]["offset"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert read["properties"]["limit"] == {"type": "integer"}
    assert (read["required"], read["additionalProperties"]) == (["path"], False)
    assert schemas["log_fetcher_modify"]["required"] == ["path", "old_content", "new_content"]
    plain = schemas["partly_read"]["properties"]
    assert (plain["path"]["type"], plain["offset"], plain["limit"]["type"]) == (
        *("string", {"type": "integer"}, "integer"),
    )


class Row(TypedDict, total=False):
    name: str
    tags: list[str]


class Odd(TypedDict):
    größe: int


class Typed(NativeSkill):
    skill_info = info("execute", name="typed")

    def execute(
        self,
        command: Annotated[Literal["fetch", "list"], "What to do."],
        context: Context,
        rows: list[Row] | None = None,
        ratio: float = 0.5,
        extra: dict[str, int] | None = None,
        sure: bool = False,
        any_value: Any = None,
    ) -> str:
        return command


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"command": "fetch"}, None),
        ({"command": "fetch", "ratio": 1, "sure": True, "any_value": [1, {}]}, None),
        ({"command": "list", "rows": [{"name": "a", "tags": ["x"]}], "extra": {"n": 1}}, None),
        ({"command": "list", "rows": None}, None),
        ({}, "the field command is missing"),
        ({"command": "drop"}, "command must be one of 'fetch', 'list', not 'drop'"),
        ({"command": "fetch", "ratio": True}, "ratio must be a number, not True"),
        ({"command": "fetch", "sure": 1}, "sure must be a boolean, not 1"),
        ({"command": "fetch", "more": 1}, "unknown field 'more'"),
        ({"command": "fetch", "extra": {"n": "1"}}, "extra.n must be an integer"),
        ({"command": "fetch", "rows": [{"tags": [1]}]}, "rows[0].tags[0] must be a string"),
        ({"command": "fetch", "rows": [{"age": 1}]}, "unknown field 'age'"),
        (["fetch"], "the input must be an object"),
        (None, "the input must be an object"),
    ],
)
def test_input_is_held_to_the_schema(given: Any, wrong: str | None) -> None:
    (tool,) = tool_definitions([Typed])
    said = complaint(tool["input_schema"], given)
    assert said is None if wrong is None else wrong in str(said), said


@pytest.mark.parametrize("annotation", [object, bytes, set[str], dict[int, str], Literal[b"x"], tuple[int, str]])
def test_a_type_that_json_does_not_have_is_refused(annotation: Any) -> None:
    with pytest.raises(UnknownType):
        schema_of(annotation)


def test_a_key_that_no_tool_can_have_is_refused() -> None:
    with pytest.raises(UnknownType, match="größe"):
        schema_of(Odd)


def test_a_type_that_holds_itself_is_refused() -> None:
    annotation: Any = str
    for _ in range(20):
        annotation = list[annotation]
    with pytest.raises(UnknownType, match="nested"):
        schema_of(annotation)


def made(body: str) -> type:
    """A class as an author might write it."""
    space: dict[str, Any] = {"NativeSkill": NativeSkill, "SkillInfo": SkillInfo, "Context": Context, "ABCMeta": ABCMeta}
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    exec(f"class Skill(NativeSkill, metaclass=ABCMeta):\n{lines}\n", space)
    found = space["Skill"]
    assert isinstance(found, type)
    return found


INFO = 'skill_info = SkillInfo(name="x", description="d", allowed_tools={tools})\n'


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("pass", "native_no_info", "no skill_info"),
        ("skill_info = {'name': 'x'}", "native_no_info", "no skill_info"),
        (INFO.format(tools="()"), "native_no_tools", "no allowed_tools"),
        (INFO.format(tools="'read'"), "native_no_tools", "no allowed_tools"),
        (INFO.format(tools="['delete']"), "native_unknown_tool", "delete"),
        (INFO.format(tools="['read']"), "native_missing_callback", "declares read"),
        (INFO.format(tools="['read']") + "read = 'text'", "native_missing_callback", "declares read"),
        (INFO.format(tools="['read']") + "def read(self, path): ...", "native_signature", "path, context"),
        (INFO.format(tools="['read']") + "def read(self, path, context, *more): ...", "native_signature", "more"),
        (INFO.format(tools="['read']") + "def read(self, path, context, /): ...", "native_signature", "path"),
        (INFO.format(tools="['read']") + "def read(self, path, context, x): ...", "native_type", "parameter x"),
        (INFO.format(tools="['read']") + "def read(self, path: 'Gone', context): ...", "native_type", "Gone"),
        (INFO.format(tools="['read']") + "def read(self, path, context, größe=0): ...", "native_signature", "größe"),
        (INFO.format(tools="['read']") + "def read(self, path: bytes, context): ...", "native_type", "bytes"),
        (INFO.format(tools="['read']") + "async def read(self, path, context): ...", "native_async", "asynchronous"),
        (
            INFO.format(tools="['read']") + "def __init__(self, db): ...\ndef read(self, path, context): ...",
            *("native_constructor", "without arguments"),
        ),
        (
            INFO.format(tools="['read']") + "from abc import abstractmethod as a\n@a\ndef close(self): ...\n"
            "def read(self, path, context): ...",
            *("native_constructor", "without arguments"),
        ),
        ("skill_info = SkillInfo(name='a b', description='d', allowed_tools=['read'])", "native_name", "a b"),
        ("skill_info = SkillInfo(name=7, description='d', allowed_tools=['read'])", "native_name", "7"),
        ("skill_info = SkillInfo(name='x', description=' ', allowed_tools=['read'])", "native_no_info", "description"),
    ],
)
def test_a_class_that_is_not_as_it_should_be_is_refused_with_the_reason(body: str, code: str, said: str) -> None:
    with pytest.raises(BadSkill) as caught:
        describe(made(body))
    assert caught.value.code == code
    assert said in caught.value.message
    assert caught.value.remedy


def test_a_static_and_a_class_method_have_no_self() -> None:
    body = INFO.format(tools="['read', 'execute']")
    body += "@staticmethod\ndef read(path, context): ...\n@classmethod\ndef execute(cls, command, context): ..."
    tools = describe(made(body)).tools
    assert [list(tools[kind]["input_schema"]["properties"]) for kind in ("read", "execute")] == [["path"], ["command"]]


def test_any_class_with_a_skill_info_will_do() -> None:
    class Plain:
        skill_info = {"name": "plain", "description": "d", "allowed_tools": ["execute"]}  # noqa: RUF012

        def execute(self, command: str, context: Any) -> str:
            return command

    assert describe(Plain).tools["execute"]["name"] == "plain_execute"


def test_names_that_differ_by_a_hyphen_only_collide() -> None:
    class One(Whole):
        skill_info = info("read", name="a-b")

    class Two(Whole):
        skill_info = info("write", name="a_b")

    for function in (tool_definitions, build_tool_map):
        with pytest.raises(BadSkill, match="'a-b' and 'a_b'") as caught:
            function([One, Two])
        assert caught.value.code == "native_name_collision"
    with pytest.raises(BadSkill, match="same tools"):
        tool_definitions([One, type("Other", (One,), {})])


def test_the_author_s_side_needs_the_standard_library_only() -> None:
    """It is imported by every worker process."""
    program = (
        "import sys, skill_actors.native, skill_actors.native.child\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    folder = str(Path(sys.modules["skill_actors"].__file__ or "").parents[1])
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {folder!r})\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "['__main__', 'skill_actors']", done.stderr


def test_a_path_is_resolved_within_the_folders_of_the_call(tmp_path: Path) -> None:
    work, skill = tmp_path / "work", tmp_path / "skill"
    for folder in (work, skill):
        folder.mkdir()
    (work / "out").symlink_to("/etc")
    context = Context(session="s", workspace=work, skill_dir=skill, allowed_paths=(work, skill), deadline=0.0)
    assert context.resolve("a/b.txt") == work / "a/b.txt"
    assert context.resolve(str(skill / "data.json")) == skill / "data.json"
    for path in ("../x", "/etc/passwd", "out/passwd", f"{work}x/y"):
        with pytest.raises(PermissionError, match="outside"):
            context.resolve(path)
    with pytest.raises(PermissionError, match="outside"):
        context.resolve(str(skill / "data.json"), write=True)
    assert context.remaining_s() == 0.0


def test_what_a_class_says_of_parallel_calls_is_told_and_must_be_yes_or_no() -> None:
    class Safe(Whole):
        parallel = True

    class Odd(Whole):
        parallel = "yes"  # type: ignore[assignment]

    assert (describe(Whole).parallel, describe(Safe).parallel) == (False, True)
    with pytest.raises(BadSkill, match="has parallel = 'yes'"):
        describe(Odd)


def test_the_inputs_of_the_tools_are_those_of_conjure() -> None:
    inputs = {name: set(tool["input_schema"]["properties"]) for name, tool in describe(Whole).tools.items()}
    assert inputs == {
        "execute": {"command"},
        "read": {"path", "offset", "limit"},
        "write": {"path", "content"},
        "modify": {"path", "old_content", "new_content"},
    }


def test_asynchronous_functions_are_for_the_process_of_the_program_only() -> None:
    class Waits(NativeSkill):
        skill_info = info("execute")

        async def execute(self, command: str, context: Context) -> str:
            return command

    with pytest.raises(BadSkill, match="asynchronous"):
        describe(Waits)
    assert set(describe(Waits, inline=True).tools) == {"execute"}
