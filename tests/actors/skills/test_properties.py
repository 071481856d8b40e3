"""Whatever lies on disk: no exception escapes, nothing outside a skill is read, what is loaded can be shown.

The checks are those that the fuzzer makes; here hypothesis looks for counterexamples in texts made of what front
matters, zip files and paths are made of.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skill_actors.skills.front_matter import read_front_matter
from skill_checks import OUTSIDE, SECRET, check_front_matter, check_package, check_skill, check_tree

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(QUICK, max_examples=5_000)

PIECES = [
    *("\n", "\n", "\n", "\r\n", "\r", " ", "  ", "\t", ": ", ":\t", "- ", "? ", ", ", "# ", ":", "---", "..."),
    *("[", "]", "{", "}", '"', "'", "|", ">", "|-", ">+2", "*a", "&a ", "<<", "!!str ", "!!set ", "!x ", "!!null "),
    *("%", "`", "@", "null", "~", "true", "1.10", "2026-11-20", "tides", "Tides", "d", "Read", "Bash(git:*)"),
    *("name", "description", "license", "compatibility", "metadata", "allowed-tools", "version"),
    *("\\u202e", "\\uD83C", "\\0", "\\", "\0", "\x07", "\x7f", "\x85", "\u2028", "\u202e", "\u200b", "\ufeff"),
    *("\U000e0041", "\U0001f30a", "\ufb01", "\u6f6e", "x" * 70),
]
LINES = [
    *("name: tides\n", "description: d\n", "description: Use when: asked\n", "metadata:\n", "  a: b\n", "\tc: d\n"),
    *("allowed-tools: Read, Write\n", "license: [MIT]\n", "description: |\n  a\n  b\n", "name: &n tides\n", "x: *n\n"),
]
TEXTS = st.lists(st.sampled_from(PIECES + LINES) | st.text(max_size=3), max_size=30).map("".join)
SHORT_TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), min_size=1, max_size=6).map("".join)
VALUES = st.one_of(
    SHORT_TEXTS,
    SHORT_TEXTS.map(lambda text: '"' + text.replace('"', "").replace("\n", "") + '"'),
    st.text(min_size=1, max_size=6).map(json.dumps),
    st.sampled_from(
        ["&n tides", "*n", "[a, {b: *n}]", "a/b", "'</x>'", '"a\\u202eb"', "{<<: {a: b}}", "&n {self: *n}"]
    ),
)
FIELDS = st.sampled_from(["name", "description", "license", "compatibility", "metadata", "allowed-tools", "x"])
ENTRIES = st.lists(st.tuples(FIELDS, VALUES).map(lambda entry: f"{entry[0]}: {entry[1]}\n"), max_size=4).map("".join)
FILES = st.one_of(
    VALUES.map(lambda value: f"---\nname: tides\ndescription: {value}\n---\n".encode()),
    ENTRIES.map(lambda text: f"---\nname: tides\ndescription: d\n{text}---\n".encode()),
    st.tuples(VALUES, VALUES).map(lambda pair: f"---\nname: {pair[0]}\ndescription: {pair[1]}\n---\n".encode()),
    st.binary(max_size=200),
    TEXTS.map(str.encode),
    st.tuples(TEXTS, TEXTS).map(lambda parts: f"---\n{parts[0]}\n---\n{parts[1]}".encode()),
    TEXTS.map(lambda text: f"---\nname: tides\ndescription: d\n{text}\n---\n".encode()),
)

PARTS = st.sampled_from(
    ["..", ".", "", "a", "b", "real.md", "pipe", "SKILL.md", "skill.md", "scripts", ".git", "\xe9", "x" * 300]
)
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
TARGETS = st.one_of(
    PATHS,
    PATHS.map("/".__add__),
    st.sampled_from(
        [f"../{path}" for path in OUTSIDE] + ["../other", "/", "/dev/zero", "/proc/self/root", "/etc/passwd"]
    ),
)
NAMES = st.one_of(
    PATHS,
    PATHS.map("tides/".__add__),
    st.sampled_from(["tides/SKILL.md", "tides/", "/etc/x", "C:\\x", "a\\b", "tides/\0", "../x"]),
    st.text(max_size=5),
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@st.composite
def packages(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """Zip files with odd names, modes and flags, perhaps with a few bytes of them changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ["tides/SKILL.md", *draw(st.lists(NAMES, max_size=5))]:
            info = zipfile.ZipInfo("x")
            info.filename = name.encode("utf-8", "replace").decode()
            info.compress_type = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA]))
            info.external_attr = (
                draw(st.sampled_from([0, 0o100644, 0o100755, 0o40755, 0o120777, 0o10644, 0o20644])) << 16
            )
            archive.writestr(info, draw(st.sampled_from([b"", SECRET, b"0" * 100_000, b"---\nname: tides\n---\n"])))
    data = bytearray(buffer.getvalue())
    for position, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
        data[position] = value
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


def _packages_hold(data: bytes) -> None:
    with folder() as top:
        check_package(data, top)


def _files_hold(data: bytes) -> None:
    check_front_matter(data)
    with folder() as top:
        check_skill(data, top)


def _trees_hold(links: list[tuple[str, str]]) -> None:
    with folder() as top:
        check_tree(links, top)


LINKS = st.lists(st.tuples(PATHS, TARGETS), max_size=6)


@pytest.mark.parametrize("way", ["../x", "{outside}/x", "out/through", "out/deep/x", "far/through", "a/../../x", "."])
def test_the_check_of_links_makes_none_outside_of_its_folder(tmp_path: Path, way: str) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    outside.mkdir()
    top.mkdir()
    (outside / "through").write_text("kept")
    links = [("out", "../../outside"), ("far", str(outside)), (way.format(outside=outside), "made")]
    check_tree(links, top)
    assert (os.listdir(outside), (outside / "through").read_text()) == (["through"], "kept")
    assert sorted(os.listdir(top)) == ["other", "secret.txt", "tides"]


@settings(QUICK, max_examples=400)
@given(FILES)
def test_any_file_is_read_or_refused(data: bytes) -> None:
    _files_hold(data)


@QUICK
@given(LINKS)
def test_nothing_that_links_lead_to_outside_is_taken(links: list[tuple[str, str]]) -> None:
    _trees_hold(links)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@QUICK
@given(packages())
def test_any_package_is_unpacked_below_its_target_or_refused(data: bytes) -> None:
    _packages_hold(data)


@QUICK
@given(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1).filter(lambda text: text[0].isalpha()),
    st.sampled_from([": ", " [", " {", " 'n ", ' "n ', " `", " @", " %", " *", " &", " !", " |"]),
)
def test_text_on_one_line_is_read_as_it_was_meant(text: str, between: str) -> None:
    """Authors write sentences without quotes; ` #` alone ends a sentence, as in all YAML."""
    text = f"{text}{between}x".replace("#", "")
    meant = text.strip()
    front = read_front_matter(f"---\nname: tides\ndescription: {text}\n---\n".encode())
    assert front.values["description"] == meant
    assert front.lines["description"] == 3


@pytest.mark.deep
@LONG
@given(FILES)
def test_thousands_of_files_are_read_or_refused(data: bytes) -> None:
    _files_hold(data)


@pytest.mark.deep
@LONG
@given(LINKS)
def test_thousands_of_trees_of_links_give_nothing_away(links: list[tuple[str, str]]) -> None:
    _trees_hold(links)


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore:Duplicate name")
@LONG
@given(packages())
def test_thousands_of_packages_are_unpacked_or_refused(data: bytes) -> None:
    _packages_hold(data)
