from __future__ import annotations

import json
import os

import pytest
import trio

from skilld.mcp.lines import LineReader, LineWriter


def read_all(data: bytes, *, max_line_bytes: int = 1000) -> list[str]:
    """The lines of a pipe that holds these bytes and is closed."""
    incoming, outgoing = os.pipe()
    os.write(outgoing, data)
    os.close(outgoing)

    async def main() -> list[str]:
        return [line async for line in LineReader(incoming, max_line_bytes=max_line_bytes)]

    try:
        return trio.run(main)
    finally:
        os.close(incoming)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one\n", "two\n"]),
        (b"one\nleft", ["one\n", "left"]),
        (b"\n\n", ["\n", "\n"]),
        (b"\xff\n", ["\N{REPLACEMENT CHARACTER}\n"]),
    ],
)
def test_lines_come_whole_and_the_last_one_without_its_end(data: bytes, lines: list[str]) -> None:
    assert read_all(data) == lines


def test_a_line_that_is_too_long_is_an_empty_one_and_the_next_comes_whole() -> None:
    assert read_all(b"x" * 50 + b"\nnext\n", max_line_bytes=20) == ["\n", "next\n"]


def test_half_a_surrogate_pair_is_replaced_where_the_line_is_json() -> None:
    (line,) = read_all(b'{"a": "\\ud800"}\n')
    assert json.loads(line) == {"a": "?"}
    assert read_all(b"no json \\ud800\n") == ["no json \\ud800\n"]


def test_a_whole_pair_stays_what_it_is() -> None:
    (line,) = read_all(b'{"a": "\\ud83d\\ude00"}\n')
    assert json.loads(line) == {"a": "\N{GRINNING FACE}"}


async def written_to_nobody() -> None:
    incoming, outgoing = os.pipe()
    os.close(incoming)
    try:
        await LineWriter(outgoing).write("x")
    finally:
        os.close(outgoing)


def test_writing_to_nobody_says_so() -> None:
    with pytest.raises(BrokenPipeError):
        trio.run(written_to_nobody)
