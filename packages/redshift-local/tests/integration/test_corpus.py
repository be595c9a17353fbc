"""Redshift's manual as tests: every statement of corpus/*.yml, with the rows that its page gives.

The same corpus runs against a real cluster when REDSHIFT_HOST, REDSHIFT_USER, REDSHIFT_PASSWORD and REDSHIFT_DATABASE
are set (see the package's README.md).
"""

import os
from pathlib import Path

import pytest
import redshift_connector
import yaml
from redshift_connector.interval import IntervalDayToSecond, IntervalYearToMonth

FOLDER = Path(__file__).parent / "corpus"


def cases(kind: str):
    """Statement, expectation and note of every case of a kind."""
    for file in sorted(FOLDER.glob("*.yml")):
        if (file.stem.startswith("refused")) != (kind == "refused"):
            continue
        for page in yaml.safe_load(file.read_text()):
            for number, case in enumerate(page["cases"], 1):
                yield pytest.param(*case, id=f"{file.stem}-{page['page']}-{number}")


def text_of(value) -> str | None:
    """Return a value in the notation of the corpus."""
    if value is None:
        return None
    if isinstance(value, (IntervalYearToMonth, IntervalDayToSecond)):
        return str(value).strip("<>").split(" ", 1)[1]
    return str(value)


@pytest.fixture(scope="module")
def connection(request):
    """A session in the schema corpus; on a cluster if REDSHIFT_HOST is set."""
    if host := os.environ.get("REDSHIFT_HOST"):
        session = redshift_connector.connect(
            host=host,
            user=os.environ["REDSHIFT_USER"],
            password=os.environ["REDSHIFT_PASSWORD"],
            database=os.environ["REDSHIFT_DATABASE"],
        )
    else:
        session = request.getfixturevalue("warehouse").connect()
    session.autocommit = True
    session.run("drop schema if exists corpus cascade")
    session.run("create schema corpus")
    session.run("set search_path to corpus, public")
    for statement in (FOLDER / "setup.sql").read_text().split(";\n"):
        if statement.strip():
            session.run(statement)
    yield session
    session.run("drop schema corpus cascade")
    session.close()


@pytest.mark.parametrize(("sql", "rows", "note"), list(cases("answered")))
def test_answers_match_the_manual(connection, sql, rows, note):
    with connection.cursor() as cursor:
        *before, last = [part for part in sql.split(";;") if part.strip()]
        for statement in before:
            cursor.execute(statement)
        cursor.execute(last)
        actual = [[text_of(value) for value in row] for row in cursor.fetchall()] if cursor.description else None
    expected = None if rows is None else [[None if value is None else str(value) for value in row] for row in rows]
    assert actual == expected, note


@pytest.mark.parametrize(("sql", "code", "message"), list(cases("refused")))
def test_unsupported_statements_are_refused(connection, sql, code, message):
    *before, last = sql.split(";;")
    for statement in before:
        connection.run(statement)
    with pytest.raises(redshift_connector.Error) as caught:
        connection.run(last)
    fields = caught.value.args[0]
    assert fields["C"] == code
    assert message in fields["M"]
    if fields["M"].startswith("not supported by the local warehouse"):
        assert fields["H"], "a refusal of ours says what to do instead"
