"""`make sql`: runs a statement in the warehouse and prints its rows."""

import contextlib
import csv
import datetime
import json
import os
import re
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import redshift_connector
from rich.table import Column, Table
from rich.text import Text

from audit_report import DBT_PACKAGE
from mwaa_local.settings import Settings, SetupError
from mwaa_local.stack import PROJECT, connect
from mwaa_pipelines.settings import did_you_mean
from mwaa_release.pipelines import first_pipeline
from mwaa_release.progress import console, errors
from mwaa_release.redshift import error_text

STATEMENT_FAILED = 1
FORMATS = ("csv", "json")
# A column of a table is at least this wide, or as wide as its values.
_READABLE = 12
# Three decimals say nothing about smaller numbers.
_ROUNDED = 0.1
_REF = re.compile(r"\{\{\s*ref\('(\w+)'\)\s*\}\}")
_DAY = re.compile(r"\{\{\s*var\('audit_day',[^}]*\}\}")


# Folders of saved questions: the project's and the audit trail's.
_ANALYSES = (PROJECT / "analyses", DBT_PACKAGE / "analyses")


def statement(text: str, folders: Sequence[Path] = _ANALYSES) -> str:
    """Return the SQL that `make sql` runs: the statement itself, or the saved question with this name.

    A saved question reads the pipeline's schema, where the audit trail is. A day can follow the name of a question
    about a day; the default is today (UTC).

    Raises:
        SetupError: there is no statement, or no question of that name, or the day is not a date.
    """
    saved = {path.stem: path for folder in folders for path in sorted(folder.glob("*.sql"))}
    name, _, day = text.strip().partition(" ")
    if name in saved:
        return _question(name, saved[name].read_text(), day.strip())
    # No SQL statement begins with a word with underscores, so this must be the name of a question.
    if not name or re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name):
        wrong = f"there is no saved question {name}{did_you_mean(name, saved)}" if name else "there is no statement"
        questions = "".join(f"\n  {question}" for question in saved)
        raise SetupError(
            f'{wrong}\nGive a statement, such as make sql Q="select 1", or the name of a saved question:'
            f"{questions or ' (none)'}"
        )
    return text


def _question(name: str, sql: str, day: str) -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    if day and not _DAY.search(sql):
        raise SetupError(f"the saved question {name} takes no day, but {day!r} follows it. Remove that")
    try:
        date = datetime.date.fromisoformat(day) if day else today
    except ValueError:
        raise SetupError(f'{day!r} is not a day. Write it like {today}: make sql Q="{name} {today}"') from None
    return _DAY.sub(date.isoformat(), _REF.sub(rf"{first_pipeline().target_schema}.\1", sql))


def run_query(settings: Settings, user: str, password: str, query: str, output_format: str = "") -> int:
    """Run `query`, print its rows, and return the exit code: 0, or 1 if the warehouse refused the statement.

    Args:
        settings: paths and ports.
        user: the database user.
        password: of the user.
        query: one statement.
        output_format: see `show_rows`.

    Raises:
        SetupError: the warehouse does not answer.
    """
    try:
        connection = connect(settings, user, password)
    except redshift_connector.Error as error:
        raise SetupError(f"the warehouse does not answer ({error_text(error)}); start it with: make up") from None
    try:
        with contextlib.closing(connection), connection.cursor() as cursor:
            connection.autocommit = True
            # The default style treats every % in the statement as a parameter.
            cursor.paramstyle = "qmark"
            cursor.execute(query)
            columns = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchall() if columns else ()
    except redshift_connector.Error as error:
        errors.print(error_text(error), style="red", markup=False)
        return STATEMENT_FAILED
    show_rows(columns, rows, output_format)
    return 0


def show_rows(columns: list[str], rows: Any, output_format: str = "") -> None:
    """Print rows as a table on a terminal, tab-separated elsewhere, or in the given format.

    Args:
        columns: their names.
        rows: sequences of values.
        output_format: `csv` with a header, where NULL is empty; `json`, a list of objects; or empty.
    """
    try:
        _print_rows(columns, rows, output_format)
        sys.stdout.flush()
    except BrokenPipeError:
        # A reader such as `head` has read enough. Without this, Python reports an error when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_rows(columns: list[str], rows: Any, output_format: str) -> None:
    if output_format == "json":
        objects = [dict(zip(columns, row, strict=True)) for row in rows]
        print(json.dumps(objects, indent=2, ensure_ascii=False, default=_as_json))
    elif not columns:
        if console.is_terminal and not output_format:
            console.print("Done; the statement returns no rows.")
    elif output_format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([columns, *rows])
    elif not console.is_terminal:
        for row in [columns, *rows]:
            print("\t".join("" if value is None else str(value) for value in row))
    else:
        _show_table(columns, rows)


def _as_json(value: Any) -> int | float | str:
    """Return a value that JSON does not have: a decimal as a number if that keeps all its digits, others as text."""
    if isinstance(value, Decimal) and value.is_finite() and Decimal(str(float(value))) == value:
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _show_table(columns: list[str], rows: Any) -> None:
    """Print a table, or one block of lines for each row if the columns are too narrow to read on this terminal."""
    # rich would read a string as markup.
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(map(Text, columns), *cells, strict=True)]
    caption = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
    # Each column has a border and two spaces.
    if sum(min(width, _READABLE) + 3 for width in widths) + 1 > console.width:
        blocks = Table("column", Column("value", overflow="fold"), caption=caption, caption_justify="left")
        for row in cells:
            for name, cell in zip(columns, row, strict=True):
                blocks.add_row(Text(name), cell)
            blocks.add_section()
        console.print(blocks)
        return
    headings = [Column(Text(name), overflow="fold") for name in columns]
    table = Table(*headings, caption=caption, caption_justify="left")
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", "bright_black")
    if isinstance(value, float) and abs(value) >= _ROUNDED:
        return Text(f"{value:.3f}".rstrip("0").rstrip("."))
    return Text(str(value))
