"""`make sql` accepts a SQL statement or the name of a saved question."""

from pathlib import Path

import pytest

from audit_report import DBT_PACKAGE
from mwaa_local.query import statement
from mwaa_local.settings import SetupError


@pytest.fixture
def analyses(tmp_path: Path) -> Path:
    (tmp_path / "what_failed.sql").write_text("select name from {{ ref('audit_runs') }} join {{ref('audit_table')}}")
    return tmp_path


def test_saved_question_reads_the_pipelines_schema(analyses: Path) -> None:
    expected_sql = "select name from analytics.audit_runs join analytics.audit_table"
    assert statement(" what_failed\n", [analyses]) == expected_sql


@pytest.mark.parametrize("text", ["select 1", "  select '{{ ref(''x'') }}'", "vacuum", "SELECT what_failed FROM x"])
def test_sql_statement_is_unchanged(analyses: Path, text: str) -> None:
    assert statement(text, [analyses]) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "there is no statement"), ("what_fails", "saved question what_fails. Did you mean 'what_failed'?")],
)
def test_unknown_question_error_lists_the_saved_questions(analyses: Path, text: str, message: str) -> None:
    with pytest.raises(SetupError) as raised:
        statement(text, [analyses])
    assert message in str(raised.value)
    assert "what_failed" in str(raised.value)


def test_saved_questions_use_only_ref_in_jinja() -> None:
    questions = list((DBT_PACKAGE / "analyses").glob("*.sql"))
    assert len(questions) == 10
    for path in questions:
        assert "{" not in statement(path.stem), path.name
