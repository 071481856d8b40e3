"""The example of a native skill: what it answers, and what a question may not do."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest

from skill_actors.native import Context, describe
from skill_actors.skills import Skill, load_skill

ROOT = Path(__file__).parents[2] / "examples" / "skills" / "csv-tables"

pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason="the example is in the repository, and this is a copy of the tests"
)


@pytest.fixture(scope="module")
def skill_class() -> Any:
    spec = importlib.util.spec_from_file_location("csv_tables", ROOT / "csv_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CsvTables


@pytest.fixture
def context(tmp_path: Path) -> Context:
    (tmp_path / "sales.csv").write_text('region,"unit price",sum\nnorth,1.5,7\nsouth,2,11\nsouth\n\n')
    (tmp_path / "people.csv").write_text("region,name\nsouth,Ann\nnorth,Bo\n")
    (tmp_path / "empty.csv").write_text("")
    return made(tmp_path)


def made(folder: Path, *, left_s: float = 30.0) -> Context:
    deadline = time.monotonic() + left_s
    return Context(session="s", workspace=folder, skill_dir=ROOT, allowed_paths=(folder,), deadline=deadline)


def test_it_is_a_skill_whose_class_fits_its_front_matter(skill_class: Any) -> None:
    skill = load_skill(ROOT)
    assert isinstance(skill, Skill)
    assert (skill.diagnostics, skill.metadata) == ((), {"skilld-native": "csv_tables.py:CsvTables"})
    described = describe(skill_class)
    assert (described.name, list(described.tools)) == (skill.name, ["execute", "read"])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("SELECT sum(sum) AS total FROM sales", "| total |\n| --- |\n| 18 |\n(1 row)"),
        ('SELECT "unit price" FROM sales WHERE sum > 9', "| unit price |\n| --- |\n| 2 |\n(1 row)"),
        ("SELECT name FROM people JOIN sales USING (region) WHERE sum = 7", "| name |\n| --- |\n| Bo |\n(1 row)"),
        ("SELECT sum FROM sales WHERE region = 'south' AND sum IS NULL", "| sum |\n| --- |\n|  |\n(1 row)"),
    ],
)
def test_questions_over_the_files_of_the_workspace(
    skill_class: Any, context: Context, question: str, answer: str
) -> None:
    assert skill_class().execute(question, context) == answer


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '{folder}/made.db' AS other",
        "DROP TABLE sales",
        "INSERT INTO sales VALUES (1, 2, 3)",
        "PRAGMA database_list",
        "CREATE TABLE x AS SELECT 1",
    ],
)
def test_whatever_is_no_select_is_refused(skill_class: Any, context: Context, statement: str) -> None:
    with pytest.raises(Exception, match="not authorized"):
        skill_class().execute(statement.format(folder=context.workspace), context)
    assert not (context.workspace / "made.db").exists()


def test_a_file_that_is_no_table_hurts_no_question_about_others(
    skill_class: Any, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    (tmp_path / "old.csv").write_bytes(b"name\nM\xfcller\n")
    answer = skill_class().execute("SELECT name FROM people WHERE region = 'north'", context)
    assert answer.startswith("| name |\n| --- |\n| Bo |\n(1 row)\n[old.csv is no table: 'utf-8' codec")
    assert "[twice.csv is no table: duplicate column name: a]" in answer
    with pytest.raises(Exception, match=r"no such table: twice; .*duplicate column"):
        skill_class().execute("SELECT * FROM twice", context)


def test_the_mark_that_spreadsheets_put_first_is_no_part_of_a_column(
    skill_class: Any, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "sheet.csv").write_text("\ufeffid\n7\n")
    assert "| 7 |" in skill_class().execute("SELECT id FROM sheet", context)
    assert skill_class().read("sheet.csv", context).startswith("| id |")


def test_a_question_without_end_is_an_error_before_the_deadline(skill_class: Any, context: Context) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    began = time.monotonic()
    with pytest.raises(Exception, match="interrupted"):
        skill_class().execute(endless, made(context.workspace, left_s=0.7))
    assert time.monotonic() - began < 5


def test_rows_of_a_file_are_shown_from_an_offset_and_nothing_outside_is_read(
    skill_class: Any, context: Context, tmp_path: Path
) -> None:
    shown = skill_class().read("people.csv", context, offset=1, limit=5)
    assert shown == "| region | name |\n| --- | --- |\n| north | Bo |\n(1 row)"
    (tmp_path / "link.csv").symlink_to("/etc/passwd")
    with pytest.raises(PermissionError):
        skill_class().read("link.csv", context)
    with pytest.raises(PermissionError):
        skill_class().execute("SELECT 1", context)
