"""From a client's Redshift text to statements that PostgreSQL runs."""

import functools
import logging

from sqlglot import ParseError, TokenError, UnsupportedError, exp
from sqlglot.tokens import Token, TokenType

from local.warehouse import commands
from local.warehouse.dialect import LocalRedshift, generate
from local.warehouse.plan import Plan, Refused, raising, unsupported

# sqlglot warns where it gives up on a statement; we refuse those ourselves.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

_DIALECT = LocalRedshift()
_AS_THEY_ARE = (
    {"show", "reset", "declare", "fetch", "close", "lock", "deallocate", "prepare", "execute"}
    | {"begin", "start", "commit", "rollback", "abort", "end", "set"}
)  # fmt: skip
# Removed from CREATE: Redshift's ways of storing.
_STORAGE = (exp.DistKeyProperty, exp.DistStyleProperty, exp.SortKeyProperty, exp.BackupProperty)


@functools.lru_cache(maxsize=4096)
def translate(text: str) -> tuple[Plan, ...]:
    """Translate every statement of `text`. What is refused becomes a statement that fails, in its place."""
    try:
        tokens = _DIALECT.tokenize(text)
    except TokenError as problem:
        return (Plan(raising(Refused(f"syntax error: {problem}", "42601")), text=text),)
    plans, start = [], 0
    for index in range(len(tokens) + 1):
        if index == len(tokens) or tokens[index].token_type == TokenType.SEMICOLON:
            if part := tokens[start:index]:
                plans.append(_one(text, part))
            start = index + 1
    return tuple(plans)


def _one(text: str, tokens: list[Token]) -> Plan:
    own = text[tokens[0].start : tokens[-1].end + 1]
    try:
        plan = _plan(text, own, tokens)
    except Refused as refusal:
        plan = Plan(raising(refusal))
    return Plan(plan.sql, plan.tag, plan.job, own)


def _plan(text: str, own: str, tokens: list[Token]) -> Plan:
    words = commands.Words(text, tokens)
    if plan := commands.command(words):
        return plan
    if words.peek() in _AS_THEY_ARE:
        return Plan(own)
    try:
        [tree] = _DIALECT.parser().parse(tokens, text)
    except ParseError as problem:
        near = problem.errors[0].get("highlight") if problem.errors else ""
        raise Refused(
            f'syntax error at or near "{near}"', "42601", problem.errors[0].get("description", "")
        ) from problem
    if isinstance(tree, exp.Command):
        raise unsupported(f"the statement {words.peek().upper()}", "it is understood on a cluster only")
    tree = _transform(tree)
    try:
        return Plan(generate(tree))
    except UnsupportedError as problem:
        raise unsupported(str(problem), "write it in another way") from problem


def _transform(tree: exp.Expr) -> exp.Expr:
    if isinstance(tree, exp.Create):
        _storage(tree)
    for call in tree.find_all(exp.Anonymous):
        if str(call.this).lower() in ("dateadd", "datediff", "date_diff", "date_part", "date_add"):
            part = call.expressions[0]
            if isinstance(part, exp.Column) and not part.table:
                part.replace(exp.Literal.string(part.name.lower()))
    return tree


def _storage(tree: exp.Create) -> None:
    properties = tree.args.get("properties")
    for each in list(properties.expressions) if properties else []:
        if isinstance(each, _STORAGE) or "NO SCHEMA BINDING" in each.sql("redshift"):
            each.pop()
