"""Setup files as they are written: what is read, what is refused, and where it stands."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skill_actors.workshop.setup_file.reading import MAX_FILE_BYTES, MAX_VALUES, FileFault, read_setup
from skill_actors.workshop.setup_file.toml_text import toml_text

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PLAIN = st.one_of(
    TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
@example({"a": '"""\r\n\\ "', "b": [{}, {"c": [{"d": 1}]}], "e": {"f": {}}, "": {"\x7f\n": [[], {}]}})
@example({"a": [{"b": 1}, 2]})
def test_what_is_written_as_toml_is_read_as_the_same(data: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(data, ["a comment"])) == data


def test_null_is_no_toml() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        toml_text({"a": [None]})


def write(folder: Path, text: str, name: str = "workshop.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


STAGE = '[[stage]]\nname = "one"\nagent = "a"\nprompt = "do"\n'


def test_workflows_stand_in_files_of_their_own_with_the_files_of_their_stages(tmp_path: Path) -> None:
    write(tmp_path, f'{STAGE}files = ["notes.md"]\n', "flows/release.toml")
    write(tmp_path, "what {braces} are\n", "flows/notes.md")
    write(tmp_path, '{"stage": [{"name": "x", "agent": "a", "prompt": "p"}]}', "flows/two.json")
    text = '[workflows.release]\nfile = "flows/release.toml"\n[workflows.two]\nfile = "flows/two.json"\n'
    workflows = read_setup(write(tmp_path, text)).data["workflows"]
    (stage,) = workflows["release"]["stage"]
    assert stage["prompt"] == "do\n\nThe file notes.md:\n\nwhat {{braces}} are\n"
    assert workflows["two"] == {"stage": [{"name": "x", "agent": "a", "prompt": "p"}]}


def test_more_values_than_a_request_holds_are_refused_before_it_is_sent(tmp_path: Path) -> None:
    most = MAX_VALUES - 6  # which the keys and the tables around the list are
    data = read_setup(write(tmp_path, f"[store.n]\nk = [{'0,' * most}]\n")).data
    assert len(data["store"]["n"]["k"]) == most
    with pytest.raises(FileFault, match=f"holds {MAX_VALUES + 1} values.*divide it"):
        read_setup(write(tmp_path, f"[store.n]\nk = [{'0,' * (most + 1)}]\n"))


def test_folders_are_taken_from_where_the_file_lies(tmp_path: Path) -> None:
    text = '[agents.a]\ncwd = "src/.."\n[profiles.p]\ncwd = "/abs"\n[workers.w]\nsettings = { cwd = "." }\n'
    data = read_setup(write(tmp_path, text, "conf/workshop.toml")).data
    assert data["agents"]["a"]["cwd"] == str(tmp_path / "conf")
    assert data["profiles"]["p"]["cwd"] == "/abs"
    assert data["workers"]["w"]["settings"]["cwd"] == str(tmp_path / "conf")


@pytest.mark.parametrize("name", ["../out.toml", "/etc/passwd", "a/../../out.toml", "", ".", "a\\u0000b"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, STAGE, "out.toml")
    path = write(tmp_path, f'[workflows.w]\nfile = "{name}"\n', "in/workshop.toml")
    with pytest.raises(FileFault, match=r"workshop\.toml:2: .*does not lie in the folder"):
        read_setup(path)


def test_no_link_is_followed_neither_at_the_end_nor_on_the_way(tmp_path: Path) -> None:
    write(tmp_path, STAGE, "outside/flow.toml")
    path = write(tmp_path, '[workflows.w]\nfile = "flow.toml"\n', "in/workshop.toml")
    (tmp_path / "in/flow.toml").symlink_to(tmp_path / "outside/flow.toml")
    (tmp_path / "in/sub").symlink_to(tmp_path / "outside")
    with pytest.raises(FileFault, match="not followed"):
        read_setup(path)
    with pytest.raises(FileFault, match="not followed"):
        read_setup(write(tmp_path, '[workflows.w]\nfile = "sub/flow.toml"\n', "in/workshop.toml"))


def test_the_files_of_a_stage_stay_in_the_folder_too(tmp_path: Path) -> None:
    write(tmp_path, "secret", "secret.txt")
    stage = STAGE.replace("[[stage]]", "[[workflows.w.stage]]")
    with pytest.raises(FileFault, match="does not lie in the folder"):
        read_setup(write(tmp_path, f'{stage}files = ["../secret.txt"]\n', "in/workshop.toml"))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(FileFault, match="it is no file"):
        read_setup(write(tmp_path, '[workflows.w]\nfile = "pipe.toml"\n'))
    with pytest.raises(FileFault, match="it is no file"):
        read_setup(tmp_path / "pipe.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = @\n", r"is no TOML: .*line 1"),
        ("[schedules.s]\nuntil = 2030-01-01T00:00:00Z\n", r":2: schedules\.s\.until is a datetime: write it as text"),
        ("[defaults]\ntimeout_s = inf\n", r":2: defaults\.timeout_s = inf is no number"),
        ('[workflows.w]\nfile = "x.toml"\n', r":2: 'x\.toml': No such file"),
        ('[workflows.w]\nfile = "x.toml"\ntimeout_s = 3\n', "stands alone"),
        ("[workflows.w]\nfile = 3\n", "'file' is a path"),
    ],
)
def test_faults_say_where_they_are(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(FileFault, match=expected):
        read_setup(write(tmp_path, text))


def test_a_file_is_bounded_and_text(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match="larger than"):
        read_setup(write(tmp_path, "#" * (MAX_FILE_BYTES + 1)))
    (tmp_path / "b.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(FileFault, match="no text in UTF-8"):
        read_setup(tmp_path / "b.toml")
    with pytest.raises(FileFault, match="No such file"):
        read_setup(tmp_path / "none.toml")


def test_the_line_of_a_key_is_found_or_that_of_what_stands_above_it(tmp_path: Path) -> None:
    lines = [
        'name = "x"',
        "[agents.coder]",
        'role = """',
        "[agents.other]",
        'model = "no key of ours"',
        '"""',
        'model = "m"',
        "[[board.items]]",
        'id = "a"',
        "[[board.items]]",
        'id = "b"',
        "[board.items.verify]",
        'argv = ["x"]',
        '[store."a b"]',
        "'c d' = 1",
    ]
    written = read_setup(write(tmp_path, "\n".join(lines)))

    def line(*keys: str | int) -> str:
        return written.place(keys).removeprefix(f"{written.path}")

    assert line("name") == ":1"
    assert line("agents", "coder", "role") == ":3"
    assert line("agents", "coder", "model") == ":7"
    assert line("agents", "coder", "none") == ":2"
    assert line("board", "items", 0, "id") == ":9"
    assert line("board", "items", 1) == ":10"
    assert line("board", "items", 1, "verify", "argv") == ":13"
    assert line("store", "a b", "c d") == ":15"
    assert line("nowhere") == ""
