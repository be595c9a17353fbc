"""DELETE, MERGE and names of temporary tables, where the two grammars differ."""

from sqlglot import exp

from local.warehouse.dialect import generate
from local.warehouse.plan import Plan, block


def delete(node: exp.Delete) -> None:
    """FROM may be left out. https://docs.aws.amazon.com/redshift/latest/dg/r_DELETE.html"""
    if not node.this and (names := node.args.get("tables")):
        node.set("this", names[0])
        node.set("tables", None)


def merge_insert(node: exp.When) -> None:
    """INSERT VALUES without a list of columns. https://docs.aws.amazon.com/redshift/latest/dg/r_MERGE.html"""
    then = node.args["then"]
    if isinstance(then, exp.Insert) and isinstance(then.this, exp.Tuple) and not then.expression:
        [values] = then.this.expressions
        if isinstance(values, exp.Anonymous):
            then.set("this", None)
            then.set("expression", exp.Tuple(expressions=[each.copy() for each in values.expressions]))


def remove_duplicates(tree: exp.Merge) -> Plan:
    """MERGE … REMOVE DUPLICATES: what matches is replaced by the source's rows, each kept once."""
    target, source, matches = (generate(tree.args[name]) for name in ("this", "using", "on"))
    return Plan(
        block(
            f"DELETE FROM {target} USING {source} WHERE {matches}",  # noqa: S608 - written by sqlglot from its tree
            f"INSERT INTO {target} SELECT DISTINCT * FROM {source}",  # noqa: S608
        ),
        tag="MERGE",
    )


def temporary(node: exp.Identifier) -> None:
    """A name that begins with # is a temporary table's, and has to be quoted here."""
    if node.name.startswith("#"):
        node.set("quoted", True)
