"""User-defined SQL functions: their SELECT is translated like any other. Python functions are not supported.

https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_FUNCTION.html
"""

import json
from collections.abc import Callable

from sqlglot import ParseError, exp, parse_one

from redshift_local.parse import datatypes, longnames
from redshift_local.parse.dialect import LocalRedshift, generate
from redshift_local.parse.words import Words
from redshift_local.plan import Plan, Refused, bare, block, literal, unsupported

_VOLATILITY = ("volatile", "stable", "immutable")
_CLAUSES = ("from_", "into", "where", "group", "order", "limit")


def function(words: Words, translate: Callable[[str], tuple[Plan, ...]]) -> Plan | None:
    """Translate CREATE FUNCTION and DROP FUNCTION; None for any other statement.

    Args:
        words: the statement.
        translate: translates a statement.
    """
    if words.take("drop", "function"):
        exists = "IF EXISTS " if words.take("if", "exists") else ""
        return Plan(f"DROP FUNCTION {exists}{'.'.join(words.dotted())}{_arguments(words)[0]} {words.rest()}")
    if not (words.take("create", "function") or words.take("create", "or", "replace", "function")):
        return None
    replace = "OR REPLACE " if words.tokens[1].text.lower() == "or" else ""
    spoken = [token.text.lower() for token in words.tokens]
    if "language" in spoken[:-1] and (language := spoken[spoken.index("language") + 1]) != "sql":
        raise unsupported(f"functions in {language}", "write it in SQL, or test it on a cluster")
    name = ".".join(words.dotted())
    arguments, names = _arguments(words)
    if not words.take("returns"):
        raise words.error()
    returns = _type(words, _VOLATILITY)
    volatility = words.source()
    if not words.take("as"):
        raise words.error()
    body = words.string()
    if not words.take("language", "sql"):
        raise words.error()
    plans = translate(body)
    if len(plans) == 1 and (plans[0].refused or plans[0].action):
        return plans[0]
    if len(plans) != 1 or not _allowed(plans[0].sql):
        text = "A SQL function is one SELECT without FROM, WHERE, GROUP BY, ORDER BY and LIMIT"
        raise Refused(text, "0A000", "https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_FUNCTION.html")
    # PostgreSQL requires exactly the declared type.
    value = literal(f"SELECT CAST(({plans[0].sql}) AS {returns})")
    create = f"CREATE {replace}FUNCTION {name}{arguments} RETURNS {returns} LANGUAGE sql {volatility} AS {value}"
    # A comment, because PostgreSQL allows names of arguments in the body.
    comment = f"COMMENT ON FUNCTION {name}{arguments} IS {literal(json.dumps(names))}"
    return Plan(block(create, comment), tag="CREATE FUNCTION")


def _arguments(words: Words) -> tuple[str, list[str]]:
    """The types of the arguments, in parentheses, and their names. The body uses $1, $2 and so on.

    Names: redshift_connector 2.1.15, test_metadataAPI_functions.py.
    """
    if not words.take("("):
        raise words.error()
    kinds, names = [], []
    while not words.take(")"):
        start, name = words.position, ""
        try:
            kinds.append(_type(words, (",", ")")))
        except Refused:
            words.position = start
            name = bare(words.name())
            if words.peek() in (",", ")"):
                raise
            kinds.append(_type(words, (",", ")")))
        names.append(longnames.restore(name))
        words.take(",")
    return f"({', '.join(kinds)})", names


def _type(words: Words, ends: tuple[str, ...]) -> str:
    """Step over a type, up to one of `ends` outside of parentheses."""
    first, depth = words.position, 0
    while words.left and (depth or words.peek() not in ends):
        depth += {"(": 1, ")": -1}.get(words.peek(), 0)
        words.position += 1
    if not words.left or first == words.position:
        raise words.error()
    text = words.text[words.tokens[first].start : words.tokens[words.position - 1].end + 1]
    try:
        kind = exp.DataType.build(text, dialect=LocalRedshift)
    except ParseError as problem:
        raise Refused(f'type "{text}" does not exist', "42704") from problem
    datatypes.adapt(kind)
    return generate(kind)


def _allowed(select: str) -> bool:
    """Whether the body of a function is allowed: one SELECT without tables."""
    tree = parse_one(select, dialect="postgres")
    return isinstance(tree, exp.Select) and not any(tree.args.get(clause) for clause in _CLAUSES)
