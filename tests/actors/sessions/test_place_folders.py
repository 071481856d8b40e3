"""Whose a folder of files is, told by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill_actors.ids import new_id
from skill_actors.sessions.backend_choice import choices_of
from skill_actors.sessions.place_folders import folder_of_place, folders_of_session, session_of_folder
from skill_actors.sessions.places import folder_names


def test_the_folders_of_a_session_are_found_and_no_others(tmp_path: Path) -> None:
    mine, other = new_id("ses"), new_id("ses")
    made = [folder_of_place(tmp_path, mine, place) for place in (None, "build", "b2")]
    for folder in (*made, folder_of_place(tmp_path, other, None), tmp_path / f"{mine}x", tmp_path / "lost+found"):
        folder.mkdir()
    assert sorted(folders_of_session(tmp_path, mine)) == sorted(made)
    assert folders_of_session(tmp_path / "nowhere", mine) == []
    assert {session_of_folder(path.name) for path in tmp_path.iterdir()} == {mine, other, None}


@pytest.mark.parametrize(
    ("backends", "main"),
    [
        (["local"], "local"),
        (["anthropic", {"backend": "docker", "name": "box"}, "local"], "box"),
        (["native", "anthropic"], "anthropic"),
        (["native"], None),
    ],
)
def test_the_first_executor_has_the_sessions_own_folder_and_native_tools_have_none(
    backends: list[object], main: str | None
) -> None:
    names = folder_names(choices_of(backends))
    assert [name for name, folder in names.items() if folder is None] == ([main] if main else [])
    assert all(folder in (None, name) for name, folder in names.items())
    assert "native" not in names
