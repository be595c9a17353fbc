"""Window functions that PostgreSQL lacks: LISTAGG, and LAG, LEAD and NTH_VALUE with IGNORE NULLS."""

from sqlglot import exp

from redshift_local.plan import HELPERS, Refused, unsupported


def ignoring_nulls(node: exp.Window, call: exp.Anonymous) -> exp.Expr | None:
    """Rewrite a window function that ignores nulls; returns its replacement, or None if it stays.

    https://docs.aws.amazon.com/redshift/latest/dg/r_WF_LAG.html
    """
    name = str(call.this).lower()
    if name in ("first_value", "last_value"):
        call.set("this", f"{HELPERS}.{name}")
        return None
    if name not in ("lag", "lead", "nth_value"):
        raise Refused('syntax error at or near "ignore"', "42601", f"{name.upper()} cannot ignore nulls")
    value, *rest = call.expressions
    number = rest[0] if rest else exp.Literal.number(1)
    if not isinstance(number, exp.Literal) or number.name == "0":
        raise unsupported(f"{name.upper()} that ignores nulls with a computed offset, or 0", "write the number")
    if name == "nth_value":
        node.set("this", exp.Anonymous(this=f"{HELPERS}.kept", expressions=[value.copy(), number.copy()]))
        return exp.Anonymous(this=f"{HELPERS}.item", expressions=[node.copy(), number.copy()])
    node.set("this", exp.Anonymous(this=f"{HELPERS}.lag", expressions=[value.copy(), number.copy()]))
    if name == "lead":
        # The same in the opposite order.
        for item in node.args["order"].expressions if node.args.get("order") else []:
            item.set("desc", not item.args.get("desc"))
            item.set("nulls_first", not item.args.get("nulls_first"))
    one = exp.Literal.number(1)
    node.set("spec", _frame(end=one, end_side="PRECEDING"))
    return None


def listagg(node: exp.Window, values: list[exp.Expr], order: exp.Order | None, *, distinct: bool) -> exp.Expr:
    """Return the replacement for LISTAGG in a window, and set the window's order and frame.

    https://docs.aws.amazon.com/redshift/latest/dg/r_WF_LISTAGG.html
    """
    if node.args.get("order"):
        raise Refused("LISTAGG has its order in WITHIN GROUP", "42601")
    if order is not None:
        node.set("order", exp.Order(expressions=[item.copy() for item in order.expressions]))
        node.set("spec", _frame(end="UNBOUNDED", end_side="FOLLOWING"))
    return exp.Anonymous(this=f"{HELPERS}.list_once" if distinct else "string_agg", expressions=values)


def _frame(**end: object) -> exp.WindowSpec:
    return exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", **end)
