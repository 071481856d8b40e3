"""A native skill: SQL over the CSV files of a workspace. Each call has a process to itself, so it may compute."""

from __future__ import annotations

import csv
import itertools
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

from skill_actors.native import Context, NativeSkill, SkillInfo

MAX_TABLES = 50
MAX_ROWS = 1_000
ENCODING = "utf-8-sig"  # without the mark that spreadsheets put first
# What a SELECT needs, and no more: ATTACH would open any file of the machine.
ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


class CsvTables(NativeSkill):
    skill_info = SkillInfo(
        name="csv-tables",
        description="SQL over the CSV files of the workspace.",
        allowed_tools=("execute", "read"),
    )

    def execute(
        self,
        command: Annotated[str, "One SELECT statement; each NAME.csv of the workspace is a table NAME."],
        context: Context,
        limit: Annotated[int, "Rows to show at most."] = 100,
    ) -> str:
        """Run one SELECT statement over the CSV files of the workspace."""
        database = sqlite3.connect(":memory:")
        no_tables: list[str] = []
        try:
            no_tables = load_all(database, context)
            database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY)
            # Checked now and then, so that a join without end is an error here and not the end of the process.
            database.set_progress_handler(lambda: context.remaining_s() < 0.5, 100_000)
            rows = database.execute(command)
            columns = [column[0] for column in rows.description or ()]
            return "\n".join([as_text(columns, rows.fetchmany(shown(limit))), *no_tables])
        except sqlite3.Error as error:
            raise ValueError("; ".join([str(error), *no_tables])) from error
        finally:
            database.close()

    def read(self, path: str, context: Context, offset: int = 0, limit: int = 20) -> str:
        """Show rows of one CSV file of the workspace."""
        with context.resolve(path).open(newline="", encoding=ENCODING) as file:
            rows = csv.reader(file)
            columns = next(rows, [])
            return as_text(columns, itertools.islice(rows, max(0, offset), max(0, offset) + shown(limit)))


def shown(limit: int) -> int:
    return min(max(1, limit), MAX_ROWS)


def load_all(database: sqlite3.Connection, context: Context) -> list[str]:
    """Make tables of the files of the workspace; which of them are none, and why."""
    no_tables = []
    for path in sorted(context.workspace.glob("*.csv"))[:MAX_TABLES]:
        try:
            load(database, context.resolve(path.name), path.stem)
            context.emit(f"loaded {path.name}\n")
        except (ValueError, csv.Error, sqlite3.Error) as error:
            no_tables.append(f"[{path.name} is no table: {error}]")
    return no_tables


def load(database: sqlite3.Connection, path: Path, table: str) -> None:
    """Make a table of a CSV file."""
    with path.open(newline="", encoding=ENCODING) as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        if not columns:
            return
        names = ", ".join(f"{quoted(name)} NUMERIC" for name in columns)
        database.execute(f"CREATE TABLE {quoted(table)} ({names})")
        places = ", ".join("?" * len(columns))
        padded = ((*row[: len(columns)], *[None] * (len(columns) - len(row))) for row in rows if row)
        database.executemany(f"INSERT INTO {quoted(table)} VALUES ({places})", padded)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def as_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown has it, and how many rows it has."""
    lines = ["| " + " | ".join("" if value is None else str(value) for value in row) + " |" for row in rows]
    count = f"({len(lines)} row{'s' * (len(lines) != 1)})"
    return "\n".join(["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns), *lines, count])
