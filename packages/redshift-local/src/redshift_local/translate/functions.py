"""Rewrites of function calls that a function of the same name in the database cannot implement."""

from collections.abc import Callable

from sqlglot import exp

from redshift_local.parse import longnames
from redshift_local.plan import HELPERS, Refused, unsupported
from redshift_local.translate import dateparts, windows

# PostgreSQL's functions of these names differ; Redshift's are in the schema pg_redshift (sql/*.sql).
_OURS_INSTEAD = frozenset({
    "bttext_pattern_cmp", "concat", "crc32", "current_schema", "date_cmp", "date_part", "date_trunc", "format_type",
    "interval_cmp", "json_array_length", "json_serialize", "json_typeof", "pg_get_constraintdef", "pg_get_viewdef",
    "regexp_count", "regexp_instr", "regexp_replace", "regexp_substr", "split_part", "timestamp_cmp", "timestamptz_cmp",
    "to_date", "to_timestamp",
})  # fmt: skip
_SAME_AS = {"nvl": "coalesce", "isnull": "coalesce", "pow": "power", "date_diff": "datediff", "date_add": "dateadd"}
_FIRST_IS_PART = ("dateadd", "datediff", "date_part", "date_trunc")
_MOMENTS = {"dateadd": (2,), "datediff": (1, 2), "date_part": (1,), "date_trunc": (1,), "last_day": (0,), "trunc": ()}
_MOMENTS |= {"add_months": (0,), "months_between": (0, 1), "next_day": (0,)}
# https://docs.aws.amazon.com/redshift/latest/dg/r_Window_functions.html
_NEED_FRAME = frozenset({
    "avg", "count", "first_value", "last_value", "max", "min", "nth_value", "stddev", "stddev_pop",
    "stddev_samp", "sum", "var_pop", "var_samp", "variance", "bool_and", "bool_or",
})  # fmt: skip
_NAMES = {name: name for name in ("avg", "listagg", "ratio_to_report", "array", "object", "version")} | {
    "dateadd": "date_add",
    "datediff": "date_diff",
    "date_part": "date_part",
    "nvl2": "case",
}
# PostgreSQL returns NUMERIC for a NUMERIC argument.
_DOUBLE = frozenset({
    "sqrt", "cbrt", "exp", "log", "power", "stddev", "stddev_samp", "stddev_pop", "variance", "var_samp", "var_pop",
})  # fmt: skip
_NAME_RELATIONS = ("has_table_privilege", "has_schema_privilege", "has_column_privilege", "pg_get_viewdef")
_YEARS = ("year", "years", "y", "yr", "yrs")
_PREFIXES_NOT_HERE = ("st_", "h3_", "hll_", "ai_", "explain_model")
_NOT_HERE = frozenset({
    "farmfingerprint64", "murmur3_32_hash", "checksum", "collate", "object_transform", "intervald2s",
    "intervaly2m", "abstime", "reltime", "default_iam_role", "slice_num", "hll", "size", "is_float", "is_decimal",
    "change_query_priority", "change_session_priority", "change_user_priority", "reboot_cluster",
    "has_assumerole_privilege", "pg_get_grantee_by_iam_role", "pg_get_iam_role_by_user", "proc_is_rls_safe",
    "pg_timezone_abbrevs",
})  # fmt: skip
_ONLY_POSTGRES = frozenset({
    "array_agg", "string_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg",
    "json_build_object", "jsonb_build_object", "unnest", "to_json", "to_jsonb", "row_to_json", "format", "age",
    "make_date", "make_timestamp", "date_bin", "gen_random_uuid", "clock_timestamp", "statement_timestamp",
    "num_nonnulls", "concat_ws", "regexp_matches", "regexp_split_to_table", "regexp_split_to_array",
    "string_to_array", "array_length", "overlay", "justify_days", "mode",
    "corr", "covar_pop", "covar_samp", "regr_slope", "regr_intercept", "regr_r2", "every", "bit_xor", "starts_with",
})  # fmt: skip


