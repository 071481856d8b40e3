"""What lint finds, and that it finds nothing where nothing is wrong."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.authoring.findings import Finding, in_order
from skill_actors.authoring.folder import NoSkill, look_into, open_skill
from skill_actors.authoring.lint import lint
from skill_actors.authoring.packing import pack

Author = Callable[..., Path]
RUNS = "#!/usr/bin/env python3\nimport argparse\n"


def codes(root: Path) -> list[str]:
    return [finding.code for finding in lint(open_skill(root))]


def test_good_skill_has_no_findings(tmp_path: Path, author: Author) -> None:
    files = {
        "+scripts/tides.py": RUNS,
        "references/harbours.md": "# Harbours\n",
        "tests/a.toml": '[[case]]\nname="a"\n',
    }
    body = "Run `scripts/tides.py HARBOUR`. See [the harbours](references/harbours.md#north).\n"
    assert codes(author(tmp_path / "tides", files, body=body)) == []


@pytest.mark.parametrize("name", ["echo", "log-analyzer"])
def test_bundled_skills_have_no_findings(name: str) -> None:
    skills = Path(__file__).parents[3] / "skills"
    assert codes(skills / name) == []


@pytest.mark.parametrize(
    ("description", "code"),
    [
        ("TODO write this when there is time for it, on some day", "description_placeholder"),
        ("Short. Use it when asked.", "description_short"),
        ("Converts documents of many kinds into other kinds of documents.", "description_no_when"),
        ("I convert documents into other documents when you ask me to do so.", "description_person"),
        ("Helps with documents of many kinds, when somebody asks for them.", "description_vague"),
        ("Converts <b>documents</b> into other documents when somebody asks.", "description_tags"),
    ],
)
def test_weak_description_is_named(tmp_path: Path, author: Author, description: str, code: str) -> None:
    assert codes(author(tmp_path / "a", description=f'"{description}"')) == [code]


def test_body_that_says_nothing_or_too_much_is_named(tmp_path: Path, author: Author) -> None:
    assert codes(author(tmp_path / "a", body="Go.")) == ["body_empty"]
    assert codes(author(tmp_path / "b", body="word " * 4_100)) == ["body_large"]


def test_large_folder_is_named(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "a", {"data.bin": b"\0" * (11 << 20)})
    assert codes(root) == ["folder_large"]


def test_dead_links_are_named_with_their_line(tmp_path: Path, author: Author) -> None:
    body = (
        "[one](references/none.md)\n[two](../other/a.md) [three](/etc/a.md)\n"
        "[web](https://example.com/a.md) [mail](mailto:a@b) [here](#a) [spaced](references/a%20b.md)\n"
        "```\n[not](a/link.md)\n```\nRun scripts/none.py, not /opt/scripts/other.py.\n"
    )
    root = author(tmp_path / "a", {"references/a b.md": "[up](../SKILL.md) [gone](gone.md)\n"}, body=body)
    found = [(f.code, f.path, f.line) for f in lint(open_skill(root))]
    assert found == [
        ("dead_link", "SKILL.md", 6),
        ("absolute_link", "SKILL.md", 7),
        ("link_leaves_root", "SKILL.md", 7),
        ("dead_link", "SKILL.md", 12),
        ("dead_link", "references/a b.md", 1),
    ]


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("scripts/a.py", "#!/usr/bin/env python3\nimport argparse\n", ["no_run_bit"]),
        ("+scripts/a.py", "import argparse\n", ["no_shebang"]),
        ("+scripts/a.sh", "#!/bin/bash\necho hello\n", ["script_no_help"]),
        ("+scripts/a.sh", "#!/bin/bash\r\n# --help\r\n", ["crlf_shebang"]),
        ("+scripts/a.py", RUNS + "def (:\n", ["script_syntax"]),
        ("+scripts/a.py", RUNS + "-" * 200_000 + "1\n", ["script_syntax"]),
        ("+scripts/a.py", RUNS + "x = input('sure? ')\n", ["script_asks"]),
        ("+scripts/a.sh", "#!/bin/bash\n# --help\nread -p 'sure? ' x\n", ["script_asks"]),
        ("scripts/a.py", "print()\n", ["script_no_help"]),  # the only one, so it is the entry
    ],
)
def test_script_that_nobody_can_run_well_is_named(
    tmp_path: Path, author: Author, path: str, text: str, expected: list[str]
) -> None:
    assert codes(author(tmp_path / "a", {path: text})) == expected


def test_helper_module_needs_no_manners(tmp_path: Path, author: Author) -> None:
    assert codes(author(tmp_path / "a", {"+scripts/a.py": RUNS, "scripts/helper.py": "X = 1\n"})) == []


def test_file_that_nobody_will_look_for_is_named(tmp_path: Path, author: Author) -> None:
    files = {"assets/logo.svg": "<svg/>", "assets/icons/a.svg": "", "references/b.md": "b"}
    root = author(tmp_path / "a", files, body="Use whatever you find in assets/icons/.")
    assert [f.path for f in lint(open_skill(root)) if f.code == "unused_file"] == ["assets/logo.svg", "references/b.md"]


def test_malformed_tests_and_requirements_are_named(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "a", {"tests/a.toml": "[[case]]\n"}, extra='metadata:\n  skilld-binaries: "a;b"\n')
    assert sorted(codes(root)) == ["requirement_malformed", "test_malformed"]


def test_skill_that_cannot_be_loaded_is_one_bad_finding(tmp_path: Path) -> None:
    (tmp_path / "SKILL.md").write_text("no front matter")
    (finding,) = lint(open_skill(tmp_path))
    assert (finding.severity, finding.code) == ("high", "no_front_matter")


def test_what_is_no_skill_is_refused_with_the_reason(tmp_path: Path, author: Author) -> None:
    for path, says in ((tmp_path / "none", "no folder"), (tmp_path, "no SKILL.md"), (Path("a\0b"), "null byte")):
        with pytest.raises(NoSkill, match=says):
            open_skill(path)
    (tmp_path / "bad.skill").write_bytes(b"PK nothing")
    with pytest.raises(NoSkill, match="no plain zip"), look_into(tmp_path / "bad.skill"):
        pass
    os.mkfifo(tmp_path / "fifo.skill")
    with pytest.raises(NoSkill), look_into(tmp_path / "fifo.skill"):
        pass


def test_package_is_looked_into_like_a_folder(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "tides", {"+scripts/a.sh": "#!/bin/sh\n"})
    (tmp_path / "x.skill").write_bytes(pack(open_skill(root)))
    with look_into(tmp_path / "x.skill") as folder:
        place = folder.root
        assert [f.code for f in lint(folder)] == ["script_no_help"]
    assert not place.exists()


@pytest.mark.parametrize("text", ["```\n", "[a](", "scripts/", "read -a ", "select a ", "[", "~~~~"])
def test_hostile_text_does_not_keep_lint_busy(tmp_path: Path, author: Author, text: str) -> None:
    root = author(
        tmp_path / "a", {"a.md": text * ((1 << 20) // len(text)), "+scripts/a.sh": "#!/bin/sh\n" + text * 9999}
    )
    folder = open_skill(root)
    began = time.process_time()
    lint(folder)
    assert time.process_time() - began < 20  # takes about 1 s


def test_findings_of_one_kind_are_bounded_and_the_last_says_how_many_more() -> None:
    found = [Finding(code="a", severity="low", message="m", line=line) for line in range(1, 41)]
    kept = in_order([*found, Finding(code="b", severity="high", message="x")])
    assert (kept[0].code, len(kept)) == ("b", 21)
    assert kept[-1].message == "21 more of this kind, from here on: m"
    assert in_order(found[:20]) == tuple(found[:20])


def test_every_code_is_documented() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "skills.md").read_text(encoding="utf-8")
    sources = [root / "actors/skill_actors/authoring" / f"{name}.py" for name in ("lint", "audit")]
    found = {code for path in sources for code in re.findall(r'(?:code=|finding\()"([a-z_]+)"', path.read_text())}
    assert len(found) > 30
    assert {code for code in found if f"`{code}`" not in page} == set()


def test_many_links_and_files_do_not_keep_the_linter_busy(tmp_path: Path, author: Author) -> None:
    files = {f"references/{number}": "" for number in range(1_000)}
    root = author(tmp_path / "a", {**files, "all.md": "[a](b) " * 50_000})
    folder = open_skill(root)
    began = time.process_time()
    assert "dead_link" in {finding.code for finding in lint(folder)}
    assert time.process_time() - began < 10  # takes 0.5 s; with a search from the start for each, a minute


def test_skill_about_todo_lists_is_not_unwritten(tmp_path: Path, author: Author) -> None:
    about = "Sorts TODO lists in source files. Use it when the user asks what is still to be done."
    root = author(tmp_path / "a", description=about, body="Collect every TODO comment, then sort them by file.")
    assert lint(open_skill(root)) == ()
