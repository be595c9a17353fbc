"""How `make sql` reads its argument."""

from pathlib import Path

import pytest

from audit_report import DBT_PACKAGE
from mwaa_local.query import statement
from mwaa_local.settings import SetupError


@pytest.fixture
def analyses(tmp_path: Path) -> Path:
    (tmp_path / "what_failed.sql").write_text("select name from {{ ref('audit_runs') }} join {{ref('audit_table')}}")
    return tmp_path


def test_a_saved_question_is_asked_of_the_pipelines_schema(analyses: Path) -> None:
    asked = "select name from analytics.audit_runs join analytics.audit_table"
    assert statement(" what_failed\n", [analyses]) == asked


@pytest.mark.parametrize("text", ["select 1", "  select '{{ ref(''x'') }}'", "vacuum", "SELECT what_failed FROM x"])
def test_a_statement_stays_as_it_is(analyses: Path, text: str) -> None:
    assert statement(text, [analyses]) == text


@pytest.mark.parametrize(("text", "said"), [("", "there is no statement"), ("what_fails", "saved question what_fails")])
def test_what_is_neither_is_told_with_the_questions_there_are(analyses: Path, text: str, said: str) -> None:
    with pytest.raises(SetupError) as raised:
        statement(text, [analyses])
    assert said in str(raised.value)
    assert "what_failed" in str(raised.value)


def test_no_question_needs_more_of_dbt_than_names_of_models() -> None:
    questions = list((DBT_PACKAGE / "analyses").glob("*.sql"))
    assert len(questions) == 10
    for path in questions:
        assert "{" not in statement(path.stem), path.name