def call(node: exp.Anonymous) -> exp.Expr | None:
    """Rewrite a call; returns its replacement, or None if it stays."""
    if isinstance(node.parent, exp.Dot) and node.parent.this.name.lower() != "pg_catalog":
        return None  # a function of the user's
    name = str(node.this).lower()
    name = _SAME_AS.get(name, name)
    if name in _ONLY_POSTGRES and not isinstance(node.parent, exp.Dot):  # psql calls them by pg_catalog.name
        raise _no_function(name, node, "PostgreSQL has it, Redshift does not")
    if name in _NOT_HERE or name.startswith(_PREFIXES_NOT_HERE):
        raise unsupported(f"function {name.upper()}", "it works on a cluster only")
    if name in _NAME_RELATIONS:
        for argument in node.expressions:
            if argument.is_string:
                argument.set("this", longnames.shorten_string(argument.name))
    if name in _FIRST_IS_PART and node.expressions:
        part = node.expressions[0]
        if isinstance(part, (exp.Column, exp.Var)):
            part.replace(exp.Literal.string(part.name.lower()))
    for index in _MOMENTS.get(name, ()):
        if index < len(node.expressions) and node.expressions[index].is_string:
            _as_timestamp(node.expressions[index])
    if name == "convert_timezone" and node.expressions and node.expressions[-1].is_string:
        _as_timestamp(node.expressions[-1])
    if name == "dateadd" and len(node.expressions) == 3 and node.expressions[0].name.lower() in _YEARS:
        return exp.Anonymous(this=f"{HELPERS}.add_years", expressions=node.expressions[1:])
    if name in ("datediff", "date_part") and node.expressions and node.expressions[0].is_string:
        word = node.expressions[0].name.lower()
        if name == "datediff" and len(node.expressions) == 3:
            return dateparts.datediff(word, *node.expressions[1:])
        if (
            name == "date_part"
            and len(node.expressions) == 2
            and (arithmetic := dateparts.field(word, node.expressions[1], whole=False))
        ):
            return arithmetic
    if handler := _HANDLERS.get(name):
        try:
            return handler(node)
        except (IndexError, ValueError):  # the number of arguments is wrong
            raise _no_function(name, node) from None
    if name in _DOUBLE and not isinstance(node.parent, exp.Window):
        node.set("this", name)
        return exp.cast(node.copy(), exp.DType.DOUBLE)
    node.set("this", f"{HELPERS}.{name}" if name in _OURS_INSTEAD else name)
    return None


def _no_function(name: str, node: exp.Anonymous, hint: str = "") -> Refused:
    kinds = ", ".join("unknown" for _ in node.expressions)
    return Refused(f"function {name}({kinds}) does not exist", "42883", hint)


def _as_timestamp(literal: exp.Expr) -> None:
    # PostgreSQL would give an untyped literal the type of the first matching function.
    literal.replace(exp.cast(literal.copy(), exp.DType.TIMESTAMP))


def _nvl2(node: exp.Anonymous) -> exp.Expr:
    value, present, absent = node.expressions
    return exp.case().when(exp.Not(this=exp.Is(this=value, expression=exp.Null())), present).else_(absent)


def _json_path(node: exp.Anonymous) -> None:
    *path, last = node.expressions
    quiet = isinstance(last, exp.Boolean)
    name = "json_extract_path_text"
    if quiet:
        node.set("expressions", path)
        name += "_quiet" if last.this else ""
    node.set("this", f"{HELPERS}.{name}")


def _array(node: exp.Anonymous) -> None:
    # psql builds PostgreSQL arrays from queries; they are not SUPER.
    if not any(isinstance(argument, exp.Query) for argument in node.expressions):
        node.set("this", f"{HELPERS}.array_of")


def _renamed(name: str) -> Callable[[exp.Anonymous], None]:
    def rename(node: exp.Anonymous) -> None:
        node.set("this", name)

    return rename


def _avg(node: exp.Anonymous) -> exp.Expr | None:
    """The type of AVG follows its argument's: see pg_redshift.average. Over a window, `window` does it."""
    if isinstance(node.parent, exp.Window):
        return None
    return _average(node, node)


