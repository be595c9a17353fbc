"""Date parts, and the arithmetic of DATEDIFF, EXTRACT and DATE_PART written out.

Written out, because PostgreSQL does not inline a function that uses an argument twice, and calling one for every row
takes a hundred times as long. For an unknown part, the function of the same name raises the error.
https://docs.aws.amazon.com/redshift/latest/dg/r_Dateparts_for_datetime_functions.html
"""

import functools

from sqlglot import exp

from redshift_local.plan import HELPERS

_WORDS = {
    "millennium": "millennium millennia mil mils",
    "century": "century centuries c cent cents",
    "decade": "decade decades dec decs",
    "year": "year years y yr yrs",
    "quarter": "quarter quarters qtr qtrs",
    "month": "month months mon mons",
    "week": "week weeks w",
    "dow": "dayofweek day_of_week dow dw weekday",
    "doy": "dayofyear day_of_year doy dy yearday",
    "day": "day days d",
    "hour": "hour hours h hr hrs",
    "minute": "minute minutes m min mins",
    "second": "second seconds s sec secs",
    "millisecond": "millisecond milliseconds ms msec msecs msecond mseconds millisec millisecs millisecon",
    "microsecond": "microsecond microseconds us usec usecs usecond useconds microsec microsecs microsecon",
    "epoch": "epoch",
    "timezone": "timezone",
    "timezone_hour": "timezone_hour",
    "timezone_minute": "timezone_minute",
}
PARTS = {word: part for part, words in _WORDS.items() for word in words.split()}
# Number of boundaries of a part since a fixed moment, for dates and timestamps, and for times if the part has one.
_BOUNDARIES = {
    "day": "CAST({0} AS DATE) - DATE '2000-01-01'",
    "week": "FLOOR((CAST({0} AS DATE) - DATE '1999-12-26') / 7.0)",
    "month": "12 * {year} + {month}",
    "quarter": "4 * {year} + {quarter}",
    "year": "{year}",
    "decade": "FLOOR({year} / 10)",
    "century": "{century}",
    "millennium": "{millennium}",
    "hour": "FLOOR({epoch} / 3600)",
    "minute": "FLOOR({epoch} / 60)",
    "second": "FLOOR({epoch})",
    "millisecond": "FLOOR({epoch} * 1000)",
    "microsecond": "ROUND({epoch} * 1000000)",
}
_BOUNDARIES |= {"dow": _BOUNDARIES["day"], "doy": _BOUNDARIES["day"], "epoch": _BOUNDARIES["second"]}
_WITHIN = {"millisecond": "CAST(FLOOR({0}) AS BIGINT) % 1000", "microsecond": "CAST(FLOOR({0}) AS BIGINT) % 1000000"}


def datediff(part: str, start: exp.Expr, end: exp.Expr) -> exp.Expr | None:
    """Return the number of boundaries of `part` between two moments, or None if the part is unknown."""
    pattern = _BOUNDARIES.get(PARTS.get(part, ""))
    if pattern is None:
        return None
    since = [exp.cast(_filled(pattern, moment), exp.DType.BIGINT) for moment in (end, start)]
    return exp.Paren(this=exp.Sub(this=since[0], expression=since[1]))


def field(part: str, moment: exp.Expr, *, whole: bool) -> exp.Expr | None:
    """Return a part of a moment, or None if the part is unknown. `whole` cuts off fractions, as EXTRACT does."""
    if (known := PARTS.get(part)) is None:
        return None
    value = _raw(known, moment)
    if known in _WITHIN:
        # Without the seconds, as in the manual's example.
        value = exp.Paren(this=_filled(_WITHIN[known], value))
    elif known == "decade":
        value = exp.Paren(this=exp.Add(this=value, expression=exp.Literal.number(1)))
    if whole:
        return exp.cast(exp.Anonymous(this="floor", expressions=[value]), exp.DType.BIGINT)
    return exp.cast(value, exp.DType.DOUBLE)


def _raw(part: str, moment: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="pg_catalog.date_part", expressions=[exp.Literal.string(part), moment.copy()])


def _filled(pattern: str, moment: exp.Expr) -> exp.Expr:
    """Fill in an expression in which `{0}` is the moment, and names such as `{year}` are its parts."""
    tree = exp.Paren(this=_parsed(pattern).copy())
    for column in list(tree.find_all(exp.Column)):
        name = column.name.removeprefix("__")
        if name == "epoch":
            # For a time with a zone, PostgreSQL's result can differ for equal moments.
            column.replace(exp.Anonymous(this=f"{HELPERS}.epoch", expressions=[moment.copy()]))
        else:
            column.replace(moment.copy() if name == "0" else _raw(name, moment))
    return tree


@functools.cache
def _parsed(pattern: str) -> exp.Expr:
    names = {name: f"__{name}" for name in ("year", "month", "quarter", "century", "millennium", "epoch")}
    return exp.maybe_parse(pattern.format("__0", **names), dialect="postgres")
