"""`make sql`: runs a statement in the warehouse and prints its rows as a table, or tab-separated into a pipe."""

import contextlib
import re
from collections.abc import Sequence
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
_REF = re.compile(r"\{\{\s*ref\('(\w+)'\)\s*\}\}")


# Folders of saved questions: the project's and the audit trail's.
_ANALYSES = (PROJECT / "analyses", DBT_PACKAGE / "analyses")


def statement(text: str, folders: Sequence[Path] = _ANALYSES) -> str:
    """Return the SQL that `make sql` runs: the statement itself, or the saved question with this name.

    A saved question reads the pipeline's schema, where the audit trail is.

    Raises:
        SetupError: there is no statement, or no question of that name.
    """
    saved = {path.stem: path for folder in folders for path in sorted(folder.glob("*.sql"))}
    name = text.strip()
    if name in saved:
        return _REF.sub(rf"{first_pipeline().target_schema}.\1", saved[name].read_text())
    # No SQL statement is a single word with underscores, so this must be the name of a question.
    if not name or re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name):
        wrong = f"there is no saved question {name}{did_you_mean(name, saved)}" if name else "there is no statement"
        questions = "".join(f"\n  {question}" for question in saved)
        raise SetupError(
            f'{wrong}\nGive a statement, such as make sql Q="select 1", or the name of a saved question:'
            f"{questions or ' (none)'}"
        )
    return text


def run_query(settings: Settings, user: str, password: str, query: str) -> int:
    """Run `query`, print its rows, and return the exit code: 0, or 1 if the warehouse refused the statement.

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
    show_rows(columns, rows)
    return 0


def show_rows(columns: list[str], rows: Any) -> None:
    """Print rows as a table on a terminal, tab-separated elsewhere."""
    if not console.is_terminal:
        for row in rows:
            print("\t".join("" if value is None else str(value) for value in row))
        return
    if not columns:
        console.print("Done; the statement returns no rows.")
        return
    caption = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
    headings = [Column(Text(name), overflow="fold") for name in columns]
    table = Table(*headings, caption=caption, caption_justify="left")
    for row in rows:
        # rich would read a string as markup, so wrap values in Text.
        table.add_row(*(Text("NULL", "bright_black") if value is None else Text(str(value)) for value in row))
    console.print(table)