def _average(whole: exp.Expr, call_in_it: exp.Anonymous) -> exp.Expr:
    if not call_in_it.expressions:
        raise _no_function("avg", call_in_it)
    value = call_in_it.expressions[0]
    example = whole.copy()
    value = value.expressions[0] if isinstance(value, exp.Distinct) else value
    biggest = exp.Anonymous(this="max", expressions=[value.copy()])
    if isinstance(example, exp.Window):
        example.set("this", biggest)
    else:
        example = biggest
    return exp.Anonymous(this=f"{HELPERS}.average", expressions=[whole.copy(), example])


def name_of(node: exp.Expr) -> str | None:
    """Return the column name that Redshift gives to a call, if the rewritten call would get another name."""
    if isinstance(node, exp.Window):
        node = node.this
    if isinstance(node, (exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)):
        node = node.this
    if isinstance(node, exp.Extract):
        return "date_part"
    return _NAMES.get(str(node.this).lower()) if isinstance(node, exp.Anonymous) else None


def _listagg(node: exp.Anonymous) -> exp.Expr | None:
    """Without WITHIN GROUP; with it, `within_group` has the order.

    https://docs.aws.amazon.com/redshift/latest/dg/r_LISTAGG.html
    """
    if isinstance(node.parent, exp.WithinGroup):
        return None
    return _string_agg(node, None, node.parent if isinstance(node.parent, exp.Window) else None)


def _string_agg(node: exp.Anonymous, order: exp.Order | None, window: exp.Window | None) -> exp.Expr:
    parts, distinct = list(node.expressions), False
    if parts and isinstance(parts[0], exp.Distinct):
        distinct = True
        parts = list(parts[0].expressions) + parts[1:]
    if not parts:
        raise Refused("function listagg() does not exist", "42883")
    value = exp.cast(parts[0].copy(), exp.DType.TEXT)
    glue = parts[1].copy() if len(parts) > 1 else exp.Literal.string("")
    if window is not None:
        return windows.listagg(window, [value, glue], order, distinct=distinct)
    if distinct and order is not None:
        # PostgreSQL can order distinct values only by the values.
        ordered = order.expressions[0]
        if len(order.expressions) > 1 or ordered.this.sql() != parts[0].sql():
            raise unsupported("LISTAGG(DISTINCT a) ordered by something else", "order it by the value itself")
        order.expressions[0].set("this", value.copy())
    last: exp.Expr = exp.Order(this=glue, expressions=order.expressions) if order is not None else glue
    first: exp.Expr = exp.Distinct(expressions=[value]) if distinct else value
    return exp.Anonymous(this="string_agg", expressions=[first, last])


def within_group(node: exp.WithinGroup) -> exp.Expr | None:
    """LISTAGG and percentiles; over a window, too."""
    inner, order = node.this, node.expression
    if not isinstance(inner, exp.Anonymous):
        return None
    name = str(inner.this).lower()
    window = isinstance(node.parent, exp.Window)
    if name == "listagg":
        return _string_agg(inner, order, node.parent if window else None)
    if window and name in ("percentile_cont", "percentile_disc"):
        ordered = order.expressions[0]
        fraction = inner.expressions[0]
        if ordered.args.get("desc"):
            fraction = exp.Sub(this=exp.Literal.number(1), expression=fraction.copy())
        return exp.Anonymous(this=f"{HELPERS}.{name}", expressions=[ordered.this.copy(), fraction.copy()])
    return None


