"""Answers of a container's runner, as hostile as one may be that is none any more."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from image_kit import png
from skill_actors.backends import OutputChunk, operations
from skill_actors.backends.bundles import CLOSED, Entry
from skill_actors.backends.link import Done, Output, Request
from skill_actors.backends.operations import Nonsense, Unanswered, ask, entries
from skill_actors.backends.paths import PathRefused
from support import run

GOOD = ["dir/file", "file", 0o644, 5, [1, 2, 3]]


class Runner:
    """Answers each operation with these chunks."""

    def __init__(self, *chunks: str, done: Done | None = None) -> None:
        self.chunks = chunks
        self.done = done

    async def call(self, request: Request, emit: Callable[[OutputChunk], Any] | None) -> Done:
        assert emit is not None
        for chunk in self.chunks:
            await emit(OutputChunk("stdout", chunk))
        chars = sum(map(len, self.chunks))
        return self.done or Done(outcome="exited", code=0, stdout=Output(chars=chars))


def asked(name: str, *chunks: str, done: Done | None = None) -> Any:
    async def main() -> Any:
        return await ask(Runner(*chunks, done=done), name, {}, max_entries=20_000)

    return run(main)


def test_an_answer_is_put_together_from_its_chunks() -> None:
    assert asked("pack", '{"val', 'ue": "x"', "}") == "x"
    rows = "".join(f"\n{json.dumps(row)}" for row in (["dir", "dir", 0o755, 0, []], GOOD))
    assert asked("listing", '{"value": null}', rows[:20], rows[20:]) == {
        "dir": Entry("dir", 0o755, 0, ()),
        "dir/file": Entry("file", 0o644, 5, (1, 2, 3)),
    }
    assert asked("listing", '{"value": null}') == {}


def test_a_refusal_is_one_also_of_a_listing() -> None:
    with pytest.raises(PathRefused, match="not today"):
        asked("listing", '{"refused": "not today"}')


BAD: Sequence[Sequence[Any]] = (
    (None, 7, ["a"], "../a", "a/../b", "/a", "a//b", "a/", ".", "a\0b", "", "a/" * 257 + "b"),
    (None, "fifo", "", 7, ["file"]),
    (None, -1, 0o1000, 1.5, True, "7", 1 << 70),
    (None, -1, CLOSED, -(1 << 40), 1 << 63, 0.5, True, "5"),
    (None, 7, "stamp", {}, [1.5], [True], [None], [[]], [1] * 4),
)  # for each field of a row, what it cannot be
BAD_ROWS = [json.dumps([*GOOD[:at], value, *GOOD[at + 1 :]]) for at, values in enumerate(BAD) for value in values]


@pytest.mark.parametrize(
    "row", ["no JSON", "[" * 100_000, "{}", "7", "[]", json.dumps(GOOD[:4]), json.dumps([*GOOD, 1]), *BAD_ROWS]
)
def test_what_is_no_entry_is_an_error_of_the_whole_listing(row: str) -> None:
    with pytest.raises(Nonsense):
        entries([json.dumps(GOOD), row], 2)
    with pytest.raises(Nonsense):
        asked("listing", '{"value": null}\n', row)


def test_names_may_hold_whatever_a_file_system_takes() -> None:
    names = ["a\nb", "\udcff", "c\\d", "\u2028", "...", " ", "\x7f", "x" * 255]
    assert list(entries([json.dumps([name, *GOOD[1:]]) for name in names], len(names))) == names


def test_a_folder_that_cannot_be_listed_may_be_the_workspace_itself() -> None:
    assert entries([json.dumps(["", "dir", 0, CLOSED, []])], 1) == {"": Entry("dir", 0, CLOSED, ())}


def test_the_same_path_twice_is_nonsense() -> None:
    with pytest.raises(Nonsense, match="twice"):
        entries([json.dumps(GOOD)] * 2, 2)


def test_more_entries_than_are_allowed_are_refused_in_words() -> None:
    with pytest.raises(PathRefused, match="2 files and folders in the workspace, 1 are allowed"):
        entries([json.dumps([name, *GOOD[1:]]) for name in "ab"], 1)


def test_an_answer_that_is_too_long_is_refused_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_ANSWER_CHARS", 100)
    with pytest.raises(PathRefused, match="the answer to listing has more than 100 characters"):
        asked("listing", '{"value": null}', "x" * 100)


def test_an_answer_of_which_a_part_is_missing_is_no_answer() -> None:
    done = Done(outcome="exited", code=0, stdout=Output(chars=100))
    with pytest.raises(Nonsense, match="of 100"):
        asked("listing", '{"value": null}', done=done)


@pytest.mark.parametrize("text", ["", "7", '"value"', "{}", "[]", '{"refused": 7}', "[" * 100_000, "\n{}"])
def test_what_is_neither_a_value_nor_a_refusal_is_nonsense(text: str) -> None:
    with pytest.raises(Nonsense):
        asked("pack", text)


def test_an_operation_that_failed_is_refused_in_words_and_a_lost_one_is_unanswered() -> None:
    with pytest.raises(PathRefused, match="the operation ended with timeout"):
        asked("pack", done=Done(outcome="timeout"))
    with pytest.raises(PathRefused, match="no room"):
        asked("pack", done=Done(outcome="refused", error="no room"))
    with pytest.raises(Unanswered):
        asked("pack", done=Done(outcome="lost"))


def test_many_rows_are_read_beside_the_loop_and_few_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[bool] = []

    def noting(lines: Sequence[str], max_entries: int) -> dict[str, Entry]:
        threads.append(threading.current_thread() is threading.main_thread())
        return entries(lines, max_entries)

    monkeypatch.setattr(operations, "entries", noting)
    lines = [f"\n{json.dumps([f'folder/file-{number}', *GOOD[1:]])}" for number in range(20_000)]
    assert len(asked("listing", '{"value": null}', "".join(lines))) == 20_000
    assert len(asked("listing", '{"value": null}', *lines[:10])) == 10
    assert threads == [False, True]


PIXEL = base64.b64encode(png(1, 1)).decode()


def test_a_view_shows_text_or_a_picture() -> None:
    assert asked("view", '{"value": ["text", null, null]}') == ("text", None)
    text, image = asked("view", json.dumps({"value": ["text", "image/png", PIXEL]}))
    assert (text, image.media_type, image.data) == ("text", "image/png", png(1, 1))


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("view", "text"),
        ("view", [7, None, None]),
        ("view", ["text", "image/png", "no base64!"]),
        ("view", ["text", "image/gif", PIXEL]),
        ("view", ["text", "image/png", base64.b64encode(png(1, 1)[:-4]).decode()]),
        ("view", ["text", "text/html", base64.b64encode(b"<script>").decode()]),
        ("view", ["text", None, PIXEL]),
        ("create_file", ["written", "../outside"]),
        ("create_file", ["written", "/etc/passwd"]),
        ("create_file", ["written", "half of a pair: \ud800"]),
        ("create_file", ["x" * 20_000, "file"]),
        ("create_file", ["written", "x" * 20_000]),
        ("str_replace", ["written", None]),
        ("str_replace", "written"),
        ("pack", None),
        ("skill", -1),
        ("skill", "5"),
        ("drop_skill", 0),
    ],
)
def test_a_value_of_another_shape_is_nonsense(operation: str, value: Any) -> None:
    with pytest.raises(Nonsense):
        asked(operation, json.dumps({"value": value}))
