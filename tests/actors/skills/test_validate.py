"""Judging skills as strictly as the specification."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.skills.validate import Verdict, validate_skill

Make = Callable[..., Path]

GOOD = "name: tide-table\ndescription: Looks up tides."
LONG = "x" * 1024


def judged(tmp_path: Path, header: str | bytes, *, folder: str = "tide-table", for_api: bool = False) -> Verdict:
    """The verdict on a skill whose front matter is this, between its delimiters."""
    root = tmp_path / folder
    root.mkdir()
    data = header if isinstance(header, bytes) else f"---\n{header}\n---\n\nBody\n".encode()
    (root / "SKILL.md").write_bytes(data)
    return validate_skill(root, for_api=for_api)


def codes(verdict: Verdict) -> list[str]:
    assert all(found.message and found.remedy and found.severity == "error" for found in verdict.errors)
    assert all(found.message and found.remedy and found.severity == "warning" for found in verdict.warnings)
    return [found.code for found in verdict.errors]


@pytest.mark.parametrize(
    "header",
    [
        GOOD,
        f"{GOOD}\nlicense: MIT\ncompatibility: Needs curl\nallowed-tools: Bash(git log:*) Read\nmetadata:\n  v: 1.10",
        f"{GOOD}\nlicense:",
        f"{GOOD}\nmetadata:",
        f"{GOOD}\nmetadata: {{author: harbour, version: '2'}}",
        f"{GOOD}\nmetadata:\n  author:\n  built: 2026-11-20\n  stable: true",
        f"{GOOD}\nallowed-tools: '*'",
        f"{GOOD}\nallowed-tools: Bash(a, b) Read",
        f"{GOOD}\ncompatibility: {'c' * 500}",
        f"name: tide-table\ndescription: {LONG}",
        f"name: tide-table\ndescription: |\n  {LONG}",
        f"name: tide-table\ndescription: |-\n  {LONG}",
        f"name: tide-table\ndescription: {chr(0x1F30A) * 1024}",
        "name: tide-table\ndescription: range 1---3",
        "name: tide-table\ndescription: null",
        'name: tide-table\ndescription: "a\\x07b"',
        'name: "tide-table "\ndescription: d',
        "name:\ttide-table\ndescription:\td",
        "name: tide-table\ndescription: a\u2028b\x85c",
        "name: tide-table\t\ndescription: d",
        "# a note\nname: tide-table # another\ndescription: d",
        "name: !!str tide-table\ndescription: !!str d\nmetadata: !!map\n  a: !!int 1",
        '{"name": "tide-table", "description": "d"}',
        b"\xef\xbb\xbf---\r\nname: tide-table\r\ndescription: d\r\n---\r\nBody\r\n",
        b"---\rname: tide-table\rdescription: d\r---\rBody\r",
        b"---  \nname: tide-table\ndescription: d\n---\t \nA\n---\nB\x00",
        b"---\nname: tide-table\ndescription: d\n---",
    ],
)
def test_what_the_specification_allows_is_valid(tmp_path: Path, header: str | bytes) -> None:
    verdict = judged(tmp_path, header)
    assert (codes(verdict), verdict.valid) == ([], True)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"", "no_front_matter"),
        (b" ---\nname: tide-table\ndescription: d\n---\n", "no_front_matter"),
        (b"---name: tide-table\ndescription: d\n---\n", "no_front_matter"),
        (b"Intro\n---\nname: tide-table\ndescription: d\n---\n", "no_front_matter"),
        (b"---\nname: tide-table\ndescription: d\n  ---\n", "front_matter_open"),
        (b"---\nname: tide-table\ndescription: d\n----\n", "front_matter_open"),
        (b"---\nname: tide-table\ndescription: \xff\n---\n", "not_utf8"),
        (GOOD.encode("utf-16"), "not_utf8"),
        ("", "yaml_not_mapping"),
        ("- name", "yaml_not_mapping"),
        ("description: d", "name_missing"),
        ("name: ''\ndescription: d", "name_missing"),
        ("name: [tide-table]\ndescription: d", "name_missing"),
        ("name: tide-table", "description_missing"),
        ("name: tide-table\ndescription:", "description_missing"),
        ("name: tide-table\ndescription: '  '", "description_missing"),
        ("name: tide-table\ndescription: [a]", "description_not_text"),
        (f"name: tide-table\ndescription: {LONG}x", "description_too_long"),
        (f"name: tide-table\ndescription: '{LONG} '", "description_too_long"),
        (f"{GOOD}\nlicense: [MIT]", "not_text"),
        (f"{GOOD}\ncompatibility:", "compatibility_empty"),
        (f"{GOOD}\ncompatibility: ''", "compatibility_empty"),
        (f"{GOOD}\ncompatibility: {'c' * 501}", "compatibility_too_long"),
        (f"{GOOD}\ncompatibility: {{os: linux}}", "not_text"),
        (f"{GOOD}\nmetadata: text", "metadata_not_map"),
        (f"{GOOD}\nmetadata: [a, b]", "metadata_not_map"),
        (f"{GOOD}\nmetadata: {{tags: [a]}}", "metadata_nested"),
        (f"{GOOD}\nallowed-tools: [Read]", "tools_list"),
        (f"{GOOD}\nallowed-tools: Read, Write", "tools_commas"),
        (f"{GOOD}\nallowed-tools: {{Read: yes}}", "not_text"),
        (f"{GOOD}\nallowed-tools: *", "yaml_syntax"),
        (f"{GOOD}\nversion: 1", "unknown_field"),
        (f"{GOOD}\n1: c", "unknown_field"),
        (f"{GOOD}\nname: tide-table", "duplicate_key"),
        (f"{GOOD}\nmetadata: {{a: b, a: c}}", "duplicate_key"),
        ("name: tide-table\ndescription: Use when: asked", "yaml_syntax"),
        ("name: tide-table\ndescription: `tide`", "yaml_syntax"),
        ('name: tide-table\ndescription: "open', "yaml_syntax"),
        (f"{GOOD}\nmetadata:\n\ta: b", "yaml_syntax"),
        ("name: tide-table\ndescription: a\x00b", "yaml_syntax"),
        ("name: &n tide-table\ndescription: *n", "yaml_alias"),
        ("name: &n tide-table\ndescription: d", "yaml_anchor"),
        ("name: ! tide-table\ndescription: d", "yaml_tag"),
        ('name: tide-table\ndescription: "C:\\Users"', "yaml_syntax"),
        (f"{GOOD}\nmetadata: &m {{self: *m}}", "yaml_alias"),
        (f"{GOOD}\nmetadata:\n  <<: {{a: b}}", "yaml_merge_key"),
        (f"{GOOD}\nmetadata: {{a: !!python/object/apply:os.system [id]}}", "yaml_tag"),
        (f"{GOOD}\nmetadata: !!set {{a, b}}", "yaml_tag"),
        ("name: !!seq tide-table\ndescription: d", "yaml_tag"),
        (f"? [a, b]\n: c\n{GOOD}", "yaml_key"),
        (f"{GOOD}\nmetadata: {{a: {'[' * 400}{']' * 400}}}", "yaml_too_deep"),
    ],
)
def test_what_the_specification_does_not_allow_is_an_error(tmp_path: Path, header: str | bytes, code: str) -> None:
    verdict = judged(tmp_path, header)
    assert codes(verdict) == [code]
    assert not verdict.valid


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tide-table", []),
        ("a", []),
        ("007", []),
        ("true", []),
        ("claude-tides", []),
        ("a" * 64, []),
        ("\u6f6e\u6c50\u8868", []),
        ("stra\u00dfe", []),
        ("k\u0131y\u0131", []),
        ("\u05d2\u05d0\u05d5\u05ea", []),
        ("a" * 65, ["name_too_long"]),
        ("Tide", ["name_case"]),
        ("\u0422\u0410\u0411", ["name_case"]),
        ("\u01c5ep", ["name_case", "name_folder"]),
        ("-tide", ["name_hyphens"]),
        ("tide-", ["name_hyphens"]),
        ("tide--table", ["name_hyphens"]),
        ("tide_table", ["name_characters"]),
        ("tide table", ["name_characters"]),
        ("tide.table", ["name_characters"]),
        ("tide\u200dtable", ["name_characters"]),
        ("tide\u2011table", ["name_characters"]),
        ("tide-\U0001f30a", ["name_characters"]),
        ("\u0e19\u0e49\u0e33", ["name_characters"]),
    ],
)
def test_names_are_judged_character_by_character(tmp_path: Path, name: str, wrong: list[str]) -> None:
    folder = unicodedata.normalize("NFKC", name) if wrong != ["name_case", "name_folder"] else "other"
    verdict = judged(tmp_path, f"name: '{name}'\ndescription: d", folder=folder)
    assert codes(verdict) == wrong


@pytest.mark.parametrize("folder", ["tide-tables", "tide-table ", "Tide-Table", ".tide-table", "tide\u2011table"])
def test_name_and_folder_must_agree(tmp_path: Path, folder: str) -> None:
    assert codes(judged(tmp_path, GOOD, folder=folder)) == ["name_folder"]


@pytest.mark.parametrize(
    ("name", "folder"), [("mar\u00e9e", "mare\u0301e"), ("\ufb01sh", "fish"), ("step-\u2460", "step-1")]
)
def test_name_and_folder_are_compared_in_nfkc(tmp_path: Path, name: str, folder: str) -> None:
    assert codes(judged(tmp_path, f"name: {name}\ndescription: d", folder=folder)) == []


def test_all_errors_are_reported_with_their_lines(tmp_path: Path) -> None:
    verdict = judged(tmp_path, "name: Tide\nversion: 1\nlicense: [a]\nallowed-tools: [b]")
    found = {error.code: error.line for error in verdict.errors}
    assert found == {
        "unknown_field": 3,
        "name_case": 2,
        "name_folder": 2,
        "description_missing": None,
        "not_text": 4,
        "tools_list": 5,
    }


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("name: claude-tides\ndescription: d", "name_reserved"),
        ("name: my-anthropic-tides\ndescription: d", "name_reserved"),
        ("name: \u6f6e\u6c50\ndescription: d", "name_not_ascii"),
        ("name: tides\ndescription: Prints <b>tides</b>.", "xml_tag"),
    ],
)
def test_what_only_the_skills_api_refuses_is_an_error_for_it_alone(tmp_path: Path, header: str, code: str) -> None:
    folder = header.split()[1]
    assert codes(judged(tmp_path, header, folder=folder)) == []
    assert codes(validate_skill(tmp_path / folder, for_api=True)) == [code]


def test_comparisons_are_no_tags(tmp_path: Path) -> None:
    assert codes(judged(tmp_path, "name: tide-table\ndescription: a < b and b > c", for_api=True)) == []


def test_folder_too_large_to_upload_is_an_error_for_the_api_only(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    with (folder / "chart.bin").open("wb") as file:
        file.truncate(30_000_001)
    assert validate_skill(folder).valid
    assert codes(validate_skill(folder, for_api=True)) == ["upload_too_large"]


def test_what_the_loader_says_is_added_as_warnings(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides", extra="allowed-tools: Teleport")
    (folder / "leak").symlink_to("/etc/passwd")
    verdict = validate_skill(folder)
    assert codes(verdict) == []
    assert [found.code for found in verdict.warnings] == ["unknown_tool", "link_leaves_root"]


def test_skill_that_is_valid_and_yet_not_loaded_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "store.md").write_text(f"---\n{GOOD}\n---\n")
    folder = tmp_path / "tide-table"
    folder.mkdir()
    (folder / "SKILL.md").symlink_to("../store.md")
    verdict = validate_skill(folder)
    assert codes(verdict) == []
    assert "the daemon does not load this skill" in verdict.warnings[0].message


# paths


def test_wrong_paths_are_failures(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    found = {name: codes(validate_skill(tmp_path / name)) for name in ("nowhere", "empty", "file.txt", "loop", "a\0b")}
    assert found == {
        "nowhere": ["path_missing"],
        "empty": ["no_skill_file"],
        "file.txt": ["not_a_folder"],
        "loop": ["unreadable"],
        "a\0b": ["unreadable"],
    }


def test_remedy_for_a_wrong_path_is_not_to_change_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    found = [validate_skill(tmp_path / path).errors[0] for path in ("file.txt/tides", "x" * 300, "loop", "a\0b")]
    assert [error.code for error in found] == ["path_missing", "path_missing", "unreadable", "unreadable"]
    assert not [error for error in found if "Allow" in error.remedy]


def test_the_folder_may_be_named_in_any_way(tmp_path: Path, make_skill: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_skill(tmp_path / "tides")
    monkeypatch.chdir(folder)
    for path in (folder, folder / "SKILL.md", Path("."), Path("SKILL.md"), Path("../tides"), Path("x/..")):
        (folder / "x").mkdir(exist_ok=True)
        assert codes(validate_skill(path)) == [], path


def test_a_linked_folder_is_judged_by_the_name_of_the_link(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "store/tides")
    (tmp_path / "tides").symlink_to("store/tides")
    (tmp_path / "other").symlink_to("store/tides")
    assert codes(validate_skill(tmp_path / "tides")) == []
    assert codes(validate_skill(tmp_path / "other")) == ["name_folder"]


def test_the_file_must_be_named_in_capitals(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    (folder / "SKILL.md").rename(folder / "skill.md")
    assert codes(validate_skill(folder)) == ["skill_file_case"]
    assert codes(validate_skill(folder / "skill.md")) == ["skill_file_case"]


def test_capitals_win_over_small_letters(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    add_file(folder, "skill.md", "nothing")
    assert codes(validate_skill(folder)) == []


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    for name in ("pipe", "folder", "zero", "dangling", "secret"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe/SKILL.md")
    (tmp_path / "folder/SKILL.md").mkdir()
    (tmp_path / "zero/SKILL.md").symlink_to("/dev/zero")
    (tmp_path / "dangling/SKILL.md").symlink_to("nowhere")
    (tmp_path / "secret/SKILL.md").write_text("---\nname: secret\ndescription: d\n---\n")
    (tmp_path / "secret/SKILL.md").chmod(0)
    found = {name: codes(validate_skill(tmp_path / name)) for name in ("pipe", "folder", "zero", "dangling", "secret")}
    assert found == {
        "pipe": ["not_regular"],
        "folder": ["not_regular"],
        "zero": ["not_regular"],
        "dangling": ["unreadable"],
        "secret": ["unreadable"],
    }


# sizes


def test_the_specification_has_no_limit_of_size(tmp_path: Path) -> None:
    verdict = judged(tmp_path, f"---\n{GOOD}\nmetadata:\n  blob: {'x' * 5_000_000}\n---\n{'line' * 4_000_000}".encode())
    assert codes(verdict) == []
    assert verdict.warnings


def test_files_beyond_any_reason_are_errors(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    os.truncate(folder / "SKILL.md", 64 * 1024 * 1024 + 1)
    assert codes(validate_skill(folder)) == ["file_too_large"]


@pytest.mark.parametrize(
    "header",
    [
        f"{GOOD}\nallowed-tools: {',' * 60_000}",
        f"{GOOD}\nallowed-tools: {'a(' * 30_000}",
        "name: tide-table\ndescription: " + "a: " * 20_000,
        "name: tide-table\n" + "description: <a\n" * 4_000,
        f"{GOOD}\nmetadata: " + "{a: " * 15_000,
        "x: " + "- " * 30_000,
        "x: [" + "a, " * 20_000,
        "x: " + "'" * 60_000,
        "\n" * 60_000 + GOOD,
        "a: b: c\n" * 8_000,
    ],
)
def test_text_made_to_be_slow_is_judged_quickly(tmp_path: Path, header: str) -> None:
    started_s = time.perf_counter()
    judged(tmp_path, header, for_api=True)
    assert time.perf_counter() - started_s < 10  # usually below 0.3 s; what is quadratic takes minutes
