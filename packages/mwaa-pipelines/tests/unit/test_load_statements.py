"""Files are matched with tables by the names of their columns, and every name and value in a COPY is quoted."""

from typing import Any

import pytest

from mwaa_pipelines.bucket_files import FileError, S3File, is_file_of
from mwaa_pipelines.load_statements import copy_statement, match_columns
from mwaa_pipelines.settings import LoadedTable

COLUMNS = {"id": False, "name": False, "loaded_at": True}


def table(**settings: Any) -> LoadedTable:
    return LoadedTable(**{"table": "landing.orders", "prefix": "shop/orders/", "format": "csv", **settings})


def file(key: str = "shop/orders/1.csv") -> S3File:
    return S3File("shop-landing", key, '"etag"', 10)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "name"], (["id", "name"], [])),
        (["name", "id"], (["name", "id"], [])),
        (["id", "name", "loaded_at"], (["id", "name", "loaded_at"], [])),
        # Only COPY knows the columns of a Parquet file.
        (None, (["id", "name"], [])),
    ],
)
def test_columns_are_matched_by_name(names: list[str] | None, expected: Any) -> None:
    assert match_columns(table(), names, COLUMNS) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["id"], r"lacks the column name of landing.orders. .* a default$"),
        (["id", "nmae"], r"lacks the column name of landing.orders. .* a default. Did you mean 'nmae'\?$"),
        ([], r"lacks the columns id, name of"),
        (["id", "name", "names"], r"has the column names, which landing.orders lacks. .* Did you mean 'name'\?$"),
        (["id", "name", "id"], "has several columns with the name 'id'"),
    ],
)
def test_drift_is_an_error_that_names_the_columns(names: list[str], message: str) -> None:
    with pytest.raises(FileError, match=message):
        match_columns(table(), names, COLUMNS)


def test_new_columns_are_added_only_with_safe_names() -> None:
    adding = table(new_columns="add")
    assert match_columns(adding, ["id", "name", "city"], COLUMNS) == (["id", "name", "city"], ["city"])
    for name in ("a b", 'x" varchar(1); drop table y; --', "", "é", "1a"):
        with pytest.raises(FileError, match="is not a name for a new column of"):
            match_columns(adding, ["id", "name", name], COLUMNS)


def test_copy_names_format_role_and_region() -> None:
    assert copy_statement(table(), ["id", "name"], file(), "default", "eu-west-1") == (
        'copy "landing"."orders" ("id", "name") from \'s3://shop-landing/shop/orders/1.csv\' iam_role default '
        "region 'eu-west-1' csv delimiter ',' ignoreheader 1 dateformat 'auto' timeformat 'auto'"
    )
    statement = copy_statement(
        table(delimiter="|", null_as="NA", time_format="epochsecs"),
        ["id"],
        file("shop/orders/1.csv.gz"),
        "arn:aws:iam::123456789012:role/copy",
        "eu-west-1",
    )
    assert statement.endswith(
        "iam_role 'arn:aws:iam::123456789012:role/copy' region 'eu-west-1' csv delimiter '|' ignoreheader 1 "
        "null as 'NA' dateformat 'auto' timeformat 'epochsecs' gzip"
    )
    statement = copy_statement(table(format="json"), ["id"], file("shop/orders/1.jsonl.bz2"), "default", "eu-west-1")
    assert statement.endswith("json 'auto ignorecase' dateformat 'auto' timeformat 'auto' bzip2")
    # COPY of Parquet files takes no Region and no compression.
    statement = copy_statement(table(format="parquet"), ["id"], file("shop/orders/1.parquet.gz"), "default", "x")
    assert statement.endswith("1.parquet.gz' iam_role default format as parquet")


def test_quotes_and_backslashes_cannot_end_a_value() -> None:
    nasty = "shop/orders/it's \\' ; drop table x; --"
    statement = copy_statement(table(null_as="\\'"), ['a"b'], file(nasty), "default", "r")
    assert "from 's3://shop-landing/shop/orders/it''s \\\\'' ; drop table x; --' iam_role" in statement
    assert 'orders" ("a""b") from' in statement
    assert "null as '\\\\'''" in statement


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/shop/orders/1.csv", True),
        ("s3://b/shop/orders/2013/01/1.csv", True),
        ("s3://b/shop/orders/", False),
        ("s3://b/shop/orders/_SUCCESS", False),
        ("s3://b/shop/orders/.part", False),
        ("s3://b/shop/customers/1.csv", False),
        ("s3://other/shop/orders/1.csv", False),
    ],
)
def test_markers_folders_and_files_of_others_are_not_loaded(url: str, expected: bool) -> None:
    assert is_file_of(table(), "b", url) is expected
