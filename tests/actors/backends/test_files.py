"""view, create_file and str_replace on real folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skill_actors.backends import files
from skill_actors.backends.paths import PathRefused
from skill_actors.backends.tools import CreateFile, StrReplace, View


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def view(
    root: Path, path: str = "file", first: int | None = None, last: int | None = None, max_chars: int = 30_000
) -> str:
    return files.view(View(path=path, first=first, last=last), workspace=str(root), readable=(), max_chars=max_chars)


def replace(root: Path, old: str, new: str = "", path: str = "file") -> files.Written:
    return files.str_replace(StrReplace(path=path, old_str=old, new_str=new), workspace=str(root))


@pytest.mark.parametrize(
    ("content", "first", "last", "shown"),
    [
        (b"one\ntwo\n", None, None, "     1\tone\n     2\ttwo\n"),
        (b"one\ntwo", None, None, "     1\tone\n     2\ttwo\n"),
        (b"one\ntwo\nthree\n", 2, 2, "     2\ttwo\n"),
        (b"one\ntwo\nthree\n", 2, None, "     2\ttwo\n     3\tthree\n"),
        (b"one\ntwo\nthree\n", 3, 99, "     3\tthree\n"),
        (b"\n\n", None, None, "     1\t\n     2\t\n"),
        (b"one\r\ntwo\r\n", None, None, "     1\tone\r\n     2\ttwo\r\n"),
        (b"caf\xe9 \xff\n", None, None, "     1\tcaf\ufffd \ufffd\n"),
        (b"", None, None, "(the file is empty)"),
    ],
)
def test_a_file_is_shown_with_its_own_line_numbers(
    root: Path, content: bytes, first: int | None, last: int | None, shown: str
) -> None:
    (root / "file").write_bytes(content)
    assert view(root, first=first, last=last) == shown


def test_a_range_beyond_the_end_is_refused_with_the_number_of_lines(root: Path) -> None:
    (root / "file").write_text("one\ntwo\n")
    with pytest.raises(PathRefused, match="has 2 lines; view_range begins at line 3"):
        view(root, first=3)


def test_a_big_file_is_cut_with_a_note_that_names_all_its_lines(root: Path) -> None:
    (root / "file").write_text("".join(f"line {number}\n" for number in range(1, 10_001)))
    shown = view(root, max_chars=2_000)
    assert len(shown) <= 2_000
    assert shown.startswith("     1\tline 1\n")
    last = shown.splitlines()[-2].split("\t")[0].strip()
    assert shown.endswith(f"[lines 1-{last} of 10000 shown; view_range shows others]")
    assert view(root, first=9_999, max_chars=2_000) == "  9999\tline 9999\n 10000\tline 10000\n"


def test_a_line_that_never_ends_is_cut(root: Path) -> None:
    (root / "file").write_text("é" * 5_000_000)
    shown = view(root, max_chars=1_000)
    assert len(shown) <= 1_000
    note = "line 1 is cut, and bash_tool shows more of it, with cut -c; view_range shows others]"
    assert shown.endswith(f"\n[lines 1-1 of 1 shown; {note}")


def test_a_binary_file_is_described(root: Path) -> None:
    (root / "file").write_bytes(b"\x7fELF\0" + bytes(300))
    shown = view(root)
    assert shown.startswith("binary file, 305 bytes; it begins with\n00000000  7f 45 4c 46 00")
    assert len(shown.splitlines()) == 18
    assert shown.endswith("\n[rows 1-16 of 20 shown, each of 16 bytes; view_range shows others]")


def test_any_part_of_a_binary_file_can_be_seen_however_large_it_is(root: Path) -> None:
    with open(root / "file", "wb") as file:
        file.write(b"\0")
        file.seek(100 << 20)
        file.write(b"the end")
    shown = view(root, first=(100 << 20) // 16, last=None, max_chars=2_000)
    assert shown.splitlines()[-2] == "06400000  74 68 65 20 65 6e 64"
    assert len(view(root, first=1, last=None, max_chars=2_000)) <= 2_000
    with pytest.raises(PathRefused, match="has 6553601 rows of 16 bytes; view_range begins at row 6553602"):
        view(root, first=(100 << 20) // 16 + 2)


def test_any_part_of_a_text_of_a_hundred_megabytes_can_be_seen(root: Path) -> None:
    line = "x" * 99 + "\n"
    with open(root / "file", "w") as file:
        for _ in range(1_000):
            file.write(line * 1_048)
    shown = view(root, first=1_000_000, last=1_000_001, max_chars=2_000)
    assert shown.splitlines() == [f"{number:6d}\t{'x' * 99}" for number in (1_000_000, 1_000_001)]


def test_a_folder_is_listed_two_levels_deep_and_sorted(root: Path) -> None:
    (root / "b" / "deep" / "deeper").mkdir(parents=True)
    (root / "b" / "deep" / "not-shown").touch()
    (root / "b" / "file").touch()
    (root / ".hidden").touch()
    (root / "a-link").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    (root / "line\nbreak").touch()
    os.mkdir(os.fsencode(root) + b"/\xff")
    assert view(root, ".").splitlines() == [
        ".: folder, two levels deep",
        "file\t.hidden",
        "link\ta-link -> /etc",
        "dir\tb/",
        "dir\tb/deep/",
        "file\tb/file",
        "file\tline\\nbreak",
        "other\tpipe",
        "dir\t\ufffd/",
    ]


def test_an_empty_folder_says_so_and_a_range_is_refused(root: Path) -> None:
    assert view(root, ".") == ".: folder, two levels deep\n(the folder is empty)"
    with pytest.raises(PathRefused, match="view_range is for files"):
        view(root, ".", first=1)


def test_a_huge_folder_is_cut(root: Path) -> None:
    for number in range(1_200):
        (root / f"{number:04d}").touch()
    shown = view(root, ".")
    assert "file\t0999" in shown
    assert "file\t1100" not in shown
    assert shown.endswith("[there is more; view a folder below this one, or use bash_tool with find]")
    assert len(view(root, ".", max_chars=500)) <= 500


def test_a_new_file_gets_its_folders_and_exactly_its_bytes(root: Path) -> None:
    written = files.create_file(CreateFile(path="a/b/c", file_text="é\r\nno end"), workspace=str(root))
    assert (written.path, written.message) == ("a/b/c", "a/b/c: created, 10 bytes")
    assert (root / "a/b/c").read_bytes() == "é\r\nno end".encode()
    assert os.listdir(root / "a/b") == ["c"]


def test_overwriting_is_said_and_keeps_the_mode(root: Path) -> None:
    (root / "file").write_text("old")
    (root / "file").chmod(0o750)
    written = files.create_file(CreateFile(path="file", file_text="newer"), workspace=str(root))
    assert written.message == "file: overwritten (it had 3 bytes), 5 bytes"
    assert (root / "file").stat().st_mode & 0o777 == 0o750


def test_a_link_inside_the_workspace_is_written_through(root: Path) -> None:
    (root / "real").write_text("old")
    (root / "link").symlink_to("real")
    assert files.create_file(CreateFile(path="link", file_text="new"), workspace=str(root)).path == "real"
    assert (root / "link").is_symlink()
    assert (root / "real").read_text() == "new"


@pytest.mark.parametrize("path", ["folder", ".", "pipe", "file/below"])
def test_what_is_no_file_is_not_written(root: Path, path: str) -> None:
    (root / "folder").mkdir()
    (root / "file").touch()
    os.mkfifo(root / "pipe")
    with pytest.raises(PathRefused):
        files.create_file(CreateFile(path=path, file_text="x"), workspace=str(root))
    assert sorted(os.listdir(root)) == ["file", "folder", "pipe"]


def test_the_only_occurrence_is_replaced_or_deleted(root: Path) -> None:
    (root / "file").write_bytes(b"a\xff\nold \\1\r\nz")
    assert replace(root, "old \\1\r\n", "\\g<0>$&\n").message == "file: replaced the text at line 2"
    assert (root / "file").read_bytes() == b"a\xff\n\\g<0>$&\nz"
    replace(root, "\nz")
    assert (root / "file").read_bytes() == b"a\xff\n\\g<0>$&"


def test_no_occurrence_and_several_are_refused_with_their_lines(root: Path) -> None:
    (root / "file").write_text("x\naa\nx\nbb aaa\n")
    with pytest.raises(PathRefused, match="does not occur"):
        replace(root, "y", "z")
    with pytest.raises(PathRefused, match="occurs 2 times, at lines 1, 3; add text"):
        replace(root, "x", "z")
    with pytest.raises(PathRefused, match="occurs 3 times, at lines 2, 4, 4"):
        replace(root, "aa", "z")
    with pytest.raises(PathRefused, match="none does not exist"):
        replace(root, "x", path="none")
    assert (root / "file").read_text() == "x\naa\nx\nbb aaa\n"


def test_very_many_occurrences_name_the_first_lines_only(root: Path) -> None:
    (root / "file").write_text("x\n" * 1_000)
    with pytest.raises(PathRefused, match=r"occurs 1000 times, at lines 1, 2"):
        replace(root, "x", "y")
    (root / "file").write_text("x\n" * 8_000_000)  # to count them all would take seconds
    with pytest.raises(
        PathRefused, match=r"occurs more than 1000 times, at lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.;"
    ):
        replace(root, "x", "y")
