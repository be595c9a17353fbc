"""Compare two states of a relation: columns, rows, values."""

import contextlib
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redshift_connector
from redshift_connector.utils.oids import get_datatype_name

from mwaa_local.stack import rows
from mwaa_release.redshift import quote_identifier

# Larger tables are compared by columns and number of rows only, to keep a build fast.
MOST_ROWS = 1_000_000
SAMPLE = 5
# EXCEPT cannot compare SUPER and GEOMETRY.
_NOT_COMPARABLE = {"super", "geometry", "geography"}


@dataclass(frozen=True)
class Relation:
    """A table or view."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


@dataclass
class Difference:
    """The differences between two states of a relation."""

    rows_before: int
    rows_after: int
    columns_added: list[str] = field(default_factory=list)
    columns_removed: list[str] = field(default_factory=list)
    columns_retyped: list[str] = field(default_factory=list)
    added: int = 0
    removed: int = 0
    changed: int = 0
    compared: bool = True
    # The key or sign of a row, and its values.
    sample: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the comparison found no change."""
        columns = self.columns_added or self.columns_removed or self.columns_retyped
        return not (columns or self.added or self.removed or self.changed) and self.rows_before == self.rows_after


def existing_relations(connection: redshift_connector.Connection, schemas: Collection[str]) -> set[Relation]:
    """Return the tables and views in some schemas."""
    query = "select table_schema, table_name from svv_tables"
    return {Relation(schema, name) for schema, name in rows(connection, query)[1] if schema in schemas}


def column_names(connection: redshift_connector.Connection) -> list[tuple[Relation, str]]:
    """Return each column of each table and view."""
    query = "select table_schema, table_name, column_name from svv_columns"
    return [(Relation(schema, name), column) for schema, name, column in rows(connection, query)[1]]


def columns(connection: redshift_connector.Connection, relation: Relation) -> dict[str, str]:
    """Return the type of each column by name; empty if the relation does not exist or is a broken view."""
    cursor = connection.cursor()
    try:
        cursor.execute(f"select * from {relation} limit 0")  # noqa: S608 - quoted
    except redshift_connector.Error:
        return {}
    return {column[0]: get_datatype_name(column[1]).lower() for column in cursor.description}


def count(connection: redshift_connector.Connection, relation: Relation) -> int:
    """Return the number of rows."""
    return rows(connection, f"select count(*) from {relation}")[1][0][0]  # noqa: S608 - quoted


def snapshot(connection: redshift_connector.Connection, relation: Relation, schema: str) -> Relation | None:
    """Copy a relation into `schema`, to compare it with the rebuilt one.

    Returns:
        The copy; None if the relation does not exist, is a broken view, or is too large.
    """
    if not columns(connection, relation) or count(connection, relation) > MOST_ROWS:
        return None
    # Schema and name together can be longer than an identifier.
    copy = Relation(schema, hashlib.sha256(str(relation).encode()).hexdigest())
    rows(connection, f"drop table if exists {copy}")
    rows(connection, f"create table {copy} as select * from {relation}")  # noqa: S608 - quoted
    return copy


def compare(
    connection: redshift_connector.Connection, before: Relation, after: Relation, key: Sequence[str] = ()
) -> Difference | None:
    """Compare two relations.

    Args:
        connection: in autocommit.
        before: the earlier state.
        after: the later state.
        key: columns that identify a row. Without a key, a changed row counts as one removed and one added.

    Returns:
        None if one of them does not exist.
    """
    old, new = columns(connection, before), columns(connection, after)
    if not old or not new:
        return None
    difference = Difference(count(connection, before), count(connection, after))
    difference.columns_added = [f"{name} ({new[name]})" for name in new if name not in old]
    difference.columns_removed = [name for name in old if name not in new]
    both = [name for name in new if name in old]
    difference.columns_retyped = [f"{name} ({old[name]} → {new[name]})" for name in both if old[name] != new[name]]
    same = [name for name in both if old[name] == new[name] and new[name] not in _NOT_COMPARABLE]
    if not same or max(difference.rows_before, difference.rows_after) > MOST_ROWS:
        difference.compared = False
        return difference
    keys = [name for name in key if name in same] if set(key) <= set(same) else []
    with _differing_rows(connection, before, after, same):
        _count_rows(connection, difference, keys)
        difference.sample = _sample(connection, same, keys)
    return difference


@contextlib.contextmanager
def _differing_rows(
    connection: redshift_connector.Connection, before: Relation, after: Relation, names: Sequence[str]
) -> Iterator[None]:
    """Create the temporary tables `removed_rows` and `added_rows`, with the rows that only one of the two has."""
    listed = ", ".join(quote_identifier(name) for name in names)
    for name, one, other in (("removed_rows", before, after), ("added_rows", after, before)):
        rows(connection, f"drop table if exists {name}")
        rows(
            connection,
            f"create temp table {name} as "  # noqa: S608 - quoted
            f"(select {listed} from {one} except select {listed} from {other})",
        )
    try:
        yield
    finally:
        for name in ("removed_rows", "added_rows"):
            rows(connection, f"drop table {name}")


def _count_rows(connection: redshift_connector.Connection, difference: Difference, keys: Sequence[str]) -> None:
    removed, added = (
        rows(connection, f"select count(*) from {name}")[1][0][0]  # noqa: S608 - fixed names
        for name in ("removed_rows", "added_rows")
    )
    if keys:
        joined = f"select count(*) from added_rows join removed_rows on {_on(keys)}"  # noqa: S608 - quoted
        difference.changed = rows(connection, joined)[1][0][0]
    difference.added, difference.removed = added - difference.changed, removed - difference.changed


def _on(keys: Sequence[str]) -> str:
    return " and ".join(f"added_rows.{quote_identifier(key)} = removed_rows.{quote_identifier(key)}" for key in keys)


def _sample(
    connection: redshift_connector.Connection, names: Sequence[str], keys: Sequence[str]
) -> list[tuple[str, str]]:
    listed = {
        table: ", ".join(f"{table}.{quote_identifier(name)}" for name in names)
        for table in ("removed_rows", "added_rows")
    }
    sample: list[tuple[str, str]] = []
    if keys:
        query = (
            f"select {listed['removed_rows']}, {listed['added_rows']} "  # noqa: S608 - quoted
            f"from added_rows join removed_rows on {_on(keys)} limit {SAMPLE}"
        )
        for row in rows(connection, query)[1]:
            old, new = row[: len(names)], row[len(names) :]
            changed = [
                f"{name}: {_text(one)} → {_text(other)}"
                for name, one, other in zip(names, old, new, strict=True)
                if one != other
            ]
            sample.append((_key(names, new, keys), ", ".join(changed)))
    for sign, table, other in (("+", "added_rows", "removed_rows"), ("-", "removed_rows", "added_rows")):
        only = f" where not exists (select 1 from {other} where {_on(keys)})" if keys else ""  # noqa: S608
        for row in rows(connection, f"select {listed[table]} from {table}{only} limit {SAMPLE}")[1]:  # noqa: S608
            values = ", ".join(f"{name}: {_text(value)}" for name, value in zip(names, row, strict=True))
            sample.append((sign, values))
    return sample[:SAMPLE]


def _key(names: Sequence[str], row: Sequence[Any], keys: Sequence[str]) -> str:
    return ", ".join(str(row[names.index(key)]) for key in keys)


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
