"""`make sql` accepts a SQL statement or the name of a saved question, and prints rows that people can read."""

import datetime
import io
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from audit_report import DBT_PACKAGE
from mwaa_local import query
from mwaa_local.query import show_rows, statement
from mwaa_local.settings import SetupError


@pytest.fixture
def analyses(tmp_path: Path) -> Path:
    (tmp_path / "what_failed.sql").write_text("select name from {{ ref('audit_runs') }} join {{ref('audit_table')}}")
    return tmp_path


def test_saved_question_reads_the_pipelines_schema(analyses: Path) -> None:
    expected_sql = "select name from analytics.audit_runs join analytics.audit_table"
    assert statement(" what_failed\n", [analyses]) == expected_sql


def test_question_about_a_day_takes_a_date() -> None:
    assert "nullif('2026-11-29', '')" in statement("what_failed_on_a_day 2026-11-29")
    today = datetime.datetime.now(datetime.UTC).date()
    assert f"nullif('{today}', '')" in statement("what_failed_on_a_day")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("what_failed_on_a_day 29.11.", "'29.11.' is not a day. Write it like 2"),
        ("what_failed_on_a_day 2026-11-29'; drop table x", "is not a day"),
        ("what_takes_longest 2026-11-29", "what_takes_longest takes no day, but '2026-11-29' follows it"),
    ],
)
def test_wrong_day_is_an_error(text: str, message: str) -> None:
    with pytest.raises(SetupError, match=re.escape(message)):
        statement(text)


@pytest.mark.parametrize("text", ["select 1", "  select '{{ ref(''x'') }}'", "vacuum", "SELECT what_failed FROM x"])
def test_sql_statement_is_unchanged(analyses: Path, text: str) -> None:
    assert statement(text, [analyses]) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no statement"),
        ("what_fails", "saved question what_fails. Did you mean 'what_failed'?"),
        ("what_fails 2026-11-29", "saved question what_fails. Did you mean"),
    ],
)
def test_unknown_question_error_lists_the_saved_questions(analyses: Path, text: str, message: str) -> None:
    with pytest.raises(SetupError) as raised:
        statement(text, [analyses])
    assert message in str(raised.value)
    assert "what_failed" in str(raised.value)


def test_saved_questions_use_only_ref_and_the_day_in_jinja() -> None:
    questions = list((DBT_PACKAGE / "analyses").glob("*.sql"))
    assert len(questions) == 12
    for path in questions:
        assert "{" not in statement(path.stem), path.name


def shown(monkeypatch: pytest.MonkeyPatch, columns: list[str], rows: list[Any], width: int) -> list[str]:
    """Return the lines on a terminal of this width."""
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, highlight=False)
    monkeypatch.setattr(query, "console", terminal)
    show_rows(columns, rows)
    return terminal.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_rows_are_a_table_if_the_columns_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, ["name", "message"], [("a", "word " * 30), ("b", None)], 60)
    assert lines[1].split() == ["┃", "name", "┃", "message", "┃"]
    assert max(map(len, lines)) <= 60
    assert lines[-1].strip() == "2 rows"


def test_rows_with_many_columns_are_blocks_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [f"a_column_with_a_long_name_{number}" for number in range(9)]
    lines = shown(monkeypatch, columns, [range(9), range(9)], 80)
    pairs = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.count("│") == 3]
    assert pairs == [[name, str(number)] for _ in range(2) for number, name in enumerate(columns)]


def test_numbers_on_a_terminal_have_three_decimals_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    row = (0.1 + 0.2, 12.0, 0.0000123, Decimal("1.50"), 10**12)
    lines = shown(monkeypatch, list("abcde"), [row], 120)
    assert lines[3].replace("│", "").split() == ["0.3", "12", "1.23e-05", "1.50", "1000000000000"]


def test_json_keeps_all_digits(capsys: pytest.CaptureFixture[str]) -> None:
    values = [Decimal("1.50"), Decimal(10) ** 20, Decimal("0.12345678901234567890"), Decimal("NaN")]
    show_rows(["a"], [(value,) for value in values], "json")
    assert [row["a"] for row in json.loads(capsys.readouterr().out)] == [1.5, 10**20, "0.12345678901234567890", "NaN"]


@pytest.mark.parametrize("rows", [1, 100_000])
def test_reader_can_close_the_pipe_early(rows: int) -> None:
    code = f"from mwaa_local.query import show_rows; input(); show_rows(['number'], [(1,)] * {rows})"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    process.stdin.write("go\n")
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0
