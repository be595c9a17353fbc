"""The place of an error in a model's file."""

from pathlib import Path

import pytest

from workbench.locate import in_csv, in_sql, line_of_row

COMPILED = "select a,\n  b,\n  b as c\nfrom x\n"


def no_error(_: str) -> str:
    return ""


@pytest.mark.parametrize(
    ("message", "compiled", "source", "place"),
    [
        # At the end of the text.
        ('syntax error at or near ""', "select (\n", "select (\n", (1, 8)),
        ("syntax error: Error tokenizing", "select 'a\nfrom x", "select 'a\nfrom x", None),
        # The file cannot be read.
        ('column "a" does not exist', COMPILED, "", (1, None)),
        # The warehouse answers nothing useful: the first place.
        ('column "b" does not exist', COMPILED, COMPILED, (2, 3)),
        ('column "b" does not exist', COMPILED, "select {{ columns() }}\nfrom x\n", (1, None)),
        # Only a macro, whose SQL starts with an empty line; and more lines than the file after the last equal one.
        ('column "b" does not exist', "\nselect b from x", "{{ rows() }}\n", (1, None)),
        ('column "b" does not exist', "\n\nselect b\nfrom x\n", "\n{{ rows() }}\n\n", (2, None)),
        ('column "b" does not exist', "-- x\n\nselect b\n", "-- x\n\n", (1, None)),
        ('column "b" does not exist', "a\nc\nselect b\nc", "{{ rows() }}\nc\n", (2, None)),
        # A literal, and a name that only a comment and a literal have.
        ('invalid input syntax for type integer: "one"', "select 1,\n'one'::int", "select 1,\n'one'::int", (2, 1)),
        ('relation "orders" does not exist', "-- orders\nselect 'orders'", "-- orders\nselect 'orders'", (2, 8)),
        ("division by zero", COMPILED, COMPILED, None),
    ],
)
def test_place_of_an_error(message: str, compiled: str, source: str, place: tuple[int, int | None] | None):
    assert in_sql(message, compiled, source, no_error) == place


def test_place_is_the_column_that_the_warehouse_does_not_know():
    sql = "with p as (select a as b from x)\nselect b from p\nunion all\nselect b from x\n"

    def error_of(query: str) -> str:
        unknown = query.split("\n")[3].split()[1]
        return f'column "{unknown}" does not exist' if unknown != "null" else ""

    assert in_sql('column "b" does not exist', sql, sql, error_of) == (4, 8)


@pytest.mark.parametrize("content", [None, b"", "name\nJosé".encode("latin-1")])
def test_seed_that_cannot_be_read_has_no_place(tmp_path: Path, content: bytes | None):
    seed = tmp_path / "seed.csv"
    if content is not None:
        seed.write_bytes(content)
    assert in_csv(seed, ",", lambda column, value: True) is None
    assert line_of_row(seed, ",", 0) is None