def window(node: exp.Window) -> exp.Expr | None:
    """Rewrite window functions that PostgreSQL lacks, and enforce Redshift's rule about frames."""
    inner, nulls = node.this, "RESPECT"
    if isinstance(inner, (exp.IgnoreNulls, exp.RespectNulls)):
        nulls = "IGNORE" if isinstance(inner, exp.IgnoreNulls) else "RESPECT"
        inner = inner.this
    elif isinstance(inner, exp.Anonymous) and inner.expressions:
        first = inner.expressions[0]
        if isinstance(first, (exp.IgnoreNulls, exp.RespectNulls)):
            nulls = "IGNORE" if isinstance(first, exp.IgnoreNulls) else "RESPECT"
            first.replace(first.this)
    if not isinstance(inner, exp.Anonymous):
        return None
    name = str(inner.this).lower().removeprefix(f"{HELPERS}.")
    node.set("this", inner)
    if node.args.get("order") and not node.args.get("spec") and name in _NEED_FRAME:
        text = "Aggregate window functions with an ORDER BY clause require a frame clause"
        raise Refused(text, "42601", "add: rows between unbounded preceding and current row")
    if nulls == "IGNORE":
        return windows.ignoring_nulls(node, inner)
    if name in ("lag", "lead") and len(inner.expressions) > 2:
        raise Refused(f"function {name}(unknown, integer, unknown) does not exist", "42883", "use NVL for a default")
    if name in _DOUBLE:
        return exp.cast(node.copy(), exp.DType.DOUBLE)
    if name == "avg":
        return _average(node, inner)
    if name == "ratio_to_report":
        if not inner.expressions:
            raise _no_function(name, inner)
        whole = exp.Window(
            this=exp.Anonymous(this="sum", expressions=[inner.expressions[0].copy()]),
            partition_by=[item.copy() for item in node.args.get("partition_by") or []],
        )
        value = exp.cast(inner.expressions[0].copy(), exp.DType.DOUBLE)
        nonzero = exp.Anonymous(this="nullif", expressions=[whole, exp.Literal.number(0)])
        return exp.Paren(this=exp.Div(this=value, expression=nonzero))
    return None


def _alternative(node: exp.Anonymous) -> None:
    """TEXT_TO_INT_ALT and TEXT_TO_NUMERIC_ALT. https://docs.aws.amazon.com/redshift/latest/dg/r_TEXT_TO_NUMERIC_ALT.html"""
    if len(node.expressions) > 1 and node.expressions[1].is_string:
        raise unsupported(f"{str(node.this).upper()} with a format", "use TO_NUMBER")


def _default(node: exp.Anonymous) -> exp.Expr | None:
    """The default of a column. That of an identity is only in pg_attrdef.adsrc (sql/6_keys.sql)."""
    value = node.expressions[0]
    if not isinstance(value, exp.Column) or value.name.lower() != "adbin" or not node.parent_select:
        return None
    tables = [table for table in node.parent_select.find_all(exp.Table) if table.name.lower() == "pg_attrdef"]
    if not any(value.table.lower() in ("", table.alias_or_name.lower()) for table in tables):
        return None
    return exp.Anonymous(this="coalesce", expressions=[node.copy(), exp.column("adsrc", value.args.get("table"))])


_HANDLERS: dict[str, Callable[[exp.Anonymous], exp.Expr | None]] = {
    "nvl2": _nvl2,
    "avg": _avg,
    "listagg": _listagg,
    "json_extract_path_text": _json_path,
    "array": _array,
    "pg_get_expr": _default,
    "object": _renamed(f"{HELPERS}.object_of"),
    "version": _renamed(f"{HELPERS}.version"),
    "current_setting": _renamed(f"{HELPERS}.current_setting"),
    "text_to_int_alt": _alternative,
    "text_to_numeric_alt": _alternative,
    "set_config": _renamed(f"{HELPERS}.set_config"),
}


def extract(node: exp.Extract) -> exp.Expr:
    """EXTRACT(part FROM moment) returns whole numbers; PostgreSQL's returns fractions."""
    moment = node.expression
    if moment.is_string:
        moment = exp.cast(moment.copy(), exp.DType.TIMESTAMP)
    if arithmetic := dateparts.field(node.this.name.lower(), moment, whole=True):
        return arithmetic
    part = exp.Literal.string(node.this.name.lower())
    return exp.Anonymous(this=f"{HELPERS}.extract", expressions=[part, moment.copy()])
