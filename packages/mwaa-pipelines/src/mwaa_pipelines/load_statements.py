"""The COPY of a file, with the columns that the file and its table have in common."""

import re
from collections.abc import Mapping, Sequence

from mwaa_pipelines.bucket_files import FileError, S3File, compression_of
from mwaa_pipelines.settings import LoadedTable, did_you_mean
from mwaa_pipelines.sql import quote_identifier, quote_literal, quote_table

_NEW_COLUMN = re.compile(r"[a-z_][a-z0-9_$]{0,126}")


def match_columns(
    table: LoadedTable, names: Sequence[str] | None, table_columns: Mapping[str, bool]
) -> tuple[list[str], list[str]]:
    """Return the columns of the table in the order of a file's fields, and those that must be added first.

    Args:
        table: the table.
        names: of the file's columns, in lower case; None if unknown: all columns without a default.
        table_columns: whether each column has a default. A file can lack such a column.

    Raises:
        FileError: the file does not fit the table.
    """
    required = [name for name, has_default in table_columns.items() if not has_default]
    if names is None:
        return required, []
    if doubled := [name for name in names if names.count(name) > 1]:
        raise FileError(f"has several columns with the name {doubled[0]!r}")
    new = [name for name in names if name not in table_columns]
    if missing := [name for name in required if name not in names]:
        raise FileError(
            f"lacks {_columns_text(missing)} of {table.table}. Deliver it complete, or give a column that can be "
            f"missing a default{did_you_mean(missing[0], new)}"
        )
    if new and table.new_columns == "fail":
        raise FileError(
            f"has {_columns_text(new)}, which {table.table} lacks. Alter the table, or set new_columns: add"
            f"{did_you_mean(new[0], table_columns)}"
        )
    if wrong := [name for name in new if not _NEW_COLUMN.fullmatch(name)]:
        raise FileError(f"has the column {wrong[0]!r}, which is not a name for a new column of {table.table}")
    return list(names), new


def copy_statement(table: LoadedTable, columns: Sequence[str], file: S3File, role: str, region: str) -> str:
    """Return the COPY of one file. https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html"""
    clauses = [
        f"copy {quote_table(table.table)} ({', '.join(map(quote_identifier, columns))})",
        f"from {quote_literal(file.url)}",
        f"iam_role {'default' if role == 'default' else quote_literal(role)}",
    ]
    if table.format == "parquet":
        # Other options, the Region among them, are not allowed.
        return " ".join([*clauses, "format as parquet"])
    clauses.append(f"region {quote_literal(region)}")
    if table.format == "csv":
        clauses.append(f"csv delimiter {quote_literal(table.delimiter or ',')} ignoreheader 1")
    else:
        clauses.append("json 'auto ignorecase'")
    if table.null_as:
        clauses.append(f"null as {quote_literal(table.null_as)}")
    clauses.append(f"dateformat {quote_literal(table.date_format)} timeformat {quote_literal(table.time_format)}")
    if compression := compression_of(file.key)[0]:
        clauses.append(compression)
    return " ".join(clauses)


def _columns_text(names: Sequence[str]) -> str:
    return f"the column{'' if len(names) == 1 else 's'} {', '.join(names)}"
