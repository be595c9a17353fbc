"""Tables of the catalog that have more columns or rows in Redshift than in PostgreSQL (sql/6_catalog.sql)."""

from sqlglot import exp

from local.warehouse.plan import HELPERS

_OURS = ("pg_attribute", "pg_group", "pg_views")


def table(node: exp.Table) -> None:
    """Have a statement read our own view in the place of PostgreSQL's table."""
    if node.name.lower() in _OURS and node.db.lower() in ("", "pg_catalog"):
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name.lower())))
        node.set("db", exp.to_identifier(HELPERS))
