"""Every statement of a pipeline is accepted by the translator and by sqlfluff's grammar of Redshift."""

import contextlib
import re

import pytest
from audit_database import PASSWORD
from sqlfluff.core import Linter

from audit_report import DBT_PACKAGE, source
from mwaa_local.query import statement
from mwaa_pipelines.bucket_files import S3File
from mwaa_pipelines.load_statements import copy_statement
from mwaa_pipelines.settings import LoadedTable
from redshift_local.translate.translator import translate

# The grammar of sqlfluff needs about a minute.
pytestmark = pytest.mark.slow

# Valid on Redshift but unknown to sqlfluff 4: a part of the statement, and the page of the manual.
UNKNOWN_TO_SQLFLUFF = {
    "pg_get_late_binding_view_cols() cols(": "PG_GET_LATE_BINDING_VIEW_COLS: a column list after a function",
}
# Parts that differ between two runs of one statement.
_CHANGING = re.compile(r"/\*.*?\*/|'(?:[^']|'')*'|(?<=__dbt_tmp)\d+|\b\d+(?:\.\d+)?\b|\s+", re.DOTALL)
_BOUND = re.compile(r":bound\d+")


@pytest.fixture(scope="module")
def sent_statements(built, dbt, database) -> list[str]:
    """All distinct statements of dbt, the audit trail, the grants, COPY, the report and the saved questions."""
    # Run incremental models and snapshots again, and run the commands that a pipeline does not use.
    for command in (
        "build --select config.materialized:incremental,path:models/marts resource_type:snapshot,package:flights",
        "source freshness",
        "docs generate --select path:models/marts package:audit_trail",
    ):
        finished = dbt(*command.split())
        assert finished.code == 0, finished.output
    with contextlib.closing(database.warehouse.connect("dbt_user", PASSWORD)) as connection:
        source.read(connection, "analytics", 30)
        for question in sorted(path.stem for path in (DBT_PACKAGE / "analyses").glob("*.sql")):
            connection.run(statement(question))
    history = database.run("select query_text from pg_redshift.queries order by query_id")
    # The fixtures insert the sample data, but pipelines load it with COPY.
    texts = [text for (text,) in history if text and not text.startswith("insert into landing.")]
    file = S3File("landing", "flights/1.gz", "", 1)
    for settings in ({"format": "csv", "null_as": "NA"}, {"format": "json"}):
        table = LoadedTable(table="landing.flights", prefix="flights/", **settings)
        texts.append(copy_statement(table, ["year", "month"], file, "default", "eu-west-1"))
    return list({_CHANGING.sub(" ", text).strip(): text for text in texts}.values())


def test_every_sent_statement_is_valid_on_redshift(sent_statements, tmp_path):
    # This file is for debugging. Its names and values change with every run.
    (tmp_path / "statements.sql").write_text(";\n\n".join(sent_statements))
    starts = {words for text in sent_statements for words in re.findall(r"(?m)^\s*(\w+ \w+)", text.lower())}
    assert {"create user", "grant select", "insert into", "create temporary"} <= starts
    linter = Linter(dialect="redshift")
    problems, explained = {}, set()
    for text in sent_statements:
        refused = [plan.sql for plan in translate(text) if plan.refused]
        # sqlfluff reads the parameters of prepared statements as template variables, so replace them.
        errors = [str(error) for error in linter.parse_string(_BOUND.sub("0", text)).violations]
        reasons = {part for part in UNKNOWN_TO_SQLFLUFF if part in " ".join(text.split())}
        explained |= reasons if errors else set()
        if refused or (errors and not reasons):
            problems[text] = refused + errors
    assert problems == {}
    assert explained == set(UNKNOWN_TO_SQLFLUFF)
