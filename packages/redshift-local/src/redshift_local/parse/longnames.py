"""Names of 64 to 127 bytes, which PostgreSQL lacks: those of temporary tables and table aliases are shortened.

dbt makes such tables for unit tests with long names, and gives relations a longer name for a moment when it replaces
them. These names are never visible; visible long names are refused.
https://docs.aws.amazon.com/redshift/latest/dg/r_names.html
"""

import hashlib

from sqlglot import exp

from redshift_local.plan import Refused, unsupported

_LONGEST = 63  # bytes
_FOR_A_MOMENT = ("__dbt_tmp", "__dbt_backup")
_PREFIX = 46  # bytes of the name; its digest follows


def is_long(name: str) -> bool:
    """Whether PostgreSQL would cut the name off."""
    return len(name) * 4 > _LONGEST and len(name.encode()) > _LONGEST


def shortened(name: str) -> str:
    """Return a unique name of at most 63 bytes."""
    digest = hashlib.sha256(name.lower().encode()).hexdigest()[:16]
    return f"{name.lower().encode()[:_PREFIX].decode(errors='ignore')}_{digest}"


def fitting(name: str) -> str:
    """Return a name, shortened if it is one of dbt's temporary names.

    Raises:
        Refused: it is another long name.
    """
    if not is_long(name):
        return name
    if not name.lower().endswith(_FOR_A_MOMENT):
        raise refusal(name)
    return shortened(name)


def check(statement: exp.Expr, node: exp.Identifier) -> None:
    """Refuse a long name that would be visible: a column's or a permanent relation's.

    Raises:
        Refused: it is one.
    """
    parent = node.parent
    names_relation = isinstance(parent, (exp.Table, exp.TableAlias)) and node.arg_key == "this"
    if not names_relation and not (isinstance(parent, exp.Column) and node.arg_key == "table"):
        raise refusal(node.name)
    if node.name.lower().endswith(_FOR_A_MOMENT):
        return
    creates = isinstance(statement, exp.Create) and not statement.find(exp.TemporaryProperty)
    target = statement.this.this if creates and isinstance(statement.this, exp.Schema) else statement.this
    if (creates and parent is target) or isinstance(parent.parent, exp.AlterRename):
        raise refusal(node.name)


def literal(node: exp.Expr) -> None:
    """Shorten a long name in a query of the catalog: `where table_name = '…'`."""
    if node.is_string and is_long(node.name):
        node.set("this", shortened(node.name))


def refusal(name: str) -> Refused:
    """Return the construct that error messages name."""
    return unsupported(f"names of more than {_LONGEST} bytes ({name})", "choose a shorter name")
