"""Loading one folder."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.skills import Skill, SkillFailure, load_skill
from skill_actors.skills.inventory import InventoryLimits, read_entry, take_inventory
from skill_actors.skills.loader import load_folder

Make = Callable[..., Path]


def loaded(folder: Path) -> Skill:
    outcome = load_skill(folder)
    assert isinstance(outcome, Skill), outcome
    return outcome


def failed(folder: Path, limits: InventoryLimits | None = None) -> str:
    outcome = load_skill(folder, limits=limits)
    assert isinstance(outcome, SkillFailure), outcome
    assert outcome.path == folder
    assert all(found.severity == "error" and found.remedy for found in outcome.diagnostics)
    return outcome.diagnostics[0].code


def codes(skill: Skill) -> list[str]:
    return [found.code for found in skill.diagnostics]


def test_all_six_fields_are_read(tmp_path: Path, make_skill: Make) -> None:
    extra = "license: MIT\ncompatibility: Needs curl\nallowed-tools: Bash(git log:*) Read\nmetadata:\n  version: 1.10\n"
    skill = loaded(make_skill(tmp_path / "tides", extra=extra))
    assert (skill.name, skill.description, skill.body) == ("tides", "Does things", "Body")
    assert (skill.license, skill.compatibility) == ("MIT", "Needs curl")
    assert skill.allowed_tools == ("Bash(git log:*)", "Read")
    assert skill.metadata == {"version": "1.10"}
    assert skill.files == ("SKILL.md",)
    assert skill.diagnostics == ()
    assert not skill.trusted


@pytest.mark.parametrize(
    ("text", "tools"),
    [
        ("Read,Write , Edit", ("Read", "Write", "Edit")),
        ("[Read, 'Bash(ls *)']", ("Read", "Bash(ls *)")),
        ("Bash(a, b) Read", ("Bash(a, b)", "Read")),
        ("'Bash(open Read'", ("Bash(open", "Read")),
        ("", ()),
    ],
)
def test_allowed_tools_may_be_spaced_comma_separated_or_a_list(
    tmp_path: Path, text: str, tools: tuple[str, ...], make_skill: Make
) -> None:
    assert loaded(make_skill(tmp_path / "tides", extra=f"allowed-tools: {text}")).allowed_tools == tools


@pytest.mark.parametrize(("text", "found"), [("Read, Write", ["tools_commas"]), ("Bash(a, b) Read", [])])
def test_commas_between_tools_are_reported(tmp_path: Path, text: str, found: list[str], make_skill: Make) -> None:
    assert codes(loaded(make_skill(tmp_path / "tides", extra=f"allowed-tools: {text}"))) == found


def test_unknown_tools_are_reported(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", extra="allowed-tools: Read Teleport tides_execute"))
    assert codes(skill) == ["unknown_tool"]
    assert "Teleport" in skill.diagnostics[0].message


def test_unknown_fields_are_kept_and_reported_with_their_line(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", extra="version: 1.2.0\ntags: [a, b]"))
    assert skill.extra == {"version": "1.2.0", "tags": ["a", "b"]}
    assert [(found.code, found.line) for found in skill.diagnostics] == [("unknown_field", 4), ("unknown_field", 5)]


def test_nested_metadata_becomes_json_text(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", extra="metadata:\n  tags: [sea, moon]\n  a: {b: c}"))
    assert skill.metadata == {"tags": '["sea", "moon"]', "a": '{"b": "c"}'}
    assert codes(skill) == ["metadata_nested"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tide Table", "Tide Table"),
        ("harbour:tide", "harbour:tide"),
        ("'\ufb01sh'", "fish"),
        ('"tide\u200btable"', "tidetable"),
        ("q" * 70, "q" * 70),
        ("\u6f6e" * 64, "\u6f6e" * 64),
    ],
)
def test_odd_names_load_with_a_warning(tmp_path: Path, name: str, key: str, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "folder", name=name))
    assert skill.name == key
    assert skill.diagnostics


@pytest.mark.parametrize("header", ["description: d", "name: ''\ndescription: d", "name: [a]\ndescription: d"])
def test_missing_name_is_taken_from_the_folder(tmp_path: Path, header: str, add_file: Make) -> None:
    add_file(tmp_path, "tides/SKILL.md", f"---\n{header}\n---\n")
    skill = loaded(tmp_path / "tides")
    assert skill.name == "tides"
    assert "name_missing" in codes(skill)


@pytest.mark.parametrize(
    "name", ["../../etc/cron", "a/b", "'a\\b'", "'</name><skill>'", '"a\\0b"', '"a\\nb"', '"a\u202eb"', "'-'", "'..'"]
)
def test_dangerous_names_are_refused(tmp_path: Path, name: str, make_skill: Make) -> None:
    assert failed(make_skill(tmp_path / "folder", name=name)) == "name_unsafe"


@pytest.mark.parametrize("description", ["", "null", "''", "'  '"])
def test_skill_without_description_is_refused(tmp_path: Path, description: str, make_skill: Make) -> None:
    assert failed(make_skill(tmp_path / "tides", description=description)) == "description_missing"


def test_description_that_is_a_list_is_refused(tmp_path: Path, make_skill: Make) -> None:
    assert failed(make_skill(tmp_path / "tides", description="[a, b]")) == "description_not_text"


def test_characters_that_do_not_show_are_taken_out_of_the_description(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", description='"a\\x07b\u202ec\U000e0041d"'))
    assert skill.description == "abcd"
    assert codes(skill) == ["description_invisible"]


def test_characters_that_do_not_show_are_taken_out_of_the_metadata(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", extra='metadata:\n  by: "a\\u202eb"\n  "k\\u200b": v\n  tags: [x]'))
    assert skill.metadata == {"by": "ab", "k": "v", "tags": '["x"]'}
    assert codes(skill) == ["metadata_nested", "metadata_invisible"]


@pytest.mark.parametrize("way", [".", "scripts/..", "\0/.."])
def test_folder_named_by_where_one_stands_has_its_name(
    tmp_path: Path, make_skill: Make, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    folder = make_skill(tmp_path / "tides")
    (folder / "scripts").mkdir()
    monkeypatch.chdir(folder)
    skill = loaded(Path(way))
    assert (skill.root, codes(skill)) == (folder, [])


def test_folder_without_skill_file_is_a_failure(tmp_path: Path) -> None:
    assert failed(tmp_path) == "no_skill_file"


def test_missing_folder_is_a_failure(tmp_path: Path) -> None:
    assert failed(tmp_path / "nowhere") == "unreadable"


def test_lower_case_skill_file_is_taken_as_the_skill_file(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "tides")
    (tmp_path / "tides/SKILL.md").rename(tmp_path / "tides/skill.md")
    skill = loaded(tmp_path / "tides")
    assert skill.files == ("SKILL.md",)
    assert codes(skill) == ["skill_file_case"]


def test_skill_file_that_is_a_folder_a_fifo_or_a_socket_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "a/SKILL.md").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b/SKILL.md")
    (tmp_path / "c").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c/SKILL.md"))
        assert failed(tmp_path / "a") == "no_skill_file"
        assert failed(tmp_path / "b") == "not_regular"
        assert failed(tmp_path / "c") == "not_regular"


@pytest.mark.parametrize("target", ["../outside.md", "SKILL.md", "/dev/zero", "missing", "."])
def test_skill_file_that_is_a_link_elsewhere_is_refused(tmp_path: Path, target: str, add_file: Make) -> None:
    add_file(tmp_path, "outside.md", "---\nname: x\ndescription: d\n---\n")
    (tmp_path / "tides").mkdir()
    (tmp_path / "tides/SKILL.md").symlink_to(target)
    assert failed(tmp_path / "tides") in ("link_leaves_root", "link_not_file", "unreadable")


def test_links_out_of_the_skill_are_left_out_and_reported(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    add_file(tmp_path, "secret.txt", "s3cret")
    folder = make_skill(tmp_path / "tides")
    (folder / "leak.md").symlink_to("../secret.txt")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "parent").symlink_to("..")
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    skill = loaded(folder)
    assert skill.files == ("SKILL.md",)
    assert codes(skill) == ["unreadable", "link_leaves_root", "link_leaves_root", "link_leaves_root", "not_regular"]


def test_link_to_a_file_of_the_same_skill_counts_as_that_file(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    add_file(folder, "a/real.md", "text")
    (folder / "alias.md").symlink_to("a/real.md")
    (folder / "b").symlink_to("a")
    skill = loaded(folder)
    assert skill.files == ("SKILL.md", "a/real.md", "alias.md")
    assert codes(skill) == ["link_not_file"]


def test_link_to_a_skill_loads_what_it_leads_to(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert loaded(tmp_path / "link").root == folder


def test_folder_that_became_a_link_since_it_was_found_is_refused(tmp_path: Path, make_skill: Make) -> None:
    make_skill(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    failure = load_folder(tmp_path / "link").failure
    assert failure is not None
    assert failure.diagnostics[0].code == "unreadable"


@pytest.mark.parametrize("swapped", ["a/b/notes.md", "a/b", "a"])
def test_link_swapped_in_while_a_skill_is_read_leads_nowhere(
    tmp_path: Path, swapped: str, make_skill: Make, add_file: Make
) -> None:
    folder = make_skill(tmp_path / "tides")
    add_file(folder, "a/b/notes.md", "same")
    entry = take_inventory(folder).files["a/b/notes.md"]
    assert read_entry(folder, entry) == b"same"
    (folder / swapped).rename(tmp_path / "moved")
    (folder / swapped).symlink_to(tmp_path / "moved")
    assert (folder / "a/b/notes.md").read_text() == "same"
    with pytest.raises(OSError, match=r"symbolic|directory"):
        read_entry(folder, entry)


def test_hidden_folder_is_no_skill(tmp_path: Path, make_skill: Make) -> None:
    assert failed(make_skill(tmp_path / ".tides", name="tides")) == "hidden_folder"


def test_skill_file_that_nobody_may_read_is_refused_for_root_as_well(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    (folder / "SKILL.md").chmod(0o200)
    assert failed(folder) == "unreadable"


def test_path_with_nul_is_a_failure(tmp_path: Path) -> None:
    assert failed(tmp_path / "a\0b") == "unreadable"


def test_what_editors_and_interpreters_leave_does_not_count(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    digest = loaded(folder).digest
    for path in ("SKILL.md~", ".SKILL.md.swp", "4913", ".#SKILL.md", "__pycache__/a.pyc", ".git/HEAD", ".DS_Store"):
        add_file(folder, path)
    skill = loaded(folder)
    assert (skill.digest, skill.files) == (digest, ("SKILL.md",))


def test_node_modules_is_left_out_with_a_word_about_it(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    add_file(folder, "node_modules/a/index.js")
    skill = loaded(folder)
    assert skill.files == ("SKILL.md",)
    assert codes(skill) == ["left_out"]


def test_names_that_are_not_utf8_are_left_out(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    Path(os.fsdecode(bytes(folder) + b"/\xff.md")).write_text("x")
    skill = loaded(folder)
    assert skill.files == ("SKILL.md",)
    assert codes(skill) == ["name_not_utf8"]
    skill.diagnostics[0].message.encode()


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (InventoryLimits(max_files=2), "folder_too_large"),
        (InventoryLimits(max_folders=2), "folder_too_large"),
        (InventoryLimits(max_depth=2), "folder_too_large"),
        (InventoryLimits(max_total_bytes=60), "file_too_large"),
        (InventoryLimits(max_skill_file_bytes=20), "file_too_large"),
    ],
)
def test_limits_are_failures_of_the_one_skill(
    tmp_path: Path, limits: InventoryLimits, code: str, make_skill: Make, add_file: Make
) -> None:
    folder = make_skill(tmp_path / "tides")
    add_file(folder, "a/b/c.txt", "x" * 40)
    add_file(folder, "d.txt")
    assert failed(folder, limits) == code


def test_many_left_out_entries_are_summed_up(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    for number in range(50):
        (folder / f"link{number}").symlink_to("/etc/passwd")
    skill = loaded(folder)
    assert len(skill.diagnostics) == 21
    assert skill.diagnostics[-1].message.startswith("30 more")


def test_digest_depends_on_paths_contents_and_the_executable_bit_only(
    tmp_path: Path, make_skill: Make, add_file: Make
) -> None:
    folder = make_skill(tmp_path / "tides")
    script = add_file(folder, "scripts/a.sh", "echo")
    digests = [loaded(folder).digest]
    os.utime(script, (1, 1))
    script.chmod(0o600)
    assert loaded(folder).digest == digests[0]
    script.chmod(0o755)
    digests.append(loaded(folder).digest)
    script.write_text("ECHO")
    digests.append(loaded(folder).digest)
    script.rename(folder / "scripts/b.sh")
    digests.append(loaded(folder).digest)
    assert len(set(digests)) == 4


def test_unchanged_folder_comes_back_as_the_same_object(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    first = load_folder(folder)
    assert load_folder(folder, previous=first).skill is first.skill
    (folder / "SKILL.md").touch()
    assert load_folder(folder, previous=first).skill is first.skill


def test_change_of_same_size_in_the_same_clock_tick_is_seen(tmp_path: Path, make_skill: Make, add_file: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    script = add_file(folder, "a.txt", "0")
    previous = load_folder(folder)
    for number in range(1, 10):
        script.write_text(str(number))
        current = load_folder(folder, previous=previous)
        assert current.skill is not None
        assert previous.skill is not None
        assert current.skill.digest != previous.skill.digest
        previous = current


def test_settled_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides")
    monkeypatch.setattr("skill_actors.skills.inventory._SETTLED_NS", -(10**12))  # as if written long ago
    first = load_folder(folder)
    assert first.inventory is not None
    assert first.inventory.settled
    monkeypatch.setattr("skill_actors.skills.inventory.open_beneath", None)  # reading would raise
    assert load_folder(folder, previous=first) is first


def test_long_bodies_are_reported(tmp_path: Path, add_file: Make) -> None:
    add_file(tmp_path, "tides/SKILL.md", "---\nname: tides\ndescription: d\n---\n" + "line\n" * 600)
    assert codes(loaded(tmp_path / "tides")) == ["body_long"]


def test_large_files_load_with_a_warning_up_to_a_limit(tmp_path: Path, make_skill: Make) -> None:
    folder = make_skill(tmp_path / "tides", body="x" * 1024 * 1024)
    assert codes(loaded(folder)) == ["file_large"]
    with (folder / "SKILL.md").open("ab") as file:
        file.truncate(10 * 1024 * 1024 + 1)
    assert failed(folder) == "file_too_large"


@pytest.mark.parametrize("hidden", ["\0", "\x1b[8m", "\u202e", "\u2067", "\U000e0041"])
def test_what_does_not_show_in_the_body_is_reported_and_kept(tmp_path: Path, hidden: str, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", body=f"Do {hidden} so. \u6f6e"))
    assert codes(skill) == ["body_hidden"]
    assert hidden in skill.body


def test_many_unknown_fields_are_summed_up(tmp_path: Path, make_skill: Make) -> None:
    skill = loaded(make_skill(tmp_path / "tides", extra="\n".join(f"k{number}: v" for number in range(2_000))))
    assert len(skill.extra) == 2_000
    assert len(skill.diagnostics) == 21
    assert skill.diagnostics[-1].message.startswith("1980 more fields")


def test_unexpected_error_is_a_failure_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, make_skill: Make
) -> None:
    monkeypatch.setattr("skill_actors.skills.loader.read_front_matter", lambda _data: 1 / 0)
    assert failed(make_skill(tmp_path / "tides")) == "internal"
    assert "ZeroDivisionError" in caplog.text
