"""Aliases used in the select list that defines them, or in its WHERE: `select a * 2 as twice, twice + 1 from t`.

Redshift puts the expression in the alias's place, unless the tables read have a column of that name, which goes first.
https://docs.aws.amazon.com/redshift/latest/dg/r_SELECT_list.html
"""

from sqlglot import exp

# GROUP BY and ORDER BY know aliases in PostgreSQL too.
_CLAUSES = ("where", "having")
Use = tuple[int, str]  # number of a SELECT in its statement, and an alias that it uses


def inlined(query: exp.Expr, left: Use | None = None) -> tuple[exp.Expr, list[Use]]:
    """Replace aliases by their expressions, in a copy; returns the copy and all names that can be aliases.

    Args:
        query: a statement as it was parsed.
        left: leave this one as it is.
    """
    query, uses = query.copy(), []

    def inline(expression: exp.Expr, select: exp.Select, number: int, known: dict[str, exp.Expr]) -> None:
        for column in _columns(expression, select):
            name = column.name.lower()
            if name not in known:
                continue
            use = (number, name)
            uses.extend([use] if use not in uses else [])
            if use != left:
                value: exp.Expr = exp.Paren(this=known[name].copy())
                alone = column.parent is select
                column.replace(exp.alias_(value, column.this.copy()) if alone else value)

    # Inner queries first: an outer one may repeat them.
    for number, select in reversed(list(enumerate(query.find_all(exp.Select)))):
        known: dict[str, exp.Expr] = {}
        for expression in list(select.expressions):
            inline(expression, select, number, known)
            # An alias that its own expression reads is a column of the tables.
            columns = expression.find_all(exp.Column)
            own = {column.name.lower() for column in columns if column.find_ancestor(exp.Select) is select}
            if isinstance(expression, exp.Alias) and expression.alias.lower() not in own:
                known[expression.alias.lower()] = expression.this
        for clause in _CLAUSES:
            if clause in select.args and known:
                inline(select.args[clause], select, number, known)
    return query, uses


def _columns(expression: exp.Expr, select: exp.Select) -> list[exp.Column]:
    """Return the unqualified columns in an expression of `select`, without those of subqueries."""
    columns = [
        column
        for column in expression.find_all(exp.Column)
        if not column.table and isinstance(column.this, exp.Identifier)
    ]
    return [column for column in columns if column.find_ancestor(exp.Select) is select]
