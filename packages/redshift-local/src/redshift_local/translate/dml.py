"""DELETE, MERGE and identifiers: differences between the two grammars."""

from sqlglot import exp

from redshift_local.parse import longnames
from redshift_local.parse.dialect import generate
from redshift_local.plan import Plan, block

# The last one begins the mark that stands for a long literal (longtext.py).
_NOT_JSON_YET = ("{", "[", '"', "\x01")


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
            then.set("expression", exp.Tuple(expressions=[item.copy() for item in values.expressions]))


def remove_duplicates(tree: exp.Merge) -> Plan:
    """MERGE … REMOVE DUPLICATES: replaces matching rows by the distinct rows of the source."""
    target, source, matches = (generate(tree.args[name]) for name in ("this", "using", "on"))
    return Plan(
        block(
            f"DELETE FROM {target} USING {source} WHERE {matches}",  # noqa: S608 - written by sqlglot from its tree
            f"INSERT INTO {target} SELECT DISTINCT * FROM {source}",  # noqa: S608
        ),
        tag="MERGE",
    )


def identifier(node: exp.Identifier) -> None:
    """Fold quoted names to lower case too, and quote the names of temporary tables, which begin with #.

    https://docs.aws.amazon.com/redshift/latest/dg/r_names.html
    """
    if node.quoted:
        node.set("this", longnames.fold(node.name))
    elif node.name.startswith("#"):
        node.set("quoted", True)
    if (short := longnames.fitting(node.name)) != node.name:  # a rewrite has made it, such as PIVOT
        node.set("this", short)
        node.set("quoted", True)


def stored(node: exp.Insert | exp.Update) -> None:
    """Cast strings that look like JSON to text, so that a SUPER column stores a string and not the parsed value.

    No literal of another type looks like this.
    """
    values = [item.expression for item in node.expressions] if isinstance(node, exp.Update) else []
    rows = node.expression.expressions if isinstance(node, exp.Insert) and node.expression else []
    for row in rows:
        values += row.expressions if isinstance(row, exp.Tuple) else [row.unalias()]
    for value in values:
        if isinstance(value, exp.Literal) and value.is_string and value.name.lstrip()[:1] in _NOT_JSON_YET:
            value.replace(exp.cast(value.copy(), exp.DType.TEXT))
