"""Tables and functions of the catalog that tell something else in Redshift than in PostgreSQL (sql/6_catalog.sql)."""

import re

from sqlglot import exp

from redshift_local.plan import HELPERS

_OURS = ("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_group", "pg_index", "pg_proc", "pg_views")
_TABLES = re.compile(rf"(?<!')\bpg_catalog\.({'|'.join(_OURS)})\b")
_WITH_KEYS = ("pg_attribute", "pg_class")
_OF_THE_STANDARD = ("table_constraints", "key_column_usage")


def table(node: exp.Table) -> None:
    """Have a statement read our own view in the place of PostgreSQL's table."""
    name, schema = node.name.lower(), node.db.lower()
    if (name in _OURS and schema in ("", "pg_catalog")) or (
        name in _OF_THE_STANDARD and schema == "information_schema"
    ):
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(name)))
        node.set("db", exp.to_identifier(HELPERS))
        if name in _WITH_KEYS and any(each.name.lower() == "pg_index" for each in node.root().find_all(exp.Table)):
            # The indexes that keys would have are wanted only where pg_index is read as well.
            node.set("this", exp.to_identifier(f"{name}_and_keys"))


def raw(text: str) -> str:
    """The same for a statement that only PostgreSQL reads, such as psql's for \\d."""
    return _TABLES.sub(lambda found: f"{HELPERS}.{found[1]}", text)


def column(node: exp.Column) -> None:
    """Columns named with their table's schema, which is another one by then: `pg_catalog.pg_class.relname`."""
    schema, name = node.text("db").lower(), node.table.lower()
    if (schema == "pg_catalog" and name in _OURS) or (schema == "information_schema" and name in _OF_THE_STANDARD):
        node.set("db", None)


def function(node: exp.Dot) -> exp.Expr | None:
    """A function is found without pg_catalog in front, and maybe ours by then."""
    if isinstance(node.this, exp.Identifier) and node.this.name.lower() == "pg_catalog":
        return node.expression if isinstance(node.expression, exp.Func) else None
    return None
