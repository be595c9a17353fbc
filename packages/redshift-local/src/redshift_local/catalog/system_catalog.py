"""Catalog tables and functions whose content differs between Redshift and PostgreSQL (sql/6_catalog.sql)."""

import re
from collections.abc import Iterator

from sqlglot import exp

from redshift_local.parse import scopes
from redshift_local.plan import HELPERS, unsupported

_OURS = (
    *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_group", "pg_index", "pg_namespace", "pg_proc"),
    *("pg_tables", "pg_user", "pg_views"),
)
_TABLES = re.compile(rf"(?<!')\bpg_catalog\.({'|'.join(_OURS)})\b")
# Views about all databases. They show the current one, unless the statement asks for another one.
OF_ALL_DATABASES = tuple(
    f"svv_{scope}_{kind}" for scope in ("redshift", "all") for kind in ("columns", "tables", "schemas")
)
_WITH_KEYS = ("pg_attribute", "pg_class")
_OF_THE_STANDARD = ("columns", "key_column_usage", "schemata", "table_constraints", "tables", "views")


def table(node: exp.Table) -> None:
    """Replace a table of PostgreSQL's catalog by the view that shows Redshift's."""
    name, schema = node.name.lower(), node.db.lower()
    if scopes.cte_of(node):
        return
    if (name in _OURS and schema in ("", "pg_catalog")) or (
        name in _OF_THE_STANDARD and schema == "information_schema"
    ):
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(name)))
        node.set("db", exp.to_identifier(HELPERS))
        if name in _WITH_KEYS and any(table.name.lower() == "pg_index" for table in node.root().find_all(exp.Table)):
            # The view with the indexes of keys is slower, so it is used only together with pg_index.
            node.set("this", exp.to_identifier(f"{name}_and_keys"))


def of_named_databases(tree: exp.Expr) -> Iterator[tuple[exp.Table, tuple[str, str, str]]]:
    """Yield the views that are read with `WHERE database_name = '…'`, and this name, their schema and their name."""
    if isinstance(tree, exp.Create) and tree.kind == "VIEW":
        return
    for select in tree.find_all(exp.Select):
        sources = [select.args.get("from_"), *(select.args.get("joins") or [])]
        views = [node.this for node in sources if node and node.this.name.lower() in OF_ALL_DATABASES]
        where = select.args.get("where")
        if len(views) != 1 or not where or not isinstance(views[0], exp.Table):
            continue
        for part in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            if isinstance(part, exp.EQ) and part.this.name.lower() == "database_name" and part.expression.is_string:
                yield views[0], (part.expression.name, "pg_catalog", views[0].name.lower())


def raw(text: str) -> str:
    """Do the same in the text of a statement that sqlglot cannot parse, such as psql's \\d."""
    return _TABLES.sub(lambda match: f"{HELPERS}.{match[1]}", text)


def column(node: exp.Column) -> exp.Expr | None:
    """Drop the schema of a column such as `pg_catalog.pg_class.relname`: its table has moved to another schema.

    CURRENT_NAMESPACE and CURRENT_AWS_ACCOUNT are functions without parentheses, which sqlglot takes for columns.
    """
    if not node.table and not node.this.args.get("quoted"):
        if node.name.lower() == "current_namespace":
            return exp.Anonymous(this=f"{HELPERS}.current_namespace")
        if node.name.lower() == "current_aws_account":
            raise unsupported("CURRENT_AWS_ACCOUNT", "it has no AWS account")
    schema, name = node.text("db").lower(), node.table.lower()
    if (schema == "pg_catalog" and name in _OURS) or (schema == "information_schema" and name in _OF_THE_STANDARD):
        node.set("db", None)
    return None


def function(node: exp.Dot) -> exp.Expr | None:
    """Drop pg_catalog in front of a function: Redshift's can be in another schema."""
    if isinstance(node.this, exp.Identifier) and node.this.name.lower() == "pg_catalog":
        return node.expression if isinstance(node.expression, exp.Func) else None
    return None
